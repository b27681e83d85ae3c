"""A results table as the page shows it: best first, with what sorting needs beside each number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mmbench.results.cells import ordered, primary
from mmbench.results.formats import STYLES, Style, explanations
from mmbench.results.tables import Cell, Column, Table
from mmbench.results.text import clean, count, duration, memory

STYLE: Style = replace(
    STYLES["plain"],
    best=lambda text: (text, ""),
    second=lambda text: (text, ""),
    legend="bold: best, underlined: second best",
)
"""Names, marks and explanations in words; bold and underlined are the template's."""


@dataclass(frozen=True)
class Value:
    """A cell: its text, deviation and mark; `sort` is what its column is sorted by, nothing where there is no number."""

    text: str
    sort: str = ""
    sd: str = ""
    mark: str = ""
    place: str = ""
    """``best`` or ``second``."""


@dataclass(frozen=True)
class Line:
    """A row: its kind and its cells, the first being the configuration's name as it is marked."""

    kind: str
    cells: tuple[Value, ...]


@dataclass(frozen=True)
class Head:
    """A column's header. `first`: the order of its first sorting, the better values on top."""

    text: str
    first: str


@dataclass(frozen=True)
class Leaderboard:
    """A table of the page. `legend` explains its marks, `notes` what is not in a row."""

    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    legend: tuple[str, ...]
    notes: tuple[str, ...]
    sorted_by: int
    """The column that it comes sorted by."""


def leaderboard(table: Table) -> Leaderboard:
    """The table as the page shows it."""
    first = primary(table)
    heads = [Head("configuration", "ascending"), Head("seeds", "descending")]
    for column in table.columns:
        better = column.higher_is_better
        heads.append(Head(STYLE.header(column), "ascending" if better is False else "descending"))
    heads += [Head("parameters", "ascending"), Head("time/run", "ascending"), Head("memory", "ascending")]
    lines = []
    for row in ordered(table, first):
        name = Value(STYLE.name(row), clean(row.name))
        seeds = Value(f"{row.done}/{row.total}", str(row.done)) if row.kind in ("method", "floor") else Value(clean(row.seeds_told))
        scores = [value(column, row.cells[column.key], row.kind == "published") for column in table.columns]
        costs = (count(row.parameters), row.parameters), (duration(row.seconds), row.seconds), (memory(row.memory), row.memory)
        lines.append(Line(row.kind, (name, seeds, *scores, *(Value(text, sortable(number)) for text, number in costs))))
    legend = explanations([table], STYLE, ())
    position = 2 + table.columns.index(first) if first else 0
    return Leaderboard(tuple(heads), tuple(lines), tuple(legend), tuple(clean(note) for note in table.notes), position)


def value(column: Column, cell: Cell, published: bool) -> Value:
    """One score; a published one has the gap to what was measured behind it."""
    if math.isnan(cell.mean):
        return Value("" if published else "n/a")
    gap = "" if math.isnan(cell.gap) else f" ({column.signed(cell.gap)})"
    return Value(
        column.text(cell.mean),
        sortable(cell.mean),
        "" if math.isnan(cell.sd) else column.text(cell.sd),
        gap + STYLE.beaten * cell.beaten,
        "best" if cell.best else "second" if cell.second else "",
    )


def sortable(number: float | None) -> str:
    """A number as it is sorted by; nothing for none."""
    return "" if number is None or math.isnan(number) else f"{number:.9g}"
