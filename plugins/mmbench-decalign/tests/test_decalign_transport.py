"""Cost and plan against POT, scipy and a linear program."""

from __future__ import annotations

import itertools

import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench_decalign.mixture import Mixture
from mmbench_decalign.transport import (
    LARGEST_PLAN,
    bures,
    gaussian_cost,
    joint_cost,
    multi_marginal_plan,
    mutual_information,
    plan_bytes,
    refuse_too_large,
)


def _positive_definite(*shape, d=4, seed=0):
    factor = torch.randn(*shape, d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return factor @ factor.mT + 0.05 * torch.eye(d, dtype=torch.float64)


def _marginals(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(size, dtype=torch.float64, generator=generator).add(0.1).softmax(0) for size in sizes]


def _mixture(covariances, seed=1):
    means = torch.randn(covariances.shape[:3], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Mixture(torch.full(covariances.shape[:2], 0.5, dtype=torch.float64), means, covariances)


def test_full_cost_equals_pot_and_scipy():
    mixture = _mixture(_positive_definite(3, 2))
    cost = gaussian_cost(mixture)
    for p, (i, j) in enumerate(itertools.combinations(range(3), 2)):
        for k, other in itertools.product(range(2), repeat=2):
            mean_i, mean_j = mixture.means[i, k].numpy(), mixture.means[j, other].numpy()
            cov_i, cov_j = mixture.covariances[i, k].numpy(), mixture.covariances[j, other].numpy()
            trace = np.trace(cov_i + cov_j - 2 * np.real(scipy.linalg.sqrtm(cov_i @ cov_j)))  # as Eq. 6 prints it
            expected = np.sum((mean_i - mean_j) ** 2) + trace
            np.testing.assert_allclose(cost[p, k, other].item(), expected, rtol=1e-7)
            np.testing.assert_allclose(cost[p, k, other].item(), ot.gaussian.bures_wasserstein_distance(mean_i, mean_j, cov_i, cov_j) ** 2, rtol=1e-6)


def test_diagonal_cost_equals_pot():
    variances = torch.rand(2, 3, 4, dtype=torch.float64) + 0.1
    mixture = _mixture(variances)
    cost = gaussian_cost(mixture)
    for k, other in itertools.product(range(3), repeat=2):
        expected = ot.gaussian.bures_wasserstein_distance(
            mixture.means[0, k].numpy(), mixture.means[1, other].numpy(), np.diag(variances[0, k].numpy()), np.diag(variances[1, other].numpy())
        )
        np.testing.assert_allclose(cost[0, k, other].item(), expected**2, rtol=1e-7)
    torch.testing.assert_close(gaussian_cost(mixture, "mean") * 4, cost)


def test_bures_gradient_is_exact():
    a, b = _positive_definite(2, d=3).requires_grad_(), _positive_definite(2, d=3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: bures((a + a.mT) / 2, (b + b.mT) / 2), (a, b))


def test_bures_of_equal_eigenvalues_has_a_finite_gradient():
    a, b = torch.eye(5).requires_grad_(), (4 * torch.eye(5)).requires_grad_()
    value = bures(a, b)
    value.backward()
    assert value.item() == pytest.approx(5.0, abs=1e-5)  # 5 (1 - 2)²
    torch.testing.assert_close(a.grad, -torch.eye(5))  # d/da (a + 4 - 4 √a) at a = 1
    torch.testing.assert_close(b.grad, 0.5 * torch.eye(5))


def test_joint_cost_sums_the_pairs():
    pairs = torch.rand(6, 2, 2)
    joint = joint_cost(pairs, 4)
    for index in itertools.product(range(2), repeat=4):
        expected = sum(pairs[p, index[i], index[j]].item() for p, (i, j) in enumerate(itertools.combinations(range(4), 2)))
        assert joint[index].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 5.0])
