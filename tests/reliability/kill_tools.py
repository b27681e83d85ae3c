"""What the tests of killed processes share: a client of `fork_server`, undisturbed runs to compare with, and what must hold of a run folder."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmbench.errors import MmbenchError
from mmbench.files import without_nan
from mmbench.resolve import Resolved
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import read_result
from mmbench.runner import make_plan, prepare
from mmbench.strict_yaml import load_document

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
HARMLESS = {"claim", "log.txt"}
COMPARED = ("status", "metrics", "selection", "gradients", "epochs", "parameters", "collapsed", "losses", "adapters", "fingerprint")
TINY = {"width": 8, "heads": 2, "layers": 1, "hidden": 4, "rank": 2, "feed_forward": 8, "text_width": 8, "fusion_width": 8, "subnet_width": 8}


class Forks:
    """The server; one order at a time."""

    def __init__(self, environment: dict[str, str], folder: Path):
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
        self.orders = 0

    def __call__(self, *arguments: object, log: Path | None, **order: Any) -> dict[str, Any]:
        """Carry out an order (see `fork_server`) and return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.orders += 1
        usual = {"signal": None, "after": None, "step": None, "folder": None, "pause": None, "environment": {}}
        order = {**usual, **order, "arguments": list(map(str, arguments)), "log": None if log is None else str(log)}
        self.process.stdin.write(json.dumps(order, default=str) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Planned:
    """A run below a folder, which is planned as each command does."""

    def __init__(self, resolved: Resolved, out: Path):
        self.plan = make_plan([resolved], out, None, "cpu")
        self.folder = self.plan.rows[0].folder / "seed-1"
        assert self.remains()

    def remains(self) -> bool:
        """Plan it once more; whether it is still to be executed."""
        return any(request.folder == self.folder for request in prepare(self.plan, None)[0])


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing has disturbed, and how many seconds it took."""

    resolved: Resolved
    folder: Path
    seconds: float


def epochs(path: Path) -> list[dict[str, Any]]:
    """The epochs of a log, without their times. What a crash cut off at its end is left out; damage elsewhere is an error."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint as the worker reads it."""
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def damage(folder: Path, undisturbed: Undisturbed) -> list[str]:
    """What in a run folder, whenever its process died, is neither absent, nor complete, nor an older complete version.

    Each file is read as those read it who use it, and held against the epochs of the undisturbed run.
    """
    known = epochs(undisturbed.folder / "epochs.jsonl")
    fingerprint = folder.parent.name.rpartition("-")[2]
    found = []

    def state(path: Path) -> dict[str, Any]:
        state = checkpoint(path)
        assert state["fingerprint"] == fingerprint, state["fingerprint"]
        return state

    def last(path: Path) -> None:
        progress = state(path)["progress"]
        history = [{key: value for key, value in without_nan(entry).items() if key != "seconds"} for entry in progress["history"]]
        assert len(history) == progress["epoch"]
        assert history == known[: len(history)]

    def best(path: Path) -> None:
        assert known[state(path)["progress"]["epoch"] - 1]["best"]

    def log(path: Path) -> None:
        lines = epochs(path)
        assert lines == known[: len(lines)]

    def result(path: Path) -> None:
        record = read_result(path.parent)
        assert record.status in ("done", "interrupted"), f"{record.status}: {record.reason}"
        if record.status == "done":
            assert {"best.pt", "epochs.jsonl", NAME} <= {path.name for path in folder.iterdir()}, "done, and files are missing"

    readers = {"config.yaml": load_document, "last.pt": last, "best.pt": best, "epochs.jsonl": log, "result.json": result, NAME: read_predictions}
    for path in sorted(folder.iterdir()):
        name = path.name
        if name in readers:
            try:
                readers[name](path)
            except (AssertionError, MmbenchError, OSError, ValueError, LookupError, RuntimeError) as error:
                found.append(f"{name}: {type(error).__name__}: {error}")
        elif name not in HARMLESS and not name.startswith(".claim-") and not (name.startswith(".") and name.endswith(".tmp")):
            found.append(f"{name}: is not known")
    return found


def same(first: Any, second: Any) -> bool:
    """Equality of nested states, of tensors bit by bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.dtype == second.dtype and first.shape == second.shape and first.numpy().tobytes() == second.numpy().tobytes()
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second or (isinstance(first, float) and isinstance(second, float) and math.isnan(first) and math.isnan(second)))


def differences(folder: Path, undisturbed: Undisturbed) -> list[str]:
    """In what a finished run differs from the undisturbed one, times and places apart."""
    found = damage(folder, undisturbed)
    if found:
        return found
    other = undisturbed.folder
    names, expected = ({path.name for path in place.iterdir() if not path.name.startswith(".claim-")} - HARMLESS for place in (folder, other))
    if left := names ^ expected:
        return [f"{', '.join(sorted(left))}: there and not there"]
    if (folder / NAME).read_bytes() != (other / NAME).read_bytes():
        found.append("other predictions")
    if not same(checkpoint(folder / "best.pt"), checkpoint(other / "best.pt")):
        found.append("other weights")
    if epochs(folder / "epochs.jsonl") != epochs(other / "epochs.jsonl"):
        found.append("other epochs")
    first, second = (json.loads((place / "result.json").read_text()) for place in (folder, other))
    return found + [f"result.json: {key}" for key in COMPARED if first.get(key) != second.get(key)]
