"""From frames to sequences of one width and one length: temporal convolution, adaptive pooling to other positions, sinusoidal positions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batch import Sequence
from mmbench.layers.precision import at_least_float32, without_autocast


def rank(mask: Tensor) -> Tensor:
    """Position of each real frame among the sample's real frames, -1 elsewhere: (B, T) bool -> (B, T) long."""
    return torch.where(mask, mask.cumsum(1) - 1, -1)


class TemporalProjection(nn.Module):
    """Conv1d(d_m -> d, kernel k, no bias) over time: (B, T, d_m) -> (B, T, d).

    `padding="same"`: every real frame gives one. `padding="none"`: output t is the window of frames t..t+k-1 and is real where the whole
    window is; a sample without a whole window keeps the one at its first frame, filled with zeros. Frames that are not real count as zero.
    """

    def __init__(self, inputs: int, width: int, kernel_size: int, padding: Literal["same", "none"]):
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.convolution = nn.Conv1d(inputs, width, kernel_size, bias=False)

    def forward(self, x: Sequence) -> Sequence:
        missing = self.kernel_size - 1
        before = missing // 2 if self.padding == "same" else 0
        values = x.values.masked_fill(~x.mask.unsqueeze(-1), 0.0)
        if not missing:  # a linear layer: no transposed copies, and zeros stay zeros
            return Sequence(F.linear(values, self.convolution.weight.squeeze(-1)), x.mask)
        values = F.pad(values, (0, 0, before, missing - before))  # (B, T+k-1, d_m)
        values = self.convolution(values.transpose(1, 2)).transpose(1, 2)  # (B, T, d)
        mask = x.mask if self.padding == "same" else self._whole_windows(x.mask)
        return Sequence(values * mask.unsqueeze(-1), mask)

    def _whole_windows(self, mask: Tensor) -> Tensor:
        whole = F.pad(mask, (0, self.kernel_size - 1)).unfold(1, self.kernel_size, 1).all(-1)  # (B, T)
        return whole | ((rank(mask) == 0) & ~whole.any(1, keepdim=True))


def adaptive_average(x: Sequence, positions: Tensor) -> Sequence:
    """Adaptive average pooling of each sample's real frames: (B, T, d) and positions (B, S) bool -> (B, S, d), real where `positions` is.

    With n real frames and s positions, frame f spans [f·s, (f+1)·s) and position j spans [j·n, (j+1)·n) of a line of length n·s; a position
    is the mean of the frames that it meets (the rule of `torch.nn.AdaptiveAvgPool1d`). Both are counted among the real ones, so padding and
    holes do not count. Values that are not real may be anything but NaN. A sample without a real frame gives zeros that are not real.
    """
    n, s = x.mask.sum(1)[:, None, None], positions.sum(1)[:, None, None]  # (B, 1, 1)
    f, j = (x.mask.cumsum(1) - 1).unsqueeze(1), (positions.cumsum(1) - 1).unsqueeze(2)  # (B, 1, T), (B, S, 1)
    meets = (f * s < (j + 1) * n) & ((f + 1) * s > j * n) & x.mask.unsqueeze(1) & positions.unsqueeze(2)  # (B, S, T)
    values = at_least_float32(x.values)
    weight = meets.to(values.dtype)
    weight = weight / weight.sum(2, keepdim=True).clamp(min=1.0)
    with without_autocast(values):
        return Sequence(torch.bmm(weight, values), positions & x.mask.any(1, keepdim=True))


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sinusoidal positions (Vaswani et al. 2017, section 3.5) of the places (B, T) long: (B, T, width) float32. Places below 0 count as 0."""
    half = (width + 1) // 2
    frequency = torch.exp(torch.arange(half, device=places.device) * (-math.log(10000.0) / half))
    angle = torch.arange(places.shape[1], device=places.device).unsqueeze(1) * frequency  # (T, half)
    table = torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]
    return F.embedding(places.clamp(min=0), table)  # (B, T, width)


def positioned(x: Sequence) -> Sequence:
    """x·√d and sinusoidal positions, counted over real frames, so that padding moves nothing: (B, T, d) -> (B, T, d). Source: Tsai et al. 2019."""
    width = x.values.shape[-1]
    return Sequence(torch.add(sinusoids(rank(x.mask), width), x.values, alpha=math.sqrt(width)), x.mask)
