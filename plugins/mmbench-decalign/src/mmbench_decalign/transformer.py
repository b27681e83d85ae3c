"""The transformer of one modality (section 3.4): pre-norm blocks over its own frames or over those of the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.layers import Dropout, attention, rank, sinusoids


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

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor) -> Tensor:
        """`context` (B, S, d), or None for x itself; `mask` (B, S) bool, True on the frames that may be attended to."""
        x = x + self.dropout(self._attend(x, context, mask))
        return x + self.dropout(self.feed_forward(x))

    def _attend(self, x: Tensor, context: Tensor | None, mask: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        query = self._split(self.query(normed))  # (B, heads, T, d/heads)
        key, value = self.key_value(normed if context is None else self.attention_norm(context)).chunk(2, dim=-1)
        anything = mask.any(1, keepdim=True)  # (B, 1); without a key to attend to, the result is zero
        allowed = (mask | ~anything)[:, None, None, :]  # (B, 1, 1, S)
        rate = self.attention_dropout if self.training else 0.0
        attended = attention(query, self._split(key), self._split(value), allowed, rate)
        return self.output(attended.transpose(1, 2).flatten(2)) * anything.unsqueeze(-1)  # (B, T, d)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d/heads)


class Transformer(nn.Module):
    """`layers` blocks and a last LayerNorm over one modality: (B, T, d) -> (B, T, d).

    Inputs are scaled by √d and get sinusoidal positions, counted over real frames, so that padding moves nothing (Tsai et al. 2019).
    """

    def __init__(
        self, width: int, heads: int, layers: int, attention_dropout: float, relu_dropout: float, residual_dropout: float, embed_dropout: float
    ):
        super().__init__()
        self.scale = math.sqrt(width)
        self.embed_dropout = Dropout(embed_dropout)
        self.blocks = nn.ModuleList(Block(width, heads, attention_dropout, relu_dropout, residual_dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Sequence, others: list[Sequence] | None = None) -> Sequence:
        """With `others`, keys and values are their frames joined in time, the same in every block; otherwise x's own, block by block."""
        values = self._embed(x)
        context, mask = None, x.mask
        if others:
            context = torch.cat([self._embed(other) for other in others], dim=1)  # (B, ΣT, d)
            mask = torch.cat([other.mask for other in others], dim=1)  # (B, ΣT)
        for block in self.blocks:
            values = block(values, context, mask)
        return Sequence(self.norm(values), x.mask)

    def _embed(self, x: Sequence) -> Tensor:
        return self.embed_dropout(self.scale * x.values + sinusoids(rank(x.mask), x.values.shape[-1]))
