"""How far a run has come, as the files of its folder tell: whoever executes it, and wherever."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmbench.errors import MmbenchError
from mmbench.files import parse_json, read_text
from mmbench.strict_yaml import MOST_TEXT, parse

_END = 1 << 16
"""Bytes of the end of ``epochs.jsonl`` in which its last line is looked for."""


def last_epoch(folder: Path) -> dict[str, Any] | None:
    """The last whole line of a run's ``epochs.jsonl``; nothing where there is none."""
    try:
        with open(folder / "epochs.jsonl", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END))
            lines = file.read().rpartition(b"\n")[0].splitlines()
        line = parse_json(lines[-1].decode()) if lines else None
    except (OSError, ValueError):
        return None
    whole = isinstance(line, dict) and isinstance(line.get("epoch"), int) and isinstance(line.get("valid"), dict)
    return line if whole else None


def planned(folder: Path) -> tuple[int, str]:
    """How many epochs a run has at most, and the metric that chooses among them."""
    try:
        training = parse(read_text(folder / "config.yaml", MOST_TEXT), str(folder)).value["training"]
        return int(training["epochs"]), str(training["select"])
    except (OSError, MmbenchError, ValueError, LookupError, TypeError, OverflowError):
        return 0, ""


def in_words(told: dict[str, Any]) -> str:
    """``epoch 3/40  valid mae 0.912``, of ``{"epoch": 3, "of": 40, "metric": "mae", "value": 0.912}``."""
    if not told["of"]:  # its config cannot be read
        return f"epoch {told['epoch']}"
    value = told.get("value")
    number = f"{value:.4g}" if isinstance(value, (int, float)) else "n/a"
    return f"epoch {told['epoch']}/{told['of']}  valid {told.get('metric')} {number}"


def told_of(last: dict[str, Any], plan: tuple[int, str]) -> dict[str, Any]:
    """An epoch as displays are told of it."""
    of, metric = plan
    return {"epoch": last["epoch"], "of": of, "metric": metric, "value": last["valid"].get(metric)}
