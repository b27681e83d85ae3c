"""Tables as data: CSV (one line for each row and metric) and JSON. Numbers are raw: fractions, seconds, megabytes; nothing where there is none."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmbench.results.text import clean, csv_text, number

if TYPE_CHECKING:
    from mmbench.results.tables import Row, Table


def as_csv(tables: Sequence[Table]) -> str:
    """One line for each row and metric over all tables. Protocol and part have columns where a table has a protocol, gaps where one is published."""
    protocols = any(table.data.get("protocol") for table in tables)
    published = any(row.kind == "published" for table in tables for row in table.rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for index, entry in enumerate(entries(tables) or [dict.fromkeys(HEAD, "")]):
        for key in (() if protocols else ("protocol", "part")) + (() if published else ("gap",)):
            entry.pop(key, None)
        if index == 0:
            writer.writerow(entry)
        if entry["table"]:
            writer.writerow([flat(value) for value in entry.values()])
    return text.getvalue()


HEAD = (
    "table", "data", "simulated", "modalities", "configuration", "kind", "experiment", "label", "seeds_done", "seeds_all", "collapsed", "adapted",
    "parameters", "seconds", "peak_memory_mb", "metric", "higher_is_better", "mean", "sd", "n", "best", "second", "beaten", "gap", "protocol",
    "part",
)  # fmt: skip


def entries(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """What stands in each cell, by `HEAD`."""
    return [entry for table in tables for row in table.rows for entry in of_row(table, row)]


def of_row(table: Table, row: Row) -> Iterator[dict[str, Any]]:
    """An entry for each metric."""
    data: Mapping[str, object] = table.data
    names = data.get("modalities", ())
    where = [table.title, str(data.get("name", "")), "SIMULATED" * table.simulated, " ".join(names if isinstance(names, list) else ())]
    ran = row.kind in ("method", "floor")
    counts = [row.done, row.total, row.collapsed, int(row.adapted), row.parameters, row.seconds, row.memory] if ran else [None] * 7
    who = [*where, row.name, row.kind, row.experiment, row.label, *counts]
    part = "(mean)" if table.averaged else str(data.get("part", ""))
    for column in table.columns:
        cell, direction = row.cells[column.key], None if column.higher_is_better is None else int(column.higher_is_better)
        if row.kind == "published" and math.isnan(cell.mean):
            continue
        n = None if row.kind == "oracle" or (row.kind == "published" and not cell.n) else cell.n
        marks = [int(cell.best), int(cell.second), int(cell.beaten)] if row.kind == "method" else [None] * 3
        values = [*who, column.key, direction, cell.mean, cell.sd, n, *marks, cell.gap, str(data.get("protocol", "")), part]
        yield dict(zip(HEAD, values, strict=True))


def flat(value: Any) -> Any:
    """A value as CSV has it."""
    return number(value) if isinstance(value, float) else csv_text(value) if isinstance(value, str) else "" if value is None else value


def as_json(tables: Sequence[Table]) -> str:
    """A document with everything that the CSV has: a list of tables, each with its data, columns, rows by metric, and notes."""
    documents = []
    for table in tables:
        data = table.data
        rows = []
        for row in table.rows:
            cells = {entry["metric"]: entry for entry in of_row(table, row)}
            first = next(iter(cells.values()), {})
            about = {key: first.get(key) for key in HEAD[HEAD.index("kind") : HEAD.index("metric")]}
            scores = {key: {name: entry[name] for name in HEAD[HEAD.index("mean") : HEAD.index("protocol")]} for key, entry in cells.items()}
            rows.append({"configuration": row.name, **about, "kind": row.kind, "model": row.model, "seeds": list(row.seeds), "scores": scores})
        documents.append(
            {
                "table": table.title,
                "data": data.get("name", ""),
                "simulated": table.simulated,
                "modalities": list(data.get("modalities", ())),
                "fingerprint": data.get("fingerprint", ""),
                "protocol": data.get("protocol", ""),
                "part": "(mean)" if table.averaged else data.get("part", ""),
                "columns": [{"metric": c.key, "higher_is_better": c.higher_is_better, "percent": c.percent} for c in table.columns],
                "rows": rows,
                "notes": list(table.notes),
            }
        )
    return json.dumps(finite(documents), indent=1, ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """The same with None for NaN, which JSON has not, and names without control characters."""
    if isinstance(value, Mapping):
        return {clean(str(key)): finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, str):
        return clean(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
