"""Recordings as samples and as images: soundfile for files of sound, PyAV for everything else. Imports neither before it is used, and no torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmbench.errors import DataError
from mmbench.installing import how_to_install

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac")
"""Endings of files of sound, most wanted first."""
VIDEO = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".flv")
"""Endings of videos, most wanted first. Their sound is read too."""

VERSION = 1
"""Version of the rules below; another version is other samples or images, and so other features."""

_SOUNDFILE = (".wav", ".flac", ".mp3", ".ogg")
MOST_SAMPLES = 1 << 29
"""Numbers of a sound that is decoded: three hours at 48 kHz. A file of a kilobyte can say that it has more."""
RATES = range(1000, 768_001)
"""Samples per second that a sound can have: resampling takes memory by the rate."""
MOST_PIXELS = 1 << 26
"""Of one image: twice what 8K has."""
LONGEST = 6 * 3600
"""Seconds of a video: an image that is shown for longer is repeated for as long as its file says."""
_STREAMED = 0x7F000000  # a size that large stands in a .wav or .avi whose writer did not know it


class MissingLibraryError(DataError):
    """What reads recordings of a kind is not installed: none of them can be read."""


def read_audio(path: Path, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """The sound of a file, or its first `seconds`, as one channel: (n,) float32, n >= 1, and its sampling rate. Channels are averaged.

    DataError: it cannot be opened, has no sound, is empty, cut short or damaged, or the library that reads it is not installed.
    """
    try:
        with open(path, "rb") as file:
            return decode_audio(file, path.suffix, seconds)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def decode_audio(file: IO[bytes], suffix: str, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """`read_audio` of an open file whose name ends in `suffix`. ValueError: why it cannot be read. DataError: no library to read it with."""
    decode = _with_soundfile if suffix.lower() in _SOUNDFILE else _with_pyav
    library = soundfile() if decode is _with_soundfile else pyav()
    _check_length(file)
    samples, rate = decode(library, file, seconds)  # (n, channels)
    if not len(samples):
        raise ValueError("holds no samples")
    return samples.mean(axis=1), rate


def read_frames(path: Path, fps: float) -> Iterator[np.ndarray]:
    """The images of a video at `fps`, one after the other: (H, W, 3) uint8 RGB. Image i is the one shown i / fps seconds after the first.

    At least one image; only one is held at a time. Nothing depends on the number of processors. DataError: as of `read_audio`.
    """
    av = pyav()
    try:
        with open(path, "rb") as file:
            _check_length(file)
            with _opened(av, file) as container:
                stream = next(
                    (s for s in container.streams.video if av.stream.Disposition.attached_pic not in s.disposition), None
                )  # a cover is no video
                if stream is None:
                    raise ValueError("has no pictures; take a video, or leave vision out")
                stream.thread_type = "NONE"
                step, shown, count = 1 / Fraction(fps).limit_denominator(100_000), None, 0
                for frame, start in _timed(av, container, stream):
                    _check_end(start)
                    while shown is not None and count * step < start:
                        yield _image(shown)
                        count += 1
                    shown = frame
                if shown is None:
                    raise ValueError("holds no pictures")
                _check_end(start + _duration(shown, stream))
                while not count or count * step < start + _duration(shown, stream):
                    yield _image(shown)
                    count += 1
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def soundfile() -> Any:
    """The library soundfile. MissingLibraryError: it cannot be imported."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingLibraryError(f"recordings need soundfile, which cannot be imported ({error}): pip install soundfile") from None
    return soundfile


def pyav() -> Any:
    """The library PyAV. MissingLibraryError: it cannot be imported."""
    try:
        import av
    except (ImportError, OSError) as error:
        raise MissingLibraryError(f"videos need PyAV, which cannot be imported ({error}): {how_to_install('mmbench-extractors[video]')}") from None
    return av


def _with_soundfile(library: Any, file: IO[bytes], seconds: float | None) -> tuple[np.ndarray, int]:
    try:
        with library.SoundFile(file) as sound:
            rate = _rate(sound.samplerate)
            stated = sound.frames if seconds is None else min(sound.frames, int(seconds * rate) + 1)
            if stated * sound.channels > MOST_SAMPLES:
                raise ValueError(f"says that it has {stated} samples of {sound.channels} channels, more than are read; cut it")
            return sound.read(-1 if seconds is None else int(seconds * rate) + 1, dtype="float32", always_2d=True), rate
    except (library.SoundFileError, RuntimeError) as error:
        raise ValueError(f"cannot be decoded: {getattr(error, 'error_string', None) or error}") from None


