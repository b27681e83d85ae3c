"""What the config does to features: cut long sequences, standardise with statistics of the training split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np

from mmbench.config import StandardizeConfig
from mmbench.data.dataset import Modality, Split
from mmbench.data.store import Column, open_or_build, store_folder, write_store
from mmbench.errors import DataError

VERSION = 1
"""Of what `standardize` keeps in the cache."""

IN_MEMORY = 1 << 20
_BLOCK_BYTES = 1 << 20  # small enough for a core's cache


def cut(splits: Mapping[str, Split], lengths: Mapping[str, int]) -> tuple[dict[str, Split], list[str]]:
    """Keep the first frames of some modalities: (N, T, D) becomes (N, min(T, n), D). Returns the splits and warnings.

    A sample that keeps no real frame gets its first frame as one. DataError: a modality that is not in use.
    """
    _check_names("max_length", lengths, splits)
    result, warnings = dict(splits), []
    for name, length in lengths.items():
        emptied = 0
        for key, split in result.items():
            part = split.inputs[name]
            if part.mask.shape[1] <= length:
                continue
            mask = part.mask[:, :length]
            empty = ~mask.any(axis=1)
            if empty.any():
                mask = np.array(mask)
                mask[empty, 0] = True
                emptied += int(empty.sum())
            result[key] = _with(split, name, Modality(part.values[:, :length], mask))
        if emptied:
            warnings.append(f"{name}: {emptied} samples have no real frame among the first {length}; their first frame counts as real")
    return result, warnings


def standardize(splits: Mapping[str, Split], config: StandardizeConfig, keys: Mapping[str, object] | None = None) -> dict[str, Split]:
    """z-scores, ``(clip(x) - mean) / std`` for each column, with the percentiles, mean and std of the training split's real frames.

    Columns that are constant there become 0 everywhere, and padding stays 0. Inputs and results: (N, T, D) float32.
    `keys`: by modality, what identifies its values (JSON-ready); with it, more than 1 MiB are written to the cache once and mapped from then on,
    so that a start neither reads all of the data nor holds a copy of them. Else, and where the cache cannot be written, they are in memory.
    DataError: a modality that is not in use or has tokens, percentiles out of order, or z-scores beyond float32.
    """
    train = splits["train"].inputs
    features = [name for name, part in train.items() if part.kind == "features"]
    chosen = features if config.modalities is None else config.modalities
    _check_names("standardize.modalities", chosen, splits)
    for name in chosen:
        if name not in features:
            what = "token ids" if train[name].kind == "tokens" else "a waveform"
            raise DataError(f"data.standardize.modalities: {name} has {what}, which cannot be standardised")
    if config.percentiles is not None and not 0 <= config.percentiles[0] < config.percentiles[1] <= 100:
        raise DataError(f"data.standardize.percentiles: {list(config.percentiles)} must be a lower and a higher number between 0 and 100")
    result = dict(splits)
    for name in chosen:
        try:
            scored = _standardized({split: part.inputs[name] for split, part in splits.items()}, config.percentiles, keys.get(name) if keys else None)
        except OverflowError as error:
            raise DataError(f"data.standardize: {name}: {error}") from None
        for key, split in result.items():
            result[key] = _with(split, name, Modality(scored[key], split.inputs[name].mask))
    return result


def _standardized(parts: Mapping[str, Modality], percentiles: tuple[float, float] | None, key: object | None) -> Mapping[str, np.ndarray]:
    """The z-scores of one modality by split, in memory or mapped from the cache."""

    def columns() -> dict[str, Column]:
        low, high = _percentiles(parts["train"], percentiles)
        moments = _moments(parts["train"], low, high)
        return {split: Column(part.values.shape, np.dtype("<f4"), partial(_scored, part, low, high, *moments)) for split, part in parts.items()}

    if key is not None and sum(part.values.nbytes for part in parts.values()) > IN_MEMORY:
        content = [VERSION, key, percentiles, {split: part.values.shape for split, part in parts.items()}]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        with suppress(DataError):  # a cache that is full or not ours to write to costs time and memory, and changes no number
            return open_or_build(store_folder(digest, "standardize"), lambda folder: write_store(folder, columns(), dict)).arrays
    return {split: column.rows(0, column.shape[0]) for split, column in columns().items()}


def _check_names(option: str, names: object, splits: Mapping[str, Split]) -> None:
    known = list(splits["train"].inputs)
    for name in names:  # type: ignore[attr-defined]
        if name not in known:
            raise DataError(f"data.{option} names {name}, which is not among the modalities in use: {', '.join(known)}")


def _with(split: Split, name: str, part: Modality) -> Split:
    return replace(split, inputs={key: part if key == name else old for key, old in split.inputs.items()})


def _real_frames(part: Modality, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of samples: which ones, their mask, and their real frames (F, D) in float64, which the caller may change."""
    row = part.values[0].size * 8
    step = max(1, _BLOCK_BYTES // max(row, 1))
    stop = len(part.values) if stop is None else stop
    for first in range(start, stop, step):
        rows = slice(first, min(first + step, stop))
        mask = np.asarray(part.mask[rows])
        yield rows, mask, np.asarray(part.values[rows])[mask].astype(np.float64)


def _percentiles(part: Modality, percentiles: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of each column, (D,) each."""
    width = part.values.shape[2]
    if percentiles is None:
        return np.full(width, -np.inf), np.full(width, np.inf)
    mask = np.asarray(part.mask)
    groups = [np.percentile(np.asarray(part.values)[:, :, d : d + 16][mask], percentiles, axis=0) for d in range(0, width, 16)]
    low, high = np.concatenate(groups, axis=1).astype(np.float64)
    return low, high


def _clipped(frames: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The frames (F, D) themselves, changed where they lie outside the bounds."""
    return np.minimum(np.maximum(frames, low, out=frames), high, out=frames)


def _moments(part: Modality, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1/std of each column, (D,) each; 0 instead of 1/std where a column is constant at the precision of float32."""
    width = part.values.shape[2]
    count, total, squares = 0, np.zeros(width), np.zeros(width)
    for _, _, frames in _real_frames(part):
        count += len(frames)
        total += _clipped(frames, low, high).sum(axis=0)
    mean = total / count
    for _, _, frames in _real_frames(part):
        frames = _clipped(frames, low, high)
        frames -= mean
        squares += np.square(frames, out=frames).sum(axis=0)
    std = np.sqrt(squares / count)
    constant = std <= np.maximum(np.finfo(np.float32).eps * np.abs(mean), np.finfo(np.float32).tiny)
    return mean, np.where(constant, 0, 1 / np.where(constant, 1, std))


def _scored(part: Modality, low: np.ndarray, high: np.ndarray, mean: np.ndarray, scale: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The z-scores of samples `start` to `stop`, (n, T, D) float32. OverflowError: float32 does not hold one."""
    result = np.zeros((stop - start, *part.values.shape[1:]), np.float32)
    with np.errstate(over="ignore"):
        for rows, mask, frames in _real_frames(part, start, stop):
            result[rows.start - start : rows.stop - start][mask] = (_clipped(frames, low, high) - mean) * scale
    if not np.isfinite(result).all():
        columns = np.flatnonzero(~np.isfinite(result).all(axis=(0, 1)))
        first, more = columns[0], len(columns) - 1
        varies = f"and {more} more hardly vary" if more else "hardly varies"
        raise OverflowError(f"column {first} {varies} in training, so that other z-scores overflow; clip them with percentiles")
    return result
