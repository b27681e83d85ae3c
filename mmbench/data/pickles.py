"""Reads pickles without running them.

A pickle is a program; Python's own reader calls whatever it names. Here a small stack machine knows the opcodes that hold data and
the few constructors of `_CONSTRUCTORS` (NumPy arrays, containers). Any other name is refused before anything is built from it.
Large arrays are views of the memory-mapped file, so that reading a file of 8 GB takes no memory of its own.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import mmap
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.nesting import endless
from mmbench.errors import DataError


class RefusedError(Exception):
    """The pickle asks for something that is not data; the message names it."""


class DamagedError(Exception):
    """The bytes are not a whole pickle."""


DAMAGE = (DamagedError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError, SyntaxError, struct.error)
"""What reading damaged bytes may end in."""


def load(path: Path) -> Any:
    """The value in a pickle: dicts, lists, text, numbers and NumPy arrays. `DataError`: unreadable, damaged, or more than data."""
    try:
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'the file is empty'}") from None
    if bytes(content[:4]) == b"PK\x03\x04":
        raise DataError(f"{path}: is a zip archive (as torch.save and numpy.savez write), not a pickle of NumPy arrays")
    machine = Machine(content)
    try:
        return machine.run()
    except RefusedError as error:
        raise DataError(f"{path}: refused: {error}. Nothing of the file was executed; only NumPy arrays, text and numbers are read") from None
    except DAMAGE as error:
        reason = str(error) if isinstance(error, DamagedError) else f"{type(error).__name__} while reading"
        raise DataError(f"{path}: not a readable pickle: damaged or cut short (byte {machine.position} of {len(content)}: {reason})") from None


_peeked: dict[str, tuple[tuple[int, int], Any]] = {}


def peek(path: Path) -> Any:
    """What `load` returns, or None where there is nothing that it can read. The last file's content is kept while several formats look at it."""
    try:
        status = path.stat()
        if not path.is_file():
            return None
        state, key = (status.st_size, status.st_mtime_ns), str(path.resolve())
    except OSError:
        return None
    if key not in _peeked or _peeked[key][0] != state:
        _peeked.clear()
        _peeked[key] = state, None
        with contextlib.suppress(DataError):
            _peeked[key] = state, load(path)
    return _peeked[key][1]


class Name:
    """A name that a pickle asked for, with what stands for it here; it may be called only if `make` is given."""

    __slots__ = ("make", "text")

    def __init__(self, text: str, make: Callable[..., Any] | None):
        self.text, self.make = text, make


class _Pending:
    """An array or dtype between its creation and the opcode that brings its state; `keys`: the memo entries that wait for it."""

    __slots__ = ("finish", "keys")

    def __init__(self, finish: Callable[[Any], Any]):
        self.finish = finish
        self.keys: list[int] = []


def _shown(value: Any) -> str:
    """A text in an error; of anything else its type alone, since lists that hold each other are endless when they are written out."""
    return repr(value[:40]) if isinstance(value, (str, bytes)) else f"of a {type(value).__name__}"


_DTYPE = re.compile(r"[<>|=]?(?:[biufc]\d{1,2}|[SU]\d{1,9}|O8?|\?)")


def _dtype(code: Any, *_: Any) -> _Pending:
    if isinstance(code, bytes):
        code = code.decode("ascii")
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise RefusedError(f"an array of type {_shown(code)}")
    dtype = np.dtype("O" if code.strip("<>|=") in ("O", "O8") else code)

    def finish(state: Any) -> np.dtype:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if any(part is not None for part in state[2:5]):
            raise RefusedError("an array of records")
        return np.dtype(order + dtype.str[1:]) if order in ("<", ">") and not dtype.hasobject else dtype

    return _Pending(finish)


def _settled(dtype: Any) -> np.dtype:
    if isinstance(dtype, _Pending):  # a dtype without state of its own
        raise DamagedError("an array without a type")
    if not isinstance(dtype, np.dtype):
        raise DamagedError("an array whose type is not a type")
    return dtype


