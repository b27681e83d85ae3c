"""Tables as fragments of a page: a ``<section>`` with the title, the table and its explanations, with the style in its elements, so that it
looks the same wherever it is put. Every text that comes from users' data is escaped (`mmbench.results.text.escape_html`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmbench.results.formats import Sheet, Style

TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:0.9em"
SCROLL = "overflow-x:auto"
HEAD = "padding:0.3em 0.7em;border-bottom:2px solid currentColor;white-space:nowrap"
TOP = "padding:0.3em 0.7em;border-bottom:1px solid currentColor;text-align:center;border-left:1px solid #8884"
CELL = "padding:0.2em 0.7em;border-bottom:1px solid #8884;white-space:nowrap"
RULE = "border-top:2px solid currentColor"


def layout(sheet: Sheet, style: Style) -> str:
    """The fragment; it ends in a newline."""
    lines = ['<section class="mmbench-table">', f"<h2>{sheet.title}</h2>"]
    if sheet.rows:
        lines += [f'<div style="{SCROLL}">', f'<table style="{TABLE}">', "<thead>", *over(sheet, style)]
        heads = [
            f'<th scope="col" style="{HEAD};text-align:{side(sheet, index)}{edge(sheet, index)}">{text}</th>'
            for index, text in enumerate(sheet.headers)
        ]
        lines += [f"<tr>{''.join(heads)}</tr>", "</thead>", "<tbody>"]
        for number, row in enumerate(sheet.rows):
            rule = f";{RULE}" if number in sheet.breaks else ""
            cells = []
            for index, (text, mark) in enumerate(row):
                tag, scope = ("th", ' scope="row"') if index == 0 else ("td", "")
                weight = ";font-weight:normal" if index == 0 else ""
                look = f"{CELL};text-align:{side(sheet, index)}{weight}{edge(sheet, index)}{rule}"
                cells.append(f'<{tag}{scope} style="{look}">{text}{mark}</{tag}>')
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines += ["</tbody>", "</table>", "</div>"]
    lines += ['<ul class="mmbench-notes" style="font-size:0.85em">', *(f"<li>{note}</li>" for note in sheet.notes), "</ul>"] if sheet.notes else []
    return "\n".join([*lines, "</section>"]) + "\n"


def over(sheet: Sheet, style: Style) -> list[str]:
    """The row with the titles of groups of columns."""
    if not sheet.groups:
        return []
    cells = [f'<th scope="colgroup" colspan="{span}" style="{TOP}">{style.escape(title)}</th>' for title, span in sheet.groups]
    return [f'<tr><td colspan="{sheet.left}"></td>{"".join(cells)}</tr>']


def side(sheet: Sheet, index: int) -> str:
    """Names to the left, numbers to the right."""
    return "left" if index < sheet.left else "right"


def edge(sheet: Sheet, index: int) -> str:
    """A line to the left of each group of columns."""
    start = sheet.left
    for _, span in sheet.groups:
        if index == start:
            return ";border-left:1px solid #8884"
        start += span
    return ""
