"""The two halves of an EM step with diagonal covariances, each a product of matrices with its derivative written out.

In the features f(x) = (x, x²) a log-density is linear, and all that the M-step needs are weighted sums of them. Everything here is far shorter
than what torch takes to start it, so the number of operations is what counts: `bmm` and `reciprocal` start in half the time of `@` and `1 /`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEAST_COUNT = 10 * torch.finfo(torch.float64).eps  # added to Σ_n w_n(k): a component without samples stays finite


def features(x: Tensor) -> Tensor:
    """(x, x²): (M, B, d) -> (M, B, 2d)."""
    return torch.cat([x, x.square()], dim=-1)


class Expectation(torch.autograd.Function):
    """w_n(k) ∝ π_k N(x_n; μ_k, diag σ²_k) as softmax_k(θ_k · f(x_n) + c_k), θ = (μ/σ², -1/(2σ²)), c = log π - ½ Σ (μ²/σ² + log σ²).

    f (M, B, 2d), π (M, K) up to a factor for each modality, μ and σ² (M, K, d) -> w (M, K, B). Source: Eq. 3-4.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
        width = means.shape[-1]
        precision = variances.reciprocal()  # (M, K, d)
        theta = means.new_empty(*means.shape[:2], 2 * width)  # (M, K, 2d)
        scaled = torch.mul(means, precision, out=theta[..., :width])
        torch.mul(precision, -0.5, out=theta[..., width:])
        constant = weights.log().sub_(torch.addcmul(variances.log(), scaled, means).sum(-1), alpha=0.5)  # (M, K)
        posterior = torch.baddbmm(constant.unsqueeze(-1), theta, f.mT).softmax(1)  # (M, K, B)
        ctx.save_for_backward(f, weights, means, precision, theta, posterior)
        return posterior

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        f, weights, means, precision, theta, posterior = ctx.saved_tensors
        weighted = posterior * gradient
        logits = weighted.addcmul_(posterior, weighted.sum(1, keepdim=True), value=-1)  # (M, K, B)
        of_f = torch.bmm(logits.mT, theta) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return of_f, None, None, None
        scaled, half = torch.bmm(logits, f).chunk(2, dim=-1)  # (M, K, d) each: ∂ of both parts of θ
        constant = logits.sum(-1)  # (M, K)
        shift = torch.addcmul(scaled, means, constant.unsqueeze(-1), value=-1)
        inverse = torch.addcmul(half, means, scaled + shift, value=-1)  # -2 ∂/∂(1/σ²)
        of_variances = torch.addcmul(constant.unsqueeze(-1), precision, inverse, value=-1).mul_(precision).mul_(-0.5)
        return of_f, constant / weights, precision * shift, of_variances


class Maximisation(torch.autograd.Function):
    """N_k = Σ_n w_n(k), μ_k = Σ_n w_n(k) x_n / N_k, σ²_k = max(0, Σ_n w_n(k) x_n² / N_k - μ_k²) + floor.

    f (M, B, 2d), w (M, K, B) -> N (M, K), μ and σ² (M, K, d). Source: Eq. 2-4.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, posterior: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
        count = posterior.sum(-1).add_(LEAST_COUNT)  # (M, K)
        moments = torch.bmm(posterior, f).div_(count.unsqueeze(-1))  # (M, K, 2d)
        first, second = moments.chunk(2, dim=-1)
        means = first.clone()
        spread = torch.addcmul(second, means, means, value=-1)  # (M, K, d)
        ctx.save_for_backward(f, posterior, count, moments, spread)
        return count, means, spread.clamp(min=0.0).add_(floor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_count: Tensor, of_means: Tensor, of_variances: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        f, posterior, count, moments, spread = ctx.saved_tensors
        width = spread.shape[-1]
        of_moments = torch.empty_like(moments)  # (M, K, 2d)
        of_second = torch.mul(of_variances, spread >= 0, out=of_moments[..., width:])
        torch.addcmul(of_means, moments[..., :width], of_second, value=-2, out=of_moments[..., :width])
        of_moments.div_(count.unsqueeze(-1))
        of_count = of_count.unsqueeze(-1) - (of_moments * moments).sum(-1, keepdim=True)  # (M, K, 1)
        of_f = torch.bmm(posterior.mT, of_moments) if ctx.needs_input_grad[0] else None
        return of_f, torch.baddbmm(of_count, of_moments, f.mT) if ctx.needs_input_grad[1] else None, None
