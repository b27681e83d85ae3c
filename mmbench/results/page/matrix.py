"""Every pair of configurations in every metric: difference, interval and p, and in one sentence who is best and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmbench.component import Metric
from mmbench.results.page.charts import MINUS
from mmbench.results.page.leaderboard import ordered, primary, sortable
from mmbench.results.tables import Column, Table
from mmbench.results.text import clean

if TYPE_CHECKING:
    from mmbench.results.comparison import Comparison

MOST = 12
"""Configurations that are compared, the best by the table's first score: 66 pairs in each metric."""
COLUMNS = 12
"""Metrics that have a matrix."""
PROBLEMS = 10


@dataclass(frozen=True)
class Pair:
    """How the first configuration differs from the second.

    `verdict`: ``better``, ``worse``, or ``open`` where they are not told apart. `lean`: the same for the interval alone, which is not corrected.
    """

    first: str
    second: str
    difference: str
    interval: str
    p: str
    p_holm: str
    verdict: str
    lean: str
    sort: tuple[str, str, str, str] = ("", "", "", "")
    """Difference, the interval's lower end, p and Holm's p as numbers."""

    @property
    def sign(self) -> str:
        """The verdict without colour."""
        known = {"better": "▲ better", "worse": "▼ worse"}
        return known.get(self.verdict) or {"better": "△ open", "worse": "▽ open"}.get(self.lean, "≈ open")


@dataclass(frozen=True)
class Matrix:
    """All pairs in one metric. `cells` by row and column, None on the diagonal and where a pair has no comparison."""

    key: str
    title: str
    names: tuple[str, ...]
    cells: tuple[tuple[Pair | None, ...], ...]
    pairs: tuple[Pair, ...]
    seeds: int
    videos: int
    level: float

    @property
    def told_apart(self) -> int:
        """Pairs whose difference is significant."""
        return sum(pair.verdict != "open" for pair in self.pairs)


@dataclass(frozen=True)
class Verdict:
    """Who is best in a table's first score, and from whom that can be told apart."""

    metric: str
    name: str
    score: str
    beaten: bool = False
    """Not better than the best floor."""
    runner_up: str = ""
    pair: Pair | None = None
    apart: tuple[str, ...] = ()
    """Configurations that are significantly worse than the best."""
    open: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contests:
    """The comparisons of one table. `problems`: what could not be compared, and what was left out."""

    matrices: tuple[Matrix, ...]
    problems: tuple[str, ...]
    verdict: Verdict | None
    draws: int
    of_the_best: tuple[Comparison, ...] = ()
    """The best minus each other, in the table's first score."""


def contests(table: Table, known: Mapping[str, Metric], draws: int) -> Contests:
    """Compare the methods of a table that have every seed done, pair by pair, in each of its metrics."""
    first = primary(table)
    methods = [row for row in ordered(table, first) if row.competes]
    rows, problems = methods[:MOST], []
    if len(methods) > MOST:
        problems.append(
            f"{len(methods) - MOST} of {len(methods)} configurations are left out here: the {MOST} best by {first and first.key} are compared"
        )
    columns = [column for column in table.columns if column.higher_is_better is not None]
    if len(columns) > COLUMNS:
        problems.append(f"compared in {COLUMNS} of {len(columns)} scores; left out: {', '.join(clean(c.key) for c in columns[COLUMNS:])}")
    matrices: list[Matrix] = []
    of_the_best: list[Comparison] = []
    if len(rows) > 1:
        from mmbench.results.comparison import Contest

        contest = Contest({row.name: row.finished for row in rows}, known, draws)
        usable = [row.name for row in rows if row.name not in contest.problems]
        problems += [f"{clean(name)}: not compared: {clean(why)}" for name, why in contest.problems.items()]
        for column in columns[:COLUMNS] if len(usable) > 1 else ():
            found = [comparison for comparison in contest.pairs(column.key) if {comparison.first, comparison.second} <= {*usable}]
            problems += dict.fromkeys(f"{clean(column.key)}: {clean(c.first)}, {clean(c.second)}: {clean(c.reason)}" for c in found if c.reason)
            matrices.append(matrix(column, usable, found))
            of_the_best += [c for c in found if column == first and c.first == usable[0]]
    verdict = best_of(table, first, next((m for m in matrices if first and m.key == first.key), None)) if first else None
    return Contests(tuple(matrices), tuple(several(problems)), verdict, draws, tuple(of_the_best))


