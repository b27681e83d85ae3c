"""Two runs of one configuration and seed side by side: what was the same, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mmbench.component import Metric
from mmbench.errors import DataError
from mmbench.results.cells import Column
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import RunRecord, intact
from mmbench.results.tables import column

ALIKE = "bit-identical predictions"


@dataclass(frozen=True)
class Score:
    """One test score of both runs."""

    column: Column
    old: float
    new: float

    @property
    def equal(self) -> bool:
        """Whether they differ by less than half a unit of the last digit that a table prints; two that are not defined are equal."""
        unit = 1e-4 if self.column.percent else 1e-3
        return (math.isnan(self.old) and math.isnan(self.new)) or abs(self.old - self.new) < unit / 2

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """Name, both values and their difference, as a line of a table."""
        scale = 100 if self.column.percent else 1
        values = ["n/a" if math.isnan(value) else f"{scale * value:.6g}" for value in (self.old, self.new)]
        difference = scale * (self.new - self.old)
        return self.column.key, *values, "" if math.isnan(difference) else f"{difference:+.3g}" if difference else "0"  # type: ignore[return-value]


@dataclass(frozen=True)
class Comparison:
    """A run and its repetition. `facts`: what a reader of the scores must know, by name; `predictions`: how far apart these are."""

    old: RunRecord
    new: RunRecord
    facts: tuple[tuple[str, str], ...]
    scores: tuple[Score, ...]
    predictions: str

    @property
    def equal(self) -> bool:
        """Whether every test score is the same within rounding."""
        return all(score.equal for score in self.scores)


def compare_runs(old: RunRecord, new: RunRecord, metrics: Mapping[str, Metric]) -> Comparison:
    """Set a finished run beside its repetition; predictions that cannot be read are told of in their place."""
    before, after = old.metrics["test"], new.metrics["test"]
    keys = dict.fromkeys((*before, *after))
    scores = tuple(Score(column(key, metrics), before.get(key, math.nan), after.get(key, math.nan)) for key in keys)
    return Comparison(old, new, tuple(_facts(old, new)), scores, _predictions(old, new))


def _facts(old: RunRecord, new: RunRecord) -> Iterator[tuple[str, str]]:
    for name, before, after in (
        ("config", old.fingerprint, new.fingerprint),
        ("data", str(old.data.get("fingerprint", "")), str(new.data.get("fingerprint", ""))),
    ):
        yield name, f"the same fingerprint {after[:12]}" if before == after else f"fingerprint {before[:12]} before, {after[:12]} now"
    if old.numbers != new.numbers:
        yield "numbers", f"version {old.numbers} before, {new.numbers} now: the same config is meant to come to other numbers since"
    yield from (("versions", line) for line in _versions(old, new))


def _versions(old: RunRecord, new: RunRecord) -> Iterator[str]:
    before, after = _flat(old.environment), _flat(new.environment)
    if "sources" not in old.environment:  # of a version that kept none: nothing is known to differ
        after = {name: value for name, value in after.items() if not name.startswith("code of ")}
    found = [(name, before.get(name), after.get(name)) for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
    if not found:
        yield "all the same"
    for name, was, now in found:
        yield f"{name}: {'none' if was is None else was} before, {'none' if now is None else now} now"


def _flat(environment: Mapping[str, object]) -> dict[str, object]:
    """Each value by its own name, also those of ``packages``, ``components`` and ``sources``."""
    found: dict[str, object] = {}
    for name, value in environment.items():
        inner = value if isinstance(value, Mapping) else {name: value}
        found.update({f"code of {module}": digest for module, digest in inner.items()} if name == "sources" else inner)
    return found


def _predictions(old: RunRecord, new: RunRecord) -> str:
    try:
        before, after = (read_predictions(intact(record, NAME)) for record in (old, new))
    except DataError as error:
        return f"predictions not compared: {error}"
    if before.keys() != after.keys() or any(before[split][0] != after[split][0] for split in before):
        return "predictions of other samples"
    if all(before[split][2].tobytes() == after[split][2].tobytes() for split in before):
        return ALIKE
    largest = max(float(np.abs(after[split][2].astype(np.float64) - before[split][2]).max(initial=0)) for split in before)
    return f"predictions differ by up to {largest:.3g}"
