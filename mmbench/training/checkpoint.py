"""Checkpoints: files written atomically, read with ``weights_only=True``. Random streams start anew each epoch, so none is stored.

A run has two: ``last.pt``, from which it goes on, and ``best.pt`` with the chosen weights.
"""

from __future__ import annotations

import copy
import math
import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from mmbench.config import NUMBERS
from mmbench.data.array_files import check_archive
from mmbench.errors import RunError
from mmbench.files import write
from mmbench.plugins import one_line
from mmbench.training.network import Network
from mmbench.training.optim import Schedule

PAUSE = 100.0
"""Writing rests for this many times as long as it took, so that it is at most 1 % of a run."""


class Checkpoints:
    """The two files of a run, written at the end of an epoch once the pause since the last writing is over, and at the end of training.

    A run that dies goes on from the last epoch that was written and comes to the same numbers, so the clock decides what is lost and nothing else.
    Chosen weights that are not written yet wait in memory. Of several processes of a run, one `writes`; all read.
    """

    def __init__(
        self, folder: Path, fingerprint: str, network: Network, optimizer: Any = None, schedule: Schedule | None = None, writes: bool = True
    ):
        self.last, self.best = folder / "last.pt", folder / "best.pt"
        self.fingerprint, self.network, self.optimizer, self.schedule = fingerprint, network, optimizer, schedule
        self.writes = writes
        self._chosen: dict[str, Any] | None = None
        self._written = 0
        self._due = -math.inf

    def resume(self, device: torch.device) -> dict[str, Any]:
        """Restore what ``last.pt`` holds; returns the progress, empty where there is no such file."""
        for left in self.last.parent.glob(".*.tmp") if self.writes else ():  # what a killed attempt was writing
            left.unlink(missing_ok=True)
        if not self.last.is_file():
            return {}
        progress = load_checkpoint(self.last, self.fingerprint, self.network, self.optimizer, self.schedule, device, NUMBERS)
        self._written = progress["epoch"]
        return progress

    def epoch_end(self, progress: dict[str, Any], improved: bool) -> bool:
        """An epoch has ended, and, where it `improved`, its weights are the chosen ones. Returns whether the files hold them now."""
        if not self.writes:
            return False
        due = time.perf_counter() >= self._due
        if improved:
            weights = self.network.state_dict()
            chosen = {"epoch": progress["epoch"]}
            self._chosen = {"fingerprint": self.fingerprint, "network": weights if due else copy.deepcopy(weights), "progress": chosen}
        if due:
            self.write(progress)
        return due

    def write(self, progress: dict[str, Any]) -> None:
        """Write the state after an epoch, unless it is written. ``best.pt`` comes first: what an older ``last.pt`` repeats leads to it again."""
        if progress["epoch"] == self._written or not self.writes:
            return
        started = time.perf_counter()
        if self._chosen is not None:
            _save(self.best, self._chosen)
            self._chosen = None
        state = {
            "fingerprint": self.fingerprint,
            "numbers": NUMBERS,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "progress": progress,
        }
        _save(self.last, state)
        self._written = progress["epoch"]
        now = time.perf_counter()
        self._due = now + PAUSE * (now - started)

    def load_best(self, device: torch.device, epoch: int) -> None:
        """Give the network the chosen weights. RunError: they are of another epoch than the chosen one.

        That is so where a run died between the two files, and the epochs that it then repeated came to other numbers, as on another device.
        """
        held = load_checkpoint(self.best, self.fingerprint, self.network, device=device).get("epoch", epoch)
        if held != epoch:
            raise RunError(f"{self.best}: holds epoch {held} of an attempt that was killed, not the chosen {epoch}; start anew with --rerun failed")


def _save(path: Path, state: dict[str, Any]) -> None:
    write(path, lambda file: torch.save(state, file))


def load_checkpoint(
    path: Path,
    fingerprint: str,
    network: Network,
    optimizer: Any = None,
    schedule: Schedule | None = None,
    device: torch.device | str = "cpu",
    numbers: int | None = None,
) -> dict[str, Any]:
    """Restore what `Checkpoints` wrote; returns the progress. Raises `RunError` for a damaged file, one of another experiment, or other `numbers`."""
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:  # torch compares no checksums
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {damaged} is another")
        state = torch.load(path, map_location=device, weights_only=True)
        if state["fingerprint"] != fingerprint:
            raise RunError(f"{path}: belongs to the experiment {state['fingerprint']}, not {fingerprint}; remove the folder or choose another --out")
        if numbers is not None and (held := state.get("numbers", 0)) != numbers:
            raise RunError(f"{path}: is of a version with other numbers ({held}, here {numbers}); start anew with --rerun failed")
        network.load_state_dict(state["network"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
    except RunError:
        raise
    except Exception as error:
        raise RunError(f"{path}: the checkpoint cannot be read ({one_line(error)[:200]}); start the run anew with --rerun failed") from error
    return state.get("progress") or {}
