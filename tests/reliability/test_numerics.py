"""Degenerate data and numbers that overflow.

Every registered model, and every registered loss with a model that suits it, is trained by the worker on data and with options that stretch floating
point. A run ends as `failed` with its place and the next step, or with a score that an independent computation gives again: predictions from
``best.pt`` in double precision, metrics by other formulas from the stored predictions, the chosen epoch from the log.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import small_runs  # noqa: E402
import toy_parts  # noqa: E402
import toy_plugin  # noqa: E402
from mmbench.config import StandardizeConfig  # noqa: E402
from mmbench.data.dataset import Dataset, Modality, Split  # noqa: E402
from mmbench.data.transforms import standardize  # noqa: E402
from mmbench.diagnostics.opening import open_run  # noqa: E402
from mmbench.errors import ConfigError, DataError  # noqa: E402
from mmbench.metrics import PredictionError, collapsed, evaluate  # noqa: E402
from mmbench.plugins import catalogue  # noqa: E402
from mmbench.results.runs import read_predictions, read_result  # noqa: E402
from mmbench.training import step  # noqa: E402
from mmbench.training.encoders import prepare  # noqa: E402
from mmbench.training.network import Network  # noqa: E402
from mmbench.training.optim import _Adam  # noqa: E402
from mmbench.training.tensors import TensorSplit  # noqa: E402

pytestmark = pytest.mark.reliability
SPLITS = ("train", "valid", "test")
SIZES = (20, 8, 9)
DOUBLE, HALF = 1e-3, 0.1
"""How far predictions may be from those in double precision, as a part of the largest: made in float32, and under bf16."""

Change = Callable[[Dataset], Dataset]


def each(names: tuple[str, ...], change: Callable[[Split], Split]) -> Change:
    return lambda data: dataclasses.replace(data, splits={name: change(split) if name in names else split for name, split in data.splits.items()})


def inputs(change: Callable[[Modality], Modality], names: tuple[str, ...] = SPLITS, only: tuple[str, ...] = small_runs.MODALITIES) -> Change:
    def changed(split: Split) -> Split:
        return dataclasses.replace(split, inputs={name: change(part) if name in only else part for name, part in split.inputs.items()})

    return each(names, changed)


def scaled(factor: float, *only: str) -> Change:
    return inputs(lambda part: Modality(part.values * np.float32(factor), part.mask), only=only or small_runs.MODALITIES)


def with_value(value: float, split: str) -> Change:
    def change(part: Modality) -> Modality:
        values = part.values.copy()
        values[1, 0, 0] = value
        return Modality(values, part.mask)

    return inputs(change, (split,), ("audio",))


def masked(part: Modality, mask: np.ndarray) -> Modality:
    return Modality(np.where(mask[..., None], part.values, np.float32(0)), mask)


def first_frame(part: Modality) -> Modality:
    return masked(part, np.arange(part.mask.shape[1]) < np.ones((len(part.mask), 1)))


def constant(value: float) -> Callable[[Modality], Modality]:
    return lambda part: masked(Modality(np.full_like(part.values, value), part.mask), part.mask)


def of_length_one(part: Modality) -> Modality:
    return Modality(part.values[:, :1], np.ones_like(part.mask[:, :1]))


def one_is_long(part: Modality) -> Modality:
    """Sample 2 has 300 frames, all others one."""
    size, _, width = part.values.shape
    values = np.zeros((size, 300, width), np.float32)
    values[:, 0] = part.values[:, 0]
    values[2] = np.random.default_rng(0).normal(size=(300, width))
    return masked(Modality(values, part.mask), (np.arange(300) == 0) | (np.arange(size) == 2)[:, None])


def labels(value: float, *names: str) -> Change:
    return each(names or SPLITS, lambda split: dataclasses.replace(split, target=np.full_like(split.target, value)))


def nan_label(split: Split) -> Split:
    return dataclasses.replace(split, target=np.where(np.arange(len(split)) == 3, np.float32(np.nan), split.target))


@dataclasses.dataclass(frozen=True)
class Case:
    """What is done to data and options. `end`: the status that is certain, if one is; `says`: what the reason of a failed run must name."""

    fault: str
    change: Change = lambda data: data
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    end: str = ""
    says: str = ""
    sizes: tuple[int, int, int] = SIZES
    task: str = "regression"


DIVERGES = "lower the learning rate"
CASES = {
    "nan-feature": Case("NaN in a feature", with_value(np.nan, "train"), says="audio of 'train0/1' holds NaN or infinity"),
    "inf-feature": Case("infinity in a feature", with_value(np.inf, "train"), says="audio of 'train0/1' holds NaN or infinity"),
    "inf-valid": Case("infinity in a validation feature", with_value(np.inf, "valid"), {}, "failed", "audio of 'valid0/1' holds NaN or infinity"),
    "inf-test": Case("infinity in a test feature", with_value(-np.inf, "test"), end="failed", says="audio of 'test0/1' holds NaN or infinity"),
    "nan-label": Case("NaN in a label", each(("train",), nan_label), end="failed", says="the label of 'train1/3' is NaN or infinite"),
    "huge": Case("features of 1e30", scaled(1e30), says="standardise it"),
    "huge-text": Case("one modality of 1e30", scaled(1e30, "text"), says="standardise it"),
    "large": Case("features of 1e15", scaled(1e15), says="standardise it"),
    "tiny": Case("features of 1e-30", scaled(1e-30), end="done"),
    "zeros": Case("all features zero", scaled(0), end="done"),
    "zeros-text": Case("a modality of zeros", scaled(0, "text"), end="done"),
    "constant-features": Case("constant features", inputs(constant(2.5)), end="done"),
    "lr-1e3": Case("learning rate 1e3", training={"optimizer": {"lr": 1e3}}, says=DIVERGES),
    "lr-1e6": Case("learning rate 1e6", training={"optimizer": {"lr": 1e6}}, says=DIVERGES),
    "lr-1e6-clipped": Case("learning rate 1e6, clipped", training={"optimizer": {"lr": 1e6}, "clip_norm": 1.0}, says=DIVERGES),
    "lr-1e30-mse": Case("learning rate 1e30, squared loss", training={"optimizer": {"lr": 1e30}, "task_loss": "mse"}, says=DIVERGES),
    "bf16-huge": Case("features of 1e30 in bf16", scaled(1e30), {"precision": "bf16"}, says="standardise it"),
    "bf16-lr-1e6": Case("learning rate 1e6 in bf16", training={"precision": "bf16", "optimizer": {"lr": 1e6}}, says="training.precision to fp32"),
    "one-frame": Case("all masked but one frame", inputs(first_frame), end="done"),
    "length-one": Case("sequences of length one", inputs(of_length_one), end="done"),
    "one-is-long": Case("a long sequence beside single frames", inputs(one_is_long), end="done"),
    "constant-labels": Case("labels all equal", labels(1), end="done"),
    "constant-train-labels": Case("training labels all equal", labels(1, "train"), end="done"),
    "constant-valid-labels": Case(
        "selection by a metric that the labels leave undefined",
        labels(1, "valid"),
        {"select": "corr"},
        end="failed",
        says="'corr' was finite in no epoch (the 8 validation samples are all labelled 1)",
    ),
    "one-in-train": Case("one training sample", sizes=(1, 8, 9), end="done"),
    "one-batch": Case("one training batch", sizes=(8, 8, 9), end="done"),
    "last-of-one": Case("a last batch of one", sizes=(9, 8, 9), end="done"),
    "batch-of-one": Case("batches of one", training={"batch_size": 1}, end="done"),
    "one-in-valid": Case("one validation sample", sizes=(20, 1, 9), end="done"),
    "one-in-test": Case("one test sample", sizes=(20, 8, 1), end="done"),
    "one-class": Case("one class only", labels(1), task="classification", end="done"),
    "one-class-train": Case("one class in training", labels(2, "train"), task="classification", end="done"),
    "classes-huge": Case("features of 1e30, classes", scaled(1e30), task="classification", says="standardise it"),
    "classes-one-in-train": Case("one training sample, classes", sizes=(1, 8, 9), task="classification", end="done"),
    "classes-lr-1e6": Case("learning rate 1e6, classes", training={"optimizer": {"lr": 1e6}}, task="classification", says=DIVERGES),
}  # fmt: skip


def chosen(case: str, task: str, times: Callable[[int, int], int]) -> list[str]:
    """The labels of all pairs in the long form; in the short one some, which ones depends on the case, so that every pair meets some."""
    found = sorted(small_runs.pairs(task))
    count = times(1, len(found))
    first = zlib.crc32(case.encode())
    return found if count >= len(found) else [found[(first + i * 5) % len(found)] for i in range(count)]


@pytest.mark.parametrize("name", CASES)
def test_a_degenerate_case_fails_with_a_reason_or_scores_what_is_true(make_dataset, tmp_path, times, tally, name) -> None:
    case = CASES[name]
    dataset = case.change(make_dataset(case.task, case.sizes, small_runs.MODALITIES))
    for label in chosen(name, case.task, times):
        model, loss = small_runs.pairs(case.task)[label]
        resolved = small_runs.configured(model, loss, case.task, training=case.training)
        result = small_runs.execute(resolved, tmp_path / label, dataset)
        wrong = fault_of(result, small_runs.run_folder(resolved, dataset, tmp_path / label), resolved, dataset, case)
        print(f"{label}: {wrong or 'as it should be'}; {result['status']}: {result['reason']}")
        tally(case.fault, not wrong)


def fault_of(result: dict[str, Any], folder: Path, resolved: Any, dataset: Dataset, case: Case) -> str:
    """What is wrong with the end of a run; nothing where it is as promised."""
    if case.end and result["status"] != case.end:
        return f"ended as {result['status']}, not {case.end}"
    if read_result(folder).status != result["status"]:
        return "the record is not read as it was written"
    return unclear(result, folder, case.says) if result["status"] == "failed" else untrue(result, folder, resolved, dataset)


def unclear(result: dict[str, Any], folder: Path, says: str) -> str:
    """A run that failed names the place and the next step, and has no scores."""
    if "metrics" in result or (folder / "predictions.csv.gz").exists():
        return "a failed run was scored"
    if not says or says not in result["reason"]:
        return f"the reason does not say {says!r}"
    if not re.search(r"epoch \d|in no epoch", result["reason"]):
        return "the reason names no epoch"
    with pytest.raises(ConfigError, match="only a finished run can be opened"):
        open_run(folder)
    return ""


def untrue(result: dict[str, Any], folder: Path, resolved: Any, dataset: Dataset) -> str:
    """A run that is done has finite predictions of the chosen epoch's weights, and scores that follow from them."""
    stored = read_predictions(folder / "predictions.csv.gz")
    tolerance = HALF if resolved.experiment.training.precision == "bf16" else DOUBLE
    for split, exact in in_double(folder, resolved, dataset).items():
        ids, target, prediction = stored[split]
        if ids != dataset.splits[split].ids or not np.array_equal(target, dataset.splits[split].target):
            return f"{split}: other samples or labels"
        error = np.abs(prediction - exact).max() / max(1.0, np.abs(exact).max())
        if not (np.isfinite(prediction).all() and error < tolerance):
            return f"{split}: predictions are {error:.2g} from those in double precision"
        for name, value in again(prediction.astype(float), target, dataset.task).items():
            if not same(result["metrics"][split][name], value):
                return f"{split}: {name} is {result['metrics'][split][name]}, and {value} when computed again"
    _, target, prediction = stored["test"]
    flat = len(target) > 1 and (prediction.std(dtype=float) < 0.05 * target.std(dtype=float) or np.ptp(prediction) == 0)
    if dataset.task == "regression" and result["collapsed"] != bool(flat):
        return f"collapsed is {result['collapsed']}"
    epochs = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    values = [line["valid"][resolved.select] for line in epochs]
    best = values.index(min(values) if resolved.select == "mae" else max(values))
    if (result["selection"]["epoch"], result["selection"]["value"]) != (best + 1, values[best]):
        return f"epoch {result['selection']['epoch']} is chosen, the best is {best + 1}"
    return "" if same(values[best], result["metrics"]["valid"][resolved.select]) else "the scored weights are not those of the chosen epoch"


