"""What both tools are told of a run, as flat names and plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mmbench.component import TrackedRun

Plain = bool | int | float | str


def title(run: TrackedRun) -> str:
    """Configuration and seed, marked where the data are made up."""
    return f"{run.name}, seed {run.seed}" + " (SIMULATED)" * run.simulated


def about(run: TrackedRun) -> dict[str, str]:
    """What identifies a run and its data."""
    found = {
        "experiment": run.experiment,
        "configuration": run.name,
        "model": run.model,
        "seed": run.seed,
        "data": run.data.get("title") or run.data.get("name"),
        "protocol": run.data.get("protocol"),
        "part": run.data.get("part"),
        "simulated": "SIMULATED" if run.simulated else "no",
        "fingerprint": run.label.rpartition("-")[2],
        "data fingerprint": run.data.get("fingerprint"),
        "device": run.device,
        "folder": "/".join(run.folder.parts[-3:]),  # not where it is on this machine
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Plain]:
    """A nested config with dotted names (``losses.0.weight``); what is None is left out, lists of plain values are JSON."""
    found: dict[str, Plain] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            found |= flat({str(index): item for index, item in enumerate(value)}, f"{name}.")
        elif isinstance(value, (bool, int, float, str)):
            found[name] = value
        elif value is not None:
            found[name] = json.dumps(value, default=str)
    return found


def outcome(result: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """The chosen epoch (0 where none was chosen), and the numbers of a run that is done: test scores, parameters, training time."""
    epoch = int(result.get("selection", {}).get("epoch", 0))
    if result["status"] != "done":
        return epoch, {}
    scores = {f"test/{name}": math.nan if value is None else float(value) for name, value in result["metrics"]["test"].items()}
    told = {
        "chosen/epoch": epoch,
        "chosen/value": result["selection"]["value"],
        "parameters": result["parameters"],
        "training_seconds": result["seconds"],
    }
    return epoch, scores | {name: float(value) for name, value in told.items()}
