"""TFN against a slow reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mmbench.layers import dropout
from mmbench_baselines.tfn.config import TFNConfig
from mmbench_baselines.tfn.model import TFN, outer_product
from mmbench_baselines.tfn.product import dropped_product

SMALL = TFNConfig(hidden={"text": 4, "audio": 3}, text_width=2, fusion_width=5)


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision", "text")])
@pytest.mark.parametrize(
    ("task", "label_range"), [("regression", (-3.0, 3.0)), ("regression", (-1.0, 1.0)), ("regression", None), ("classification", None)]
)
def test_prediction(modalities, task, label_range, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task, label_range=label_range)
    model = TFN(inputs, SMALL).double().eval()
    batch = make_batch(inputs, 4, dtype=torch.float64)
    batch.inputs["vision"].mask[2] = False
    prediction = model(batch).prediction.detach().numpy()
    for i in range(4):
        vectors = reference.subnets(model.subnets, batch.inputs, i)
        with_one = [np.concatenate([[1.0], vectors[m]]) for m in modalities]
        product = np.array(
            [np.prod([h[k] for h, k in zip(with_one, place, strict=True)]) for place in itertools.product(*(range(len(h)) for h in with_one))]
        )
        output = reference.linear(model.head, reference.layers(model.fusion, product))
        if task == "regression":
            output = output[0]
            if label_range:
                output = label_range[0] + (label_range[1] - label_range[0]) / (1 + np.exp(-output))
        np.testing.assert_allclose(prediction[i], output, atol=1e-12)


def test_outer_product_of_vectors_of_zeros_is_one_then_zeros():
    assert outer_product([torch.zeros(2, 2), torch.zeros(2, 3)]).tolist() == [[1.0] + [0.0] * 11] * 2


def test_predictions_stay_in_the_label_range(make_inputs, make_batch):
    inputs = make_inputs(label_range=(-1.0, 1.0))
    model = TFN(inputs, SMALL)
    torch.nn.init.constant_(model.head.bias, 99.0)
    assert (model(make_batch(inputs)).prediction <= 1.0).all()


def _slow(first, rest, weight, bias, rate):
    """The same by the outer product itself; the generator gives the same masks, place by place of the first vector."""
    keep = dropout(torch.ones(first.shape[1], *rest.shape, dtype=rest.dtype), rate).transpose(0, 1)  # (B, P, R)
    return torch.nn.functional.linear((first.unsqueeze(2) * rest.unsqueeze(1) * keep).flatten(1), weight, bias)


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.3])
@pytest.mark.parametrize("size", [1, 4])
def test_the_layer_without_the_outer_product_has_its_values_and_gradients(rate, size):
    shapes = (size, 3), (size, 5), (6, 15), (6,)
    arguments = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    results = []
    for layer in (_slow, dropped_product):
        torch.manual_seed(1)
        output = layer(*arguments, rate)
        loss = output.sin().sum()
        results.append([output, *torch.autograd.grad(loss, arguments, retain_graph=True), *torch.autograd.grad(loss, arguments)])
    for slow, quick in zip(*results, strict=True):
        torch.testing.assert_close(quick, slow, rtol=1e-12, atol=1e-12)


def test_each_element_of_the_outer_product_is_dropped_on_its_own():
    """With vectors of ones and an identity for a weight, outputs are the masks of single elements."""
    output = dropped_product(torch.ones(2000, 2), torch.ones(2000, 2), torch.eye(4), torch.zeros(4), 0.25)
    kept = output > 0
    torch.testing.assert_close(output[kept], torch.full_like(output[kept], 4 / 3))
    assert abs(kept.float().mean().item() - 0.75) < 0.02
    assert torch.corrcoef(kept.T.float()).sub(torch.eye(4)).abs().max() < 0.1


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision", "text")])
def test_training_without_dropout_is_evaluation(modalities, make_inputs, make_batch):
    """Batch normalisation aside, of which text has none."""
    inputs = make_inputs(modalities)
    model = TFN(inputs, SMALL.model_copy(update={"dropout": 0.0, "fusion_dropout": 0.0})).double()
    batch = make_batch(inputs, 4, dtype=torch.float64)
    batch.inputs["text"].mask[2] = False
    model.subnets.eval()
    gradients = []
    for model.training in (True, False):
        model.zero_grad()
        prediction = model(batch).prediction
        prediction.square().sum().backward()
        gradients.append([prediction, *(p.grad for p in model.parameters())])
    for quick, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(quick, plain)


def test_training_in_half_precision(make_inputs, make_batch):
    inputs = make_inputs()
    model = TFN(inputs, SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(make_batch(inputs)).prediction.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