def in_double(folder: Path, resolved: Any, dataset: Dataset) -> dict[str, np.ndarray]:
    """Predictions of the weights in ``best.pt``, computed in float64."""
    network = Network(resolved, dataset.input_spec(), 1)
    network.load_state_dict(torch.load(folder / "best.pt", weights_only=True)["network"])
    network.double().eval()
    found = {}
    for name in ("valid", "test"):
        split = TensorSplit(dataset.splits[name], torch.device("cpu"))
        split.inputs = {modality: (values.double(), mask) for modality, (values, mask) in split.inputs.items()}
        with torch.no_grad():
            found[name] = torch.cat([network(batch).prediction for batch in split.batches(4)]).numpy()
    return found


def again(prediction: np.ndarray, target: np.ndarray, task: str) -> dict[str, float]:
    """Some metrics of each suite by NumPy's own functions."""
    if task == "classification":
        return {"wacc": np.count_nonzero(prediction.argmax(1) == target) / len(target)}
    defined = len(target) > 1 and np.ptp(prediction) > 0 and np.ptp(target) > 0
    size = np.abs(prediction).max()
    return {
        "mae": math.fsum(abs(p - y) for p, y in zip(prediction.tolist(), target.tolist(), strict=True)) / len(target),
        "corr": float(np.corrcoef(prediction / size, target)[0, 1]) if defined else math.nan,
    }


