"""Reads what torch.save wrote, without torch and without running it: both the zip archives of torch 1.6 and later and the files of before.

Such a file is a pickle whose tensors refer to storages kept beside it. The machine of `mmbench.data.pickles` reads the pickle, so nothing else
than tensors, containers, text and numbers comes out of it.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.array_files import DAMAGED_ZIP
from mmbench.data.pickles import DAMAGE, DamagedError, Machine, Name, RefusedError, full_name, named
from mmbench.errors import DataError

_MAGIC = 0x1950A86A20F9469CFC6C
"""How the files before torch 1.6 begin. Five pickles: it, the version, the machine, the value, the names of the storages; then the storages."""
_TYPES = {
    f"{kind}Storage": np.dtype(code)
    for kind, code in {"Float": "<f4", "Double": "<f8", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Byte": "u1", "Bool": "?"}.items()
}


@dataclass(frozen=True)
class _Storage:
    """What the pickle says of the numbers that are kept beside it."""

    key: str
    dtype: np.dtype


@dataclass(frozen=True)
class _Tensor:
    """A tensor whose storage has not been read yet; all counts are of elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def load(path: Path) -> Any:
    """The value in a file of torch.save, with a NumPy array for each tensor. DataError: unreadable, damaged, or more than data."""
    try:
        content = path.read_bytes()
        return _from_zip(content) if content[:4] == b"PK\x03\x04" else _from_legacy(memoryview(content))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except RefusedError as error:
        raise DataError(f"{path}: refused: {error}. Nothing of the file was executed; only tensors, text and numbers are read") from None
    except (*DAMAGED_ZIP, *DAMAGE) as error:
        raise DataError(f"{path}: not a readable file of torch.save: damaged or cut short ({error})") from None


def _from_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(part.file_size for part in archive.infolist()) > len(content):  # torch never compresses; a bomb does
            raise RefusedError("a zip archive that unpacks to more than the file's size")
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if name is None:
            raise RefusedError("a zip archive without data.pkl")
        value, storages, _ = _run(memoryview(archive.read(name)))
        return _resolved(value, {key: archive.read(f"{name.removesuffix('.pkl')}/{key}") for key in storages}, {})


def _from_legacy(content: memoryview) -> Any:
    value, _, size = _run(content)
    if value != _MAGIC:
        raise RefusedError("not a file of torch.save")
    for _ in range(3):
        content = content[size:]
        value, storages, size = _run(content)
    names, _, size2 = _run(content[size:])
    content = content[size + size2 :]
    found = {}
    for key in names:
        if not isinstance(key, str):
            raise DamagedError("a storage without a name")
        end = 8 + int.from_bytes(content[:8], "little") * storages[key].itemsize
        found[key] = bytes(content[8:end])
        content = content[end:]
    return _resolved(value, found, {})


def _run(content: memoryview) -> tuple[Any, dict[str, np.dtype], int]:
    """The value of the pickle at the start, the storages that it refers to, and its length."""
    storages: dict[str, np.dtype] = {}

    def outside(identifier: Any) -> _Storage:
        storage = _storage(identifier)
        storages[storage.key] = storage.dtype
        return storage

    machine = Machine(content, _named, outside)
    return machine.run(), storages, machine.position


def _named(module: Any, name: Any) -> Name:
    text = full_name(module, name)
    if text in _MAKERS:
        return Name(text, _MAKERS[text])
    if (module == "torch" and name in _TYPES) or name == "return_unk":  # the latter: what MISA's vocabulary calls for unknown words
        return Name(text, None)
    return named(module, name)


def _storage(identifier: Any) -> _Storage:
    """Name and type of a storage from ``("storage", type, name, device, elements, ...)``."""
    kind, dtype, key, *_ = identifier
    if kind != "storage" or not isinstance(dtype, Name) or dtype.text.removeprefix("torch.") not in _TYPES or not isinstance(key, str):
        raise RefusedError("it refers to objects outside the file")
    return _Storage(key, _TYPES[dtype.text.removeprefix("torch.")])


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise DamagedError("a tensor without a storage")
    whole = (offset, *shape, *stride)
    if not all(isinstance(part, int) for part in whole):
        raise DamagedError("a tensor with an impossible shape")
    dense = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if min(whole) < 0 or len(shape) != len(stride) or any(n > 1 and a != b for n, a, b in zip(shape, stride, dense, strict=True)):
        raise RefusedError("a tensor that is not stored row by row")
    return _Tensor(storage, offset, tuple(shape))


_MAKERS: dict[str, Callable[..., Any]] = {"torch._utils._rebuild_tensor_v2": _tensor, "collections.defaultdict": lambda *_: {}}


def _resolved(value: Any, storages: Mapping[str, bytes], done: dict[int, Any]) -> Any:
    """The value with arrays for its tensors, which stand in tuples, lists and dicts. `done`: by identity, so that nothing is read twice."""
    if id(value) in done:
        return done[id(value)]
    found = value
    if isinstance(value, dict):
        found = {key: _resolved(item, storages, done) for key, item in value.items()}
    elif isinstance(value, (tuple, list)):
        found = type(value)(_resolved(item, storages, done) for item in value)
    elif isinstance(value, _Tensor):
        found = _array(value, storages[value.storage.key])
    done[id(value)] = found
    return found


def _array(tensor: _Tensor, raw: bytes) -> np.ndarray:
    count, dtype = math.prod(tensor.shape), tensor.storage.dtype
    if len(raw) < (tensor.offset + count) * dtype.itemsize:
        raise DamagedError("a tensor whose bytes do not fill its shape")
    flat = np.frombuffer(raw, dtype, count, tensor.offset * dtype.itemsize) if count else np.zeros(0, dtype)
    return flat.reshape(tensor.shape)
