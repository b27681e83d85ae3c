"""One vector for each modality of a sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mmbench.batch import Sequence
from mmbench.layers import masked_mean


def pooled(sequences: Mapping[str, Sequence], modalities: Iterable[str]) -> Tensor:
    """Masked means over time, stacked: M sequences (B, T_m, d) -> (M, B, d), float32 or better. A sample without a real frame gives zeros."""
    return torch.stack([masked_mean(sequences[m]) for m in modalities])
