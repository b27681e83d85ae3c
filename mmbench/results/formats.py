"""Tables as text: plain for a terminal, GitHub Markdown, LaTeX (booktabs) and CSV (one line for each cell, raw fractions)."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmbench.errors import ConfigError

if TYPE_CHECKING:
    from mmbench.results.tables import Cell, Column, Row, Table

FORMATS = ("plain", "github", "latex", "csv")

ESCAPE_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]|\x9b[0-?]*[ -/]*[@-~]")
LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {char: f"\\{char}" for char in "\\`*[]|~$"}


def render(tables: Sequence[Table], format: str = "plain") -> str:
    """The tables as ``plain``, ``github``, ``latex`` or ``csv`` text, ending in a newline."""
    if format not in FORMATS:
        raise ConfigError(f"unknown table format {format!r}; there are {', '.join(FORMATS)}")
    if format == "csv":
        return as_csv(tables)
    style = STYLES[format]
    return "\n".join(style.layout(table, style) for table in tables)


def clean(text: str) -> str:
    """One line without terminal escape sequences and control or direction characters, so that a name cannot rewrite what is shown."""
    text = ESCAPE_SEQUENCES.sub("", text)
    text = "".join(" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co"))
    return " ".join(text.split())


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters made harmless."""
    return "".join(LATEX.get(char, char) for char in clean(text))


def escape_markdown(text: str) -> str:
    """Text with Markdown's and HTML's special characters made harmless; underscores inside a word have no meaning there."""
    text = "".join(MARKDOWN.get(char, char) for char in clean(text))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


@dataclass(frozen=True)
class Style:
    """How a format marks things."""

    layout: Callable[[Table, Style], str]
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

    def name(self, row: Row) -> str:
        """Name of a row with its marks."""
        marks = self.adapted * row.adapted + self.collapsed * (row.collapsed > 0 and row.kind == "method")
        return self.escape(row.name) + (" (floor)" if row.kind == "floor" else "") + marks

    def header(self, column: Column) -> str:
        """Name of a score with the arrow of its better direction."""
        if column.higher_is_better is None:
            return self.escape(column.key)
        return f"{self.escape(column.key)} {self.up if column.higher_is_better else self.down}"

    def cell(self, column: Column, cell: Cell) -> tuple[str, str]:
        """Number and mark of a cell."""
        text = column.text(cell.mean)
        if not math.isnan(cell.mean) and not math.isnan(cell.sd):
            text += self.plus_minus + column.text(cell.sd)
        text, mark = self.best(text) if cell.best else self.second(text) if cell.second else (text, "")
        return text, mark + self.beaten * cell.beaten

    def grid(self, table: Table) -> tuple[list[str], list[list[tuple[str, str]]]]:
        """Headers, and for each row its cells as text and mark."""
        headers = [self.escape("configuration"), "seeds", *map(self.header, table.columns), "parameters", "time/run"]
        rows = []
        for row in table.rows:
            seeds = "" if row.kind == "oracle" else f"{row.done}/{row.total}"
            cells = [self.cell(column, row.cells[column.key]) for column in table.columns]
            rows.append([(self.name(row), ""), (seeds, ""), *cells, (count(row.parameters), ""), (duration(row.seconds), "")])
        return headers, rows

    def explanations(self, table: Table) -> list[str]:
        """What the marks and numbers of this table mean, then its notes."""
        methods = [row for row in table.rows if row.kind == "method"]
        cells = [cell for row in methods for cell in row.cells.values()]
        lines = []
        if table.rows:
            percent = "; what ranges from 0 to 1 (accuracy, F1, recall) is times 100" if any(column.percent for column in table.columns) else ""
            what = "Test scores, each seed's the mean over all parts, then mean" if table.averaged else "Test scores, mean"
            seeds = "seeds: done on every part/all" if table.averaged else "seeds: done/all"
            lines.append(self.escape(f"{what} ± sample standard deviation (n - 1) over seeds{percent}; {seeds}."))
        if any(cell.best for cell in cells):
            lines.append(self.legend + " of the methods with every seed done; floors do not compete.")
        if any(row.kind == "oracle" for row in table.rows):
            lines.append("oracle: for each metric on its own, the best score that any constant prediction gets on these test labels.")
        if any(cell.beaten for cell in cells):
            lines.append(f"{self.beaten} not better than the best floor, the best constant included.")
        if any(row.adapted for row in table.rows):
            lines.append(f"{self.adapted} with adapters: the model lacks something a loss needs, and the core added layers for it.")
        if any(" = " in row.name for row in methods):
            lines.append(self.escape("a = b: equal by construction, one run under two names."))
        collapsed = [f"{self.escape(row.name)} {row.collapsed} of {row.runs}" for row in methods if row.collapsed]
        if collapsed:
            lines.append(f"{self.collapsed} runs that collapsed to nearly one prediction for all samples: {', '.join(collapsed)}.")
        return lines + [self.escape(note) for note in table.notes]


