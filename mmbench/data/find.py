"""Where the data of a config are: a file of features, a raw folder, a folder in a known format, or one that was imported, extracted or simulated."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mmbench.config import DataConfig
from mmbench.data import pickles
from mmbench.data.content import LAYOUTS
from mmbench.data.formats import is_source
from mmbench.data.manifest import Manifest, load_manifest
from mmbench.data.raw import LABELS
from mmbench.data.store import DOCUMENT
from mmbench.errors import DataError

TRIAL = "For a trial without data: --set data.simulated=true"


def locate(config: DataConfig, root: Path | None = None, raw: bool = False, advice: str = TRIAL) -> Path:
    """What `config` means: `path`, or a name from the manifest under `root`, MMBENCH_DATA or ``data``.

    A file of features is a path to it; all else is a path to the folder. What was imported or extracted under the name of the data set comes first.
    A manifest beside a ``label.csv`` describes that folder. Where both features and a raw folder are found, features are taken unless `raw` (an
    encoder is to read waveforms), or `path` is the ``label.csv`` itself.
    DataError: nothing there, or several layouts and no `features` that chooses; the message lists where it looked, how to get the data and `advice`.
    """
    manifest = load_manifest(config.name, config.protocol, config.part)
    base = data_root(root)
    if config.path is None:
        own = Path(config.name).parent if config.name.endswith((".yaml", ".yml")) else None
        if own is not None and (own / LABELS).is_file() and (raw or not _stores(base, manifest, config)):
            return own
        return _in_folder(base, manifest, config, raw, advice)
    path = Path(config.path).expanduser()
    tried = [path] if path.is_absolute() else [path, base / path]
    for candidate in tried:
        if candidate.is_file():
            return candidate.parent if candidate.name == LABELS else candidate
        if (candidate / DOCUMENT).is_file():
            return candidate
        if candidate.is_dir():
            return candidate if config.format is not None else _in_folder(candidate, manifest, config, raw, advice)
    if other := [path for path in tried if path.exists()]:
        raise DataError(f"data.path: {other[0]} is neither a file nor a folder")
    begins = f" (relative paths begin in {Path.cwd()}, or in the data root)" if len(tried) > 1 else ""
    raise DataError(f"data.path: there is no {' and no '.join(map(str, tried))}{begins}. {_how_to_get(manifest, advice)}".rstrip())


def data_root(root: Path | None) -> Path:
    """The folder in which data sets are looked for by name: `root`, MMBENCH_DATA or ``data``."""
    return root if root is not None else Path(os.environ.get("MMBENCH_DATA") or "data")


def store_place(root: Path, manifest: Manifest, layout: str) -> Path:
    """Where a data set is imported to; each protocol, and each part of it, has a place of its own."""
    return root.joinpath(manifest.name, *filter(None, (manifest.protocol, manifest.part)), layout)


def _stores(folder: Path, manifest: Manifest, config: DataConfig) -> dict[str, Path]:
    """By layout, what was imported, or extracted, which is below the name of the data set alone."""
    found: dict[str, Path] = {}
    for layout in LAYOUTS if config.features is None else (config.features,):
        places = [store_place(folder, manifest, layout), folder / manifest.name / layout]
        place = next((place for place in places if (place / DOCUMENT).is_file()), None)
        if place is not None:
            found[layout] = place
    return found


def _in_folder(folder: Path, manifest: Manifest, config: DataConfig, raw: bool, advice: str) -> Path:
    found = _stores(folder, manifest, config)
    written = bool(found)
    if config.features is not None and config.features not in {*manifest.layouts, *found}:
        raise DataError(f"data.features: {manifest.name} has no {config.features} layout; it has {', '.join(manifest.layouts) or 'none'}")
    looked: list[str] = []
    for layout, published in manifest.layouts.items():
        if config.features in (None, layout) and not written:
            looked += published.files
            path = next((path for name in published.files if (path := _matching(folder, Path(name).parts))), None)
            if path is not None:
                found[layout] = path
    tables = [LABELS, *(f"{name}/{LABELS}" for name in manifest.raw)]
    table = next((path for name in tables if (path := _matching(folder, Path(name).parts)) and path.name == LABELS), None)
    if table is not None and (raw or not found):
        return table.parent
    if len(found) > 1:
        listed = " and ".join(f"{path} ({layout})" for layout, path in found.items())
        raise DataError(f"there are {listed}: choose with --set data.features={next(iter(found))}")
    if not found and (source := next((path for path in _folders(folder, manifest) if is_source(path)), None)) is not None:
        return source
    if not found and (other := _another(folder, manifest, config)) is not None:
        raise DataError(f"there are no {config.features} features of {manifest.title} in {folder}, but {other}: --set data.features=null takes these")
    if not found:
        state = "" if folder.is_dir() else " (which does not exist)"
        where = "--data-root FOLDER, MMBENCH_DATA or data.path says where the files are"
        names = ", ".join([*looked, *tables])
        how = ". ".join(filter(None, (where, _how_to_get(manifest, advice), _unreadable(folder, manifest))))
        raise DataError(f"{manifest.title} was not found. Looked in {folder}{state}; {how} (Names that are looked for: {names})")
    return next(iter(found.values()))


def _another(folder: Path, manifest: Manifest, config: DataConfig) -> Path | None:
    """Where features of another layout are than the one that is asked for."""
    if config.features is None:
        return None
    try:
        return _in_folder(folder, manifest, config.model_copy(update={"features": None}), False, "")
    except DataError:
        return None


def _folders(folder: Path, manifest: Manifest) -> list[Path]:
    """Folders that may be a source as they are: this one, and those of the data set in it."""
    return [folder, *(path for name in manifest.raw if (path := _matching(folder, Path(name).parts, Path.is_dir)))]


def _unreadable(folder: Path, manifest: Manifest) -> str:
    """That a pickle in these folders cannot be read, and why: no format recognises such a one."""
    paths = sorted(path for place in _folders(folder, manifest) for path in place.glob("*.pkl") if path.is_file())
    try:
        for path in paths:
            if pickles.peek(path) is None:
                pickles.load(path)
    except DataError as error:
        return f"No use is {error}"
    return ""


def _matching(folder: Path, parts: Sequence[str], wanted: Callable[[Path], bool] = Path.is_file) -> Path | None:
    """The file (or what is `wanted`) below `folder` with these path parts, whatever their case; the exact case is preferred."""
    if not parts:
        return folder if wanted(folder) else None
    if not folder.is_dir():
        return None
    names = sorted((entry.name for entry in folder.iterdir() if entry.name.lower() == parts[0].lower()), key=lambda name: (name != parts[0], name))
    return next((path for name in names if (path := _matching(folder / name, parts[1:], wanted))), None)


def _how_to_get(manifest: Manifest, advice: str) -> str:
    return ". ".join(filter(None, (f"To get it: {manifest.source}" * bool(manifest.source), advice)))