def test_plan_of_two_modalities_equals_pot(epsilon):
    cost = torch.rand(5, 7, dtype=torch.float64)
    nu = _marginals(5, 7)
    plan = multi_marginal_plan(cost, nu, epsilon, iterations=3000, tolerance=1e-12)
    expected = ot.sinkhorn(nu[0].numpy(), nu[1].numpy(), cost.numpy(), epsilon, method="sinkhorn_log", numItermax=20000, stopThr=1e-13)
    np.testing.assert_allclose(plan, expected, atol=1e-9)


def test_plan_of_three_modalities_tends_to_the_linear_program():
    cost, nu = torch.rand(3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)), _marginals(3, 3, 3)
    rows, right = [], []
    for m in range(3):
        for k in range(3):
            indicator = np.zeros((3, 3, 3))
            indicator[tuple(k if axis == m else slice(None) for axis in range(3))] = 1
            rows.append(indicator.ravel())
            right.append(nu[m][k].item())
    best = scipy.optimize.linprog(cost.numpy().ravel(), A_eq=np.array(rows), b_eq=np.array(right), bounds=(0, None)).fun
    plan = multi_marginal_plan(cost, nu, 1e-3, iterations=3000, tolerance=1e-10)
    assert (plan * cost).sum().item() == pytest.approx(best, abs=5e-3)
    assert (plan * cost).sum().item() >= best - 1e-9


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e6])
def test_marginals_hold_whatever_the_cost(modalities, scale):
    cost = scale * torch.rand((4,) * modalities, dtype=torch.float64)
    nu = _marginals(*(4,) * modalities)
    plan = multi_marginal_plan(cost, nu, 0.1)
    assert plan.isfinite().all()
    assert (plan >= 0).all()
    for m in range(modalities):
        torch.testing.assert_close(plan.sum([axis for axis in range(modalities) if axis != m]), nu[m], atol=1e-10, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    modalities=st.integers(2, 4),
    size=st.integers(1, 4),
    exponent=st.floats(-6, 6),
    seed=st.integers(0, 99),
    empty=st.booleans(),
    single=st.booleans(),
)
def test_plan_is_a_coupling(modalities, size, exponent, seed, empty, single):
    cost = 10**exponent * torch.rand((size,) * modalities, generator=torch.Generator().manual_seed(seed))
    nu = _marginals(*(size,) * modalities, seed=seed)
    if empty and size > 1:
        nu[0][0] = 0.0
        nu[0] /= nu[0].sum()
    if single:
        nu = [m.float() for m in nu]
    plan = multi_marginal_plan(cost, nu, 0.1)
    assert plan.isfinite().all()
    assert plan.sum().item() == pytest.approx(1.0, abs=1e-9)
    for m in range(modalities):
        left = plan.sum([axis for axis in range(modalities) if axis != m])
        torch.testing.assert_close(left, nu[m].double() / nu[m].double().sum(), atol=1e-9, rtol=0)
    assert -1e-9 <= mutual_information(plan, [m.double() / m.double().sum() for m in nu]).item() <= modalities * np.log(size) + 1e-9


def test_permuting_prototypes_permutes_the_plan():
    cost, nu = torch.rand(3, 4, 2, dtype=torch.float64), _marginals(3, 4, 2)
    order = torch.tensor([2, 0, 3, 1])
    plan = multi_marginal_plan(cost, nu, 0.1)
    permuted = multi_marginal_plan(cost[:, order], [nu[0], nu[1][order], nu[2]], 0.1)
    torch.testing.assert_close(permuted, plan[:, order])


def test_mutual_information_of_a_product_and_of_a_matching():
    nu = _marginals(3, 4)
    assert mutual_information(nu[0][:, None] * nu[1], nu).item() == pytest.approx(0.0, abs=1e-12)
    assert mutual_information(torch.eye(3, dtype=torch.float64) / 3, [torch.full((3,), 1 / 3)] * 2).item() == pytest.approx(np.log(3))


