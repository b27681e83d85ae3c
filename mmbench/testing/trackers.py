"""Checks of trackers. Imports no torch."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.component import TrackedRun
from mmbench.testing.checks import Subject, expect

USUAL = {"train/task": 1.5, "train/pull.near": 0.25, "gradient/task": 0.1, "valid/mae": 1.25, "valid/loss": 1.3, "lr": 1e-3, "seconds": 0.5}
UNUSUAL = {"train/task": math.inf, "valid/corr": math.nan, "valid/recall[happy & sad]": -math.inf, "train/Größe: 100 %": 0.0, "lr": 1e-300}
ENDS: dict[str, dict[str, Any]] = {
    "done": {
        "reason": "",
        "metrics": {"valid": {"mae": 1.25, "corr": math.nan}, "test": {"mae": 1.5, "corr": math.nan}},
        "selection": {"metric": "mae", "value": 1.25, "epoch": 1},
        "epochs": 2,
        "parameters": 1234,
        "seconds": 1.0,
        "collapsed": True,
    },
    "failed": {"reason": "task became nan in epoch 2; lower the learning rate"},
    "interrupted": {"reason": "stopped on request after a step"},
}


@contextmanager
def a_run() -> Iterator[TrackedRun]:
    """A run on simulated data, in a folder of its own that must stay as it is."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root).resolve() / "demo" / "mine-0123456789ab" / "seed-1"
        folder.mkdir(parents=True)
        config = {"name": "demo", "model": {"name": "mine", "width": 8, "layers": [1, 2]}, "losses": [{"name": "pull", "weight": 0.1}], "row": None}
        data = {"name": "mosi", "title": "CMU-MOSI", "task": "regression", "simulated": True, "fingerprint": "f00d"}
        yield TrackedRun(folder, "demo: 1/2", folder.parent.name, "mine + pull (0.1)", "mine", 1, config, data, "cpu")
        left = [path.name for path in folder.parent.glob("seed-*/*")]
        expect(not left, "that the run's own folder is left alone", ", ".join(left))


def course(subject: Subject) -> None:
    """It takes runs from their start to each way of ending, with epochs or none, and leaves the run's folder and random numbers alone."""
    before = random.getstate(), repr(np.random.get_state())
    with a_run() as run:  # and other seeds of it, beside one another
        for seed, (status, epochs) in enumerate(product(ENDS, (0, 2)), 2):
            folder = run.folder.with_name(f"seed-{seed}")
            folder.mkdir()
            _attempt(subject, replace(run, seed=seed, folder=folder), USUAL, epochs, status, ENDS[status])
    expect((random.getstate(), repr(np.random.get_state())) == before, "that the global random numbers are left alone", "others")


def values(subject: Subject) -> None:
    """It takes what is not finite, and names of scores and terms with any character."""
    with a_run() as run:
        _attempt(subject, run, USUAL | UNUSUAL, 2, "done", ENDS["done"])


def resumed(subject: Subject) -> None:
    """A run that was stopped or killed goes on with another instance, which hears of the earlier epochs again."""
    with a_run() as run:
        tracker = subject.entry.load()()
        tracker.run_start(run)
        tracker.epoch_end(run, 1, dict(USUAL))  # killed: it never hears of an end
        _attempt(subject, replace(run, resumed_from=1), USUAL, 2, "interrupted", ENDS["interrupted"])
        _attempt(subject, replace(run, resumed_from=2), USUAL, 3, "done", ENDS["done"])


def _attempt(subject: Subject, run: TrackedRun, values: dict[str, float], epochs: int, status: str, end: dict[str, Any]) -> None:
    tracker = subject.entry.load()()
    tracker.run_start(run)
    for epoch in range(1, epochs + 1):
        tracker.epoch_end(run, epoch, dict(values))
    tracker.run_end(run, {"status": status, "seed": run.seed, **end})
