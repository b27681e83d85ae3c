"""What holds for each backbone: invariances, tasks, gradients, refusals."""

from __future__ import annotations

import dataclasses
from importlib import import_module

import pytest
import torch

from mmbench.batch import Batch, Sequence
from mmbench.interfaces import InputSpec, ModalitySpec
from mmbench_baselines.plugin import mmbench_components

SMALL = {
    "mmim": {"hidden": 4, "subnet_width": 3, "text_width": 5, "fusion_width": 6, "text_pooling": "first"},
    "self_mm": {"hidden": 4, "subnet_width": {"audio": 3}, "unimodal_width": {"text": 5}, "fusion_width": 16, "text_pooling": "first"},
    "misa": {"width": 4, "feed_forward": 6, "text_pooling": "first"},
    "tfn": {"hidden": 4, "text_width": 3, "fusion_width": 5},
    "lmf": {"hidden": {"text": 4, "audio": 3}, "text_width": 5},
    "ef_lstm": {"width": 4, "layers": 2},
    "mult": {"width": 4, "heads": 2, "layers": 1, "kernel_size": {"text": 1, "audio": 3, "vision": 2}},
    "lf_dnn": {"hidden": 4, "text_width": 3, "fusion_width": 5},
}
COMPONENTS = {component.name: component for component in mmbench_components() if component.kind == "model" and component.name in SMALL}
MODALITIES = [("text", "audio", "vision"), ("text",), ("audio", "vision"), ("vision", "physio", "text")]


def load(target):
    module, name = target.split(":")
    return getattr(import_module(module), name)


@pytest.fixture(params=SMALL)
def component(request):
    return COMPONENTS[request.param]


@pytest.fixture
def build(component):
    def make(inputs):
        if len(inputs.modalities) < component.min_modalities:
            pytest.skip(f"{component.name} takes {component.min_modalities} modalities or more")
        torch.manual_seed(0)
        return load(component.target)(inputs, load(component.config)(**SMALL[component.name]))

    return make


@pytest.fixture(params=MODALITIES, ids="-".join)
def modalities(request):
    return request.param


def _rows(batch, rows):
    return Batch(batch.index[rows], {m: Sequence(x.values[rows], x.mask[rows]) for m, x in batch.inputs.items()}, batch.target[rows])


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("size", [1, 3])
def test_representation_is_what_the_spec_says(component, build, modalities, task, size, make_inputs, make_batch):
    inputs = make_inputs(modalities, task)
    model = build(inputs)
    result = model(make_batch(inputs, size))
    assert result.prediction.shape == ((size,) if task == "regression" else (size, 4))
    assert result.fused.shape == (size, model.spec.fused)
    assert set(result.encoded) == set(model.spec.encoded) == (set(modalities) if "encoded" in component.provides else set())
    for m, x in result.encoded.items():
        assert x.values.shape[::2] == (size, model.spec.encoded[m].width)
        assert x.mask.shape == x.values.shape[:2]
        assert (x.mask.shape[1] > 1) == model.spec.encoded[m].sequence
        assert (x.values[~x.mask] == 0).all()


def test_padding_does_not_matter(build, modalities, make_inputs, make_batch):
    """Frames before, between and after, of any value, NaN among them."""
    inputs = make_inputs(modalities)
    model = build(inputs).eval()
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
    for m in expected.encoded:
        torch.testing.assert_close(result.encoded[m].mean(), expected.encoded[m].mean(), rtol=1e-4, atol=1e-5)


def test_batch_mates_do_not_matter(build, modalities, make_inputs, make_batch):
    inputs = make_inputs(modalities)
    model = build(inputs).eval()
    batch = make_batch(inputs, 5)
    expected = model(batch).prediction
    torch.testing.assert_close(torch.cat([model(_rows(batch, slice(i, i + 1))).prediction for i in range(5)]), expected, rtol=1e-4, atol=1e-6)
    order = torch.randperm(5)
    torch.testing.assert_close(model(_rows(batch, order)).prediction, expected[order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_every_parameter_gets_a_gradient(build, modalities, task, make_inputs, make_batch):
    inputs = make_inputs(modalities, task)
    model = build(inputs)
    result = model(make_batch(inputs, 32, least=6))
    outputs = [result.prediction, *(result.unimodal_predictions or {}).values()]
    sum(output.square().mean() for output in outputs).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("empty", ["text", "audio", "all"])
def test_a_sample_without_a_real_frame_is_survived(build, empty, training, make_inputs, make_batch):
    inputs = make_inputs()
    model = build(inputs).train(training)
    batch = make_batch(inputs, 4)
    for m in inputs.modalities if empty == "all" else [empty]:
        batch.inputs[m].mask[1] = False
    result = model(batch)
    result.fused.square().sum().backward()
    assert result.prediction.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if empty in result.encoded:
        assert (result.encoded[empty].mean()[1] == 0).all()
        assert result.encoded[empty].mean()[0].abs().sum() > 0


def test_autocast_changes_little_and_float64_works(build, make_inputs, make_batch):
    inputs = make_inputs()
    model = build(inputs).eval()
    batch = make_batch(inputs, 5)
    expected = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
        half.prediction.sum().backward()
    torch.testing.assert_close(half.fused.float(), expected.fused, rtol=0.1, atol=0.1)
    double = model.double()(dataclasses.replace(batch, inputs={m: Sequence(x.values.double(), x.mask) for m, x in batch.inputs.items()}))
    assert double.prediction.dtype == torch.float64
    torch.testing.assert_close(double.prediction.float(), expected.prediction, rtol=1e-4, atol=1e-5)


def test_utterance_vectors(build, make_inputs, make_batch):
    for lengths in ({"audio": 1}, {"text": 1, "audio": 1, "vision": 1}):
        inputs = make_inputs(lengths=lengths)
        model = build(inputs)
        for size in (1, 3):
            assert model(make_batch(inputs, size)).prediction.isfinite().all()


def test_training_differs_from_evaluation(build, make_inputs, make_batch):
    model, batch = build(make_inputs()), make_batch(make_inputs(), 3)
    assert not torch.equal(model(batch).prediction, model(batch).prediction)
    model.eval()
    assert torch.equal(model(batch).prediction, model(batch).prediction)


def test_tokens_are_refused_by_name(component):
    tokens = InputSpec({"text": ModalitySpec("tokens", 100, 9), "audio": ModalitySpec("features", 4, 9)}, "regression")
    with pytest.raises(ValueError, match=rf"{component.name} reads features.*model\.encoders\.text"):
        load(component.target)(tokens, load(component.config)())


def test_a_misspelt_modality_is_refused(component, make_inputs):
    config = load(component.config)
    mappings = [name for name, field in config.model_fields.items() if "dict" in str(field.annotation)]
    for name in mappings:
        with pytest.raises(ValueError, match=f"{name}.*visual"):
            load(component.target)(make_inputs(), config(**{**SMALL[component.name], name: {"visual": 1}}))


def test_declarations_hold(component):
    assert component.summary
    assert component.paper
    for name, field in load(component.config).model_fields.items():
        assert field.description, name
        assert field.json_schema_extra["source"], name
