"""The shared networks of single modalities: batch normalisation against torch's, vectors against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench_baselines.subnets import BatchNorm, Subnets


@given(real=st.lists(st.booleans(), min_size=2, max_size=7), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_batch_normalisation_is_that_of_the_real_samples(real, seed):
    torch.manual_seed(seed)
    ours, theirs = BatchNorm(3).double(), torch.nn.BatchNorm1d(3).double()
    for norm in (ours, theirs):
        norm.running_mean.fill_(0.3)
        norm.running_var.fill_(2.0)
    torch.nn.init.normal_(ours.weight)
    torch.nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x, chosen = torch.randn(len(real), 3, dtype=torch.float64), torch.tensor(real)
    for _ in range(2):  # in training, then in evaluation
        output = ours(x, chosen.unsqueeze(1))
        theirs.train(ours.training and sum(real) > 1)
        if any(real):
            torch.testing.assert_close(output[chosen], theirs(x[chosen]))
        torch.testing.assert_close(output[~chosen], ours.bias.expand(len(real) - sum(real), -1))
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)
        ours.eval()


def test_a_training_batch_of_one_is_normalised_by_the_running_statistics():
    norm = BatchNorm(2)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    output = norm(torch.tensor([[3.0, 1.0]]), torch.tensor([[True]]))
    torch.testing.assert_close(output, torch.tensor([[1.0, 0.0]]), atol=1e-4, rtol=0)
    assert norm.running_mean.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "physio")])
def test_vectors(modalities, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities)
    subnets = Subnets(inputs, {"text": 4, "audio": 3, "vision": 5, "physio": 2}, 6, 0.5).double()
    batch = make_batch(inputs, 5, dtype=torch.float64)
    batch.inputs["audio"].mask[3] = False
    subnets(batch.inputs)  # moves the running statistics
    subnets.eval()
    vectors = subnets(batch.inputs)
    for i in range(5):
        for m, expected in reference.subnets(subnets, batch.inputs, i).items():
            np.testing.assert_allclose(vectors[m].values[i, 0].detach().numpy(), expected, atol=1e-12)
            assert vectors[m].mask[i].item() == bool(batch.inputs[m].mask[i].any())
