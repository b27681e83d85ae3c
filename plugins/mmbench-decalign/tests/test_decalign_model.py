"""The backbone: invariances, options, tasks, gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mmbench.batch import Batch, Sequence
from mmbench.interfaces import InputSpec, ModalitySpec
from mmbench.layers import ragged
from mmbench_decalign import config, losses
from mmbench_decalign.model import DecAlign

SMALL = {"width": 8, "heads": 2, "layers": 2}
OFFICIAL = {"padding": "none", "sequence_length": "own", "context": "cross", "kernel_size": {"text": 1, "audio": 5, "vision": 3}}
OPTIONS = {
    "paper": {},
    "official": OFFICIAL,
    "cross, not decoupled": {"context": "cross", "decouple": False},
    "no padding": {"padding": "none"},
    "own length": {"sequence_length": "own"},
    "fixed length": {"sequence_length": 4},
    "not decoupled": {"decouple": False},
    "deep encoders, even kernel": {"encoder_depth": 3, "kernel_size": 4},
}


@pytest.fixture(params=OPTIONS)
def options(request):
    return config.DecAlignConfig(**{**SMALL, **OPTIONS[request.param]})


@pytest.fixture(params=[("text", "audio", "vision"), ("text",), ("audio", "vision")], ids="-".join)
def modalities(request):
    return request.param


def _rows(batch: Batch, rows: torch.Tensor | slice) -> Batch:
    return Batch(batch.index[rows], {m: Sequence(x.values[rows], x.mask[rows]) for m, x in batch.inputs.items()}, batch.target[rows])


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("size", [1, 3])
def test_representation_is_what_the_spec_says(options, modalities, task, size, make_inputs, make_batch):
    inputs = make_inputs(modalities, task)
    model = DecAlign(inputs, options)
    result = model(make_batch(inputs, size))
    assert result.prediction.shape == ((size,) if task == "regression" else (size, 4))
    assert result.fused.shape == (size, model.spec.fused)
    for name in ("encoded", "common", "unique"):
        declared, returned = getattr(model.spec, name), getattr(result, name)
        assert (declared is None) == (returned is None) == (name not in options.provides())
        for m in declared or {}:
            assert returned[m].values.shape[::2] == (size, declared[m].width)
            assert returned[m].mask.shape == returned[m].values.shape[:2]
            assert (returned[m].values[~returned[m].mask] == 0).all()


def test_padding_does_not_matter(options, modalities, make_inputs, make_batch):
    """Frames before and after, of any value, and NaN among them."""
    inputs = make_inputs(modalities)
    model = DecAlign(inputs, options).eval()
    batch = make_batch(inputs, 6)
    padded = {}
    for place, (m, x) in enumerate(batch.inputs.items()):
        before, after = (torch.full((6, n, x.values.shape[-1]), value) for n, value in ((place, 9.0), (2 * place + 1, float("nan"))))
        mask = torch.cat([torch.zeros(6, place, dtype=torch.bool), x.mask, torch.zeros(6, 2 * place + 1, dtype=torch.bool)], 1)
        padded[m] = Sequence(torch.cat([before, x.values, after], 1), mask)
    expected = model(batch)
    result = model(dataclasses.replace(batch, inputs=padded))
    torch.testing.assert_close(result.prediction, expected.prediction, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(result.fused, expected.fused, rtol=1e-4, atol=1e-5)
    for m in modalities:
        torch.testing.assert_close(result.encoded[m].mean(), expected.encoded[m].mean(), rtol=1e-4, atol=1e-5)


def test_batch_mates_do_not_matter(options, modalities, make_inputs, make_batch):
    inputs = make_inputs(modalities)
    model = DecAlign(inputs, options).eval()
    batch = make_batch(inputs, 6)
    expected = model(batch).prediction
    torch.testing.assert_close(torch.cat([model(_rows(batch, slice(i, i + 1))).prediction for i in range(6)]), expected, rtol=1e-4, atol=1e-6)
    order = torch.randperm(6)
    torch.testing.assert_close(model(_rows(batch, order)).prediction, expected[order], rtol=1e-4, atol=1e-6)


def test_trimming_to_the_real_frames_does_not_matter(options, make_inputs, make_batch):
    inputs = make_inputs()
    model = DecAlign(inputs, options).eval()
    one = _rows(make_batch(inputs, 4, seed=3), slice(2, 3))
    trimmed = {m: Sequence(x.values[:, : int(x.mask.sum())], x.mask[:, : int(x.mask.sum())]) for m, x in one.inputs.items()}
    torch.testing.assert_close(model(dataclasses.replace(one, inputs=trimmed)).prediction, model(one).prediction, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_every_parameter_gets_a_gradient(options, modalities, task, make_inputs, make_batch):
    inputs = make_inputs(modalities, task)
    model = DecAlign(inputs, options)
    result = model(make_batch(inputs, 8, least=6))
    result.prediction.square().mean().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not missing


@pytest.mark.parametrize("empty", ["text", "audio"])
def test_a_sample_without_a_real_frame_is_survived(options, empty, make_inputs, make_batch):
    inputs = make_inputs()
    model = DecAlign(inputs, options)
    batch = make_batch(inputs, 4)
    batch.inputs[empty].mask[1] = False
    result = model(batch)
    result.fused.square().sum().backward()
    assert result.prediction.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert (result.encoded[empty].mean()[1] == 0).all()
    assert result.encoded["vision"].mean()[1].abs().sum() > 0


def test_utterance_vectors(options, make_inputs, make_batch):
    """One frame per modality, and one audio frame beside text of many."""
    for lengths in ({"audio": 1}, {"text": 1, "audio": 1, "vision": 1}):
        inputs = make_inputs(lengths=lengths)
        model = DecAlign(inputs, options).eval()
        result = model(make_batch(inputs, 3))
        assert result.prediction.isfinite().all()
        expected = {"text": inputs.modalities["text"].length, "own": 1}.get(options.sequence_length, 4) > 1
        assert model.spec.encoded["audio"].sequence == expected
        if options.sequence_length != "own":
            x = result.encoded["audio"]
            torch.testing.assert_close(x.values[x.mask], x.values[:, :1].expand(-1, x.mask.shape[1], -1)[x.mask])


def test_autocast_changes_little(options, make_inputs, make_batch):
    inputs = make_inputs()
    model = DecAlign(inputs, options).eval()
    batch = make_batch(inputs, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
        half.prediction.sum().backward()
    torch.testing.assert_close(half.fused.float(), model(batch).fused, rtol=0.1, atol=0.1)


def test_losses_reach_the_encoders_and_do_not_see_padding(make_inputs, make_batch):
    inputs = make_inputs()
    model = DecAlign(inputs, config.DecAlignConfig(**SMALL)).eval()
    batch = make_batch(inputs, 8)
    longer = {m: Sequence(torch.cat([x.values, x.values], 1), torch.cat([x.mask, x.mask & False], 1)) for m, x in batch.inputs.items()}
    for build, options in (
        (losses.Decoupling, config.DecouplingConfig()),
        (losses.PrototypeTransport, config.PrototypeTransportConfig(num_prototypes=3)),
        (losses.Homogeneity, config.HomogeneityConfig()),
        (losses.SupervisedContrastive, config.SupervisedContrastiveConfig()),
    ):
        loss = build(model.spec, options)
        terms = loss(model(batch), batch)
        padded = loss(model(dataclasses.replace(batch, inputs=longer)), batch)
        for term, value in terms.items():
            torch.testing.assert_close(padded[term], value, rtol=1e-3, atol=1e-5)
            model.zero_grad()
            value.backward(retain_graph=True)
            for m in inputs.modalities:
                assert model.projections[m].convolution.weight.grad.abs().sum() > 0, (term, m)


def test_training_differs_from_evaluation(make_inputs, make_batch):
    inputs = make_inputs()
    model, batch = DecAlign(inputs, config.DecAlignConfig(**SMALL)), make_batch(make_inputs(), 3)
    assert not torch.equal(model(batch).prediction, model(batch).prediction)
    model.eval()
    assert torch.equal(model(batch).prediction, model(batch).prediction)


def test_order_in_time_matters(make_inputs, make_batch):
    inputs = make_inputs()
    model, batch = DecAlign(inputs, config.DecAlignConfig(**{**SMALL, "kernel_size": 1})).eval(), make_batch(make_inputs(), 3, least=99)
    flipped = {m: Sequence(x.values.flip(1), x.mask) for m, x in batch.inputs.items()}
    assert not torch.allclose(model(dataclasses.replace(batch, inputs=flipped)).prediction, model(batch).prediction, atol=1e-4)


def test_cross_attention_sees_the_others_and_self_attention_does_not(make_inputs, make_batch):
    inputs = make_inputs()
    batch = make_batch(inputs, 3)
    changed = dataclasses.replace(batch, inputs={**batch.inputs, "audio": Sequence(batch.inputs["audio"].values + 1, batch.inputs["audio"].mask)})
    for context, expected in (("self", False), ("cross", True)):
        model = DecAlign(inputs, config.DecAlignConfig(**SMALL, context=context, sequence_length="own")).eval()
        width = SMALL["width"]  # the first block of the fused vector is the text's transformer
        assert torch.equal(model(changed).fused[:, :width], model(batch).fused[:, :width]) != expected


def test_refusals_name_the_reason(make_inputs):
    tokens = InputSpec({"text": ModalitySpec("tokens", 100, 9)}, "regression")
    with pytest.raises(ValueError, match=r"model\.encoders\.text"):
        DecAlign(tokens, config.DecAlignConfig())
    with pytest.raises(ValueError, match="visual"):
        DecAlign(make_inputs(), config.DecAlignConfig(kernel_size={"visual": 3}))
    assert DecAlign(make_inputs(("text", "physio")), config.DecAlignConfig()).spec.modalities == ("text", "physio")


def test_slices_of_like_length_give_the_whole_batchs_outputs_and_gradients(options, modalities, make_inputs, make_batch, monkeypatch):
    inputs = make_inputs(modalities)
    model = DecAlign(inputs, options).double().eval()
    batch = make_batch(inputs, size=6, least=0)
    batch = dataclasses.replace(batch, inputs={m: Sequence(x.values.double(), x.mask) for m, x in batch.inputs.items()})
    results, rows = [], []
    for module in model.transformers.values():
        module.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0].values)))
    for overhead in (0.0, 1e9):
        monkeypatch.setattr(ragged, "OVERHEAD", overhead)
        rows.clear()
        fused = model(batch).fused
        assert (max(rows) < 6) == (overhead == 0.0)
        results.append([fused, *torch.autograd.grad(fused.square().sum(), list(model.parameters()), allow_unused=True)])
    for sliced, whole in zip(*results, strict=True):
        assert (sliced is None) == (whole is None)
        if whole is not None:
            torch.testing.assert_close(sliced, whole)
