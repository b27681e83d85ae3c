"""Optimal transport between the prototypes of any number of modalities (Eq. 5-8)."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from mmbench_decalign.mixture import Mixture

LARGEST_PLAN = 2 * 2**30  # bytes that the plan and all that comes with it may take
COPIES = 10  # tensors of the size of the plan at one time: cost, plan, those of a sweep and of the rounding, gradients
CHECK_EVERY = 5  # sweeps between two looks at the marginals; the same on every device, so that all stop at the same sweep


def gaussian_cost(mixture: Mixture, reduction: Literal["mean", "sum"] = "sum") -> Tensor:
    """C_ij(k, l) = ‖μ_i^k - μ_j^l‖² + Tr(Σ_i^k + Σ_j^l - 2 (Σ_i^k Σ_j^l)^½) for the pairs i < j: (P, K, K), P = M(M-1)/2.

    The squared 2-Wasserstein distance between Gaussians. With diagonal covariances the trace is Σ_f (σ_i - σ_j)². `mean` divides by d. Source: Eq. 6.
    """
    diagonal = mixture.covariances.dim() == 3
    centres = torch.cat([mixture.means, mixture.covariances.sqrt()], dim=-1) if diagonal else mixture.means  # (M, K, d or 2d)
    left, right = _pairs(centres)
    cost = (left - right).square().sum(-1)  # (P, K, K)
    if not diagonal:
        cost = cost + bures(*_pairs(mixture.covariances))
    return cost / mixture.means.shape[-1] if reduction == "mean" else cost


def _pairs(parts: Tensor) -> tuple[Tensor, Tensor]:
    """The two members of each pair i < j: (M, K, ...) -> (P, K, 1, ...), (P, 1, K, ...)."""
    first, second = zip(*combinations(parts.unbind(), 2), strict=True)
    return torch.stack(first).unsqueeze(2), torch.stack(second).unsqueeze(1)


def bures(a: Tensor, b: Tensor) -> Tensor:
    """Tr(A + B - 2 (A^½ B A^½)^½) of positive definite matrices (..., d, d) that broadcast -> (...).

    f = Tr((A^½ B A^½)^½) has the gradients G_A = ½ A^{-½} S A^{-½} and G_B = ½ A^½ S^{-1} A^½ with S = (A^½ B A^½)^½, and f = ⟨G_A, A⟩ + ⟨G_B, B⟩.
    With G constant in the backward pass both the value and its gradient are exact, and equal eigenvalues do no harm.
    """
    with torch.no_grad():
        values, vectors = torch.linalg.eigh(a.double())
        root_values = values.clamp(min=torch.finfo(a.dtype).tiny).sqrt()
        root = (vectors * root_values.unsqueeze(-2)) @ vectors.mT
        inverse_root = (vectors / root_values.unsqueeze(-2)) @ vectors.mT
        values, vectors = torch.linalg.eigh(root @ b.double() @ root)  # S² = U diag(values) Uᵀ
        middle = values.clamp(min=torch.finfo(a.dtype).tiny).sqrt()
        s = (vectors * middle.unsqueeze(-2)) @ vectors.mT
        inverse_s = (vectors / middle.unsqueeze(-2)) @ vectors.mT
        identity = torch.eye(a.shape[-1], dtype=torch.float64, device=a.device)
        weight_a = (identity - inverse_root @ s @ inverse_root).to(a.dtype)  # I - 2 G_A
        weight_b = (identity - root @ inverse_s @ root).to(a.dtype)  # I - 2 G_B
    return (weight_a * a).sum((-2, -1)) + (weight_b * b).sum((-2, -1))


def joint_cost(pair_costs: Tensor, modalities: int) -> Tensor:
    """C(k_1..k_M) = Σ_{i<j} C_ij(k_i, k_j): (P, K, K) -> (K, ..., K) with M axes.

    The i = j terms of the printed sum are left out: they compare a prototype with itself and vanish. Source: Eq. 5.
    """
    size = pair_costs.shape[-1]
    total = pair_costs.new_zeros((1,) * modalities)
    for cost, (i, j) in zip(pair_costs, combinations(range(modalities), 2), strict=True):
        total = total + cost.reshape([size if axis in (i, j) else 1 for axis in range(modalities)])
    return total


def plan_bytes(prototypes: int, modalities: int, unrolled: int = 0) -> int:
    """Memory of a plan and its gradient: 8 K^M (10 + M·sweeps) bytes; `unrolled` sweeps keep a tensor for each marginal, others none."""
    return torch.float64.itemsize * prototypes**modalities * (COPIES + modalities * unrolled)


def refuse_too_large(prototypes: int, modalities: int, unrolled: int = 0) -> None:
    """Raises ValueError where `plan_bytes` is above `LARGEST_PLAN`.

    Work and memory of a sweep grow as K^M: with three modalities K = 64 is slow and K = 250 the most, with five K = 30, and K = 7 ends at M = 8
    (envelope gradient).
    """
    size = plan_bytes(prototypes, modalities, unrolled)
    if size > LARGEST_PLAN:
        instead = "lower num_prototypes, use fewer modalities" + (", take `gradient: envelope` or lower iterations" if unrolled else "")
        raise ValueError(
            f"prototype_transport: with K = {prototypes} prototypes and M = {modalities} modalities a plan has K^M = {prototypes**modalities} "
            f"entries and needs {size / 2**30:.1f} GiB with its gradient, of which {LARGEST_PLAN / 2**30:.0f} GiB are allowed: {instead}"
        )


def multi_marginal_plan(cost: Tensor, marginals: Ordered[Tensor], epsilon: Tensor | float, iterations: int = 50, tolerance: float = 1e-4) -> Tensor:
    """T* = argmin_T ⟨T, C⟩ + ε Σ T log T with the marginals ν_1..ν_M, by Sinkhorn in the log domain: float64 (K_1, ..., K_M).

    A sweep scales T to each marginal in turn, at most `iterations` times, until the largest marginal error is below `tolerance`. On a GPU the
    sweeps go on and the plan is frozen instead, so that nothing waits for the device. The plan is then moved onto the marginals exactly
    (`round_to_marginals`, which is not part of the gradient). cost (K_1, ..., K_M) with M >= 2 axes; marginals M x (K_m,), rescaled to sum
    to one. Source: Eq. 7-8; Cuturi 2013.
    """
    axes = len(marginals)
    nu = [m.double() / m.double().sum() for m in marginals]
    log_nu = [m.clamp(min=torch.finfo(torch.float64).tiny).log().unsqueeze(1) for m in nu]  # (K_m, 1) each
    log_plan = (-cost.double() / epsilon).flatten(1)  # (K_1, K_2···K_M)
    frozen = None
    for sweep in range(iterations):
        if sweep and sweep % CHECK_EVERY == 0:
            plan = log_plan.exp().reshape(cost.shape)
            frozen = torch.cat([_marginal(plan, m) - nu[m] for m in range(axes)]).abs().max() < tolerance
            if _readable(frozen) and frozen:
                break
        swept = _sweep(log_plan, log_nu)
        log_plan = swept if frozen is None else torch.where(frozen, log_plan, swept)
    plan = log_plan.exp().reshape(cost.shape)
    with torch.no_grad():
        rounded = round_to_marginals(plan, nu)
    return plan + (rounded - plan).detach() if plan.requires_grad else rounded


def _readable(flag: Tensor) -> bool:
    """Whether Python can look at the value without waiting for a device."""
    return flag.device.type == "cpu"


def _sweep(log_plan: Tensor, log_nu: Ordered[Tensor]) -> Tensor:
    """Scale to each marginal in turn: (K_1, Π other K) -> the same. The axis in front is scaled and goes to the back, M times."""
    for target, following in zip(log_nu, (*log_nu[1:], log_nu[0]), strict=True):
        scaled = log_plan.log_softmax(-1) + target  # (K_m, Π other K)
        log_plan = scaled.t().reshape(len(following), -1)
    return log_plan


def _marginal(plan: Tensor, axis: int) -> Tensor:
    return plan.movedim(axis, 0).flatten(1).sum(1)  # (K_m,)


def round_to_marginals(plan: Tensor, marginals: Ordered[Tensor]) -> Tensor:
    """The plan moved onto the marginals: rows that carry too much are scaled down, what is missing is spread as a product.

    Eq. 8 then holds whether or not the sweeps have converged. Source: Altschuler et al. 2017, Algorithm 2; Lin et al. 2022 for M marginals.
    """
    axes = len(marginals)
    tiny = torch.finfo(plan.dtype).tiny
    along = [[-1 if axis == m else 1 for axis in range(axes)] for m in range(axes)]
    for m, marginal in enumerate(marginals):
        plan = plan * (marginal / _marginal(plan, m).clamp(min=tiny)).clamp(max=1.0).reshape(along[m])
    missing = [(marginal - _marginal(plan, m)).clamp(min=0.0) for m, marginal in enumerate(marginals)]
    rest = missing[0].reshape(along[0])
    for m in range(1, axes):
        rest = rest * (missing[m] / missing[m].sum().clamp(min=tiny)).reshape(along[m])
    return plan + rest


def mutual_information(plan: Tensor, marginals: Ordered[Tensor]) -> Tensor:
    """KL(T ‖ ν_1 ⊗ ... ⊗ ν_M) in nats: 0 for a plan that aligns nothing. The plan has these marginals exactly."""
    return torch.special.xlogy(plan, plan).sum() - torch.stack([torch.special.xlogy(m.double(), m.double()).sum() for m in marginals]).sum()
