"""MulT against a slow reference, one unpadded sample at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mmbench.layers import ragged
from mmbench_baselines.mult.config import MulTConfig
from mmbench_baselines.mult.encoder import attention_mask
from mmbench_baselines.mult.model import MulT

SMALL = {"width": 6, "heads": 2, "layers": 2, "kernel_size": {"text": 1, "audio": 3, "vision": 2}}


def _convolved(projection, frames):
    """Cross-correlation with zeros at both ends: (n, D) -> (n, d)."""
    weight = projection.convolution.weight.detach().numpy()  # (d, D, k)
    size = weight.shape[2]
    before = (size - 1) // 2
    padded = np.concatenate([np.zeros((before, frames.shape[1])), frames, np.zeros((size - 1 - before, frames.shape[1]))])
    return np.array([[(weight[o] * padded[t : t + size].T).sum() for o in range(len(weight))] for t in range(len(frames))]).reshape(-1, len(weight))


def _embedded(x):
    n, width = x.shape
    half = -(-width // 2)
    angle = np.arange(n)[:, None] * np.exp(-np.log(10000.0) * np.arange(half) / half)
    return np.sqrt(width) * x + np.concatenate([np.sin(angle), np.cos(angle)], 1)[:, :width]


def _normed(norm, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.eps)
    return x * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def _attended(block, x, source, causal):
    """Softmax attention query by query and head by head."""
    linear = lambda layer, v: v @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()  # noqa: E731
    width = x.shape[1]
    queries, both = linear(block.query, _normed(block.attention_norm, x)), linear(block.key_value, _normed(block.attention_norm, source))
    output = np.zeros_like(x)
    if not len(source):
        return output
    size = width // block.heads
    for i in range(len(x)):
        seen = [j for j in range(len(source)) if not causal or j <= i + abs(len(x) - len(source))]
        for h in range(block.heads):
            part = slice(h * size, (h + 1) * size)
            scores = np.array([queries[i, part] @ both[j, :width][part] / np.sqrt(size) for j in seen])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            output[i, part] = sum(w * both[j, width:][part] for w, j in zip(weights, seen, strict=True))
    return linear(block.output, output)


def _block(block, reference, x, source, causal):
    x = x + _attended(block, x, source, causal)
    return x + np.array([reference.layers(block.feed_forward[1:], _normed(block.feed_forward[0], row)) for row in x]).reshape(x.shape)


def _prediction(model, reference, sequences, i, causal):
    encoded = {m: _convolved(model.projections[m], x.values[i][x.mask[i]].numpy()) for m, x in sequences.items()}
    last = []
    for m in model.modalities:
        seen = []
        for other, encoder in model.cross[m].items():
            x, source = _embedded(encoded[m]), _embedded(encoded[other])
            for block in encoder.blocks:
                x = _block(block, reference, x, source, causal)
            seen.append(_normed(encoder.norm, x))
        x = _embedded(np.concatenate(seen, 1))
        for block in model.memories[m].blocks:
            x = _block(block, reference, x, x, causal)
        last.append(_normed(model.memories[m].norm, x)[-1] if len(x) else np.zeros(x.shape[1]))
    h = np.concatenate(last)
    return reference.linear(model.head, h + reference.layers(model.residual, h))


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "text")])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_prediction(modalities, causal, task, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task)
    model = MulT(inputs, MulTConfig(**SMALL, causal=causal)).double().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    batch = make_batch(inputs, 4, dtype=torch.float64)
    batch.inputs["audio"].mask[2] = False
    for x in batch.inputs.values():
        x.mask[1, ::2] = False  # holes
    prediction = model(batch).prediction.detach().numpy()
    for i in range(4):
        expected = _prediction(model, reference, batch.inputs, i, causal)
        np.testing.assert_allclose(prediction[i], expected[0] if task == "regression" else expected, rtol=1e-6, atol=1e-6)  # positions are float32


rows = st.lists(st.booleans(), min_size=5, max_size=5)


@given(queries=rows, keys=rows, causal=st.booleans())
@settings(max_examples=80, deadline=None)
def test_who_attends_to_whom(queries, keys, causal):
    allowed, anything = attention_mask(torch.tensor([queries]), torch.tensor([keys]), causal)
    assert anything.item() == any(keys)
    assert allowed.any(-1).all()
    if not any(keys):
        return
    for i, t in enumerate(place for place in range(5) if queries[place]):
        seen = [j for j, s in enumerate(place for place in range(5) if keys[place]) if allowed[0, 0, t, s]]
        assert seen == [j for j in range(sum(keys)) if not causal or j <= i + abs(sum(queries) - sum(keys))]
        assert not any(allowed[0, 0, t, s] for s in range(5) if not keys[s])


def test_on_equal_lengths_the_mask_is_that_of_the_official_code():
    everything = torch.ones(1, 6, dtype=torch.bool)
    allowed, _ = attention_mask(everything, everything, causal=True)
    assert torch.equal(allowed[0, 0], ~torch.triu(torch.ones(6, 6, dtype=torch.bool), 1))
    allowed, _ = attention_mask(everything, everything[:, :4], causal=True)
    assert torch.equal(allowed[0, 0], ~torch.triu(torch.ones(6, 4, dtype=torch.bool), 1 + 2))


def test_the_future_is_not_seen(make_inputs, make_batch):
    """A frame of the source changes what later steps make of it, and no earlier one."""
    inputs = make_inputs(lengths={"text": 6, "audio": 6})
    model = MulT(inputs, MulTConfig(**{**SMALL, "kernel_size": 1})).eval()
    batch = make_batch(inputs, 2, least=6)
    encoded = {m: model.projections[m](x) for m, x in batch.inputs.items()}
    before = model.cross["text"]["audio"].cross(encoded["text"], encoded["audio"]).values
    encoded["audio"].values[:, 4] += torch.randn(6)
    after = model.cross["text"]["audio"].cross(encoded["text"], encoded["audio"]).values
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_options_are_checked():
    with pytest.raises(ValidationError, match="not a multiple"):
        MulTConfig(width=30, heads=4)


@pytest.mark.parametrize("causal", [True, False])
def test_slices_of_like_length_give_the_whole_batchs_outputs_and_gradients(causal, make_inputs, make_batch, monkeypatch):
    inputs = make_inputs()
    model = MulT(inputs, MulTConfig(**SMALL, causal=causal)).double().eval()
    batch = make_batch(inputs, size=6, least=0, dtype=torch.float64)
    results, rows = [], []
    model.memories["text"].norm.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0])))
    for overhead in (0.0, 1e9):
        monkeypatch.setattr(ragged, "OVERHEAD", overhead)
        rows.clear()
        fused = model(batch).fused
        assert sum(rows) == 6
        assert (max(rows) < 6) == (overhead == 0.0)
        results.append([fused, *torch.autograd.grad(fused.square().sum(), list(model.parameters()), allow_unused=True)])
    for sliced, whole in zip(*results, strict=True):
        assert (sliced is None) == (whole is None)
        if whole is not None:
            torch.testing.assert_close(sliced, whole)
