"""The mixture against scikit-learn's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from mmbench_decalign.diagonal import Expectation, Maximisation, features
from mmbench_decalign.mixture import Mixture, fit_mixture, initial_mixture, maximise, merge

FLOOR = 1e-3


def _samples(modalities=3, samples=60, width=4, dtype=torch.float64):
    centres = 3 * torch.randn(modalities, 3, width, dtype=dtype)
    return centres[:, torch.arange(samples) % 3] + torch.randn(modalities, samples, width, dtype=dtype)


def _sklearn(x, start, steps, kind):
    precision = 1 / start.covariances if kind == "diag" else torch.linalg.inv(start.covariances)
    results = []
    for m in range(x.shape[0]):
        reference = GaussianMixture(
            n_components=start.means.shape[1],
            covariance_type=kind,
            tol=0.0,
            reg_covar=FLOOR,
            max_iter=steps,
            weights_init=start.weights[m].numpy(),
            means_init=start.means[m].numpy(),
            precisions_init=precision[m].numpy(),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            results.append(reference.fit(x[m].numpy()))
    return results


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("steps", [1, 5])
def test_em_steps_equal_scikit_learns(covariance, steps):
    x = _samples()
    start = initial_mixture(x, 3, covariance, FLOOR)
    mixture = fit_mixture(x, start, steps, FLOOR)
    posterior = mixture.posterior(x)
    for m, reference in enumerate(_sklearn(x, start, steps, "diag" if covariance == "diagonal" else "full")):
        np.testing.assert_allclose(mixture.weights[m], reference.weights_, atol=1e-10)
        np.testing.assert_allclose(mixture.means[m], reference.means_, atol=1e-9)
        np.testing.assert_allclose(mixture.covariances[m], reference.covariances_, atol=1e-9)
        np.testing.assert_allclose(posterior[m], reference.predict_proba(x[m].numpy()), atol=1e-9)


def test_start_is_at_evenly_spaced_samples_of_every_modality():
    x = _samples(samples=9)
    start = initial_mixture(x, 5, "diagonal", FLOOR)
    torch.testing.assert_close(start.means, x[:, [0, 2, 4, 6, 8]])
    torch.testing.assert_close(start.covariances[:, 0], x.var(1, correction=0) + FLOOR)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_fewer_samples_than_components(samples, covariance):
    x = _samples(samples=samples).requires_grad_()
    mixture = fit_mixture(x, initial_mixture(x, 7, covariance, FLOOR), 5, FLOOR, shrinkage=0.1)
    (mixture.means.sum() + mixture.covariances.sum() + mixture.posterior(x).square().sum()).backward()
    assert mixture.means.isfinite().all()
    assert x.grad.isfinite().all()


def test_full_covariance_is_shrunk_towards_its_diagonal():
    x = _samples()
    posterior = torch.rand(3, 60, 2, dtype=torch.float64).softmax(-1)
    plain, shrunk = (maximise(x, posterior, "full", FLOOR, s).covariances for s in (0.0, 0.25))
    expected = 0.75 * plain.numpy() + 0.25 * plain.numpy() * np.eye(4)
    np.testing.assert_allclose(shrunk, expected, atol=1e-12)


def test_gradient_through_the_steps_is_exact():
    x = _samples(2, 6, 2).requires_grad_()

    def value(x):
        mixture = fit_mixture(x, initial_mixture(x, 2, "diagonal", FLOOR), 3, FLOOR)
        return mixture.means, mixture.covariances, mixture.posterior(x)

    assert torch.autograd.gradcheck(value, x)


def test_written_out_derivatives_are_exact():
    x, means = (torch.randn(2, n, 3, dtype=torch.float64, requires_grad=True) for n in (6, 4))
    variances = (torch.rand(2, 4, 3, dtype=torch.float64) + 0.1).requires_grad_()
    weights = (torch.rand(2, 4, dtype=torch.float64) + 0.1).requires_grad_()
    posterior = torch.rand(2, 4, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *state: Expectation.apply(features(x), *state), (x, weights, means, variances))
    assert torch.autograd.gradcheck(lambda x, w: Maximisation.apply(features(x), w, FLOOR), (x, posterior))
    collapsed = torch.stack([torch.zeros(6), torch.ones(6)]).double()  # all of a sample's features alike: the variance is the floor
    x.data[:] = 1.0
    count, mean, variance = Maximisation.apply(features(x), collapsed.expand(2, 2, 6), FLOOR)
    (count.sum() + mean.sum() + variance.sum()).backward()
    assert x.grad.isfinite().all()


def test_posterior_equals_the_densities_of_torch():
    x = _samples().requires_grad_()
    mixture = fit_mixture(x.detach(), initial_mixture(x.detach(), 3, "diagonal", FLOOR), 2, FLOOR)
    normal = torch.distributions.Normal(mixture.means.unsqueeze(1), mixture.covariances.sqrt().unsqueeze(1))
    expected = (normal.log_prob(x.unsqueeze(2)).sum(-1) + mixture.weights.log().unsqueeze(1)).softmax(-1)
    direction = torch.randn_like(expected)
    torch.testing.assert_close(mixture.posterior(x), expected)
    found, wanted = (torch.autograd.grad((w * direction).sum(), x)[0] for w in (mixture.posterior(x), expected))
    torch.testing.assert_close(found, wanted)


def test_gradient_last_holds_the_posteriors_constant():
    x = _samples(2, 8, 2).requires_grad_()
    start = initial_mixture(x, 2, "diagonal", FLOOR).detach()
    mixture = fit_mixture(x, start, 3, FLOOR, gradient="last")
    before = fit_mixture(x, start, 2, FLOOR)
    posterior = before.posterior(x).detach()
    (gradient,) = torch.autograd.grad(mixture.means[0, 1, 0], x)
    expected = torch.zeros_like(x)
    expected[0, :, 0] = posterior[0, :, 1] / posterior[0, :, 1].sum()
    torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_merge_gives_the_moments_of_all_samples_together(covariance):
    """Two batches of equal size merged with weight one half are the M-step on both at once."""
    x = _samples(2, 20, 3)
    posterior = torch.rand(2, 20, 2, dtype=torch.float64).softmax(-1)
    one, two, both = (maximise(x[:, part], posterior[:, part], covariance, 0.0, 0.0) for part in (slice(10), slice(10, 20), slice(20)))
    merged = merge(one, two, torch.tensor(0.5, dtype=torch.float64))
    for name in ("weights", "means", "covariances"):
        torch.testing.assert_close(getattr(merged, name), getattr(both, name), atol=1e-9, rtol=1e-9)


def test_merge_keeps_a_component_without_samples():
    old = Mixture(torch.tensor([[0.5, 0.5]]), torch.tensor([[[1.0], [2.0]]]), torch.ones(1, 2, 1))
    new = Mixture(torch.tensor([[1.0, 1e-12]]), torch.tensor([[[0.0], [99.0]]]), torch.ones(1, 2, 1))
    assert abs(merge(old, new, torch.tensor(0.9)).means[0, 1, 0].item() - 2.0) < 1e-6
