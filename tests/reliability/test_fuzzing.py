"""Fuzzing: bytes and values that nobody chose.

Each target of `fuzz_targets` is fed with a few dozen examples here, always the same ones; the long form feeds each for minutes, with new ones. A try
is one example, and survives where nothing but the project's own errors comes out, within the seconds and the memory below, and what was read is
right: finite, of one size, equal when it is written and read again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from . import fuzz_targets_beyond  # noqa: F401  (joins the table)
from .fuzz_targets import TARGETS, Target

pytestmark = pytest.mark.reliability

SECONDS = 10
"""Of processor time that an example may take."""
MEMORY = 2 << 30
"""Bytes that an example may map beyond what the process has."""
RESIDENT = 512 << 10
"""Kilobytes by which the process may grow over all examples of a target."""
MANY = 20_000
"""Examples of one round of the long form."""
LONG = float(os.environ.get("MMBENCH_FUZZ_SECONDS", "150"))
"""Seconds for each target in the long form."""
ALL = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
    HealthCheck.function_scoped_fixture,
]


class TooSlowError(BaseException):
    """No reader may catch it."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Ends what takes too long; memory beyond the limit is refused to it."""

    def late(*_: Any) -> None:
        raise TooSlowError(f"more than {SECONDS} s of processor time")

    before, limits = signal.signal(signal.SIGVTALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, 1)  # again, should the first have come where Python ignores it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def tried(target: Target, value: Any, folder: Path) -> None:
    """One example in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with bounded():
        said = "it was read"
        try:
            target.read(value, folder)
        except target.errors as error:
            said = str(error)
        except TooSlowError as error:
            raise AssertionError(str(error)) from None
    assert said.strip(), "an error without a word"


class EnoughError(BaseException):
    """The time of the long form is over."""


@pytest.mark.parametrize("name", [*TARGETS])
def test_nothing_but_a_value_or_one_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Any, tally: Any) -> None:
    target = TARGETS[name]
    for module in target.needs:
        pytest.importorskip(module)
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    seconds, count = times(0.0, LONG), 0
    until, first = time.monotonic() + seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def once(value: Any) -> None:
        nonlocal count
        if seconds and time.monotonic() > until:
            raise EnoughError
        count += 1
        tried(target, value, tmp_path / "scratch")

    feed = given(target.feed())(once)
    chosen = settings(max_examples=MANY if seconds else target.few, derandomize=not seconds, database=None, deadline=None, suppress_health_check=ALL)
    survived = False
    try:
        with contextlib.suppress(EnoughError):
            chosen(feed)()
            while seconds:
                chosen(feed)()
        survived = True
    finally:
        if not survived:  # what it was is raised already
            with contextlib.suppress(AssertionError):
                tally(name, False)
    tally(name, True, count)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first
    assert grown < RESIDENT, f"{name}: {grown >> 10} MiB more than before"
