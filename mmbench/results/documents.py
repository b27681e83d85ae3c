"""Tables, states and comparisons of runs as JSON documents, for scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmbench.results.cells import Cell, Table
from mmbench.results.repeat import ALIKE, Comparison
from mmbench.results.runs import RunRecord


def table_document(table: Table) -> dict[str, Any]:
    """A table with every score as a number: fractions stay fractions, what is not defined is null."""
    return {
        "title": table.title,
        "simulated": table.simulated,
        "columns": [{"score": column.key, "higher_is_better": column.higher_is_better} for column in table.columns],
        "rows": [
            {
                "name": row.name,
                "kind": row.kind,
                "experiment": row.experiment,
                "label": row.label,
                "done": row.done,
                "total": row.total,
                "seeds": list(row.seeds),
                "scores": {key: _cell(cell) for key, cell in row.cells.items()},
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {"mean": cell.mean, "sd": cell.sd, "n": cell.n, "best": cell.best, "second": cell.second}


def status_document(records: Iterable[RunRecord]) -> list[dict[str, Any]]:
    """The state of each run."""
    return [
        {
            "folder": str(record.folder),
            "experiment": record.experiment,
            "label": record.label,
            "name": record.name,
            "part": record.part,
            "seed": record.seed,
            "floor": record.floor,
            "status": record.status,
            "reason": record.reason,
            "owner": record.owner,
            "warnings": list(record.warnings),
        }
        for record in records
    ]


def comparison_document(old: RunRecord, new: RunRecord, comparison: Comparison | None) -> dict[str, Any]:
    """A run and its repetition, which is not compared where it is not done."""
    found: dict[str, Any] = {
        "run": old.title,
        "seed": old.seed,
        "before": str(old.folder),
        "now": str(new.folder),
        "status": new.status,
        "reason": new.reason,
        "same": comparison is not None and comparison.equal,
    }
    if comparison is None:
        return found
    return found | {
        "facts": [f"{name}: {text}" for name, text in comparison.facts],
        "scores": [{"score": score.column.key, "before": score.old, "now": score.new, "same": score.equal} for score in comparison.scores],
        "predictions": comparison.predictions,
        "bit_identical": comparison.predictions == ALIKE,
    }