def _regularised_value(cost, nu, epsilon):
    plan = multi_marginal_plan(cost, nu, epsilon, iterations=5000, tolerance=1e-13)
    return (plan * cost).sum() + epsilon * torch.special.xlogy(plan, plan).sum()


def test_plan_is_the_gradient_of_the_regularised_value():
    """The envelope gradient against finite differences in C, at fixed marginals."""
    cost, nu, epsilon, step = torch.rand(3, 2, 3, dtype=torch.float64), _marginals(3, 2, 3), 0.3, 1e-5
    plan = multi_marginal_plan(cost, nu, epsilon, iterations=5000, tolerance=1e-13)
    for index in itertools.product(range(3), range(2), range(3)):
        moved = torch.zeros_like(cost)
        moved[index] = step
        slope = (_regularised_value(cost + moved, nu, epsilon) - _regularised_value(cost - moved, nu, epsilon)) / (2 * step)
        assert slope.item() == pytest.approx(plan[index].item(), abs=1e-7)


def test_unrolled_plan_has_the_gradient_of_its_value():
    cost, nu = torch.rand(2, 3, dtype=torch.float64, requires_grad=True), _marginals(2, 3)
    assert torch.autograd.gradcheck(lambda c: (multi_marginal_plan(c, nu, 0.5, iterations=60, tolerance=0.0) * c).sum(), cost)


def test_stopping_early_changes_less_than_the_tolerance():
    cost, nu = torch.rand(4, 4, 4, dtype=torch.float64), _marginals(4, 4, 4)
    stopped, full = (multi_marginal_plan(cost, nu, 0.1, iterations=500, tolerance=tolerance) for tolerance in (1e-6, 0.0))
    torch.testing.assert_close(stopped, full, atol=1e-5, rtol=0)


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 1.0])
def test_freezing_equals_stopping(epsilon, monkeypatch):
    """What runs on a GPU, where the sweeps go on without effect, gives the numbers of the early stop."""
    cost, nu = torch.rand(4, 3, 5, dtype=torch.float64), _marginals(4, 3, 5)
    stopped = multi_marginal_plan(cost, nu, epsilon)
    monkeypatch.setattr("mmbench_decalign.transport._readable", lambda flag: False)
    assert torch.equal(multi_marginal_plan(cost, nu, epsilon), stopped)
    monkeypatch.setattr("mmbench_decalign.transport.CHECK_EVERY", 1000)
    assert torch.equal(multi_marginal_plan(cost, nu, epsilon), stopped) == (epsilon == 0.02)  # which needs all the sweeps


@pytest.mark.parametrize(("prototypes", "modalities", "unrolled"), [(64, 3, 0), (250, 3, 0), (7, 3, 50), (7, 8, 0), (30, 5, 0)])
def test_plans_of_the_usual_sizes_are_allowed(prototypes, modalities, unrolled):
    refuse_too_large(prototypes, modalities, unrolled)


def test_a_plan_beyond_memory_is_refused_with_its_size_and_what_to_lower():
    with pytest.raises(
        ValueError, match=r"K = 64 prototypes and M = 5 modalities .* 1073741824 entries and needs 80\.0 GiB .*lower num_prototypes"
    ) as error:
        refuse_too_large(64, 5)
    assert "envelope" not in str(error.value)
    with pytest.raises(ValueError, match=r"gradient: envelope"):
        refuse_too_large(7, 8, unrolled=50)


def test_the_memory_of_a_plan_covers_what_its_gradient_keeps():
    cost, nu, kept = torch.rand(8, 8, 8, dtype=torch.float64, requires_grad=True), _marginals(8, 8, 8), {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        plan = multi_marginal_plan(cost, nu, 0.5, iterations=20, tolerance=0.0)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values() if tensor.numel() == 8**3)
    assert plan.requires_grad
    assert 3 * 20 * 8**3 * 8 <= size <= plan_bytes(8, 3, unrolled=20)
    assert plan_bytes(8, 3, unrolled=20) < LARGEST_PLAN
