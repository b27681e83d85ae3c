"""Reads the pickle that users of the field have: a dict for each of train, valid and test, as the MMSA toolkit writes it.

Masks come from the attention mask or from the stated lengths, never from rows of zeros: real frames may be zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data import pickles
from mmbench.data.arrays import as_array, as_integers, as_items, as_text, as_vector, length_of
from mmbench.data.ids import canonical_id
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.data.store import Column, column
from mmbench.errors import DataError

VERSION = 1
"""Version of the rules below; another version is another conversion."""

_UNIMODAL = {"text": "regression_labels_T", "audio": "regression_labels_A", "vision": "regression_labels_V"}
_KEYS = {"id", "raw_text", "text_bert", "regression_labels", "classification_labels", "annotations", *_UNIMODAL.values()}
_FULL = "nothing in the file says which frames are real, so all count as real"
_EMPTY = "samples have no real frame; their first frame counts as real, since every sample must have one"
_NOTICES = {
    "replaced": "values were NaN or infinite and are 0 now",
    "stray": "samples had values outside their real frames; these are 0 now",
    "cut": "samples state a length beyond the array; it was cut to the array's",
}


def read(path: Path, manifest: Manifest) -> MmsaFile:
    """Open a file and check all but the feature values, which are checked while they are written to the store.

    DataError: not such a pickle, a split or key missing, sizes that differ, labels that are NaN or out of range.
    """
    return MmsaFile(path, manifest, pickles.load(path))


class MmsaFile:
    """`columns` for the store, and `document()` for it once the columns are written."""

    def __init__(self, path: Path, manifest: Manifest, content: Any):
        self.path, self.manifest = path, manifest
        self.columns: dict[str, Column] = {}
        self.samples: dict[str, dict[str, list[str]]] = {}
        self.problems: dict[str, str] = {}  # why a modality, or the tokens, cannot be used
        self.notices: list[dict[str, str]] = []
        self.counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
        if not isinstance(content, dict):
            raise DataError(f"{path}: holds a {type(content).__name__}, not a dict with the splits {', '.join(SPLITS)}")
        missing = [name for name in SPLITS if not isinstance(content.get(name), dict)]
        if missing:
            found = ", ".join(map(str, content)) or "nothing"
            raise DataError(f"{path}: the split {', '.join(missing)} is missing; at its top the file has: {found:.200}")
        parts: dict[str, Mapping[str, Any]] = {name: {k: v for k, v in content[name].items() if v is not None} for name in SPLITS}
        used = _KEYS | {*manifest.modalities} | {f"{name}_lengths" for name in manifest.modalities}
        self.ignored = sorted({str(key) for key in content if key not in SPLITS} | {str(key) for part in parts.values() for key in part} - used)
        for split, part in parts.items():
            self._samples(split, part, used)
        bert = self._bert(parts)
        features = {name: self._features(name, parts) for name in manifest.modalities}
        self.layout = _layout(parts, {name: arrays for name, arrays in features.items() if arrays})
        for name, arrays in features.items():
            for split, array in arrays.items():
                mask = self._mask(
                    name, split, parts[split], array.shape[1], bert.get(split), features["text"].get(split) if "text" in features else None
                )
                self._add(name, split, array, mask)
        self._unimodal(parts)

    def document(self) -> dict[str, Any]:
        """What the store's document says. Complete only after the columns were written."""
        for (name, kind), counts in self.counts.items():
            lost = [split for split in SPLITS if kind == "frames" and counts[split] and counts[split] == self.counts[name, "lost"][split]]
            if lost:
                self.problems[name] = f"every value of it in split {', '.join(lost)} is NaN or infinite"
        return {
            "reader": {"name": "mmsa", "version": VERSION},
            "simulated": False,
            "layout": self.layout,
            "splits": self.samples,
            "problems": self.problems,
            "replaced": {name: sum(counts.values()) for (name, kind), counts in self.counts.items() if kind == "replaced"},
            "notices": [*self.notices, *self._counted()],
            "ignored_keys": self.ignored,
        }

    # samples and labels

    def _error(self, split: str, text: object) -> DataError:
        return DataError(f"{self.path}: {split}: {text}")

    def _samples(self, split: str, part: Mapping[str, Any], used: set[str]) -> None:
        if "id" not in part:
            raise self._error(split, "the key 'id' is missing; without ids the split cannot be checked")
        try:
            ids = [canonical_id(item) for item in as_items(part["id"])]
        except ValueError as error:
            raise self._error(split, f"id: {error}") from None
        if not ids:
            raise self._error(split, "has no samples")
        sizes = [f"{key} has {length_of(part[key])}" for key in part if key in used and length_of(part[key]) != len(ids)]
        if sizes:
            raise self._error(split, f"id has {len(ids)} samples, but {', '.join(sizes)}")
        transcripts = [as_text(item) for item in as_items(part["raw_text"])] if "raw_text" in part else []
        self.samples[split] = {"ids": ids, "transcripts": transcripts}
        self.columns[f"{split}/target"] = column(self._target(split, part, ids))

    def _target(self, split: str, part: Mapping[str, Any], ids: list[str]) -> np.ndarray:
        """(N,) float32, or (N,) int64 class indices."""
        regression = self.manifest.task == "regression"
        key = "regression_labels" if regression else "classification_labels"
        if key not in part:
            raise self._error(split, f"the key {key!r} is missing, which the task of {self.manifest.name} ({self.manifest.task}) needs")
        try:
            labels = as_vector(part[key])
            missing = np.asarray(np.isnan(labels))
            self._refuse(split, ids, missing, f"{key} is NaN")
            if not regression:
                labels = as_integers(labels)
        except ValueError as error:
            raise self._error(split, f"{key}: {error}") from None
        low, high = self.manifest.label_range or (0, len(self.manifest.classes) - 1)
        self._refuse(split, ids, np.asarray((labels < low - 1e-6) | (labels > high + 1e-6)), f"{key} is outside [{low:g}, {high:g}]")
        return labels.astype(np.float32) if regression else labels

    def _refuse(self, split: str, ids: list[str], bad: np.ndarray, what: str) -> None:
        if bad.any():
            first = ", ".join(ids[i] for i in np.flatnonzero(bad)[:5])
            raise self._error(split, f"{what} for {int(bad.sum())} of {len(ids)} samples, first of all {first}")

    def _unimodal(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        """Labels of single modalities, as SIMS has them; unusable ones are left out, and that is said."""
        low, high = self.manifest.label_range or (-np.inf, np.inf)
        for name, key in _UNIMODAL.items():
            holders = [split for split in SPLITS if key in parts[split]]
            if not holders or self.manifest.task != "regression":
                continue
            try:
                labels = {split: as_vector(parts[split][key]).astype(np.float32) for split in holders}
                gaps = sum(int(np.isnan(array).sum()) for array in labels.values())
                beyond = sum(int(((array < low - 1e-6) | (array > high + 1e-6)).sum()) for array in labels.values())
                reason = f"{gaps} are NaN" if gaps else f"{beyond} are outside [{low:g}, {high:g}]" if beyond else ""
            except ValueError as error:
                labels, reason = {}, str(error)
            if len(holders) < len(SPLITS):
                reason = f"only {', '.join(holders)} has them"
            if reason:
                self._notice(name, f"its own labels ({key}) are left out: {reason}")
            else:
                self.columns.update({f"{split}/unimodal/{name}": column(array) for split, array in labels.items()})

    # features, tokens and masks

    def _features(self, name: str, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """(N, T, D) of each split, as stored; nothing, with the reason in `problems`, if the file has no such features."""
        holders = [split for split in SPLITS if name in parts[split]]
        if len(holders) < len(SPLITS):
            self.problems[name] = f"only the split {', '.join(holders)} has it" if holders else "the file has none"
            return {}
        arrays = {}
        for split in SPLITS:
            try:
                array = as_array(parts[split][name])
            except ValueError as error:
                raise self._error(split, f"{name}: {error}") from None
            arrays[split] = array[:, None, :] if array.ndim == 2 else array
            if arrays[split].ndim != 3 or 0 in array.shape:
                raise self._error(split, f"{name} has the shape {array.shape}; (samples, frames, width) is expected")
        widths = {split: array.shape[2] for split, array in arrays.items()}
        if len(set(widths.values())) > 1:
            raise DataError(f"{self.path}: {name} has other widths in other splits: {', '.join(f'{s} {w}' for s, w in widths.items())}")
        return arrays

    def _bert(self, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Attention mask (N, L) bool of each split that has `text_bert`, (N, 3, L) of any numeric type; adds the token columns."""
        attention, tokens = {}, {}
        for split, part in parts.items():
            if "text_bert" not in part:
                continue
            try:
                array = as_array(part["text_bert"])
                if array.ndim != 3 or array.shape[1] != 3 or 0 in array.shape:
                    raise ValueError(f"the shape {array.shape} instead of (N, 3, L): token ids, attention mask, segment ids")
                ids, mask, segments = (as_integers(array[:, row]) for row in range(3))
                if ((mask != 0) & (mask != 1)).any():
                    raise ValueError("an attention mask with other values than 0 and 1")
            except ValueError as error:
                raise self._error(split, f"text_bert: {error}") from None
            attention[split] = mask.astype(bool)
            tokens[split] = ids
            if segments.any():
                self.problems["tokens"] = f"segment ids (row 2 of text_bert) are not all zero in split {split}"
            if (ids < 0).any():
                self.problems["tokens"] = f"token ids are negative in split {split}"
        if len(tokens) < len(SPLITS):
            self.problems["tokens"] = f"text_bert is missing in split {', '.join(split for split in SPLITS if split not in tokens)}"
        for split, ids in tokens.items():
            mask = self._never_empty("tokens", split, attention[split].copy())
            self.columns[f"{split}/tokens/text"] = column(np.where(mask, ids, 0))
            self.columns[f"{split}/tokens_mask/text"] = column(mask)
        return attention

    def _mask(self, name: str, split: str, part: Mapping[str, Any], length: int, attention: np.ndarray | None, text: np.ndarray | None) -> np.ndarray:
        """(N, T) bool, True on real frames; every sample has at least one."""
        size = len(self.samples[split]["ids"])
        if length == 1:
            return np.ones((size, 1), bool)
        if attention is not None and attention.shape[1] == length:
            if name == "text":
                return self._never_empty(name, split, attention.copy())
            aligned = text is None or text.shape[1] == length
            if aligned and not any(key.endswith("_lengths") for key in part):
                return self._never_empty(name, split, without_ends(attention))
        key = f"{name}_lengths"
        if key not in part:
            self._notice(name, _FULL)
            return np.ones((size, length), bool)
        try:
            lengths = as_integers(as_vector(part[key]))
        except ValueError as error:
            raise self._error(split, f"{key}: {error}") from None
        if (lengths < 0).any():
            raise self._error(split, f"{key}: negative lengths")
        self.counts[name, "cut"][split] = int((lengths > length).sum())
        return self._never_empty(name, split, np.arange(length) < lengths[:, None])

    def _never_empty(self, name: str, split: str, mask: np.ndarray) -> np.ndarray:
        empty = ~mask.any(axis=1)
        mask[empty, 0] = True
        self.counts[name, "empty"][split] = int(empty.sum())
        return mask

    def _add(self, name: str, split: str, array: np.ndarray, mask: np.ndarray) -> None:
        self.columns[f"{split}/features/{name}"] = Column(array.shape, np.dtype("<f4"), partial(self._rows, name, split, array, mask))
        self.columns[f"{split}/features_mask/{name}"] = column(mask)

    def _rows(self, name: str, split: str, array: np.ndarray, mask: np.ndarray, start: int, stop: int) -> np.ndarray:
        """(n, T, D) float32 with finite values, zero outside the mask; counts what it changed."""
        with np.errstate(over="ignore"):
            block = np.array(array[start:stop], dtype=np.float32)
        real = mask[start:stop]
        bad: np.ndarray = ~np.isfinite(block)
        block[bad] = 0
        self.counts[name, "replaced"][split] += int(bad.sum())
        self.counts[name, "lost"][split] += int((bad.all(axis=2) & real).sum())
        self.counts[name, "frames"][split] += int(real.sum())
        self.counts[name, "stray"][split] += int(((block != 0).any(axis=2) & ~real).any(axis=1).sum())
        block[~real] = 0
        return block

    # what is said about them

    def _notice(self, modality: str, text: str) -> None:
        if {"modality": modality, "text": text} not in self.notices:
            self.notices.append({"modality": modality, "text": text})

    def _counted(self) -> list[dict[str, str]]:
        notices: list[dict[str, str]] = []
        for (name, kind), counts in self.counts.items():
            total = sum(counts.values())
            if total and kind in {"empty", *_NOTICES}:
                where = ", ".join(f"{split} {count}" for split, count in counts.items() if count)
                notices.append({"modality": name, "text": f"{total} {_NOTICES.get(kind, _EMPTY)} ({where})"})
        return notices


def without_ends(attention: np.ndarray) -> np.ndarray:
    """The attention mask (N, L) without its first and last true position, where the text has CLS and SEP."""
    rows = np.arange(len(attention))
    mask = attention.copy()
    mask[rows, attention.argmax(axis=1)] = False
    mask[rows, attention.shape[1] - 1 - attention[:, ::-1].argmax(axis=1)] = False
    return mask


def _layout(parts: Mapping[str, Mapping[str, Any]], features: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """``aligned``: one length for all modalities and no stated lengths."""
    lengths = {array.shape[1] for arrays in features.values() for array in arrays.values()}
    stated = any(key.endswith("_lengths") for part in parts.values() for key in part)
    return "aligned" if len(lengths) <= 1 and not stated else "unaligned"
