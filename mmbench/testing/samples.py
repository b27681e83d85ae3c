"""Small recordings for the checks of extractors. Imports no torch."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmbench.media import VIDEO
from mmbench.testing.checks import Skipped

RATE, SAMPLES = 16_000, 1600


def recording(folder: Path, suffixes: Sequence[str]) -> Path:
    """A new file of the most wanted kind that can be made: a tone of a tenth of a second, or five images. Raises `Skipped` where none can."""
    for suffix in suffixes:
        if suffix == ".wav":
            return _tone(folder / "sample.wav")
        if suffix in VIDEO:
            return _video(folder / "sample.mkv" if ".mkv" in suffixes else folder / f"sample{suffix}")
    raise Skipped(f"no sample file of the kind {' or '.join(suffixes)} can be made here")


def _tone(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "NONE"))
        file.writeframes((np.sin(np.arange(SAMPLES) / 5) * 20_000).astype("<i2").tobytes())
    return path


def _video(path: Path) -> Path:
    try:
        import av
    except (ImportError, OSError):
        raise Skipped("a sample video needs PyAV, which is not installed") from None
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(5):
            image = np.broadcast_to(np.arange(64 * 3, dtype=np.uint8).reshape(64, 3) + np.uint8(10 * i), (48, 64, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    return path
