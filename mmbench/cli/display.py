"""How the runs of a command are told of while they go: lines for people, lines of JSON for scripts, or failures alone."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

import click

from mmbench.cli.terminal import say
from mmbench.component import RunOutcome, RunRequest
from mmbench.errors import shown
from mmbench.files import without_nan
from mmbench.progress import in_words
from mmbench.results.text import duration, width

REDRAW = 0.1
"""Seconds between two drawings: more often nobody can read."""
SHORTEST = 12
"""Columns of a run's name that are always shown."""


class Display(Protocol):
    """Hears of what the runs of a command do."""

    def epoch(self, request: RunRequest, told: dict[str, Any]) -> None:
        """An epoch of a run has ended."""
        ...

    def outcome(self, outcome: RunOutcome) -> None:
        """A run has ended."""
        ...

    def clear(self) -> None:
        """Something else is about to be printed."""
        ...


class Course:
    """What is known of one run that goes on."""

    def __init__(self, label: str, told: dict[str, Any], now: float):
        self.label, self.told, self.first, self.started, self.latest = label, told, told["epoch"], now, now

    def hear(self, told: dict[str, Any], now: float) -> None:
        """Another epoch has ended."""
        self.told, self.latest = told, now

    @property
    def left(self) -> float | None:
        """Seconds until its last epoch, if no early stopping ends it before; None where two epochs have not been seen yet."""
        seen = self.told["epoch"] - self.first
        if seen < 1 or not self.told["of"]:
            return None
        return float((self.latest - self.started) / seen * max(0, self.told["of"] - self.told["epoch"]))

    @property
    def state(self) -> str:
        """``epoch 3/40  valid mae 0.912``."""
        return in_words(self.told)