def same(found: float | None, expected: float) -> bool:
    """Equal but for rounding; a score without a value is written as null."""
    return math.isnan(expected) if found is None else math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9)


def linear(**sections: Any) -> Any:
    """The floor that is always there and has weights."""
    return small_runs.configured(next(entry for entry in catalogue().of_kind("model") if entry.component.name == "linear"), **sections)


def test_a_run_that_diverges_after_its_best_epoch_is_failed_and_stays_so(make_dataset, tmp_path, monkeypatch, tally) -> None:
    """Finite at first and best in epoch 1; in epoch 3 the loss is NaN. Neither a second attempt nor a reader takes the weights that are there."""
    dataset, resolved = make_dataset(sizes=SIZES, modalities=small_runs.MODALITIES), linear()
    folder, loss, calls = small_runs.run_folder(resolved, dataset, tmp_path), step.task_loss, []

    def diverging(name, prediction, target):
        calls.append(name)
        return loss(name, prediction, target) * (math.nan if len(calls) > 6 else 1.0)  # three batches an epoch

    monkeypatch.setattr(step, "task_loss", diverging)
    first = small_runs.execute(resolved, tmp_path, dataset)
    assert (folder / "best.pt").is_file()
    assert re.fullmatch(r"task became nan in epoch 3, after [\d.]+ in epoch 2; lower the learning rate or clip .*", first["reason"])
    tally("divergence after the best epoch", not unclear(first, folder, "epoch 3") and len((folder / "epochs.jsonl").read_text().splitlines()) == 2)
    (folder / "result.json").unlink()  # as if it had been killed before it could say so
    calls[:] = ["gone on from the last epoch that is written"] * (6 if (folder / "last.pt").is_file() else 0)
    second = small_runs.execute(resolved, tmp_path, dataset)
    tally(
        "divergence, tried once more",
        second["status"] == "failed" and "became nan in epoch" in second["reason"] and not unclear(second, folder, "epoch"),
    )


