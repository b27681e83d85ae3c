"""TFN against a slow reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mmbench_baselines.tfn.config import TFNConfig
from mmbench_baselines.tfn.model import TFN, outer_product

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
