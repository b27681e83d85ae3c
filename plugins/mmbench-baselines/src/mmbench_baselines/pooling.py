"""One vector per utterance."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mmbench.batch import Sequence
from mmbench.layers import masked_mean, rank


def pooled_text(x: Sequence, how: Literal["mean", "first"]) -> Tensor:
    """Mean of the real frames, or the first of them (the CLS position of a BERT): (B, T, D) -> (B, D).

    A sample without a real frame gives zeros. Padding must be finite.
    """
    if how == "mean":
        return masked_mean(x)
    return masked_mean(Sequence(x.values, rank(x.mask) == 0))


def utterance(values: Tensor, x: Sequence) -> Sequence:
    """The vector (B, D) of each sample; zeros, marked as not real, where the modality `x` has no real frame: -> (B, 1, D)."""
    real = x.mask.any(1, keepdim=True)  # (B, 1)
    return Sequence((values * real).unsqueeze(1), real)
