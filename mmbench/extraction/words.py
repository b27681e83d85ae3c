"""The words of a transcript, and the frames of each of them: the aligned layout has one frame for each word."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

Word = tuple[str, int, int]
"""A word with its characters [start, end) in the transcript."""

# Scripts that put no space between words: each character counts as a word.
_UNSPACED = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")


def split_words(transcript: str) -> list[Word]:
    """What stands between spaces and has a letter or a digit; in Chinese and Japanese text, each character.

    A transcript without a word is one word as a whole, so that its clip has a frame.
    """
    found = [(match.group(), match.start(), match.end()) for match in _WORD.finditer(transcript)]
    return [word for word in found if any(map(str.isalnum, word[0]))] or [(transcript, 0, len(transcript))]


def plain(word: str) -> str:
    """A word without case and punctuation, by which two spellings are compared."""
    return "".join(filter(str.isalnum, word)).casefold()


def owners(words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """(T,) index of the word to which each frame of a text belongs, by its characters `spans`; -1: special tokens, and what is outside all words."""
    found = np.full(len(spans), -1)
    word = 0
    for i, (start, end) in enumerate(spans):
        while word and words[word][1] > start:  # spans need not be sorted
            word -= 1
        while word < len(words) - 1 and words[word][2] <= start:
            word += 1
        if words[word][1] < end and start < words[word][2]:
            found[i] = word
    return found


def text_frames(frames: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """(T, D) -> (count, D): the mean over the tokens of each word; zeros for a word without a token."""
    sums = np.zeros((count, frames.shape[1]), np.float64)
    known = owner >= 0
    np.add.at(sums, owner[known], frames[known].astype(np.float64))
    sizes = np.bincount(owner[known], minlength=count)
    return (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)


def own_frames(length: int, rate: float, times: np.ndarray) -> np.ndarray:
    """(W,) number of the frames, of `length` at `rate` per second, whose centre lies in [start, end) of each word; `times`: (W, 2) seconds."""
    centres = (np.arange(length) + 0.5) / rate  # (T,)
    return np.maximum(np.searchsorted(centres, times[:, 1]) - np.searchsorted(centres, times[:, 0]), 0)


def timed_frames(frames: np.ndarray, rate: float, times: np.ndarray) -> np.ndarray:
    """(T, D) at `rate` frames per second, (W, 2) seconds -> (W, D): the mean over the frames whose centre lies in [start, end) of each word.

    Where there is none, the frame whose centre is the nearest to the middle of the word.
    """
    starts = np.searchsorted((np.arange(len(frames)) + 0.5) / rate, times[:, 0])
    nearest = np.clip(np.floor(times.mean(axis=1) * rate), 0, len(frames) - 1).astype(int)
    found = np.empty((len(times), frames.shape[1]), np.float32)
    for i, count in enumerate(own_frames(len(frames), rate, times)):
        found[i] = frames[starts[i] : starts[i] + count].mean(axis=0, dtype=np.float64) if count else frames[nearest[i]]
    return found
