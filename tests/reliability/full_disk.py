"""A disk that is full from some step on, what is done in a process on such a disk, and damage done to files."""

from __future__ import annotations

import builtins
import errno
import io
import math
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Written:
    """A file that is open for writing; each writing is a step."""

    def __init__(self, file: Any, disk: Disk):
        self._file, self._disk = file, disk

    def write(self, content: Any) -> Any:
        self._disk.step()
        return self._file.write(content)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *told: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Disk:
    """`steps` writings, syncs, renames and new folders below `place` succeed; each one after these finds the disk full. Removing always works."""

    def __init__(self, place: Path, steps: float = math.inf):
        self.place, self.left, self.used = str(place), steps, 0

    def step(self, path: object = None) -> None:
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([] if path is None else [str(path)]))
        self.left -= 1
        self.used += 1

    @contextmanager
    def full(self) -> Iterator[Disk]:
        opened, named = builtins.open, {name: getattr(os, name) for name in ("replace", "rename", "mkdir", "fsync", "sendfile")}

        def open_(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            found = opened(file, mode, *more, **options)
            return Written(found, self) if set(mode) & set("wax+") and str(file).startswith(self.place) else found

        def step(name: str) -> Callable[..., Any]:
            def call(first: Any, *more: Any, **options: Any) -> Any:
                if isinstance(first, int):
                    self.step()
                elif str(first).startswith(self.place):
                    self.step(first)
                return named[name](first, *more, **options)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for module in (builtins, io):
                patch.setattr(module, "open", open_)
            for name in named:
                patch.setattr(os, name, step(name))
            yield self


def steps_of(place: Path, act: Callable[[], Any]) -> int:
    """How many steps something takes on disk."""
    with Disk(place).full() as disk:
        act()
    return disk.used


def work(folder: Path) -> int:
    """The worker of a run, in this process."""
    from mmbench import worker

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    streams = sys.stdout, sys.stderr
    try:
        return worker.main([str(folder), "--device", "cpu"])
    finally:
        sys.stdout, sys.stderr = streams
        for number, handler in before.items():
            signal.signal(number, handler)


def command(*arguments: object) -> int:
    """The exit code of a command, in this process."""
    from mmbench.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mmbench", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def left_behind(folder: Path) -> list[Path]:
    """Temporary files and folders."""
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp") or path.name.startswith((".mmbench-building-", ".claim-"))]


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """The content cut short at `count` lengths, the empty one among them, and with one bit changed at as many places."""
    rng = random.Random(seed)
    for length in {0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(count - 2))}:
        yield content[:length]
    for place in sorted(rng.sample(range(len(content)), min(count, len(content)))):
        yield content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
