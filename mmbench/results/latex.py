"""Tables in LaTeX: booktabs rules, titles over groups of columns, and a table that is wider than the text made to fit it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmbench.results.formats import Sheet, Style

HEADER = (
    "% needs \\usepackage{booktabs} and \\usepackage{graphicx}; compiles with pdfLaTeX, the file is ASCII\n"
    "% accents and Greek letters of names stand as commands, characters that LaTeX's own fonts have not as their code point: (U+4E2D)"
)
FIT = (r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%", "}")
"""Around a tabular: shrinks it to the width of the text where it is wider."""
PAGE = 50
"""Lines of a page that a float can have."""


def layout(sheet: Sheet, style: Style) -> str:
    """A ``table*`` environment with a caption, the table and its explanations."""
    lines = [HEADER, "\\begin{table*}", "\\centering", "\\small", f"\\caption{{{sheet.title}}}", "\\smallskip"]
    if sheet.rows:
        numbers = len(sheet.headers) - sheet.left
        lines += [FIT[0], f"\\begin{{tabular}}{{{'l' * sheet.left}{'r' * numbers}}}", "\\toprule"]
        lines += [*over(sheet, style), " & ".join(sheet.headers) + r" \\", "\\midrule"]
        for index, cells in enumerate(sheet.rows):
            if index in sheet.breaks:
                lines.append("\\midrule")
            lines.append(" & ".join(text + mark for text, mark in cells) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}%", FIT[1]]
    return "\n".join([*lines, *around(sheet.notes, len(sheet.rows))]) + "\n"


def around(notes: Sequence[str], rows: int) -> list[str]:
    """The explanations and the end of the float: inside it, or after it where a page would not hold both, since TeX does not break a float."""
    small = ["", "\\footnotesize\\raggedright", *(f"\\par {note}" for note in notes)]
    height = rows + sum(1 + len(note) // 110 for note in notes)
    return [*small, "\\end{table*}"] if height <= PAGE else ["\\end{table*}", "", "{\\sloppy", *small[1:], "\\par}"]


def over(sheet: Sheet, style: Style) -> list[str]:
    """The titles of groups of columns, each above a rule of its own."""
    if not sheet.groups:
        return []
    start, titles, rules = sheet.left + 1, [""] * sheet.left, []
    for title, span in sheet.groups:
        lines = [style.escape(line) for line in textwrap.wrap(title, 16 * span)] or [""]
        titles.append(f"\\multicolumn{{{span}}}{{c}}{{{stack(lines)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    return [" & ".join(titles) + r" \\", " ".join(rules)]


def stack(lines: Sequence[str]) -> str:
    """Lines below each other in one cell."""
    return lines[0] if len(lines) == 1 else "\\shortstack{" + r" \\ {}".join(lines) + "}"  # {}: a bracket after a line break would be an option
