"""Keeps sums over samples and frames out of half precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mmbench.batch import Sequence


def without_autocast(like: Tensor) -> torch.autocast:
    """Context in which the device of `like` computes in the precision of its inputs."""
    return torch.autocast(like.device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision -> float32; float32 and float64 stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def pooled(sequences: Mapping[str, Sequence], modalities: Iterable[str]) -> Tensor:
    """Masked means over time, stacked: M sequences (B, T_m, d) -> (M, B, d), float32 or better. Call without autocast.

    The values of `Sequence.mean`, as a product whose gradient is several times cheaper. A sample without a real frame gives zeros.
    """
    means = []
    for m in modalities:
        values = at_least_float32(sequences[m].values)
        weight = sequences[m].mask.to(values.dtype)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1.0)  # (B, T)
        means.append(torch.bmm(weight.unsqueeze(1), values).squeeze(1))  # (B, d)
    return torch.stack(means)