class Lines:
    """A line for each run that has ended; on a terminal, below them one for each that goes on, and when all may be done."""

    def __init__(self, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self.total, self.finished = total, 0
        self.running: dict[Path, Course] = {}
        self._stream, self._clock = stream or sys.stdout, clock
        self._live = self._stream.isatty()
        self._drawn, self._last = 0, 0.0
        self._seconds: list[float] = []

    def epoch(self, request: RunRequest, told: dict[str, Any]) -> None:
        """Hear of an epoch of a run."""
        now = self._clock()
        if request.folder in self.running:
            self.running[request.folder].hear(told, now)
        else:
            self.running[request.folder] = Course(request.label, told, now)
        if self._live and now - self._last >= REDRAW:
            self._draw()

    def outcome(self, outcome: RunOutcome) -> None:
        """Hear of the end of a run."""
        self.finished += 1
        course = self.running.pop(outcome.request.folder, None)
        detail = ""
        if course is not None:
            seconds = self._clock() - course.started
            self._seconds.append(seconds)
            took = f"  {seconds:.1f} s" if seconds >= 0.05 else ""  # nothing where it was heard of with its end, as from elsewhere
            detail = f"  {course.state}{took}"
        reason = f"  {outcome.reason}" if outcome.reason else ""
        self.clear()
        say(f"[{self.finished}/{self.total}] {outcome.request.label}  {outcome.status}{detail}{reason}")
        if self._live:
            self._draw()

    def clear(self) -> None:
        """Take away the lines of what goes on."""
        if self._drawn:
            self._stream.write(f"\033[{self._drawn}A\r\033[J")
            self._stream.flush()
            self._drawn = 0

    def _draw(self) -> None:
        """Put the lines in the place of those that were there, in one writing, so that nothing flickers."""
        size = shutil.get_terminal_size()
        lines = self._texts(size.columns - 1, max(1, size.lines - 2)) if self.running else []
        up = f"\033[{self._drawn}A\r" if self._drawn else ""
        self._stream.write(up + "".join(f"{line}\033[K\n" for line in lines) + "\033[J")
        self._stream.flush()
        self._drawn, self._last = len(lines), self._clock()

    def _texts(self, columns: int, rows: int) -> list[str]:
        courses = list(self.running.values())
        named = courses if len(courses) < rows else courses[: max(0, rows - 2)]
        states = [f"{course.state}{f'  {duration(course.left)} left' if course.left else ''}" for course in named]
        room = max(SHORTEST, columns - max(map(len, states), default=0) - 2)
        labels = [_middle_cut(shown(course.label), room) for course in named]
        wide = max(map(width, labels), default=0)
        lines = [f"{label}{' ' * (wide - width(label))}  {state}" for label, state in zip(labels, states, strict=True)]
        if len(named) < len(courses):
            lines.append(f"and {len(courses) - len(named)} more")
        left = self.left
        lines.append(f"{self.finished} of {self.total} runs have ended" + (f", about {duration(left)} left" if left else ""))
        return [_cut(line, columns) for line in lines]

    @property
    def left(self) -> float | None:
        """Seconds until all runs may be done, where that can be told: what goes on, and as long for each that waits as others took."""
        known = [course.left for course in self.running.values() if course.left is not None]
        if not known or len(known) < len(self.running):
            return None
        whole = self._seconds or [course.latest - course.started + left for course, left in zip(self.running.values(), known, strict=True)]
        waiting = self.total - self.finished - len(self.running)
        return (sum(known) + waiting * sum(whole) / len(whole)) / len(known)


class Failures:
    """Nothing but the runs that did not come about, on standard error."""

    def epoch(self, request: RunRequest, told: dict[str, Any]) -> None:
        """Nothing is told of epochs."""

    def outcome(self, outcome: RunOutcome) -> None:
        """Tell of a run that failed or was stopped."""
        if outcome.status != "done":
            say(f"{outcome.request.label}  {outcome.status}  {outcome.reason}", err=True)

    def clear(self) -> None:
        """There is nothing to take away."""


class Events:
    """A JSON object on a line for each epoch and each run that has ended."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def tell(self, event: str, **values: Any) -> None:
        """Write one event."""
        self._stream.write(json.dumps({"event": event, **without_nan(values)}, ensure_ascii=True, default=str) + "\n")
        self._stream.flush()

    def tables(self, folder: Path) -> None:
        """``{"event": "tables", "folder": ..., "tables": [...]}``: what is printed otherwise, with every score as a number."""
        from mmbench.results.documents import table_document
        from mmbench.results.runs import find_runs
        from mmbench.results.tables import build_tables

        self.tell("tables", folder=folder, tables=[table_document(table) for table in build_tables(find_runs(folder))])

    def epoch(self, request: RunRequest, told: dict[str, Any]) -> None:
        """``{"event": "epoch", "run": ..., "folder": ..., "epoch": 3, "of": 40, "metric": "mae", "value": 0.9}``."""
        self.tell("epoch", run=request.label, folder=request.folder, **{key: told.get(key) for key in ("epoch", "of", "metric", "value")})

    def outcome(self, outcome: RunOutcome) -> None:
        """``{"event": "run", "run": ..., "folder": ..., "status": "done", "reason": ""}``."""
        self.tell("run", run=outcome.request.label, folder=outcome.request.folder, status=outcome.status, reason=outcome.reason)

    def clear(self) -> None:
        """There is nothing to take away."""


def display_of(quiet: bool, as_json: bool) -> tuple[Display | None, Events | None]:
    """What ``--quiet`` and ``--json`` ask for: how runs are told of (None: lines), and where events go. UsageError: both."""
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other")
    events = Events(sys.stdout) if as_json else None
    return events or (Failures() if quiet else None), events


def _cut(text: str, columns: int) -> str:
    """The beginning of a text that fits into so many columns."""
    used = 0
    for place, char in enumerate(text):
        used += width(char)
        if used > columns:
            return text[:place]
    return text


def _middle_cut(text: str, columns: int) -> str:
    """A text that fits: its middle is left out, since the seed stands at its end."""
    if width(text) <= columns:
        return text
    half = (columns - 1) // 2
    end = text[::-1]
    return f"{_cut(text, columns - 1 - half)}…{_cut(end, half)[::-1]}"
