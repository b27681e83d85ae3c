"""`covarep-mat`: what COVAREP's COVAREP_feature_extraction wrote about a recording, one row every 10 ms.

A file holds `features` (T, 74), and their `names`: F0, VUV, NAQ, QOQ, H1H2, PSP, MDQ, peakSlope, Rd, Rd_conf, creak, MCEP_0 to 24, HMPDM_0 to 24,
HMPDD_0 to 12 (Degottex et al. 2014).

The little of the MAT-file format that this takes is read here (MathWorks, MAT-File Format, level 5): SciPy's reader ends the whole process on some
damaged files, where one file out of thousands should be named.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import DataError
from mmbench_extractors.options_vision import COVAREP_WIDTH, COVAREPMatConfig
from mmbench_extractors.prepared import PreparedFeatures

_SAVE = "save(name, 'features', '-v7')"
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
"""By type of an element of a MAT-file: the numbers in it."""
_MATRIX, _COMPRESSED = 14, 15
_CLASSES = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix"}
"""By class of a matrix of a MAT-file: what it is, where it is no matrix of numbers."""
_COMPLEX = 0x0800
_NOTHING = 0, memoryview(b"")
_LARGEST = 1 << 30
"""Bytes that a variable may take once it is unpacked: the rows of two weeks, and no bomb."""


class COVAREPMat(PreparedFeatures):
    """Values that are not finite (COVAREP writes -inf and NaN where a sound has no pitch, or none at all) are zeros."""

    component = "covarep-mat"
    suffixes = (".mat",)

    def __init__(self, config: COVAREPMatConfig):
        super().__init__(config)
        self.config = config
        self.columns = list(range(COVAREP_WIDTH) if config.columns is None else config.columns)
        self.width = len(self.columns)
        self.frame_rate = config.fps

    def facts(self) -> dict[str, Any]:
        """The columns and the rate."""
        return {"columns": self.columns, "fps": self.config.fps}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A file as (T, width) float32. DataError: it is not COVAREP's, damaged, or of a kind that is not read."""
        path = Path(path_or_text)
        try:
            values = _variable(path.read_bytes(), "features")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        if values.ndim != 2 or values.shape[1] != COVAREP_WIDTH or not len(values):
            raise DataError(
                f"{path}: 'features' is of shape {values.shape}, not (T, {COVAREP_WIDTH}) with T >= 1, as COVAREP_feature_extraction writes it"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            values = values[:, self.columns].astype(np.float32)  # (T, width)
        return torch.from_numpy(np.where(np.isfinite(values), values, np.float32(0)))


def _variable(content: bytes, name: str) -> np.ndarray:
    """A matrix of real numbers out of a MAT-file of level 5 (versions 5 to 7). ValueError: why there is none."""
    if content[:10] == b"MATLAB 7.3" or content[:8] == b"\x89HDF\r\n\x1a\n":
        raise ValueError(f"is a MAT-file of version 7.3, which is not read; in MATLAB, load it and save it anew: {_SAVE}")
    if content[124:128] != b"\x00\x01IM":
        raise ValueError(f"is no MAT-file of version 5 to 7; in MATLAB or Octave, load what it holds and save it anew: {_SAVE}")
    for matrix in _matrices(memoryview(content)[128:]):
        parts = _elements(matrix)
        flags, shape, found = (next(parts, _NOTHING)[1] for _ in range(3))
        if bytes(found) == name.encode() and len(flags) == 8 and len(shape) % 4 == 0:
            return _numbers(name, struct.unpack_from("<I", flags)[0], np.frombuffer(shape, "<i4"), *next(parts, _NOTHING))
    raise ValueError(f"holds no variable {name!r}, which COVAREP_feature_extraction writes; it may be cut short")


def _matrices(data: memoryview) -> Iterator[memoryview]:
    """The variables, each compressed or not."""
    for outer, element in _elements(data):
        for kind, matrix in _elements(_unpacked(element)) if outer == _COMPRESSED else [(outer, element)]:
            if kind == _MATRIX:
                yield matrix


def _numbers(name: str, flags: int, shape: np.ndarray, kind: int, values: memoryview) -> np.ndarray:
    if flags & 0xFF in _CLASSES or flags & _COMPLEX:
        raise ValueError(f"{name!r} is {_CLASSES.get(flags & 0xFF, 'complex')}, not a matrix of numbers")
    if kind not in _NUMBERS or (shape < 0).any() or len(values) != int(np.prod(shape, dtype=object)) * np.dtype(_NUMBERS[kind]).itemsize:
        raise ValueError(f"is damaged: {name!r} holds another number of values than its shape {shape.tolist()} says; run COVAREP anew")
    return np.frombuffer(values, _NUMBERS[kind]).reshape(shape, order="F")


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The elements of a file, or of a matrix: the type of each, and its bytes."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from("<II", data, place) if place + 8 <= len(data) else (0, len(data))
        start = place + 8
        if kind >> 16:  # four bytes or less stand in the head itself
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if start + size > len(data):
            raise ValueError(f"is cut short or damaged at byte {place} of {len(data)}; run COVAREP anew")
        yield kind, data[start : start + size]
        place = start + size + (0 if kind == _COMPRESSED else -(start + size - place) % 8)


def _unpacked(element: memoryview) -> memoryview:
    machine = zlib.decompressobj()
    try:
        found = machine.decompress(element, _LARGEST)
    except zlib.error as error:
        raise ValueError(f"is damaged: a variable cannot be unpacked ({error}); run COVAREP anew") from None
    if not machine.eof:
        raise ValueError("is damaged: a compressed variable does not end, or is larger than 1 GiB; run COVAREP anew")
    return memoryview(found)
