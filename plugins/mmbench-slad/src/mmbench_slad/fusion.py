"""A fusion stack (section 3.5): streams that attend to each other in parallel, then to themselves, and end in one vector each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.layers import Dropout, attention


class Attention(nn.Module):
    """Multi-head attention with its residual sum, normalised after it: LN(x + Attention(x, context))."""

    def __init__(self, width: int, heads: int, rate: float):
        super().__init__()
        self.heads, self.rate = heads, rate
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.dropout = Dropout(rate)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """(B, T, d), (B, S, d) and its mask (B, S) -> (B, T, d)."""
        key, value = self.key_value(context).chunk(2, dim=-1)
        attended = attention(
            self._split(self.query(x)), self._split(key), self._split(value), mask[:, None, None], self.rate if self.training else 0.0
        )
        return self.norm(x + self.dropout(self.output(attended.transpose(1, 2).flatten(2))))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d/heads)


class Stream(nn.Module):
    """One stream of a block: cross-attention → self-attention → feed-forward with ReLU (hidden width 4d), each with a norm after its sum."""

    def __init__(self, width: int, heads: int, rate: float):
        super().__init__()
        self.cross = Attention(width, heads, rate)
        self.itself = Attention(width, heads, rate)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), Dropout(rate), nn.Linear(4 * width, width), Dropout(rate))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor, others: Tensor, others_mask: Tensor, last: bool) -> Tensor:
        """(B, T, d), (B, T), (B, S, d), (B, S) -> (B, T, d), or in the last block (B, 1, d): nothing reads its other positions."""
        x = self.cross(x, others, others_mask)
        x = self.itself(x[:, :1] if last else x, x, mask)
        return self.norm(x + self.feed_forward(x))


class Block(nn.Module):
    """All streams at once: each attends to the other ones, joined in time, as they were before the block."""

    def __init__(self, streams: int, width: int, heads: int, rate: float):
        super().__init__()
        self.streams = nn.ModuleList(Stream(width, heads, rate) for _ in range(streams))

    def forward(self, values: list[Tensor], masks: list[Tensor], last: bool) -> list[Tensor]:
        """M tensors (B, T_m, d) with their masks -> the same, or M tensors (B, 1, d) in the last block."""
        parts = enumerate(zip(self.streams, values, masks, strict=True))
        return [stream(x, mask, _join(values, m), _join(masks, m), last) for m, (stream, x, mask) in parts]


class FusionStack(nn.Module):
    """`layers` blocks over M ≥ 2 streams of equal width; a learnable CLS token before each stream collects it. Source: Eq. 3-6.

    Two streams attend to each other exactly as in Eq. 3-4 or 5-6. There are no positions: those of the encoders are in the features.
    The CLS token is always a key, so no query is ever without one.
    """

    def __init__(self, streams: int, width: int, heads: int, layers: int, rate: float):
        super().__init__()
        self.cls = nn.Parameter(torch.randn(streams, 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(streams, width, heads, rate) for _ in range(layers))

    def forward(self, streams: list[Sequence]) -> list[Tensor]:
        """M sequences (B, T_m, d) -> M vectors (B, d)."""
        batch = len(streams[0].values)
        values = [torch.cat([cls.expand(batch, 1, -1), x.values.to(cls.dtype)], 1) for cls, x in zip(self.cls, streams, strict=True)]
        masks = [torch.cat([x.mask.new_ones(batch, 1), x.mask], 1) for x in streams]  # (B, 1 + T_m)
        for place, block in enumerate(self.blocks, start=1):
            values = block(values, masks, last=place == len(self.blocks))
        return [x[:, 0] for x in values]


def _join(parts: list[Tensor], without: int) -> Tensor:
    """All but one of the parts, joined in time."""
    others = parts[:without] + parts[without + 1 :]
    return others[0] if len(others) == 1 else torch.cat(others, 1)
