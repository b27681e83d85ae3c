"""Data sets that the user keeps: a store under the data root that needs the file it came from no more."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.config import DataConfig
from mmbench.data.find import data_root, store_place
from mmbench.data.load import Source, open_source, split_problems
from mmbench.data.store import ARRAYS, DOCUMENT, Store, open_store, swap, sweep, write_document
from mmbench.errors import DataError
from mmbench.files import in_bytes
from mmbench.privacy import shared

_BUILDING = ".mmbench-building-"


@dataclass(frozen=True)
class Imported:
    """What `import_dataset` did: the place of the store, and whether it was written now or was there already."""

    folder: Path
    new: bool


def import_dataset(config: DataConfig, root: Path | None = None, replace: bool = False) -> Imported:
    """Write the store of what `config` names to ``<root>/<name>/<layout>`` (below the protocol and part, where the data set has them).

    Runs on it are the runs on its source: digest, reader and fingerprint stay. DataError: nothing that can be imported, splits that are not the
    published ones unless ``data.splits`` says own, another data set at the place and no `replace`, or a full disk.
    """
    source = open_source(config, root)
    if source.simulated:
        raise DataError(f"{source.path}: simulated data are not imported; mmbench data simulate --out FOLDER writes them to a folder of yours")
    if source.raw:
        raise DataError(f"{source.path}: holds recordings and no features, and is used where it is. mmbench extract makes features of them")
    problems = split_problems(source)
    if problems and config.splits == "published":
        raise DataError(f"{source.path}: {'; '.join(problems)}. --set data.splits=own imports it, and marks every result")
    folder = store_place(data_root(root), source.manifest, source.store.document["layout"])
    origin = _origin(source)

    def held() -> bool:
        there = folder.exists()
        if there and _same(open_store(folder), source, origin):
            return True
        if there and not replace:
            raise DataError(f"{folder}: holds another data set, or a damaged one; --replace puts this one in its place")
        return False

    sweep(folder.parent)  # also where an import was killed after its last rename, so that all is there
    return Imported(folder, not held() and _write(source.store, {**source.store.document, "origin": origin}, folder, held))


def _origin(source: Source) -> dict[str, Any]:
    """Where the data came from; whatever the document of an extracted data set says of that is kept."""
    manifest = source.manifest
    before = {key: value for key, value in source.store.origin.items() if key != "path"}
    known = {"name": manifest.name, "protocol": manifest.protocol, "part": manifest.part, "digest": source.digest, "known": source.known}
    return {**before, **known, "path": shared(str(source.path.resolve()))}


def _same(held: Store | None, source: Source, origin: Mapping[str, Any]) -> bool:
    """Whether a store is the source as it is read now."""
    if held is None:
        return False
    facts = ("name", "protocol", "part", "digest")
    return held.document.get("reader") == source.store.document["reader"] and all(held.origin.get(key) == origin[key] for key in facts)


def _write(store: Store, document: Mapping[str, Any], folder: Path, held: Callable[[], bool]) -> bool:
    """A copy of a store with another document, whole or not at all; False where another process has put it there meanwhile."""
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        needed, free = (store.folder / ARRAYS).stat().st_size, shutil.disk_usage(folder.parent).free
        if free < needed:
            raise DataError(f"{folder}: {in_bytes(needed)} are needed and {in_bytes(free)} are free; --data-root names another folder")
        temporary = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent))
        temporary.chmod(0o755)
        shutil.copyfile(store.folder / ARRAYS, temporary / ARRAYS)
        write_document(temporary, document)
        for name in (ARRAYS, DOCUMENT):
            with open(temporary / name, "rb+") as file:
                os.fsync(file.fileno())
        return swap(temporary, folder, held)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}. --data-root names another folder") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
