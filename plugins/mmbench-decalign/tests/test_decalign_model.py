"""The backbone: invariances, options, tasks, gradients."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.batch import Batch, Sequence
from mmbench.interfaces import InputSpec, ModalitySpec
from mmbench_decalign import config, losses
from mmbench_decalign.dropout import attention, dropout, dropout_factor
from mmbench_decalign.model import DecAlign
from mmbench_decalign.temporal import TemporalProjection, adaptive_average

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


@given(frames=st.integers(1, 9), positions=st.integers(1, 9), holes=st.lists(st.booleans(), min_size=12, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_adaptive_average_equals_torchs_on_the_real_frames(frames, positions, holes, seed):
    """Each sample as if it were alone and unpadded, wherever its real frames and positions lie."""
    generator = torch.Generator().manual_seed(seed)
    x_mask, p_mask = torch.zeros(2, 12, dtype=torch.bool), torch.zeros(2, 12, dtype=torch.bool)
    x_mask[0, torch.randperm(12, generator=generator)[:frames]] = True
    p_mask[0, torch.randperm(12, generator=generator)[:positions]] = True
    x_mask[1, :], p_mask[1, :] = torch.tensor(holes), torch.tensor(holes)
    values = torch.randn(2, 12, 3, generator=generator)
    pooled = adaptive_average(Sequence(values, x_mask), p_mask)
    expected = torch.nn.functional.adaptive_avg_pool1d(values[0][x_mask[0]].T[None], positions)[0].T
    torch.testing.assert_close(pooled.values[0][p_mask[0]], expected)
    assert torch.equal(pooled.values[1][p_mask[1]], values[1][p_mask[1]])  # equal masks: every frame stays what it is
    assert torch.equal(pooled.mask[0], p_mask[0])
    assert (pooled.values[~pooled.mask] == 0).all()


def test_convolution_without_padding_keeps_whole_windows():
    projection = TemporalProjection(2, 3, 3, "none")
    values = torch.randn(3, 6, 2)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]]).bool()
    result = projection(Sequence(values, mask))
    assert result.mask.tolist() == [[True] * 3 + [False] * 3, [False] * 2 + [True] + [False] * 3, [False] * 5 + [True]]
    weight = projection.convolution.weight.detach()
    windows = [values[0, t : t + 3] for t in range(3)]
    windows += [torch.cat([values[1, 2:4], torch.zeros(1, 2)]), torch.cat([values[2, 5:], torch.zeros(2, 2)])]
    expected = np.stack([np.einsum("oik,ki->o", weight.numpy(), window.numpy()) for window in windows])
    np.testing.assert_allclose(result.values[result.mask].detach().numpy(), expected, atol=1e-5)


def test_convolution_of_equal_length_equals_torchs():
    projection = TemporalProjection(2, 3, 5, "same")
    values = torch.randn(2, 7, 2)
    reference = torch.nn.Conv1d(2, 3, 5, padding="same", bias=False)
    reference.load_state_dict(projection.convolution.state_dict())
    result = projection(Sequence(values, torch.ones(2, 7, dtype=torch.bool)))
    torch.testing.assert_close(result.values, reference(values.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.6])
def test_dropout_has_its_rate_and_its_mean(rate):
    factor = dropout_factor(torch.empty(1000, 1001), rate)
    assert factor.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate), rel=1e-4)]
    assert (factor == 0).float().mean().item() == pytest.approx(rate, abs=0.003)  # six standard deviations
    assert factor.mean().item() == pytest.approx(1.0, abs=0.01)
    assert abs(np.corrcoef(factor[:-1].flatten(), factor[1:].flatten())[0, 1]) < 0.006


def test_dropout_repeats_with_its_seed_and_is_off_at_zero():
    x = torch.randn(5, 7, dtype=torch.bfloat16)
    assert dropout(x, 0.0) is x
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(dropout(x, 0.3))
    assert torch.equal(*results)
    assert results[0].dtype == x.dtype


def test_written_out_attention_equals_torchs(monkeypatch):
    query, key, value = (torch.randn(2, 3, n, 4) for n in (5, 6, 6))
    allowed = (torch.arange(6) < torch.tensor([[6], [2]]))[:, None, None, :]
    monkeypatch.setattr("mmbench_decalign.dropout.dropout", lambda x, rate: x)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    torch.testing.assert_close(attention(query, key, value, allowed, 0.3), expected)


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
