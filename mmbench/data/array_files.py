"""The features of one clip in a file of NumPy, of which only the header is looked at until its values are asked for."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from mmbench.errors import DataError
from mmbench.files import in_bytes, is_bomb

DAMAGED_ZIP = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error)
"""What reading a damaged zip archive may end in: broken structure or data, a method or a password that a flipped bit asks for."""
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, SyntaxError, tokenize.TokenError, *DAMAGED_ZIP)
"""What reading damaged bytes of a ``.npy`` or ``.npz`` may end in: NumPy reads a header as Python."""


@dataclass(frozen=True)
class ArrayFile:
    """An array (T, D) in a ``.npy`` or ``.npz``, or (D,) as (1, D); `key` names the array in a file of several. Its values are read each time."""

    path: Path
    key: str | None
    shape: tuple[int, int]
    dtype: np.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """(T, D). DataError: the file has changed, or is damaged behind its header."""
        try:
            if self.path.suffix == ".npy":
                array = np.load(self.path, allow_pickle=False)
            else:
                with np.load(self.path, allow_pickle=False) as archive:
                    array = archive[self.key or archive.files[0]]
            return np.asarray(array.reshape(self.shape), dtype)
        except DAMAGE as error:
            raise DataError(f"{self.path}: {reason(error)}") from None


def check_archive(path: Path) -> None:
    """ValueError: a zip archive that unpacks to more than data can be. OSError: no such file. What is no archive is left to its reader."""
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            _check_size(sum(part.file_size for part in archive.infolist()), path.stat().st_size)


def _check_size(unpacked: int, packed: int) -> None:
    if is_bomb(unpacked, packed):
        raise ValueError(f"refused: its {in_bytes(packed)} unpack to {in_bytes(unpacked)}, as no data do")


def open_array(path: Path, key: str | None = None) -> ArrayFile:
    """The array of a file. ValueError: what is wrong with it, without its name; a shape that the file is too small for is found here."""
    try:
        with _member(path, key) as (file, size):
            shape, dtype = _header(file)
            held = size - file.tell()
    except DAMAGE as error:
        raise ValueError(reason(error)) from None
    if dtype.hasobject:
        raise ValueError("it is no array of numbers (pickled objects are not read)")
    if dtype.kind not in "fiub":
        raise ValueError(f"it has values of type {dtype}, not numbers")
    if len(shape) not in (1, 2) or min(shape) < 1:
        raise ValueError(f"it has the shape {shape}, not (frames, width) or (width,)")
    if held < (needed := math.prod(shape) * dtype.itemsize):
        raise ValueError(f"damaged or cut short (an array of {needed} bytes in {held})")
    frames, width = shape if len(shape) == 2 else (1, shape[0])
    return ArrayFile(path, key, (frames, width), dtype)


@contextmanager
def _member(path: Path, key: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """The ``.npy`` that has the array, open at its start, and its size."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("is no file")
    if path.suffix == ".npy":
        with open(path, "rb") as file:
            yield file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        names = [f"{key}.npy"] if key is not None else archive.namelist()
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} arrays, not one")
        about = archive.getinfo(names[0])
        _check_size(about.file_size, about.compress_size)
        with archive.open(names[0]) as member:
            yield member, about.file_size


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(file))
    if read is None:
        raise ValueError("it is no array of numbers")
    shape, _, dtype = read(file)
    return shape, dtype


def reason(error: Exception) -> str:
    """What is wrong with a file, by what reading it ended in."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    text = " ".join(str(error).split())
    if "magic string is not correct" in text:
        return "it is no array of numbers"
    if isinstance(error, (EOFError, zipfile.BadZipFile)) or any(word in text for word in ("EOF", "read all data", "reshape")):
        return f"damaged or cut short ({text:.80})"
    return f"{text:.200}"
