"""`glove`: words and their vectors, from files as Stanford and fastText write them, and from files that are none."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.batch import Sequence
from mmbench.errors import ConfigError, DataError
from mmbench_extractors import vectors
from mmbench_extractors.glove import Glove
from mmbench_extractors.options_text import GloveConfig
from mmbench_extractors.vectors import WordVectors

TABLE = {
    "the": [0.1, -0.2, 0.3], "film": [1.0, 2.0, 3.0], "do": [4.0, 0.0, 0.0], "n't": [0.0, 5.0, 0.0], "'s": [0.0, 0.0, 6.0], "it": [7.0, 7.0, 7.0],
    "u.s.": [8.0, 8.0, 9.0], "--": [1e-3, 2e-3, -1.5e2], "co-star": [1.0, 0.0, 1.0],
    "café": [2.0, 2.0, 1.0], ". . .": [3.0, 3.0, 1.0], "Film": [9.0, 9.0, 9.0],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


def lines(table=TABLE):
    return "".join(f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in table.items())


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text(lines(), encoding="utf-8")
    return file


def build(path, **options):
    return Glove(GloveConfig(vectors=str(path), **options))


TEXT = "  The FILM, don\u2019t... it's U.S. -- (co-star) zzz café!\n"
PARTS = ["The", "FILM", "do", "n\u2019t", "it", "'s", "U.S.", "--", "co-star", "zzz", "café"]
FOUND = ["the", "film", "do", "n't", "it", "'s", "u.s.", "--", "co-star", None, "café"]


def test_each_word_gets_its_vector_and_its_characters(path):
    extractor = build(path)
    assert (extractor.width, extractor.frame_rate, extractor.suffixes) == (3, None, ())
    expected = torch.tensor([TABLE[word] if word else [0.0] * 3 for word in FOUND])
    assert torch.equal(extractor.prepare(TEXT), expected)
    spans = extractor.spans(TEXT)
    assert [TEXT[start:end] for start, end in spans] == PARTS


def test_case_is_kept_on_request(path):
    assert torch.equal(build(path, lower=False).prepare("Film film FILM"), torch.tensor([TABLE["Film"], TABLE["film"], [0.0] * 3]))


@pytest.mark.parametrize("text", ["", " \n "])
def test_a_transcript_without_words_is_a_frame_of_zeros(path, text):
    assert torch.equal(build(path).prepare(text), torch.zeros(1, 3))
    assert build(path).spans(text) == [(0, 0)]


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet="filmdo nt's.\u2019-, \tÉ(", max_size=40))
def test_there_is_a_span_for_each_frame_and_none_overlaps(tmp_path_factory, text):
    extractor = _shared(tmp_path_factory)
    spans = extractor.spans(text)
    assert len(spans) == len(extractor.prepare(text)) >= 1
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start <= end for before, (start, end) in zip(ends, spans, strict=False))
    if text.strip():
        assert not any(set(text[start:end]) & set(" \t") for start, end in spans)


_built = {}


def _shared(tmp_path_factory):
    if not _built:
        file = tmp_path_factory.mktemp("glove") / "vectors.txt"
        file.write_text(lines(), encoding="utf-8")
        _built["glove"] = build(file)
    return _built["glove"]


def test_words_with_spaces_heads_and_gz_are_read(tmp_path, path):
    expected = WordVectors(path)
    assert expected.find(". . .") is not None
    headed, packed, spaced = tmp_path / "head.vec", tmp_path / "vectors.txt.gz", tmp_path / "spaced.txt"
    headed.write_text(f"{len(TABLE)} 3\n{lines()}", encoding="utf-8")
    packed.write_bytes(gzip.compress(lines().encode()))
    spaced.write_text(lines().replace("\n", " \r\n"), encoding="utf-8", newline="")
    for file in (headed, packed, spaced):
        found = WordVectors(file)
        for word, numbers in TABLE.items():
            np.testing.assert_array_equal(found.vectors[found.find(word)], np.array(numbers, np.float32))
        assert found.find("nothing") is found.find("") is found.find("\U0010ffff") is None


def test_the_first_of_two_lines_counts(tmp_path):
    (tmp_path / "twice.txt").write_text("b 1 2\na 3 4\nb 5 6\n")
    found = WordVectors(tmp_path / "twice.txt")
    assert found.vectors[found.find("b")].tolist() == [1.0, 2.0]


def test_the_file_is_read_once(path, monkeypatch):
    first = build(path)
    monkeypatch.setattr(vectors, "_lines", lambda *_: pytest.fail("read again"))
    again = build(path)
    assert isinstance(again.words.vectors, np.ndarray)
    assert not again.words.vectors.flags.owndata
    assert torch.equal(again.prepare(TEXT), first.prepare(TEXT))
    copy = path.with_name("copy.txt")
    copy.write_bytes(path.read_bytes())
    assert build(copy).digest() == first.digest()


def test_blocks_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr("mmbench.data.store._BLOCK_BYTES", 64)
    table = {f"w{i}": [float(i), i / 8] for i in range(200)}
    (tmp_path / "many.txt").write_text(lines(table))
    found = WordVectors(tmp_path / "many.txt")
    assert all(found.vectors[found.find(word)].tolist() == numbers for word, numbers in table.items())


def test_the_digest_covers_the_vectors_and_the_case(path, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(lines({**TABLE, "film": [1.0, 2.0, 4.0]}), encoding="utf-8")
    assert len({build(path).digest(), build(path, lower=False).digest(), build(other).digest()}) == 3


def test_forward_hands_on(path):
    values, mask = torch.randn(1, 2, 3), torch.tensor([[True, False]])
    assert torch.equal(build(path)(Sequence(values, mask)).values, values * mask[:, :, None])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds 0 words"),
        (b"just one\n", "line 1 holds no word and its numbers"),
        (b"a 1 2 3\nb 1 2\n", "line 2 holds 2 numbers behind a word, not 3; the file must hold a word and its vector on each line, and may be cut"),
        (b"a 1 2\nb 1 2 3\n", "line 2 holds 3 numbers behind a word, not 2"),
        (b"a 1 2\nb 1 x\n", "line 2 holds 'x' where a finite number should stand"),
        (b"a 1 2\nb 1 nan\n", "line 2 holds 'nan'"),
        (b"a 1 2\nb 1 1e99\n", "line 2 holds '1e99'"),
        (b"a 1 2\nb 1  2\n", "line 2 holds"),
        (b"3 2\na 1 2\nb 1 2\n", "holds 2 words, not the 3 that its first line says"),
        (b"2 %s\na 1 2\nb 1 2\n" % (b"9" * 5000), "line 1 holds no word and its numbers"),
        (b"PK\x03\x04 and more", "is a .zip; unpack it"),
        (gzip.compress(b"a 1 2\n" * 100, mtime=0)[:-9], "is damaged or cut short"),
        (b"\x1f\x8bnot gz", "is damaged or cut short"),
        (b"\x00\x01\x02\xff\xfe" * 100, "line 1 holds no word and its numbers"),
        (b"hello this is a text\nof two lines\n", "line 2 holds 2 numbers behind a word, not 4"),
    ],
)
def test_files_that_hold_no_vectors_are_named(tmp_path, content, problem):
    file = tmp_path / "wrong.txt"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        build(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert problem in str(caught.value)
    assert not list((tmp_path / "cache" / "data").glob("*/arrays.safetensors"))


def test_a_file_that_is_not_there_is_a_mistake_in_the_config(tmp_path):
    with pytest.raises(ConfigError, match=r"glove: vectors: .*gone\.txt': no such file"):
        build(tmp_path / "gone.txt")
    with pytest.raises(ConfigError, match="no such file"):
        build(tmp_path)
