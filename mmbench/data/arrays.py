"""Arrays out of what a file holds: arrays, lists of numbers, lists of arrays."""

from __future__ import annotations

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
    """A transcript as text; bytes are UTF-8."""
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
