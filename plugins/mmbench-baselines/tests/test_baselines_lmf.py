"""LMF against a slow reference, and against the full tensor that its factors stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmbench_baselines.lmf.config import LMFConfig
from mmbench_baselines.lmf.model import LMF

SMALL = LMFConfig(hidden={"text": 4, "audio": 3}, text_width=2, rank=3)


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision", "text")])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_prediction(modalities, task, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task)
    model = LMF(inputs, SMALL).double().eval()
    torch.nn.init.normal_(model.bias)
    batch = make_batch(inputs, 4, dtype=torch.float64)
    batch.inputs["vision"].mask[2] = False
    result = model(batch)
    weights, bias = model.weights[0].detach().numpy(), model.bias.detach().numpy()
    for i in range(4):
        vectors = reference.subnets(model.subnets, batch.inputs, i)
        for o in range(inputs.outputs):
            expected, products = bias[o], []
            for r in range(3):
                product = 1.0
                for m in modalities:
                    product *= np.concatenate([[1.0], vectors[m]]) @ model.factors[m][r, :, o].detach().numpy()
                products.append(product)
                expected += weights[r] * product
            np.testing.assert_allclose(result.prediction[i].reshape(-1)[o].item(), expected, atol=1e-12)
            np.testing.assert_allclose(result.fused[i].unflatten(0, (3, -1))[:, o].detach().numpy(), products, atol=1e-12)


def test_it_is_a_linear_layer_on_the_outer_product(make_inputs, make_batch):
    inputs = make_inputs()
    model = LMF(inputs, SMALL).double().eval()
    result = model(make_batch(inputs, 4, dtype=torch.float64))
    with_one = [torch.cat([torch.ones(4, 1), x.values[:, 0]], -1) for x in result.encoded.values()]
    tensor = torch.einsum("r,rio,rjo,rko->ijko", model.weights[0], *(model.factors[m] for m in result.encoded))
    expected = torch.einsum("bi,bj,bk,ijko->bo", *with_one, tensor) + model.bias
    torch.testing.assert_close(result.prediction, expected.squeeze(1))


def test_the_factors_form_a_group_and_everything_is_trained(make_inputs):
    model = LMF(make_inputs(), SMALL)
    assert [id(p) for p in model.parameter_groups()["factors"]] == [id(p) for p in model.factors.values()]
    assert all(p.requires_grad for p in model.parameters())
