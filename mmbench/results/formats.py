"""Tables as text: plain for a terminal, GitHub Markdown, LaTeX (booktabs), HTML, CSV and JSON (raw fractions).

A table of any kind becomes a `Sheet`, whose texts are escaped for the format, and the format's layout writes that down.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmbench.errors import ConfigError
from mmbench.results.text import clean, count, duration, escape_html, escape_latex, escape_markdown, memory, number, width

if TYPE_CHECKING:
    from mmbench.results.tables import Cell, Column, Row, Table

__all__ = [
    "FORMATS", "STYLES", "Sheet", "Style", "clean", "count", "duration", "escape_html", "escape_latex", "escape_markdown", "number", "render",
    "style_of", "width",
]  # fmt: skip

FORMATS = ("plain", "github", "latex", "csv", "html", "json")
SCREEN = 180
"""Columns of a terminal beyond which groups of columns stand below each other."""


def render(tables: Sequence[Table], format: str = "plain") -> str:
    """The tables as ``plain``, ``github``, ``latex``, ``html``, ``csv`` or ``json`` text, ending in a newline."""
    if format in ("csv", "json"):
        from mmbench.results import data_tables

        return data_tables.as_csv(tables) if format == "csv" else data_tables.as_json(tables)
    style = style_of(format)
    return "\n".join(style.layout(sheet(table, style), style) for table in tables)


def style_of(format: str) -> Style:
    """The style of a format that is made for reading."""
    if format not in STYLES:
        raise ConfigError(f"unknown table format {format!r}; there are {', '.join(FORMATS)}")
    return STYLES[format]


@dataclass(frozen=True)
class Sheet:
    """A table whose texts are escaped for its format. A cell is a text and the mark behind it."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[tuple[str, str], ...], ...]
    notes: tuple[str, ...]
    breaks: tuple[int, ...] = ()
    """The rows before which a rule stands."""
    left: int = 1
    """The columns that name the row."""
    groups: tuple[tuple[str, int], ...] = ()
    """Titles over the columns after the first `left`, and over how many; not escaped yet, since a layout may break them into lines."""


@dataclass(frozen=True)
class Style:
    """How a format marks things."""

    layout: Callable[[Sheet, Style], str]
    escape: Callable[[str], str]
    best: Callable[[str], tuple[str, str]]
    """A number as the best: its text, and a mark to stand behind it."""
    second: Callable[[str], tuple[str, str]]
    legend: str
    plus_minus: str
    up: str
    down: str
    adapted: str
    beaten: str
    collapsed: str
    published: Callable[[str], str] = str
    """A number that was printed elsewhere."""

    def name(self, row: Row) -> str:
        """Name of a row with its marks."""
        return self.escape(row.name) + (" (floor)" if row.kind == "floor" else "") + self.state(row)

    def state(self, row: Row) -> str:
        """The marks of a whole row."""
        return self.adapted * row.adapted + self.collapsed * (row.collapsed > 0 and row.kind == "method")

    def header(self, column: Column) -> str:
        """Name of a score with the arrow of its better direction."""
        if column.higher_is_better is None:
            return self.escape(column.key)
        return f"{self.escape(column.key)} {self.up if column.higher_is_better else self.down}"

    def cell(self, column: Column, cell: Cell, published: bool = False) -> tuple[str, str]:
        """Number and mark of a cell; a published number has the gap to what was measured behind it, and is empty where there is none."""
        if published and math.isnan(cell.mean):
            return "", ""
        text = column.text(cell.mean)
        if not math.isnan(cell.mean) and not math.isnan(cell.sd):
            text += self.plus_minus + column.text(cell.sd)
        if not math.isnan(cell.gap):
            text += f" ({column.signed(cell.gap)})"
        if published:
            return self.published(text), ""
        text, mark = self.best(text) if cell.best else self.second(text) if cell.second else (text, "")
        return text, mark + self.beaten * cell.beaten


def sheet(table: Table, style: Style) -> Sheet:
    """A row for each configuration, a column for each score."""
    headers = ("configuration", "seeds", *map(style.header, table.columns), "parameters", "time/run", "memory") if table.rows else ()
    rows = []
    for row in table.rows:
        seeds = f"{row.done}/{row.total}" if row.kind in ("method", "floor") else row.seeds_told
        cells = [style.cell(column, row.cells[column.key], row.kind == "published") for column in table.columns]
        costs = [(text, "") for text in (count(row.parameters), duration(row.seconds), memory(row.memory))]
        rows.append(((style.name(row), ""), (seeds, ""), *cells, *costs))
    return Sheet(style.escape(table.title), headers, tuple(rows), tuple(explanations([table], style)), breaks(table.rows), left=2)


