"""Putting an extracted data set into its place: whole, or not at all; and never over another one without being told."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.data.content import Content
from mmbench.data.store import DOCUMENT, Store, open_store, swap, sweep, write_store
from mmbench.errors import DataError
from mmbench.extraction.worker import cannot_write

_BUILDING = ".mmbench-building-"


@dataclass(frozen=True)
class Written:
    """A data set at its place; `changed`: it was not there before as it is now."""

    store: Store
    changed: bool


def refuse_unwritable(folder: Path, other: str) -> None:
    """DataError: nothing can be written to `folder`, which need not be there yet; `other` says what names another one."""
    there = next(path for path in (folder, *folder.resolve().parents) if os.path.exists(path))  # Path.exists raises where a folder above is closed
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: cannot be written: {there} is {'read-only' if there.is_dir() else 'a file'}; {other} names another folder")


def refuse_other(folder: Path, digest: str, replace: bool) -> bool:
    """Whether `folder` holds this very data set. DataError: it holds something else, and it is not to be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    store = open_store(folder)
    if store is not None and store.origin.get("digest") == digest:
        return True
    if not (folder / DOCUMENT).is_file():
        raise DataError(f"{folder}: holds something that is no data set; move it away, or choose another folder with --out")
    if not replace:
        raise DataError(
            f"{folder}: holds a data set made of other labels, recordings or options (or a damaged one); "
            "--replace puts the new one in its place, --out FOLDER elsewhere"
        )
    return False


def put(folder: Path, content: Content, document: Mapping[str, Any], replace: bool) -> Written:
    """Write a store and rename it to `folder`. `document`: what the store's document says beside what `content` knows; its ``notices`` are added.

    DataError: the folder holds something else, or the disk is full.
    """

    def held() -> bool:
        return refuse_other(folder, document["origin"]["digest"], replace)

    if held():
        return Written(_opened(folder), False)
    needed = sum(column.nbytes for column in content.columns.values())
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        free = shutil.disk_usage(folder.parent).free
        if free < needed:
            raise DataError(f"{folder}: {needed / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free; --out names another folder")
        temporary = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent))
        temporary.chmod(0o755)
        write_store(temporary, content.columns, lambda: _document(content, document))
        changed = swap(temporary, folder, held)
    except OSError as error:
        raise DataError(cannot_write(error, folder, "--out names another folder")) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return Written(_opened(folder), changed)


def _document(content: Content, more: Mapping[str, Any]) -> dict[str, Any]:
    own = content.document()
    return json.loads(json.dumps({**own, **more, "notices": [*more["notices"], *own["notices"]]}))  # type: ignore[no-any-return]


def _opened(folder: Path) -> Store:
    store = open_store(folder)
    if store is None:
        raise DataError(f"{folder}: cannot be read back after it was written; remove it and try again")
    return store
