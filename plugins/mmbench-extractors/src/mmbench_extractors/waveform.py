"""Reading audio files: mono, 16 kHz, float32."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mmbench.errors import ConfigError, DataError
from mmbench_extractors.loading import explain

RATE = 16_000
"""Samples per second of every waveform."""


def read_waveform(path: Path) -> Tensor:
    """An audio file as (T,) float32 at 16 kHz, its channels averaged. Raises `DataError` for a file that cannot be read."""
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (T, channels)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as audio ({error}); WAV, FLAC, OGG and MP3 can") from error
    waveform = torch.from_numpy(samples).mean(1)
    if not torch.isfinite(waveform).all():
        raise DataError(f"{path}: holds samples that are not finite")
    return waveform if rate == RATE or not len(waveform) else _resample(waveform, rate)


def _resample(waveform: Tensor, rate: int) -> Tensor:
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"a file of {rate} Hz must be resampled to {RATE} Hz, and torchaudio cannot be loaded: {explain(error)}. "
            "Install mmbench-extractors[audio], or convert the files to 16 kHz beforehand"
        ) from error
    found: Tensor = resample(waveform, rate, RATE)
    return found
