"""From what a reader of a format returns to the columns of a store: the one place where samples, labels, masks and features are checked.

A reader returns the schema that the MMSA toolkit writes and every user of the field knows: for each of train, valid and test a dict with

* ``id``: one of the spellings of `mmbench.data.ids` for each sample; ``raw_text``: the transcripts;
* ``regression_labels`` (N,), or ``classification_labels`` (N,) as class indices or the manifest's names of classes;
  ``regression_labels_T``, ``_A``, ``_V``: labels of single modalities;
* ``text``, ``audio``, ``vision`` (or what else the manifest calls a modality): features (N, T, D) or (N, D), or a list of N arrays (T_i, D);
  ``<modality>_lengths``: the number of real frames, which come first; without it a list has its own lengths, an array its full one;
  ``<modality>_mask`` (N, T) bool, where real frames do not come first;
* ``text_bert`` (N, 3, L): token ids, attention mask, segment ids, of any numeric type;

and, beside the splits, what a reader may add: ``layout`` (``aligned`` or ``unaligned``) where the lengths cannot tell; ``notices``, a list of
(modality, text), where an empty modality means all; ``missing``, a list of (modality, why it is not there); ``counted``: True where clips were
numbered from 1 in each video, since the source does not number them; ``divided``: the protocol and part that made its labels and splits.

Masks come from the attention mask or from what is stated, never from rows of zeros: real frames may be zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.arrays import Ragged, as_array, as_integers, as_items, as_pairs, as_text, as_vector, is_ragged, length_of
from mmbench.data.ids import canonical_id
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.data.store import Column, column
from mmbench.errors import DataError

VERSION = 2
"""Version of the rules below; another version is another conversion."""

LAYOUTS = ("aligned", "unaligned")
Frames = np.ndarray | Ragged
"""Features (N, T, D): an array, or a list of sequences that is filled up while it is read."""

UNIMODAL = {"text": "regression_labels_T", "audio": "regression_labels_A", "vision": "regression_labels_V"}
"""By modality: the key of its own labels."""
_KEYS = {"id", "raw_text", "text_bert", "regression_labels", "classification_labels", "annotations", *UNIMODAL.values()}
_BESIDE = ("layout", "notices", "missing", "counted", "divided")
_FULL = "nothing in the file says which frames are real, so all count as real"
_EMPTY = "samples have no real frame; their first frame counts as real, since every sample must have one"
_NOTICES = {
    "replaced": "values were NaN or infinite and are 0 now",
    "stray": "samples had values outside their real frames; these are 0 now",
    "cut": "samples state a length beyond the array; it was cut to the array's",
}


class Content:
    """`columns` for the store, and `document()` for it once the columns are written; `reader` names the format and its version.

    All but the feature values is checked at once; these are checked while they are written.
    DataError: a split or key missing, sizes that differ, labels that are NaN or out of range.
    """

    def __init__(self, path: Path, manifest: Manifest, content: Any, reader: Mapping[str, Any]):
        self.path, self.manifest, self.reader = path, manifest, {**reader, "rules": VERSION}
        self.columns: dict[str, Column] = {}
        self.samples: dict[str, dict[str, list[str]]] = {}
        self.problems: dict[str, str] = {}  # why a modality, or the tokens, cannot be used
        self.notices: list[dict[str, str]] = []
        self.lengths: dict[tuple[str, str], list[int]] = {}  # by split and modality: of lists of sequences
        self.counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
        if not isinstance(content, dict):
            raise DataError(f"{path}: holds a {type(content).__name__}, not a dict with the splits {', '.join(SPLITS)}")
        missing = [name for name in SPLITS if not isinstance(content.get(name), dict)]
        if missing:
            found = ", ".join(map(str, content)) or "nothing"
            raise DataError(f"{path}: the split {', '.join(missing)} is missing; at its top the file has: {found:.200}")
        self.missing = dict(as_pairs(content.get("missing")))  # why, by modality
        parts: dict[str, Mapping[str, Any]] = {name: {k: v for k, v in content[name].items() if v is not None} for name in SPLITS}
        used = _KEYS | {*manifest.modalities} | {f"{name}_{what}" for name in manifest.modalities for what in ("lengths", "mask")}
        extra = {str(key) for key in content if key not in (*SPLITS, *_BESIDE)}
        self.ignored = sorted(extra | {str(key) for part in parts.values() for key in part} - used)
        for split, part in parts.items():
            self._samples(split, part, used)
        bert = self._bert(parts)
        features = {name: self._features(name, parts) for name in manifest.modalities}
        for item in as_pairs(content.get("notices")):
            self._notice(*item)
        self.counted = content.get("counted") is True
        stated = content.get("layout")
        self.layout = stated if stated in LAYOUTS else self._layout(parts, features)
        for name, arrays in features.items():
            for split, array in arrays.items():
                mask = self._mask(
                    name, split, parts[split], array.shape[1], bert.get(split), features["text"].get(split) if "text" in features else None
                )
                self._add(name, split, array, mask)
        self._unimodal(parts)

    def document(self) -> dict[str, Any]:
        """What the store's document says. Complete only after the columns were written."""
        for name, kind in [key for key in self.counts if key[1] == "frames"]:
            for what, text in (("void", "zero"), ("lost", "NaN or infinite")):
                frames, bad = self.counts[name, kind], self.counts[name, what]
                if found := [split for split in SPLITS if frames[split] and frames[split] == bad[split]]:
                    self.problems[name] = f"every value of it in split {', '.join(found)} is {text}"
        return {
            "reader": self.reader,
            "simulated": False,
            "layout": self.layout,
            "splits": self.samples,
            "problems": self.problems,
            "replaced": {name: sum(counts.values()) for (name, kind), counts in self.counts.items() if kind == "replaced"},
            "notices": [*self.notices, *self._counted()],
            "ignored_keys": self.ignored,
            **({"counted": True} if self.counted else {}),
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
            other = {"regression_labels", "classification_labels"} & part.keys()
            found = f"; it has {', '.join(other)}, which is another task" if other else ""
            raise self._error(split, f"the key {key!r} is missing, which the task of {self.manifest.name} ({self.manifest.task}) needs{found}")
        try:
            labels = part[key] if regression else _class_indices(part[key], self.manifest.classes)
            labels = as_vector(labels)
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
        for name, key in UNIMODAL.items():
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

    def _features(self, name: str, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Frames]:
        """(N, T, D) of each split, as stored; nothing, with the reason in `problems`, if the file has no such features."""
        holders = [split for split in SPLITS if name in parts[split]]
        if len(holders) < len(SPLITS):
            self.problems[name] = f"only the split {', '.join(holders)} has it" if holders else self.missing.get(name, "the file has none")
            return {}
        arrays = {}
        for split in SPLITS:
            try:
                array = self._array(split, name, parts[split][name])
            except ValueError as error:
                raise self._error(split, f"{name}: {error}") from None
            arrays[split] = array
            if array.ndim != 3 or 0 in array.shape:
                raise self._error(split, f"{name} has the shape {array.shape}; (samples, frames, width) is expected")
        widths = {split: array.shape[2] for split, array in arrays.items()}
        if len(set(widths.values())) > 1:
            raise DataError(f"{self.path}: {name} has other widths in other splits: {', '.join(f'{s} {w}' for s, w in widths.items())}")
        return arrays

    def _array(self, split: str, name: str, value: Any) -> Frames:
        if is_ragged(value):
            ragged = Ragged(list(value))
            self.lengths[split, name] = ragged.lengths
            return ragged
        array = as_array(value)
        return array[:, None, :] if array.ndim == 2 else array

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

    def _mask(self, name: str, split: str, part: Mapping[str, Any], length: int, attention: np.ndarray | None, text: Frames | None) -> np.ndarray:
        """(N, T) bool, True on real frames; every sample has at least one."""
        size = len(self.samples[split]["ids"])
        if length == 1:
            return np.ones((size, 1), bool)
        if f"{name}_mask" in part:
            return self._never_empty(name, split, self._stated_mask(name, split, part, (size, length)))
        own = self.lengths.get((split, name))
        if attention is not None and attention.shape[1] == length and own is None:
            if name == "text":
                return self._never_empty(name, split, attention.copy())
            aligned = text is None or text.shape[1] == length
            if aligned and not any(key.endswith("_lengths") for key in part):
                return self._never_empty(name, split, without_ends(attention))
        key = f"{name}_lengths"
        stated = part.get(key, own)
        if stated is None:
            self._notice(name, _FULL)
            return np.ones((size, length), bool)
        try:
            lengths = as_integers(as_vector(stated))
        except ValueError as error:
            raise self._error(split, f"{key}: {error}") from None
        if (lengths < 0).any():
            raise self._error(split, f"{key}: negative lengths")
        self.counts[name, "cut"][split] = int((lengths > length).sum())
        return self._never_empty(name, split, np.arange(length) < lengths[:, None])

    def _stated_mask(self, name: str, split: str, part: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
        try:
            mask = as_array(part[f"{name}_mask"])
            if mask.shape != shape:
                raise ValueError(f"the shape {mask.shape}, not {shape}")
        except ValueError as error:
            raise self._error(split, f"{name}_mask: {error}") from None
        return mask.astype(bool)

    def _never_empty(self, name: str, split: str, mask: np.ndarray) -> np.ndarray:
        empty = ~mask.any(axis=1)
        mask[empty, 0] = True
        self.counts[name, "empty"][split] = int(empty.sum())
        return mask

    def _add(self, name: str, split: str, array: Frames, mask: np.ndarray) -> None:
        self.columns[f"{split}/features/{name}"] = Column(array.shape, np.dtype("<f4"), partial(self._rows, name, split, array, mask))
        self.columns[f"{split}/features_mask/{name}"] = column(mask)

    def _rows(self, name: str, split: str, array: Frames, mask: np.ndarray, start: int, stop: int) -> np.ndarray:
        """(n, T, D) float32 with finite values, zero outside the mask; counts what it changed."""
        with np.errstate(over="ignore"):
            block = np.array(array[start:stop], dtype=np.float32)
        real = mask[start:stop]
        bad: np.ndarray = ~np.isfinite(block)
        block[bad] = 0
        self.counts[name, "replaced"][split] += int(bad.sum())
        self.counts[name, "lost"][split] += int((bad.all(axis=2) & real).sum())
        self.counts[name, "frames"][split] += int(real.sum())
        void = ~(block != 0).any(axis=2)
        self.counts[name, "void"][split] += int((void & real).sum())
        self.counts[name, "stray"][split] += int((~void & ~real).any(axis=1).sum())
        block[~real] = 0
        return block

    def _layout(self, parts: Mapping[str, Mapping[str, Any]], features: Mapping[str, Mapping[str, Frames]]) -> str:
        """``aligned``: one length for all modalities, and no stated lengths or the same ones for at least two of them."""
        if len({array.shape[1] for arrays in features.values() for array in arrays.values()}) > 1:
            return "unaligned"
        for split, part in parts.items():
            stated = [part[f"{name}_lengths"] for name in features if f"{name}_lengths" in part]
            stated += [lengths for (key, _), lengths in self.lengths.items() if key == split]
            if stated and (len(stated) == 1 < len(features) or not _same(stated)):
                return "unaligned"
        return "aligned"

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


def _same(stated: list[Any]) -> bool:
    """Whether lengths are the same ones; what is wrong with others, the mask says."""
    try:
        return len({as_vector(lengths).astype(np.float64).tobytes() for lengths in stated}) == 1
    except ValueError:
        return False


def _class_indices(labels: Any, classes: tuple[str, ...]) -> Any:
    """Names of classes as their indices; anything else as it is. ValueError: a name that is none of the classes."""
    items = as_items(labels) if length_of(labels) is not None else []
    if not items or not all(isinstance(item, (str, bytes)) for item in items):
        return labels
    known = {name.casefold(): i for i, name in enumerate(classes)}
    names = [as_text(item).strip() for item in items]
    unknown = sorted({name for name in names if name.casefold() not in known})
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown[:3]))} is none of the classes {', '.join(classes)}")
    return np.array([known[name.casefold()] for name in names])


def without_ends(attention: np.ndarray) -> np.ndarray:
    """The attention mask (N, L) without its first and last true position, where the text has CLS and SEP."""
    rows = np.arange(len(attention))
    mask = attention.copy()
    mask[rows, attention.argmax(axis=1)] = False
    mask[rows, attention.shape[1] - 1 - attention[:, ::-1].argmax(axis=1)] = False
    return mask