def breaks(rows: Sequence[Row]) -> tuple[int, ...]:
    """Where the floors begin."""
    groups = [row.kind in ("method", "published") for row in rows]
    return tuple(index for index in range(1, len(rows)) if groups[index - 1] and not groups[index])


def explanations(tables: Sequence[Table], style: Style, notes: Sequence[str] | None = None, seeds: str = "") -> list[str]:
    """What the marks and numbers of tables mean, then their notes, or the given ones. `seeds`: what is said of seeds; default: of their column."""
    rows = [row for table in tables for row in table.rows]
    methods = [row for row in rows if row.kind == "method"]
    cells = [cell for row in methods for cell in row.cells.values()]
    lines = []
    if rows:
        percent = any(column.percent for table in tables for column in table.columns)
        means, averaged = "; what ranges from 0 to 1 (accuracy, F1, recall) is times 100" if percent else "", any(t.averaged for t in tables)
        what = "Test scores, each seed's the mean over all parts, then mean" if all(t.averaged for t in tables) else "Test scores, mean"
        if averaged and not all(t.averaged for t in tables):
            means = f", where parts are averaged each seed's the mean over all of them{means}"
        seeds = seeds or ("seeds: done on every part/all" if averaged else "seeds: done/all")
        lines.append(style.escape(f"{what} ± sample standard deviation (n - 1) over seeds{means}; {seeds}."))
    if any(cell.best for cell in cells):
        interval = "or not distinguishable from it by the 95 % interval of the difference over seeds and test videos (uncorrected)"
        lines.append(f"{style.legend}, {style.escape(interval)}; of the methods with every seed done. Floors do not compete.")
    if any(row.kind == "published" for row in rows):
        text = "published: printed in the named source, not measured here, and takes no part in marks and tests"
        lines.append(style.escape(f"{text}; in brackets what was measured here minus it."))
    if any(row.kind == "oracle" for row in rows):
        lines.append("oracle: for each metric on its own, the best score that any constant prediction gets on these test labels.")
    if any(cell.beaten for cell in cells):
        lines.append(f"{style.beaten} not better than the best floor, the best constant included.")
    if any(row.adapted for row in rows):
        lines.append(f"{style.adapted} with adapters: the model lacks something a loss needs, and the core added layers for it.")
    if any(" = " in row.name for row in methods):
        lines.append(style.escape("a = b: equal by construction, one run under two names."))
    several = len(tables) > 1
    collapsed = [
        f"{style.escape(row.name + (f' ({table.short})' if several else ''))} {row.collapsed} of {row.runs}"
        for table in tables
        for row in table.rows
        if row.collapsed and row.kind == "method"
    ]
    if collapsed:
        lines.append(f"{style.collapsed} runs that collapsed to nearly one prediction for all samples: {', '.join(collapsed)}.")
    return lines + [style.escape(note) for note in ([note for table in tables for note in table.notes] if notes is None else notes)]


