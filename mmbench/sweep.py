"""A config with ``sweep:`` is several experiments: one cell for each combination of its axes. Imports no torch.

An axis is a list of values for a key (or for several keys that share them), or named variants that set several keys each. A variant that is
null is left out, so that a file or an option can take one away.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

from mmbench.compose import assign
from mmbench.errors import ConfigError
from mmbench.strict_yaml import Document, Mark

Setting = tuple[str, Any]
MOST_CELLS = 10_000


@dataclass(frozen=True)
class Point:
    """One position on an axis: its name, and the keys it sets."""

    name: str
    settings: tuple[Setting, ...]


def expand(document: Document) -> list[tuple[str, Document]]:
    """The cells of a config by name, in the order of the file; a config without ``sweep`` is one cell without a name."""
    axes = document.value.pop("sweep", None)
    if axes is None:
        return [("", document)]
    if not isinstance(axes, dict) or not axes:
        raise ConfigError(f"{document.mark(('sweep',))}: sweep: must be a mapping of axes")
    points = [_axis(document, name, axis) for name, axis in axes.items()]
    cells = []
    for combination in itertools.islice(itertools.product(*points), MOST_CELLS + 1):
        name = ", ".join(point.name for point in combination)
        cell = Document(copy.deepcopy(document.value), dict(document.marks))
        for point in combination:
            for key, value in point.settings:
                assign(cell, key, value, Mark(f"sweep cell {name!r}: {key}"))
        cells.append((name, cell))
    if len(cells) > MOST_CELLS:
        raise ConfigError(f"{document.mark(('sweep',))}: sweep: has more than {MOST_CELLS} cells")
    return cells


def _axis(document: Document, name: str, axis: Any) -> list[Point]:
    place = document.mark(("sweep", name))
    if isinstance(axis, dict) and "values" in axis:
        keys = axis.get("keys", [axis.get("key")])
        unknown = set(axis) - {"key", "keys", "values"}
        if unknown or not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or ("key" in axis) == ("keys" in axis):
            raise ConfigError(f"{place}: sweep.{name}: an axis of values has 'values' and either 'key' or 'keys'")
        if not isinstance(axis["values"], list) or not axis["values"]:
            raise ConfigError(f"{place}: sweep.{name}.values: must be a list of values")
        return [Point(f"{name}={shown(value)}", tuple((key, value) for key in keys)) for value in axis["values"]]
    axis = {variant: settings for variant, settings in axis.items() if settings is not None} if isinstance(axis, dict) else axis  # null removes
    if not isinstance(axis, dict) or not axis or not all(isinstance(settings, dict) for settings in axis.values()):
        raise ConfigError(f"{place}: sweep.{name}: must be named variants, each a mapping of keys to values, or have 'key' and 'values'")
    return [Point(variant, tuple(settings.items())) for variant, settings in axis.items()]


def shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
