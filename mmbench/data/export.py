"""Writes a store as a pickle of the MMSA toolkit, which other toolkits read: protocol 4, one dict for each of train, valid and test.

Keys of a split, N samples: ``id`` (``video$_$clip``), ``raw_text``, ``text``, ``audio``, ``vision`` (N, T, D) float32, ``text_bert`` (N, 3, L) int64
(token ids, attention mask, segment ids), ``<modality>_lengths`` of unaligned features, ``regression_labels`` and ``regression_labels_T``, ``_A``,
``_V`` (N,) float32, ``classification_labels`` (N,) int64, ``annotations``. Source: the writers and loaders of github.com/thuiar/MMSA.
Our own keys, which others overlook: ``<modality>_mask`` (N, T) bool where lengths cannot say which frames are real; beside the splits ``layout``,
``notices``, ``counted`` (see `mmbench.data.content`) and ``divided``, the protocol and part whose labels and splits these are.
"""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmbench.data.content import without_ends
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.data.store import Store
from mmbench.errors import DataError
from mmbench.files import in_bytes, replacing

_BLOCK_BYTES = 8 << 20
_UNIMODAL = {"text": "T", "audio": "A", "vision": "V"}
_SIGNS = ("Negative", "Neutral", "Positive")


def write_mmsa(store: Store, path: Path, manifest: Manifest) -> None:
    """Write the pickle, atomically; arrays go from the store to the file in blocks.

    DataError: nothing that can be exported, the file exists already, or the disk is full.
    """
    if store.document["simulated"]:
        raise DataError(f"{store.folder}: simulated data are not exported, since the file could not say that they are")
    if store.document["layout"] == "raw":
        raise DataError(f"{store.folder}: holds transcripts and recordings, but no features to export. mmbench extract makes features of them")
    if path.exists():
        raise DataError(f"{path}: is there already; remove it, or choose another name")
    needed = sum(array.nbytes for array in store.arrays.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise DataError(f"{path}: {in_bytes(needed)} are needed and {in_bytes(free)} are free")
        with replacing(path) as temporary, open(temporary, "wb") as file:
            content: dict[str, Any] = {split: _split(store, split, manifest) for split in SPLITS}
            content["layout"] = store.document["layout"]
            content["notices"] = [(notice["modality"], notice["text"]) for notice in store.document["notices"]]
            if store.document.get("counted"):
                content["counted"] = True
            if manifest.protocol:
                content["divided"] = [manifest.protocol, manifest.part]
            _Writer(file).document(content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def _split(store: Store, split: str, manifest: Manifest) -> dict[str, Any]:
    """The keys of a split in the order in which MMSA has them; arrays as views of the store."""
    samples, arrays = store.document["splits"][split], store.arrays
    target = arrays[f"{split}/target"]
    tokens, attention = arrays.get(f"{split}/tokens/text"), arrays.get(f"{split}/tokens_mask/text")
    problems = store.document["problems"]
    part: dict[str, Any] = {"id": [_spelled(name) for name in samples["ids"]]}
    if samples["transcripts"]:
        part["raw_text"] = _Texts(samples["transcripts"])
    if tokens is not None and attention is not None and "tokens" not in problems:
        part["text_bert"] = _Bert(tokens, attention)
    else:
        attention = None
    for name in manifest.modalities:
        values = arrays.get(f"{split}/features/{name}")
        if values is not None:
            part[name] = values
            part.update(_frames(name, arrays[f"{split}/features_mask/{name}"], attention, store.document["layout"]))
    if manifest.task == "regression":
        part["regression_labels"] = target
        part["classification_labels"] = np.sign(target).astype(np.int64) + 1
        part["annotations"] = _Texts([_SIGNS[i] for i in part["classification_labels"]])
        for name, letter in _UNIMODAL.items():
            own = arrays.get(f"{split}/unimodal/{name}")
            if own is not None:
                part[f"regression_labels_{letter}"] = own
    else:
        part["classification_labels"] = target
        part["annotations"] = _Texts([manifest.classes[i] for i in target])
    return part


def _spelled(name: str) -> str:
    video, slash, clip = name.rpartition("/")
    return f"{video}$_${clip}" if slash else name


def _frames(name: str, mask: np.ndarray, attention: np.ndarray | None, layout: str) -> dict[str, np.ndarray]:
    """What says which frames are real, as far as the other keys do not: lengths of unaligned features, or the mask itself."""
    lengths = mask.sum(axis=1)
    first = np.array_equal(mask, np.arange(mask.shape[1]) < lengths[:, None])
    if layout == "unaligned" and name != "text":  # as MMSA has them
        return {f"{name}_lengths": lengths} if first else {f"{name}_mask": mask}
    if attention is not None and attention.shape == mask.shape:
        if np.array_equal(mask, attention if name == "text" else _never_empty(without_ends(attention))):
            return {}
        return {f"{name}_mask": mask}
    if mask.shape[1] == 1:
        return {}
    return {f"{name}_lengths": lengths} if first and layout == "unaligned" else {f"{name}_mask": mask}


def _never_empty(mask: np.ndarray) -> np.ndarray:
    mask[~mask.any(axis=1), 0] = True
    return mask


class _Texts(tuple[str, ...]):
    """Text that is written as an array of objects, as MMSA has it."""


class _Bert:
    """(N, 3, L) int64 of token ids (N, L), attention mask (N, L) and zeros, made block by block."""

    dtype = np.dtype("<i8")

    def __init__(self, tokens: np.ndarray, attention: np.ndarray):
        self.tokens, self.attention = tokens, attention
        self.shape = (len(tokens), 3, tokens.shape[1])

    def __getitem__(self, rows: slice) -> np.ndarray:
        tokens = self.tokens[rows]
        return np.stack([tokens, self.attention[rows].astype(np.int64), np.zeros_like(tokens)], axis=1)


class _Writer:
    """Writes the few kinds of values that the file has as a pickle, without a copy of the arrays.

    NumPy's own pickles name modules that versions before 2 lack; the names here are known to all.
    """

    def __init__(self, file: IO[bytes]):
        self.write: Callable[[Any], Any] = file.write

    def document(self, value: Any) -> None:
        self.write(b"\x80\x04")
        self.value(value)
        self.write(b".")

    def value(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self.write(b"}(")
            for key, item in value.items():
                self.text(key)
                self.value(item)
            self.write(b"u")
        elif isinstance(value, _Texts):
            self.array((len(value),), b"O8", b"|", b"K\x3f", lambda: self.value(list(value)))
        elif isinstance(value, (list, tuple)):
            self.write(b"](" if isinstance(value, list) else b"(")
            for item in value:
                self.value(item)
            self.write(b"e" if isinstance(value, list) else b"t")
        elif isinstance(value, str):
            self.text(value)
        elif value is True:
            self.write(b"\x88")
        else:
            order = b"|" if value.dtype.itemsize == 1 else b"<"
            self.array(value.shape, value.dtype.str[1:].encode(), order, b"K\x00", lambda: self.numbers(value))

    def text(self, text: str) -> None:
        raw = text.encode("utf-8", "surrogatepass")
        self.write(b"X" + struct.pack("<I", len(raw)) + raw)

    def array(self, shape: tuple[int, ...], kind: bytes, order: bytes, flags: bytes, data: Callable[[], None]) -> None:
        """``_reconstruct(ndarray, (0,), b'b')`` and its state ``(1, shape, dtype, False, data)``."""
        self.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01(")
        for size in shape:
            self.write(b"\x8a\x08" + struct.pack("<q", size))
        self.write(b"tcnumpy\ndtype\n(X" + struct.pack("<I", len(kind)) + kind + b"\x89\x88tR(K\x03X\x01\x00\x00\x00" + order)
        self.write(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + flags + b"tb\x89")
        data()
        self.write(b"tb")

    def numbers(self, array: np.ndarray | _Bert) -> None:
        rows, size = array.shape[0], array.dtype.itemsize * math.prod(array.shape)
        self.write(b"\x8e" + struct.pack("<Q", size))
        step = max(1, _BLOCK_BYTES * rows // max(size, 1))
        for start in range(0, rows, step):
            self.write(np.ascontiguousarray(array[start : start + step]).data)
