"""Arrays that were read once and are mapped from then on: a folder with one safetensors file and one JSON document.

Arrays in the file, for each split: ``<split>/target``, ``<split>/unimodal/<modality>``, ``<split>/features/<modality>`` (N, T, D) float32 and
``<split>/features_mask/<modality>`` (N, T) bool, ``<split>/tokens/text`` (N, T) int64 and ``<split>/tokens_mask/text``, and for simulated data
``<split>/factors/<name>``. The document holds the ids, the transcripts, the warnings and where the data came from.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.errors import DataError
from mmbench.files import cache_folder, file_digest, in_bytes, load_json, parse_json, read_json, sealed, sync_folder, write_sealed

FORMAT = 1
"""Version of what is written here. A store of another version is not read but built again."""

DOCUMENT, ARRAYS = "store.json", "arrays.safetensors"
_DTYPES: dict[str, np.dtype] = {"I64": np.dtype("<i8"), "F32": np.dtype("<f4"), "BOOL": np.dtype("?")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_BLOCK_BYTES = 8 << 20
_BUILDING = ".mmbench-building-"  # how temporary folders begin; nothing else is ever swept away


@dataclass(frozen=True)
class Column:
    """An array that is written in blocks of rows: `rows(start, stop)` is asked once for each block, in order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[int, int], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Size of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize


def column(array: np.ndarray) -> Column:
    """An array at hand, as float32, int64 or bool."""
    code = {"f": "F32", "i": "I64", "u": "I64", "b": "BOOL"}[array.dtype.kind]
    return Column(array.shape, _DTYPES[code], lambda start, stop: array[start:stop])


