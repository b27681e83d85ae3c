"""What the fuzzing targets are fed with: values and bytes with a few changes, and pickles by their grammar."""

from __future__ import annotations

import copy
import json
import math
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\x00",
            "a\nb",
            "�",
            "é",
            "\u202eabc",
            "../../x",
            "/",
            "x" * 300,
            "²",
            "--1",
            "%s {}",
            "=1+1",
            "~",
            "null",
            "1e5",
            ".NAN",
            ".inf",
            "0x1F",
            "!!int x",
            "x.yaml",
            "a\x00.yaml",
            "x" * 300 + ".yaml",
            "mosi",
            "name",
            "test",
            "train+valid",
            "a{99999999999}",
            "(" * 120,
        ]
    ),
    st.text(max_size=12),
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 1 << 31, 1 << 63, -(1 << 70), 10**400, 0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan]),
    st.integers(),
    st.floats(),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6)


def places(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Every container in a tree of dicts and lists, with each of its keys."""
    found = [] if found is None else found
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        places(value[key], found)
    return found


@st.composite
def changed(draw: Callable[..., Any], bases: Sequence[Any], junk: st.SearchStrategy[Any] = VALUES, most: int = 4) -> Any:
    """One of the trees with up to `most` changes: a key gone, renamed, given twice, another value, a value from elsewhere, one level more or less."""
    value = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, most))):
        there = places(value)
        if not there:
            return copy.deepcopy(draw(junk))
        parent, key = draw(st.sampled_from(there))
        change = draw(st.sampled_from(["junk", "junk", "junk", "gone", "name", "copy", "wrap", "flat", "more", "type"]))
        if change == "gone":
            del parent[key]
        elif change == "name" and isinstance(parent, dict):
            parent[draw(TEXTS)] = parent.pop(key)
        elif change == "copy":
            other, place = draw(st.sampled_from(there))
            if place in other if isinstance(other, dict) else place < len(other):
                parent[key] = copy.deepcopy(other[place])
        elif change == "wrap":
            parent[key] = draw(st.sampled_from([[parent[key]], {"name": parent[key]}, [parent[key]] * 2]))
        elif change == "flat" and isinstance(parent[key], (dict, list)) and parent[key]:
            parent[key] = next(iter(parent[key].values())) if isinstance(parent[key], dict) else parent[key][0]
        elif change == "more":
            if isinstance(parent, dict):
                parent[draw(TEXTS)] = copy.deepcopy(draw(junk))
            else:
                parent.append(copy.deepcopy(draw(junk)))
        elif change == "type" and isinstance(parent[key], (str, int, float)):
            parent[key] = draw(st.sampled_from([str(parent[key]), [str(parent[key])], {str(parent[key]): 1}]))
        else:
            parent[key] = copy.deepcopy(draw(junk))
    return value


@st.composite
def damaged(draw: Callable[..., Any], bases: Sequence[bytes], words: Sequence[bytes] = (), most: int = 5) -> bytes:
    """One of the byte strings with up to `most` changes: bytes replaced, put in (also `words`), taken out, repeated, or its end cut off."""
    content = draw(st.sampled_from(bases))
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 12))
        change = draw(st.sampled_from(["set", "set", "in", "out", "again", "cut", "word", "word"]))
        if change == "set" and content:
            content = content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
        elif change == "in":
            content = content[:place] + draw(st.binary(max_size=8)) + content[place:]
        elif change == "out":
            content = content[:place] + content[place + length :]
        elif change == "again":
            content = content[:place] + content[place : place + length] * draw(st.integers(2, 4)) + content[place + length :]
        elif change == "cut":
            content = content[:place]
        elif words:
            content = content[:place] + draw(st.sampled_from(words)) + content[place:]
    return content


def as_json(value: Any) -> bytes:
    """JSON as `json.dumps` writes it, which has NaN, Infinity and halves of pairs."""
    return json.dumps(value).encode()


def as_yaml(value: Any) -> bytes:
    """The same as YAML in one line, where not finite numbers are numbers too."""
    return as_json(value).replace(b"-Infinity", b"-.inf").replace(b"Infinity", b".inf").replace(b"NaN", b".nan")


# Pickles ------------------------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 80), 1 << 80), st.floats(), st.text(max_size=6), st.binary(max_size=700)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3) | st.integers(-(2**63), 2**63), inner, max_size=3)
    ),
    max_leaves=8,
)
"""What a pickle of data may hold."""

ARRAYS = [
    np.arange(6, dtype="<f4").reshape(2, 3), np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)), np.array(["a", "bc"]),
    np.array([b"x", b"yz"]), np.array([True, False]), np.array(3), np.zeros((0, 4), "i8"), np.array(["a", None, 3], dtype=object), np.float32(2.5),
    np.int64(7), np.arange(400.0),
]  # fmt: skip

NAMES = [
    "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct", "numpy ndarray", "numpy dtype", "numpy.core.multiarray scalar",
    "numpy._core.numeric _frombuffer", "_codecs encode", "builtins bytes", "builtins bytearray", "builtins list", "builtins tuple", "builtins set",
    "builtins frozenset", "builtins dict", "collections OrderedDict", "collections defaultdict", "__builtin__ set", "os mkdir", "builtins eval",
    "torch._utils _rebuild_tensor_v2", "torch FloatStorage", "torch LongStorage", "create_dataset return_unk",
]  # fmt: skip


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _whole(number: int) -> bytes:
    raw = number.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


_CODES = [
    "f4",
    "<f4",
    ">f8",
    "O",
    "O8",
    "S3",
    "S0",
    "U1",
    "?",
    "U999999999",
    "S999999999",
    "V8",
    "M8",
    "latin1",
    "C",
    "F",
    "<",
    "|",
    "storage",
    "0",
    "cpu",
    "\ud800",
]
ATOMS: list[st.SearchStrategy[bytes]] = [
    st.sampled_from([b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f", b"I01\n", b"I12\n", b"L7L\n", b"F1.5\n", b"F1e999\n", b"Fnan\n", b"S'ab'\n"]),
    st.sampled_from(
        [b"S'a', 5\n", b"S'a' 'b'\n", b"S'\\x'\n", b"S[1]\n", b"Vx\\u12\n", b"I" + b"9" * 5000 + b"\n", b"K\x00", b"K\x01", b"M\x00\x02", b"2"]
    ),
    st.sampled_from([b"h\x00", b"h\x01", b"h\x02", b"h\x03", b"g4\n", b"j\x05\x00\x00\x00", b"h\x09"]),
    st.sampled_from([_text(code) for code in _CODES]),
    st.sampled_from([_whole(n) for n in (0, 1, 2, 3, -1, 1 << 31, 1 << 40, 1 << 62, 1 << 64)]),
    st.sampled_from([f"c{name.replace(' ', chr(10))}\n".encode() for name in NAMES]),
    st.binary(max_size=16).map(lambda raw: b"B" + struct.pack("<I", len(raw)) + raw),
    st.floats().map(lambda number: b"G" + struct.pack(">d", number)),
    st.sampled_from([b"C\x00", b"B\x00\x04\x00\x00" + b"\x00" * 1024]),
]


def _grown(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    name = st.sampled_from([f"c{name.replace(' ', chr(10))}\n".encode() for name in NAMES])
    several = st.lists(inner, max_size=5)
    return st.one_of(
        several.map(lambda items: b"(" + b"".join(items) + b"t"),
        several.map(lambda items: b"(" + b"".join(items) + b"l"),
        several.map(lambda items: b"(" + b"".join(items) + b"d"),
        several.map(lambda items: b"](" + b"".join(items) + b"e"),
        several.map(lambda items: b"}(" + b"".join(items) + b"u"),
        several.map(lambda items: b"\x8f(" + b"".join(items) + b"\x90"),
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1] + b"\x86"),
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1] + b"a"),
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1] + b"\x93"),
        st.tuples(name, several).map(lambda call: call[0] + b"(" + b"".join(call[1]) + b"tR"),
        st.tuples(inner, several).map(lambda build: build[0] + b"(" + b"".join(build[1]) + b"tb"),
        inner.map(lambda item: item + b"Q"),
        inner.map(lambda item: item + b"\x94"),
        st.tuples(inner, st.integers(1, 40)).map(lambda deep: deep[0] + b"\x94" + b"2\x86\x94" * deep[1]),  # pairs of pairs of pairs
        st.tuples(inner, st.integers(1, 40)).map(lambda deep: deep[0] + b"2" * deep[1] + b"0" * deep[1]),
    )


EXPRESSIONS = st.recursive(st.one_of(ATOMS), _grown, max_leaves=14)
PROGRAMS = st.tuples(st.lists(EXPRESSIONS, min_size=1, max_size=3), st.booleans()).map(
    lambda program: b"\x80\x04" * program[1] + b"".join(program[0]) + b"."
)
"""Pickles whose opcodes have the arguments they ask for, mostly."""

OPCODES = [bytes([code]) for code in range(256)] + [pickle.dumps(array, protocol)[2:-1] for array in ARRAYS for protocol in (0, 2)]
