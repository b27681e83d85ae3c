"""Grids as text: plain for a terminal, GitHub Markdown, LaTeX (booktabs), CSV and JSON (one entry for each cell, raw numbers).

A cell has up to three lines: the score, its difference to the column without an extra loss, and the interval of the difference.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from mmbench.errors import ConfigError
from mmbench.results.data_tables import finite
from mmbench.results.formats import STYLES, Style, clean, count, number, width
from mmbench.results.grid import NONE, Grid, GridCell
from mmbench.results.latex import FIT, HEADER, stack
from mmbench.results.statistics import LEVEL
from mmbench.results.text import csv_text

FORMATS = ("plain", "github", "latex", "csv", "json")
BLOCK = {"plain": 5, "latex": 5, "github": 1000}
"""Columns beside the first that stand next to each other; the others follow below."""

FIELDS = (
    "grid", "data", "simulated", "modalities", "metric", "higher_is_better", "backbone", "losses", "status", "seeds_done", "seeds_all", "mean", "sd",
    "difference", "low", "high", "adapters", "collapsed", "gradients", "reason", "configuration",
)  # fmt: skip


def render(grids: Sequence[Grid], format: str = "plain") -> str:
    """The grids as ``plain``, ``github``, ``latex``, ``csv`` or ``json`` text, ending in a newline."""
    if format not in FORMATS:
        raise ConfigError(f"unknown grid format {format!r}; there are {', '.join(FORMATS)}")
    if format == "json":
        documents = [
            {
                "title": grid.title,
                "simulated": grid.simulated,
                "notes": list(grid.notes),
                "draws": grid.draws,
                "floors": _floors(grid),
                "cells": list(entries(grid)),
            }
            for grid in grids
        ]
        return json.dumps(finite(documents), indent=1, ensure_ascii=False) + "\n"
    if format == "csv":
        return _csv(grids)
    layout = {"plain": _plain, "github": _github, "latex": _latex}[format]
    return "\n".join(layout(grid, STYLES[format], BLOCK[format]) for grid in grids)


def entries(grid: Grid) -> Iterator[dict[str, Any]]:
    """What stands in each cell, by `FIELDS`."""
    data = grid.data
    shared = [
        clean(grid.title),
        data.get("name", ""),
        grid.simulated,
        list(data.get("modalities", ())),
        grid.metric.key,
        grid.metric.higher_is_better,
    ]
    for row in grid.rows:
        for name in grid.columns:
            cell = grid.cells.get((row, name))
            if cell is None:
                continue
            interval = [cell.difference.difference, cell.difference.low, cell.difference.high] if cell.difference else [math.nan] * 3
            scores = [cell.status, cell.score.n, cell.total, cell.score.mean, cell.score.sd, *interval]
            rest = [[dict(part) for part in cell.adapters], cell.collapsed, dict(cell.gradients), cell.reason, cell.label]
            yield dict(zip(FIELDS, [*shared, row, name, *scores, *rest], strict=True))


def _csv(grids: Sequence[Grid]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for grid in grids:
        for entry in entries(grid):
            parts = [f"{part.get('field')} {part.get('kind')} {part.get('parameters')}" for part in entry["adapters"]]
            gradients = [f"{term} {value:.6g}" for term, value in entry["gradients"].items()]
            flat = {
                **entry,
                "modalities": " ".join(entry["modalities"]),
                "simulated": "SIMULATED" * grid.simulated,
                "adapters": "; ".join(parts),
                "gradients": "; ".join(gradients),
            }
            writer.writerow([number(value) if isinstance(value, float) else _flat(value) for value in flat.values()])
    return text.getvalue()


def _flat(value: Any) -> Any:
    return csv_text(value) if isinstance(value, str) else "" if value is None else int(value) if isinstance(value, bool) else value


def _floors(grid: Grid) -> list[dict[str, Any]]:
    cells = [(row, row.cells[grid.metric.key]) for row in grid.floors]
    return [{"name": row.name, "kind": row.kind, "mean": cell.mean, "sd": cell.sd, "n": cell.n} for row, cell in cells]


def lines_of(grid: Grid, cell: GridCell | None, style: Style) -> list[str]:
    """The lines of a cell: nothing where it was not asked for, a mark where it was refused."""
    if cell is None:
        return [""]
    if cell.status == "refused":
        return ["refused"]
    if cell.status == "missing":
        return [style.escape(f"0/{cell.total} seeds")]
    score = grid.metric.text(cell.score.mean)
    if not math.isnan(cell.score.mean) and not math.isnan(cell.score.sd):
        score += style.plus_minus + grid.metric.text(cell.score.sd)
    lines = [score + style.adapted * bool(cell.adapters) + style.collapsed * bool(cell.collapsed)]
    if cell.status == "partial":
        lines.append(style.escape(f"{cell.score.n}/{cell.total} seeds"))
    if cell.difference:
        lines.append(_signed(grid, cell.difference.difference) + "*" * cell.difference.excludes_zero)
        if not math.isnan(cell.difference.low):
            lines.append(f"[{_signed(grid, cell.difference.low)}, {_signed(grid, cell.difference.high)}]")
    return lines


def _signed(grid: Grid, value: float) -> str:
    text = grid.metric.text(value)
    return text if text.startswith("-") or text == "n/a" else f"+{text}"


def explanations(grid: Grid, style: Style) -> list[str]:
    """What numbers and marks mean, the floors, and each reason for a refusal once."""
    cells = list(grid.cells.items())
    percent = ", times 100" if grid.metric.percent else ""
    means = ", each seed's the mean over all parts" if grid.averaged else ""
    lines = [style.escape(f"Test {grid.metric.key}{percent}{means}, mean ± sample standard deviation (n - 1) over seeds.")]
    compared = sum(cell.difference is not None for _, cell in cells)
    if compared:
        videos = " of each part" if grid.averaged else ""
        lines.append(
            style.escape(
                f"Below it: the difference to the same backbone without an extra loss ({NONE}), and its {LEVEL:.0%} interval over seeds and test "
                f"videos{videos} ({grid.draws} draws of videos). * the interval excludes zero; it is not corrected for {compared} "
                "comparisons."
            )
        )
    if any(cell.difference is not None and len(cell.difference.seeds) == 1 for _, cell in cells):
        lines.append("One seed says nothing of other seeds: its interval is over test videos alone.")
    for row in grid.floors:
        score = row.cells[grid.metric.key]
        spread = "" if math.isnan(score.sd) else style.plus_minus + grid.metric.text(score.sd)
        lines.append(f"{style.escape(row.name)}{' (floor)' * (row.kind == 'floor')}: {grid.metric.text(score.mean)}{spread}")
    if any(cell.adapters for _, cell in cells):
        lines.append(f"{style.adapted} with adapters: the model lacks something a loss needs, and the core added layers for it (parameters):")
        lines += [style.escape(line) for line in _adapters(grid)]
    collapsed = [f"{row}, {name} {cell.collapsed} of {cell.runs}" for (row, name), cell in cells if cell.collapsed]
    if collapsed:
        lines.append(f"{style.collapsed} runs that collapsed to nearly one prediction for all samples: {style.escape('; '.join(collapsed))}.")
    if any(cell.status in ("partial", "missing") for _, cell in cells):
        lines.append(style.escape("k/n seeds: the others failed or have not run; such a cell is compared with none."))
    reasons = dict.fromkeys(reason for _, cell in cells if cell.status == "refused" for reason in cell.reason.split("; "))
    lines += [style.escape(f"refused: {reason}") for reason in reasons]
    return lines + [style.escape(note) for note in grid.notes]


def _adapters(grid: Grid) -> Iterator[str]:
    """A line for each row: what was added, and for which losses."""
    for row in grid.rows:
        found: dict[str, list[str]] = defaultdict(list)
        for name in grid.columns:
            cell = grid.cells.get((row, name))
            if cell is not None and cell.adapters:
                parts = (f"{part.get('field')} {part.get('kind')} {count(part.get('parameters'))}" for part in cell.adapters)
                found[", ".join(parts)].append(name)
        if found:
            yield f"{row}: " + "; ".join(f"{what} ({', '.join(losses)})" for what, losses in found.items())


def _blocks(grid: Grid, size: int) -> Iterator[tuple[str, ...]]:
    """The columns side by side: the first, and at most `size` others."""
    others = [name for name in grid.columns if name != NONE]
    first = tuple(name for name in grid.columns if name == NONE)
    for start in range(0, max(len(others), 1), size):
        yield (*first, *others[start : start + size])


def _heading(grid: Grid, style: Style) -> str:
    return f"{style.escape(grid.title)}: {style.header(grid.metric)}"


def _plain(grid: Grid, style: Style, size: int) -> str:
    text = [_heading(grid, style), ""]
    for names in _blocks(grid, size):
        table = _stacked("", [_head(name, style) for name in names])
        rule, starts = len(table), []
        for row in grid.rows:
            cells = [lines_of(grid, grid.cells.get((row, name)), style) for name in names]
            starts.append(len(table))
            table += _stacked(style.escape(row), cells)
        widths = [max(width(line[column]) for line in table) for column in range(len(names) + 1)]
        for index, line in enumerate(table):
            if index == rule:
                text.append("  ".join("-" * size for size in widths))
            elif index in starts:
                text.append("")
            padded = [cell + " " * (size - width(cell)) for cell, size in zip(line, widths, strict=True)]
            text.append("  ".join(padded).rstrip())
        text.append("")
    return "\n".join(text + explanations(grid, style)) + "\n"


def _head(name: str, style: Style) -> list[str]:
    """The losses of a column, one line each."""
    return style.escape(name).replace(" + ", " +\n").split("\n")


def _stacked(name: str, cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(line) for line in zip_longest([name], *cells, fillvalue="")]


def _github(grid: Grid, style: Style, size: int) -> str:
    text = [f"### {_heading(grid, style)}", ""]
    for names in _blocks(grid, size):
        text += [f"| {' | '.join(['', *('<br>'.join(_head(name, style)) for name in names)])} |", "|" + " --- |" * (len(names) + 1)]
        for row in grid.rows:
            cells = ["<br>".join(lines_of(grid, grid.cells.get((row, name)), style)).replace("*", r"\*") for name in names]
            text.append(f"| {' | '.join([style.escape(row), *cells])} |")
        text.append("")
    return "\n".join(text + [f"- {line}" for line in explanations(grid, style)]) + "\n"


def _latex(grid: Grid, style: Style, size: int) -> str:
    text = [HEADER, "\\begin{table*}", "\\centering", "\\small", f"\\caption{{{_heading(grid, style)}}}"]
    for names in _blocks(grid, size):
        text += [
            FIT[0],
            f"\\begin{{tabular}}{{l{'c' * len(names)}}}",
            "\\toprule",
            " & ".join(["", *(stack(_head(name, style)) for name in names)]) + r" \\",
            "\\midrule",
        ]
        for row in grid.rows:
            cells = [stack(lines_of(grid, grid.cells.get((row, name)), style)) for name in names]
            text.append(" & ".join([style.escape(row), *cells]) + r" \\")
        text += ["\\bottomrule", "\\end{tabular}%", FIT[1], ""]
    text += ["\\footnotesize", *(f"\\par {line}" for line in explanations(grid, style)), "\\end{table*}"]
    return "\n".join(text) + "\n"
