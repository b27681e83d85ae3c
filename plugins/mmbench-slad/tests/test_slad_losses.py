"""The losses against Eq. 13-21, written out sample by sample in float64."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench.batch import Batch, Sequence
from mmbench_slad import config, losses

RANGE = 3.0
SIZES = [1, 2, 8]
CONTRASTIVE = {
    "paper": {},
    "many negatives": {"top_k": 50},
    "one negative": {"top_k": 1},
    "symmetric": {"symmetric": True},
    "unweighted": {"label_weights": False},
    "annotated": {"labels": "annotated"},
    "temperature, bandwidth": {"temperature": 0.7, "bandwidth": 1.3},
}
REPULSIVE = {
    "paper": {},
    "diagonal": {"include_diagonal": True},
    "low margin": {"margin": -0.9},
    "high margin": {"margin": 1.0},
    "unweighted": {"label_weights": False, "margin": 0.0},
    "annotated": {"labels": "annotated", "temperature": 0.5},
}
MULTILABEL = {"paper": {}, "magnitude": {"overlap": "magnitude"}, "annotated": {"labels": "annotated", "temperature": 0.5}}
ALL = (
    (losses.SladContrastive, config.SladContrastiveConfig, CONTRASTIVE),
    (losses.SladRepulsive, config.SladRepulsiveConfig, REPULSIVE),
    (losses.SladMultilabel, config.SladMultilabelConfig, MULTILABEL),
)
CASES = [pytest.param(loss, cls, options, id=f"{loss.__name__} {name}") for loss, cls, table in ALL for name, options in table.items()]
DEFAULTS = [pytest.param(loss, cls, id=loss.__name__) for loss, cls, _ in ALL]


# The reference: NumPy, one sample, one pair, one element at a time.


def pooled(sequence):
    values, mask = sequence.values.detach().double().numpy(), sequence.mask.numpy()
    return [np.mean([values[i, t] for t in range(mask.shape[1]) if mask[i, t]], axis=0) for i in range(len(mask))]


def cosine(x, z):
    return sum(a * b for a, b in zip(x, z, strict=True)) / math.sqrt(sum(a * a for a in x)) / math.sqrt(sum(b * b for b in z))


def similarity(y_t, y_a, alpha, tolerance):
    """Eq. 7-12."""
    if abs(y_t) <= tolerance or abs(y_a) <= tolerance or (y_t > 0) != (y_a > 0):
        return 0.0
    structure = 1.0 if abs(y_t - y_a) <= tolerance else 0.1 + 0.8 * min(abs(y_t), abs(y_a)) / (max(abs(y_t), abs(y_a)) + 1e-8)
    return structure * math.exp(-((y_t - y_a) ** 2) / (2 * alpha**2))


def contrastive(S, omega, options, factor=None):
    """Eq. 14-16. `factor`: lambda, where it is to be held constant."""
    B, tau = len(S), options.temperature
    factor = tau / (1 + math.exp(-sum(S[i][i] for i in range(B)) / B)) if factor is None else factor

    def one(row, i):
        positive = -math.log(math.exp(row[i]) / sum(math.exp(s) for s in row))
        hard = sorted((row[j] for j in range(B) if j != i), reverse=True)[: options.top_k]
        return positive + factor * sum(math.log(1 + math.exp(s)) for s in hard) / len(hard)

    total = 0.0
    for i in range(B):
        value = one(S[i], i)
        if options.symmetric:
            value = (value + one([S[j][i] for j in range(B)], i)) / 2
        total += omega[i] * value
    return total / B


def repulsive(R, omega, options):
    """Eq. 18."""
    total, weight = 0.0, 0.0
    for i in range(len(R)):
        hard = max(R[i][j] for j in range(len(R)) if j != i or options.include_diagonal)
        total += omega[i] * max(0.0, hard - options.margin / options.temperature)
        weight += omega[i]
    return total / weight if weight else 0.0


def multilabel(S, Y, options):
    """Eq. 19-21."""
    B, total = len(S), 0.0
    Y = [[0.0 if abs(y) <= options.tolerance else y for y in row] for row in Y]
    for i in range(B):
        for j in range(B):
            if i == j or not sum(a * b for a, b in zip(Y[i], Y[j], strict=True)) > 0:
                continue
            agree = [c for c in range(2) if Y[i][c] * Y[j][c] > 0]
            if options.overlap == "sign":
                size, shared = sum(y != 0 for y in Y[i]), len(agree)
            else:
                size, shared = sum(abs(y) for y in Y[i]), sum(min(abs(Y[i][c]), abs(Y[j][c])) for c in agree)
            W = shared / (size + 1e-8) / (1 + size - shared)
            total += W * -math.log(math.exp(S[i][j]) / sum(math.exp(S[i][k]) for k in range(B) if k != i))
    return total / B


def reference(representation, batch, options, factor=None):
    """The loss that belongs to the options, summed over the pairs of modalities, text first."""
    sequences = representation.unique if isinstance(options, config.SladRepulsiveConfig) else representation.common
    given = batch.unimodal_targets if options.labels == "annotated" else representation.unimodal_predictions
    names = sorted(sequences, key=lambda m: (m != "text", list(sequences).index(m)))
    total = 0.0
    for first, second in itertools.combinations(names, 2):
        x, z = pooled(sequences[first]), pooled(sequences[second])
        B = len(x)
        if B < 2:
            continue
        S = [[cosine(x[i], z[j]) / options.temperature for j in range(B)] for i in range(B)]
        y = [[given[m][i].item() / RANGE for m in (first, second)] for i in range(B)]
        if isinstance(options, config.SladMultilabelConfig):
            total += multilabel(S, y, options)
            continue
        omega = [similarity(*row, options.bandwidth, options.tolerance) if options.label_weights else 1.0 for row in y]
        total += repulsive(S, omega, options) if isinstance(options, config.SladRepulsiveConfig) else contrastive(S, omega, options, factor)
    return total


def value_of(loss, representation, batch):
    (value,) = loss(representation, batch).values()
    return value


def with_labels(representation, batch, change):
    """Representation and batch with all sub-modal labels changed."""
    predicted = {m: change(y) for m, y in representation.unimodal_predictions.items()}
    annotated = {m: change(y) for m, y in batch.unimodal_targets.items()}
    return dataclasses.replace(representation, unimodal_predictions=predicted), dataclasses.replace(batch, unimodal_targets=annotated)


def leaves(representation, loss):
    return [x.values for x in getattr(representation, loss.field).values()]


# Values.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("build", "cls", "options"), CASES)
@pytest.mark.parametrize("modalities", [("text", "audio"), ("audio", "vision", "text")], ids="-".join)
def test_equals_the_equations(build, cls, options, size, modalities, make_spec, make_representation):
    """Three modalities are the sum over their pairs; text is the anchor wherever it stands."""
    spec, chosen = make_spec(modalities), cls(**options)
    representation, batch = make_representation(spec, size)
    value = value_of(build(spec, chosen), representation, batch)
    assert value.item() == pytest.approx(reference(representation, batch, chosen), rel=1e-9, abs=1e-12)
    assert value.requires_grad
    if size == 1:
        assert value.item() == 0


@given(size=st.integers(1, 9), seed=st.integers(0, 10**6), case=st.sampled_from([case.values for case in CASES]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_the_equations_on_any_batch(make_spec, make_representation, size, seed, case):
    build, cls, options = case
    spec, chosen = make_spec(), cls(**options)
    representation, batch = make_representation(spec, size, seed=seed)
    value = value_of(build(spec, chosen), representation, batch).item()
    assert value == pytest.approx(reference(representation, batch, chosen), rel=1e-9, abs=1e-12)
    assert value >= 0


@pytest.mark.parametrize("labels", [[0.0] * 4, [1.0, -1.0, 1.0, 2.0]], ids=["zeros", "opposites"])
@pytest.mark.parametrize(("build", "cls"), DEFAULTS[:2])
def test_no_weight_gives_zero_and_zero_gradients(build, cls, labels, make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 4)
    y = torch.tensor(labels, dtype=torch.float64)
    representation = dataclasses.replace(representation, unimodal_predictions={"text": y, "audio": -y})
    loss = build(spec, cls())
    value = value_of(loss, representation, batch)
    assert value.item() == 0
    for gradient in torch.autograd.grad(value, leaves(representation, loss)):
        assert (gradient == 0).all()


# Gradients.


@pytest.mark.parametrize(("build", "cls", "options"), CASES)
def test_gradient(build, cls, options, make_spec, make_representation):
    spec, chosen = make_spec(), cls(**options)
    representation, batch = make_representation(spec, 5, frames=2)
    loss = build(spec, chosen)
    x = leaves(representation, loss)
    if build is not losses.SladContrastive:
        assert torch.autograd.gradcheck(lambda *_: value_of(loss, representation, batch), x)
        return
    # λ is a constant of the backward pass: what is varied numerically is the reference at fixed λ.
    S = [[cosine(a, b) / chosen.temperature for b in pooled(representation.common["audio"])] for a in pooled(representation.common["text"])]
    factor = chosen.temperature / (1 + math.exp(-sum(S[i][i] for i in range(5)) / 5))
    gradients = torch.autograd.grad(value_of(loss, representation, batch), x)
    step = 1e-6
    for leaf, gradient in zip(x, gradients, strict=True):
        for place in [(0, 0, 0), (1, 0, 3), (3, 1, 2), (4, 0, 5)]:
            sides = []
            for side in (step, -step):
                with torch.no_grad():
                    leaf[place] += side
                    sides.append(reference(representation, batch, chosen, factor))
                    leaf[place] -= side
            assert gradient[place].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize(("build", "cls", "options"), CASES)
def test_labels_get_no_gradient(build, cls, options, make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 6)
    value_of(build(spec, cls(**options)), representation, batch).backward()
    assert all(y.grad is None for y in representation.unimodal_predictions.values())


# Invariances.


@pytest.mark.parametrize(("build", "cls", "options"), CASES)
def test_scale_of_labels_and_range_together_does_not_matter(build, cls, options, make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 8)
    expected = value_of(build(spec, cls(**options)), representation, batch)
    wide = make_spec(label_range=(-12.0, 12.0))
    scaled = value_of(build(wide, cls(**options)), *with_labels(representation, batch, lambda y: y * 4))
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("build", "cls", "options"), CASES)
def test_order_of_the_batch_does_not_matter(build, cls, options, make_spec, make_representation):
    spec = make_spec(("text", "audio", "vision"))
    representation, batch = make_representation(spec, 8)
    order = torch.randperm(8)

    def take(field):
        return {m: Sequence(x.values[order], x.mask[order]) for m, x in field.items()}

    loss = build(spec, cls(**options))
    expected = value_of(loss, representation, batch)
    representation, batch = with_labels(representation, batch, lambda y: y[order])
    shuffled = dataclasses.replace(representation, common=take(representation.common), unique=take(representation.unique))
    torch.testing.assert_close(value_of(loss, shuffled, batch), expected)


@pytest.mark.parametrize(("build", "cls"), DEFAULTS)
def test_padding_and_scale_of_features_do_not_matter(build, cls, make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 8)
    loss = build(spec, cls())

    def pad(field, scale, value):
        more = torch.zeros(8, 3, dtype=torch.bool)
        return {
            m: Sequence(torch.cat([x.values * scale, torch.full((8, 3, x.values.shape[-1]), value)], 1), torch.cat([x.mask, more], 1))
            for m, x in field.items()
        }

    changed = dataclasses.replace(representation, common=pad(representation.common, 7.0, 9.0), unique=pad(representation.unique, 7.0, 9.0))
    torch.testing.assert_close(value_of(loss, changed, batch), value_of(loss, representation, batch))


@pytest.mark.parametrize(("build", "cls"), DEFAULTS)
def test_half_precision_is_computed_in_single(build, cls, make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 8, dtype=torch.bfloat16)
    loss = build(spec, cls())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = value_of(loss, representation, batch)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(reference(representation, batch, cls()), rel=1e-4, abs=1e-5)
    value.backward()


@pytest.mark.parametrize(("build", "cls"), DEFAULTS)
def test_a_sample_without_features_is_survived(build, cls, make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 6)
    for field in (representation.common, representation.unique):
        field["audio"].mask[2] = False
    loss = build(spec, cls(label_weights=False) if "label_weights" in cls.model_fields else cls())
    value = value_of(loss, representation, batch)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, leaves(representation, loss)))


# What a user meets.


def test_diagnostics(make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 8)
    x, z = pooled(representation.common["text"]), pooled(representation.common["audio"])
    y = [[representation.unimodal_predictions[m][i].item() / RANGE for m in ("text", "audio")] for i in range(8)]
    loss = losses.SladContrastive(spec, config.SladContrastiveConfig())
    loss(representation, batch)
    found = {name: value.item() for name, value in loss.diagnostics.items()}
    assert found["omega"] == pytest.approx(np.mean([similarity(*row, 0.5, 1e-3) for row in y]))
    assert found["positive"] == pytest.approx(np.mean([cosine(x[i], z[i]) for i in range(8)]))
    assert found["hardest"] == pytest.approx(np.mean([max(cosine(x[i], z[j]) for j in range(8) if j != i) for i in range(8)]))
    assert not any(value.requires_grad for value in loss.diagnostics.values())


def test_annotated_labels_that_are_missing_are_named(make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 3)
    loss = losses.SladContrastive(spec, config.SladContrastiveConfig(labels="annotated"))
    with pytest.raises(ValueError, match=r"slad_contrastive.*annotated labels of audio; use `labels: predicted`"):
        loss(representation, dataclasses.replace(batch, unimodal_targets={"text": batch.target}))


@pytest.mark.parametrize(("build", "cls"), DEFAULTS)
def test_specifications_without_meaning_are_refused(build, cls, make_spec):
    spec = make_spec()
    for field in ("common", "unique"):
        spec = dataclasses.replace(spec, **{field: None})
    with pytest.raises(ValueError, match="which this model does not return"):
        build(spec, cls())
    with pytest.raises(ValueError, match="two or more"):
        build(make_spec(("text",)), cls())
    widths = make_spec()
    uneven = {m: dataclasses.replace(entry, width=5 + place) for place, (m, entry) in enumerate(widths.common.items())}
    with pytest.raises(ValueError, match="one width"):
        build(dataclasses.replace(widths, common=uneven, unique=uneven), cls())


# Pseudo-labels.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", ["own_if_present", "multimodal", "none"])
def test_unimodal_regression(target, size, make_spec, make_representation):
    spec = make_spec(("text", "audio", "vision"))
    representation, batch = make_representation(spec, size)
    own = {"text": batch.unimodal_targets["text"]}  # audio and vision have none
    batch = dataclasses.replace(batch, unimodal_targets=own)
    expected = 0.0
    for m, predicted in representation.unimodal_predictions.items():
        wanted = own.get(m, batch.target) if target == "own_if_present" else batch.target
        expected += sum(abs(predicted[i].item() - wanted[i].item()) for i in range(size)) / size
    loss = losses.UnimodalRegression(spec, config.UnimodalRegressionConfig(target=target))
    value = loss(representation, batch)["unimodal"]
    assert value.item() == pytest.approx(0.0 if target == "none" else expected)
    assert value.requires_grad


def test_unimodal_regression_in_half_precision_and_without_predictions(make_spec, make_representation):
    spec = make_spec()
    representation, batch = make_representation(spec, 5, dtype=torch.bfloat16)
    batch = Batch(batch.index, {}, batch.target.float())
    value = losses.UnimodalRegression(spec, config.UnimodalRegressionConfig())(representation, batch)["unimodal"]
    assert value.dtype == torch.float32
    with pytest.raises(ValueError, match="unimodal_predictions"):
        losses.UnimodalRegression(make_spec(unimodal=False), config.UnimodalRegressionConfig())