def test_a_loss_that_overflows_inside_the_optimizer_alone_fails_the_run(make_dataset, tmp_path, monkeypatch, tally) -> None:
    """Gradients of 1e25 are finite, and so are all losses; their squares are not, and Adam would stand still for good."""
    dataset, resolved, descend = make_dataset(sizes=SIZES, modalities=small_runs.MODALITIES), linear(), _Adam.step
    for fault, factor, says in (("second moments that overflow", 1e25, "exp_avg_sq"), ("weights lost in the last step", math.nan, "the weight")):

        def stretched(self, factor=factor):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad.mul_(factor)
            return descend(self)

        monkeypatch.setattr(_Adam, "step", stretched)
        once = linear(training={"epochs": 1, "batch_size": 100})
        result = small_runs.execute(once, tmp_path / fault, dataset)
        print(result["reason"])
        tally(
            fault,
            not unclear(result, small_runs.run_folder(once, dataset, tmp_path / fault), says)
            and "in epoch 1, with finite losses" in result["reason"],
        )
    monkeypatch.setattr(_Adam, "step", descend)
    assert small_runs.execute(resolved, tmp_path / "sound", dataset)["status"] == "done"


def test_a_loss_of_weight_zero_changes_no_byte(make_dataset, tmp_path, times, tally) -> None:
    dataset = make_dataset(sizes=SIZES, modalities=small_runs.MODALITIES)
    found = sorted((label, *pair) for label, pair in small_runs.pairs().items() if pair[1] is not None)
    for label, model, loss in found[:: times(7, 1)]:
        made = {}
        for name, resolved in (("with", small_runs.configured(model, loss, weight=0)), ("without", small_runs.configured(model))):
            small_runs.execute(resolved, tmp_path / label / name, dataset)
            made[name] = (small_runs.run_folder(resolved, dataset, tmp_path / label / name) / "predictions.csv.gz").read_bytes()
        tally("a loss of weight zero", made["with"] == made["without"])


