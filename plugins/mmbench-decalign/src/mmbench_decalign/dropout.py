"""Dropout that does not dominate a training step on a CPU, where drawing one Bernoulli number per element is slower than the layers around it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 2**16


def dropout_factor(like: Tensor, rate: float) -> Tensor:
    """0 with probability p, 1/(1-p) otherwise, shaped like `like`; p is the rate rounded to a multiple of 2⁻¹⁶.

    Each 64-bit random number of torch's CPU generator decides four elements by its 16-bit words.
    """
    dropped = min(round(rate * LEVELS), LEVELS - 1)
    count = like.numel()
    numbers = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    words = numbers.view(torch.int16)[:count].view(like.shape)  # uniform on -2¹⁵ .. 2¹⁵-1
    return (words >= dropped - LEVELS // 2).to(like.dtype).mul_(LEVELS / (LEVELS - dropped))


def dropout(x: Tensor, rate: float) -> Tensor:
    """Inverted dropout: on a CPU through `dropout_factor`, elsewhere torch's own."""
    if rate == 0.0:
        return x
    return x * dropout_factor(x, rate) if x.device.type == "cpu" else F.dropout(x, rate)


class Dropout(nn.Module):
    """`dropout` in training mode, the identity otherwise."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, rate: float) -> Tensor:
    """softmax(QKᵀ/√d) V with dropout of the weights: (B, h, T, d), (B, h, S, d), (B, h, S, d), `allowed` (B, 1, 1, S) bool -> (B, h, T, d).

    At least one key of each sample must be allowed. On a CPU, torch's fused kernels have no dropout, so that case is written out.
    """
    if rate == 0.0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=rate)
    forbidden = torch.zeros(allowed.shape, dtype=query.dtype).masked_fill_(~allowed, -torch.inf)
    scores = (query * query.shape[-1] ** -0.5 @ key.mT).add_(forbidden)  # (B, h, T, S)
    return dropout(scores.softmax(-1), rate) @ value
