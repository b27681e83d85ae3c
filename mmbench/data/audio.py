"""Recordings as waveforms of one channel, 16 kHz and a fixed length: decoded once, and mapped from then on."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.manifest import SPLITS
from mmbench.data.store import Column, Store, open_or_build, store_folder, write_store
from mmbench.errors import DataError
from mmbench.installing import how_to_install
from mmbench.media import AUDIO, VIDEO, decode_audio

VERSION = 1
"""Version of the rules below; another version is another conversion."""

RATE = 16000
"""Samples per second of every waveform."""

PLACES = ("Raw", "wav")
SUFFIXES = (*AUDIO, *VIDEO)
"""Endings of recordings, most wanted first: files of sound before the videos that they were taken from."""
_MARGIN = 0.1  # seconds read beyond the cut, so that resampling sees what follows there


@dataclass(frozen=True)
class Recording:
    """One recording: `path` below the raw folder; `size` in bytes; `time` of its last change in nanoseconds."""

    path: str
    size: int
    time: int


def has_recordings(folder: Path) -> bool:
    """Whether a raw folder holds any sound at all."""
    return any(path.suffix.lower() in SUFFIXES for place in PLACES for path in (folder / place).glob("*/*"))


def open_waveforms(folder: Path, clips: Mapping[str, Sequence[str]], seconds: float) -> Store:
    """The waveforms of a raw folder, decoded first where they changed since: ``<split>/waveform/audio`` (N, T) float32 with its mask (N, T) bool.

    `clips`: by split, ``<video_id>/<clip_id>`` as the folder spells it. T = seconds * 16000: longer recordings are cut, shorter ones end in zeros.
    DataError: recordings that are missing, empty or unreadable (all of them in one error), or no library that reads them.
    """
    length = max(1, round(seconds * RATE))
    found, missing = find_recordings(folder, clips)
    if missing:
        readable = [recording.path for recording in found.values()]
        _refuse(folder, {**missing, **_unreadable(folder, readable, length)}, len(missing) + len(found))
    trace = [[split, clip, *vars(found[clip]).values()] for split in SPLITS for clip in clips[split]]
    digest = hashlib.sha256(json.dumps(trace).encode()).hexdigest()

    def build(temporary: Path) -> None:
        conversion = _Conversion(folder, {split: [found[clip].path for clip in clips[split]] for split in SPLITS}, length)
        write_store(temporary, conversion.columns, conversion.document)

    return open_or_build(store_folder(digest, ["waveforms", VERSION, length]), build)


def find_recordings(folder: Path, clips: Mapping[str, Sequence[str]]) -> tuple[dict[str, Recording], dict[str, str]]:
    """Recordings by clip, and why others have none."""
    wanted = [clip for split in SPLITS for clip in clips[split]]
    files: dict[str, dict[str, Recording]] = {}
    for place in PLACES:
        for video in sorted({clip.rpartition("/")[0] for clip in wanted}):
            try:
                entries = sorted(os.scandir(folder / place / video), key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise DataError(f"{folder / place / video}: cannot be read: {error.strerror}") from None
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if entry.is_file():
                    status = entry.stat()
                    recording = Recording(f"{place}/{video}/{entry.name}", status.st_size, status.st_mtime_ns)
                    files.setdefault(f"{video}/{stem}", {}).setdefault(suffix.lower(), recording)
    found, missing = {}, {}
    for clip in wanted:
        own = files.get(clip, {})
        best = next((own[suffix] for suffix in SUFFIXES if suffix in own), None)
        if best is not None:
            found[clip] = best
        elif own:
            missing[next(iter(own.values())).path] = f"is of no kind that is read here; it must be {', '.join(SUFFIXES)}"
        else:
            missing[f"{PLACES[0]}/{clip}"] = f"there is no {', '.join(AUDIO)}, nor a video"
    return found, missing


def _refuse(folder: Path, problems: Mapping[str, str], total: int) -> None:
    if problems:
        first = "; ".join(f"{path}: {reason}" for path, reason in list(problems.items())[:10])
        raise DataError(f"{folder}: {len(problems)} of {total} recordings cannot be used: {first}{'; ...' if len(problems) > 10 else ''}")


def _unreadable(folder: Path, paths: Sequence[str], length: int) -> dict[str, str]:
    reasons = {path: _read(folder / path, length) for path in paths}
    return {path: reason for path, reason in reasons.items() if isinstance(reason, str)}


def _read(path: Path, length: int) -> tuple[np.ndarray, int, str] | str:
    """Samples (n,), sampling rate and sha256 of a file, or why it cannot be read."""
    try:
        content = path.read_bytes()
        samples, rate = decode_audio(io.BytesIO(content), path.suffix, length / RATE + _MARGIN)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return samples, rate, hashlib.sha256(content).hexdigest()


class _Conversion:
    """`columns` for the store, whose blocks are decoded as they are written, and its `document()` afterwards."""

    def __init__(self, folder: Path, paths: Mapping[str, Sequence[str]], length: int):
        self.folder, self.paths, self.length = folder, paths, length
        self.frames = {split: np.zeros(len(names), np.int64) for split, names in paths.items()}
        self.content = {split: [""] * len(names) for split, names in paths.items()}
        self.problems: dict[str, str] = {}
        self.cut, self.replaced = 0, 0
        self.columns: dict[str, Column] = {}
        for split, names in paths.items():
            shape = (len(names), length)
            self.columns[f"{split}/waveform/audio"] = Column(shape, np.dtype("<f4"), partial(self._rows, split))
            self.columns[f"{split}/waveform_mask/audio"] = Column(shape, np.dtype("?"), partial(self._mask, split))

    def document(self) -> dict[str, Any]:
        """What was read. DataError: recordings that could not be."""
        _refuse(self.folder, self.problems, sum(map(len, self.paths.values())))
        digest = hashlib.sha256("\n".join(digest for split in SPLITS for digest in self.content[split]).encode()).hexdigest()
        return {"waveforms": {"rate": RATE, "length": self.length, "sha256": digest, "cut": self.cut, "version": VERSION}, "replaced": self.replaced}

    def _rows(self, split: str, start: int, stop: int) -> np.ndarray:
        """(n, T) float32"""
        block = np.zeros((stop - start, self.length), np.float32)
        for i in range(start, stop):
            path = self.paths[split][i]
            result = _read(self.folder / path, self.length)
            if isinstance(result, str):
                self.problems[path] = result
                continue
            samples, rate, self.content[split][i] = result
            bad = ~np.isfinite(samples)
            self.replaced += int(bad.sum())
            samples = resample(np.where(bad, np.float32(0), samples), rate)
            self.cut += len(samples) > self.length
            samples = samples[: self.length]
            block[i - start, : len(samples)] = samples
            self.frames[split][i] = len(samples)
        return block

    def _mask(self, split: str, start: int, stop: int) -> np.ndarray:
        """(n, T) bool; masks are written after all waveforms, since their items are narrower."""
        return np.arange(self.length) < self.frames[split][start:stop, None]


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """From any sampling rate to 16 kHz: (n,) float32 -> (ceil(n * 16000 / rate),) float32. DataError: torchaudio is needed and not there."""
    if rate == RATE:
        return samples
    try:
        import torch
        from torchaudio import functional
    except (ImportError, OSError, RuntimeError) as error:
        raise DataError(
            f"recordings at {rate} Hz need torchaudio, which cannot be imported ({error}): "
            f"{how_to_install('mmbench-extractors[audio]')}, with torch and torchaudio of one build; or convert the recordings to {RATE} Hz"
        ) from None
    return functional.resample(torch.from_numpy(samples), rate, RATE).numpy()
