"""What runs that go on elsewhere tell through their folders: that is all that an executor of a cluster needs to hear of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmbench.component import Report, RunOutcome, RunRequest
from mmbench.errors import MmbenchError
from mmbench.files import parse_json, read_text
from mmbench.strict_yaml import MOST_TEXT, parse
from mmbench.worker import FINAL, stated

_END = 1 << 16
"""Bytes of the end of ``epochs.jsonl`` in which its last line is looked for."""


class Watch:
    """Looks at the folders of runs. `left`: the runs without a final result so far, by folder. `report` hears of their last epochs."""

    def __init__(self, runs: Iterable[RunRequest], report: Report | None = None):
        self.left = {run.folder: run for run in runs}
        self._report = report
        self._epochs: dict[Path, int] = {}
        self._told: dict[Path, tuple[int, str]] = {}

    def look(self) -> Iterator[RunOutcome]:
        """The runs that are done or failed since the last look."""
        for run in list(self.left.values()):
            status, reason = stated(run.folder)
            if self._report is not None:
                self._epoch(run, self._report)
            if status in FINAL:
                del self.left[run.folder]
                yield RunOutcome(run, status, reason)

    def _epoch(self, run: RunRequest, report: Report) -> None:
        last = last_epoch(run.folder)
        if last is None or self._epochs.get(run.folder) == last["epoch"]:
            return
        if run.folder not in self._told:
            self._told[run.folder] = _plan(run.folder)
        self._epochs[run.folder] = last["epoch"]
        of, metric = self._told[run.folder]
        report(run, {"epoch": last["epoch"], "of": of, "metric": metric, "value": last["valid"].get(metric)})


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


def _plan(folder: Path) -> tuple[int, str]:
    """How many epochs a run has at most, and the metric that chooses among them."""
    try:
        training = parse(read_text(folder / "config.yaml", MOST_TEXT), str(folder)).value["training"]
        return int(training["epochs"]), str(training["select"])
    except (OSError, MmbenchError, ValueError, LookupError, TypeError):
        return 0, ""
