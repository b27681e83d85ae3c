"""Distances between the distributions of common features: three moments (Eq. 10, B.6) and the maximum mean discrepancy (Eq. 11-12)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-6  # ε of B.6
LEAST_VARIANCE = 1e-8  # least σ² that the median rule gives, where all samples are equal


def moment_distance(z: Tensor, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    """1/(M(M-1)) Σ_{i<j} (‖μ_i-μ_j‖² + ‖Σ_i-Σ_j‖²_F + ‖Γ_i-Γ_j‖²) of z (M, N, d) -> scalar.

    μ mean, Σ = 1/N Σ_n (z_n-μ)(z_n-μ)ᵀ, Γ = 1/N Σ_n ((z_n-μ)/(√diag Σ + ε))³. `mean` averages each squared norm over its entries.
    Source: Eq. 10, B.6.
    """
    modalities, samples, _ = z.shape
    mean = z.mean(1)  # (M, d)
    centred = z - mean.unsqueeze(1)
    covariance = centred.mT @ centred / samples  # (M, d, d)
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-24).sqrt()  # (M, d); the root of 0 has no gradient
    standard = centred / (deviation.unsqueeze(1) + EPSILON)
    skewness = (standard * standard.square()).mean(1)  # (M, d)
    parts = _pairwise(torch.cat([mean, covariance.flatten(1), skewness], dim=1)).split([mean.shape[1], covariance[0].numel(), mean.shape[1]])
    total = torch.stack([part.sum() if reduction == "sum" else part.mean() for part in parts]).sum()
    return total / (modalities * (modalities - 1))


def _pairwise(a: Tensor) -> Tensor:
    """Σ_{i<j} (a_i - a_j)² = M Σ_i (a_i - ā)², entry by entry: (M, ...) -> (...)."""
    return a.shape[0] * (a - a.mean(0)).square().sum(0)


def mmd(z: Tensor, bandwidth: float | Literal["median"] = "median", estimator: Literal["biased", "unbiased"] = "biased") -> Tensor:
    """2/(M(M-1)) Σ_{i<j} E k(x, x') + E k(y, y') - 2 E k(x, y) of z (M, N, d) -> scalar, k(x, y) = exp(-‖x-y‖²/(2σ²)).

    `bandwidth` is σ; with "median", σ² of a pair is the median of the squared distances within the two sets together, a constant in the
    backward pass. `biased` keeps k(x, x) in the means, `unbiased` leaves it out and is 0 for a single sample. Source: Eq. 11-12.
    """
    modalities, samples, width = z.shape
    if estimator == "unbiased" and samples < 2:
        return z.sum() * 0.0
    flat = z.reshape(-1, width)
    flat = flat - flat.mean(0)  # keeps the difference of squares below exact where all features are far from the origin
    square = flat.square().sum(-1)
    distance = (square.unsqueeze(1) + square - 2 * flat @ flat.T).clamp(min=0.0)  # (MN, MN)
    distance = distance.masked_fill(torch.eye(len(flat), dtype=torch.bool, device=z.device), 0.0)
    blocks = distance.unflatten(0, (modalities, samples)).unflatten(2, (modalities, samples)).transpose(1, 2)  # (M, M, N, N)
    own = blocks.diagonal().movedim(-1, 0).unsqueeze(1)  # (M, 1, N, N)
    variance = _median(blocks.detach()) if bandwidth == "median" else blocks.new_full((1, 1), bandwidth**2)  # (M, M), or one for all
    rate = (-0.5 / variance)[..., None, None]
    cross = torch.exp(rate * blocks).sum((-2, -1))  # (M, M): Σ k(x, y) of each pair, twice
    same = torch.exp(rate * own).sum((-2, -1)).expand_as(cross)  # Σ k(x, x') of the first, with the bandwidth of the pair
    within = same / samples**2 if estimator == "biased" else (same - samples) / (samples * (samples - 1))
    pair = 1 - torch.eye(modalities, dtype=z.dtype, device=z.device)
    return ((within - cross / samples**2) * pair).sum() * (2 / (modalities * (modalities - 1)))


def _median(blocks: Tensor) -> Tensor:
    """Median of the squared distances between different members of the 2N samples of each pair: (M, M, N, N) -> (M, M)."""
    modalities, samples = blocks.shape[0], blocks.shape[-1]
    below = torch.ones(samples, samples, dtype=torch.bool, device=blocks.device).tril()
    half = blocks.diagonal().movedim(-1, 0).masked_fill(below, torch.inf)  # (M, N, N): every distance once; what is infinite does not count
    shape = (modalities, modalities, samples, samples)
    union = torch.stack([half.unsqueeze(1).expand(shape), half.expand(shape), blocks], dim=2).flatten(2)  # (M, M, 3N²)
    count = samples * (2 * samples - 1)  # of those that are finite
    lower = union.topk(count // 2 + 1, largest=False, sorted=False).values  # (M, M, count // 2 + 1), in a fraction of the time of sorting
    return lower.topk(2 - count % 2).values.mean(-1).clamp(min=LEAST_VARIANCE)
