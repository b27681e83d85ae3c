"""The aligner `times`: the start and end of each word from a table that the user has, made by hand or by any tool."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mmbench.component_config import ComponentConfig
from mmbench.data.ids import canonical_id
from mmbench.errors import DataError
from mmbench.extraction.words import plain, split_words

VERSION = 1
"""Version of the rules below; another version is other times."""

COLUMNS = ("video_id", "clip_id", "word", "start", "end")


class TimesConfig(ComponentConfig):
    """Where the table is."""

    file: str = Field(
        "words.csv",
        min_length=1,
        description="a table with the columns video_id, clip_id, word, start, end (seconds in the clip); a path, seen from the raw folder",
        json_schema_extra={"source": "our choice"},
    )


class Times:
    """Times of words from a table whose rows are in the order of the words; its words must be the transcript's, case and punctuation aside.

    Raises `DataError` for a table that cannot be read or lacks a column.
    """

    def __init__(self, config: TimesConfig):
        self.path = Path(config.file)
        try:
            content = self.path.read_bytes()
            rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}. `file` names a table with {', '.join(COLUMNS)}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.path}: is no table in UTF-8: {error}") from None
        header = [name.strip() for name in rows[0]] if rows else []
        missing = [name for name in COLUMNS if header.count(name) != 1]
        if missing:
            raise DataError(f"{self.path}: the column {', '.join(missing)} must stand there once; it has {', '.join(header):.300}")
        self._digest = hashlib.sha256(content).hexdigest()
        self._clips: dict[str, list[dict[str, Any]]] = {}
        for number, cells in enumerate(rows[1:], 2):
            if cells:
                row: dict[str, Any] = {**dict.fromkeys(COLUMNS, ""), **dict(zip(header, cells, strict=False)), "row": number}
                try:
                    clip = canonical_id(f"{row['video_id'].strip()}$_${row['clip_id'].strip()}")
                except ValueError as error:
                    raise DataError(f"{self.path}: row {number}: {error}") from None
                self._clips.setdefault(clip, []).append(row)

    def digest(self) -> str:
        """Of the table's bytes, and of the rules."""
        return f"times {VERSION} {self._digest}"

    def align(self, clip: str, path: Path | None, words: list[str]) -> np.ndarray:
        """(W, 2) seconds. DataError: the table has no such clip, other words, or times that are none."""
        video, _, name = clip.rpartition("/")
        found: list[tuple[str, float, float, int]] = []
        for row in self._clips.get(canonical_id(f"{video}$_${name}"), []):
            start, end = _seconds(row)
            pieces = [piece for piece, *_ in split_words(row["word"]) if plain(piece)]
            for i, piece in enumerate(pieces):  # a word of several Chinese characters: its time in equal parts
                edge = [start + (end - start) * j / len(pieces) for j in (i, i + 1)]
                found.append((piece, edge[0], edge[1], row["row"]))
        if not found:
            raise DataError(f"{self.path.name} has no words of {clip}")
        for i, (own, (other, *_, number)) in enumerate(zip(words, found, strict=False)):
            if plain(own) != plain(other):
                raise DataError(f"word {i + 1} is {own!r} in the transcript, and {other!r} in row {number} of {self.path.name}")
        if len(words) != len(found):
            longer = words[len(found)] if len(words) > len(found) else found[len(words)][0]
            raise DataError(f"{len(words)} words in the transcript, and {len(found)} in {self.path.name}; the first that is too many is {longer!r}")
        return np.array([[start, end] for _, start, end, _ in found])


def _seconds(row: dict[str, Any]) -> tuple[float, float]:
    try:
        start, end = float(row["start"]), float(row["end"])
    except ValueError:
        start = end = math.nan
    if not 0 <= start <= end < math.inf:
        raise DataError(f"row {row['row']}: start {row['start']!r} and end {row['end']!r} are no ascending numbers of seconds")
    return start, end
