"""The transformer of one modality (section 3.4): pre-norm blocks over its own frames or over those of the others."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.layers import Dropout, attention, context_key_values


@dataclass(frozen=True)
class Keys:
    """Which frames may be attended to: `allowed` (B, 1, 1, S) bool; `anything` (B, 1, 1) bool, False where there are none and all are allowed."""

    allowed: Tensor
    anything: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Keys:
        """From the mask (B, S) of the keys, once for all blocks."""
        anything = mask.any(1, keepdim=True)  # (B, 1)
        return cls((mask | ~anything)[:, None, None, :], anything.unsqueeze(-1))


class Block(nn.Module):
    """x + Attention(LN(x), LN(context)), then x + W₂ ReLU(W₁ LN(x)): (B, T, d) -> (B, T, d). The hidden width is 4d."""

    def __init__(self, width: int, heads: int, attention_dropout: float, relu_dropout: float, residual_dropout: float):
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(), Dropout(relu_dropout), nn.Linear(4 * width, width)
        )
        self.dropout = Dropout(residual_dropout)

    def forward(self, x: Tensor, key_value: Tensor | None, keys: Keys) -> Tensor:
        """`key_value` (B, S, 2d): keys and values of the context, made by `context_key_values`; None for x's own."""
        x = x + self.dropout(self._attend(x, key_value, keys))
        return x + self.dropout(self.feed_forward(x))

    def _attend(self, x: Tensor, key_value: Tensor | None, keys: Keys) -> Tensor:
        normed = self.attention_norm(x)
        query = self._split(self.query(normed))  # (B, heads, T, d/heads)
        key, value = (self.key_value(normed) if key_value is None else key_value).chunk(2, dim=-1)
        rate = self.attention_dropout if self.training else 0.0
        attended = attention(query, self._split(key), self._split(value), keys.allowed, rate)
        output = self.output(attended.transpose(1, 2).flatten(2))  # (B, T, d)
        return output if key_value is None else output * keys.anything  # a sample without own frames is left out of every mean anyway

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d/heads)


class Transformer(nn.Module):
    """`layers` blocks and a last LayerNorm over one modality: (B, T, d) -> (B, T, d)."""

    blocks: Ordered[Block]

    def __init__(
        self, width: int, heads: int, layers: int, attention_dropout: float, relu_dropout: float, residual_dropout: float, embed_dropout: float
    ):
        super().__init__()
        self.embed_dropout = Dropout(embed_dropout)
        self.blocks = nn.ModuleList(Block(width, heads, attention_dropout, relu_dropout, residual_dropout) for _ in range(layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Sequence, others: list[Sequence] | None = None) -> Sequence:
        """With `others`, keys and values are their frames joined in time, the same in every block; otherwise x's own, block by block.

        All are `positioned`. Frames that are not real hold anything finite.
        """
        values, mask = self.embed_dropout(x.values), x.mask
        key_values: Ordered[Tensor | None] = [None] * len(self.blocks)
        if others:
            mask = torch.cat([other.mask for other in others], dim=1)  # (B, ΣT)
            context = self.embed_dropout(torch.cat([other.values for other in others], dim=1))
            key_values = context_key_values(context, ((block.key_value, block.attention_norm) for block in self.blocks))
        keys = Keys.of(mask)
        for block, key_value in zip(self.blocks, key_values, strict=True):
            values = block(values, key_value, keys)
        return Sequence(self.norm(values), x.mask)
