"""Self-MM and its generated labels against slow float64 references, and through the training loop."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbench.batch import Batch, Representation, Sequence
from mmbench.component import FitContext
from mmbench.data.dataset import Dataset, Modality, Split
from mmbench.interfaces import FieldSpec, RepresentationSpec
from mmbench.plugins import catalogue
from mmbench.resolve import resolve
from mmbench.strict_yaml import Document
from mmbench.training.loop import Interrupted, Protocol, fit
from mmbench.training.network import Network
from mmbench.training.tensors import TensorSplit
from mmbench_baselines.self_mm.config import SelfMMConfig, SelfSupervisedLabelsConfig
from mmbench_baselines.self_mm.losses import SelfSupervisedLabels
from mmbench_baselines.self_mm.model import SelfMM

SMALL = {"hidden": 4, "subnet_width": {"audio": 3}, "unimodal_width": {"text": 5}, "fusion_width": 6}


# The backbone.


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("vision", "text"), ("audio", "vision")])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_prediction(modalities, task, pooling, make_inputs, make_batch, reference):
    inputs = make_inputs(modalities, task)
    model = SelfMM(inputs, SelfMMConfig(**SMALL, text_pooling=pooling)).double().eval()
    batch = make_batch(inputs, 3, dtype=torch.float64)
    result = model(batch)
    for i in range(3):
        vectors = []
        for m in modalities:
            frames = batch.inputs[m].values[i][batch.inputs[m].mask[i]].numpy()
            if m == "text":
                u = frames.mean(0) if pooling == "mean" else frames[0]
            else:
                u = reference.linear(model.subnets[m].linear, reference.lstm(model.subnets[m].lstm.forwards, frames)[-1])
            vectors.append(u)
            feature = reference.layers(model.unimodal[m], u)
            np.testing.assert_allclose(result.encoded[m].values[i, 0].detach(), feature, atol=1e-12)
            output = reference.layers(model.unimodal_heads[m], feature)
            np.testing.assert_allclose(result.unimodal_predictions[m][i].detach(), output[0] if task == "regression" else output, atol=1e-12)
        fused = reference.layers(model.fusion, np.concatenate(vectors))
        np.testing.assert_allclose(result.fused[i].detach(), fused, atol=1e-12)
        output = reference.layers(model.head, fused)
        np.testing.assert_allclose(result.prediction[i].detach(), output[0] if task == "regression" else output, atol=1e-12)


def test_groups_are_there_for_modalities_that_are_not(make_inputs):
    groups = SelfMM(make_inputs(("text", "audio", "eeg")), SelfMMConfig(**SMALL)).parameter_groups()
    assert {name: len(list(parameters)) for name, parameters in groups.items()} == {"audio": 6, "vision": 0, "eeg": 6}


# The loss: a reference that remembers every sample by itself and looks at all of them in every step.


class Slow:
    def __init__(self, size, limits):
        self.size, self.limits, self.memory = size, limits, {}  # (key, sample) -> (features, label)

    def distances(self, key, x):
        centres = []
        for sign in (1, -1):
            members = [f for (k, _), (f, label) in self.memory.items() if k == key and label * sign > 0]
            if not members:
                return None
            centres.append(sum(members) / len(members))
        positive, negative = (math.sqrt(((x - c) ** 2).sum()) for c in centres)
        return (negative - positive) / (positive + 1e-8)

    def step(self, epoch, index, y, fused, encoded, predictions):
        loss, fresh = 0.0, {}
        for m in encoded:
            errors = []
            for row, i in enumerate(index):
                label = self.memory.get((m, i), (None, y[row]))[1]
                errors.append(math.tanh(abs(label - y[row])) * abs(predictions[m][row] - label))
                if epoch > 1:
                    own, whole = self.distances(m, encoded[m][row]), self.distances("fused", fused[row])
                    if own is not None and whole is not None:
                        new = 0.5 * own / whole * y[row] + 0.5 * (y[row] + own - whole)
                        new = min(max(new, self.limits[0]), self.limits[1])
                        label = (epoch - 1) / (epoch + 1) * label + 2 / (epoch + 1) * new
                fresh[m, i] = (encoded[m][row], label)
            loss += sum(errors) / len(errors)
        fresh.update({("fused", i): (fused[row], y[row]) for row, i in enumerate(index)})
        self.memory.update(fresh)
        return loss


def make_spec(inputs, widths=(3, 4, 2), sequence=True):
    fields = {m: FieldSpec(width, sequence) for m, width in zip(inputs.modalities, widths, strict=False)}
    return RepresentationSpec(inputs, 5, fields, unimodal_predictions=tuple(fields))


def make_case(spec, targets, index, generator):
    """Features that say something about the label, so that labels move by less than the range."""
    y = targets[index]

    def features(*shape):
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) + y.reshape(-1, *[1] * (len(shape) - 1))).requires_grad_()

    size = len(index)
    masks = {m: (torch.rand(size, 3, generator=generator) < 0.6).index_fill(1, torch.tensor([0]), True) for m in spec.encoded}
    encoded = {m: Sequence(features(size, 3, field.width), masks[m]) for m, field in spec.encoded.items()}
    predictions = {m: features(size) for m in spec.encoded}
    return Representation(y.clone(), features(size, spec.fused), encoded, unimodal_predictions=predictions), Batch(index, {}, y)


def as_numpy(representation, batch):
    encoded = {m: np.array([x.values[i][x.mask[i]].detach().numpy().mean(0) for i in range(len(x.mask))]) for m, x in representation.encoded.items()}
    predictions = {m: value.detach().numpy() for m, value in representation.unimodal_predictions.items()}
    return batch.index.tolist(), batch.target.numpy(), representation.fused.detach().numpy(), encoded, predictions


@given(seed=st.integers(0, 10**6), size=st.integers(2, 13), step=st.integers(1, 5), one_sided=st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equals_the_algorithm(seed, size, step, one_sided, make_inputs):
    """Labels, and the loss of each batch, over four epochs of shuffled batches; also where no label is below zero."""
    spec = make_spec(make_inputs())
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.randint(0 if one_sided else -6, 7, (size,), generator=generator) / 2).double()
    loss = SelfSupervisedLabels(spec, SelfSupervisedLabelsConfig()).double()
    loss.on_fit_start(FitContext(size, targets, 4))
    slow = Slow(size, (-3.0, 3.0))
    for epoch in (1, 2, 3, 4):
        loss.on_epoch_start(epoch)
        for index in torch.randperm(size, generator=generator).split(step):
            representation, batch = make_case(spec, targets, index, generator)
            value = loss(representation, batch)["unimodal"]
            assert value.item() == pytest.approx(slow.step(epoch, *as_numpy(representation, batch)), rel=1e-8, abs=1e-9)
            assert value.requires_grad
    for m, bank in loss.banks.items():
        expected = [slow.memory[m, i] for i in range(size)]
        np.testing.assert_allclose(bank.labels, [label for _, label in expected], atol=1e-9)
        np.testing.assert_allclose(bank.features, [features for features, _ in expected], atol=1e-12)
        assert (bank.labels.abs() <= 3).all()
    if one_sided:
        np.testing.assert_array_equal(loss.banks["text"].labels, targets)


def run_epochs(loss, spec, targets, epochs, seed=0):
    for epoch in epochs:
        generator = torch.Generator().manual_seed(seed + epoch)
        loss.on_epoch_start(epoch)
        for index in torch.randperm(len(targets), generator=generator).split(4):
            loss(*make_case(spec, targets, index, generator))


def started(spec, targets):
    loss = SelfSupervisedLabels(spec, SelfSupervisedLabelsConfig()).double()
    loss.on_fit_start(FitContext(len(targets), targets, 9))
    return loss


def test_running_sums_are_those_of_all_samples(make_inputs):
    spec, targets = make_spec(make_inputs()), torch.linspace(-3, 3, 11).double()
    loss = started(spec, targets)
    run_epochs(loss, spec, targets, range(1, 6))
    moved = 0
    for bank in (loss.fused, *loss.banks.values()):
        for row, members in enumerate((bank.labels > 0, bank.labels < 0)):
            torch.testing.assert_close(bank.sums[row], bank.features[members].sum(0), rtol=0, atol=1e-9)
            assert bank.counts[row] == members.sum()
        moved += (bank.labels.sign() != targets.sign()).sum().item()
    assert moved > 0  # samples have changed sides


def test_evaluation_leaves_the_memory_alone(make_inputs):
    spec, targets = make_spec(make_inputs()), torch.linspace(-3, 3, 8).double()
    loss = started(spec, targets)
    run_epochs(loss, spec, targets, (1, 2))
    before = copy.deepcopy(loss.state_dict())
    loss.eval()
    loss(*make_case(spec, targets, torch.arange(8), torch.Generator().manual_seed(5)))
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_gradient_goes_to_the_predictions_alone(make_inputs):
    spec, targets = make_spec(make_inputs()), torch.linspace(-3, 3, 8).double()
    loss = started(spec, targets)
    run_epochs(loss, spec, targets, (1, 2))
    loss.on_epoch_start(3)
    representation, batch = make_case(spec, targets, torch.arange(5), torch.Generator().manual_seed(5))
    loss(representation, batch)["unimodal"].backward()
    assert all(value.grad.abs().sum() > 0 for value in representation.unimodal_predictions.values())
    assert representation.fused.grad is None
    assert all(x.values.grad is None for x in representation.encoded.values())


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_extreme_features_stay_finite(scale, make_inputs):
    """Among them equal features, whose relative distance is zero, and batches of one."""
    spec, targets = make_spec(make_inputs()), torch.linspace(-3, 3, 6)
    loss = SelfSupervisedLabels(spec, SelfSupervisedLabelsConfig())
    loss.on_fit_start(FitContext(6, targets, 9))
    for epoch in range(1, 6):
        loss.on_epoch_start(epoch)
        for index in torch.arange(6).split(1):
            fill = torch.full((1, 1, 1), scale)
            encoded = {m: Sequence.vector(fill[0].expand(1, field.width)) for m, field in spec.encoded.items()}
            predictions = {m: torch.ones(1, requires_grad=True) for m in spec.encoded}
            value = loss(
                Representation(targets[index], fill[0].expand(1, 5), encoded, unimodal_predictions=predictions), Batch(index, {}, targets[index])
            )
            assert value["unimodal"].isfinite()
    assert all(bank.labels.isfinite().all() for bank in loss.banks.values())


def test_labels_keep_to_the_data_sets_range(make_inputs):
    inputs = make_inputs(label_range=(-1.0, 1.0))
    spec, targets = make_spec(inputs), torch.linspace(-1, 1, 12).double()
    loss = started(spec, targets)
    run_epochs(loss, spec, targets, range(1, 5))
    assert max(bank.labels.abs().max() for bank in loss.banks.values()) == 1.0
    unknown = started(make_spec(make_inputs(label_range=None)), targets * 7)
    assert unknown.limits.tolist() == [-7.0, 7.0]


def test_what_cannot_work_is_refused(make_inputs):
    with pytest.raises(ValueError, match="needs 'unimodal_predictions', which"):
        SelfSupervisedLabels(RepresentationSpec(make_inputs(), 2, {"text": FieldSpec(2, False)}), SelfSupervisedLabelsConfig())
    with pytest.raises(ValueError, match="needs regression"):
        SelfSupervisedLabels(make_spec(make_inputs(task="classification")), SelfSupervisedLabelsConfig())


# Through the training loop.


def make_dataset():
    generator = np.random.default_rng(0)
    splits = {}
    for name, size in (("train", 37), ("valid", 11), ("test", 5)):
        factor = generator.normal(size=size)
        inputs = {}
        for m, width in (("text", 6), ("audio", 3)):
            mask = np.arange(4) < generator.integers(1, 5, size=(size, 1))
            inputs[m] = Modality(((generator.normal(size=(size, 4, width)) + factor[:, None, None]) * mask[..., None]).astype(np.float32), mask)
        splits[name] = Split(tuple(f"{name}{i}/0" for i in range(size)), inputs, np.clip(factor, -3, 3).astype(np.float32))
    return Dataset("toy", "regression", ("mae",), splits, "toy", (), (-3.0, 3.0), 7, {"simulated": True})


@pytest.fixture
def session(tmp_path):
    def make(folder, model, stop=lambda: False):
        value = {
            "name": "toy",
            "data": {"name": "mosi", "modalities": ["text", "audio"]},
            "model": model,
            "losses": [{"name": "self_supervised_labels"}],
            "metrics": ["mae"],
            "training": {"epochs": 5, "batch_size": 8, "optimizer": {"lr": 0.02}},
        }
        resolved, dataset = resolve(Document(value, {}), catalogue()), make_dataset()
        network = Network(resolved, dataset.input_spec(), 1)
        (tmp_path / folder).mkdir(exist_ok=True)

        def score(prediction, target):
            return {"mae": float(np.abs(prediction - target).mean())}

        protocol = Protocol(resolved.experiment.training, "l1", "mae", False, score, 1, tmp_path / folder, "fp", stop)
        return network, TensorSplit(dataset.splits["train"], torch.device("cpu")), TensorSplit(dataset.splits["valid"], torch.device("cpu")), protocol

    return make


@pytest.mark.parametrize("model", [{"name": "self_mm", **SMALL}, {"name": "misa", "width": 4, "feed_forward": 8}], ids=["self_mm", "misa"])
def test_a_stopped_run_goes_on_to_the_same_bits(model, session):
    whole, *rest = session("whole", model)
    progress = fit(whole, *rest)
    steps = iter(range(1, 1000))
    stopped, *rest = session("stopped", model, stop=lambda: next(steps) == 13)  # five steps per epoch: in the third
    with pytest.raises(Interrupted):
        fit(stopped, *rest)
    resumed, *rest = session("stopped", model)
    again = fit(resumed, *rest)
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())
    assert [entry["train"] for entry in again.history] == [entry["train"] for entry in progress.history]
    terms = [entry["train"]["self_supervised_labels.unimodal"] for entry in progress.history]
    assert terms[:2] == [0, 0]
    assert min(terms[2:]) > 0
