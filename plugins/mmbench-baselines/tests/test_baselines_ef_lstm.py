"""EF-LSTM against a slow reference; what an aligned and an unaligned modality become."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmbench.batch import Batch, Sequence
from mmbench_baselines.ef_lstm.config import EFLSTMConfig
from mmbench_baselines.ef_lstm.model import EFLSTM

SMALL = EFLSTMConfig(width=4, layers=3)


def _resampled(frames, count):
    """Adaptive average pooling of (n, D) to (count, D), position by position, as torch's AdaptiveAvgPool1d defines it."""
    n = len(frames)
    if not n:
        return np.zeros((count, frames.shape[1]))
    return np.array([frames[(j * n) // count : -(-(j + 1) * n // count)].mean(0) for j in range(count)])


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "text"), ("vision",)])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_prediction(modalities, task, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task)
    model = EFLSTM(inputs, SMALL).double().eval()
    batch = make_batch(inputs, 5, dtype=torch.float64)
    batch.inputs[modalities[0]].mask[2] = False
    prediction = model(batch).prediction.detach().numpy()
    first = "text" if "text" in modalities else modalities[0]
    for i in range(5):
        real = {m: batch.inputs[m].values[i][batch.inputs[m].mask[i]].numpy() for m in modalities}
        steps = max(len(real[first]), 1)
        states = np.concatenate([real[m] if m == first and len(real[m]) else _resampled(real[m], steps) for m in modalities], 1)
        for layer in model.layers:
            states = reference.lstm(layer.forwards, states)
        output = reference.layers(model.head, reference.layers(model.fusion, states[-1]))
        np.testing.assert_allclose(prediction[i], output[0] if task == "regression" else output, atol=1e-12)


def test_aligned_modalities_are_joined_exactly(make_inputs):
    """Audio has no frames at the two special tokens of the text, as in aligned files."""
    inputs = make_inputs(lengths={"text": 6, "audio": 6, "vision": 9})
    model = EFLSTM(inputs, SMALL)
    text, audio = torch.randn(2, 6, 12), torch.randn(2, 6, 5)
    words = torch.arange(6) < torch.tensor([[6], [4]])
    inner = (torch.arange(6) > 0) & (torch.arange(6) < torch.tensor([[5], [3]]))
    vision = Sequence(torch.randn(2, 9, 7), torch.ones(2, 9, dtype=torch.bool))
    joined = model.join({"text": Sequence(text, words), "audio": Sequence(audio, inner), "vision": vision})
    assert torch.equal(joined.mask, words)
    assert torch.equal(joined.values[..., :12], text * words.unsqueeze(-1))
    assert torch.equal(joined.values[..., 12:17], audio * inner.unsqueeze(-1))
    assert joined.values[..., 17:][words].abs().sum() > 0


def test_padding_at_the_end_of_an_aligned_modality_does_not_matter(make_inputs, make_batch):
    inputs = make_inputs(lengths={"text": 6, "audio": 6})
    model = EFLSTM(inputs, SMALL).eval()
    batch = make_batch(inputs, 4)
    for m in ("text", "audio"):
        x = batch.inputs[m]
        longer = Sequence(torch.cat([x.values, torch.full_like(x.values, float("nan"))], 1), torch.cat([x.mask, x.mask & False], 1))
        changed = Batch(batch.index, {**batch.inputs, m: longer}, batch.target)
        torch.testing.assert_close(model(changed).prediction, model(batch).prediction)
