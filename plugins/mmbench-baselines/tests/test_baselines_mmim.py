"""MMIM and its loss against slow float64 references and libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, RepresentationSpec
from mmbench_baselines.mmim.config import MMIMConfig, MutualInformationConfig
from mmbench_baselines.mmim.losses import GaussianEstimator, Memory, MutualInformation, mixture_entropy
from mmbench_baselines.mmim.model import MMIM

SMALL = {"hidden": 4, "subnet_width": 3, "text_width": 5, "fusion_width": 6}
NOISE = 0.01


# The backbone.


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision", "text"), ("audio", "vision")])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_prediction(modalities, task, pooling, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task)
    model = MMIM(inputs, MMIMConfig(**SMALL, text_pooling=pooling)).double().eval()
    batch = make_batch(inputs, 3, dtype=torch.float64)
    result = model(batch)
    for i in range(3):
        h = []
        for m in modalities:
            frames = batch.inputs[m].values[i][batch.inputs[m].mask[i]].numpy()
            u = (frames.mean(0) if pooling == "mean" else frames[0]) if m == "text" else reference.lstm(model.lstms[m].forwards, frames)[-1]
            h.append(reference.linear(model.linears[m], u))
            np.testing.assert_allclose(result.encoded[m].values[i, 0].detach(), h[-1], atol=1e-12)
        _, first, _, second, _ = model.fusion
        fused = np.tanh(reference.linear(second, np.tanh(reference.linear(first, np.concatenate(h)))))
        np.testing.assert_allclose(result.fused[i].detach(), fused, atol=1e-12)
        output = reference.linear(model.head, fused)
        np.testing.assert_allclose(result.prediction[i].detach(), output[0] if task == "regression" else output, atol=1e-12)


# The loss.


def make_spec(inputs, sequence=True):
    fields = {m: FieldSpec(3 + k, sequence) for k, m in enumerate(inputs.modalities)}
    return RepresentationSpec(inputs, 5, fields)


def make_case(spec, size, seed=0, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()

    encoded = {}
    for m, field in spec.encoded.items():
        frames = 3 if field.sequence else 1
        mask = (torch.rand(size, frames, generator=generator) < 0.6).index_fill(1, torch.tensor([0]), True)
        encoded[m] = Sequence(random(size, frames, field.width), mask)
    if spec.inputs.task == "regression":
        target = torch.randint(-3, 4, (size,), generator=generator).to(dtype)
    else:
        target = torch.randint(0, 4, (size,), generator=generator)
    return Representation(torch.zeros(size, dtype=dtype), random(size, 5), encoded), Batch(torch.arange(size), {}, target)


def pooled(x):
    return np.array([x.values[i][x.mask[i]].detach().double().numpy().mean(0) for i in range(len(x.mask))])


def cpc(loss, representation, reference):
    total = 0.0
    for m, x in representation.encoded.items():
        h = pooled(x)
        values = []
        for i, z in enumerate(representation.fused.detach().numpy()):
            predicted = reference.linear(loss.predictors[m], z)
            scores = [math.exp(predicted @ other / np.linalg.norm(predicted) / np.linalg.norm(other)) for other in h]
            values.append(-math.log(scores[i] / sum(scores)))
        total += sum(values) / len(values)
    return total


def likelihood(q, x, y, reference):
    """The expectation over the noise by Gauss-Hermite quadrature, which is exact for these polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    total = []
    for a, b in zip(x, y, strict=True):
        mean, variance = reference.layers(q.mean, a), np.exp(10 * np.tanh(reference.layers(q.log_variance, a) / 10))
        value = 0.0
        for k in range(len(b)):
            densities = stats.norm.logpdf(b[k] + math.sqrt(NOISE) * nodes, mean[k], math.sqrt(variance[k]))
            value += (weights * densities).sum() / weights.sum()
        total.append(value)
    return sum(total) / len(total)


