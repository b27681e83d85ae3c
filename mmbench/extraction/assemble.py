"""The data sets out of what was extracted: the schema of `mmbench.data.content`, whose features are read from the cache while they are written."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.array_files import DAMAGE, reason
from mmbench.data.manifest import SPLITS
from mmbench.errors import DataError
from mmbench.extraction.words import Word, own_frames, owners, text_frames, timed_frames

Spans = Callable[[str], list[tuple[int, int]] | None]


@dataclass
class Clip:
    """One row of ``label.csv``. `name`: ``<video_id>/<clip_id>`` as it is spelled there; `results`: by stage, the file in the cache."""

    split: str
    name: str
    transcript: str
    words: list[Word] = field(default_factory=list)
    results: dict[str, Path] = field(default_factory=dict)

    @property
    def wordless(self) -> bool:
        """Whether the transcript has no word, so that the clip is one as a whole."""
        return not any(map(str.isalnum, self.transcript))


class Frames:
    """Features (T, D) in a file of the cache, read when asked for; `most`: so many frames from the start."""

    dtype = np.dtype(np.float32)

    def __init__(self, path: Path, most: int | None = None):
        self.path = path
        self.length, width = shape_of(path)
        self.shape = (self.length if most is None else min(self.length, most), width)

    def read(self) -> np.ndarray:
        """(T, D) float32. DataError: the file has vanished or is damaged."""
        return load(self.path)[: self.shape[0]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(), dtype)


class WordFrames(Frames):
    """The same for the first `count` words of a clip: (W, D). `make`: from (T, D) to at least as many words."""

    def __init__(self, path: Path, count: int, make: Callable[[np.ndarray], np.ndarray]):
        super().__init__(path)
        self.make = make
        self.shape = (count, self.shape[1])

    def read(self) -> np.ndarray:
        """(W, D) float32"""
        return self.make(load(self.path))[: self.shape[0]]


def load(path: Path) -> np.ndarray:
    """An array of the cache. DataError: it cannot be read; what is damaged is removed."""
    try:
        content = path.read_bytes()
        end = content[-END.size :]
        if end.startswith(MARK) and END.unpack(end)[1] != zlib.crc32(memoryview(content)[: -END.size]):
            raise ValueError("its checksum is another")
        found: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
        return found
    except (OSError, MemoryError) as error:  # says nothing of what the file holds
        raise DataError(f"{path}: cannot be read back ({reason(error)}); try again, or remove it: the same command extracts it anew") from None
    except DAMAGE as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise DataError(f"{path}: cannot be read back ({error}); it is removed, and the same command extracts it anew") from None


MARK = b"mmbench-crc32:"
END = struct.Struct(f"<{len(MARK)}sI")
"""What follows the array in a file of the cache: a checksum of all before it. Readers of NumPy's format pass over it; older files have none."""


def packed(array: np.ndarray) -> bytes:
    """The content of a file of the cache."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue() + END.pack(MARK, zlib.crc32(file.getvalue()))


def shape_of(path: Path) -> tuple[int, int]:
    """(T, D) of features in the cache, by the head of their file."""
    shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    length, width = shape if len(shape) == 2 else load(path).shape  # a damaged head: told of there
    return length, width


def whole(path: Path) -> bool:
    """Whether a file of the cache is there and complete."""
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE:
        return False
    return True


class Layout:
    """What both layouts share: samples, labels, and in `said` the notices for the store's document.

    `labels`: by split and key of the schema, for these clips. `modalities`: those with features.
    """

    name: str

    def __init__(self, clips: Sequence[Clip], labels: Mapping[str, Mapping[str, np.ndarray]], modalities: Sequence[str]):
        self.clips, self.labels, self.modalities = clips, labels, modalities
        self.said: list[dict[str, str]] = []
        self.counts: dict[tuple[str, str], list[int]] = {}
        self.lengths: dict[str, list[int]] = {name: [] for name in modalities}

    def schema(self) -> dict[str, Any]:
        """The content for `mmbench.data.content.Content`."""
        content: dict[str, Any] = {"layout": self.name}
        for split in SPLITS:
            clips = [clip for clip in self.clips if clip.split == split]
            ids = ["$_$".join((video, name)) for video, _, name in (clip.name.rpartition("/") for clip in clips)]
            part: dict[str, Any] = {"id": ids, "raw_text": [clip.transcript for clip in clips], **self.labels[split]}
            for modality in self.modalities:
                part[modality] = [self.frames(modality, clip) for clip in clips]
                self.lengths[modality] += [item.shape[0] for item in part[modality]]
            if self.name == "unaligned" and all("tokens" in clip.results for clip in clips):
                part["text_bert"] = _padded([load(clip.results["tokens"]) for clip in clips])
            content[split] = part
        for (modality, kind), (number, clips_with) in self.counts.items():
            if number:
                self.say(modality, _SAID[kind].format(number, clips_with))
        return content

    def frames(self, modality: str, clip: Clip) -> Frames:
        """The features of a clip in this layout."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in frames")

    def say(self, modality: str, text: str) -> None:
        """A notice about a modality."""
        self.said.append({"modality": modality, "text": text})

    def count(self, modality: str, kind: str, number: int = 1) -> None:
        """Count what is to be said, and the clips in which it occurs."""
        entry = self.counts.setdefault((modality, kind), [0, 0])
        entry[0] += number
        entry[1] += number > 0


