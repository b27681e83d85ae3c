"""Distances between the distributions of common features: three moments (Eq. 10, B.6) and the maximum mean discrepancy (Eq. 11-12)."""

from __future__ import annotations

from itertools import combinations
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
    reduce = torch.sum if reduction == "sum" else torch.mean
    total = torch.stack([reduce(_pairwise(moment)) for moment in (mean, covariance, skewness)]).sum()
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
    blocks = distance.unflatten(0, (modalities, samples)).unflatten(2, (modalities, samples))  # (M, N, M, N)
    pairs = list(combinations(range(modalities), 2))
    union = torch.stack([torch.stack([blocks[i, :, i], blocks[j, :, j], blocks[i, :, j]]) for i, j in pairs])  # (P, 3, N, N): xx, yy, xy
    variance = _median(union.detach()) if bandwidth == "median" else torch.full_like(union[:, 0, 0, 0], bandwidth**2)  # (P,)
    kernel = torch.exp(-union / (2 * variance[:, None, None, None]))
    total = kernel.sum((-2, -1))  # (P, 3)
    xy = total[:, 2] / samples**2
    if estimator == "biased":
        same = (total[:, 0] + total[:, 1]) / samples**2
    else:
        same = (total[:, 0] + total[:, 1] - 2 * samples) / (samples * (samples - 1))
    return (same - 2 * xy).mean()


def _median(union: Tensor) -> Tensor:
    """Median of the squared distances between different members of the 2N samples: (P, 3, N, N) -> (P,)."""
    samples = union.shape[-1]
    diagonal = torch.eye(samples, dtype=torch.bool, device=union.device)
    inside = union[:, :2].masked_fill(diagonal, torch.inf)  # (P, 2, N, N): every distance twice, and 2N that must not count
    every = torch.cat([inside, union[:, 2:], union[:, 2:]], dim=1).flatten(1).sort(-1).values  # (P, 4N²)
    middle = samples * (2 * samples - 1)  # half of what counts
    return every[:, middle - 1 : middle + 1].mean(-1).clamp(min=LEAST_VARIANCE)
