"""Previous utterances of the same video, joined into one sequence: what was said before, as an input of its own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmbench.data.dataset import Modality
from mmbench.data.ids import video_of
from mmbench.data.store import Column, open_or_build, store_folder, write_store

VERSION = 1
"""Version of the rules below; another version is another sequence."""

IN_MEMORY = 256 << 20
"""Bytes of joined sequences that are held in memory; larger ones are mapped from the cache."""

_BLOCK_BYTES = 8 << 20


def previous_utterances(ids: Sequence[str], count: int) -> np.ndarray:
    """Which utterances come before each one in its video: (N, count) positions in `ids` (canonical, of one split), the latest in the last column.

    -1 in the first columns where there are fewer. The order is that of the clips' names, numbers in them by value: 2 before 10, F009 before F010
    (IEMOCAP: the turns of one speaker, then those of the other).
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    videos = [video_of(name) for name in ids]
    order = np.array(sorted(range(len(ids)), key=lambda i: (videos[i], _natural(ids[i][len(videos[i]) :]), ids[i])), dtype=np.int64)
    starts = np.array([k == 0 or videos[order[k]] != videos[order[k - 1]] for k in range(len(order))], dtype=bool)
    along = np.arange(len(order))
    place = along - np.maximum.accumulate(np.where(starts, along, 0))  # 0 for a video's first utterance
    result = np.full((len(order), count), -1, np.int64)
    for back in range(1, min(count, int(place.max(initial=0))) + 1):
        later = np.flatnonzero(place >= back)
        result[order[later], count - back] = order[later - back]
    return result


def _natural(clip: str) -> list[str | int]:
    """Text and numbers in turn, so that two lists can always be compared."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", clip))]


def join_context(modality: Modality, previous: np.ndarray, key: str | None = None) -> Modality:
    """The real frames of each sample's previous utterances in one sequence without holes: (N, W, D) features, or (N, W) token ids or waveform.

    `previous`: (N, n) positions in the same split, -1 for none, as `previous_utterances` makes them. Token ids of an utterance follow without
    their first one (CLS) where another utterance precedes. The mask is empty where there is no previous utterance. W is the longest joined
    sequence, at least 1; for a waveform it is n times the modality's own length; 0 for a text that is not tokenised yet.
    `key`: what identifies the result; with it, more than 256 MB are written to the cache and mapped, else all is held in memory.
    """
    joined = _Joined(modality, previous)
    values, mask = joined.columns()
    if key is None or values.nbytes + mask.nbytes <= IN_MEMORY:
        return Modality(_filled(values), _filled(mask))
    digest = hashlib.sha256(json.dumps([VERSION, key]).encode()).hexdigest()

    def build(folder: Path) -> None:
        write_store(folder, {"values": values, "mask": mask}, dict)

    store = open_or_build(store_folder(digest, "context"), build)
    return Modality(store.arrays["values"], store.arrays["mask"])


class _Joined:
    """`columns()`: the joined values and their mask, made in blocks of rows."""

    def __init__(self, modality: Modality, previous: np.ndarray):
        self.modality = modality
        self.previous = previous[:, (previous >= 0).any(axis=0)]
        own = modality.mask.shape[1]
        frames = np.concatenate([np.count_nonzero(modality.mask[rows], axis=1) for rows in _blocks(len(previous), own)])  # (N,)
        counts = np.where(self.previous >= 0, frames[self.previous], 0)  # (N, n)
        self.lengths = counts.sum(axis=1)
        if modality.kind == "tokens":
            self.lengths -= _later(counts > 0).sum(axis=1)
        if own == 0:
            self.width = 0
        elif modality.kind == "waveform":
            self.width = own * max(1, self.previous.shape[1])  # fixed, as a waveform's own length is
        else:
            self.width = max(1, int(self.lengths.max(initial=0)))

    def columns(self) -> tuple[Column, Column]:
        shape = (len(self.previous), self.width)
        values = self.modality.values
        return Column((*shape, *values.shape[2:]), values.dtype, self._values), Column(shape, np.dtype(bool), self._mask)

    def _mask(self, start: int, stop: int) -> np.ndarray:
        """(n, W) bool"""
        return np.arange(self.width) < self.lengths[start:stop, None]

    def _values(self, start: int, stop: int) -> np.ndarray:
        """(n, W, ...), zero outside the mask."""
        chosen = self.previous[start:stop]  # (n, u)
        real = np.asarray(self.modality.mask[chosen]) & (chosen >= 0)[..., None]  # (n, u, T)
        if self.modality.kind == "tokens" and real.size:
            row, utterance = np.nonzero(_later(np.asarray(real.any(axis=2))))
            real[row, utterance, real.argmax(axis=2)[row, utterance]] = False
        block = np.zeros((stop - start, self.width, *self.modality.values.shape[2:]), self.modality.values.dtype)
        block[self._mask(start, stop)] = np.asarray(self.modality.values[chosen])[real]  # both run row by row, and in a row in time
        return block


def _later(present: np.ndarray) -> np.ndarray:
    """Which utterances (N, u) follow another one that is present."""
    return present & (present.cumsum(axis=1) > 1)


def _filled(column: Column) -> np.ndarray:
    result = np.empty(column.shape, column.dtype)
    for rows in _blocks(column.shape[0], column.nbytes // max(1, column.shape[0])):
        result[rows] = column.rows(rows.start, rows.stop)
    return result


def _blocks(size: int, row_bytes: int) -> list[slice]:
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]
