"""The linear layer on the outer product, without the outer product: the longest array is the mask of its dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmbench.layers import dropout


def dropped_product(first: Tensor, rest: Tensor, weight: Tensor, bias: Tensor, rate: float) -> Tensor:
    """y = W·dropout(a ⊗ r) + b: a (B, P), r (B, R), W (F, P·R), b (F,) -> (B, F).

    As a sum over p: y = b + Σ_p a_p (r ∘ k_p) W_pᵀ, where k_p (B, R) is what the dropout multiplies place p by, 0 or 1/(1 - rate).
    A product (r ∘ k_p) stays in the processor's cache, and the gradient of a_p needs the summand alone.
    """
    keep = dropout(rest.new_ones(first.shape[1], *rest.shape), rate)  # (P, B, R)
    y: Tensor = _Product.apply(first, rest, weight, bias, keep)
    return y


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, rest: Tensor, weight: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
        blocks = weight.split(rest.shape[1], 1)  # (F, R) each
        kept = torch.empty_like(rest)
        sums = torch.stack([torch.mul(rest, k, out=kept) @ block.T for k, block in zip(keep, blocks, strict=True)])  # (P, B, F)
        ctx.save_for_backward(first, rest, weight, keep, sums)
        return torch.einsum("bp,pbf->bf", first, sums) + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first, rest, weight, keep, sums = ctx.saved_tensors
        width = rest.shape[1]
        kept, block_grad, rest_grad = torch.empty_like(rest), torch.empty_like(rest), torch.zeros_like(rest)
        weight_grad = torch.empty_like(weight)
        for p, (k, block) in enumerate(zip(keep, weight.split(width, 1), strict=True)):
            scaled = grad * first[:, p, None]  # (B, F)
            rest_grad.addcmul_(k, torch.mm(scaled, block, out=block_grad))
            torch.mm(scaled.T, torch.mul(rest, k, out=kept), out=weight_grad[:, p * width : (p + 1) * width])
        return torch.einsum("pbf,bf->bp", sums, grad), rest_grad, weight_grad, grad.sum(0), None
