"""What is shown of a table that nobody reads to its end: the best of its configurations, and how to see the others."""

from __future__ import annotations

from dataclasses import replace

from mmbench.results.cells import Row, Table, ordered, primary

TOP = 50
"""Configurations of a table that is made for reading. Our choice: a sweep of some factors fits, and a report of thousands of runs takes seconds."""
NOTES = 20
"""Notes under a table that is shortened."""


def shortened(table: Table, top: int) -> tuple[Table, tuple[Row, ...]]:
    """The table with its `top` best methods by its first score, best first, and the methods that are left out; unchanged where it has no more."""
    methods = [row for row in ordered(table, primary(table)) if row.kind == "method"]
    if not top or len(methods) <= top:
        return table, ()
    column = primary(table)
    by = f"by {column.key}" if column else "by name"
    notes = [f"{len(methods) - top} of {len(methods)} configurations are not shown, but those that are best {by}; all of them: --top 0, --format csv"]
    if more := len(table.notes) - NOTES:
        notes += [f"{more} more notes are left out; mmbench status has the state of every run"] if more > 0 else []
    rows = (*methods[:top], *(row for row in table.rows if row.kind != "method"))
    return replace(table, rows=rows, notes=(*table.notes[:NOTES], *notes)), tuple(methods[top:])
