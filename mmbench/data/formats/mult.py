"""MulT's pickles (mosi_data.pkl, mosei_senti_data.pkl, iemocap_data.pkl and the same with _noalign).

A dict for each split with ``vision``, ``text`` (GloVe, 300 wide), ``audio`` (N, T, D), ``labels`` (N, 1, 1), or (N, 4, 2) one-hot on IEMOCAP, and
``id``, (N, 3): the name, its start and its end. Source: the loader of github.com/yaohungt/Multimodal-Transformer (Tsai et al., ACL 2019).
Our choices, since the file does not say it: which frames are padding, and the numbers of clips where ids name the video alone; notices tell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data import pickles
from mmbench.data.arrays import as_array, as_text, length_of
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.errors import DataError

_FEATURES = ("text", "audio", "vision")
_BLOCK = 256
COUNTED = "the ids give videos and times, not clips: the clips of each video were numbered from 1 in the order of their starts"
UNNAMED = "the file has no ids: samples are called by their split and row"
PADDING = "frames at the front and the end where {} are all zero count as padding (our choice: the file states no lengths)"


class MultFormat:
    """Reads one of MulT's pickles."""

    version = 1

    def recognises(self, path: Path) -> bool:
        """A pickled dict of splits with ``labels`` and features."""
        content = pickles.peek(path)
        parts = [content.get(name) for name in SPLITS] if isinstance(content, dict) else [None]
        return all(isinstance(part, dict) and "labels" in part and not part.keys().isdisjoint(_FEATURES) for part in parts)

    def sources(self, path: Path) -> list[Path]:
        """The file."""
        return [path]

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """Aligned files get one mask for all modalities. DataError: splits, labels or ids that are not MulT's."""
        if not self.recognises(path):
            pickles.load(path)  # says what is damaged
            raise DataError(f"{path}: is no pickle of MulT: it must have {', '.join(SPLITS)}, each with labels and some of {', '.join(_FEATURES)}")
        content = pickles.peek(path)
        try:
            names, notices, counted = _names({split: content[split] for split in SPLITS})
            masks, more = _masks({split: content[split] for split in SPLITS})
            parts = {
                split: {
                    "id": names[split],
                    **_labels(content[split]["labels"]),
                    **{name: content[split][name] for name in _FEATURES if name in content[split]},
                    **{f"{name}_mask": mask for name, mask in masks.get(split, {}).items()},
                }
                for split in SPLITS
            }
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        return {**parts, "notices": [("", text) for text in [*notices, *more]], "counted": counted, "layout": "aligned" if masks else "unaligned"}


def _labels(value: Any) -> dict[str, np.ndarray]:
    """(N,) as regression labels; (N, K, 2) one-hot as K binary classes (N, K)."""
    labels = np.atleast_1d(as_array(value))
    if labels.ndim == 3 and labels.shape[2] == 2:
        return {"classification_labels": labels.argmax(axis=2)}
    if labels.size != len(labels):
        raise ValueError(f"labels have the shape {labels.shape}, not (N, 1, 1) or (N, classes, 2)")
    return {"regression_labels": labels.reshape(-1)}


def _names(parts: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, list[str]], list[str], bool]:
    """Ids of each split, what is to be said about them, and whether clips were counted."""
    missing = [split for split in SPLITS if parts[split].get("id") is None]
    if missing:
        sizes = {split: length_of(parts[split]["labels"]) or 0 for split in SPLITS}
        return {split: [f"{split}/{row}" for row in range(size)] for split, size in sizes.items()}, [UNNAMED], False
    strange = [type(parts[split]["id"]).__name__ for split in SPLITS if length_of(parts[split]["id"]) is None]
    if strange:
        raise ValueError(f"id: {strange[0]} instead of a list")
    entries = {split: [_entry(item) for item in parts[split]["id"]] for split in SPLITS}
    names = {split: [name for name, _ in found] for split, found in entries.items()}
    everything = [name for split in SPLITS for name in names[split]]
    if len(set(everything)) == len(everything):  # as in mosi_data: video_clip, start, end
        return names, [], False
    return _counted(entries), [COUNTED], True


_Times = tuple[float, ...]


def _entry(item: Any) -> tuple[str, _Times]:
    """Name, and start and end where they are there, from (name, start, end) in text or bytes, or from a name alone."""
    cells = item.tolist() if isinstance(item, (np.ndarray, np.generic)) else item
    cells = list(cells) if isinstance(cells, (list, tuple)) else [cells]
    if not cells or not isinstance(cells[0], (str, bytes, memoryview)):
        raise ValueError(f"id: {str(item)[:60]!r} is no name with its start and end")
    first, *times = (as_text(bytes(cell) if isinstance(cell, memoryview) else cell).strip() for cell in cells)
    return first, tuple(map(float, times[:2]))


def _counted(entries: Mapping[str, Sequence[tuple[str, _Times]]]) -> dict[str, list[str]]:
    """``video$_$n``, n from 1 in the order of starts and ends over all splits; in the file's order where these are equal."""
    places: dict[str, list[tuple[_Times, int, str, int]]] = defaultdict(list)
    for order, split in enumerate(SPLITS):
        for row, (video, times) in enumerate(entries[split]):
            places[video].append((times, order, split, row))
    names: dict[str, list[str]] = {split: [""] * len(entries[split]) for split in SPLITS}
    for video, found in places.items():
        for number, (_, _, split, row) in enumerate(sorted(found, key=lambda place: place[:2]), 1):
            names[split][row] = f"{video}$_${number}"
    return names


def _masks(parts: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """By split and modality (N, T) bool for aligned files, in which one word is one frame of all modalities; nothing for others."""
    masks = {}
    for split in SPLITS:
        arrays = {name: as_array(parts[split][name]) for name in _FEATURES if name in parts[split]}
        shapes = {array.shape[:2] if array.ndim == 3 else () for array in arrays.values()}
        if len(arrays) < 2 or len(shapes) > 1 or shapes == {()} or next(iter(shapes))[1] == 1:
            return {}, []
        mask = _between_zeros(list(arrays.values()))
        masks[split] = dict.fromkeys(arrays, mask)
    padded = any((~mask).any() for part in masks.values() for mask in part.values())
    return masks, [PADDING.format(" and ".join([*masks["train"]]))] if padded else []


def _between_zeros(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """(N, T) bool: from the first to the last frame at which any of the arrays (N, T, D) has a value other than zero."""
    held = np.zeros(arrays[0].shape[:2], bool)
    for start in range(0, len(held), _BLOCK):  # in blocks, since the arrays may be larger than the memory
        for array in arrays:
            held[start : start + _BLOCK] |= (array[start : start + _BLOCK] != 0).any(axis=2)
    return np.logical_or.accumulate(held, axis=1) & np.logical_or.accumulate(held[:, ::-1], axis=1)[:, ::-1]
