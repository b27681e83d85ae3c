"""Stored predictions: exact, byte-stable, and refused with a line number when damaged."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import DataError
from mmbench.results.runs import read_predictions, write_predictions

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=8))
def test_float32_survives_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float]]) -> None:
    path = tmp_path_factory.mktemp("predictions") / "predictions.csv.gz"
    target, prediction = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    ids = tuple(f'a,"b"/{index}' for index in range(len(rows)))
    write_predictions(path, {"valid": (ids, target, prediction), "test": (ids[:1], target[:1], prediction[:1])})
    found = read_predictions(path)
    assert list(found) == ["valid", "test"]
    assert found["valid"][0] == ids
    assert found["valid"][1].tolist() == target.tolist()
    assert found["valid"][2].tolist() == prediction.tolist()
    assert len(found["test"][1]) == 1


def test_scores_of_classes_keep_their_shape_and_indices(tmp_path: Path) -> None:
    path, scores = tmp_path / "predictions.csv.gz", np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    write_predictions(path, {"test": (list("abcde"), np.array([0, 2, 1, 0, 2]), scores)})
    assert gzip.decompress(path.read_bytes()).decode().splitlines()[0] == "split,id,target,score_0,score_1,score_2"
    _, target, prediction = read_predictions(path)["test"]
    assert target.dtype == np.int64
    assert target.tolist() == [0, 2, 1, 0, 2]
    assert (prediction == scores).all()


def test_equal_input_gives_equal_bytes_and_the_stated_format(tmp_path: Path) -> None:
    part = (("v/1", "v/2"), np.array([0.1, -2.0], np.float32), np.array([1 / 3, math.pi]))
    for name in ("first.gz", "other.gz"):
        write_predictions(tmp_path / name, {"test": part})
    content = (tmp_path / "first.gz").read_bytes()
    assert content == (tmp_path / "other.gz").read_bytes()
    assert content[4:8] == bytes(4)  # no time of writing
    expected = "split,id,target,prediction\ntest,v/1,0.100000001,0.333333343\ntest,v/2,-2,3.14159274\n"
    assert gzip.decompress(content).decode() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.gz", "other.gz"]


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one, two = np.zeros(1), np.zeros((2, 3))
    with pytest.raises(ValueError, match="2 ids"):
        write_predictions(tmp_path / "p.gz", {"test": (("a", "b"), one, one)})
    with pytest.raises(ValueError, match="all be"):
        write_predictions(tmp_path / "p.gz", {"valid": (("a",), one, one), "test": (("a", "b"), np.zeros(2), two)})
    assert not (tmp_path / "p.gz").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there are no stored predictions"),
        (b"no gzip at all", "damaged"),
        (gzip.compress(b"split,id,target,prediction\ntest,a,1,2\n", mtime=0)[:-12], "damaged"),
        (gzip.compress(b"", mtime=0), "line 1: expected the columns"),
        (gzip.compress(b"split,id,target\n", mtime=0), "line 1: expected the columns"),
        (gzip.compress(b"split,id,target,score_1,score_0\n", mtime=0), "line 1: expected the columns"),
        (gzip.compress(b"split,id,target,prediction\ntest,a,1,2\ntest,b,1\n", mtime=0), "line 3: expected 4 columns"),
        (gzip.compress(b"split,id,target,prediction\ntest,a,one,2\n", mtime=0), "line 2: expected 4 columns"),
        (gzip.compress(b"split,id,target,score_0\ntest,a,nan,2\n", mtime=0), "line 2: expected"),
        (gzip.compress(b"split,id,target,prediction\ntest,\xff,1,2\n", mtime=0), "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "predictions.csv.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_predictions(path)


@pytest.mark.parametrize(
    ("header", "target"), [("prediction", "1e300"), ("score_0,score_1", "2"), ("score_0,score_1", "-1"), ("score_0,score_1", "0.5")]
)
def test_a_target_that_is_none_is_named_with_its_line(tmp_path: Path, header: str, target: str) -> None:
    path = tmp_path / "predictions.csv.gz"
    cells = ",1" * len(header.split(","))
    path.write_bytes(gzip.compress(f"split,id,target,{header}\ntest,a/1,1{cells}\ntest,a/2,{target}{cells}\n".encode()))
    with pytest.raises(DataError, match=f"line 3: the target '{target}' is none"):
        read_predictions(path)
