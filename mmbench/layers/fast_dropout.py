"""Dropout and attention that are fast on a CPU, too, where torch draws one Bernoulli variable per element and its fused attention has no dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 1 << 16


def dropout(x: Tensor, rate: float) -> Tensor:
    """Inverted dropout: x/(1-p) with probability 1-p, else 0. On a CPU, p is the rate rounded to a multiple of 2⁻¹⁶.

    There, each 64-bit number of torch's generator decides four elements, one by each of its 16-bit words.
    """
    if rate == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    dropped = min(round(rate * STEPS), STEPS - 1)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    uniform = bits.view(torch.int16)[: x.numel()].view(x.shape)  # on -2¹⁵ .. 2¹⁵-1
    keep = torch.ge(uniform, dropped - STEPS // 2, out=torch.empty(x.shape, dtype=x.dtype))  # as numbers at once: half the time
    return x * keep.mul_(STEPS / (STEPS - dropped))


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
    """softmax(QKᵀ/√d) V with dropout of the weights: (B, h, T, d), (B, h, S, d) twice -> (B, h, T, d).

    `allowed`: bool, of a shape that broadcasts to (B, h, T, S), True where a query may attend to a key; at least one key for each query.
    """
    if rate == 0.0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=rate)
    scores = (query * query.shape[-1] ** -0.5) @ key.mT  # (B, h, T, S)
    forbidden = torch.zeros(allowed.shape, dtype=scores.dtype).masked_fill_(~allowed, -torch.inf)  # added in place: a fraction of masking the scores
    return dropout(scores.add_(forbidden).softmax(-1), rate) @ value
