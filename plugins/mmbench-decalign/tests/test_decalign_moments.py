"""Moments, MMD and the supervised contrastive loss against the equations written out in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench_decalign.moments import mmd, moment_distance


def _features(modalities=3, samples=7, width=4, seed=0):
    generator = np.random.default_rng(seed)
    return generator.gamma(2.0, size=(modalities, samples, width)) + np.arange(modalities)[:, None, None]


def _moments(z, mean_of_entries=False):
    total, size = 0.0, z.shape[0]
    reduce = np.mean if mean_of_entries else np.sum
    statistics = []
    for f in z:
        mu = f.mean(0)
        sigma = sum(np.outer(row - mu, row - mu) for row in f) / len(f)
        gamma = np.mean([((row - mu) / (np.sqrt(np.diag(sigma)) + 1e-6)) ** 3 for row in f], axis=0)
        statistics.append((mu, sigma, gamma))
    for i, j in itertools.combinations(range(size), 2):
        total += sum(reduce((a - b) ** 2) for a, b in zip(statistics[i], statistics[j], strict=True))
    return total / (size * (size - 1))


def _mmd(z, sigma=None, unbiased=False):
    total, size = 0.0, z.shape[0]
    for i, j in itertools.combinations(range(size), 2):
        both = np.concatenate([z[i], z[j]])
        variance = sigma**2 if sigma else np.median([np.sum((a - b) ** 2) for a, b in itertools.combinations(both, 2)])

        def kernel(a, b, variance=variance):
            return np.exp(-np.sum((a - b) ** 2) / (2 * variance))

        def within(f, kernel=kernel):
            values = [kernel(a, b) for (p, a), (q, b) in itertools.product(enumerate(f), repeat=2) if p != q or not unbiased]
            return np.mean(values)

        total += within(z[i]) + within(z[j]) - 2 * np.mean([kernel(a, b) for a, b in itertools.product(z[i], z[j])])
    return 2 * total / (size * (size - 1))


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_moments_equal_the_equations(modalities, reduction):
    z = _features(modalities)
    assert moment_distance(torch.tensor(z), reduction).item() == pytest.approx(_moments(z, reduction == "mean"), rel=1e-9)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("samples", [1, 2, 6, 7])
@pytest.mark.parametrize("sigma", [None, 0.7])
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_mmd_equals_the_equations(modalities, samples, sigma, estimator):
    z = _features(modalities, samples)
    expected = 0.0 if samples == 1 and estimator == "unbiased" else _mmd(z, sigma, estimator == "unbiased")
    assert mmd(torch.tensor(z), sigma or "median", estimator).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_single_precision_far_from_the_origin():
    z = _features() + 1000.0
    assert mmd(torch.tensor(z, dtype=torch.float32)).item() == pytest.approx(_mmd(z), rel=1e-2)


def test_gradients_are_exact():
    z = torch.tensor(_features(2, 4, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: (moment_distance(z), mmd(z, 0.8), mmd(z, 0.8, "unbiased")), z)


@pytest.mark.parametrize("z", [torch.zeros(3, 5, 4), torch.ones(2, 1, 4), torch.full((3, 5, 4), 1e3), torch.randn(2, 6, 3).relu() * 1e-20])
def test_collapsed_features_have_finite_gradients(z):
    z.requires_grad_()
    (moment_distance(z) + mmd(z) + mmd(z, estimator="unbiased")).backward()
    assert z.grad.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(modalities=st.integers(2, 4), samples=st.integers(2, 6), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_invariances(modalities, samples, width, seed):
    """Equal distributions are at distance zero; order of samples and of modalities does not matter; neither distance is negative."""
    z = torch.tensor(_features(modalities, samples, width, seed))
    generator = torch.Generator().manual_seed(seed)
    other = z[torch.randperm(modalities, generator=generator)][:, torch.randperm(samples, generator=generator)]
    for distance in (moment_distance, mmd):
        assert distance(z).item() >= -1e-12
        torch.testing.assert_close(distance(other), distance(z))
        assert distance(z[:1].expand(modalities, -1, -1)).item() == pytest.approx(0.0, abs=1e-12)