def _with_pyav(av: Any, file: IO[bytes], seconds: float | None) -> tuple[np.ndarray, int]:
    with _opened(av, file) as container:
        if not container.streams.audio:
            raise ValueError("has no sound; take a file that has, or leave audio out")
        stream = container.streams.audio[0]
        stream.thread_type = "NONE"
        rate, blocks, count = _rate(stream.rate), [np.zeros((0, 1), np.float32)], 0
        most = None if seconds is None else int(seconds * rate) + 1
        planes = av.AudioResampler(format="fltp")  # floats, whatever the codec gives; rate and channels stay
        for frame in _decoded(av, container, stream):
            for plane in planes.resample(frame):
                blocks.append(plane.to_ndarray().mean(axis=0)[:, None])  # (n, 1)
                count += len(blocks[-1])
                if count > MOST_SAMPLES:
                    raise ValueError(f"has more than {MOST_SAMPLES} samples; cut it")
            if most is not None and count >= most:
                break
        return np.concatenate(blocks)[:most], rate


def _rate(stated: int | None) -> int:
    """Samples per second. ValueError: none that a sound can have."""
    if stated is None or int(stated) not in RATES:
        raise ValueError(f"says that it has {stated} samples per second, as no sound has; convert it anew from its source")
    return int(stated)


def _opened(av: Any, file: IO[bytes]) -> Any:
    try:
        return av.open(file)
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(f"cannot be decoded: {getattr(error, 'strerror', None) or error}") from None


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[Any]:
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        raise ValueError(f"is damaged, and cannot be decoded: {error.strerror}; convert it anew from its source") from None


def _timed(av: Any, container: Any, stream: Any) -> Iterator[tuple[Any, Fraction]]:
    """Frames with the second at which each is first shown, counted from the first; half a millisecond early, to which .mkv and .flv round."""
    first = None
    for count, frame in enumerate(_decoded(av, container, stream)):
        time = count * _duration(frame, stream) if frame.pts is None else frame.pts * frame.time_base
        first = time if first is None else first
        yield frame, time - first - Fraction(1, 2000)


def _duration(frame: Any, stream: Any) -> Fraction:
    """Seconds for which the last frame is shown."""
    own = Fraction(frame.duration or 0) * (frame.time_base or 0)
    return own or 1 / Fraction(stream.average_rate or 25)


def _check_end(end: Fraction) -> None:
    if end > LONGEST:
        raise ValueError(f"says that it has an image at {float(end):.6g} s, and videos of up to {LONGEST} s are read; cut it")


def _image(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8, upright: phones store pictures as the sensor lies and say by how much to turn them."""
    if frame.width * frame.height > MOST_PIXELS:
        raise ValueError(f"has images of {frame.width} x {frame.height}, larger than are read; convert it to a smaller size")
    turns = round(frame.rotation / 90) % 4 if hasattr(frame, "rotation") else 0
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def _check_length(file: IO[bytes]) -> None:
    """ValueError: the file is empty, or shorter than its own head says (.wav, .avi; .mp4, .mov, .m4a; .mkv, .webm)."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not size:
        raise ValueError("the file is empty")
    head = file.read(64)
    stated = 0
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little") + 8
        stated = 0 if stated - 64 - 8 <= size or stated >= _STREAMED else stated  # sizes that are a little off are common
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        stated = _boxes(file, size)
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        stated = _segment(head)
    file.seek(0)
    if stated > size:
        raise ValueError(f"is cut short: {size} bytes of {stated}; copy it anew")


def _boxes(file: IO[bytes], size: int) -> int:
    """Where the boxes of an .mp4 end."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isalnum():  # up to the end of the file, or no box
            return size
        end += length
    return end


def _segment(head: bytes) -> int:
    """Where the segment of an .mkv ends; 0 where its writer did not know."""
    length, start = _number(head, 4)
    start += length
    if head[start : start + 4] != b"\x18\x53\x80\x67":
        return 0
    length, start = _number(head, start + 4)
    return start + length if length else 0


def _number(head: bytes, start: int) -> tuple[int, int]:
    """A number of EBML, whose first bits say how many bytes it has, and where it ends; all ones mean that it is not known: 0."""
    if start >= len(head) or not head[start]:
        return 0, start
    width = 9 - head[start].bit_length()
    value = int.from_bytes(head[start : start + width], "big") - (1 << 7 * width)
    return (0 if value == (1 << 7 * width) - 1 else value), start + width
