"""Label similarity and label overlap against the equations, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench_slad.labels import label_overlap, label_similarity

GRID = [-1.0, -0.8, -0.5, -0.1, -0.002, -0.0005, 0.0, 0.0005, 0.002, 0.1, 0.4, 0.401, 0.4005, 0.8, 1.0]
label = st.floats(-2, 2, allow_nan=False) | st.sampled_from(GRID)


def sign(y):
    return (y > 0) - (y < 0)


def similarity(y_t, y_a, alpha=0.5, tolerance=1e-3):
    """Eq. 7-12 for one pair."""
    zero = abs(y_t) <= tolerance or abs(y_a) <= tolerance
    if zero or sign(y_t) != sign(y_a):
        structure = 0.0
    elif abs(y_t - y_a) <= tolerance:
        structure = 1.0
    else:
        structure = 0.1 + 0.8 * min(abs(y_t), abs(y_a)) / (max(abs(y_t), abs(y_a)) + 1e-8)
    return min(max(structure * math.exp(-((y_t - y_a) ** 2) / (2 * alpha**2)), 0.0), 1.0)


def overlap(Y, i, j, how, tolerance=1e-3):
    """W_ij M_ij of Eq. 19-20, with label sets written out."""
    clean = [[0.0 if abs(y) <= tolerance else y for y in row] for row in Y]
    if i == j or not sum(a * b for a, b in zip(clean[i], clean[j], strict=True)) > 0:
        return 0.0
    sets = [{(c, sign(y)): abs(y) for c, y in enumerate(row) if y} for row in (clean[i], clean[j])]
    common = set(sets[0]) & set(sets[1])
    if how == "sign":
        size, shared = len(sets[0]), len(common)
    else:
        size, shared = sum(sets[0].values()), sum(min(sets[0][entry], sets[1][entry]) for entry in common)
    return shared / (size + 1e-8) * 1 / (1 + size - shared)


@pytest.mark.parametrize(
    ("y_t", "y_a", "expected"),
    [
        (0.5, -0.5, 0.0),  # relation 1: opposite signs
        (0.0, 0.5, 0.0),  # relation 1: a zero
        (0.0, 0.0, 0.0),  # relation 1 before relation 2
        (0.5, 0.5, 1.0),  # relation 2
        (-1.0, -1.0, 1.0),
        (0.5, 0.25, 0.5 * math.exp(-0.125)),  # relation 3: 0.1 + 0.8/2, difference 0.25, alpha 0.5
        (-0.25, -0.5, 0.5 * math.exp(-0.125)),
        (0.2, 1.0, (0.1 + 0.16) * math.exp(-1.28)),
    ],
)
def test_truth_table(y_t, y_a, expected):
    value = label_similarity(torch.tensor([y_t], dtype=torch.float64), torch.tensor([y_a], dtype=torch.float64))
    assert value.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.15])
def test_grid_of_pairs(alpha, tolerance):
    y = torch.tensor(GRID, dtype=torch.float64)
    value = label_similarity(y[:, None].expand(-1, len(y)), y.expand(len(y), -1), alpha, tolerance)
    expected = [[similarity(a, b, alpha, tolerance) for b in GRID] for a in GRID]
    np.testing.assert_allclose(value.numpy(), expected, atol=1e-12)


@given(st.lists(st.tuples(label, label), min_size=1, max_size=20), st.floats(0.05, 3), st.sampled_from([0.0, 1e-3, 0.1]))
@settings(max_examples=60, deadline=None)
def test_similarity_of_any_labels(pairs, alpha, tolerance):
    first, second = torch.tensor(pairs, dtype=torch.float64).T
    value = label_similarity(first, second, alpha, tolerance)
    assert ((value >= 0) & (value <= 1)).all()
    np.testing.assert_allclose(value.numpy(), [similarity(a, b, alpha, tolerance) for a, b in pairs], atol=1e-12)
    assert torch.equal(value, label_similarity(second, first, alpha, tolerance))
    assert torch.equal(value, label_similarity(-first, -second, alpha, tolerance))


def test_neither_lets_a_gradient_through():
    y = torch.tensor([[0.5, 0.3], [0.2, 0.6]], requires_grad=True)
    assert not label_similarity(y[0], y[1]).requires_grad
    assert not label_overlap(y).requires_grad


def test_overlap_of_sets_of_two():
    """W of one of two, two of two, one of one, none, and M of a dot product that one large opposite entry decides."""
    Y = torch.tensor([[0.5, 0.5], [0.2, 0.9], [0.3, 0.0], [-0.5, -0.1], [0.9, -0.1]], dtype=torch.float64)
    W = label_overlap(Y)
    assert W[0, 1].item() == pytest.approx(1)
    assert W[0, 2].item() == pytest.approx(0.25)
    assert W[2, 0].item() == pytest.approx(1)
    assert W[0, 3].item() == 0
    assert W[0, 4].item() == pytest.approx(0.25)
    assert W[1, 4].item() == pytest.approx(0.25)  # 0.18 - 0.09 > 0
    assert label_overlap(torch.tensor([[0.2, 0.9], [0.3, -0.1]]))[0, 1] == 0  # 0.06 - 0.09 < 0, although one sign agrees


@pytest.mark.parametrize("how", ["sign", "magnitude"])
@given(rows=st.lists(st.lists(label, min_size=3, max_size=3), min_size=1, max_size=7), columns=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_overlap_of_any_labels(how, rows, columns):
    Y = [row[:columns] for row in rows]
    value = label_overlap(torch.tensor(Y, dtype=torch.float64), how)
    expected = [[overlap(Y, i, j, how) for j in range(len(Y))] for i in range(len(Y))]
    np.testing.assert_allclose(value.numpy(), expected, atol=1e-12)
