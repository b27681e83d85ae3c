"""What the verbs that train share: runs are handed to the executor, and told of while they go."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmbench.errors import ConfigError

if TYPE_CHECKING:
    from mmbench.component import RunRequest


@dataclass(frozen=True)
class Execution:
    """How many of the runs failed, and how many were stopped. `stopping`: whether the user interrupted."""

    failed: int
    interrupted: int
    stopping: bool


def need_torch() -> None:
    """ConfigError where torch is not installed."""
    if find_spec("torch") is None:
        raise ConfigError("training needs torch, which is not installed: pip install 'mmbench[train]'")


def prepare_encoders(folder: Path, device: str) -> int:
    """Get what the run of this folder shares with others: weights, and the features of frozen encoders. Returns the exit code."""
    click.echo(f"encoders: getting weights and the features of frozen ones ({folder.parent.name})")
    return subprocess.run([sys.executable, "-m", "mmbench.worker", str(folder), "--device", device, "--prepare"], check=False).returncode


def execute(requests: Sequence[RunRequest], jobs: int | None) -> Execution:
    """Execute the runs with the local executor, a line for each on the terminal. Ctrl-C asks them to stop after their step."""
    from mmbench.plugins import catalogue
    from mmbench.tracking import choose

    choose(())  # those of the environment, which the runs inherit
    display = Display(len(requests))
    executor = catalogue().find("executor", "local").load()(jobs, display.epoch)
    before = {number: signal.signal(number, lambda *_: executor.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    failed = interrupted = 0
    for outcome in executor.submit(requests):
        display.outcome(outcome)
        failed += outcome.status == "failed"
        interrupted += outcome.status == "interrupted"
    for number, handler in before.items():
        signal.signal(number, handler)
    if executor.stopping:
        click.echo(f"Interrupted; {interrupted} runs were stopped. Finished ones are kept; the same command goes on from the last checkpoints.")
    return Execution(failed, interrupted, executor.stopping)


class Display:
    """One line per finished run; on a terminal, a last line with what is running."""

    def __init__(self, total: int):
        self.total = total
        self.finished = 0
        self.running: dict[Path, str] = {}
        self.last: dict[Path, dict[str, Any]] = {}
        self.started: dict[Path, float] = {}
        self.live = sys.stdout.isatty()

    def epoch(self, request: Any, told: dict[str, Any]) -> None:
        """Hear of an epoch of a run."""
        self.started.setdefault(request.folder, time.time())
        self.last[request.folder] = told
        self.running[request.folder] = f"{request.label} {told['epoch']}/{told['of']}"
        if self.live:
            line = " | ".join(self.running.values())
            width = shutil.get_terminal_size()[0]
            click.echo(f"\r\033[K{line[: width - 1]}", nl=False)

    def outcome(self, outcome: Any) -> None:
        """Hear of the end of a run."""
        self.finished += 1
        folder = outcome.request.folder
        self.running.pop(folder, None)
        told = self.last.get(folder)
        detail = ""
        if told:
            value = told["value"]
            shown = "n/a" if value is None else f"{value:.4g}"
            detail = f"  epoch {told['epoch']}/{told['of']}  valid {told['metric']} {shown}  {time.time() - self.started[folder]:.1f} s"
        reason = f"  {outcome.reason}" if outcome.reason else ""
        clear = "\r\033[K" if self.live else ""
        click.echo(f"{clear}[{self.finished}/{self.total}] {outcome.request.label}  {outcome.status}{detail}{reason}")
