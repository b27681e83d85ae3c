"""The aligner `times`: a table that fits the transcript word by word, or an error that says where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from mmbench.errors import DataError
from mmbench.extraction.times import Times, TimesConfig

HEADER = "video_id,clip_id,word,start,end\n"


@pytest.fixture
def table(tmp_path):
    def make(text: str, header: str = HEADER) -> Times:
        path = tmp_path / "words.csv"
        path.write_text(header + text, encoding="utf-8")
        return Times(TimesConfig(file=str(path)))

    return make


def test_times_of_words(table) -> None:
    aligner = table("v,0012,SO,0,0.5\nother,1,so,9,9\nv,0012,...,0.5,0.6\nv,0012,Good,0.6,1\n")
    np.testing.assert_array_equal(aligner.align("v/0012", None, ["so", "good!"]), [[0, 0.5], [0.6, 1]])
    np.testing.assert_array_equal(aligner.align("v/12", None, ["so", "good!"]), [[0, 0.5], [0.6, 1]])


def test_words_of_several_characters_share_their_time(table) -> None:
    aligner = table("v,1,今天,0,1\nv,1,好。,1,4\n")
    np.testing.assert_allclose(aligner.align("v/1", None, ["今", "天", "好"]), [[0, 0.5], [0.5, 1], [1, 4]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("w,1,so,0,1\n", "words.csv has no words of v/1"),
        ("v,1,so,0,1\nv,1,bad,1,2\n", "word 2 is 'good' in the transcript, and 'bad' in row 3"),
        ("v,1,so,0,1\n", "2 words in the transcript, and 1 in words.csv; the first that is too many is 'good'"),
        ("v,1,so,0,1\nv,1,good,1,2\nv,1,film,2,3\n", "2 words in the transcript, and 3 .* 'film'"),
        ("v,1,so,0,1\nv,1,good,2,1\n", "row 3: start '2' and end '1'"),
        ("v,1,so,zero,1\n", "row 2: start 'zero'"),
        ("v,1,so,0\n", "row 2: start '0' and end ''"),
        ("v,1,so,nan,1\n", "row 2: start 'nan'"),
    ],
)
def test_what_does_not_fit_is_said(table, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(rows).align("v/1", None, ["so", "good"])


def test_tables_that_are_none(table, tmp_path) -> None:
    with pytest.raises(DataError, match="the column clip_id, end must stand there once"):
        table("", "video_id,word,start\n")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        Times(TimesConfig(file=str(tmp_path / "none.csv")))
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="no table in UTF-8"):
        Times(TimesConfig(file=str(tmp_path / "bad.csv")))


def test_the_digest_is_of_the_content(table) -> None:
    first = table("v,1,so,0,1\n").digest()
    assert table("v,1,so,0,1\n").digest() == first
    assert table("v,1,so,0,2\n").digest() != first


@pytest.mark.parametrize("video", ['"a\nb"', "\x1b[2J"], ids=["line", "escape"])
def test_an_id_that_cannot_be_one_is_named_with_its_row(table, video: str) -> None:
    with pytest.raises(DataError, match=r"words\.csv: row 2: .* is no id"):
        table(f"{video},1,so,0,1\n")
