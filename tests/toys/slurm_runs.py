"""Small runs for the tests of the executor."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from mmbench.component import RunOutcome, RunRequest
from mmbench.executors import LocalExecutor
from mmbench.resolve import load
from mmbench.runner import make_plan, prepare

LONG = {"epochs": 300, "optimizer": {"lr": 0.0001}}
"""Training that takes some seconds."""


def config(folder: Path, model: str = "linear", seeds: tuple[int, ...] = (1,), **training: Any) -> Path:
    """A config file of simulated data."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"name": "mosi", "simulated": True, "samples": 60}
    value = {"name": "trial", "data": data, "model": {"name": model}, "training": training, "seeds": list(seeds)}
    path = folder / f"{model}.yaml"
    path.write_text(json.dumps(value))
    return path


def requests(folder: Path, model: str = "linear", seeds: tuple[int, ...] = (1,), **training: Any) -> list[RunRequest]:
    """The prepared runs of a model alone, without the floors."""
    plan = make_plan(load(config(folder, model, seeds, **training)), folder / "runs", None, "cpu")
    return [run for run in prepare(plan, None)[0] if run.folder.parent.name.startswith(f"{model}-")]


def locally(runs: list[RunRequest]) -> list[RunOutcome]:
    """The runs, executed on this machine."""
    return list(LocalExecutor().submit(runs))


def epochs(run: RunRequest) -> int:
    """How many epochs a run has ended."""
    path = run.folder / "epochs.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def predictions(run: RunRequest) -> bytes:
    """What a run has predicted."""
    return gzip.decompress((run.folder / "predictions.csv.gz").read_bytes())
