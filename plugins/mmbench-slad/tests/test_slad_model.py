"""The backbone: invariances, options, tasks, context, gradients."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mmbench.batch import Batch, Sequence
from mmbench.interfaces import FieldSpec, InputSpec, ModalitySpec
from mmbench.layers import ragged
from mmbench_slad import config, losses
from mmbench_slad.fusion import FusionStack
from mmbench_slad.model import SLaD
from mmbench_slad.pooling import at_least_one

SMALL = {"width": 8, "heads": 2, "layers": 2}
OPTIONS = {
    "paper": {},
    "one layer, shared, specific": {"layers": 1, "share_invariant": True, "include_specific": True},
}
DATA = {
    "text-audio": {},
    "audio-text with context": {"modalities": ("audio", "text"), "contexts": ("text", "audio")},
    "three": {"modalities": ("text", "audio", "vision"), "contexts": ("text",)},
    "no text, classes": {"modalities": ("audio", "vision"), "task": "classification"},
}


@pytest.fixture(params=OPTIONS)
def options(request):
    return config.SLaDConfig(**{**SMALL, **OPTIONS[request.param]})


@pytest.fixture(params=DATA)
def inputs(request, make_inputs):
    return make_inputs(**DATA[request.param])


def _rows(batch: Batch, rows: torch.Tensor | slice) -> Batch:
    return Batch(batch.index[rows], {m: Sequence(x.values[rows], x.mask[rows]) for m, x in batch.inputs.items()}, batch.target[rows])


@pytest.mark.parametrize("size", [1, 3])
def test_representation_is_what_the_spec_says(options, inputs, size, make_batch):
    model = SLaD(inputs, options)
    result = model(make_batch(inputs, size))
    shape = (size,) if inputs.task == "regression" else (size, 4)
    assert result.prediction.shape == shape
    assert result.fused.shape == (size, model.spec.fused)
    assert tuple(result.unimodal_predictions) == model.spec.unimodal_predictions == tuple(inputs.modalities)
    assert all(value.shape == shape for value in result.unimodal_predictions.values())
    length = inputs.modalities["text" if "text" in inputs.modalities else "audio"].length
    for name in ("encoded", "common", "unique"):
        declared, returned = getattr(model.spec, name), getattr(result, name)
        assert set(declared) == set(returned) == set(inputs.modalities)
        for m, x in returned.items():
            assert declared[m] == FieldSpec(8, sequence=True)
            assert x.values.shape == (size, length, 8)
            assert (x.values[~x.mask] == 0).all()


def test_padding_does_not_matter(options, inputs, make_batch):
    """Frames before, between and after, of any value, NaN among them."""
    model = SLaD(inputs, options).eval()
    batch = make_batch(inputs, 5)
    padded = {}
    for place, (m, x) in enumerate(batch.inputs.items()):
        gap = [torch.full((5, n, x.values.shape[-1]), value) for n, value in ((place, 9.0), (2, float("inf")), (2 * place + 1, float("nan")))]
        holes = [torch.zeros(5, part.shape[1], dtype=torch.bool) for part in gap]
        values = torch.cat([gap[0], x.values[:, :2], gap[1], x.values[:, 2:], gap[2]], 1)
        padded[m] = Sequence(values, torch.cat([holes[0], x.mask[:, :2], holes[1], x.mask[:, 2:], holes[2]], 1))
    expected, result = model(batch), model(dataclasses.replace(batch, inputs=padded))
    torch.testing.assert_close(result.prediction, expected.prediction, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(result.fused, expected.fused, rtol=1e-4, atol=1e-5)
    for m in inputs.modalities:
        torch.testing.assert_close(result.unimodal_predictions[m], expected.unimodal_predictions[m], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(result.common[m].mean(), expected.common[m].mean(), rtol=1e-4, atol=1e-5)


def test_batch_mates_do_not_matter(options, inputs, make_batch):
    model = SLaD(inputs, options).eval()
    batch = make_batch(inputs, 5)
    expected = model(batch).prediction
    torch.testing.assert_close(torch.cat([model(_rows(batch, slice(i, i + 1))).prediction for i in range(5)]), expected, rtol=1e-4, atol=1e-6)
    order = torch.randperm(5)
    torch.testing.assert_close(model(_rows(batch, order)).prediction, expected[order], rtol=1e-4, atol=1e-6)


def _all_losses(spec, task):
    if task == "classification":
        return []
    return [
        losses.UnimodalRegression(spec, config.UnimodalRegressionConfig()),
        losses.SladContrastive(spec, config.SladContrastiveConfig(bandwidth=5.0)),
        losses.SladRepulsive(spec, config.SladRepulsiveConfig(margin=-1.0, label_weights=False)),
        losses.SladMultilabel(spec, config.SladMultilabelConfig()),
    ]


def test_every_parameter_gets_a_gradient_with_all_losses_on(options, inputs, make_batch):
    model = SLaD(inputs, options)
    batch = make_batch(inputs, 12, least=4)
    result = model(batch)
    total = result.prediction.square().mean()
    for loss in _all_losses(model.spec, inputs.task):
        total = total + sum(loss(result, batch).values())
    total.backward()
    missing = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    if inputs.task == "classification":  # nothing reads these without the losses
        missing = {name for name in missing if not name.startswith(("pseudo_labels", "specific"))}
    assert not missing


def test_each_loss_reaches_the_encoders(make_inputs, make_batch):
    inputs = make_inputs(("text", "audio", "vision"))
    model = SLaD(inputs, config.SLaDConfig(**SMALL)).eval()
    batch = make_batch(inputs, 12)
    leaves = {m: Sequence(x.values.clone().requires_grad_(), x.mask) for m, x in batch.inputs.items()}
    result = model(dataclasses.replace(batch, inputs=leaves))
    for loss in _all_losses(model.spec, "regression"):
        (value,) = loss(result, batch).values()
        gradients = torch.autograd.grad(value, [x.values for x in leaves.values()], retain_graph=True)
        for x, gradient in zip(leaves.values(), gradients, strict=True):
            assert gradient.isfinite().all()
            assert gradient[x.mask].abs().sum() > 0
            assert (gradient[~x.mask] == 0).all()


@pytest.mark.parametrize("empty", ["text", "audio", "both"])
def test_a_sample_without_a_real_frame_is_survived(options, empty, make_inputs, make_batch):
    inputs = make_inputs(contexts=("audio",))
    model = SLaD(inputs, options)
    batch = make_batch(inputs, 4)
    for m in ("text", "audio") if empty == "both" else (empty,):
        batch.inputs[m].mask[1] = False
    result = model(batch)
    result.fused.square().sum().backward()
    assert result.prediction.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if empty == "text":
        assert result.encoded["audio"].mean()[1].abs().sum() > 0


def test_context_is_encoded_pooled_and_appended(make_inputs, make_batch):
    inputs = make_inputs(contexts=("audio", "text"))
    model = SLaD(inputs, config.SLaDConfig(**SMALL)).eval()
    batch = make_batch(inputs, 4)
    batch.inputs["audio_context"].mask[2] = False
    fused = model(batch).fused
    for place, m in ((2, "audio"), (1, "text")):
        part = fused[:, -8 * place :][:, :8].detach().numpy()
        weight, bias = (p.detach().numpy() for p in (model.projections[m].weight, model.projections[m].bias)) if m in model.projections else (None, 0)
        for i in range(4):
            frames = batch.inputs[f"{m}_context"]
            real = frames.values[i][frames.mask[i]].numpy()
            expected = np.zeros(8) if not len(real) else np.mean([frame if weight is None else weight @ frame + bias for frame in real], 0)
            np.testing.assert_allclose(part[i], expected, atol=1e-5)
    other = {**batch.inputs, "audio_context": Sequence(batch.inputs["audio_context"].values + 1, batch.inputs["audio_context"].mask)}
    changed = model(dataclasses.replace(batch, inputs=other)).prediction != model(batch).prediction
    assert changed[[0, 1, 3]].all()
    assert not changed[2]


def test_a_modality_of_the_models_width_is_not_projected(make_inputs, make_batch):
    inputs = make_inputs()
    model, batch = SLaD(inputs, config.SLaDConfig(**SMALL)), make_batch(make_inputs(), 3)
    assert set(model.projections) == {"audio"}
    encoded = model(batch).encoded["text"]
    assert torch.equal(encoded.values[encoded.mask], batch.inputs["text"].values[encoded.mask])


def test_utterance_vectors(options, make_inputs, make_batch):
    for lengths in ({"audio": 1}, {"text": 1, "audio": 1}):
        inputs = make_inputs(lengths=lengths)
        model = SLaD(inputs, options).eval()
        result = model(make_batch(inputs, 3))
        assert result.prediction.isfinite().all()
        assert model.spec.encoded["audio"].sequence == ("text" not in lengths)
        x = result.encoded["audio"]
        torch.testing.assert_close(x.values[x.mask], x.values[:, :1].expand(-1, x.mask.shape[1], -1)[x.mask])


def test_autocast_changes_little_and_labels_stay_single(options, inputs, make_batch):
    model = SLaD(inputs, options).eval()
    batch = make_batch(inputs, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
        half.prediction.sum().backward()
    torch.testing.assert_close(half.fused.float(), model(batch).fused, rtol=0.1, atol=0.1)
    assert all(value.dtype == torch.float32 for value in half.unimodal_predictions.values())


def test_training_differs_from_evaluation(make_inputs, make_batch):
    model, batch = SLaD(make_inputs(), config.SLaDConfig(**SMALL)), make_batch(make_inputs(), 3)
    assert not torch.equal(model(batch).prediction, model(batch).prediction)
    model.eval()
    assert torch.equal(model(batch).prediction, model(batch).prediction)


# Equal lengths.


def test_at_least_one_position():
    mask = torch.tensor([[False, False], [False, True]])
    assert at_least_one(mask).tolist() == [[True, False], [False, True]]


# Fusion, against a slow reference.


def _attend(module, x, context, heads):
    """LN(x + softmax(QKᵀ/√d_k)V W) of one sample in float64, head by head (Eq. 3-6): (T, d), (S, d) -> (T, d)."""
    p = {name: value.detach().double().numpy() for name, value in module.named_parameters()}
    width = x.shape[1]
    q = x @ p["query.weight"].T + p["query.bias"]
    both = context @ p["key_value.weight"].T + p["key_value.bias"]
    k, v = both[:, :width], both[:, width:]
    size = width // heads
    out = np.zeros_like(q)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for t in range(len(q)):
            score = np.array([q[t, part] @ k[s, part] / np.sqrt(size) for s in range(len(k))])
            weight = np.exp(score) / np.exp(score).sum()
            out[t, part] = sum(weight[s] * v[s, part] for s in range(len(k)))
    return _norm(x + out @ p["output.weight"].T + p["output.bias"], p["norm.weight"], p["norm.bias"])


def _norm(x, weight, bias):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * weight + bias


def _fuse(stack, sequences, heads):
    """The stack on the real frames of one sample, every position computed in every block."""
    values = [np.concatenate([stack.cls[m].detach().double().numpy(), x]) for m, x in enumerate(sequences)]
    for block in stack.blocks:
        before, values = values, []
        for m, stream in enumerate(block.streams):
            others = np.concatenate([x for other, x in enumerate(before) if other != m])
            x = _attend(stream.cross, before[m], others, heads)
            x = _attend(stream.itself, x, x, heads)
            p = {name: value.detach().double().numpy() for name, value in stream.named_parameters()}
            hidden = np.maximum(x @ p["feed_forward.0.weight"].T + p["feed_forward.0.bias"], 0)
            x = x + hidden @ p["feed_forward.3.weight"].T + p["feed_forward.3.bias"]
            values.append(_norm(x, p["norm.weight"], p["norm.bias"]))
    return [x[0] for x in values]


@pytest.mark.parametrize(("streams", "layers"), [(2, 1), (2, 3), (3, 2)])
def test_fusion_equals_the_equations(streams, layers):
    stack = FusionStack(streams, 6, 2, layers, 0.3).eval()
    for p in stack.parameters():
        torch.nn.init.normal_(p, std=0.4)
    masks = torch.rand(4, streams, 5) < 0.6
    masks[1, 0] = False  # nothing but the CLS token
    values = torch.randn(4, streams, 5, 6)
    result = stack([Sequence(values[:, m], masks[:, m]) for m in range(streams)])
    for i in range(4):
        expected = _fuse(stack, [values[i, m][masks[i, m]].double().numpy() for m in range(streams)], 2)
        for m in range(streams):
            np.testing.assert_allclose(result[m][i].detach().numpy(), expected[m], atol=1e-4)


def test_prediction_is_an_mlp_of_the_cls_outputs(make_inputs, make_batch):
    model = SLaD(make_inputs(), config.SLaDConfig(**SMALL)).eval()
    result = model(make_batch(make_inputs(), 3))
    parts = [cls for name in ("common", "encoded") for cls in model.fusion[name]([getattr(result, name)[m] for m in ("text", "audio")])]
    torch.testing.assert_close(result.fused, torch.cat(parts, 1))
    first, last = model.mlp[1], model.mlp[4]
    torch.testing.assert_close(result.prediction, last(torch.relu(first(result.fused))).squeeze(-1))
    x = result.encoded["audio"]
    torch.testing.assert_close(result.unimodal_predictions["audio"], model.pseudo_labels["audio"](x.mean()).squeeze(-1))


# What a user meets.


def test_refusals_name_the_reason(make_inputs):
    tokens = InputSpec({"text": ModalitySpec("tokens", 100, 9), "audio": ModalitySpec("features", 5, 9)}, "regression")
    with pytest.raises(ValueError, match=r"'text' is tokens.*model\.encoders\.text"):
        SLaD(tokens, config.SLaDConfig(**SMALL))
    with pytest.raises(ValueError, match="two or more"):
        SLaD(make_inputs(("text",)), config.SLaDConfig(**SMALL))
    inputs = make_inputs(contexts=("text",))
    for wrong, reason in (
        ({"text": ModalitySpec("tokens", 8, 9)}, r"'text_context' is tokens.*model\.encoders\.text"),
        ({"text": ModalitySpec("features", 6, 9)}, "'text_context' has width 6"),
        ({"vision": ModalitySpec("features", 8, 9)}, "'vision_context' belongs to no modality"),
    ):
        with pytest.raises(ValueError, match=reason):
            SLaD(dataclasses.replace(inputs, contexts=wrong), config.SLaDConfig(**SMALL))


def test_slices_of_like_length_give_the_whole_batchs_outputs_and_gradients(options, inputs, make_batch, monkeypatch):
    model = SLaD(inputs, options).double().eval()
    batch = make_batch(inputs, size=6, least=0)
    batch = dataclasses.replace(batch, inputs={m: Sequence(x.values.double(), x.mask) for m, x in batch.inputs.items()})
    results, rows = [], []
    model.fusion["common"].register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0][0].values)))
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
