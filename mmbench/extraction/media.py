"""Which file each clip has, and what identifies its content."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mmbench.errors import DataError
from mmbench.files import cache_folder, read_json, write_sealed

PLACES = ("Raw", "wav")
_BLOCK = 1 << 20


@dataclass
class Listing:
    """The files below a raw folder, each directory read once."""

    folder: Path
    _known: dict[Path, dict[str, dict[str, Path]]] = field(default_factory=dict)

    def find(self, clip: str, suffixes: Sequence[str], own: str | None = None) -> Path | None:
        """The recording of ``<video_id>/<clip_id>``: the first of `suffixes` (in either case) in ``Raw/``, else in ``wav/``; None: there is none.

        `own`: a folder that stands for these two, absolute or below the raw folder.
        """
        video, _, name = clip.rpartition("/")
        for place in PLACES if own is None else (own,):
            files = self._files(self.folder / Path(place).expanduser() / video).get(name, {})
            for suffix in suffixes:
                if suffix.lower() in files:
                    return files[suffix.lower()]
        return None

    def _files(self, folder: Path) -> dict[str, dict[str, Path]]:
        """By stem, then by lower-case suffix. A suffix may have several parts, so a name has several stems."""
        if folder not in self._known:
            found: dict[str, dict[str, Path]] = {}
            try:
                names = sorted(os.listdir(folder))
            except (FileNotFoundError, NotADirectoryError):
                names = []
            except OSError as error:
                raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
            for name in names:
                for i in (i for i, letter in enumerate(name) if letter == "." and i):
                    found.setdefault(name[:i], {}).setdefault(name[i:].lower(), folder / name)
            self._known[folder] = found
        return self._known[folder]


def text_digest(text: str) -> str:
    """sha256 of a transcript."""
    return hashlib.sha256(text.encode()).hexdigest()


def digests(folder: Path, paths: Iterable[Path], report: Callable[[int, int], None]) -> dict[Path, str]:
    """sha256 of many files below or beside a raw folder; a file that cannot be read has none.

    Remembered by path, size and time of change in one note for the folder, which is also written when this is interrupted.
    `report` hears how many files are read, of how many that must be.
    """
    note = cache_folder() / "extracted" / "digests" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}.json"
    known = {key: value for key, value in read_json(note).items() if isinstance(value, list) and len(value) == 3}
    found: dict[Path, str] = {}
    changed: list[tuple[Path, str, int, int]] = []
    for path in dict.fromkeys(paths):
        with contextlib.suppress(OSError):
            status = path.stat()
            key = os.path.abspath(path)
            if known.get(key, [])[:2] == [status.st_size, status.st_mtime_ns]:
                found[path] = str(known[key][2])
            else:
                changed.append((path, key, status.st_size, status.st_mtime_ns))
    if not changed:
        return found
    done = 0
    pool = ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0))))
    try:
        for (path, key, size, time), digest in zip(changed, pool.map(lambda item: _sha256(item[0]), changed), strict=True):
            if digest is not None:
                found[path] = digest
                known[key] = [size, time, digest]
            done += 1
            report(done, len(changed))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(OSError):  # without a cache the next start hashes again; writing features will say what is wrong
            write_sealed(note, known)
    return found


def _sha256(path: Path) -> str | None:
    whole = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                whole.update(block)
    except OSError:
        return None
    return whole.hexdigest()
