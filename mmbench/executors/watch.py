"""What runs that go on elsewhere tell through their folders: that is all that an executor of a cluster needs to hear of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mmbench.component import Report, RunOutcome, RunRequest
from mmbench.progress import last_epoch, planned, told_of
from mmbench.worker import FINAL, stated


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
            self._told[run.folder] = planned(run.folder)
        self._epochs[run.folder] = last["epoch"]
        report(run, told_of(last, self._told[run.folder]))
