"""Who works in a folder: one process at a time, and the next one when it is gone.

A claim is a folder, ``claim``, that holds one file: its owner, under a name that nobody else uses. It is filled aside and renamed to its place. A
rename never replaces a folder that holds something, so of several processes exactly one gets a claim, and a claim is never seen without its owner.
An owner's file is removed by its name, so that nobody, a process that takes over or one that ends late, removes the claim of another. What is left
is an empty folder, which is no claim. There are no locks: these hold on one machine, or on network file systems of some kinds only.

The owner touches its file every `BEAT` seconds, from a thread. A claim is

* ``alive``: its process is there; or, of another machine, it was touched less than `SILENT` seconds ago;
* ``gone``: its process is not there, or another one has its number (told by when it was started), or the machine was started anew since, and no
  sign came for `MISSED` seconds. The next one who wants the claim takes it over;
* ``silent``: of another machine, or of another container, and not touched for long. That is no proof that its process is gone (a machine may
  sleep), so `take_over` removes it only where the user says so.

Between machines that share a file system with renames that are atomic (POSIX says so; NFS, Lustre and GPFS keep it) it is guaranteed that a
claim has one owner, and that a living owner loses it in no other way than by `take_over` after `SILENT` seconds without a sign. One that wakes up
after that hears of it at its next beat: it stops after its step and writes no result. Their clocks may differ, since ages are those of the file
system. What another machine wrote may be seen late (NFS keeps what it knows of files for up to a minute): never a second owner, but a wait.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Literal

from mmbench.files import load_json

CLAIM = "claim"
BEAT = 30.0
"""Seconds between two signs of life."""
MISSED = 3 * BEAT
"""Seconds without a sign of life after which the owner from before this machine was started is believed to be gone."""
SILENT = 600.0
"""Seconds without a sign of life after which the owner on another machine may be gone. Many beats, and more than network file systems delay."""
_PATIENCE = 5.0
"""Seconds after which a claim without an owner is no longer taken for one that is being released."""

State = Literal["alive", "gone", "silent"]


@dataclass(frozen=True)
class Owner:
    """The process that holds a claim. `boot` and `space`: the start of its machine, and the pid namespace in which `pid` is its number; `born`: when
    it was started, in ticks since then; `beat`: its last sign of life, as the file system tells the time."""

    token: str
    host: str
    boot: str
    space: str
    pid: int
    born: str
    since: str
    beat: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}" if self.pid else "a process that cannot be told"

    def state(self, now: Callable[[], float] = time.time) -> State:
        """Whether it is ``alive``, ``gone``, or has been ``silent`` for long. `now`: the time of the file system, asked for where it counts."""
        here = _here()
        if self.pid and (self.boot or self.host, self.space) == (here.boot or here.host, here.space):
            return "alive" if _exists(self.pid, self.born) else "gone"
        age = now() - self.beat
        restarted = self.boot and here.boot and self.boot != here.boot and self.host == here.host and self.beat < _started()
        if restarted and age > MISSED:  # two machines may have one name, and the clocks of the file system and of this machine may differ
            return "gone"
        return "silent" if age > SILENT else "alive"

    def quiet(self, now: float) -> str:
        """How long ago its last sign of life was: ``40 s``, ``12 min``, ``3 h``."""
        seconds = max(0.0, now - self.beat)
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


class ClaimedError(Exception):
    """Another process works in the folder."""

    def __init__(self, owner: Owner):
        super().__init__(str(owner))
        self.owner = owner


class Claim:
    """A claim that is held; touched by a thread until it is released."""

    def __init__(self, file: Path, lost: Callable[[], None]):
        self._file, self._lost = file, lost
        self._released = threading.Event()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    @property
    def held(self) -> bool:
        """Whether it still is this one's: not where another machine took it over, or the folder was removed."""
        return _there(self._file)

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):  # the server is away, say: the next beat may come through
                os.utime(self._file)
            if not self.held:
                self._lost()
                return

    def release(self) -> None:
        """Let the next one in."""
        self._released.set()
        _remove(self._file)


