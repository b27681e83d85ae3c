"""Synthetic run folders for the tests of `mmbench.results`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.metrics import evaluate
from mmbench.results.runs import write_predictions

METRICS = ("mae", "corr", "acc2_non0")
TARGET = np.array([-2.0, -1.0, -1.0, 0.0, 1.0, 1.5, 2.0, 3.0], np.float32)
IDS = tuple(f"video{index // 2}/{index}" for index in range(len(TARGET)))


def make_run(
    root: Path,
    name: str = "decalign",
    seed: int = 1,
    scores: dict[str, float | None] | None = None,
    prediction: np.ndarray | None = None,
    **changes: Any,
) -> Path:
    """A run folder; `scores` are put as test and validation scores, or computed from `prediction`. `changes` go into ``result.json``."""
    label = changes.pop("label", f"{name.split(':')[0]}-{sum(map(ord, name)):06x}")
    data = {
        "name": "mosi",
        "title": "CMU-MOSI",
        "task": "regression",
        "classes": [],
        "modalities": ["text", "audio"],
        "simulated": False,
        "fingerprint": "f00d",
        "metrics": list(METRICS),
        "splits": {"train": {"size": 1284}, "valid": {"size": 229}, "test": {"size": 8}},
    } | changes.pop("data", {})
    experiment = changes.get("experiment", "demo")
    folder = root / experiment / label / f"seed-{seed}"
    folder.mkdir(parents=True)
    prediction = TARGET * np.float32(0.5) + np.float32(0.1 * seed) if prediction is None else prediction
    if scores is None:
        scores = dict(evaluate(METRICS, prediction, TARGET))
    result = {
        "schema_version": 1,
        "status": "done",
        "reason": "",
        "experiment": experiment,
        "label": label,
        "name": name,
        "model": name.split(":")[0],
        "losses": [],
        "floor": False,
        "adapters": [],
        "seed": seed,
        "fingerprint": label.rpartition("-")[2],
        "data": data,
        "metrics": {"valid": scores, "test": scores},
        "collapsed": False,
        "selection": {"metric": "mae", "value": 1.0, "epoch": 3},
        "epochs": 5,
        "parameters": 12345,
        "seconds": 75.0,
        "peak_memory_mb": 500.0,
        "environment": {},
    } | changes
    (folder / "config.yaml").write_text("name: demo\n")
    (folder / "result.json").write_text(json.dumps(result))
    if result["status"] == "done":
        write_predictions(folder / "predictions.csv.gz", {"valid": (IDS, TARGET, prediction), "test": (IDS, TARGET, prediction)})
    return folder
