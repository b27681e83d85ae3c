"""An LSTM over packed frames, on a CPU, for layers so wide that products take the time and not calls.

Torch's own LSTM multiplies padding there, and computes the gradient of its input even where nothing asks for one, which for precomputed text
features is more than a quarter of a step's products. Here products are over real frames alone, and all but those of the states are one for all
steps. Shapes depend on the masks, so that this is no way for a GPU, which would have to be waited for.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Packing(NamedTuple):
    """Where the N real frames of a batch go: first frames of all samples, the longest sample first, then second frames, and so on.

    `counts`: how many samples have a first frame, a second one, ... `frames` (N,): each one's place in (B·T). `starts` (N,): its place in (B·T)
    once each sample's real frames are moved to its start. `last` (B,): the place of each sample's last frame in the pack (any, if it has none).
    """

    counts: list[int]
    frames: Tensor
    starts: Tensor
    last: Tensor


def pack(mask: Tensor, reverse: bool = False) -> Packing:
    """The packing of the real frames of a mask (B, T) with at least one; with `reverse`, each sample's own frames backwards."""
    size, length = mask.shape
    lengths = mask.sum(1)
    order = lengths.argsort(descending=True, stable=True)  # (B,)
    lengths = lengths[order]
    rank = torch.arange(int(lengths[0])).unsqueeze(1)  # (S, 1)
    occupied = rank < lengths  # (S, B)
    counts = occupied.sum(1)
    sample, frame = mask[order].nonzero(as_tuple=True)  # (N,) each, by sample
    own = lengths - 1 - rank if reverse else rank.expand_as(occupied)
    frames = (order[sample] * length + frame)[(lengths.cumsum(0) - lengths + own)[occupied]]
    last = (counts.cumsum(0) - counts)[lengths - 1] + torch.arange(size)
    last = torch.empty_like(order).scatter_(0, order, last.clamp(max=len(frames) - 1))
    return Packing(counts.tolist(), frames, (order * length + own)[occupied], last)


def lstm(x: Tensor, counts: list[int], weight: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """States h of packed frames: x (N, D), W (4H, D), U (4H, H), b (4H,) -> (N, H).

    [i; f; g; o] = W x_t + U h_{t-1} + b,  c_t = σ(f) c_{t-1} + σ(i) tanh(g),  h_t = σ(o) tanh(c_t), with h and c zero before the first step.
    Source: Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000), as `torch.nn.LSTM`.
    """
    states: Tensor = _LSTM.apply(x, counts, weight, recurrent, bias)
    return states


class _LSTM(torch.autograd.Function):
    """Steps work in place on slices of arrays of all steps; what depends on no other step is done for all at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int], weight: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        width = recurrent.shape[1]
        gates = torch.addmm(bias, x, weight.T)  # (N, 4H)
        cells, squashed, states = (gates.new_empty(len(x), width) for _ in range(3))  # c, tanh c, h
        steps = [part.split(counts) for part in (gates, gates[:, : 2 * width], *gates.split(width, 1), cells, squashed, states)]
        for t in range(len(counts)):
            gate, input_forget, i, f, g, o, c, tanh_c, h = (part[t] for part in steps)
            if t:
                gate.addmm_(steps[-1][t - 1][: len(gate)], recurrent.T)
            input_forget.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=c)
            if t:
                c.addcmul_(f, steps[-3][t - 1][: len(c)])
            torch.mul(torch.tanh(c, out=tanh_c), o, out=h)
        ctx.counts = counts
        ctx.save_for_backward(x, weight, recurrent, gates, cells, squashed, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """δ of the gates before their σ and tanh, last step first; the gradients of W, U, b and x are then products over all steps."""
        x, weight, recurrent, gates, cells, squashed, states = ctx.saved_tensors
        counts, width = ctx.counts, recurrent.shape[1]
        i, f, g, o = gates.split(width, 1)
        previous = _previous(counts)  # (N - counts[0],)
        delta = torch.empty_like(gates)  # first ∂c/∂i, ∂c/∂f, ∂c/∂g, ∂h/∂o, then, step by step, δ
        slopes = delta.split(width, 1)
        torch.mul(g, i - i * i, out=slopes[0])
        slopes[1][: counts[0]] = 0.0
        torch.mul(cells.index_select(0, previous), (f - f * f)[counts[0] :], out=slopes[1][counts[0] :])
        torch.mul(i, 1 - g * g, out=slopes[2])
        torch.mul(squashed, o - o * o, out=slopes[3])
        grad_c = o * (1 - squashed * squashed)  # ∂h/∂c, then, step by step, the gradient of c
        grad_h = grad.clone(memory_format=torch.contiguous_format)
        of_cell = delta[:, : 3 * width].unflatten(1, (3, width))
        steps = [part.split(counts) for part in (delta, of_cell, slopes[3], grad_c, grad_h, f)]
        after = 0
        for t in reversed(range(len(counts))):
            d, dc3, do, dc, dh, _ = (part[t] for part in steps)
            if after:
                dh[:after].addmm_(steps[0][t + 1], recurrent)
            dc.mul_(dh)
            if after:
                dc[:after].addcmul_(steps[3][t + 1], steps[5][t + 1])
            dc3.mul_(dc.unsqueeze(1))
            do.mul_(dh)
            after = len(d)
        grad_x = delta @ weight if ctx.needs_input_grad[0] else None
        return grad_x, None, delta.T @ x, delta[counts[0] :].T @ states.index_select(0, previous), delta.sum(0)


def _previous(counts: list[int]) -> Tensor:
    """Place of the same sample one step before, for each packed frame from the second step on."""
    starts = [0, *accumulate(counts)]
    return torch.cat([torch.arange(0), *(torch.arange(start, start + count) for start, count in zip(starts, counts[1:], strict=False))])
