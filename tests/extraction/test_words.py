"""Words of transcripts, and frames of words, against loops by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.extraction.words import own_frames, owners, plain, split_words, text_frames, timed_frames


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop - it's good!", ["Don't", "stop", "it's", "good!"]),
        ("  two\twords\n", ["two", "words"]),
        ("今天天气很好。", ["今", "天", "天", "气", "很", "好"]),
        ("我love电影", ["我", "love", "电", "影"]),
        ("", [""]),
        ("...", ["..."]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    found = split_words(text)
    assert [word for word, *_ in found] == words
    assert [text[start:end] for _, start, end in found] == words


def test_spellings_of_one_word_are_equal() -> None:
    assert plain("Don\u2019t,") == plain("DONT")
    assert plain("good") != plain("goods")


def test_owners_of_tokens() -> None:
    words = split_words("so good - film")
    #        special  so      " g"    "ood"   -        " film"   outside
    spans = [(0, 0), (0, 2), (2, 4), (4, 7), (8, 9), (9, 14), (0, 0)]
    assert owners(words, spans).tolist() == [-1, 0, 1, 1, -1, 2, -1]
    assert owners(words, [(10, 14), (0, 2)]).tolist() == [2, 0]


def test_text_frames_are_means_over_tokens() -> None:
    frames = np.array([[1, 10], [2, 20], [4, 40], [100, 100]], np.float32)
    np.testing.assert_array_equal(text_frames(frames, np.array([0, 2, 2, -1]), 3), [[1, 10], [0, 0], [3, 30]])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.sampled_from([2.0, 10.0, 49.9, 100.0]), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=5))
def test_timed_frames(length: int, rate: float, pairs: list[tuple[float, float]]) -> None:
    times = np.array([sorted(pair) for pair in pairs])
    frames = np.random.default_rng(length).normal(size=(length, 2)).astype(np.float32)
    found, counts = timed_frames(frames, rate, times), own_frames(length, rate, times)
    for (start, end), row, count in zip(times, found, counts, strict=True):
        centres = [(i + 0.5) / rate for i in range(length)]
        inside = [i for i, centre in enumerate(centres) if start <= centre < end]
        assert count == len(inside)
        if inside:
            np.testing.assert_allclose(row, np.mean([frames[i].astype(float) for i in inside], axis=0), rtol=1e-6, atol=1e-6)
        else:
            distances = [abs(centre - (start + end) / 2) for centre in centres]
            nearest = [i for i, distance in enumerate(distances) if distance <= min(distances) + 1e-9]
            assert any((row == frames[i]).all() for i in nearest)
