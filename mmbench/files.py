"""Files that are either absent, complete, or the older complete version; and the places where things are found."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from mmbench.errors import ConfigError

MOST_NESTED = 64
"""Lists and objects of JSON in each other. What is written here nests to ten."""
MOST_TEXT = 256 << 20
"""Bytes of a text that is read whole."""
ROOM, RATIO = 256 << 20, 200
"""An archive may always unpack to the former, and beyond it to so many times its own size; deflate reaches 1000 on what is made to hurt."""
PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """``configs`` or ``datasets_manifest``: beside the package in a checkout, inside it in an installed wheel."""
    inside = PACKAGE / "_shipped" / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def cache_folder() -> Path:
    """Where converted data are kept: ``MMBENCH_CACHE``, or ``mmbench`` in the user's cache folder."""
    chosen = os.environ.get("MMBENCH_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "mmbench"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder to write to; on success it is fsynced and renamed to `path`, else removed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from None
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")  # numbers of processes repeat on other machines
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except Exception as error:
        failed = error if isinstance(error, OSError) else no_room(error)  # torch.save raises something else while it is told of a full disk
        if failed is None or failed.errno is None or failed.filename not in (None, str(temporary), temporary, str(path.parent)):
            raise
        raise OSError(failed.errno, failed.strerror, str(path)) from None  # a full disk names no file, and the temporary name says nothing
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def no_room(error: BaseException) -> OSError | None:
    """What says that a disk or a quota is full, where that is what ended in `error`."""
    step: BaseException | None = error
    while step is not None:
        if isinstance(step, OSError) and step.errno in (errno.ENOSPC, errno.EDQUOT):
            return step
        step = step.__cause__ or step.__context__
    return None


@contextlib.contextmanager
def writing(path: Path, advice: str = "choose another place with --out") -> Iterator[None]:
    """What fails within is told as a `ConfigError`: that `path`, which the user named, cannot be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from None


def check_writable(path: Path, advice: str = "choose another place with --out") -> None:
    """Look, before long work, whether a file can be written at `path`; nothing is made. ConfigError as in `writing`."""
    with writing(path, advice):
        place = next(parent for parent in path.absolute().parents if parent.exists())
        closed = errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES
        wrong = errno.EISDIR if path.is_dir() else errno.ENOTDIR if not place.is_dir() else 0 if os.access(place, os.W_OK | os.X_OK) else closed
        if wrong:
            raise OSError(wrong, os.strerror(wrong))


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def in_bytes(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} GB"


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """The text of a file. OSError: it cannot be read. ValueError: it is no file (a pipe would be waited for), too large, or not UTF-8."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file" if not stat.S_ISDIR(status.st_mode) else "it is a folder")
    if status.st_size > most:
        raise ValueError(f"it has {in_bytes(status.st_size)}, more than the {in_bytes(most)} that are read")
    return path.read_text(encoding="utf-8")


LONGEST_NAME = 200
"""Bytes of a part of a path that comes from a file; file systems have 255, of which endings take some."""


def check_name(name: str) -> None:
    """ValueError: it is not one plain part of a path that stays in its folder. `PureWindowsPath` knows both separators, drives and roots."""
    if not name:
        raise ValueError("is empty")
    if name in {".", ".."} or "\0" in name or PureWindowsPath(name).name != name:
        raise ValueError(f"{name!r:.80} is a path; it must be a plain name")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(f"{name!r:.80}... has {len(name)} characters, more than the name of a file may have")


def is_bomb(unpacked: int, packed: int) -> bool:
    """Whether what an archive of `packed` bytes unpacks to is more than data can be."""
    return unpacked > ROOM and unpacked > RATIO * packed


def write(path: Path, content: bytes | str | Callable[[IO[bytes]], Any]) -> None:
    """Write bytes, text, or whatever a function writes to a binary file, atomically."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically. NaN is written as null: JSON has none."""
    text = json.dumps(without_nan(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write(path, text.encode("utf-8", "backslashreplace"))  # half a pair, as in the name of a file that is no UTF-8, is escaped as JSON has it


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


DIGEST = "digest"
"""The key under which a document carries the sha256 of everything else in it."""


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON document atomically with a digest of itself, so that a digit that changes on the disk is seen."""
    plain = parse_json(json.dumps(without_nan(value)))  # as it will be read
    write_json(path, {**plain, DIGEST: seal(plain)})


def seal(document: Mapping[str, Any]) -> str:
    """sha256 of a JSON document, whatever its spelling, without its own digest."""
    content = {key: value for key, value in document.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(document: Mapping[str, Any]) -> bool:
    """Whether a document is as it was written. One without a digest is of an older version, and is believed."""
    return document.get(DIGEST) is None or document[DIGEST] == seal(document)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object as it was written; empty where there is none, or it is damaged."""
    try:
        found = load_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and sealed(found) else {}


def load_json(path: Path) -> Any:
    """The value of a JSON file. OSError: it cannot be read. ValueError: it is no JSON, or nested too deeply, or too large, or no file."""
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """The value of a JSON text; an integer beyond 24 digits is a float, since one of any length would overflow wherever it is computed with.

    ValueError: it is none, or nests deeper than `MOST_NESTED`, which other code would end on later.
    """
    try:
        value = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 25 else float(digits))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count("{") + text.count("[") <= MOST_NESTED:  # spares the look at each value of thousands of results
        return value
    level = [value]
    for _ in range(MOST_NESTED):
        inner = (each.values() if isinstance(each, dict) else each if isinstance(each, list) else () for each in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def without_nan(value: Any) -> Any:
    """The same structure with non-finite floats as None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
