"""Which cells of a table are best, second, or not better than a floor, and whether the costs of its rows can be compared.

Best is the row of the best mean, and every other row that competes whose difference to it may be zero: the 95 % interval over seeds and
test videos (`mmbench.results.comparison`) does not exclude it, or the two means print alike. Second likewise among the others. The intervals are
not corrected for their number, since what they decide here is who shares a mark, and a correction would only let more rows share it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmbench.component import Metric
from mmbench.errors import MmbenchError
from mmbench.sources import recorded_sources

FEW = 200
"""Draws for a score that is evaluated anew on each of them (those of plugins): thousands would take minutes for what is a mark."""

if TYPE_CHECKING:
    from mmbench.results.comparison import Contest
    from mmbench.results.tables import Cell, Column, Row, Table


def ranked(table: Table, metrics: Mapping[str, Metric], draws: int, others: Sequence[Row] = ()) -> Table:
    """The same table with best and second marked; a note says why a row, or a whole column, has no such mark.

    `others`: rows that the table has no room for. They compete, too: one of them may be the best, and those that cannot be told from it are best.
    """
    fields = [row for row in table.rows if row.competes]
    others = [row for row in others if row.competes]
    if len(fields) + len(others) < 2:
        return table
    from mmbench.results.comparison import Contest

    runs = {row.name: row.finished for row in fields}
    contest = Contest(runs, metrics, draws)
    slow = [c.key for c in table.columns if c.higher_is_better is not None and computed_anew(c.key, table, metrics)]
    few = Contest(runs, metrics, min(draws, FEW)) if slow and draws > FEW else contest
    usual = Counter(row.seeds for row in (*fields, *others)).most_common(1)[0][0]
    problems = {row.name: "it rests on other seeds" for row in fields if row.seeds != usual} | dict(contest.problems)
    fields = [row for row in fields if row.name not in problems]
    others = [row for row in others if row.seeds == usual]
    places: dict[str, tuple[set[str], set[str]]] = {}
    untold: dict[tuple[str, str], list[str]] = defaultdict(list)
    for column in table.columns if len(fields) + len(others) > 1 else ():
        key = column.key
        if column.higher_is_better is None:
            continue
        drawn = few if key in slow else contest
        found = []
        for row in fields:
            if math.isnan(row.cells[key].mean):
                continue
            reason = unscored(drawn, row.name, key)
            if reason:
                untold[row.name, reason].append(key)
            else:
                found.append(row)
        if len(found) < 2:
            continue
        reason = drawn.compare(found[0].name, found[1].name, key).reason
        if reason:
            untold["", reason].append(key)
            continue
        if others:
            places[key] = placed_among(column, found, others, drawn)
            continue
        best = tied(column, found, drawn)
        places[key] = best, tied(column, [row for row in found if row.name not in best], drawn)
    notes = [f"{name}: is not ranked: {reason}" for name, reason in problems.items()]
    notes += [f"{f'{name}: is' if name else 'rows are'} not ranked by {', '.join(keys)}: {reason}" for (name, reason), keys in untold.items()]
    if places and len(usual) == 1:
        notes.append("one seed says nothing of other seeds: the intervals behind best and second are over test videos alone")
    told = [key for key in slow if key in places and few is not contest]
    notes += [f"{', '.join(told)}: the intervals behind best and second are from {FEW} draws"] if told else []
    rows = tuple(replace(row, cells={key: placed(cell, row.name, places.get(key)) for key, cell in row.cells.items()}) for row in table.rows)
    return replace(table, rows=rows, notes=(*table.notes, *notes))


def computed_anew(key: str, table: Table, metrics: Mapping[str, Metric]) -> bool:
    """Whether a score is evaluated on each draw, instead of from sums over videos."""
    from mmbench.results.statistics import additive_of, scorer

    return additive_of(scorer(key, tuple(table.data.get("classes", ())), metrics)) is None


def unscored(contest: Contest, name: str, key: str) -> str:
    """Why a row has no score on the test set, or on a draw of it; nothing where it has all."""
    try:
        return "" if np.isfinite(contest.scores(name, key)).all() else "a draw of test videos has no score"
    except (MmbenchError, ValueError) as error:
        return str(error)


def placed(cell: Cell, name: str, places: tuple[set[str], set[str]] | None) -> Cell:
    """The cell with its place."""
    return replace(cell, best=name in places[0], second=name in places[1]) if places else cell


def tied(column: Column, rows: Sequence[Row], contest: Contest) -> set[str]:
    """The names of the row of the best mean and of those that cannot be told from it."""
    if not rows:
        return set()
    key = column.key
    first = (max if column.higher_is_better else min)(rows, key=lambda row: row.cells[key].mean)
    text = column.text(first.cells[key].mean)
    return {
        row.name
        for row in rows
        if row is first or column.text(row.cells[key].mean) == text or not contest.compare(first.name, row.name, key).excludes_zero
    }


def placed_among(column: Column, rows: Sequence[Row], others: Sequence[Row], contest: Contest) -> tuple[set[str], set[str]]:
    """The names of the best and of the second best among `rows`, where `others` compete with them.

    Of the others those alone are read that decide who is first: in the order of their means, until one can be told from the best.
    """
    key, shown = column.key, {row.name for row in rows}
    order = sorted((row for row in (*rows, *others) if not math.isnan(row.cells[key].mean)), key=lambda row: row.cells[key].mean)
    found: list[set[str]] = []
    first: Row | None = None
    for row in reversed(order) if column.higher_is_better else order:
        contest.add(row.name, row.finished)
        if row.name in contest.problems or unscored(contest, row.name, key):
            continue
        if first is not None and row.name in tied(column, [first, row], contest):
            continue
        first = row
        left = [each for each in rows if not any(each.name in place for place in found)]
        found.append(tied(column, left if row.name in shown else [row, *left], contest))
        if len(found) == 2:
            break
    best, second = found + [set()] * (2 - len(found))
    return best & shown, second & shown


def floors_marked(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """The same rows with every mean marked that is not better than the best floor, the oracle included."""
    marked: list[dict[str, Cell]] = [dict(row.cells) for row in rows]
    for column in columns:
        if column.higher_is_better is None or column.per_class:
            continue
        key = column.key
        floors = [row.cells[key].mean for row in rows if row.kind in ("floor", "oracle") and not math.isnan(row.cells[key].mean)]
        if not floors:
            continue
        floor = (max if column.higher_is_better else min)(floors)
        for cells, row in zip(marked, rows, strict=True):
            mean = row.cells[key].mean
            if row.kind == "method" and not math.isnan(mean) and not column.better(mean, floor):
                cells[key] = replace(cells[key], beaten=True)
    return [replace(row, cells=cells) for row, cells in zip(rows, marked, strict=True)]


def environments(rows: Sequence[Row]) -> list[str]:
    """Notes where the runs of a table were made on different devices, or with different versions of the code."""
    devices: dict[str, dict[str, None]] = defaultdict(dict)
    versions: dict[str, dict[str, None]] = defaultdict(dict)
    numbers: dict[str, dict[str, None]] = defaultdict(dict)
    plugins: dict[str, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        for record in (record for runs in row.finished.values() for record in runs):
            environment = record.environment
            numbers[f"numbers {record.numbers}"][row.name] = None
            for package, source in recorded_sources(environment).items():
                plugins[package][source][row.name] = None
            packages = environment.get("packages")
            release = packages.get("mmbench") if isinstance(packages, dict) else None
            device, version = environment.get("device_name"), str(environment.get("git") or release or "")
            dirty = "-dirty" * version.endswith("-dirty")
            for found, name in ((devices, str(device or "")), (versions, version[:10] + dirty if len(version) > 20 else version)):
                if name:
                    found[name][row.name] = None
    notes = []
    if len(devices) > 1:
        notes.append(f"times and memory are not comparable between devices: {told(devices)}")
    if len(numbers) > 1:
        notes.append(f"the same config came to other numbers when some runs were made; --rerun all makes those anew: {told(numbers)}")
    if len(versions) > 1:
        notes.append(f"runs were made by different versions of the code, so that times and scores may differ for that alone: {told(versions)}")
    for package, sources in plugins.items():
        if len(sources) > 1:
            notes.append(f"the code of {package} was changed between runs; --rerun all makes them anew: {told(sources)}")
    return notes


def told(groups: Mapping[str, Mapping[str, None]]) -> str:
    """What was used, and by which rows."""
    return "; ".join(f"{name} ({few(list(rows))})" for name, rows in groups.items())


def few(names: Sequence[str], most: int = 6) -> str:
    """Names in a row, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
