"""The positions that all modalities of a sample are averaged to (section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_one(mask: Tensor) -> Tensor:
    """A sample without any position gets its first one, so that its other modalities are not lost: (B, T) -> (B, T)."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | (first & ~mask.any(1, keepdim=True))
