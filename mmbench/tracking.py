"""The trackers of a run: loaded where they are asked for, told of each epoch, and switched off where they fail. Imports no torch.

They are no part of the config, since no number depends on them: ``mmbench run --track NAME`` puts their names into `VARIABLE`, which the processes
of the runs inherit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

from mmbench.component import TrackedRun, Tracker
from mmbench.errors import PluginError, shown
from mmbench.installing import how_to_install
from mmbench.plugins import Catalogue, catalogue, one_line

VARIABLE = "MMBENCH_TRACKERS"
GRADIENT = "gradient."


def names(given: Iterable[str] = ()) -> list[str]:
    """The trackers that are asked for: those given, or those of the environment, ``MMBENCH_TRACKERS=tensorboard,mlflow``."""
    found = list(given) or os.environ.get(VARIABLE, "").split(",")
    return list(dict.fromkeys(name.strip() for name in found if name.strip()))


def choose(given: Iterable[str]) -> None:
    """Have the runs that this process starts tracked. Raises `PluginError` where a tracker is unknown or cannot be loaded."""
    chosen = names(given)
    load(chosen)
    os.environ[VARIABLE] = ",".join(chosen)


def load(chosen: Iterable[str], known: Catalogue | None = None) -> dict[str, Callable[[], Tracker]]:
    """The classes of trackers by name. PluginError: unknown, a package is missing (with the command that installs it), or broken."""
    known = known or catalogue()
    found = {}
    for name in chosen:
        if not known.of_kind("tracker"):
            ours = how_to_install("mmbench-trackers[tensorboard,mlflow]")
            raise PluginError(f"tracker {name!r}: no tracker is installed. TensorBoard and MLflow come with: {ours}")
        entry = known.find("tracker", name)
        missing = [package for package in entry.component.extras if find_spec(package) is None]
        if missing:
            raise PluginError(f"tracker {name!r} needs the package {missing[0]!r}: {entry.component.how_to_install(missing[0])}")
        found[name] = entry.load()
    return found


class Tracking:
    """What one run tells its trackers. One that raises is named in `warnings` and told no more; the run never hears of it."""

    def __init__(self, classes: Mapping[str, Callable[[], Tracker]] | None = None):
        self.classes = classes or {}
        self.trackers: dict[str, Tracker] = {}
        self.warnings: list[str] = []
        self.run: TrackedRun | None = None
        self.told = 0

    def start(self, run: TrackedRun, history: Sequence[Mapping[str, Any]]) -> None:
        """Training starts, after the epochs that earlier attempts finished."""
        self.run = deepcopy(run)  # theirs to spoil
        for name, build in self.classes.items():
            with self._guard(name, "be started"):
                self.trackers[name] = build()
                self.trackers[name].run_start(self.run)
        self.epochs(history)

    def epochs(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Tell of those epochs of the run that have not been told."""
        for entry in history[self.told :]:
            for name, tracker in list(self.trackers.items()):
                with self._guard(name, f"write epoch {entry['epoch']}"):
                    tracker.epoch_end(self.run, entry["epoch"], values(entry))  # type: ignore[arg-type]  # no tracker without a run
        self.told = len(history)

    def end(self, result: Mapping[str, Any]) -> None:
        """The run has ended. Of one that failed before training no tracker has heard."""
        for name, tracker in list(self.trackers.items()):
            with self._guard(name, "write the end of the run"):
                tracker.run_end(self.run, deepcopy(dict(result)))  # type: ignore[arg-type]

    @contextmanager
    def _guard(self, name: str, what: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            self.trackers.pop(name, None)
            self.warnings.append(f"tracker {name!r} could not {what} and is switched off for this run: {one_line(error)[:300]}")
            print(shown(f"warning: {self.warnings[-1]}"), file=sys.stderr, flush=True)


def values(entry: Mapping[str, Any]) -> dict[str, float]:
    """What an epoch's entry in ``epochs.jsonl`` says, flat: ``train/task``, ``gradient/task``, ``valid/mae``, ``lr``, ``seconds``."""
    found = {}
    for name, value in entry["train"].items():
        key = f"gradient/{name.removeprefix(GRADIENT)}" if name.startswith(GRADIENT) else f"train/{name}"
        found[key] = float(value)
    found |= {f"valid/{name}": float(value) for name, value in entry["valid"].items()}
    return found | {name: float(entry[name]) for name in ("lr", "seconds")}
