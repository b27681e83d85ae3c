"""Dropout that is fast on a CPU, too, where torch draws one Bernoulli variable per element."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 1 << 16
FEW = 1 << 16
"""Elements below which starting a generator of one's own costs more than it saves, and the most that are decided at a time."""


def threshold(rate: float) -> tuple[int, float]:
    """The 16-bit number below which an element is dropped, and 1/(1-p), for p the rate rounded to a multiple of 2⁻¹⁶."""
    dropped = min(round(rate * STEPS), STEPS - 1)
    return dropped - STEPS // 2, STEPS / (STEPS - dropped)


class Numbers:
    """A stream of 16-bit numbers for dropout on a CPU: NumPy's SFC64, three times as fast as torch's generator, which gives its seed.

    The same seed gives the same numbers again: cheaper than keeping what was made of them.
    """

    def __init__(self, seed: int):
        self._bits = np.random.SFC64(seed)

    @staticmethod
    def seed() -> int:
        return int(torch.empty((), dtype=torch.int64).random_())

    def keep(self, least: int, out: Tensor) -> Tensor:
        """Fills `out`, contiguous, with 1 where the next number is `least` or more, else 0. Four numbers of each draw of 64 bits."""
        bound = torch.tensor(least, dtype=torch.int16)  # a plain number would be made a tensor, and that one converted, for each part
        for part in out.view(-1).split(FEW):  # larger draws would come in fresh memory
            numbers = torch.from_numpy(self._bits.random_raw(-(-part.numel() // 4)).view(np.int16))[: part.numel()]
            torch.ge(numbers, bound, out=part)  # as numbers at once: half the time
        return out


def dropout(x: Tensor, rate: float) -> Tensor:
    """Inverted dropout: x/(1-p) with probability 1-p, else 0. On a CPU, p is the rate rounded to a multiple of 2⁻¹⁶."""
    if rate == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    least, scale = threshold(rate)
    keep = torch.empty(x.shape, dtype=x.dtype)
    if x.numel() < FEW:
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        torch.ge(bits.view(torch.int16)[: x.numel()].view(x.shape), least, out=keep)
    else:
        Numbers(Numbers.seed()).keep(least, keep)
    return x * keep.mul_(scale)


class Dropout(nn.Module):
    """`dropout` in training mode, the identity otherwise."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
