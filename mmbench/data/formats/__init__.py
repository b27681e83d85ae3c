"""The formats of data sets: which one a file or folder has, by its content or by name. Each is a component of the kind ``dataset-format``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmbench.errors import DataError, MmbenchError, PluginError
from mmbench.files import cache_folder, load_json, write_json
from mmbench.plugins import Entry, catalogue, one_line

KIND = "dataset-format"
USUAL = "mmbench/mmsa"
"""What a file is read as that no format recognises."""


def find_format(path: Path, digest: str | None, name: str | None = None) -> tuple[Entry, Any]:
    """The format of a source: the one that is named, else the one that recognises it. Remembered by a file's `digest`, since looking may cost a read.

    A format that cannot be loaded or asked never keeps others from their files. DataError: no format recognises it, or several do.
    PluginError: no format of that name, or it cannot be loaded.
    """
    known = catalogue()
    if name is not None:
        entry = known.find(KIND, name)
        return entry, _reader(entry)
    note = cache_folder() / "data" / "formats" / f"{(digest or 'folder')[:32]}.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, PluginError):
        remembered = load_json(note)["format"]
        if known.has(KIND, remembered):
            entry = known.find(KIND, remembered)
            return entry, _reader(entry)
    found, broken = _recognising(path)
    if not found and not broken and path.is_file():
        entry = known.find(KIND, USUAL)
        return entry, _reader(entry)  # its errors say what is missing
    if len(found) != 1:
        entries = [entry for entry, _ in found] or known.of_kind(KIND)
        names = [entry.component.name for entry in entries]
        choice = ", ".join(entry.key if names.count(entry.component.name) > 1 else entry.component.name for entry in entries)
        what = f"{len(found)} formats recognise it" if found else "no format recognises it"
        raise DataError(f"{path}: {'; '.join([what, *broken])}. Name one with data.format: {choice}")
    if digest is not None:
        with contextlib.suppress(OSError):  # without a cache the next start looks again
            write_json(note, {"format": found[0][0].key})
    return found[0]


def is_source(path: Path) -> bool:
    """Whether one of the formats recognises a file or folder."""
    return bool(_recognising(path)[0])


@contextlib.contextmanager
def blaming(entry: Entry, path: Path, *others: type[Exception]) -> Iterator[None]:
    """Whatever a format raises beyond its contract becomes a DataError that names the format and its distribution. `others` are not its fault."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (MmbenchError, *others)):
            raise
        if isinstance(error, PermissionError) and error.filename:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
        raise DataError(f"{path}: the format {entry.key} (version {entry.version}) failed on it: {one_line(error)}") from error


def _reader(entry: Entry) -> Any:
    """The format itself. PluginError: it cannot be made."""
    try:
        return entry.load()()
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"{KIND} {entry.key!r} cannot be made: {one_line(error)}") from error


def _recognising(path: Path) -> tuple[list[tuple[Entry, Any]], list[str]]:
    """The formats that recognise a source; and what is wrong with those that could not be asked."""
    asked = [(entry, *_asked(entry, path)) for entry in catalogue().of_kind(KIND)]
    return [(entry, reader) for entry, reader, _ in asked if reader is not None], [problem for *_, problem in asked if problem]


def _asked(entry: Entry, path: Path) -> tuple[Any, str]:
    """The format where it recognises the source; or why it could not be asked."""
    try:
        reader = _reader(entry)
        return (reader if reader.recognises(path) else None), ""
    except PluginError as error:
        return None, str(error)
    except Exception as error:
        return None, f"the format {entry.key} (version {entry.version}) failed to look at it: {one_line(error)}"
