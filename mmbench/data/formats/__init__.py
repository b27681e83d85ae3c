"""The formats of data sets: which one a file or folder has, by its content or by name. Each is a component of the kind ``dataset-format``."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from mmbench.errors import DataError
from mmbench.files import cache_folder, write_json
from mmbench.plugins import Entry, catalogue

KIND = "dataset-format"
USUAL = "mmbench/mmsa"
"""What a file is read as that no format recognises."""


def find_format(path: Path, digest: str | None, name: str | None = None) -> tuple[Entry, Any]:
    """The format of a source: the one that is named, else the one that recognises it. Remembered by a file's `digest`, since looking may cost a read.

    DataError: no format recognises it, or several do. PluginError: no format of that name.
    """
    known = catalogue()
    if name is not None:
        entry = known.find(KIND, name)
        return entry, entry.load()()
    note = cache_folder() / "data" / "formats" / f"{(digest or 'folder')[:32]}.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        remembered = json.loads(note.read_text(encoding="utf-8"))["format"]
        if known.has(KIND, remembered):
            entry = known.find(KIND, remembered)
            return entry, entry.load()()
    entries = known.of_kind(KIND)
    formats = [(entry, entry.load()()) for entry in entries]
    found = [(entry, each) for entry, each in formats if each.recognises(path)]
    if not found and path.is_file():
        return next((entry, each) for entry, each in formats if entry.key == USUAL)  # its errors say what is missing
    if len(found) != 1:
        names = ", ".join(entry.component.name for entry, _ in found or formats)
        what = f"{len(found)} formats recognise it" if found else "no format recognises it"
        raise DataError(f"{path}: {what}. Name one with data.format: {names}")
    if digest is not None:
        with contextlib.suppress(OSError):  # without a cache the next start looks again
            write_json(note, {"format": found[0][0].key})
    return found[0]


def is_source(path: Path) -> bool:
    """Whether one of the formats recognises a file or folder."""
    return any(entry.load()().recognises(path) for entry in catalogue().of_kind(KIND))
