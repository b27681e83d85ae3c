"""The transformers of MulT: from one modality to another, and over a modality's own memory (Tsai et al. 2019, sections 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Sequence as Ordered

from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.layers import Dropout, attention, context_key_values, rank
from mmbench_baselines.mult.config import MulTConfig


class Block(nn.Module):
    """x + Attention(LN(x), LN(source)), then x + W₂ ReLU(W₁ LN(x)): (B, T, d) -> (B, T, d). The hidden width is 4d (Eq. 4)."""

    def __init__(self, width: int, config: MulTConfig, attention_dropout: float):
        super().__init__()
        self.heads = config.heads
        self.attention_dropout = attention_dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(), Dropout(config.relu_dropout), nn.Linear(4 * width, width)
        )
        self.dropout = Dropout(config.residual_dropout)

    def forward(self, x: Tensor, key_value: Tensor | None, allowed: Tensor, anything: Tensor) -> Tensor:
        """`key_value` (B, S, 2d): keys and values of the source, or None for x's own; `allowed` (B, 1, T, S) bool, with a key for each query;
        `anything` (B, 1, 1) bool, False: attend to nothing.
        """
        normed = self.attention_norm(x)
        query = self._split(self.query(normed))  # (B, heads, T, d/heads)
        key, value = (self.key_value(normed) if key_value is None else key_value).chunk(2, -1)
        rate = self.attention_dropout if self.training else 0.0
        attended = attention(query, self._split(key), self._split(value), allowed, rate)
        x = x + self.dropout(self.output(attended.transpose(1, 2).flatten(2)) * anything)
        return x + self.dropout(self.feed_forward(x))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d/heads)


class Encoder(nn.Module):
    """`layers` blocks and a last LayerNorm."""

    blocks: Ordered[Block]

    def __init__(self, width: int, layers: int, config: MulTConfig, attention_dropout: float):
        super().__init__()
        self.causal = config.causal
        self.embed_dropout = Dropout(config.embed_dropout)
        self.blocks = nn.ModuleList(Block(width, config, attention_dropout) for _ in range(layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(width)

    def cross(self, x: Sequence, source: Sequence) -> Sequence:
        """From `source` (B, S, d) to x (B, T, d); each block attends to the source's inputs (Eq. 3 and 4): (B, T, d). Both `positioned`."""
        allowed, anything = attention_mask(x.mask, source.mask, self.causal)
        values = self.embed_dropout(x.values)
        key_values = context_key_values(self.embed_dropout(source.values), ((block.key_value, block.attention_norm) for block in self.blocks))
        for block, key_value in zip(self.blocks, key_values, strict=True):
            values = block(values, key_value, allowed, anything)
        return Sequence(self.norm(values) * x.mask.unsqueeze(-1), x.mask)

    def last(self, x: Sequence) -> Tensor:
        """Self-attention, then the last real step: (B, T, d), `positioned` -> (B, d). Zeros for a sample without a real step.

        The last block computes that step alone.
        """
        allowed, anything = attention_mask(x.mask, x.mask, self.causal)
        values = self.embed_dropout(x.values)
        *blocks, final = self.blocks
        for block in blocks:
            values = block(values, None, allowed, anything)
        place = (rank(x.mask) + 1).argmax(1)  # (B,)
        query = values.gather(1, place[:, None, None].expand(-1, 1, values.shape[-1]))  # (B, 1, d)
        row = allowed.gather(2, place[:, None, None, None].expand(-1, 1, 1, allowed.shape[-1]))  # (B, 1, 1, T)
        key_value = final.key_value(final.attention_norm(values))
        output: Tensor = self.norm(final(query, key_value, row, anything)) * anything
        return output.squeeze(1)


def attention_mask(queries: Tensor, keys: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Which keys a query may attend to: (B, T), (B, S) bool -> (B, 1, T, S) bool, and which samples have any, (B, 1, 1) bool.

    With `causal`, real frame i of the n_q queries sees the real frames j ≤ i + |n_q - n_k| of the n_k keys: the official code's mask, which
    counts the padded lengths instead. Every query keeps a key, for attention to be defined; samples without a real key are told apart.
    """
    anything = keys.any(1)[:, None, None]  # (B, 1, 1)
    allowed = keys.unsqueeze(1) | ~anything  # (B, 1, S)
    if causal:
        slack = (queries.sum(1) - keys.sum(1)).abs()[:, None, None]
        i, j = rank(queries).clamp(min=0).unsqueeze(2), rank(keys).unsqueeze(1)
        allowed = allowed & (j <= i + slack)  # (B, T, S); j is -1 where there is no key
    return allowed.expand(-1, queries.shape[1], -1).unsqueeze(1), anything
