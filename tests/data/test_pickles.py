from __future__ import annotations

import builtins
import contextlib
import datetime
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench.data import pickles
from mmbench.errors import DataError

VALUES: dict[str, Any] = {
    "float32": np.arange(12, dtype="f4").reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big endian": np.arange(3, dtype=">i4"),
    "texts": np.array(["ab", "cde", ""]),
    "bytes": np.array([b"ab", b"c"]),
    "objects": np.array(["x", "üy", None, 3], dtype=object),
    "empty": np.zeros((0, 3)),
    "scalar array": np.array(3.0),
    "bool": np.array([True, False]),
    "large": np.arange(1000, dtype="i8"),
    "list": [1, 2.5, "t", b"by", None, True, -5, 10**30, -(2**40), ("a", (), (1,), (1, 2), (1, 2, 3, 4)), {}, []],
    "number": np.float32(2.5),
    "word": np.str_("hey"),
    "ordered": OrderedDict(a=1),
    "set": {4},
    "frozen": frozenset([5]),
    "text": "a\nb\\u é 😀",
    "buffer": bytearray(b"xyz"),
}


def load(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    return pickles.load(path)


@pytest.mark.parametrize("protocol", range(6))
def test_data_come_back_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = load(tmp_path, pickle.dumps(VALUES, protocol=protocol))
    assert list(content) == list(VALUES)
    for key, expected in VALUES.items():
        if isinstance(expected, np.ndarray):
            assert content[key].dtype == expected.dtype, key
            assert content[key].shape == expected.shape, key
            np.testing.assert_array_equal(content[key], expected)
        elif isinstance(expected, (set, frozenset)):
            assert content[key] == list(expected)
        else:
            assert content[key] == expected, key


@pytest.mark.parametrize("protocol", range(6))
def test_an_array_that_occurs_twice_is_one_array(tmp_path: Path, protocol: int) -> None:
    array = np.arange(3.0)
    first, second, dtype = load(tmp_path, pickle.dumps([array, array, array.dtype], protocol=protocol))
    assert first is second
    assert dtype == np.float64


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_both_names_of_numpys_modules(tmp_path: Path, package: bytes) -> None:
    content = pickle.dumps({"a": np.arange(3)}, protocol=2)
    content = content.replace(b"numpy._core", package).replace(b"numpy.core", package)
    np.testing.assert_array_equal(load(tmp_path, content)["a"], np.arange(3))


def test_byte_strings_of_python_2(tmp_path: Path) -> None:
    content = b"\x80\x02}q\x00(U\x01aq\x01T\x03\x00\x00\x00xyzq\x02u."
    assert load(tmp_path, content) == {"a": "xyz"}


class Malicious:
    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Plain:
    pass


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda folder: Malicious(os.system, f"touch {folder}/executed"), "posix.system"),
        (lambda folder: Malicious(builtins.eval, f"open({str(folder / 'executed')!r}, 'w')"), "builtins.eval"),
        (lambda folder: Malicious(builtins.open, str(folder / "executed"), "w"), "io.open"),
        (lambda folder: Malicious(builtins.getattr, "x", "upper"), "builtins.getattr"),
        (lambda folder: datetime.date(2020, 1, 1), "datetime.date"),
    ],
)
def test_anything_else_is_refused_by_name_and_not_executed(tmp_path: Path, value: Any, name: str, protocol: int) -> None:
    with pytest.raises(DataError, match=name):
        load(tmp_path, pickle.dumps({"id": ["a"], "x": value(tmp_path)}, protocol=protocol))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_an_object_of_a_class_is_refused(tmp_path: Path, protocol: int) -> None:
    with pytest.raises(DataError, match=r"refused: .*(Plain|_reconstructor|instance)"):
        load(tmp_path, pickle.dumps(Plain(), protocol=protocol))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"not a pickle at all", "damaged"),
        (b"\x80\x09.", "protocol"),
        (b"\x80\x04.", "damaged"),
        (b"\x80\x04cnumpy\ndtype\n(S'f4'\ntb.", "refused"),
        (b"\x80\x04Pabc\n.", "outside the file"),
        (b"\x80\x04" + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R.", "incomplete"),
        (b"\x80\x04cnumpy\nndarray\n.", "incomplete"),
    ],
)
def test_what_is_no_pickle_is_one_error_with_the_path(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path, content)
    assert "x.pkl" in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        pickles.load(tmp_path / "absent.pkl")


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    content = pickle.dumps({"a": np.arange(3), "t": ["x", 1, 2.5]}, protocol=4)
    for end in range(1, len(content)):
        with pytest.raises(DataError):
            load(tmp_path, content[:end])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_an_error_or_data_and_never_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(pickle.dumps({"a": np.arange(3), "o": np.array(["x", None]), "t": ("x", 1, [2.5])}, protocol=data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):  # any other exception fails the test
        assert isinstance(load(tmp_path, bytes(content)), (dict, list, tuple, str, bytes, int, float, np.ndarray, np.dtype, np.generic, type(None)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
        b"\x80\x04" + b")" + b"\x85" * 1_000_000 + b".",
        b"(" * 1_000_000 + b"t" * 1_000_000 + b".",
    ],
)
def test_deep_nesting_does_not_overflow(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"refused: containers that are nested too deeply\."):
        load(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04})" + b"\x85" * 1_000_000 + b"K\x01s.",  # a nested tuple as a key would overflow while it is hashed
        b"\x80\x04K\x01r\xff\xff\xff\xffj\xff\xff\xff\x7f.",  # a huge memo index costs nothing
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # more bytes than there are
        b"\x80\x04cbuiltins\nbytes\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",  # a length instead of bytes
    ],
)
def test_bombs(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ((1, (2**40,), np.dtype("f4"), False, b"1234"), "do not fill"),
        ((1, (-1,), np.dtype("f4"), False, b""), "impossible shape"),
        ((1, (2,), np.dtype("O"), False, b"1234567890123456"), "do not fill"),  # pointers from the file
        ((1, (1,), np.dtype("f4"), False, [1.0]), "do not fill"),
    ],
)
def test_an_array_must_fill_its_shape(tmp_path: Path, state: Any, message: str) -> None:
    class Forged:
        def __reduce__(self) -> Any:
            return (*np.zeros(0).__reduce__()[:2], state)

    with pytest.raises(DataError, match=message):
        load(tmp_path, pickle.dumps(Forged(), protocol=4))


