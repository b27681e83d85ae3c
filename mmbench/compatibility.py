"""Which losses fit a model, as their declarations say: adapters that must be added, and combinations without meaning. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmbench.component import FIELDS, Component, Task

SPLIT = ("common", "unique")


@dataclass(frozen=True)
class Fit:
    """`adapters`: fields of the representation that adapters make from `encoded`. `refusals`: why it cannot be run, one sentence each."""

    adapters: tuple[str, ...]
    refusals: tuple[str, ...]


def fit(
    model: Component,
    provides: frozenset[str],
    losses: Iterable[tuple[Component, frozenset[str]]],
    modalities: tuple[str, ...],
    task: Task,
    adapters: str,
) -> Fit:
    """Match the fields that losses need (each given with its loss) with those that a model `provides`."""
    refusals = _refusals(model, modalities, task)
    missing: set[str] = set()
    for loss, needs in losses:
        refusals += _refusals(loss, modalities, task)
        causes: dict[str, list[str]] = {}
        for need in sorted(needs - provides):
            if need.startswith("extra."):
                causes.setdefault(": it is a loss of another model", []).append(need)
            elif need not in FIELDS:
                causes.setdefault(f": there is no such field; its record can name {', '.join(FIELDS)}, extra.KEY", []).append(need)
            elif need == "encoded" or "encoded" not in provides:
                causes.setdefault(": the model has no features of single modalities, so no adapter can make it", []).append(need)
            elif adapters == "forbid":
                causes.setdefault(", and adapters are forbidden (adapters: forbid)", []).append(need)
            else:
                missing.add(need)
        for cause, lacking in causes.items():
            what = " and ".join(map(repr, lacking))
            refusals.append(f"loss {loss.name!r} needs {what}, which model {model.name!r} does not provide{cause}")
    return Fit(tuple(field for field in FIELDS if field in missing), tuple(refusals))


def _refusals(component: Component, modalities: tuple[str, ...], task: Task) -> list[str]:
    found = []
    if task not in component.tasks:
        found.append(f"{component.kind} {component.name!r} is for {' and '.join(component.tasks)}; the data set's task is {task}")
    if len(modalities) < component.min_modalities:
        found.append(
            f"{component.kind} {component.name!r} needs at least {component.min_modalities} modalities; the data have {len(modalities)}: "
            + ", ".join(modalities)
        )
    return found
