"""Attends to the process of a run: lines of bounded length, a log of bounded size, a limit of time."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO

from mmbench.privacy import shared

POLL = 0.2
GRACE = 60.0
"""Seconds that a run has to stop after its step, once its time is up; then it is killed."""
LONGEST_LINE = 1 << 16
"""Bytes of a line; what is longer reaches the log in pieces."""
LOG_HEAD, LOG_TAIL = 16 << 20, 1 << 20
"""Bytes of ``log.txt`` that are kept: so many from its beginning, and so many from its end, where a failure is told."""
LAST = 1 << 20
"""Bytes that are read after a process has ended: more than a pipe holds. What it started may hold the pipe open for ever."""


def attend(process: subprocess.Popen[bytes], log: IO[bytes], hear: Callable[[bytes], bool], limit: float | None = None) -> bool:
    """Read what the process prints until it has ended; lines that `hear` does not take go to the log. Returns whether its time was up.

    After `limit` seconds it is interrupted, and killed `GRACE` seconds later.
    """
    assert process.stdout is not None
    started, asked, rest, left = time.monotonic(), 0.0, b"", LAST
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while left > 0:
            ended = process.poll() is not None
            if not selector.get_map():  # it has closed its end
                if ended:
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL)
            for _ in selector.select(0 if ended else POLL) if selector.get_map() else ():
                chunk = os.read(process.stdout.fileno(), LONGEST_LINE)
                left -= len(chunk) if ended else 0
                if not chunk:
                    selector.unregister(process.stdout)
                *lines, rest = (rest + chunk).split(b"\n")
                kept = b"".join(line + b"\n" for line in lines if not hear(line))
                if len(rest) > LONGEST_LINE or not chunk:
                    kept, rest = kept + rest, b""
                _write(log, told(kept))
                break
            else:
                if ended:
                    break
            trim(log)
            now = time.monotonic()
            if limit is not None and not asked and now - started > limit and not ended:
                process.send_signal(signal.SIGINT)
                asked = now
            if asked and now - asked > GRACE and not ended:
                kill(process)
    _write(log, told(rest))
    trim(log)
    return bool(asked)


def in_time(seconds: float) -> str:
    """A span of time in the unit that suits it: ``90 s``, ``2.5 min``, ``3 h``."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def trim(log: IO[bytes]) -> None:
    """Leave the beginning and the end of a log that has grown too long. The process writes to the same file, always to its end."""
    with contextlib.suppress(OSError):
        size = os.fstat(log.fileno()).st_size
        if size <= LOG_HEAD + 2 * LOG_TAIL:
            return
        end = os.pread(log.fileno(), LOG_TAIL, size - LOG_TAIL)
        os.ftruncate(log.fileno(), LOG_HEAD)
        _write(log, b"\n[... left out, since this log is limited ...]\n" + end)


def told(text: bytes) -> bytes:
    """What a process printed, as others may read it."""
    return shared(text.decode("utf-8", "replace")).encode()  # type: ignore[no-any-return]


def _write(log: IO[bytes], text: bytes) -> None:
    with contextlib.suppress(OSError):  # a full disk: the run itself will say so
        log.write(text)
