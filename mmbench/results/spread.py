"""Work on thousands of files, spread over the cores: reading them is Python's time here, and round trips on the file system of a cluster."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST = 8
"""Processes at once: a login node has many cores, and is not ours alone."""


_shared: tuple[Callable[[Sequence[Any]], Sequence[Any]], list[Sequence[Any]]]
"""What the processes find as it was when they were forked."""


def spread(function: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], piece: int) -> list[R]:
    """`function` of pieces of so many items, joined in their order. In this process where there is one piece, one core, or no fork.

    Answers come back as pickles; what is given need be none.
    """
    global _shared
    pieces = [items[start : start + piece] for start in range(0, len(items), piece)]
    workers = min(len(pieces), MOST, len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1)
    if workers > 1:
        _shared = function, pieces
        try:
            with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin) as pool:
                return [answer for answers in pool.map(_piece, range(len(pieces))) for answer in answers]
        except (BrokenProcessPool, OSError):  # one was killed, or none could be started
            pass
        finally:
            del _shared
    return [answer for part in pieces for answer in function(part)]


def _piece(number: int) -> Sequence[Any]:
    function, pieces = _shared
    return function(pieces[number])


def _begin() -> None:
    """Ctrl-C is the parent's; what was allocated before the fork is not looked at again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.disable()