def _array(subtype: Any, *_: Any) -> _Pending:
    if not isinstance(subtype, Name) or subtype.text != "numpy.ndarray":
        raise RefusedError("an array of a special class")

    def finish(state: Any) -> np.ndarray:
        shape, dtype, fortran, raw = state[-4:]
        return _from_parts(_settled(dtype), shape, "F" if fortran else "C", raw)

    return _Pending(finish)


def _from_parts(dtype: np.dtype, shape: Any, order: str, raw: Any) -> np.ndarray:
    if isinstance(shape, int):
        shape = (shape,)
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 8:
        raise DamagedError("an array with an impossible shape")
    count = math.prod(shape)
    if dtype.hasobject:
        if not isinstance(raw, list) or len(raw) != count:
            raise DamagedError("an array whose items do not fill its shape")
        flat = np.empty(count, dtype=object)
        for i, item in enumerate(raw):
            flat[i] = item
    else:
        if isinstance(raw, str):  # a byte string of Python 2
            raw = raw.encode("latin-1")
        if not isinstance(raw, (bytes, bytearray, memoryview)) or len(raw) != count * dtype.itemsize or (count and not dtype.itemsize):
            raise DamagedError("an array whose bytes do not fill its shape")
        flat = np.frombuffer(raw, dtype=dtype) if count else np.zeros(0, dtype)
    return flat.reshape(shape, order=order)  # type: ignore[call-overload]


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    return _from_parts(_settled(dtype), (1,), "C", raw)[0]


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _from_parts(_settled(dtype), shape, "F" if order == "F" else "C", raw)


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if codec not in ("latin1", "latin-1") or not isinstance(text, str):
        raise RefusedError(f"the codec {_shown(codec)}")
    return text.encode("latin-1")


def _bytes(raw: Any = b"", *rest: Any) -> bytes:
    if isinstance(raw, str):
        return _encode(raw, *rest)
    if not isinstance(raw, (bytes, bytearray, memoryview)):
        raise DamagedError("bytes made of something else")
    return bytes(raw)


def _items(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple)):
            raise DamagedError("a container made of something else")
        return kind(items)

    return make


def _dict(items: Any = ()) -> dict[Any, Any]:
    if not isinstance(items, (list, tuple)):
        raise DamagedError("a container made of something else")
    return {_key(key): value for key, value in items}


_KEYS = (str, int, float, bytes, type(None))
"""What a dict's key may be: nothing whose hash runs through a structure of the file's making."""


def _key(key: Any) -> Any:
    plain = int(key) if isinstance(key, np.integer) else key
    if not isinstance(plain, _KEYS):
        raise RefusedError(f"a dict with a {type(key).__name__} for a key")
    if isinstance(plain, int) and plain.bit_length() > 64:
        raise RefusedError("a dict with an integer of more than 64 bits for a key")  # of these many can have one hash
    return plain


_CONSTRUCTORS: dict[str, Callable[..., Any] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.list": _items(list),
    "builtins.tuple": _items(tuple),
    "builtins.set": _items(list),  # order is all that a set lacks, and hashing what a file brings is no use here
    "builtins.frozenset": _items(list),
    "builtins.dict": _dict,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda *_: {},  # what it makes of missing keys is left out
}
for _package in ("numpy.core", "numpy._core"):
    _CONSTRUCTORS[f"{_package}.multiarray._reconstruct"] = _array
    _CONSTRUCTORS[f"{_package}.multiarray.scalar"] = _scalar
    _CONSTRUCTORS[f"{_package}.numeric._frombuffer"] = _frombuffer


def named(module: Any, name: Any) -> Name:
    """What stands for a name that a pickle of data may ask for. RefusedError: any other."""
    text = full_name(module, name).replace("__builtin__.", "builtins.", 1)
    if text not in _CONSTRUCTORS:
        raise RefusedError(f"the pickle asks for {text[:120]}")
    return Name(text, _CONSTRUCTORS[text])


