"""The tables of several data sets as one: a row for each model, a group of columns for each data set as it was used, as papers print them.

Marks are those of the data sets' own tables; a cell that was not run is empty. CSV and JSON stay one entry for each row and score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmbench.results.formats import Sheet, Style, breaks, explanations, style_of
from mmbench.results.formats import render as render_tables
from mmbench.results.parts import joined
from mmbench.results.tables import Column, Row, Table


@dataclass(frozen=True)
class Pivot:
    """Data sets side by side. `rows`: each with its row in the tables that have it, by the table's position."""

    tables: tuple[Table, ...]
    titles: tuple[str, ...]
    rows: tuple[Mapping[int, Row], ...]
    notes: tuple[str, ...]


def pivot_of(tables: Sequence[Table]) -> Pivot:
    """Tables side by side; rows of equal name and kind are one, and those that other tables have not stand behind their predecessor."""
    shown = [table for table in tables if table.rows]
    order: list[tuple[str, str]] = []
    found: dict[tuple[str, str], dict[int, Row]] = {}
    for index, table in enumerate(shown):
        place = 0
        for row in table.rows:
            key = row.kind, row.name
            if key not in found:
                found[key] = {}
                order.insert(place, key)
            found[key][index] = row
            place = order.index(key) + 1
    order.sort(key=lambda key: {"floor": 1, "oracle": 2}.get(key[0], 0))
    titles = titles_of(shown)
    pairs = [(name, table.title) for name, table in zip(titles, shown, strict=True) if name != table.title]
    notes = [title if title.startswith(name) else f"{name}: {title}" for name, title in pairs]
    notes += joined({name: table.notes for name, table in zip(titles, shown, strict=True)}) if len(shown) > 1 else [n for t in shown for n in t.notes]
    notes += [note for table in tables if not table.rows for note in table.notes]
    return Pivot(tuple(shown), titles, tuple(found[key] for key in order), tuple(notes))


def titles_of(tables: Sequence[Table]) -> tuple[str, ...]:
    """A short title for each table: data set, simulated, protocol and part; with modalities, or all of the title, where that is another one's too."""
    titles = [table.short for table in tables]
    for more in (lambda table: f"{table.short}; {', '.join(table.data.get('modalities', ()))}", lambda table: table.title):
        repeated = Counter(titles)
        titles = [more(table) if repeated[title] > 1 else title for title, table in zip(titles, tables, strict=True)]
    return tuple(titles)


def render(tables: Sequence[Table], format: str = "plain") -> str:
    """The tables as one, in any of the formats of `mmbench.results.formats`."""
    if format in ("csv", "json"):
        return render_tables(tables, format)
    style = style_of(format)
    return style.layout(sheet(pivot_of(tables), style), style)


def sheet(pivot: Pivot, style: Style) -> Sheet:
    """Names, then the scores of each data set under its title."""
    every = [(index, column) for index, table in enumerate(pivot.tables) for column in table.columns]
    rows = []
    for found in pivot.rows:
        first = next(iter(found.values()))
        name = style.escape(first.name) + " (floor)" * (first.kind == "floor")
        rows.append(((name, ""), *(cell(found.get(index), column, style) for index, column in every)))
    groups = tuple((name, len(table.columns)) for name, table in zip(pivot.titles, pivot.tables, strict=True))
    names = dict.fromkeys("SIMULATED " * table.simulated + str(table.data.get("title") or table.data.get("name", "")) for table in pivot.tables)
    kinds = [next(iter(found.values())) for found in pivot.rows]
    return Sheet(
        title=style.escape(", ".join(names) or "no finished runs"),
        headers=(style.escape("model"), *(style.header(column) for _, column in every)) if rows else (),
        rows=tuple(rows),
        notes=tuple(legend(pivot, style)),
        breaks=breaks(kinds),
        groups=groups,
    )


def cell(row: Row | None, column: Column, style: Style) -> tuple[str, str]:
    """A number with the marks of its row, and the seeds where some are not done; nothing where it was not run."""
    if row is None:
        return "", ""
    text, mark = style.cell(column, row.cells[column.key], row.kind == "published")
    missing = f" ({row.done}/{row.total})" if row.kind in ("method", "floor") and row.done < row.total else ""
    return text, mark + style.state(row) + missing


def legend(pivot: Pivot, style: Style) -> list[str]:
    """What numbers and marks mean, how many seeds there are, and the notes."""
    rows = [row for found in pivot.rows for row in found.values() if row.kind in ("method", "floor")]
    totals = sorted({row.total for row in rows})
    seeds = f"seeds: {totals[0]}" if len(totals) == 1 else f"seeds: {totals[0]} to {totals[-1]}" if totals else ""
    lines = explanations(pivot.tables, style, pivot.notes, seeds)
    if any(row.done < row.total for row in rows):
        lines.insert(1, "(k/n): k of n seeds done; such a cell takes no part in marks.")
    return lines