def entropy(samples, classes):
    value = 0.0
    for c in sorted(set(classes)):
        own = np.array([x for x, k in zip(samples, classes, strict=True) if k == c])
        share = len(own) / len(samples)
        covariance = np.atleast_2d(np.cov(own.T, bias=True)) + NOISE * np.eye(own.shape[1])
        value += share * (stats.multivariate_normal(np.zeros(own.shape[1]), covariance).entropy() - math.log(share))
    return value


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 10**6), classes=st.booleans(), memory=st.integers(1, 9))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("modalities", [("audio", "text", "vision"), ("vision", "audio")], ids="-".join)
def test_equals_its_definition(modalities, sizes, seed, classes, memory, make_inputs, reference):
    """Over several batches of several sizes, so that the memory of the latest samples fills and wraps around."""
    spec = make_spec(make_inputs(modalities, "classification" if classes else "regression"))
    torch.manual_seed(seed)
    loss = MutualInformation(spec, MutualInformationConfig(memory=memory, noise=NOISE)).double()
    anchor = "text" if "text" in modalities else modalities[0]
    remembered = {m: [] for m in modalities if m != anchor}
    for step, size in enumerate(sizes):
        representation, batch = make_case(spec, size, seed + step)
        terms = loss(representation, batch)
        labels = [int(y) if classes else int(y > 0) for y in batch.target]
        x = pooled(representation.encoded[anchor])
        found = likelihoods = 0.0
        for m, past in remembered.items():
            h = pooled(representation.encoded[m])
            y = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-6)
            together = [*zip(y, labels, strict=True), *past]
            value = likelihood(loss.estimators[m], x, y, reference)
            found += value + entropy([row for row, _ in together], [k for _, k in together])
            likelihoods += value
            remembered[m] = [*past, *zip(y, labels, strict=True)][-memory:]
        assert terms["cpc"].item() == pytest.approx(cpc(loss, representation, reference), rel=1e-8, abs=1e-12)
        assert terms["ba"].item() == pytest.approx(-found, rel=1e-7, abs=1e-9)
        assert terms["estimator"].item() == pytest.approx(-likelihoods, rel=1e-8)
        if size == 1:
            assert terms["cpc"] == 0


@pytest.mark.parametrize(("n", "d"), [(3, 7), (7, 3), (5, 5), (1, 4)])
def test_entropy_of_one_class_is_scipys(n, d):
    """More samples than features and fewer, with places that are not members."""
    x = torch.randn(n, d, dtype=torch.float64)
    padded = torch.cat([x, torch.full((2, d), 99.0, dtype=torch.float64)])
    members = torch.tensor([[1, 0]] * n + [[0, 0]] * 2)
    covariance = np.cov(x.numpy().T, bias=True) if n > 1 else np.zeros((d, d))
    expected = stats.multivariate_normal(np.zeros(d), covariance + 0.3 * np.eye(d)).entropy()
    assert mixture_entropy(padded, members, 0.3).item() == pytest.approx(expected, rel=1e-10)
    assert mixture_entropy(padded, members * 0, 0.3) == 0


