"""LF-DNN against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmbench_baselines.lf_dnn.config import LFDNNConfig
from mmbench_baselines.lf_dnn.model import LFDNN


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio",)])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_prediction(modalities, task, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task)
    model = LFDNN(inputs, LFDNNConfig(hidden={"text": 4, "audio": 3}, text_width=2, fusion_width=5)).double().eval()
    batch = make_batch(inputs, 4, dtype=torch.float64)
    batch.inputs["audio"].mask[2] = False
    prediction = model(batch).prediction.detach().numpy()
    for i in range(4):
        vectors = reference.subnets(model.subnets, batch.inputs, i)
        output = reference.linear(model.head, reference.layers(model.fusion, np.concatenate([vectors[m] for m in modalities])))
        np.testing.assert_allclose(prediction[i], output[0] if task == "regression" else output, atol=1e-12)