def full_name(module: Any, name: Any) -> str:
    """``module.name``. RefusedError: they are no text."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise RefusedError(f"the pickle asks for the name {_shown(name)} in {_shown(module)}")
    return f"{module}.{name}"


_COPIES = 64
"""How many times its size a pickle may take by calls: an empty dict is that much larger than the opcode that makes it."""


class Machine:
    """The stack machine. `position` is the byte it stands at; `named` gives what names stand for, `outside` what is kept outside the pickle."""

    def __init__(self, content: memoryview, named: Callable[[Any, Any], Name] = named, outside: Callable[[Any], Any] | None = None):
        self.content, self.named, self.outside = content, named, outside
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.pending = 0
        self.made = 0

    def run(self) -> Any:
        content = self.content
        while self.position < len(content):
            code = content[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                value = self.stack.pop()
                if self.pending:
                    raise DamagedError("an array or type is incomplete")
                _refuse_left_over(value)
                if reason := endless(value):
                    raise RefusedError(reason)
                return value
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise RefusedError(_REFUSED[code]) if code in _REFUSED else DamagedError(f"{bytes([code])!r} is no opcode")
            operation(self)
        raise DamagedError("it ends in the middle")

    # what the operations are made of

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if count < 0 or end > len(self.content):
            raise DamagedError("it ends in the middle")
        part = self.content[self.position : end]
        self.position = end
        return part

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = self.position
        while self.content[end] != 0x0A:
            end += 1
        text = bytes(self.take(end - self.position)).decode("latin-1")
        self.position += 1
        return text

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def remember(self, key: int) -> None:
        value = self.stack[-1]
        if isinstance(value, _Pending):
            value.keys.append(key)
        self.memo[key] = value

    def push(self, value: Any) -> None:
        self.stack.append(value)  # a method, since the arguments of an opcode may replace the stack

    def recall(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise RefusedError("items added to something that is not a list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError("keys set on something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def new_dict(self, items: list[Any]) -> None:
        self.stack.append({})
        self.set_items(items)

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise DamagedError("a value is missing")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def call(self) -> None:
        function, arguments = self.last(2)
        if not isinstance(function, Name) or function.make is None or not isinstance(arguments, tuple):
            raise RefusedError(f"a call of {function.text if isinstance(function, Name) else 'something that is not a name'}")
        value = function.make(*arguments)
        self.pending += isinstance(value, _Pending)
        self.spend(sys.getsizeof(value))
        self.stack.append(value)

    def build(self) -> None:
        pending, state = self.last(2)
        if not isinstance(pending, _Pending) or not isinstance(state, tuple):
            raise RefusedError("an object with a state of its own")
        value = pending.finish(state)
        self.pending -= 1
        self.spend(0 if isinstance(state[-1], memoryview) else getattr(value, "nbytes", 0))  # a view of the file takes nothing
        for key in pending.keys:
            self.memo[key] = value
        self.stack.append(value)

    def spend(self, size: int) -> None:
        """Count what a call made of what was there before: a few bytes of a file may ask for another copy, again and again."""
        self.made += size
        if self.made > _COPIES * (len(self.content) + (1 << 20)):
            raise RefusedError("it makes far more than the file holds")

    def persistent(self) -> None:
        if self.outside is None:
            raise RefusedError("it refers to objects outside the file")
        self.push(self.outside(self.stack.pop()))

    def blob(self, layout: str) -> None:
        part = self.take(self.number(layout))
        self.stack.append(part if len(part) > 512 else bytes(part))

    def text(self, layout: str, encoding: str = "utf-8") -> None:
        self.stack.append(str(self.take(self.number(layout)), encoding, "surrogatepass" if encoding == "utf-8" else "strict"))

    def integer(self, layout: str) -> None:
        self.stack.append(int.from_bytes(self.take(self.number(layout)), "little", signed=True))

    def legacy_int(self) -> None:
        text = self.line()
        self.stack.append({"00": False, "01": True}[text] if text in ("00", "01") else int(text))

    def legacy_string(self) -> None:
        text = self.line()  # bytes of Python 2, written as a literal
        if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
            raise DamagedError("a string without its quotation marks")
        self.stack.append(codecs.escape_decode(text[1:-1].encode("latin-1"))[0].decode("latin-1"))


def _refuse_left_over(value: Any) -> None:
    """DamagedError: a name that nothing called, or an array that never came, stands where data should."""
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, (Name, _Pending)):
            raise DamagedError("an array or type is incomplete")
        if not isinstance(item, (dict, list, tuple, np.ndarray)) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            waiting += item.ravel().tolist() if item.dtype.hasobject else []
        else:
            waiting += item.values() if isinstance(item, dict) else item


def _protocol(machine: Machine) -> None:
    if machine.number("<B") > 5:
        raise DamagedError("its protocol is newer than 5")


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


_OPERATIONS: dict[int, Callable[[Machine], Any]] = {
    ord(code): operation
    for code, operation in {
        "\x80": _protocol,
        "\x95": lambda m: m.number("<Q"),  # FRAME
        "(": Machine.mark,
        "0": lambda m: m.stack.pop() if m.stack else m.since_mark(),
        "1": Machine.since_mark,
        "2": lambda m: m.push(m.stack[-1]),
        "N": _constant(None),
        "\x88": _constant(True),
        "\x89": _constant(False),
        "I": Machine.legacy_int,
        "L": lambda m: m.push(int(m.line().rstrip("L"))),
        "F": lambda m: m.push(float(m.line())),
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.number("<B")),
        "M": lambda m: m.push(m.number("<H")),
        "\x8a": lambda m: m.integer("<B"),
        "\x8b": lambda m: m.integer("<i"),
        "G": lambda m: m.push(m.number(">d")),
        "S": Machine.legacy_string,
        "T": lambda m: m.text("<i", "latin-1"),
        "U": lambda m: m.text("<B", "latin-1"),
        "V": lambda m: m.push(m.line().encode("latin-1").decode("raw-unicode-escape")),
        "X": lambda m: m.text("<I"),
        "\x8c": lambda m: m.text("<B"),
        "\x8d": lambda m: m.text("<Q"),
        "B": lambda m: m.blob("<I"),
        "C": lambda m: m.blob("<B"),
        "\x8e": lambda m: m.blob("<Q"),
        "\x96": lambda m: m.blob("<Q"),
        "]": lambda m: m.push([]),
        "}": lambda m: m.push({}),
        ")": lambda m: m.push(()),
        "\x8f": lambda m: m.push([]),  # a set, kept as a list
        "l": lambda m: m.push(m.since_mark()),
        "d": lambda m: m.new_dict(m.since_mark()),
        "t": lambda m: m.push(tuple(m.since_mark())),
        "\x91": lambda m: m.push(m.since_mark()),  # a frozenset, kept as a list
        "\x85": lambda m: m.push(tuple(m.last(1))),
        "\x86": lambda m: m.push(tuple(m.last(2))),
        "\x87": lambda m: m.push(tuple(m.last(3))),
        "a": lambda m: m.append(m.last(1)),
        "e": lambda m: m.append(m.since_mark()),
        "\x90": lambda m: m.append(m.since_mark()),
        "s": lambda m: m.set_items(m.last(2)),
        "u": lambda m: m.set_items(m.since_mark()),
        "p": lambda m: m.remember(int(m.line())),
        "q": lambda m: m.remember(m.number("<B")),
        "r": lambda m: m.remember(m.number("<I")),
        "\x94": lambda m: m.remember(len(m.memo)),
        "g": lambda m: m.recall(int(m.line())),
        "h": lambda m: m.recall(m.number("<B")),
        "j": lambda m: m.recall(m.number("<I")),
        "c": lambda m: m.push(m.named(m.line(), m.line())),
        "\x93": lambda m: m.push(m.named(*m.last(2))),
        "Q": Machine.persistent,
        "R": Machine.call,
        "b": Machine.build,
    }.items()
}

_REFUSED = {
    ord(code): text
    for code, text in {
        "i": "it builds an instance of a class",
        "o": "it builds an instance of a class",
        "\x81": "it builds an instance of a class",
        "\x92": "it builds an instance of a class",
        "\x82": "it asks for a registered extension",
        "\x83": "it asks for a registered extension",
        "\x84": "it asks for a registered extension",
        "P": "it refers to objects outside the file",
        "\x97": "its arrays are outside the file",
        "\x98": "its arrays are outside the file",
    }.items()
}