def test_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="refused"):
        load(tmp_path, pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "O")])))


def test_large_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    array = load(tmp_path, pickle.dumps(np.arange(10_000, dtype="f4"), protocol=4))
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert struct.unpack("<f", array[7:8].tobytes()) == (7.0,)


DEEP = b"X\x01\x00\x00\x00a" + b"2\x86" * 40
"""A text in a pair with itself, and that again, forty times: 41 values here, a million million where each is looked at on its own."""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (DEEP + b"X\x01\x00\x00\x00b\x93.", "refused: the pickle asks for the name 'b' in of a tuple"),
        (b"cnumpy\ndtype\n(" + DEEP + b"tR.", "refused: an array of type of a tuple"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00a" + DEEP + b"tR.", "refused: the codec of a tuple"),
        (b"cbuiltins\ndict\n((" + DEEP + b"K\x01\x86ltR.", "refused: a dict with a tuple for a key"),
        (b"ccollections\nOrderedDict\n(" + DEEP + b"tR.", "refused: a dict with a tuple for a key"),
        (b"](cnumpy\nndarray\ne.", "an array or type is incomplete"),
        (b"S'a', 5\n.", "damaged or cut short"),
        (b"S\n.", "damaged or cut short"),
    ],
    ids=["name", "dtype", "codec", "key", "ordered", "left over", "literal", "quotes"],
)
def test_what_grows_when_it_is_looked_at_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(DataError, match=told):
        pickles.load(tmp_path / "a.pkl")


def test_an_array_of_nothing_that_claims_many_items(tmp_path: Path) -> None:
    kind = b"cnumpy\ndtype\n(X\x02\x00\x00\x00S0K\x00K\x01tR(K\x03X\x01\x00\x00\x00|NNNK\x00K\x01K\x00tb"
    state = b"(K\x01\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x85" + kind + b"\x89C\x00tb."
    (tmp_path / "a.pkl").write_bytes(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR" + state)
    with pytest.raises(DataError, match="an array whose bytes do not fill its shape"):
        pickles.load(tmp_path / "a.pkl")


def test_copies_without_end_are_refused(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    (tmp_path / "a.pkl").write_bytes(text + b"](" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 1000 + b"e.")
    with pytest.raises(DataError, match="refused: it makes far more than the file holds"):
        pickles.load(tmp_path / "a.pkl")


def test_lists_that_are_padded_with_one_list_are_read(tmp_path: Path) -> None:
    """Of a hundred sequences of five hundred frames twenty are frames of their own; the rest is one list, as ``[frame] * n`` makes it."""
    pad = [0.0] * 100
    content = [[[1.0] * 100 for _ in range(20)] + [pad] * 480 for _ in range(100)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    found = pickles.load(tmp_path / "a.pkl")
    assert np.shape(found) == (100, 500, 100)
    assert found[0][-1] is found[1][-1]


def test_strings_of_python_2_keep_their_escapes(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"S'a\\n\\x41\\\\ \\'\"'\n.")
    assert pickles.load(tmp_path / "a.pkl") == "a\nA\\ '\""
