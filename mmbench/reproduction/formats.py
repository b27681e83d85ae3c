"""A target's result as text: plain for a terminal, GitHub Markdown, LaTeX (booktabs, graphicx) and CSV (a line for each cell, raw fractions)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import datetime, timezone

from mmbench import __version__
from mmbench.reproduction.blocks import Block, Line, Result, footnotes, heading_text, of_column, of_line
from mmbench.results.formats import STYLES, Style, aligned, clean, number, width
from mmbench.results.published import PublishedScore
from mmbench.results.text import csv_text

FORMATS = {"plain": "txt", "github": "md", "latex": "tex", "csv": "csv"}
"""Formats, and the suffixes of their files."""
MARKS = {"plain": ("✓", "✗"), "github": ("✓", "✗"), "latex": (r"$\surd$", r"$\times$")}
DIFFERENCES = "Published numbers rest on the features, modalities and rules of their source, measured ones on those above each table."
Text = tuple[str, str]
"""A cell's text, and marks that stand behind it."""


def render(result: Result, format: str) -> str:
    """The result as ``plain``, ``github``, ``latex`` or ``csv`` text, ending in a newline."""
    return as_csv(result) if format == "csv" else {"plain": as_plain, "github": as_github, "latex": as_latex}[format](result)


def caption(result: Result) -> str:
    """Title, and whether the numbers mean anything."""
    return ("SIMULATED DATA: " if result.simulated else "") + result.title


def grid(result: Result, block: Block, format: str) -> tuple[list[str], list[list[Text]]]:
    """Headers, and for each row its cells: name, check marks, seeds, then for each printed column what was measured, printed, and the gap."""
    style, letters = STYLES[format], _letters(result)
    checks = list(dict.fromkeys(mark for line in block.lines for mark in line.marks))
    headers = [style.escape("row"), *map(style.escape, checks), "seeds"]
    gaps = not block.simulated
    printed = any(score for line in block.lines for cells in line.published for score in cells)
    for index, (heading, columns) in enumerate(zip(block.group.headings, block.columns, strict=True)):
        arrow = {True: style.up, False: style.down, None: ""}[columns[0].higher_is_better]
        headers.append(f"{style.escape(heading.text)} {arrow}".rstrip())
        if printed:
            common = [letters[key] for key in of_column(block, index)]
            headers += ["published" + _noted(common, format)] + ["gap"] * gaps
    rows = []
    for line in block.lines:
        marks = style.adapted * line.adapted + style.collapsed * (line.collapsed > 0) + _noted([letters[key] for key in of_line(block, line)], format)
        name = style.escape(line.name) + " (floor)" * (line.kind == "floor") + marks
        texts: list[Text] = [(name, ""), *((MARKS[format][not line.marks[mark]] if mark in line.marks else "", "") for mark in checks)]
        texts.append((style.escape(line.state), ""))
        for index in range(len(block.columns)):
            texts += _cells(block, line, index, style, letters, format)[: 1 + printed * (1 + gaps)]
        rows.append(texts)
    return headers, rows


def _cells(block: Block, line: Line, index: int, style: Style, letters: dict[str, str], format: str) -> list[Text]:
    columns, found, scores = block.columns[index], line.measured[index], line.published[index]
    measured = []
    for c, value in zip(columns, found, strict=True):
        sd = style.plus_minus + c.text(value.sd) if value and not math.isnan(value.mean) and not math.isnan(value.sd) else ""
        measured.append(c.text(value.mean) + sd if value else "")
    elsewhere = (*of_column(block, index), *of_line(block, line))
    own = sorted(letters[key] for key in {k for s in scores if s for k in s.notes} if key not in elsewhere)
    gaps = [(c, line.gap(value, score)) for c, value, score in zip(columns, found, scores, strict=True)]
    return [
        (" / ".join(measured) if any(measured) else "", ""),
        (_printed(scores, style), _noted(own, format)),
        (" / ".join("" if math.isnan(g) else c.signed(g) for c, g in gaps) if any(not math.isnan(g) for _, g in gaps) else "", ""),
    ]