def test_a_vanishing_learning_rate_leaves_the_weights(make_dataset, tmp_path, times, tally) -> None:
    dataset = make_dataset(sizes=SIZES, modalities=small_runs.MODALITIES)
    for label, (model, loss) in sorted(small_runs.pairs().items())[:: times(17, 1)]:
        resolved = small_runs.configured(model, loss, training={"optimizer": {"lr": 1e-44}})
        small_runs.execute(resolved, tmp_path / label, dataset)
        weights = torch.load(small_runs.run_folder(resolved, dataset, tmp_path / label) / "best.pt", weights_only=True)["network"]
        fresh = dict(Network(resolved, dataset.input_spec(), 1).named_parameters())
        lost = [name for name, value in fresh.items() if value.requires_grad and not torch.equal(value, weights[name]) and value.any()]
        print(label, lost)
        tally("learning rate 1e-44", not lost)


@pytest.mark.parametrize("power", [-90, 0, 60])
def test_standardised_features_forget_their_scale(make_dataset, tmp_path, tally, power) -> None:
    """A power of two is exact in floating point, so the z-scores, and all that follows, are the same to the last bit."""
    found = []
    for factor in (1.0, 2.0**power):
        dataset = scaled(factor)(make_dataset(sizes=SIZES, modalities=small_runs.MODALITIES))
        dataset = dataclasses.replace(dataset, splits=standardize(dataset.splits, StandardizeConfig()))
        small_runs.execute(linear(), tmp_path / str(factor), dataset)
        found.append((small_runs.run_folder(linear(), dataset, tmp_path / str(factor)) / "predictions.csv.gz").read_bytes())
    tally("standardised features of any scale", found[0] == found[1])


