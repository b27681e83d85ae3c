"""Files that are either absent, complete, or the older complete version; and the places where things are found."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from mmbench.errors import ConfigError

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
    finally:
        temporary.unlink(missing_ok=True)


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
        wrong = errno.EISDIR if path.is_dir() else errno.ENOTDIR if not place.is_dir() else 0 if os.access(place, os.W_OK | os.X_OK) else errno.EACCES
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


def write(path: Path, content: bytes | str | Callable[[IO[bytes]], Any]) -> None:
    """Write bytes, text, or whatever a function writes to a binary file, atomically."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically. NaN is written as null: JSON has none."""
    write(path, json.dumps(without_nan(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """The same structure with non-finite floats as None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
