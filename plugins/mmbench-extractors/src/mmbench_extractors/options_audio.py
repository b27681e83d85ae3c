"""Options of the audio extractors that have no pretrained network. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from mmbench import ComponentConfig
from mmbench_extractors.config import option

KALDI = "Kaldi's default (Povey et al. 2011)"
RATE = 16_000
"""Samples per second of every waveform."""

Block = Literal["mfcc", "delta", "delta2", "logmel", "pitch", "energy"]


class MfccConfig(ComponentConfig):
    """Blocks of classical speech features, side by side in the order of `blocks`."""

    blocks: tuple[Block, ...] = option(
        ("mfcc", "delta", "pitch", "energy"),
        "what a frame holds: `mfcc`; `delta` and `delta2`, their first and second differences over time (5 frames); `logmel`, the logarithm of the "
        "mel bands; `pitch` in Hz, 0 where there is no voice; `energy`, the logarithm of the mean square",
        min_length=1,
    )
    window: float = option(0.025, "length of a frame's window in seconds; frames are centred in their hop", KALDI, gt=0, le=1)
    hop: float = option(0.010, "seconds from one frame to the next", KALDI, gt=0, le=1)
    n_mfcc: int = option(13, "coefficients of `mfcc`, the zeroth included", KALDI, ge=1)
    n_mels: int = option(
        40, "mel bands of `mfcc` and `logmel`", "our choice: more leave bands without a bin of the spectrum at 16 kHz and 25 ms", ge=2
    )
    f_min: float = option(20.0, "lowest frequency of the mel bands in Hz", KALDI, ge=0)
    f_max: float = option(8000.0, "highest frequency of the mel bands in Hz; waveforms are at 16 kHz", KALDI, gt=0, le=RATE / 2)
    pitch_min: int = option(50, "lowest pitch in Hz", KALDI, ge=20)
    pitch_max: int = option(400, "highest pitch in Hz", KALDI, le=1000)
    voicing: float = option(
        0.45, "a frame whose correlation with itself a period later is lower has no pitch", "Praat's voicing threshold", ge=0, le=1
    )
    pitch_smoothing: int = option(5, "frames over which the median of the pitch is taken; odd; 1: none", ge=1)

    @model_validator(mode="after")
    def _suits(self) -> MfccConfig:
        if len(set(self.blocks)) < len(self.blocks):
            raise ValueError("blocks must not name one twice")
        if self.hop > self.window:
            raise ValueError("hop must not be longer than window")
        if round(self.hop * RATE) < 1:
            raise ValueError(f"hop must be a sample or more, at {RATE} Hz")
        if self.n_mfcc > self.n_mels:
            raise ValueError("n_mfcc must not be larger than n_mels")
        if self.f_min >= self.f_max or self.pitch_min * 2 > self.pitch_max:
            raise ValueError("f_min must lie below f_max, and pitch_min an octave or more below pitch_max")
        if self.pitch_smoothing % 2 == 0:
            raise ValueError("pitch_smoothing must be odd")
        return self


class OpensmileConfig(ComponentConfig):
    """openSMILE's own configurations. Its licence allows research and personal use; a product needs one of audEERING's."""

    feature_set: Literal["eGeMAPSv02", "eGeMAPSv01b", "eGeMAPS", "GeMAPSv01b", "GeMAPS", "ComParE_2016", "emobase"] = option(
        "eGeMAPSv02", "which of openSMILE's configurations (openSMILE itself is licensed for research and personal use only)", "Eyben et al. (2016)"
    )
    level: Literal["lld", "functionals"] = option(
        "lld",
        "`lld`: a frame each 10 ms (25 values with eGeMAPSv02, 65 with ComParE_2016); `functionals`: one frame of statistics for a clip (88, 6373)",
    )