def test_the_bound_is_below_the_information_and_near_it_where_q_is_right():
    """y = a x + noise, Gaussian: I = ½ Σ log(1 + a²/σ²). The estimator's MLPs are set by hand, then to something else."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    y = 2 * x + torch.randn(x.shape, generator=generator, dtype=torch.float64)
    q = GaussianEstimator(2, 2, noise=1e-6).double()
    with torch.no_grad():
        for parameter in q.parameters():
            parameter.zero_()
        q.mean[0].weight.copy_(torch.eye(2))
        q.mean[0].bias.fill_(99.0)  # above the kink of the ReLU
        q.mean[2].weight.copy_(2 * torch.eye(2))
        q.mean[2].bias.fill_(-198.0)
        h = mixture_entropy(y, torch.ones(len(y), 1), 1e-6)
        information = math.log(1 + 4.0)
        assert (q(x, y) + h).item() == pytest.approx(information, abs=0.01)
        q.mean[2].bias.fill_(-197.5)
        assert (q(x, y) + h).item() < information - 0.1


@pytest.mark.parametrize("dimension", [1, 4])
def test_noise_tells_nothing(dimension):
    """With the best constant q (there is nothing to know about y), the bound is at zero or below for features of any scale."""
    y = torch.randn(50, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q = GaussianEstimator(1, dimension, NOISE).double()
    x = torch.zeros(50, 1, dtype=torch.float64)
    for scale in (1.0, 0.1, 1e-3, 0.0):
        with torch.no_grad():
            for parameter in q.parameters():
                parameter.zero_()
            q.mean[2].bias.copy_(scale * y.mean(0))
            variance = (scale * y).var(0, correction=0) + NOISE
            q.log_variance[2].bias.copy_(10 * torch.atanh(variance.log() / 10))
            assert (q(x, scale * y) + mixture_entropy(scale * y, torch.ones(50, 1), NOISE)).item() < 1e-9


def test_scale_and_place_of_the_features_do_not_matter(make_inputs):
    spec = make_spec(make_inputs(("text", "audio")), sequence=False)
    loss = MutualInformation(spec, MutualInformationConfig()).double().eval()
    representation, batch = make_case(spec, 8)
    expected = loss(representation, batch)
    audio = representation.encoded["audio"]
    representation.encoded["audio"] = Sequence(audio.values * 5 + 3, audio.mask)
    value = loss(representation, batch)
    torch.testing.assert_close(value["ba"], expected["ba"], rtol=1e-3, atol=0)  # but for the least variance
    torch.testing.assert_close(value["estimator"], expected["estimator"], rtol=1e-3, atol=0)


def test_each_term_moves_its_own_part(make_inputs):
    spec = make_spec(make_inputs())
    loss = MutualInformation(spec, MutualInformationConfig()).double()
    assert list(loss.parameter_groups()) == ["mi_estimator"]
    estimators = {id(p) for p in loss.parameter_groups()["mi_estimator"]}
    representation, batch = make_case(spec, 6)
    terms = loss(representation, batch)
    leaves = {"fused": representation.fused, **{m: x.values for m, x in representation.encoded.items()}}
    moved = {}
    for term, value in terms.items():
        gradients = torch.autograd.grad(value, [*leaves.values(), *loss.parameters()], retain_graph=True, allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in gradients)
        reached = [g is not None and bool(g.abs().sum() > 0) for g in gradients]
        parts = [*leaves, *("q" if id(p) in estimators else "G" for p in loss.parameters())]
        moved[term] = {part for part, yes in zip(parts, reached, strict=True) if yes}
        assert not {part for part, yes in zip(parts, reached, strict=True) if not yes} & moved[term]  # all of a part, or none of it
    assert moved == {"cpc": {*leaves, "G"}, "ba": {"text", "audio", "vision"}, "estimator": {"q"}}
    for m, x in representation.encoded.items():
        (gradient,) = torch.autograd.grad(terms["ba"], x.values, retain_graph=True)
        assert (gradient[~x.mask] == 0).all(), m


@pytest.mark.parametrize("term", ["cpc", "ba"])
def test_gradient_is_the_formulas(term, make_inputs):
    spec = make_spec(make_inputs(("text", "audio")), sequence=False)
    loss = MutualInformation(spec, MutualInformationConfig(memory=4)).double()
    loss(*make_case(spec, 6, seed=1))
    loss.eval()  # the memory holds still
    representation, batch = make_case(spec, 3)
    leaves = [representation.fused, *(x.values for x in representation.encoded.values())]
    assert torch.autograd.gradcheck(lambda *_: loss(representation, batch)[term], leaves)


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_values_and_gradients_are_finite(task, dtype, size, scale, make_inputs):
    spec = make_spec(make_inputs(task=task))
    loss = MutualInformation(spec, MutualInformationConfig(memory=5))
    for step in range(3):
        representation, batch = make_case(spec, size, step, dtype, scale)
        terms = loss(representation, batch)
        assert all(value.isfinite() and value.dtype == torch.float32 for value in terms.values())
        assert terms["cpc"] >= 0
        sum(terms.values()).backward()
    leaves = [representation.fused, *(x.values for x in representation.encoded.values()), *loss.parameters()]
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_order_of_samples_and_padding_do_not_matter(make_inputs):
    spec = make_spec(make_inputs())
    loss = MutualInformation(spec, MutualInformationConfig()).double().eval()
    representation, batch = make_case(spec, 6)
    expected = loss(representation, batch)
    order = torch.randperm(6)
    for m, x in representation.encoded.items():
        representation.encoded[m] = Sequence(torch.cat([x.values, 9 * x.values], 1)[order], torch.cat([x.mask, x.mask & False], 1)[order])
    representation.fused = representation.fused[order]
    value = loss(representation, Batch(batch.index, {}, batch.target[order]))
    torch.testing.assert_close(value, expected)


def test_evaluation_leaves_the_memory_alone_and_so_do_terms_that_are_off(make_inputs):
    spec = make_spec(make_inputs())
    loss = MutualInformation(spec, MutualInformationConfig()).double()
    loss.eval()
    loss(*make_case(spec, 4))
    assert not any(memory.filled.any() for memory in loss.memories.values())
    loss.train()
    loss.active = frozenset({"cpc"})
    assert set(loss(*make_case(spec, 4))) == {"cpc"}
    assert not any(memory.filled.any() for memory in loss.memories.values())


def test_the_memory_survives_a_checkpoint(make_inputs, tmp_path):
    spec = make_spec(make_inputs())
    first, second = (MutualInformation(spec, MutualInformationConfig(memory=6)).double() for _ in range(2))
    for step in range(3):
        first(*make_case(spec, 4, step))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in (7, 8):
        expected, value = (loss(*make_case(spec, 4, step)) for loss in (first, second))
        assert all(torch.equal(value[term], expected[term]) for term in expected)


def test_a_memory_smaller_than_a_batch_keeps_the_last_samples():
    memory = Memory(1, 3)
    memory.store(torch.arange(2.0).unsqueeze(1), torch.zeros(2, dtype=torch.long))
    memory.store(torch.arange(2.0, 9.0).unsqueeze(1), torch.ones(7, dtype=torch.long))
    assert sorted(memory.values.flatten().tolist()) == [6.0, 7.0, 8.0]
    assert memory.filled.all()


def test_one_modality_is_refused(make_inputs):
    with pytest.raises(ValueError, match=r"two or more modalities, and this model returns \['text'\]"):
        MutualInformation(make_spec(make_inputs(("text",))), MutualInformationConfig())
