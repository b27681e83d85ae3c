"""Attention that is fast on a CPU, too, where torch's fused attention knows no dropout and is slow for the narrow heads of this field.

In the way of FlashAttention (Dao et al. 2022, algorithms 1 and 2): pieces that fit into a core's cache, many weights computed again for the
backward pass instead of kept, and keys that no query of a piece may attend to left out.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmbench.layers.fast_dropout import Numbers, dropout, threshold
from mmbench.layers.precision import at_least_float32, without_autocast

PIECE = 1 << 18
"""Scores in one piece: 1 MiB in float32. Smaller ones fit into a faster cache, but torch's time per call outweighs it (measured)."""
ROWS = 128
"""Queries in one piece, at most, where a sample needs several: few enough that a causal mask leaves keys out."""
KEPT = 1 << 21
"""Scores of a call up to which its weights are kept for the backward pass, 8 MiB in float32; more are computed again."""
LANES = 8
"""Keys are padded to a multiple: torch's softmax is twice as fast on whole vectors."""
SMALL = 1 << 17
"""Scores below which written-out attention is faster (measured; where nothing is dropped, torch's fused attention, up to 8 times as many)."""


def attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, rate: float) -> Tensor:
    """softmax(QKᵀ/√d) V with dropout of the weights: (B, h, T, d), (B, h, S, d) twice -> (B, h, T, d).

    `allowed`: bool, of a shape that broadcasts to (B, h, T, S), True where a query may attend to a key; at least one key for each query.
    """
    scores = query.shape[:3].numel() * key.shape[2]
    if query.device.type != "cpu" or (rate == 0.0 and scores < 8 * SMALL):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=rate)
    if scores < SMALL:
        return written_out_attention(query, key, value, allowed, rate)
    result: Tensor = _Piecewise.apply(query, key, value, allowed, rate)  # type: ignore[no-untyped-call]
    return result


def written_out_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, rate: float) -> Tensor:
    """`attention`, formula by formula: what the quick forms are tested against."""
    scores = (query * query.shape[-1] ** -0.5) @ key.mT  # (B, h, T, S)
    forbidden = torch.zeros(allowed.shape, dtype=scores.dtype, device=scores.device).masked_fill_(~allowed, -torch.inf)
    return dropout((scores + forbidden).softmax(-1), rate) @ value


