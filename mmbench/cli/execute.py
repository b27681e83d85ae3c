"""What the verbs that train share: runs are handed to the executor, and told of while they go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmbench.claims import Owner, clock, owner_of, take_over
from mmbench.cli.display import Display, Lines
from mmbench.cli.terminal import runs_of, say
from mmbench.errors import ConfigError
from mmbench.installing import how_to_install
from mmbench.queued import Queued

if TYPE_CHECKING:
    from mmbench.component import RunRequest
    from mmbench.resolve import Choice
    from mmbench.runner import Plan

PAUSE = 0.5
"""Seconds between two looks at the runs of others."""


@dataclass(frozen=True)
class Execution:
    """How many of the runs failed, or are another's that is silent, and how many were stopped. `stopping`: whether the user interrupted."""

    failed: int
    interrupted: int
    stopping: bool


def need_torch() -> None:
    """ConfigError where torch is not installed."""
    if find_spec("torch") is None:
        raise ConfigError(f"training needs torch, which is not installed: {how_to_install('mmbench[train]')}")


def prepare_encoders(folder: Path, device: str) -> int:
    """Get what the run of this folder shares with others: weights, and the features of frozen encoders. Returns the exit code."""
    say(f"encoders: getting weights and the features of frozen ones ({folder.parent.name})")
    command = [sys.executable, "-m", "mmbench.worker", str(folder), "--device", device, "--parent", str(os.getpid()), "--prepare"]
    return subprocess.run(command, check=False, stdout=2).returncode  # what libraries print there is no result


def take_over_runs(plan: Plan) -> None:
    """Take the runs of a plan from processes of other machines that have been silent for long; a line for each."""
    for row, seed, folder in plan.runs():
        if owner := take_over(folder):
            say(f"{row.name} seed {seed}: taken over from {owner}")


def execute(requests: Sequence[RunRequest], choice: Choice, display: Display | None = None) -> Execution:
    """Execute the runs with an executor, told of by `display` (default: lines). Ctrl-C asks them to stop after their step.

    Runs that other processes execute are waited for, and executed here if those end without a result.
    """
    from mmbench.tracking import choose

    choose(())  # those of the environment, which the runs inherit
    display = Lines(len(requests)) if display is None else display
    executor = choice.entry.load()(choice.config, display.epoch)
    for line in queued_elsewhere(requests, choice.entry.component.name):
        say(line, err=True)
    failed, interrupted, stopping = 0, 0, False

    def stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True
        executor.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    waiting, ready, told = Waiting(), list(requests), False
    while not stopping and (ready or waiting.runs):
        for outcome in executor.submit(ready):
            if outcome.status == "busy":
                waiting.runs.append(outcome.request)
                continue
            display.outcome(outcome)
            failed += outcome.status == "failed"
            interrupted += outcome.status == "interrupted"
        display.clear()
        ready, silent = waiting.look()
        failed += silent
        if waiting.runs and not ready:
            told = told or waiting.say()
            time.sleep(PAUSE)
    for number, handler in before.items():
        signal.signal(number, handler)
    display.clear()
    if stopping:
        were = "was" if interrupted == 1 else "were"
        say(f"Interrupted; {runs_of(interrupted)} {were} stopped. Finished ones are kept; the same command goes on from the last checkpoints.")
    return Execution(failed, interrupted, stopping)


def queued_elsewhere(requests: Sequence[RunRequest], executor: str) -> Iterator[str]:
    """A line where runs wait with another executor, which this command executes all the same."""
    notes = [note for run in requests if (note := Queued.read(run.folder)) and note.executor != executor and owner_of(run.folder) is None]
    if notes:
        first, number = notes[0], len(notes)
        runs, them = ("1 run is", "it") if number == 1 else (f"{number} runs are", "them")
        yield (
            f"{runs} queued elsewhere ({first}{' and others' * (number > 1)}); {executor} executes {them} now, and a job that comes to {them} later "
            "passes over what is done"
        )


class Waiting:
    """Runs that other processes execute."""

    def __init__(self) -> None:
        self.runs: list[RunRequest] = []
        self._owners: list[Owner] = []

    def look(self) -> tuple[list[RunRequest], int]:
        """Take out the runs that nobody executes any more, which are returned, and those whose processes on other machines have been silent for
        long, which are told of and counted."""
        now = cache(partial(clock, self.runs[0].folder)) if self.runs else time.time  # asked once, for a server is
        ready, left, silent = [], [], 0
        self._owners = []
        for run in self.runs:
            owner = owner_of(run.folder)
            state = owner.state(now) if owner else "gone"
            if owner is None or state == "gone":
                ready.append(run)
            elif state == "silent":
                silent += 1
                quiet = f"no sign of life for {owner.quiet(now())} from {owner}"
                say(f"{run.label}: {quiet}; if it is gone, the same command with --take-over goes on", err=True)
            else:
                left.append(run)
                self._owners.append(owner)
        self.runs = left
        return ready, silent

    def say(self) -> bool:
        """Tell who is waited for."""
        owners = list(dict.fromkeys(map(str, self._owners)))
        who = "; ".join(owners[:3]) + f"; and {len(owners) - 3} more" * (len(owners) > 3)
        say(f"waiting for {len(self.runs)} run{'s' * (len(self.runs) > 1)} that others execute ({who}); Ctrl-C ends the waiting")
        return True
