"""Arrays out of what a file holds: arrays, lists of numbers, lists of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_MOST_ITEMS = 1 << 28
"""Most numbers that nested lists may hold: a small file can repeat one list very often."""


def length_of(value: Any) -> int | None:
    """Number of samples, or None for something that has none."""
    if isinstance(value, np.ndarray):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, (list, tuple)) else None


def as_array(value: Any) -> np.ndarray:
    """A numeric array from an array, a list of numbers, nested lists or a list of arrays. ValueError: anything else, or samples of unlike shape."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        array = value
    else:
        if length_of(value) is None:
            raise ValueError(f"{type(value).__name__} instead of an array")
        items = list(value)
        shapes = {_shape(item) for item in items}
        if len(shapes) > 1:
            raise ValueError(f"samples of unlike shapes, such as {sorted(shapes)[0]} and {sorted(shapes)[-1]}")
        if len(items) * int(np.prod(next(iter(shapes), (0,)), dtype=float)) > _MOST_ITEMS:
            raise ValueError("lists that are too long; store the samples as arrays")
        array = np.array(items)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"values of type {array.dtype} instead of numbers")
    return array


class Ragged:
    """Sequences of unlike length as one array (N, T, D), T the longest, filled up with zeros at their ends when rows are asked for.

    `items`: N objects with `shape` (T_i, D), `dtype` and what `np.asarray` needs, such as arrays or files of arrays. ValueError: unlike widths.
    """

    ndim = 3

    def __init__(self, items: Sequence[Any]):
        self.items = items
        widths = sorted({item.shape[1] for item in items})
        if len(widths) > 1:
            raise ValueError(f"samples of other widths: {widths[0]} and {widths[-1]}")
        if any(item.dtype.kind not in "fiub" for item in items):
            raise ValueError("values that are not numbers")
        self.lengths = [int(item.shape[0]) for item in items]
        self.shape = (len(items), max(1, *self.lengths), int(widths[0]))

    def __getitem__(self, rows: slice) -> np.ndarray:
        """(n, T, D) float32"""
        chosen = self.items[rows]
        block = np.zeros((len(chosen), *self.shape[1:]), np.float32)
        for i, item in enumerate(chosen):
            block[i, : item.shape[0]] = np.asarray(item)
        return block


def is_ragged(value: Any) -> bool:
    """Whether it is a list of sequences (T_i, D), which need not be of one length."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return False
    items = list(value) if length_of(value) else []
    return bool(items) and all(len(getattr(item, "shape", ())) == 2 for item in items)


def _shape(item: Any, depth: int = 0) -> tuple[int, ...]:
    if isinstance(item, np.ndarray):
        return item.shape
    if isinstance(item, (list, tuple)) and depth < 3:
        return (len(item), *(_shape(item[0], depth + 1) if item else ()))
    return ()


def as_vector(value: Any) -> np.ndarray:
    """One number for each sample, (N,), from (N,), (N, 1) or (N, 1, 1). ValueError: anything else."""
    array = as_array(value)
    if array.ndim and array.size != len(array):
        raise ValueError(f"the shape {array.shape} instead of one number for each sample")
    return array.reshape(-1)


def as_integers(array: np.ndarray) -> np.ndarray:
    """int64, whatever the type it was stored in. ValueError: a value that is not an integer."""
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise ValueError("values that are not integers")
    return array.astype(np.int64)


def as_items(value: Any) -> list[Any]:
    """One Python object for each sample. ValueError: not a list, or several objects for each sample."""
    if length_of(value) is None:
        raise ValueError(f"{type(value).__name__} instead of a list")
    if isinstance(value, np.ndarray):
        if value.size != len(value):
            raise ValueError(f"the shape {value.shape} instead of one for each sample")
        return [_plain(item) for item in value.reshape(-1).tolist()]
    return [_plain(item) for item in value]


def _plain(item: Any) -> Any:
    if isinstance(item, np.generic):
        item = item.item()
    return bytes(item) if isinstance(item, memoryview) else item


def as_text(item: Any) -> str:
    """A transcript as text that UTF-8 can write; bytes are UTF-8."""
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item).encode("utf-8", "replace").decode()


def as_pairs(value: Any) -> list[tuple[str, str]]:
    """The pairs of text in a list; whatever else stands there is left out."""
    items = value if isinstance(value, (list, tuple)) else ()
    return [(pair[0], pair[1]) for pair in items if isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)]