@contextlib.contextmanager
def claim(folder: Path, lost: Callable[[], None] = lambda: None) -> Iterator[Claim]:
    """Hold the claim of a folder, however the work in it ends. `lost` is called, from a thread, if it is taken away.

    Raises ClaimedError where another process holds it, OSError where none can be written.
    """
    held = Claim(_acquire(folder), lost)
    try:
        yield held
    finally:
        held.release()


def owner_of(folder: Path) -> Owner | None:
    """Whose the claim of a folder is; nothing where there is none."""
    place = folder / CLAIM
    try:
        names = sorted(name for name in os.listdir(place) if name.endswith(".json"))
        beat = (place / names[0]).stat().st_mtime if names else 0.0
    except OSError:
        return None
    if not names:
        return None
    token = names[0].removesuffix(".json")
    try:
        known = load_json(place / names[0])
        host, boot, space, pid, born, since = (known[key] for key in ("host", "boot", "space", "pid", "born", "since"))
        if all(isinstance(text, str) for text in (host, boot, space, born, since)) and isinstance(pid, int) and 0 < pid < 1 << 31:
            return Owner(token, host, boot, space, pid, born, since, beat)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return Owner(token, "", "", "", 0, "", "", beat)  # damaged: known by its signs of life alone


def take_over(folder: Path) -> Owner | None:
    """Remove the claim of an owner that is gone or has been silent for long; returns whose it was. One that is alive is left alone."""
    owner = owner_of(folder)
    if owner is None or owner.state(lambda: clock(folder)) == "alive":
        return None
    _remove(folder / CLAIM / f"{owner.token}.json")
    return owner


def clock(folder: Path) -> float:
    """The time as the folder's file system has it, which a server may keep."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def _acquire(folder: Path) -> Path:
    """The file of this process's claim."""
    token = os.urandom(16).hex()
    aside, place = folder / f".{CLAIM}-{token}", folder / CLAIM
    file = place / f"{token}.json"
    deadline = time.monotonic() + _PATIENCE
    aside.mkdir()
    try:
        _write(aside / file.name)
        while True:
            with contextlib.suppress(OSError):
                place.rmdir()  # what an owner left, unless it holds something
            try:
                os.rename(aside, place)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not _there(file):
                    raise
            if _there(file):  # whatever the answer was: a server may have said it twice
                _sweep(folder)
                return file
            owner = owner_of(folder)
            if owner is not None and owner.state(lambda: (aside / file.name).stat().st_mtime) != "gone":
                raise ClaimedError(owner)
            if owner is not None:
                _remove(place / f"{owner.token}.json")
            elif time.monotonic() > deadline:
                raise OSError(errno.ENOTEMPTY, "holds something that is no claim; remove it", str(place))
            else:
                time.sleep(0.01)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(path: Path) -> None:
    here = _here()
    content = {"host": here.host, "boot": here.boot, "space": here.space, "pid": os.getpid(), "born": _born(os.getpid()) or ""}
    content["since"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())  # so that a machine that lost its power finds whose it was


def _remove(file: Path) -> None:
    """Remove a claim by the name of its owner: nothing happens where it is another's by now."""
    with contextlib.suppress(OSError):
        file.unlink()
    with contextlib.suppress(OSError):
        file.parent.rmdir()


def _there(file: Path) -> bool:
    """Whether a file is there. Where the file system cannot say, it is."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _sweep(folder: Path) -> None:
    """Remove what processes left that were killed while they asked for the claim."""
    for path in folder.glob(f".{CLAIM}-*"):
        with contextlib.suppress(OSError):
            if clock(folder) - path.stat().st_mtime > SILENT:
                shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class _Machine:
    host: str
    boot: str
    space: str


@cache
def _here() -> _Machine:
    boot, space = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return _Machine(platform.node(), boot, space)


def _started() -> float:
    """When this machine was started."""
    with contextlib.suppress(OSError, ValueError):
        found = [line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")]
        return max(map(float, found), default=0.0)
    return 0.0


def _born(pid: int) -> str | None:
    """When a process was started, in ticks; nothing where the system does not say, and an empty text for one that has ended and was not seen off."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return None


def _exists(pid: int, born: str) -> bool:
    """Whether the process that was started at that time is there. One that cannot be looked at is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    seen = _born(pid)
    return seen is None or (seen != "" and (not born or seen == born))
