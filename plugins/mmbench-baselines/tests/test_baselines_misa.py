"""MISA and its losses against slow float64 references."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, InputSpec, ModalitySpec, RepresentationSpec
from mmbench_baselines.misa import config, losses
from mmbench_baselines.misa.model import MISA

SMALL = {"width": 4, "feed_forward": 6}
ALL = [
    (losses.Difference, config.DifferenceConfig),
    (losses.CentralMomentDiscrepancy, config.CMDConfig),
    (losses.Reconstruction, config.ReconstructionConfig),
]


# The backbone, one sample at a time.


def layer_norm(module, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * module.weight.detach().numpy() + module.bias.detach().numpy()


def read(reader, frames, reference):
    """Both directions of both layers of one sample."""

    def both(lstm, x):
        return np.concatenate([reference.lstm(lstm.forwards, x), reference.lstm(lstm.backwards, x[::-1])[::-1]], 1)

    def last(states):
        width = states.shape[1] // 2
        return np.concatenate([states[-1, :width], states[0, width:]])

    first = both(reader.first, frames)
    second = both(reader.second, np.array([layer_norm(reader.norm, state) for state in first]))
    return np.concatenate([last(first), last(second)])


def attend(layer, tokens, reference):
    width, heads = tokens.shape[1], layer.heads
    projected = np.array([reference.linear(layer.query_key_value, x) for x in tokens])
    result = []
    for i, x in enumerate(tokens):
        parts = []
        for h in range(heads):
            q, k, v = (projected[:, part * width : (part + 1) * width][:, h * width // heads : (h + 1) * width // heads] for part in range(3))
            weights = np.exp([q[i] @ other / math.sqrt(width / heads) for other in k])
            parts.append(sum(w * value for w, value in zip(weights / weights.sum(), v, strict=True)))
        x = layer_norm(layer.first_norm, x + reference.linear(layer.output, np.concatenate(parts)))
        result.append(layer_norm(layer.second_norm, x + reference.layers(layer.feed_forward, x)))
    return np.concatenate(result)


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision", "text"), ("audio", "vision")])
@pytest.mark.parametrize(("task", "hidden"), [("regression", None), ("classification", 3)])
def test_prediction(modalities, task, hidden, pooling, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task)
    model = MISA(inputs, config.MISAConfig(**SMALL, hidden=hidden, text_pooling=pooling)).double().eval()
    batch = make_batch(inputs, 3, dtype=torch.float64)
    result = model(batch)
    for i in range(3):
        common, unique = [], []
        for m in modalities:
            frames = batch.inputs[m].values[i][batch.inputs[m].mask[i]].numpy()
            u = (frames.mean(0) if pooling == "mean" else frames[0]) if m == "text" else read(model.readers[m], frames, reference)
            linear, _, norm = model.projections[m]
            h = layer_norm(norm, np.maximum(reference.linear(linear, u), 0))
            np.testing.assert_allclose(result.encoded[m].values[i, 0].detach(), h, atol=1e-12)
            unique.append(1 / (1 + np.exp(-reference.linear(model.unique[m][0], h))))
            common.append(1 / (1 + np.exp(-reference.linear(model.common[0], h))))
            np.testing.assert_allclose(result.unique[m].values[i, 0].detach(), unique[-1], atol=1e-12)
            np.testing.assert_allclose(result.common[m].values[i, 0].detach(), common[-1], atol=1e-12)
        output = reference.layers(model.head, attend(model.fusion, np.array(unique + common), reference))
        np.testing.assert_allclose(result.prediction[i].detach(), output[0] if task == "regression" else output, atol=1e-12)


def test_recurrent_weights_start_orthogonal(make_inputs):
    model = MISA(make_inputs(), config.MISAConfig(**SMALL))
    found = [p for name, p in model.named_parameters() if "weight_hh" in name]
    assert len(found) == 8
    for p in found:
        torch.testing.assert_close(p.T @ p, torch.eye(p.shape[1]), rtol=0, atol=1e-5)


# The losses.


def random_case(inputs, size=6, seed=0, width=5, sequence=True, dtype=torch.float64):
    """A specification with fields of three widths, and a representation of leaves, with holes in its masks."""
    generator = torch.Generator().manual_seed(seed)
    names = tuple(inputs.modalities)
    widths = {"encoded": {m: 3 + k for k, m in enumerate(names)}, "common": dict.fromkeys(names, width), "unique": dict.fromkeys(names, width)}
    declared, fields = {}, {}
    for name, entry in widths.items():
        declared[name] = {m: FieldSpec(n, sequence) for m, n in entry.items()}
        fields[name] = {}
        for m, n in entry.items():
            frames = 4 if sequence else 1
            mask = (torch.rand(size, frames, generator=generator) < 0.6).index_fill(1, torch.tensor([0]), True)
            fields[name][m] = Sequence(torch.rand(size, frames, n, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(), mask)
    spec = RepresentationSpec(inputs, fused=2, **declared)
    representation = Representation(torch.zeros(size, dtype=dtype), torch.zeros(size, 2, dtype=dtype), **fields)
    return spec, representation, Batch(torch.arange(size), {}, torch.zeros(size))


def pooled(field):
    return {m: np.array([x.values[i][x.mask[i]].detach().double().numpy().mean(0) for i in range(len(x.mask))]) for m, x in field.items()}


def difference(representation):
    """Element by element of each product of two matrices."""

    def directions(x):
        rows = [row - sum(x) / len(x) for row in x]
        return [row / norm if (norm := math.sqrt(sum(v * v for v in row))) > 1e-9 else row * 0 for row in rows]

    def frobenius(a, b):
        cells = [sum(u[i] * v[j] for u, v in zip(a, b, strict=True)) ** 2 for i in range(len(a[0])) for j in range(len(b[0]))]
        return sum(cells) / len(cells)

    c, p = ({m: directions(x) for m, x in pooled(field).items()} for field in (representation.common, representation.unique))
    return sum(frobenius(c[m], p[m]) for m in c) + sum(frobenius(p[m], p[n]) for m, n in itertools.combinations(p, 2))


def cmd(representation, moments):
    x = pooled(representation.common)
    total = []
    for m, n in itertools.combinations(x, 2):
        distance = np.linalg.norm(x[m].mean(0) - x[n].mean(0))
        for k in range(2, moments + 1):
            distance += np.linalg.norm(stats.moment(x[m], k, axis=0) - stats.moment(x[n], k, axis=0))
        total.append(distance)
    return sum(total) / len(total)


def reconstruction(loss, representation, reference):
    encoded, common, unique = (pooled(getattr(representation, name)) for name in ("encoded", "common", "unique"))
    errors = []
    for m, h in encoded.items():
        squares = [((h[i] - reference.linear(loss.decoders[m], common[m][i] + unique[m][i])) ** 2).sum() / h.shape[1] for i in range(len(h))]
        errors.append(sum(squares) / len(squares))
    return sum(errors) / len(errors)


@given(size=st.integers(1, 9), seed=st.integers(0, 10**6), sequence=st.booleans(), moments=st.integers(1, 6), three=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_losses_equal_their_definitions(size, seed, sequence, moments, three, make_inputs, reference):
    inputs = make_inputs(("text", "audio", "vision")[: 3 if three else 2])
    spec, representation, batch = random_case(inputs, size, seed, sequence=sequence)
    first = losses.Difference(spec, config.DifferenceConfig())
    assert first(representation, batch)["difference"].item() == pytest.approx(difference(representation), rel=1e-8, abs=1e-12)
    second = losses.CentralMomentDiscrepancy(spec, config.CMDConfig(moments=moments))
    assert second(representation, batch)["cmd"].item() == pytest.approx(cmd(representation, moments), rel=1e-8, abs=1e-12)
    third = losses.Reconstruction(spec, config.ReconstructionConfig()).double()
    value = third(representation, batch)["reconstruction"].item()
    assert value == pytest.approx(reconstruction(third, representation, reference), rel=1e-8)


@pytest.mark.parametrize(("build", "cls"), ALL)
def test_gradients_reach_what_a_loss_reads(build, cls, make_inputs):
    spec, representation, batch = random_case(make_inputs(), 4)
    loss = build(spec, cls()).double()
    (value,) = loss(representation, batch).values()
    read = {"Difference": ("common", "unique"), "CentralMomentDiscrepancy": ("common",), "Reconstruction": ("encoded", "common", "unique")}
    fields = [x for name in read[build.__name__] for x in getattr(representation, name).values()]
    for x, gradient in zip(fields, torch.autograd.grad(value, [x.values for x in fields], retain_graph=True), strict=True):
        assert gradient[x.mask].abs().sum() > 0
        assert (gradient[~x.mask] == 0).all()
    value.backward()
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize(("build", "cls"), ALL[:2])
def test_gradient_is_the_formulas(build, cls, make_inputs):
    spec, representation, batch = random_case(make_inputs(("text", "audio")), 4, sequence=False)
    loss = build(spec, cls())
    leaves = [x.values for name in ("common", "unique")[: 2 if build is losses.Difference else 1] for x in getattr(representation, name).values()]
    assert torch.autograd.gradcheck(lambda *_: next(iter(loss(representation, batch).values())), leaves)


@pytest.mark.parametrize(("build", "cls"), ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["equal samples", "zeros", "equal modalities", "large", "one sample"])
def test_values_and_gradients_are_finite(build, cls, dtype, case, make_inputs):
    size = 1 if case == "one sample" else 5
    spec, representation, batch = random_case(make_inputs(), size, dtype=dtype)
    shared = torch.rand(size, 4, 5)
    for name in ("encoded", "common", "unique"):
        for x in getattr(representation, name).values():
            x.mask.fill_(True)
            with torch.no_grad():
                if case == "equal modalities":
                    x.values.copy_(shared[..., : x.values.shape[-1]])
                x.values.mul_({"zeros": 0, "large": 1000}.get(case, 1))
                if case == "equal samples":
                    x.values.copy_(x.values[:1].expand_as(x.values).clone())
    (value,) = build(spec, cls())(representation, batch).values()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert value >= 0
    if case in ("zeros", "equal samples", "one sample") and build is losses.Difference:
        assert value < 1e-4  # rounding, normalised
    if case in ("zeros", "equal modalities") and build is losses.CentralMomentDiscrepancy:
        assert value == 0
    value.backward()
    leaves = [x.values for name in ("encoded", "common", "unique") for x in getattr(representation, name).values()]
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize(("build", "cls"), ALL)
def test_order_of_samples_and_padding_do_not_matter(build, cls, make_inputs):
    spec, representation, batch = random_case(make_inputs(), 6)
    loss = build(spec, cls()).double()
    (expected,) = loss(representation, batch).values()
    order = torch.randperm(6)
    for name in ("encoded", "common", "unique"):
        field = getattr(representation, name)
        changed = {
            m: Sequence(torch.cat([x.values, x.values * 9], 1)[order], torch.cat([x.mask, x.mask & False], 1)[order]) for m, x in field.items()
        }
        setattr(representation, name, changed)
    (value,) = loss(representation, batch).values()
    torch.testing.assert_close(value, expected)


def test_cmd_of_features_that_differ_in_one_moment():
    """Means 0 and 1/2, all central moments of two-point distributions equal: the distance of the means is left, √d/2."""
    inputs = InputSpec({m: ModalitySpec("features", 3, 1) for m in ("a", "b")}, "regression")
    field = FieldSpec(4, False)
    spec = RepresentationSpec(inputs, 1, {}, common={"a": field, "b": field})
    x = torch.tensor([[-0.25], [0.25]]).expand(2, 4)
    representation = Representation(torch.zeros(2), torch.zeros(2, 1), {}, common={"a": Sequence.vector(x), "b": Sequence.vector(x + 0.5)})
    value = losses.CentralMomentDiscrepancy(spec, config.CMDConfig())(representation, Batch(torch.arange(2), {}, torch.zeros(2)))
    assert value["cmd"].item() == pytest.approx(1.0)


@pytest.mark.parametrize(("build", "cls"), ALL)
def test_what_is_missing_is_named(build, cls, make_inputs):
    with pytest.raises(ValueError, match=r"needs '.*', which this model does not return"):
        build(RepresentationSpec(make_inputs(), 2, {}), cls())


def test_combinations_without_meaning_are_refused(make_inputs):
    field = {"text": FieldSpec(3, False)}
    spec = RepresentationSpec(make_inputs(("text",)), 2, field, field, {"text": FieldSpec(4, False)})
    with pytest.raises(ValueError, match="two or more, but there is only"):
        losses.CentralMomentDiscrepancy(spec, config.CMDConfig())
    with pytest.raises(ValueError, match="widths 3 and 4 for 'text'"):
        losses.Reconstruction(spec, config.ReconstructionConfig())
    with pytest.raises(ValueError, match="width 5 is not a multiple of heads 2"):
        config.MISAConfig(width=5)
