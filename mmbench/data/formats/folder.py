"""A plain folder: ``label.csv``, and the features of each clip in a file of NumPy.

The table is the one of a raw folder (`mmbench.data.raw`). The features of a clip are, below the folder itself or below its ``features``,

* ``<modality>/<video_id>/<clip_id>.npy``, (T, D), or (D,) for one vector;
* ``<modality>/<video_id>/<clip_id>.npz`` with one array; or
* ``<video_id>/<clip_id>.npz`` with an array for each modality, under its name.

Frames are all real; sequences may be of any length.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mmbench.data import raw
from mmbench.data.array_files import ArrayFile, open_array
from mmbench.data.content import UNIMODAL
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.errors import DataError

PLACES = ("", "features")
_LISTED = 10


class FolderFormat:
    """Reads a plain folder."""

    version = 1

    def recognises(self, path: Path) -> bool:
        """``label.csv``, and a file of NumPy where the features of a clip would be."""
        return (path / raw.LABELS).is_file() and next(_files(path), None) is not None

    def sources(self, path: Path) -> list[Path]:
        """The table and all files of features."""
        return [path / raw.LABELS, *_files(path)]

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """Every file is looked at; values are read when they are written. DataError: rows or files that cannot be used, the first ten of them."""
        table = raw.read(path, manifest)
        found, problems = _features(path, manifest, [clip for split in SPLITS for clip in table.clips[split]])
        if problems:
            more = "; ..." if len(problems) > _LISTED else ""
            raise DataError(f"{path}: {len(problems)} files of features cannot be used: {'; '.join(islice(problems, _LISTED))}{more}")
        content: dict[str, Any] = {"notices": [(notice["modality"], notice["text"]) for notice in table.notices]}
        content["divided"] = [manifest.protocol, manifest.part]  # by the table
        for split in SPLITS:
            samples, targets = table.samples[split], table.columns[f"{split}/target"]
            key = "regression_labels" if manifest.task == "regression" else "classification_labels"
            unimodal = {
                label: column.rows(0, column.shape[0])
                for name, label in UNIMODAL.items()
                if (column := table.columns.get(f"{split}/unimodal/{name}")) is not None
            }
            features = {name: [files[clip] for clip in table.clips[split]] for name, files in found.items()}
            content[split] = {
                "id": samples["ids"],
                "raw_text": samples["transcripts"],
                key: targets.rows(0, targets.shape[0]),
                **unimodal,
                **features,
            }
        return content


def _files(folder: Path) -> Iterator[Path]:
    """Files of NumPy where features may be."""
    for place in PLACES:
        base = folder / place
        yield from (path for path in base.glob("*/*.npz") if path.parent != folder / "features")
        yield from (path for path in base.glob("*/*/*.np[yz]") if place or path.parent.parent != folder / "features")


def _features(folder: Path, manifest: Manifest, clips: list[str]) -> tuple[dict[str, dict[str, ArrayFile]], list[str]]:
    """By modality and clip, its file; and what is wrong with which. Modalities of which there is no file at all are left out."""
    problems: list[str] = []
    found: dict[str, dict[str, ArrayFile]] = {}
    for name in manifest.modalities:
        places = {clip: _place(folder, name, clip) for clip in clips}
        if not any(places.values()):
            continue
        found[name] = {}
        for clip, place in places.items():
            if place is None:
                problems.append(f"{name} of {clip}: there is no {name}/{clip}.npy")
                continue
            try:
                found[name][clip] = open_array(*place)
            except ValueError as error:
                problems.append(f"{place[0].relative_to(folder).as_posix()}{f' ({name})' if place[1] else ''}: {error}")
        widths = Counter(file.shape[1] for file in found[name].values())
        usual = widths.most_common(1)[0][0] if widths else 0
        problems += [
            f"{file.path.relative_to(folder).as_posix()}: {name} is {file.shape[1]} wide, not {usual} as in most files"
            for file in found[name].values()
            if file.shape[1] != usual
        ]
    return found, problems


def _place(folder: Path, name: str, clip: str) -> tuple[Path, str | None] | None:
    """The file that should have the features, and the name of the array in a file of several modalities."""
    for place in PLACES:
        for suffix in (".npy", ".npz"):
            path = folder / place / name / f"{clip}{suffix}"
            if path.is_file():
                return path, None
        path = folder / place / f"{clip}.npz"
        if path.is_file() and may_have(path, name):
            return path, name
    return None


def may_have(path: Path, name: str) -> bool:
    """Whether a ``.npz`` has an array of this name; True where it is damaged, so that reading it tells."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return True