def aligned(headers: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> list[list[str]]:
    """Headers and rows padded to columns of one width: names to the left, numbers to the right with room for their marks."""
    columns: list[list[str]] = []
    for index, header in enumerate(headers):
        marks = max((width(row[index][1]) for row in rows), default=0)
        texts = [text + mark + " " * (marks - width(mark)) for text, mark in (row[index] for row in rows)]
        size = max(map(width, (header, *texts)))
        padded = [(text, " " * (size - width(text))) for text in (header, *texts)]
        columns.append([text + space if index == 0 else space + text for text, space in padded])
    return [list(row) for row in zip(*columns, strict=True)]


def as_plain(sheet: Sheet, style: Style) -> str:
    """Columns under a rule, for a terminal."""
    lines = [sheet.title, ""]
    for block in blocks(sheet):
        header, *body = aligned(block.headers, block.rows)
        lines += [*over(block, [width(text) for text in header], style), "  ".join(header).rstrip(), "  ".join("-" * width(text) for text in header)]
        lines += [*("  ".join(row).rstrip() for row in body), ""]
    return "\n".join([*lines, *sheet.notes]) + "\n"


def blocks(sheet: Sheet) -> Iterator[Sheet]:
    """The sheet, or as many as stand below each other where its groups of columns are wider than a terminal."""
    if not sheet.rows or not sheet.groups:
        yield from [sheet] if sheet.rows else []
        return
    header, *_ = aligned(sheet.headers, sheet.rows)
    sizes = [width(text) + 2 for text in header]
    chosen: list[int] = []
    found: list[list[int]] = []
    start = sheet.left
    for _, span in sheet.groups:
        own = list(range(start, start + span))
        if chosen and sum(sizes[: sheet.left]) + sum(sizes[index] for index in (*chosen, *own)) > SCREEN:
            found.append(chosen)
            chosen = []
        chosen, start = chosen + own, start + span
    place = 0
    for columns in (*found, chosen):
        groups, left = [], len(columns)
        while left:
            groups.append(sheet.groups[place])
            left, place = left - sheet.groups[place][1], place + 1
        every = [*range(sheet.left), *columns]
        rows = tuple(tuple(row[index] for index in every) for row in sheet.rows)
        yield replace(sheet, headers=tuple(sheet.headers[index] for index in every), rows=rows, groups=tuple(groups))


def over(sheet: Sheet, sizes: Sequence[int], style: Style) -> list[str]:
    """The lines with the titles of groups of columns, each broken to the width of its columns."""
    start, cells = sheet.left, []
    for title, span in sheet.groups:
        size = sum(sizes[start : start + span]) + 2 * (span - 1)
        cells.append((size, [*textwrap.wrap(style.escape(title), max(size, 10)), "-" * size]))
        start += span
    height = max((len(lines) for _, lines in cells), default=0)
    first = " " * (sum(sizes[: sheet.left]) + 2 * (sheet.left - 1))
    rows = [[" " * size] * (height - len(lines)) + [line + " " * (size - width(line)) for line in lines] for size, lines in cells]
    return ["  ".join([first, *(row[index] for row in rows)]).rstrip() for index in range(height)]


def as_github(sheet: Sheet, style: Style) -> str:
    """A heading, a Markdown table and a list of explanations."""
    lines = [f"### {sheet.title}", ""]
    if sheet.rows:
        tops = [""] * sheet.left + [f"{style.escape(title)}: " for title, span in sheet.groups for _ in range(span)]
        headers = [top + header for top, header in zip(tops, sheet.headers, strict=True)] if sheet.groups else sheet.headers
        header, *body = aligned(headers, sheet.rows)
        rule = [(":" if index == 0 else "-") + "-" * (width(text) - 2) + ("-" if index == 0 else ":") for index, text in enumerate(header)]
        lines += [f"| {' | '.join(row)} |" for row in (header, rule, *body)] + [""]
    return "\n".join(lines + [f"- {line}" for line in sheet.notes]) + "\n"


def as_latex(sheet: Sheet, style: Style) -> str:
    """A table environment."""
    from mmbench.results.latex import layout

    return layout(sheet, style)


def as_html(sheet: Sheet, style: Style) -> str:
    """A fragment of a page."""
    from mmbench.results.html_tables import layout

    return layout(sheet, style)


STYLES = {
    "plain": Style(
        layout=as_plain,
        escape=clean,
        best=lambda text: (text, "*"),
        second=lambda text: (text, "+"),
        legend="* best, + second best",
        plus_minus="±",
        up="↑",
        down="↓",
        adapted="†",
        beaten="‡",
        collapsed="§",
    ),
    "github": Style(
        layout=as_github,
        escape=escape_markdown,
        best=lambda text: (f"**{text}**", ""),
        second=lambda text: (f"<ins>{text}</ins>", ""),  # GitHub shows no <u>
        legend="**bold** best, <ins>underlined</ins> second best",
        plus_minus=" ± ",
        up="↑",
        down="↓",
        adapted="†",
        beaten="‡",
        collapsed="§",
        published=lambda text: f"*{text}*",
    ),
    "latex": Style(
        layout=as_latex,
        escape=escape_latex,
        best=lambda text: (f"\\textbf{{{text}}}", ""),
        second=lambda text: (f"\\underline{{{text}}}", ""),
        legend="\\textbf{bold} best, \\underline{underlined} second best",
        plus_minus=r" $\pm$ ",
        up=r"$\uparrow$",
        down=r"$\downarrow$",
        adapted=r"\textsuperscript{\dag}",
        beaten=r"\textsuperscript{\ddag}",
        collapsed=r"\textsuperscript{\S}",
        published=lambda text: f"\\textit{{{text}}}",
    ),
    "html": Style(
        layout=as_html,
        escape=escape_html,
        best=lambda text: (f"<b>{text}</b>", ""),
        second=lambda text: (f"<u>{text}</u>", ""),
        legend="<b>bold</b> best, <u>underlined</u> second best",
        plus_minus=" ± ",
        up="↑",
        down="↓",
        adapted="<sup>†</sup>",
        beaten="<sup>‡</sup>",
        collapsed="<sup>§</sup>",
        published=lambda text: f"<i>{text}</i>",
    ),
}