def test_columns_that_do_not_vary_are_zero_and_those_that_explode_are_named(make_dataset, tally) -> None:
    dataset = make_dataset(sizes=SIZES, modalities=small_runs.MODALITIES)
    splits = standardize(inputs(constant(1e30), ("train",))(dataset).splits, StandardizeConfig())
    tally("standardised constant features", not any(part.values.any() for split in splits.values() for part in split.inputs.values()))
    steep = each(("train",), lambda split: scaled(1e-36, "audio")(dataset).splits["train"])(dataset)
    steep = each(("test",), lambda split: scaled(1e30, "audio")(dataset).splits["test"])(steep)
    with pytest.raises(DataError, match=r"data.standardize: audio: column 0 and 2 more hardly vary in training, .* percentiles"):
        standardize(steep.splits, StandardizeConfig())
    tally("z-scores that overflow", True)
    clipped = standardize(steep.splits, StandardizeConfig(percentiles=(1, 99)))
    assert all(np.isfinite(part.values).all() for split in clipped.values() for part in split.inputs.values())


def test_an_encoder_that_gives_nan_is_named(make_dataset, tally, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path))
    encoder = toy_parts.Letters(toy_plugin.ToyExtractorConfig())
    encoder.weight[7, 0] = math.inf
    dataset = make_dataset(sizes=SIZES)
    ids = np.full((SIZES[0], 3), 5)
    ids[4:6, 1] = 7
    tokens = each(("train",), lambda split: dataclasses.replace(split, inputs={**split.inputs, "text": Modality(ids, np.ones_like(ids, bool))}))(
        dataset
    )
    for _ in range(2):  # it is not in the cache either
        with pytest.raises(
            DataError, match=r"toy train: text: the encoder gives NaN or infinite features for 2 of 20 samples, first of all number 5"
        ):
            prepare(tokens, ("train",), {"text": encoder}, torch.device("cpu"))
    tally("an encoder's NaN and infinity", True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_registered_metric_scores_what_is_not_finite(tally, value) -> None:
    for entry in catalogue().of_kind("metric"):
        name, classes = entry.component.name, entry.component.tasks == ("classification",)
        sound = np.eye(3)[[0, 1, 2, 0]] if classes else np.array([0.5, -1.0, 2.0, 0.0])
        target = np.array([0, 1, 2, 2]) if classes else np.array([1.0, -1.0, 0.5, 0.2])
        evaluate((name,), sound, target, metrics={name: entry.load()})
        bad = sound.copy()
        bad[(1, 0) if classes else 1] = value
        with pytest.raises(PredictionError, match=r"1 of .* predictions are NaN or infinite"):
            evaluate((name,), bad, target, metrics={name: entry.load()})
        tally("a metric of NaN or infinity", True)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_run_is_collapsed_just_below_five_percent(tally, size) -> None:
    target = np.random.default_rng(1).normal(size=100)
    for factor, expected in ((0.05 * (1 - 1e-9), True), (0.05 * (1 + 1e-9), False)):
        tally("collapse at its border", collapsed(factor * target * size + 3 * size, target * size, "regression") == expected)
    tally("collapse to a constant", collapsed(np.full(100, size), target * size, "regression"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimizer": {"lr": 0}}, "training.optimizer.lr"),
        ({"optimizer": {"lr": math.inf}}, "training.optimizer.lr"),
        ({"optimizer": {"lr": math.nan}}, "training.optimizer.lr"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, "training.optimizer.betas"),
        ({"optimizer": {"weight_decay": math.inf}}, "training.optimizer.weight_decay"),
        ({"clip_norm": 0}, "training.clip_norm"),
        ({"clip_value": math.nan}, "training.clip_value"),
    ],
    ids=["lr-0", "lr-inf", "lr-nan", "betas", "decay-inf", "clip-0", "clip-nan"],
)
def test_options_without_a_meaning_are_refused(tally, options, says) -> None:
    with pytest.raises(ConfigError, match=rf"(?m){re.escape(says)}\S*: must"):
        linear(training=options)
    tally("an option that no training has", True)
