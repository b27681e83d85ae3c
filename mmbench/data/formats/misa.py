"""MISA's folder: train.pkl, dev.pkl and test.pkl, and embedding_and_mapping.pt.

A pickle is a list of ``((word ids, visual (T, 47), acoustic (T, 74), words), label (1, 1), segment)``; the file of torch holds the GloVe vectors
(V, 300) that word ids count in, and the vocabulary. Made from the CMU SDK's fields, pauses removed, each utterance normalised in time.
Source: github.com/declare-lab/MISA (Hazarika et al., ACM MM 2020). Folders that MMIM makes, with two more items beside the words, read alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data import pickles, torch_files
from mmbench.data.arrays import as_array, as_integers, as_text, length_of
from mmbench.data.ids import canonical_id, fingerprint
from mmbench.data.manifest import Manifest
from mmbench.errors import DataError

FILES = {"train": "train.pkl", "valid": "dev.pkl", "test": "test.pkl"}
VECTORS = "embedding_and_mapping.pt"
SHIFTED = "the segments are numbered from 0 and the published clips from 1: one was added, since the splits are the published ones then"


class MisaFormat:
    """Reads one of MISA's folders."""

    version = 1

    def recognises(self, path: Path) -> bool:
        """A folder with the three pickles, of which one holds samples as MISA has them; another that is damaged is told when it is read."""
        return all((path / name).is_file() for name in FILES.values()) and any(
            _has_samples(path / FILES[split]) for split in ("valid", "test", "train")
        )

    def sources(self, path: Path) -> list[Path]:
        """The three pickles, and the vectors where they are there."""
        return [path / name for name in (*FILES.values(), VECTORS) if (path / name).is_file()]

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """Text is the vectors of its words. DataError: a sample that is not one of MISA's."""
        samples = {split: _samples(path / name) for split, name in FILES.items()}
        names, notices = _names({split: [sample[2] for sample in part] for split, part in samples.items()}, manifest, path)
        vectors, missing = _vectors(path / VECTORS)
        lengths, parts = set(), {}
        for split, part in samples.items():
            parts[split] = _part(path / FILES[split], part, names[split])
            if missing is None:
                texts, missing = _texts(vectors, part)
                parts[split]["text"] = texts
            lengths |= {len({*map(len, sample[0][1:4])}) for sample in part}
        if missing is not None:
            for content in parts.values():
                content.pop("text", None)
        layout = "aligned" if lengths == {1} else "unaligned"
        return {**parts, "layout": layout, "notices": [("", text) for text in notices], "missing": [("text", missing)] if missing else []}


def _has_samples(path: Path) -> bool:
    samples = pickles.peek(path)
    return isinstance(samples, list) and bool(samples) and _is_sample(samples[0])


def _is_sample(sample: Any) -> bool:
    return isinstance(sample, (tuple, list)) and len(sample) >= 3 and isinstance(sample[0], (tuple, list)) and len(sample[0]) >= 4


def _samples(path: Path) -> list[Any]:
    samples = pickles.load(path)
    wrong = [row for row, sample in enumerate(samples) if not _is_sample(sample)] if isinstance(samples, list) else [0]
    if wrong or not samples:
        raise DataError(f"{path}: row {(wrong or [0])[0]} is not ((word ids, visual, acoustic, words), label, segment), as MISA writes it")
    return samples


def _part(path: Path, samples: list[Any], names: list[str]) -> dict[str, Any]:
    labels, words, features = [], [], {"vision": [], "audio": []}  # type: ignore[var-annotated]
    for row, sample in enumerate(samples):
        (_, visual, acoustic, spoken, *_), label, *_ = sample
        place = f"{path}: row {row} ({names[row]})"
        value = _array(place, "label", label)
        if value.size != 1:
            raise DataError(f"{place}: the label has the shape {value.shape}, not (1, 1)")
        labels.append(float(value.reshape(-1)[0]))
        if length_of(spoken) is None:
            raise DataError(f"{place}: the words are no list, but {type(spoken).__name__}")
        words.append(" ".join(map(as_text, spoken)))
        for name, frames in (("vision", visual), ("audio", acoustic)):
            array = _array(place, name, frames)
            if array.ndim != 2:
                raise DataError(f"{place}: {name} has the shape {array.shape}, not (frames, width)")
            features[name].append(array)
    return {"id": names, "raw_text": words, "regression_labels": np.array(labels), **features}


def _array(place: str, what: str, value: Any) -> np.ndarray:
    try:
        return as_array(value)
    except ValueError as error:
        raise DataError(f"{place}: {what}: {error}") from None


# ids


def _names(segments: Mapping[str, list[Any]], manifest: Manifest, path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Canonical ids. Segments are numbered as the SDK has it; that is one less than the published number where the splits say so."""
    try:
        names = {split: [canonical_id(_plain(segment)) for segment in part] for split, part in segments.items()}
    except ValueError as error:
        raise DataError(f"{path}: segment: {error}") from None
    shifted = {split: [_next(name) for name in part] for split, part in names.items()}
    return (shifted, [SHIFTED]) if _published(shifted, manifest) > _published(names, manifest) else (names, [])


def _plain(segment: Any) -> Any:
    """Text, bytes or a number, out of an array of one if need be."""
    value = segment.tolist() if isinstance(segment, (np.ndarray, np.generic)) else segment
    while isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    return bytes(value) if isinstance(value, memoryview) else value


def _next(name: str) -> str:
    video, _, clip = name.rpartition("/")
    return f"{video}/{int(clip) + 1}" if clip.isascii() and clip.isdigit() and video else name


def _published(names: Mapping[str, list[str]], manifest: Manifest) -> int:
    """How many of the published splits these are."""
    found = {key: fingerprint([name for split in key.split("+") for name in names[split]]) for key in manifest.splits}
    return sum(part.fingerprint == found[key] for key, part in manifest.splits.items())


# text


@dataclass(frozen=True)
class _Words:
    """The vectors of an utterance's words, (T, D), taken from the table when they are asked for."""

    table: np.ndarray
    ids: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.ids), self.table.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.table.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.table[self.ids], dtype)


def _vectors(path: Path) -> tuple[np.ndarray, str | None]:
    """The vectors (V, D), or why there are none."""
    nothing = np.zeros((0, 0), np.float32)
    if not path.is_file():
        return nothing, f"{VECTORS}, which has the vectors of the words, is not in the folder"
    try:
        content = torch_files.load(path)
    except DataError as error:
        return nothing, f"{VECTORS}, which has the vectors of the words, cannot be used: {str(error).removeprefix(f'{path}: ')}"
    table = content[0] if isinstance(content, (tuple, list)) and content else content
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind != "f" or 0 in table.shape:
        return nothing, f"{VECTORS} does not begin with a table of vectors"
    return table, None


def _texts(table: np.ndarray, samples: list[Any]) -> tuple[list[_Words], str | None]:
    """The text of each sample, or why there is none."""
    texts = []
    for (words, *_), *_ in samples:
        try:
            ids = as_integers(as_array(words).reshape(-1))
        except ValueError:
            return [], "the words have no ids"
        if not ids.size or ids.min() < 0 or ids.max() >= len(table):
            return [], f"the words have ids beyond the {len(table)} vectors of {VECTORS}" if ids.size else "some samples have no ids of words"
        texts.append(_Words(table, ids))
    return texts, None
