"""Whether a store that a user names is one of a data set: its document says what every reader of it takes for granted, and its arrays fit to that."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mmbench.data.manifest import SPLITS
from mmbench.data.store import Store


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Samples(_Part):
    ids: list[str]
    transcripts: list[str]


class _Splits(_Part):
    train: _Samples
    valid: _Samples
    test: _Samples


class _Clips(_Part):
    train: list[str]
    valid: list[str]
    test: list[str]


class _Notice(_Part):
    modality: str
    text: str


class _Origin(_Part):
    name: str
    digest: str
    protocol: str | None = None
    part: str | None = None
    extraction: dict[str, Any] = {}


class _Document(_Part):
    reader: dict[str, Any]
    simulated: bool
    layout: str
    splits: _Splits
    clips: _Clips | None = None
    problems: dict[str, str]
    replaced: dict[str, int]
    notices: list[_Notice]
    ignored_keys: list[str]
    origin: _Origin | None = None
    simulation: _Origin | None = None


def check(store: Store) -> None:
    """ValueError: the document lacks something or holds something else, or an array has another shape or type than it must; says which."""
    try:
        document = _Document.model_validate(dict(store.document))
    except ValidationError as error:
        mistake = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}") from None
    if document.layout == "raw" and document.clips is None:
        raise ValueError("clips: the names of the recordings are missing")
    for split in SPLITS:
        samples = getattr(document.splits, split)
        count = len(samples.ids)
        if len(samples.transcripts) not in (0, count) or (document.clips is not None and len(getattr(document.clips, split)) != count):
            raise ValueError(f"splits.{split}: other numbers of transcripts or recordings than of ids")
        _check_target(store, split, count)
        for name, array in store.under(f"{split}/unimodal").items():
            _check_array(f"{split}/unimodal/{name}", array, "f", (count,))
        for kind, letter in (("features", "f"), ("tokens", "i")):
            for name, array in store.under(f"{split}/{kind}").items():
                first = store.arrays.get(f"train/{kind}/{name}", array)
                width = first.shape[2:] if kind == "features" and first.ndim == 3 else ()
                _check_array(f"{split}/{kind}/{name}", array, letter, (count, None, *width) if kind == "features" else (count, None))
                _check_array(f"{split}/{kind}_mask/{name}", store.arrays.get(f"{split}/{kind}_mask/{name}"), "b", array.shape[:2])
    for name in store.under("train/features"):
        if any(f"{split}/features/{name}" not in store.arrays for split in SPLITS):
            raise ValueError(f"features/{name}: not every split has them")


def _check_target(store: Store, split: str, count: int) -> None:
    target = store.arrays.get(f"{split}/target", np.zeros(0, np.float32))
    _check_array(f"{split}/target", target, "if", (count,))
    if not count or not np.isfinite(target).all() or (target.dtype.kind == "i" and int(target.min()) < 0):
        raise ValueError(f"{split}/target: no samples, or values that are no labels")


def _check_array(name: str, array: np.ndarray | None, kind: str, shape: tuple[int | None, ...]) -> None:
    """`kind`: of one of these letters; `shape`: None where any length but 0 will do."""
    if array is None:
        raise ValueError(f"{name}: is missing")
    fits = array.ndim == len(shape) and all(size == found if size is not None else found for size, found in zip(shape, array.shape, strict=True))
    if array.dtype.kind not in kind or not fits:
        raise ValueError(f"{name}: is {array.dtype} {array.shape}")