def _printed(scores: Sequence[PublishedScore | None], style: Style) -> str:
    texts = []
    for score in scores:
        shown = score.printed if score else ""
        texts.append(shown + (f"{style.plus_minus}{_digits(score)}" if score and score.sd is not None else ""))
    return " / ".join(texts) if any(texts) else ""


def _digits(score: PublishedScore) -> str:
    """The printed deviation, with as many digits as the number beside it."""
    factor = float(score.printed) / score.value if score.value else 1.0
    return f"{(score.sd or 0.0) * factor:.{len(score.printed.partition('.')[2])}f}"


def _letters(result: Result) -> dict[str, str]:
    """Footnotes by key: a, b, ... z, aa, ab, ..."""
    names = [chr(97 + i) if i < 26 else chr(96 + i // 26) + chr(97 + i % 26) for i in range(len(footnotes(result)))]
    return dict(zip(footnotes(result), names, strict=True))


def _noted(letters: Sequence[str], format: str) -> str:
    if not letters:
        return ""
    shown = ",".join(letters)
    return {"latex": rf"\textsuperscript{{{shown}}}", "github": f" <sup>{shown}</sup>", "plain": f" [{shown}]"}[format]


def explanations(result: Result, format: str) -> list[str]:
    """What the numbers and marks mean, footnotes, sources and notes."""
    style, escape = STYLES[format], STYLES[format].escape
    lines = [
        escape("Test scores, mean ± sample standard deviation (n - 1) over seeds; what ranges from 0 to 1 is times 100. seeds: done/all, or why not.")
    ]
    lines += [escape(f"Columns, {block.group.place}: {', '.join(map(heading_text, block.group.headings))}.") for block in result.blocks]
    shown = [line for block in result.blocks for line in block.lines]
    scores = [score for line in shown for cells in line.published for score in cells if score]
    if result.source and scores:
        count = sorted({("one run" if s.seeds == 1 else f"a mean of {s.seeds} runs") if s.seeds else "number of runs not reported" for s in scores})
        lines.append(escape(f"published: copied from {result.source.citation} ({', '.join(count)}). Its setting: {result.source.setting}"))
        if not result.simulated:
            gap = "gap: measured minus published, where every seed is done. The arrow says which way is better; a gap is no test of significance."
            lines.append(escape(f"{gap} {DIFFERENCES}"))
        origins = {s.origin: [line.name for line in shown if any(o and o.origin == s.origin for c in line.published for o in c)] for s in scores}
        lines += [escape(f"published numbers of {', '.join(dict.fromkeys(names))}: {origin}") for origin, names in origins.items() if origin]
    if result.simulated:
        lines.append(
            escape("SIMULATED DATA: what was measured says nothing about the methods or about the published numbers, so that no gap is shown.")
        )
    if any(line.kind == "oracle" for line in shown):
        lines.append("oracle: for each metric on its own, the best score that any constant prediction gets on these test labels.")
    if any(line.adapted for line in shown):
        lines.append(f"{style.adapted} with adapters: the model lacks something a loss needs, and the core added layers for it.")
    if any(line.collapsed for line in shown):
        names = ", ".join(f"{escape(line.name)} {line.collapsed}" for line in shown if line.collapsed)
        lines.append(f"{style.collapsed} runs that collapsed to nearly one prediction for all samples: {names}.")
    letters = _letters(result)
    lines += [_noted([letters[key]], format).strip() + f" {escape(text)}" for key, text in footnotes(result).items()]
    lines += [escape(f"{block.group.place}: {note}") for block in result.blocks for note in block.notes]
    lines += [escape(note) for note in result.notes]
    moment = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    lines.append(escape(f"Written {moment} UTC by mmbench {__version__}: {result.command}."))
    return lines


def as_plain(result: Result) -> str:
    """A table for each data set, for a terminal."""
    lines = [clean(caption(result)), clean(result.shows), ""]
    for block in result.blocks:
        header, *body = aligned(*grid(result, block, "plain"))
        lines += [clean(block.title), "", "  ".join(header).rstrip(), "  ".join("-" * width(text) for text in header)]
        for number_, (line, row) in enumerate(zip(block.lines, body, strict=True)):
            if _begins(block, number_):
                lines.append(f"-- {clean(line.section) or 'floors'}")
            lines.append("  ".join(row).rstrip())
        lines.append("")
    return "\n".join(lines + explanations(result, "plain")) + "\n"


def _begins(block: Block, index: int) -> bool:
    """Whether a new half of the table, or the floors, begin with this row."""
    line, before = block.lines[index], block.lines[index - 1] if index else None
    if line.kind != "method":
        return before is not None and before.kind == "method"
    return bool(line.section) and (before is None or before.section != line.section)


def as_github(result: Result) -> str:
    """A heading, a Markdown table for each data set, and a list of explanations."""
    escape = STYLES["github"].escape
    lines = [f"## {escape(caption(result))}", "", escape(result.shows), ""]
    for block in result.blocks:
        header, *body = aligned(*grid(result, block, "github"))
        rule = [(":" if index == 0 else "-") + "-" * (width(text) - 2) + ("-" if index == 0 else ":") for index, text in enumerate(header)]
        lines += [f"### {escape(block.title)}", "", *(f"| {' | '.join(row)} |" for row in (header, rule, *body)), ""]
    return "\n".join(lines + [f"- {line}" for line in explanations(result, "github")]) + "\n"


def as_latex(result: Result) -> str:
    """A table environment for each data set, no wider than the page."""
    escape = STYLES["latex"].escape
    lines = ["% needs \\usepackage{booktabs,graphicx}"]
    for block in result.blocks:
        headers, rows = grid(result, block, "latex")
        lines += ["\\begin{table*}", "\\centering", "\\small", f"\\caption{{{escape(caption(result))}. {escape(block.title)}}}"]
        lines += ["\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%"]
        lines += [f"\\begin{{tabular}}{{l{'c' * (len(headers) - 1)}}}", "\\toprule", " & ".join(headers) + r" \\", "\\midrule"]
        for index, (line, cells) in enumerate(zip(block.lines, rows, strict=True)):
            if _begins(block, index):
                lines += ["\\midrule"] * (index > 0)
                lines += [rf"\multicolumn{{{len(headers)}}}{{l}}{{\textit{{{escape(line.section)}}}}} \\"] * bool(line.section)
            lines.append(" & ".join(text + mark for text, mark in cells) + r" \\")
        lines += ["\\bottomrule", "\\end{tabular}}"]
        lines.append("\\end{table*}")
    # Outside of the floats, which would not fit on a page with them.
    return "\n".join([*lines, "{\\footnotesize\\sloppy", *(f"\\par {line}" for line in explanations(result, "latex")), "\\par}"]) + "\n"


def as_csv(result: Result) -> str:
    """A line for each row and metric; numbers are raw (fractions), empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["target", "data", "protocol", "simulated", "section", "row", "kind", "state", "experiment", "heading", "metric"]
    writer.writerow([*head, "mean", "sd", "n", "published", "published_sd", "published_runs", "gap", "notes"])
    for block in result.blocks:
        where = [result.name, block.group.dataset, block.group.protocol, "SIMULATED" * block.simulated]
        for line in block.lines:
            who = [*where, csv_text(line.section), csv_text(line.name), line.kind, line.state, csv_text(line.experiment)]
            for index, heading in enumerate(block.group.headings):
                for c, found, score in zip(block.columns[index], line.measured[index], line.published[index], strict=True):
                    measured = [number(found.mean), number(found.sd), "" if line.kind == "oracle" else found.n] if found else ["", "", ""]
                    printed = [number(score.value), "" if score.sd is None else number(score.sd), score.seeds or ""] if score else ["", "", ""]
                    apart = "" if block.simulated else number(line.gap(found, score))
                    writer.writerow([*who, csv_text(heading.text), c.key, *measured, *printed, apart, " ".join(score.notes) if score else ""])
    return text.getvalue()
