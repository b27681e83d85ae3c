"""The figures of a table as SVG inside the page: few enough to stay light, and a reason for each that is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from mmbench.errors import ConfigError, MmbenchError
from mmbench.results.tables import Column, Row
from mmbench.results.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES, CLASSES = 10, 8
"""Configurations in the learning curves, and in the figures of classes: the best by the table's first score."""
SWEEP, HEATMAP = 64, "Sweep"
"""Configurations that may be a grid of two axes."""
LARGEST = 1_000_000
"""Characters of one figure."""


CURVES_ABOUT = "A thin line for each seed, the mean bold; a dot marks the epoch chosen on validation."


@dataclass(frozen=True)
class Drawing:
    """A figure of the page."""

    title: str
    caption: str
    svg: Markup


def drawings(rows: Sequence[Row], column: Column, prefix: str) -> tuple[list[Drawing], list[str]]:
    """The figures of a table, whose methods are `rows` with the best first; and why others are not there. `prefix`: of the ids in the SVG."""
    from mmbench.results import figures

    runs = {row.name: [run for seed in row.finished.values() for run in seed] for row in rows}
    runs = {name: found for name, found in runs.items() if found}
    if not runs:
        return [], []
    few = dict(list(runs.items())[:CLASSES])
    curves = [run for found in list(runs.values())[:CURVES] for run in found]
    every = [run for found in runs.values() for run in found]
    key = clean(column.key)
    wanted: list[tuple[str, str, int, Callable[[], Figure]]] = [
        (
            "Learning curves",
            CURVES_ABOUT,
            CURVES,
            lambda: figures.curves(curves),
        ),
        ("Confusion", "Test predictions of all seeds.", CLASSES, lambda: figures.confusion(few)),
        ("By class", "Test scores class by class.", CLASSES, lambda: figures.per_class(few)),
    ]
    if 4 <= len(runs) <= SWEEP:
        wanted.append((HEATMAP, f"Mean test {key} over seeds on the grid of the sweep.", 0, lambda: figures.heatmap(every, column.key)))
    found, problems = [], []
    for index, (title, caption, most, draw) in enumerate(wanted):
        try:
            drawn = Markup(figures.svg(draw(), prefix=f"{prefix}-{index}"))
        except (MmbenchError, ValueError, LookupError) as error:
            if title == HEATMAP and isinstance(error, ConfigError):
                continue  # the configurations are no sweep of two axes
            problems.append(f"{title}: not drawn: {clean(str(error))[:300]}")
            continue
        if len(drawn) > LARGEST:
            problems.append(f"{title}: not shown, since it would make the page too large")
            continue
        left_out = f" The {most} best of {len(runs)} configurations by {key}." if most and len(runs) > most else ""
        found.append(Drawing(title, caption + left_out, drawn))
    return found, problems
