"""A file of word vectors, read once: from then on its numbers are mapped and its words are found by halving a sorted list."""

from __future__ import annotations

import gzip
import itertools
import warnings
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from mmbench.data.store import Column, column, file_digests, open_or_build, store_folder, write_store
from mmbench.errors import DataError

VERSION = 1
"""Version of the rules by which a file is read."""
_DIGITS = 18
"""Of a count in a head; longer ones are no counts, and Python reads no integer of more than 4300."""


class WordVectors:
    """Vectors by word; `width` is their length, `digest` the sha256 of the file. The first of two lines of one word counts.

    Lines are a word and its numbers, separated by single spaces, where the word itself may hold spaces (GloVe 840B has such); a first line of
    two integers, how many words and how many numbers each, is a head (word2vec, fastText). DataError: no such file, damaged, or of no such kind.
    """

    def __init__(self, path: Path):
        self.path = path
        self.digest = file_digests(path)["sha256"]
        store = open_or_build(store_folder(self.digest, ["vectors", VERSION]), self._build)
        self.vectors: np.ndarray = store.arrays["vectors"]  # (V, D) float32
        self.width = int(self.vectors.shape[1])
        self._ends, self._rows = store.arrays["ends"], store.arrays["rows"]
        self._letters = store.arrays["letters"].view(np.uint8)

    def find(self, word: str) -> int | None:
        """The row of a word's vector, or None for an unknown word."""
        wanted = word.encode()
        place = bisect_left(range(len(self._rows)), wanted, key=self._word)
        return int(self._rows[place]) if place < len(self._rows) and self._word(place) == wanted else None

    def _word(self, place: int) -> bytes:
        """The word at a place of the sorted list."""
        return self._letters[self._ends[place - 1] if place else 0 : self._ends[place]].tobytes()

    def _build(self, folder: Path) -> None:
        words: list[bytes] = []
        width = 0
        for _, word, numbers in _lines(self.path):
            width = width or numbers.count(b" ") + 1
            words.append(word)
        order = sorted(range(len(words)), key=words.__getitem__)
        letters = b"".join(words[i] for i in order)
        letters += bytes(-len(letters) % 8)
        lines = _lines(self.path)
        columns = {
            "letters": column(np.frombuffer(letters, np.int64)),
            "ends": column(np.cumsum([len(words[i]) for i in order])),
            "rows": column(np.array(order)),
            "vectors": Column(
                (len(words), width), np.dtype("<f4"), lambda start, stop: _numbers(self.path, list(itertools.islice(lines, stop - start)), width)
            ),
        }
        write_store(folder, columns, lambda: {"vectors": {"version": VERSION}})


Line = tuple[int, bytes, bytes]
"""Number of the line, its word, and its numbers as they stand there."""


def _lines(path: Path) -> Iterator[Line]:
    width, stated, count = 0, None, 0
    try:
        with _opened(path) as file:
            for place, raw in enumerate(file, 1):
                line = raw.rstrip(b" \r\n")
                if place == 1:
                    fields = line.split(b" ")
                    if len(fields) == 2 and all(field.isdigit() and len(field) <= _DIGITS for field in fields):
                        stated, width = int(fields[0]), int(fields[1])
                        continue
                width = width or line.count(b" ")
                yield place, *_halves(path, place, line, width)
                count += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is damaged or cut short ({error}); download it anew") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not count or stated not in (None, count):
        raise DataError(f"{path}: holds {count} words{f', not the {stated} that its first line says' if stated else ''}; download it anew")


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK":
        raise DataError(f"{path}: is a .zip; unpack it and name the file inside")
    return gzip.open(path) if head == b"\x1f\x8b" else open(path, "rb")  # type: ignore[return-value]


def _halves(path: Path, place: int, line: bytes, width: int) -> tuple[bytes, bytes]:
    """The word and the numbers of a line. The word may hold spaces, but no number behind one."""
    fields = line.count(b" ")
    if fields > width:
        word = line.rsplit(b" ", width)[0]
        if not all(_is_number(field) for field in word.split(b" ")[1:]):
            return word, line[len(word) + 1 :]
    if fields != width or width < 2:
        found = f"{fields} numbers behind a word, not {width}" if width >= 2 else "no word and its numbers"
        raise DataError(f"{path}: line {place} holds {found}; the file must hold a word and its vector on each line, and may be cut short")
    word, _, numbers = line.partition(b" ")
    return word, numbers


def _numbers(path: Path, lines: list[Line], width: int) -> np.ndarray:
    """(n, width) float32"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what NumPy says of text that is no number, beside ending there
        try:
            found = np.fromstring(b" ".join(numbers for _, _, numbers in lines).decode("latin-1"), np.float32, sep=" ")
        except ValueError:
            found = np.zeros(0, np.float32)
    if len(found) != len(lines) * width or not np.isfinite(found).all():
        for place, _, numbers in lines:
            wrong = next((field for field in numbers.split(b" ") if not _is_number(field)), None)
            if wrong is not None:
                raise DataError(f"{path}: line {place} holds {wrong.decode(errors='replace')!r:.50} where a finite number should stand")
        raise DataError(f"{path}: lines {lines[0][0]} to {lines[-1][0]} hold numbers that cannot be read")
    return found.reshape(len(lines), width)


def _is_number(field: bytes) -> bool:
    """Whether it is a finite float32."""
    try:
        return abs(float(field.decode("latin-1"))) <= float(np.finfo(np.float32).max)
    except ValueError:
        return False
