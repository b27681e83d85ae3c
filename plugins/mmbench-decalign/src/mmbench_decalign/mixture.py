"""Gaussian mixtures of all modalities at once, fitted by a fixed number of EM steps that carry gradients (Eq. 2-4).

Squared distances and variances are differences of second moments, products of matrices instead of (M, B, K, d) tensors: call in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmbench_decalign.diagonal import LEAST_COUNT, Expectation, Maximisation, features

Covariance = Literal["diagonal", "full"]


@dataclass(frozen=True)
class Mixture:
    """Prototypes of M modalities (Eq. 2): K Gaussians each, with π (M, K), μ (M, K, d) and Σ, (M, K, d) if diagonal or (M, K, d, d)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def detach(self) -> Mixture:
        """The same numbers without gradients."""
        return Mixture(self.weights.detach(), self.means.detach(), self.covariances.detach())

    def posterior(self, x: Tensor) -> Tensor:
        """w_m^n(k) = π_k N(x_n; μ_k, Σ_k) / Σ_j π_j N(x_n; μ_j, Σ_j), in the log domain: x (M, B, d) -> (M, B, K). Source: Eq. 3-4."""
        if self.covariances.dim() == 3:
            posterior: Tensor = Expectation.apply(features(x), self.weights, self.means, self.covariances)
            return posterior.mT
        deviation = x.unsqueeze(1) - self.means.unsqueeze(2)  # (M, K, B, d)
        factor = torch.linalg.cholesky_ex(self.covariances).L  # (M, K, d, d); the _ex form does not wait for the device
        whitened = torch.linalg.solve_triangular(factor, deviation.mT, upper=False)  # (M, K, d, B)
        distance = whitened.square().sum(2).mT  # (M, B, K)
        log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_density = -0.5 * (distance + log_determinant.unsqueeze(1) + x.shape[-1] * math.log(2 * math.pi))
        return (log_density + self.weights.log().unsqueeze(1)).softmax(-1)


def initial_mixture(x: Tensor, num_prototypes: int, covariance: Covariance, floor: float) -> Mixture:
    """Where EM starts: π = 1/K, means at evenly spaced samples of the batch (the same for every modality), the batch's variances.

    x (M, B, d). A batch smaller than K reuses samples.
    """
    modalities, samples, _ = x.shape
    place = torch.arange(num_prototypes, device=x.device) * (samples - 1) // max(num_prototypes - 1, 1)  # (K,)
    chosen = (place.unsqueeze(1) == torch.arange(samples, device=x.device)).to(x.dtype)  # (K, B): a product has a deterministic gradient
    variance = x.var(1, correction=0) + floor  # (M, d)
    start = variance if covariance == "diagonal" else torch.diag_embed(variance)
    return Mixture(
        weights=x.new_full((modalities, num_prototypes), 1.0 / num_prototypes),
        means=chosen @ x,
        covariances=start.unsqueeze(1).expand(-1, num_prototypes, *start.shape[1:]),
    )


def maximise(x: Tensor, posterior: Tensor, covariance: Covariance, floor: float, shrinkage: float) -> Mixture:
    """M-step: π_k = N_k/N, μ_k = Σ_n w_n(k) x_n / N_k, Σ_k = Σ_n w_n(k) (x_n-μ_k)(x_n-μ_k)ᵀ / N_k + floor·I, N_k = Σ_n w_n(k).

    A full covariance is then shrunk towards its own diagonal, Σ ← (1-s) Σ + s diag(Σ), since a batch has fewer samples per component
    than features. x (M, B, d), posterior (M, B, K).
    """
    if covariance == "diagonal":
        count, means, variances = Maximisation.apply(features(x), posterior.mT, floor)
        return Mixture(count / count.sum(-1, keepdim=True), means, variances)
    count = posterior.sum(1) + LEAST_COUNT  # (M, K)
    share = posterior.mT / count.unsqueeze(-1)  # (M, K, B)
    means = share @ x  # (M, K, d)
    second = torch.einsum("mkb,mbd,mbe->mkde", share, x, x)  # (M, K, d, d)
    scatter = second - means.unsqueeze(-1) * means.unsqueeze(-2)
    diagonal = torch.diag_embed(scatter.diagonal(dim1=-2, dim2=-1))
    covariances = (1 - shrinkage) * scatter + shrinkage * diagonal + floor * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return Mixture(count / count.sum(-1, keepdim=True), means, covariances)


def fit_mixture(
    x: Tensor,
    start: Mixture,
    steps: int,
    floor: float,
    shrinkage: float = 0.0,
    gradient: Literal["unrolled", "last"] = "unrolled",
) -> Mixture:
    """`steps` EM steps from `start` on x (M, B, d). With `gradient="last"` the posteriors are constants in the backward pass."""
    if not steps:
        return start
    if start.covariances.dim() == 3:
        moments = features(x)
        count, means, variances = start.weights, start.means, start.covariances
        for _ in range(steps):
            posterior = Expectation.apply(moments, count, means, variances)
            count, means, variances = Maximisation.apply(moments, posterior.detach() if gradient == "last" else posterior, floor)
        return Mixture(count / count.sum(-1, keepdim=True), means, variances)
    mixture = start
    for _ in range(steps):
        posterior = mixture.posterior(x)
        mixture = maximise(x, posterior.detach() if gradient == "last" else posterior, "full", floor, shrinkage)
    return mixture


def merge(old: Mixture, new: Mixture, momentum: Tensor) -> Mixture:
    """Moments of the two mixtures taken together, component by component, `old` with weight `momentum`: a component without samples keeps its own.

    π = m π_old + (1-m) π_new, μ = (a μ_old + b μ_new)/π with a = m π_old, b = (1-m) π_new,
    Σ = (a (Σ_old + δ_old δ_oldᵀ) + b (Σ_new + δ_new δ_newᵀ))/π with δ = μ_old/new - μ.
    """
    a, b = momentum * old.weights, (1 - momentum) * new.weights  # (M, K)
    weights = a + b
    share_old, share_new = (a / weights).unsqueeze(-1), (b / weights).unsqueeze(-1)  # (M, K, 1)
    means = share_old * old.means + share_new * new.means
    covariances = _around(old, means, share_old) + _around(new, means, share_new)
    return Mixture(weights, means, covariances)


def _around(mixture: Mixture, centre: Tensor, share: Tensor) -> Tensor:
    deviation = mixture.means - centre  # (M, K, d)
    if mixture.covariances.dim() == 3:
        return share * (mixture.covariances + deviation.square())
    return share.unsqueeze(-1) * (mixture.covariances + deviation.unsqueeze(-1) * deviation.unsqueeze(-2))
