"""A folder of runs in which one value of one record is absurd, and everything that reads such a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.errors import shown
from mmbench.results import grid_formats
from mmbench.results.comparison_formats import matrices
from mmbench.results.comparison_formats import render as render_comparison
from mmbench.results.formats import FORMATS
from mmbench.results.grid import build_grids
from mmbench.results.page.details import Details
from mmbench.results.predictions import write_predictions
from mmbench.results.published_rows import with_published
from mmbench.results.rescore import rescore
from mmbench.results.runs import find_runs
from mmbench.results.status import status_lines
from mmbench.results.tables import build_tables, known_metrics, render

TARGET = np.array([-2.0, -1.0, 0.0, 1.0, 1.5, 3.0], np.float32)
IDS = tuple(f"video{index // 2}/{index}" for index in range(len(TARGET)))
ABSURD: tuple[Any, ...] = (
    None, "", "\x1b]52;c;cm0=\x07=cmd|' /C calc'!A0\u202e<script>\\input{x}$|[a](b)\n", "x" * 5000, "../../../etc/passwd", -1, 10**17, 1e308,
    float("inf"), float("nan"), True, [], {}, [[]], [{}], [None], ["\x1b[2J"], {"": None}, {"\x9b2J": {"a": [1]}}, {"name": [], "weight": {"a": {}}},
)  # fmt: skip


def record(name: str, seed: int) -> dict[str, Any]:
    """What a finished run says of itself."""
    scores = {"mae": 0.5 + 0.1 * seed, "corr": 0.4}
    return {
        "schema_version": 1,
        "status": "done",
        "reason": "",
        "experiment": "demo",
        "label": f"{name}-aa",
        "name": name,
        "model": name,
        "losses": [{"name": "mmbench-kit/mmd", "weight": {"mmd": [0.1, 0]}}],
        "floor": False,
        "adapters": [{"field": "common", "kind": "trained", "parameters": 3}],
        "seed": seed,
        "fingerprint": "aa",
        "family": "bb",
        "data": {
            "name": "mosi",
            "title": "CMU-MOSI",
            "task": "regression",
            "classes": [],
            "modalities": ["text", "audio"],
            "simulated": False,
            "simulation": {"seed": 1},
            "fingerprint": "f00d",
            "metrics": ["mae", "corr"],
            "splits": {"train": {"size": 9}, "valid": {"size": 6}, "test": {"size": 6, "fingerprint": "ab"}},
            "split_status": "published",
            "layout": "aligned",
            "extraction": {"extractors": {"text": {"name": "bert"}}},
            "protocol": "",
            "part": "",
            "parts": [],
            "protocol_title": "",
            "source": "/nowhere",
            "warnings": ["w"],
        },
        "metrics": {"valid": scores, "test": scores},
        "collapsed": False,
        "selection": {"metric": "mae", "value": 1.0, "epoch": 2},
        "gradients": {"task": 1.0},
        "epochs": 3,
        "parameters": 12345,
        "seconds": 75.0,
        "seconds_total": 80.0,
        "started": "2026-01-01T00:00:00+00:00",
        "peak_memory_mb": 500.0,
        "environment": {"host": "h", "python": "3.11", "packages": {"torch": "2"}},
        "warnings": ["a tracker"],
    }


def write(root: Path) -> dict[str, Path]:
    """Two configurations with two seeds each; by name the folder of the first seed."""
    for name in ("one", "two"):
        for seed in (1, 2):
            folder = root / "demo" / f"{name}-aa" / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(f"name: demo\nmodel: {{name: {name}}}\ndata: {{name: mosi}}\nlosses: []\nseeds: [{seed}]\n")
            (folder / "result.json").write_text(json.dumps(record(name, seed)))
            (folder / "epochs.jsonl").write_text('{"epoch": 1, "train": {"task": 1.0}, "valid": {"mae": 1.0}}\n')
            prediction = TARGET * np.float32(0.5) + np.float32(0.1 * seed)
            write_predictions(folder / "predictions.csv.gz", {"valid": (IDS, TARGET, prediction), "test": (IDS, TARGET, prediction)})
    return {name: root / "demo" / f"{name}-aa" / "seed-1" for name in ("one", "two")}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a document."""
    yield from [place] if place else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The same document with another value there."""
    copy = json.loads(json.dumps(document))
    here = copy
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    return copy


def _tables(root: Path) -> str:
    tables = build_tables(find_runs(root), draws=100)
    return "".join(render(with_published(tables), format) for format in FORMATS)


def _rescored(root: Path) -> str:
    records = [record for record in find_runs(root) if record.status == "done"]
    return "\n".join("; ".join(rescore(record, known_metrics(records)).differences) for record in records)


def _details(root: Path) -> str:
    records = find_runs(root)
    details = Details(known_metrics(records), 10)
    return "".join(json.dumps(details.document(record), allow_nan=False) for record in records) + json.dumps(details.shared(), allow_nan=False)


USES: dict[str, Callable[[Path], str]] = {
    "report": _tables,
    "report --grid": lambda root: "".join(grid_formats.render(build_grids(find_runs(root), "mae", draws=100), form) for form in grid_formats.FORMATS),
    "compare": lambda root: "".join(render_comparison(matrices(find_runs(root), (), 100, "video"), format) for format in FORMATS),
    "status": lambda root: shown("\n".join(status_lines(find_runs(root)))),  # as the verb prints them
    "score": _rescored,
    "report --html": _details,
}


def as_csv(use: str, root: Path) -> str:
    """What ``--format csv`` of a verb prints."""
    if use == "compare":
        return render_comparison(matrices(find_runs(root), (), 100, "video"), "csv")
    if use == "report --grid":
        return grid_formats.render(build_grids(find_runs(root), "mae", draws=100), "csv")
    return render(build_tables(find_runs(root), draws=100), "csv")