_SAID = {
    "cut": "max_length: {1} clips had more frames; the last {0} frames of all were cut",
    "repeated": "{1} clips have one vector for the whole clip, which is repeated for each word",
    "empty": "{0} words (of {1} clips) have no token; they are zeros",
    "beyond": "{1} transcripts are longer than the extractor of the text reads; their last words ({0} of all) were left out of all modalities",
    "nearest": "{0} words (of {1} clips) have no frame of their own, and got the one that is nearest",
    "wordless": "{1} transcripts have no word; such a clip is one word as a whole",
}


class Unaligned(Layout):
    """Every modality with its own frames, cut at `most` of them where a modality has such a limit."""

    name = "unaligned"

    def __init__(self, *arguments: Any, most: Mapping[str, int]):
        super().__init__(*arguments)
        self.most = most

    def frames(self, modality: str, clip: Clip) -> Frames:
        found = Frames(clip.results[modality], self.most.get(modality))
        self.count(modality, "cut", found.length - found.shape[0])
        return found


class Aligned(Layout):
    """One frame for each word. `rates`: frames per second by modality, None where frames have no times; `spans`: those of the text's extractor.

    One vector for the whole clip is repeated for each word. Where the text's extractor reads only the first words of a long transcript, the words
    behind them are left out of all modalities. `max_length` does not apply.
    """

    name = "aligned"

    def __init__(self, *arguments: Any, rates: Mapping[str, float | None], spans: Spans | None):
        super().__init__(*arguments)
        self.rates, self.spans = rates, spans
        self._spans_of: dict[str, list[tuple[int, int]] | None] = {}
        self._kept: dict[str, int] = {}

    def misfit(self, clip: Clip) -> tuple[str, str] | None:
        """The modality of a clip that cannot be given to words, and why."""
        for modality in self.modalities:
            length, timed = shape_of(clip.results[modality])[0], self._timed(modality, clip)
            if length > 1 and not timed:
                return modality, f"{length} frames without a place in the clip cannot be given to words; take an extractor whose frames have one"
            spans = self._known_spans(clip.transcript) if modality == "text" else None
            if spans is not None and len(spans) != length:
                return modality, f"the extractor names the characters of {len(spans)} frames, and gives {length}"
        return None

    def frames(self, modality: str, clip: Clip) -> Frames:
        path, count = clip.results[modality], self._words(clip)
        length = shape_of(path)[0]
        if not self._timed(modality, clip):
            self.count(modality, "repeated")
            return WordFrames(path, count, lambda frames: frames.repeat(count, axis=0))
        if modality == "text":
            owner = owners(clip.words, self._known_spans(clip.transcript) or [])
            self.count(modality, "empty", int((np.bincount(owner[owner >= 0], minlength=count)[:count] == 0).sum()))
            return WordFrames(path, count, lambda frames: text_frames(frames, owner, len(clip.words)))
        rate = self.rates[modality] or 1.0
        times = np.array([[0.0, np.inf]]) if clip.wordless else load(clip.results["aligner"])
        self.count(modality, "nearest", int((own_frames(length, rate, times[:count]) == 0).sum()))
        return WordFrames(path, count, lambda frames: timed_frames(frames, rate, times))

    def _timed(self, modality: str, clip: Clip) -> bool:
        return self._known_spans(clip.transcript) is not None if modality == "text" else self.rates[modality] is not None

    def _known_spans(self, transcript: str) -> list[tuple[int, int]] | None:
        if transcript not in self._spans_of:
            self._spans_of[transcript] = self.spans(transcript) if self.spans is not None else None
        return self._spans_of[transcript]

    def _words(self, clip: Clip) -> int:
        """Number of words up to the last one of which the text has a frame."""
        if clip.name not in self._kept:
            first, count = self.modalities[0], len(clip.words)
            if clip.wordless:
                self.count(first, "wordless")
            spans = self._known_spans(clip.transcript) if "text" in self.modalities else None
            last = count if spans is None else int(owners(clip.words, spans).max(initial=-1)) + 1
            self._kept[clip.name] = last or count
            self.count(first, "beyond", count - self._kept[clip.name])
        return self._kept[clip.name]


def _padded(ids: Sequence[np.ndarray]) -> np.ndarray:
    """Token ids of unlike length as ``text_bert``: (N, 3, L) int64 of ids, attention mask and segments."""
    found = np.zeros((len(ids), 3, max(map(len, ids), default=1)), np.int64)
    for i, row in enumerate(ids):
        found[i, 0, : len(row)] = row
        found[i, 1, : len(row)] = 1
    return found