class _Piecewise(torch.autograd.Function):
    """With P = softmax(QKᵀ/√d), a mask M of zeros and ones, c = 1/(1-p):

    O = c (P∘M) V, and for a gradient G of O: ∂V = c (P∘M)ᵀ G, ∂S = c (P∘M)∘(GVᵀ) - P∘rowsum(G∘O), ∂Q = ∂S K/√d, ∂K = ∂Sᵀ Q/√d.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, rate: float) -> Tensor:
        with without_autocast(query):
            pieces = _cut(query.shape, key.shape[2], allowed, at_least_float32(query[:0]).dtype)
            work = _Work(query, key, value, rate, Numbers.seed() if rate else 0)
            output = work.q.new_empty(len(work.q), work.v.shape[1], query.shape[2])  # (B·h, d, T)
            stored = []
            keeps = any(ctx.needs_input_grad) and query.shape[:3].numel() * work.k.shape[2] <= KEPT
            for piece in pieces:
                heads, queries, keys, _ = piece
                weights = work.weights(piece)
                keep = work.keep(weights)
                kept = weights if keep is None else keep.mul_(weights)
                output[heads, :, queries] = torch.bmm(work.v[heads, :, keys], kept.mT)
                if keeps:
                    stored.append(weights.clone() if keep is None else torch.mul(kept, 2).sub_(weights))  # P, with a minus where it is dropped
            result = _unfold(output.mul_(work.scale), query)
        ctx.pieces, ctx.rate, ctx.seed = pieces, rate, work.seed
        ctx.save_for_backward(query, key, value, result, *stored)
        return result

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, result, *stored = ctx.saved_tensors
        with without_autocast(query):
            work = _Work(query, key, value, ctx.rate, ctx.seed)
            g = _fold(gradient)
            inner = (g * _fold(result)).sum(1).unsqueeze(2)  # (B·h, T, 1): rowsum(G∘O)
            g.mul_(work.scale)
            dq, dk, dv = torch.empty_like(work.q), torch.zeros_like(work.k), torch.zeros_like(work.v)
            for place, piece in enumerate(ctx.pieces):
                heads, queries, keys, _ = piece
                weights, kept = work.stored(stored[place]) if stored else work.again(piece)
                dv[heads, :, keys].add_(torch.bmm(g[heads, :, queries], kept))
                scores = torch.bmm(g[heads, :, queries].mT, work.v[heads, :, keys], out=work.buffer(2, weights.shape))
                scores.mul_(kept).addcmul_(weights, inner[heads, queries], value=-1.0)  # ∂S
                dq[heads, :, queries] = torch.bmm(work.k[heads, :, keys], scores.mT)
                dk[heads, :, keys].add_(torch.bmm(work.q[heads, :, queries], scores))
            return _unfold(dq.mul_(query.shape[-1] ** -0.5), query), _unfold(dk, key), _unfold(dv, value), None, None


class _Piece(NamedTuple):
    """Some heads, counted through the samples, and some of their queries and keys."""

    heads: slice
    queries: slice
    keys: slice
    bias: Tensor | None  # broadcasts to (samples, heads, queries, keys): 0 where allowed, else the lowest number. None: all is allowed


def _cut(shape: torch.Size, keys: int, allowed: Tensor, dtype: torch.dtype) -> list[_Piece]:
    """The pieces of an attention with queries (B, h, T, d): several samples, or some heads and queries of one."""
    samples, heads, length, _ = shape
    allowed = allowed[(None,) * (4 - allowed.dim())]  # (B or 1, h or 1, T or 1, S or 1)
    allowed = F.pad(allowed.expand(samples, -1, length, keys), (0, -keys % LANES))
    lowest = allowed.to(dtype).sub_(1).mul_(torch.finfo(dtype).max)  # (B, 1 or h, T, S): the bias
    keys = lowest.shape[-1]
    together = max(1, PIECE // (heads * length * keys))  # samples
    rows = length if together > 1 else min(length, max(LANES, min(ROWS, PIECE // keys)))
    place = torch.arange(1, keys + 1)
    pieces = []
    for row in range(0, length, rows):
        queries = slice(row, min(row + rows, length))
        block = lowest[:, :, queries]
        reach = ((block.amax((1, 2)) == 0) * place).amax(1)  # (B,): keys to look at until none is allowed any more
        full = block.amin((1, 2)) == 0  # (B, S)
        masked = ~(full | (place > reach.unsqueeze(1))).all(1)  # (B,)
        reach_of, masked_of = reach.tolist(), masked.tolist()
        for sample in range(0, samples, together):
            own = slice(sample, min(sample + together, samples))
            seen = max(-(-max(reach_of[own]) // LANES) * LANES, LANES)
            bias = block[own, ..., :seen] if any(masked_of[own]) or min(reach_of[own]) < seen else None
            first, last = own.start * heads, own.stop * heads
            step = last - first if together > 1 else max(1, PIECE // (rows * seen))
            for head in range(first, last, step):
                some = slice(head, min(head + step, last))
                of_heads = bias if bias is None or bias.shape[1] == 1 or some == slice(first, last) else bias[:, head - first : some.stop - first]
                pieces.append(_Piece(some, queries, slice(0, seen), of_heads))
    return pieces


class _Work:
    """The operands of one call as (B·h, d, L), for products with a narrow result are several times as fast that way."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, rate: float, seed: int):
        self.seed = seed
        self.q = _fold(query).mul_(query.shape[-1] ** -0.5)
        self.k, self.v = (_fold(x, -x.shape[2] % LANES) for x in (key, value))
        self.least, self.scale = threshold(rate) if rate else (0, 1.0)
        self.numbers = Numbers(seed) if rate else None

    def weights(self, piece: _Piece) -> Tensor:
        """softmax(QKᵀ/√d): (heads, queries, keys)."""
        heads, queries, keys, bias = piece
        q, k = self.q[heads, :, queries], self.k[heads, :, keys]
        scores = torch.bmm(q.mT, k, out=self.buffer(0, torch.Size((q.shape[0], q.shape[2], k.shape[2]))))
        if bias is not None:
            scores.view(bias.shape[0], -1, *scores.shape[1:]).add_(bias)
        return torch.softmax(scores, -1, out=scores)

    def keep(self, weights: Tensor) -> Tensor | None:
        """Zeros and ones of the weights' shape. None: nothing is dropped."""
        return None if self.numbers is None else self.numbers.keep(self.least, self.buffer(1, weights.shape))

    def again(self, piece: _Piece) -> tuple[Tensor, Tensor]:
        """P and P∘M, computed once more."""
        weights = self.weights(piece)
        keep = self.keep(weights)
        return weights, weights if keep is None else keep.mul_(weights)

    def stored(self, signed: Tensor) -> tuple[Tensor, Tensor]:
        """P and P∘M from P with a minus where M is zero."""
        if self.numbers is None:
            return signed, signed
        shape = signed.shape
        return torch.abs(signed, out=self.buffer(0, shape)), torch.clamp(signed, min=0.0, out=self.buffer(1, shape))

    def buffer(self, which: int, shape: torch.Size) -> Tensor:
        """Memory that stays from piece to piece and from call to call: fresh pages cost more than what is computed in them."""
        key = which, self.q.dtype
        if key not in _memory.buffers or _memory.buffers[key].numel() < shape.numel():
            with torch.inference_mode(False):  # what is made in that mode could never be written outside of it again
                _memory.buffers[key] = torch.empty(shape.numel(), dtype=self.q.dtype)
        return _memory.buffers[key][: shape.numel()].view(shape)


class _Memory(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[int, torch.dtype], Tensor] = {}


_memory = _Memory()


def _fold(x: Tensor, extra: int = 0) -> Tensor:
    """(B, h, L, d) -> (B·h, d, L+extra) of its own, in float32 or better, the extra zero."""
    samples, heads, length, width = x.shape
    folded = torch.zeros(samples, heads, width, length + extra, dtype=at_least_float32(x[:0]).dtype)
    folded[..., :length] = x.mT
    return folded.flatten(0, 1)


def _unfold(x: Tensor, like: Tensor) -> Tensor:
    """(B·h, d, ≥L) -> the shape (B, h, L, d) and the type of `like`, in memory as (B, L, h, d): joining the heads again copies nothing."""
    samples, heads, length, _ = like.shape
    memory = torch.empty(samples, length, heads, x.shape[1], dtype=like.dtype)
    memory.copy_(x[:, :, :length].unflatten(0, (samples, heads)).permute(0, 3, 1, 2))
    return memory.transpose(1, 2)
