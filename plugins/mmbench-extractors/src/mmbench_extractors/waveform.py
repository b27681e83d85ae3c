"""Recordings as waveforms: mono, 16 kHz, float32."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mmbench.errors import ConfigError, DataError
from mmbench.installing import how_to_install
from mmbench.media import read_audio
from mmbench_extractors.loading import explain
from mmbench_extractors.options_audio import RATE


def read_waveform(path: Path) -> Tensor:
    """The sound of a file or a video as (T,) float32 at 16 kHz, its channels averaged. `DataError`: it cannot be read, or holds NaN."""
    samples, rate = read_audio(path)
    waveform = torch.from_numpy(samples)
    if not torch.isfinite(waveform).all():
        raise DataError(f"{path}: holds samples that are not finite; write it anew as integers, or from its source")
    return waveform if rate == RATE else _resample(waveform, rate)


def _resample(waveform: Tensor, rate: int) -> Tensor:
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"a file of {rate} Hz must be resampled to {RATE} Hz, and torchaudio cannot be loaded: {explain(error)}; "
            f"{how_to_install('mmbench-extractors[audio]')}, or convert the files to 16 kHz beforehand"
        ) from error
    found: Tensor = resample(waveform, rate, RATE)
    return found