def count(value: int | None) -> str:
    """A number of parameters: 950, 12.3k, 1.25M."""
    if value is None:
        return ""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value < 999.5 * size else f"{value / size:.0f}{unit}"
    return str(value)


def duration(seconds: float) -> str:
    """A time with its unit: 0.8 s, 12 s, 3.4 min, 2.1 h."""
    if math.isnan(seconds):
        return ""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


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


def as_plain(table: Table, style: Style) -> str:
    """Columns under a rule, for a terminal."""
    lines = [style.escape(table.title), ""]
    if table.rows:
        header, *body = aligned(*style.grid(table))
        lines += ["  ".join(header).rstrip(), "  ".join("-" * width(text) for text in header), *("  ".join(row).rstrip() for row in body), ""]
    return "\n".join(lines + style.explanations(table)) + "\n"


def as_github(table: Table, style: Style) -> str:
    """A heading, a Markdown table and a list of explanations."""
    lines = [f"### {style.escape(table.title)}", ""]
    if table.rows:
        header, *body = aligned(*style.grid(table))
        rule = [(":" if index == 0 else "-") + "-" * (width(text) - 2) + ("-" if index == 0 else ":") for index, text in enumerate(header)]
        lines += [f"| {' | '.join(row)} |" for row in (header, rule, *body)] + [""]
    return "\n".join(lines + [f"- {line}" for line in style.explanations(table)]) + "\n"


def as_latex(table: Table, style: Style) -> str:
    """A table environment; it needs \\usepackage{booktabs}."""
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table*}", "\\centering", "\\small", f"\\caption{{{style.escape(table.title)}}}"]
    if table.rows:
        headers, rows = style.grid(table)
        lines += [f"\\begin{{tabular}}{{ll{'r' * (len(headers) - 2)}}}", "\\toprule", " & ".join(headers) + r" \\", "\\midrule"]
        for index, (row, cells) in enumerate(zip(table.rows, rows, strict=True)):
            if index and row.kind != "method" and table.rows[index - 1].kind == "method":
                lines.append("\\midrule")
            lines.append(" & ".join(text + mark for text, mark in cells) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}"]
    lines += ["", "\\footnotesize", *(f"\\par {line}" for line in style.explanations(table)), "\\end{table*}"]
    return "\n".join(lines) + "\n"


def as_csv(tables: Sequence[Table]) -> str:
    """One line for each row and metric over all tables; numbers are raw (fractions, seconds), empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["table", "data", "simulated", "modalities", "configuration", "kind", "experiment", "label", "seeds_done", "seeds_all", "collapsed"]
    tail = ["protocol", "part"] if any(table.data.get("protocol") for table in tables) else []
    writer.writerow([*head, "adapted", "parameters", "seconds", "metric", "higher_is_better", "mean", "sd", "n", *tail])
    for table in tables:
        data: Mapping[str, object] = table.data
        names = data.get("modalities", ())
        where = [table.title, str(data.get("name", "")), "SIMULATED" * table.simulated, " ".join(names if isinstance(names, list) else ())]
        which = [str(data.get("protocol", "")), "(mean)" if table.averaged else str(data.get("part", ""))] if tail else []
        for row in table.rows:
            runs = [row.done, row.total, row.collapsed, int(row.adapted), row.parameters, number(row.seconds)]
            if row.kind == "oracle":
                runs = [""] * len(runs)
            who = [*map(clean, [*where, row.name]), row.kind, clean(row.experiment), clean(row.label), *runs]
            for column in table.columns:
                cell, direction = row.cells[column.key], "" if column.higher_is_better is None else int(column.higher_is_better)
                n = "" if row.kind == "oracle" else cell.n
                writer.writerow([*who, clean(column.key), direction, number(cell.mean), number(cell.sd), n, *map(clean, which)])
    return text.getvalue()


def number(value: float) -> str:
    """A float that reads back exactly, or nothing for NaN."""
    return "" if math.isnan(value) else repr(float(value))


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
    ),
}