def matrix(column: Column, names: Sequence[str], found: Sequence[Comparison]) -> Matrix:
    """The comparisons of one metric as rows against columns, in the order of `names`."""
    by_names: dict[tuple[str, str], Pair] = {}
    for comparison in found:
        by_names[comparison.first, comparison.second] = pair(column, comparison)
        by_names[comparison.second, comparison.first] = pair(column, comparison, turned=True)
    cells = tuple(tuple(by_names.get((row, other)) for other in names) for row in names)
    pairs = tuple(by_names[comparison.first, comparison.second] for comparison in found)
    arrow = "higher is better" if column.higher_is_better else "lower is better"
    seeds = max((len(comparison.seeds) for comparison in found), default=0)
    return Matrix(clean(column.key), f"{clean(column.key)} ({arrow})", tuple(map(clean, names)), cells, pairs, seeds, found[0].videos, found[0].level)


def several(problems: Sequence[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - PROBLEMS
    return [*problems[:PROBLEMS], *([f"{more} more notes of this kind are left out"] if more > 0 else [])]


def pair(column: Column, comparison: Comparison, turned: bool = False) -> Pair:
    """One comparison, or the same from the other side."""
    names = comparison.first, comparison.second
    numbers = comparison.difference, comparison.low, comparison.high
    if turned:
        names, numbers = names[::-1], (-numbers[0], -numbers[2], -numbers[1])
    difference, low, high = numbers
    way = "better" if (difference > 0) == bool(column.higher_is_better) else "worse"
    verdict, lean = way if comparison.significant else "open", way if comparison.excludes_zero else ""
    interval = "no interval" if math.isnan(low) else f"[{signed(column, low)}, {signed(column, high)}]"
    sort = tuple(map(sortable, (difference, low, comparison.p, comparison.p_holm)))
    shown = signed(column, difference), interval, probability(comparison.p), probability(comparison.p_holm)
    return Pair(clean(names[0]), clean(names[1]), *shown, verdict, lean, sort)  # type: ignore[arg-type]


def signed(column: Column, difference: float) -> str:
    """A difference with its sign; a real minus."""
    text = column.text(abs(difference))
    zero = not any(digit in text for digit in "123456789")
    return text if zero or math.isnan(difference) else (MINUS if difference < 0 else "+") + text


def probability(p: float) -> str:
    """A p-value with three decimals, ``< 0.001`` below."""
    return "n/a" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def best_of(table: Table, column: Column, found: Matrix | None) -> Verdict | None:
    """Who is best by `column` among the methods with every seed done."""
    ranked = [row for row in ordered(table, column) if row.competes and not math.isnan(row.cells[column.key].mean)]
    if not ranked:
        return None
    cell = ranked[0].cells[column.key]
    score = column.text(cell.mean) + ("" if math.isnan(cell.sd) else f" ± {column.text(cell.sd)}")
    name, others = clean(ranked[0].name), [clean(row.name) for row in ranked[1:]]
    pairs = {own.second: own for line in (found.cells if found else ()) for own in line if own and own.first == name}
    return Verdict(
        metric=clean(column.key),
        name=name,
        score=score,
        beaten=cell.beaten,
        runner_up=others[0] if others else "",
        pair=pairs.get(others[0]) if others else None,
        apart=tuple(other for other in others if other in pairs and pairs[other].verdict == "better"),
        open=tuple(other for other in others if other in pairs and pairs[other].verdict != "better"),
        untested=tuple(other for other in others if other not in pairs),
    )
