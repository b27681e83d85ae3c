"""Equal lengths (section 3.4): each sample's real frames, averaged to its own number of positions of the reference modality."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbench.batch import Sequence
from mmbench_slad.precision import at_least_float32, without_autocast


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


def at_least_one(mask: Tensor) -> Tensor:
    """A sample without any position gets its first one, so that its other modalities are not lost: (B, T) -> (B, T)."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | (first & ~mask.any(1, keepdim=True))
