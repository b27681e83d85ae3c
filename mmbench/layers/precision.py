"""Keeps sums over frames and samples, and labels, out of half precision."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbench.batch import Sequence


def without_autocast(like: Tensor) -> torch.autocast:
    """Context in which the device of `like` computes in the precision of its inputs."""
    return torch.autocast(like.device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision -> float32; float32 and float64 stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def masked_mean(x: Sequence) -> Tensor:
    """Mean over the real frames, float32 or better: (B, T, d) -> (B, d). A sample without a real frame gives zeros."""
    values = at_least_float32(x.values)
    if values.shape[1] == 1:
        return values[:, 0] * x.mask
    weight = x.mask.to(values.dtype)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1.0)  # (B, T)
    with without_autocast(values):
        return torch.bmm(weight.unsqueeze(1), values).squeeze(1)  # (B, d)