@dataclass(frozen=True)
class Store:
    """An open store. `arrays` are read-only views of the mapped file."""

    folder: Path
    document: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def origin(self) -> Mapping[str, Any]:
        """What its document says of where the data came from; empty where it says nothing."""
        found = self.document.get("origin")
        return found if isinstance(found, dict) else {}

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays below a prefix, by the rest of their name."""
        return {name.removeprefix(f"{prefix}/"): array for name, array in self.arrays.items() if name.startswith(f"{prefix}/")}


def write_store(folder: Path, columns: Mapping[str, Column], document: Callable[[], Mapping[str, Any]]) -> None:
    """Write a store into an existing folder. `document` is asked after the last block, when what the blocks showed is known."""
    order = sorted(columns, key=lambda name: (-columns[name].dtype.itemsize, name))  # wide items first, so that every array is aligned
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        start, end = end, end + columns[name].nbytes
        header[name] = {"dtype": _CODES[columns[name].dtype], "shape": list(columns[name].shape), "data_offsets": [start, end]}
    free = shutil.disk_usage(folder).free
    if free < end:
        raise DataError(f"{folder.parent}: {in_bytes(end)} are needed and {in_bytes(free)} are free. MMBENCH_CACHE names another folder")
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    content = hashlib.sha256()
    with open(folder / ARRAYS, "wb") as file:

        def put(block: Any) -> None:
            content.update(block)
            file.write(block)

        put(struct.pack("<Q", len(text)) + text)
        for name in order:
            _write_column(put, name, columns[name])
        file.flush()
        os.fsync(file.fileno())
    note, identity = _note_of(folder / ARRAYS)
    _remember(note, {"identity": identity, "sha256": content.hexdigest()})  # a new store is not read again to be believed
    write_document(folder, {"format": FORMAT, **document(), "arrays": _trace(folder / ARRAYS), "content": content.hexdigest()})


def write_document(folder: Path, document: Mapping[str, Any]) -> None:
    """Write the document of a store, with a digest of itself."""
    write_sealed(folder / DOCUMENT, document)


def _write_column(put: Callable[[Any], None], name: str, column: Column) -> None:
    length = column.shape[0]
    step = max(1, _BLOCK_BYTES * length // max(column.nbytes, 1))
    for start in range(0, length, step):
        stop = min(start + step, length)
        block = np.ascontiguousarray(column.rows(start, stop), dtype=column.dtype)
        if block.shape != (stop - start, *column.shape[1:]):
            raise DataError(f"{name}: rows {start} to {stop} have the shape {block.shape}, not {(stop - start, *column.shape[1:])}")
        put(block.data if block.size else b"")


def open_store(folder: Path) -> Store | None:
    """The store in a folder, or None if there is none, it is of another version, or it is damaged."""
    try:
        document = load_json(folder / DOCUMENT)
        if document["format"] != FORMAT or document["arrays"] != _trace(folder / ARRAYS) or not sealed(document):
            return None
        if not _believed(folder / ARRAYS, document.get("content")):
            return None
        return Store(folder, document, _map(folder / ARRAYS))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError):
        return None


def check_values(store: Store) -> None:
    """Read the whole store, whatever was believed of it before. DataError: its values are not those that were written."""
    path, content = store.folder / ARRAYS, store.document.get("content")
    if content is not None and file_digest(path) != content:
        raise DataError(f"{path}: its values are not those that were written, so the disk is damaged; remove {store.folder}, and make it again")


def _believed(path: Path, content: str | None) -> bool:
    """Whether a file has the sha256 that it was written with. It is read where it has changed since that was last found: a copy, or a repair.

    A store without a digest is of an older version, and is believed.
    """
    if content is None:
        return True
    note, identity = _note_of(path)
    if _remembered(note, identity).get("sha256") == content:
        return True
    found = file_digest(path)
    _remember(note, {"identity": identity, "sha256": found})
    return found == content


def _note_of(path: Path) -> tuple[Path, str]:
    """Where the digest of a file is remembered, and what must not have changed since. Its folder may be renamed, and its disk mounted anew:

    the number of a network's disk is another on each machine and after each start, and a large store must not be read again for that.
    """
    status = path.stat()
    identity = f"{status.st_ino}|{status.st_size}|{status.st_mtime_ns}"
    return cache_folder() / "data" / "digests" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json", identity


def format_of(folder: Path) -> int | None:
    """The version of format that a store says it has; None where it says nothing that can be read."""
    try:
        found = load_json(folder / DOCUMENT)["format"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, int) else None


def open_or_build(folder: Path, build: Callable[[Path], None]) -> Store:
    """The store in `folder`, built first if it is not there or damaged: `build` fills a temporary folder, which is then renamed.

    Two processes may build the same store at once; both end with a whole one.
    """
    store = open_store(folder)
    if store is not None:
        return store
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        temporary = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent))
        try:
            build(temporary)
            swap(temporary, folder, lambda: open_store(folder) is not None)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}. MMBENCH_CACHE names another folder") from None
    store = open_store(folder)
    if store is None:
        raise DataError(f"{folder}: cannot be read back after it was written; remove it and try again")
    return store


def swap(temporary: Path, folder: Path, held: Callable[[], bool]) -> bool:
    """Rename a store to its place, and remove what was there; False where `held` says that another process has put the same there meanwhile.

    One process at a time, so that none takes away what another has just repaired. A rename never replaces a folder that holds something, so that
    where the file system has no locks, too, nothing is lost; a reader may then miss the store for an instant.
    """
    with _alone(folder.parent):
        while not held():
            aside = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent))
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(folder, aside / "old")
                os.rename(temporary, folder)
            except BaseException as error:
                with contextlib.suppress(OSError):
                    os.rename(aside / "old", folder)
                with contextlib.suppress(OSError):
                    aside.rmdir()
                if not isinstance(error, OSError) or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                continue  # another process was quicker
            shutil.rmtree(aside, ignore_errors=True)
            sync_folder(folder.parent)
            return True
    return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sweep(parent: Path) -> None:
    """Remove what processes that were killed a day ago or earlier left half-built."""
    for path in parent.glob(f"{_BUILDING}*"):
        with contextlib.suppress(OSError):
            if path.is_dir() and time.time() - path.stat().st_mtime > 86400:
                shutil.rmtree(path, ignore_errors=True)


def _map(path: Path) -> dict[str, np.ndarray]:
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    size = int.from_bytes(whole[:8].tobytes(), "little")
    header = parse_json(whole[8 : 8 + size].tobytes().decode())
    data = whole[8 + size :]
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        arrays[name] = data[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _trace(path: Path) -> dict[str, Any]:
    """What a damaged file would fail at a glance: its size, and a checksum of its start, its end and 256 places between."""
    size = path.stat().st_size
    checksum = 0
    with open(path, "rb") as file:
        head = file.read(8)
        checksum = zlib.crc32(file.read(min(int.from_bytes(head, "little"), 1 << 24)), zlib.crc32(head))
        for i in range(257):
            file.seek(max(0, size - 4096) * i // 256)
            checksum = zlib.crc32(file.read(4096), checksum)
    return {"size": size, "checksum": checksum}


def store_folder(digest: str, key: object) -> Path:
    """Where the store of a source lives: `digest` of the source, and everything else that its content depends on."""
    text = json.dumps([FORMAT, key], sort_keys=True)
    return cache_folder() / "data" / f"{digest[:16]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def file_digests(path: Path) -> dict[str, str]:
    """sha256 and sha1 of a file; remembered by path, size and time of change, so that a large file is read once."""
    try:
        status = path.stat()
        identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        note = cache_folder() / "data" / "digests" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
        known = _remembered(note, identity)
        if "sha1" in known:
            return {"sha256": known["sha256"], "sha1": known["sha1"]}
        sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                sha256.update(block)
                sha1.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    digests = {"sha256": sha256.hexdigest(), "sha1": sha1.hexdigest()}
    _remember(note, {"identity": identity, **digests})
    return digests


def folder_digest(paths: Iterable[Path]) -> str:
    """sha256 over the names and contents of several files, in any order; remembered by their paths, sizes and times of change."""
    try:
        states = _states(paths)
        trace = "\n".join(f"{path}|{status.st_size}|{status.st_mtime_ns}" for path, status in sorted(states.items()))
        identity = hashlib.sha256(trace.encode("utf-8", "surrogateescape")).hexdigest()
        note = cache_folder() / "data" / "digests" / f"{identity[:32]}.json"
        if known := _remembered(note, identity):
            return known["sha256"]
        whole = hashlib.sha256()
        base = os.path.commonpath({os.path.dirname(path) for path in states})
        for path in sorted(map(Path, states)):
            content = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    content.update(block)
            whole.update(f"{path.relative_to(base).as_posix()} {content.hexdigest()}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    _remember(note, {"identity": identity, "sha256": whole.hexdigest()})
    return whole.hexdigest()


def _states(paths: Iterable[Path]) -> dict[str, os.stat_result]:
    """Size and time of change of each file, by its real path. Every start asks this of every file, so it costs one call for each.

    DataError: something that is no file. OSError: a link to nothing, or to itself.
    """
    states: dict[str, os.stat_result] = {}
    folders: dict[str, str] = {}
    for given in paths:
        folder, name = os.path.split(given)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        path = os.path.join(folders[folder], name)
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            path = os.path.realpath(path)
            status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: is no file")  # a pipe would be waited for
        states[path] = status
    return states


def _remember(note: Path, content: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError):  # without a cache the next start hashes again; building a store will say what is wrong
        write_sealed(note, content)


def _remembered(note: Path, identity: str) -> dict[str, str]:
    """What is remembered of files in this state; empty where nothing is, or it is damaged."""
    known = read_json(note)
    return known if known.get("identity") == identity and "sha256" in known else {}
