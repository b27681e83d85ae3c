"""Which class and which split each sample of a source gets under the manifest's protocol; a step between a reader and `mmbench.data.content`.

It knows no data set: what a protocol does is stated in the manifest (`mmbench.data.manifest.Division`). In this order

* the source's classes become the protocol's: `drop` leaves samples out, `merge` renames classes, `positive` asks for one class alone.
  Labels may be names of classes, indices, or 0/1 for each class (N, C) in the order of `source_classes`;
* `leave_out` leaves single samples out;
* with `test`, all samples are put together and divided anew; without it they stay where the source has them;
* with `validation`, whole videos are cut from training where there is no validation split: videos in the order of the sha256 of their names, until
  the share of the samples is reached. The same samples are cut whatever the order of the rows.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.arrays import as_array, as_integers, as_items, as_text, as_vector, length_of
from mmbench.data.ids import canonical_id, video_of
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.errors import DataError

_LABELS = "classification_labels"
Part = Mapping[str, Any]


def divide(path: Path, manifest: Manifest, content: Any) -> Any:
    """The content of a source (the schema of `mmbench.data.content`) under the protocol. What is no such content is left to the checks there.

    DataError: a class that the protocol does not know, labels that cannot be its labels, or samples that cannot be divided.
    """
    if not isinstance(content, Mapping):
        return content
    if isinstance(done := content.get("divided"), list):  # what was exported is not divided again
        if done != [manifest.protocol, manifest.part]:
            raise DataError(f"{path}: was exported under the protocol {' '.join(map(str, done))}, not {manifest.protocol} {manifest.part}")
        return content
    parts: dict[str, Part] = {
        name: {k: v for k, v in content[name].items() if v is not None} for name in SPLITS if isinstance(content.get(name), Mapping)
    }
    parts = {name: part for name, part in parts.items() if "id" not in part or length_of(part["id"]) != 0}
    if any("id" not in part or length_of(part["id"]) is None for part in parts.values()):
        return content
    if manifest.task == "classification" and manifest.source_classes and all(_LABELS in part for part in parts.values()):
        parts = _classified(path, manifest, parts)
    if manifest.leave_out:
        parts = {name: _without(path, set(manifest.leave_out), part) for name, part in parts.items()}
    if manifest.test is not None:
        parts = _redivided(path, manifest, parts)
    if manifest.validation is not None and "train" in parts and "valid" not in parts:
        parts = _with_validation(path, manifest.validation, parts)
    return {**{key: value for key, value in content.items() if key not in SPLITS}, **{name: parts[name] for name in SPLITS if name in parts}}


# classes


def _classified(path: Path, manifest: Manifest, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Every split with labels (N,) int64 among the protocol's classes, without the samples that it drops."""
    split = ""
    labels: dict[str, list[str] | np.ndarray] = {}
    result: dict[str, Part] = {}
    try:
        for split, part in parts.items():
            labels[split] = _plain_labels(part[_LABELS])
        names = _index_names(manifest, labels.values())
        for split, part in parts.items():
            target = _targets(manifest, labels[split], names)
            result[split] = _rows({**part, _LABELS: target}, np.flatnonzero(target >= 0))
    except ValueError as error:
        raise DataError(f"{path}: {split}: {_LABELS}: {error}") from None
    return result


def _plain_labels(value: Any) -> list[str] | np.ndarray:
    """Names of classes, (N,) indices, or (N, C) 0/1. ValueError: anything else."""
    array = value if isinstance(value, np.ndarray) else None
    if array is None or array.dtype.kind in "OUS":
        items = as_items(value)
        if items and all(isinstance(item, (str, bytes)) for item in items):
            return [as_text(item).strip().casefold() for item in items]
    array = as_array(value)
    if array.ndim == 2 and array.shape[1] > 1:
        if not np.isin(array, (0, 1)).all():
            raise ValueError(f"the shape {array.shape} with other values than 0 and 1")
        return array.astype(np.int64)
    return as_integers(as_vector(array))


def _index_names(manifest: Manifest, labels: Iterable[list[str] | np.ndarray]) -> tuple[str, ...]:
    """What the indices of a source name: the protocol's classes, or the source's own where an index is beyond those."""
    highest = max((int(each.max(initial=0)) for each in labels if isinstance(each, np.ndarray) and each.ndim == 1), default=0)
    return manifest.classes if highest < len(manifest.classes) else manifest.source_classes


