"""`torchaudio-mfcc`: classical speech features of a 16 kHz waveform."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench.installing import how_to_install
from mmbench.interfaces import FeatureExtractor
from mmbench.media import AUDIO, VIDEO
from mmbench_extractors.loading import explain
from mmbench_extractors.options_audio import RATE, MfccConfig
from mmbench_extractors.waveform import read_waveform

FLOOR = 1e-6  # below 16 bits' quantisation noise in a mel band; keeps logarithms of silence finite
DELTAS = 5  # frames
VERSION = 1
"""Version of the rules below; part of the digest."""


class TorchaudioMfcc(FeatureExtractor):
    """MFCC and their differences, mel bands, pitch and energy, side by side (B, T', width); nothing in it is trained.

    Frame i of every block is of the samples [i, i + 1) * hop, its window centred there with zeros before the clip and behind it; the last
    one may be partly empty, so a clip of n samples has ⌈n / hop⌉ frames. At its end differences and medians repeat the last real frame.

    mel_m = Σ_k H_mk |STFT_k|²  (Hann window, HTK's mel scale), logmel = ln(mel + 1e-6), mfcc = orthonormal DCT-II of logmel,
    delta_t = Σ_{n=1..2} n (c_{t+n} - c_{t-n}) / 10, energy = ln(mean x² + 1e-6).
    Pitch: φ(m) = Σ_n x_n x_{n+m} / √(Σ_n x_n² Σ_n x_{n+m}²) over a window (Talkin 1995); the rate by the smallest lag m at which φ has a peak of 0.9
    or more of its highest, where that is at least `voicing`. (torchaudio's own estimate leaves out the root, and fails on sounds whose loudness
    changes.)
    """

    component = "torchaudio-mfcc"
    suffixes = (*AUDIO, *VIDEO)

    def __init__(self, config: MfccConfig):
        super().__init__(config)
        self.config = config
        try:
            from torchaudio import functional, transforms
        except (ImportError, OSError, RuntimeError) as error:
            install = how_to_install("mmbench-extractors[audio]")
            raise ConfigError(f"{self.component}: torchaudio cannot be loaded: {explain(error)}; {install}") from error
        self.functional = functional
        self.hop = round(config.hop * RATE)
        self.window = round(config.window * RATE)
        self.size = 1 << (self.window - 1).bit_length()  # of the transform: the next power of two
        self.mel = transforms.MelSpectrogram(RATE, self.size, self.window, self.hop, config.f_min, config.f_max, n_mels=config.n_mels, center=False)
        self.register_buffer("cosines", functional.create_dct(config.n_mfcc, config.n_mels, "ortho"), persistent=False)
        self.cosines: Tensor  # (n_mels, n_mfcc)
        widths = {"mfcc": config.n_mfcc, "delta": config.n_mfcc, "delta2": config.n_mfcc, "logmel": config.n_mels, "pitch": 1, "energy": 1}
        self.width = sum(widths[block] for block in config.blocks)
        self.frame_rate = RATE / self.hop

    def digest(self) -> str:
        """SHA-256 of the options."""
        return hashlib.sha256(f"{self.component} {VERSION} {self.config.model_dump_json()}".encode()).hexdigest()

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """The sound of a file or a video as a waveform (T,): float32, mono, 16 kHz."""
        return read_waveform(Path(path_or_text))

    def forward(self, raw: Sequence) -> Sequence:
        """Waveforms (B, T) at 16 kHz, right-padded, with their mask -> (B, ⌈T / hop⌉, width); zero where the mask is False.

        A sample's features depend on nothing but its real samples; one without any keeps a frame of silence. Float32 under autocast too.
        """
        with torch.autocast(raw.mask.device.type, enabled=False):
            waveform = raw.values.float().masked_fill(~raw.mask, 0.0)
            count = math.ceil(waveform.shape[1] / self.hop)
            frames = (-(-raw.mask.sum(1) // self.hop)).clamp(min=1)  # (B,)
            place = torch.arange(count, device=frames.device)
            blocks = self._blocks(waveform, torch.minimum(place, frames[:, None] - 1))
            mask = place < frames[:, None]  # (B, T')
            values = torch.cat([blocks[name] for name in self.config.blocks], dim=2)  # (B, T', width)
            return Sequence(values.masked_fill(~mask.unsqueeze(-1), 0.0), mask)

    def _blocks(self, waveform: Tensor, place: Tensor) -> dict[str, Tensor]:
        """Blocks of width d by name, (B, T', d); frame i comes from where `place` (B, T') says: behind the clip, its last real frame."""
        count, before = place.shape[1], (self.size - self.hop) // 2
        behind = (count - 1) * self.hop + self.size - before - waveform.shape[1]
        padded = nn.functional.pad(waveform, (before, behind))  # (B, T), with frame i's window centred at (i + 1/2) hop
        inner = (self.size - self.window) // 2
        power = padded.unfold(1, self.size, self.hop)[:, :, inner : inner + self.window].square().mean(2, keepdim=True)  # (B, T', 1)
        wanted, found = set(self.config.blocks), {"energy": (power + FLOOR).log()}
        if wanted - {"pitch", "energy"}:
            found["logmel"] = _at((self.mel(padded).transpose(1, 2) + FLOOR).log(), place)  # (B, T', n_mels)
            found["mfcc"] = found["logmel"] @ self.cosines  # (B, T', n_mfcc)
            found["delta"] = self._differences(found["mfcc"], place)
            found["delta2"] = self._differences(found["delta"], place)
        if "pitch" in wanted:
            rough = torch.stack([self._pitch(row, count) for row in waveform])  # (B, T'); one by one, for the memory
            found["pitch"] = self._median(rough, place).unsqueeze(-1)  # (B, T', 1)
        return found

    def _differences(self, values: Tensor, place: Tensor) -> Tensor:
        """(B, T', d) -> (B, T', d)"""
        repeated = _at(values, place).transpose(1, 2)  # (B, d, T')
        return self.functional.compute_deltas(repeated, DELTAS).transpose(1, 2)

    def _pitch(self, waveform: Tensor, count: int) -> Tensor:
        """(T,) -> (T',) in Hz; 0 without a voice."""
        first, last = RATE // self.config.pitch_max, math.ceil(RATE / self.config.pitch_min) + 1  # lags; one more on either side tells peaks
        length, before = self.window + last, (self.window - self.hop) // 2
        behind = (count - 1) * self.hop + length - before - waveform.shape[0]
        x = nn.functional.pad(waveform, (before, behind)).unfold(0, length, self.hop).double()  # (T', n)
        size = 1 << (length - 1).bit_length()
        spectra = torch.fft.rfft(x[:, : self.window], size).conj() * torch.fft.rfft(x, size)
        products = torch.fft.irfft(spectra, size)[:, : last + 1]  # (T', lags)
        sums = nn.functional.pad(x.square(), (1, 0)).cumsum(1)
        energies = sums[:, self.window :] - sums[:, : last + 1]
        phi = (products / (energies[:, :1] * energies + 1e-14).sqrt())[:, first - 1 :]  # 1e-14: silence has no correlation
        inner = phi[:, 1:-1]
        best = inner.max(1, keepdim=True).values
        peaks = (inner >= phi[:, :-2]) & (inner >= phi[:, 2:]) & (inner >= 0.9 * best)
        lag = first + peaks.float().argmax(1)
        return (RATE / lag).float().masked_fill(~peaks.any(1) | (best[:, 0] < self.config.voicing), 0.0)

    def _median(self, values: Tensor, place: Tensor) -> Tensor:
        """(B, T') -> (B, T'): the median around each frame; before the first and behind the last real one, these are repeated."""
        reach = self.config.pitch_smoothing // 2
        around = torch.arange(place.shape[1], device=place.device)[:, None] + torch.arange(-reach, reach + 1, device=place.device)  # (T', w)
        around = torch.minimum(around.clamp(min=0), place[:, -1:, None])  # (B, T', w)
        return values.gather(1, around.flatten(1)).view(around.shape).median(2).values


def _at(values: Tensor, place: Tensor) -> Tensor:
    """(B, T', d) -> (B, T', d), frame i from place[:, i]."""
    return values.gather(1, place.unsqueeze(-1).expand_as(values))
