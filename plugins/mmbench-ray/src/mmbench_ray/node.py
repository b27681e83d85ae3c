"""What happens on a node of the cluster: one run, by the local executor. Imports no ray."""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from mmbench.claims import take_over
from mmbench.component import RunOutcome, RunRequest
from mmbench.executors import LocalConfig, LocalExecutor, Queued

ENVIRONMENT = "MMBENCH_"
"""Variables of the command that go with its runs, by their beginning: trackers, caches, plugins."""
SEEN = 60.0
"""Seconds after which what one machine has written is seen on another; network file systems keep what they know of a folder for up to so long."""
LOOK = 0.5

Work = Mapping[str, Any]
"""What is the same for all runs of a command, in plain values: ``job``, ``shared``, ``versions``, ``environment``, ``timeout``, ..."""
Order = Mapping[str, Any]
"""One run: ``folder``, ``written``, ``label``, ``device``, ``threads``, ``processes``, ``cpus``, ``gpus``."""


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """What must be the same on all nodes: Python, and the versions of the distributions; an empty text for one that is missing."""
    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for name in distributions:
        found[name] = ""
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def execute(order: Order, work: Work) -> tuple[str, str]:
    """Execute a run on this machine, and return its status and reason; ``refused`` where this machine cannot stand for that of the command.

    Ray cancels a task by an interrupt of the main thread: the run then stops after its step.
    """
    if reason := different(work["versions"]) or unseen(Path(order["folder"]), work["job"] if work["shared"] else "", order["written"]):
        return "refused", f"node {platform.node()}: {reason}"
    os.environ.update(work["environment"])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray may block it for what it starts, and the run's process would inherit that
    executor = LocalExecutor(LocalConfig(jobs=1, timeout=work["timeout"]))
    run = RunRequest(Path(order["folder"]), order["label"], order["device"], order["threads"], order["processes"])
    outcomes: list[RunOutcome] = []
    thread = threading.Thread(target=lambda: outcomes.extend(executor.submit([run])), daemon=True)
    thread.start()
    while thread.is_alive():
        with suppress(KeyboardInterrupt):
            _wait(thread)
            break
        executor.stop()
    return (outcomes[0].status, outcomes[0].reason) if outcomes else ("interrupted", "stopped on request")


def _wait(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(LOOK)  # not longer: an interrupt is heard between two waits


def different(wanted: Mapping[str, str]) -> str:
    """What this machine has in other versions than the command's, and what to do; nothing where it has the same."""
    here = versions(name for name in wanted if name != "python")
    wrong = [name for name in wanted if here[name] != wanted[name]]
    if not wrong:
        return ""
    what = ", ".join(f"{name} is {here[name] or 'missing'} there and {wanted[name] or 'missing'} with this command" for name in wrong)
    return f"{what}; install the same there"


def written(folder: Path) -> int:
    """When the config of a run was written, in nanoseconds, as its file system tells all machines; 0 where there is none."""
    with suppress(OSError):
        return (folder / "config.yaml").stat().st_mtime_ns
    return 0


def unseen(folder: Path, job: str, config: int, patience: float = SEEN) -> str:
    """Why the folder of a run is not the one of the command; nothing where it is, or no job is named.

    The command has left the note of this job in it. Where that is gone, or another command has left its own since, the config tells: `written`.
    """
    deadline = time.monotonic() + patience
    while job and not ((note := Queued.read(folder)) and note.job == job) and not (config and written(folder) == config):
        if time.monotonic() > deadline:
            return f"the run folder {folder} is not seen there, or is another one; with --out, name a folder that all nodes share at the same path"
        time.sleep(LOOK)
    return ""


def release(folders: Iterable[str]) -> list[str]:
    """Remove the claims of processes that were on this machine and are gone, which only this machine can tell. Returns whose folders are free."""
    return [folder for folder in folders if take_over(Path(folder)) is not None]