def _targets(manifest: Manifest, labels: list[str] | np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(N,) int64 among the protocol's classes, -1 for samples that it drops."""
    if isinstance(labels, np.ndarray) and labels.ndim == 2:
        return _one_column(manifest, labels)
    if isinstance(labels, np.ndarray):
        if manifest.positive:
            raise ValueError(f"an index alone does not say which of {', '.join(manifest.source_classes)} it means; give the names of the classes")
        if outside := sorted({int(i) for i in labels} - set(range(len(names)))):
            raise ValueError(f"{outside[0]} is outside [0, {len(names) - 1}], the indices of {', '.join(names)}")
        table = [_target(manifest, name) for name in names]
        return np.array([table[i] for i in labels], np.int64)
    known = {name.casefold(): name for name in (*manifest.classes, *manifest.source_classes)}
    if unknown := sorted(set(labels) - set(known)):
        raise ValueError(f"{', '.join(map(repr, unknown[:3]))} is none of the classes {', '.join(manifest.source_classes)}")
    return np.array([_target(manifest, known[name]) for name in labels], np.int64)


def _one_column(manifest: Manifest, labels: np.ndarray) -> np.ndarray:
    """The column of the class that is asked for."""
    if manifest.positive is None:
        others = ", ".join(name for name in manifest.protocols if name != manifest.protocol)
        raise ValueError(
            f"it says yes or no for each of {labels.shape[1]} classes, and the protocol {manifest.protocol} wants one class for each sample. "
            f"Choose another with data.protocol: {others}"
        )
    if labels.shape[1] != len(manifest.source_classes):
        raise ValueError(f"it has {labels.shape[1]} columns, not one for each of {', '.join(manifest.source_classes)}")
    return labels[:, manifest.source_classes.index(manifest.positive)]


def _target(manifest: Manifest, name: str) -> int:
    """Index of a class of the source among the protocol's, -1 if it is dropped. ValueError: the protocol does not say what becomes of it."""
    if name in manifest.drop:
        return -1
    merged = manifest.merge.get(name, name)
    if manifest.positive:
        return int(merged == manifest.positive)
    if merged not in manifest.classes:
        raise ValueError(f"the class {name} is neither among {', '.join(manifest.classes)} nor merged or dropped by the protocol {manifest.protocol}")
    return manifest.classes.index(merged)


# splits


def _without(path: Path, digests: set[str], part: Part) -> dict[str, Any]:
    """The samples whose ids have none of these digests."""
    return _rows(part, np.flatnonzero([hashlib.sha256(name.encode()).hexdigest()[:12] not in digests for name in _ids(path, part)]))


def _redivided(path: Path, manifest: Manifest, parts: Mapping[str, Part]) -> dict[str, Part]:
    """All samples in one, then train and test by the pattern for ids."""
    whole = _together(path, manifest, parts)
    ids = _ids(path, whole)
    chosen = np.array([re.search(manifest.test or "", name) is not None for name in ids], bool)
    if chosen.all() or not chosen.any():
        which = "all" if chosen.any() else "none"
        raise DataError(f"{path}: {which} of the {len(ids)} ids match {manifest.test!r}, which chooses the test samples; first id {ids[0]}")
    return {"train": _rows(whole, np.flatnonzero(~chosen)), "test": _rows(whole, np.flatnonzero(chosen))}


def _with_validation(path: Path, share: float, parts: Mapping[str, Part]) -> dict[str, Part]:
    videos = [video_of(name) for name in _ids(path, parts["train"])]
    try:
        chosen = validation_videos(videos, share)
    except ValueError as error:
        raise DataError(f"{path}: train: {error}") from None
    cut = np.array([video in chosen for video in videos], bool)
    return {**parts, "train": _rows(parts["train"], np.flatnonzero(~cut)), "valid": _rows(parts["train"], np.flatnonzero(cut))}


def validation_videos(videos: Sequence[str], share: float) -> frozenset[str]:
    """The videos that are cut for validation, from the video of each sample. ValueError: nothing would be left."""
    counts = Counter(videos)
    chosen: set[str] = set()
    taken = 0
    for video in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if taken >= share * len(videos):
            break
        chosen.add(video)
        taken += counts[video]
    if len(chosen) == len(counts):
        raise ValueError(f"its {len(videos)} samples are of {len(counts)} videos, too few to cut whole videos for validation")
    return frozenset(chosen)


# rows


def _ids(path: Path, part: Part) -> list[str]:
    try:
        return [canonical_id(item) for item in as_items(part["id"])]
    except ValueError as error:
        raise DataError(f"{path}: id: {error}") from None


def _rows(part: Part, rows: np.ndarray) -> dict[str, Any]:
    """These rows of everything that has one for each sample; what is whole stays as it is, mapped from its file."""
    size = length_of(part["id"])
    if len(rows) == size:
        return dict(part)
    return {key: _chosen(value, rows) if length_of(value) == size else value for key, value in part.items()}


def _chosen(value: Any, rows: np.ndarray) -> Any:
    return value[rows] if isinstance(value, np.ndarray) else [value[i] for i in rows]


def _together(path: Path, manifest: Manifest, parts: Mapping[str, Part]) -> dict[str, Any]:
    """The samples of all splits as one split, of the keys that all of them have."""
    common = [key for key in next(iter(parts.values()), {}) if all(key in part for part in parts.values())]
    for name in manifest.modalities:
        if holders := [split for split, part in parts.items() if name in part and name not in common]:
            raise DataError(f"{path}: only the split {', '.join(holders)} has {name}, so the samples cannot be divided anew ({manifest.protocol})")
    whole: dict[str, Any] = {}
    for key in common:
        values = [part[key] for part in parts.values()]
        if any(length_of(part[key]) != length_of(part["id"]) for part in parts.values()):
            raise DataError(f"{path}: {key} has not as many entries as there are ids")
        arrays = [value for value in values if isinstance(value, np.ndarray) and value.dtype != object]
        if len(arrays) < len(values):
            whole[key] = [item for value in values for item in value]
        elif len({array.shape[1:] for array in arrays}) > 1:
            shapes = ", ".join(f"{split} {array.shape}" for split, array in zip(parts, arrays, strict=True))
            raise DataError(f"{path}: {key} has unlike shapes ({shapes}), so the samples cannot be divided anew ({manifest.protocol})")
        else:
            whole[key] = np.concatenate(arrays)
    return whole
