"""What a table consists of: cells, columns, rows. `mmbench.results.tables` makes them, `mmbench.results.formats` writes them down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmbench.results.runs import RunRecord
from mmbench.results.titles import heading

ORACLE = "best constant on test (oracle)"
TOLERANCE = 1e-9
"""Means of equal scores differ in their last bits; less than this is no difference."""


@dataclass(frozen=True)
class Cell:
    """The test scores of a configuration in one metric: mean, sample standard deviation (ddof 1; NaN for one seed) and number of seeds."""

    mean: float
    sd: float
    n: int
    best: bool = False
    second: bool = False
    beaten: bool = False
    """Not better than the best floor or the best constant."""
    gap: float = math.nan
    """Of a published score: what was measured here minus it."""


@dataclass(frozen=True)
class Column:
    """One score: its entry in a result and how it is shown."""

    key: str
    higher_is_better: bool | None
    """None for a metric that is not known here; nothing in its column is marked."""
    percent: bool
    per_class: bool = False

    def text(self, value: float) -> str:
        """``n/a``, a fraction times 100 with two decimals, or the number with three."""
        if math.isnan(value):
            return "n/a"
        return f"{100 * value:.2f}" if self.percent else f"{value:.3f}"

    def signed(self, value: float) -> str:
        """A difference, with its sign."""
        text = self.text(value)
        return text if text.startswith("-") or text == "n/a" else f"+{text}"

    def better(self, first: float, second: float) -> bool:
        """Whether the first score is better than the second by more than rounding."""
        return (first - second if self.higher_is_better else second - first) > TOLERANCE


@dataclass(frozen=True)
class Row:
    """One configuration, a floor, the oracle, or what a source printed."""

    name: str
    kind: str
    """``method``, ``floor``, ``oracle`` or ``published``."""
    cells: Mapping[str, Cell]
    done: int = 0
    total: int = 0
    collapsed: int = 0
    adapted: bool = False
    parameters: int | None = None
    seconds: float = float("nan")
    experiment: str = ""
    label: str = ""
    seeds: tuple[int, ...] = ()
    runs: int = 0
    """Finished runs that it rests on: more than `done` where seeds are means over parts."""
    memory: float = math.nan
    """Peak memory in megabytes, mean over its finished runs."""
    model: str = ""
    seeds_told: str = ""
    """Of a published row: over how many seeds, if its source says so."""
    records: tuple[RunRecord, ...] = field(default=(), repr=False, compare=False)
    """All of its runs."""
    finished: Mapping[int, tuple[RunRecord, ...]] = field(default_factory=dict, repr=False, compare=False)
    """By seed its finished run, or where parts are averaged those of all parts."""

    @property
    def competes(self) -> bool:
        """Whether its cells can be best or second."""
        return self.kind == "method" and 0 < self.done == self.total


@dataclass(frozen=True)
class Table:
    """Every configuration that was run on the same data. `notes` say what is not in a row: failures, what is running, refused combinations."""

    title: str
    simulated: bool
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def averaged(self) -> bool:
        """Whether the score of a seed is its mean over the parts of a protocol."""
        return bool(self.data.get("parts")) and not self.data.get("part")

    @property
    def short(self) -> str:
        """Data set, whether simulated, protocol and part."""
        return "; ".join(part for part in heading(self.data)) if self.data else self.title


def primary(table: Table) -> Column | None:
    """The score that a table is ordered by: its first that has a direction."""
    return next((column for column in table.columns if column.higher_is_better is not None), None)


def ordered(table: Table, column: Column | None) -> list[Row]:
    """Its rows, methods first, by that score with the best on top; what has no score comes last."""

    def key(row: Row) -> tuple[int, bool, float, str]:
        mean = row.cells[column.key].mean if column and column.key in row.cells else math.nan
        missing = math.isnan(mean)
        kinds = ("method", "published", "floor", "oracle")
        rank = kinds.index(row.kind) if row.kind in kinds else 1
        return rank, missing, 0.0 if missing else -mean if column and column.higher_is_better else mean, row.name

    return sorted(table.rows, key=key)
