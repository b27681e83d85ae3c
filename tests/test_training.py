"""The protocol of one run: what is learned, what is the same again, what is refused."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmbench.config import OptimizerConfig, PlateauConfig, WarmupCosineConfig  # noqa: E402
from mmbench.errors import ConfigError, RunError  # noqa: E402
from mmbench.metrics import METRICS, evaluate  # noqa: E402
from mmbench.training import checkpoint, loop  # noqa: E402
from mmbench.training.finite import Finite  # noqa: E402
from mmbench.training.loop import Interrupted, Protocol, fit, predict  # noqa: E402
from mmbench.training.network import Network, weight_at  # noqa: E402
from mmbench.training.optim import Schedule, build_optimizer  # noqa: E402
from mmbench.training.seeds import derive, in_buckets, order  # noqa: E402
from mmbench.training.tensors import TensorSplit, extent  # noqa: E402
from mmbench.worker import _reason  # noqa: E402

CPU = torch.device("cpu")
LOSSES = [{"name": "pull", "weight": {"near": 0.1, "far": 0.05}}, {"name": "unimodal", "weight": 0.2}]


@pytest.fixture
def session(toy_config, make_dataset, tmp_path):
    """Builds network, data and protocol of a run; `folder` names the run folder, so that a second session can resume the first."""

    def make(task="regression", folder="run", seed=1, stop=lambda: False, sizes=(37, 11, 13), **sections):
        dataset = make_dataset(task, sizes)
        if task == "classification":
            sections = {"data": {"name": "iemocap", "modalities": ["text", "audio"]}, "metrics": ["wacc", "waf1"], **sections}
        resolved = toy_config(**sections)
        network = Network(resolved, dataset.input_spec(), seed)
        higher = resolved.select != "loss" and METRICS[resolved.select].higher_is_better

        def score(prediction, target):
            return evaluate(dataset.metrics, prediction, target, dataset.classes)

        (tmp_path / folder).mkdir(exist_ok=True)
        training = resolved.experiment.training
        protocol = Protocol(training, resolved.task_loss, resolved.select, higher, score, seed, tmp_path / folder, "fp", stop)
        return network, TensorSplit(dataset.splits["train"], CPU), TensorSplit(dataset.splits["valid"], CPU), protocol

    return make


def weights(network) -> dict:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_it_learns(session, task) -> None:
    network, train, valid, protocol = session(task, losses=LOSSES, training={"epochs": 12, "batch_size": 8, "optimizer": {"lr": 0.02}})
    progress = fit(network, train, valid, protocol)
    first, best = progress.history[0]["valid"], progress.history[progress.best_epoch - 1]["valid"]
    assert best["loss"] < 0.8 * first["loss"]
    assert progress.best == best[protocol.select]
    terms = set(progress.history[0]["train"])
    assert {"task", "pull.near", "pull.far", "unimodal.unimodal", "pull.spread", "gradient.task", "gradient.pull.near"} <= terms
    assert all(entry["train"]["gradient.task"] > 0 for entry in progress.history)


def test_one_seed_is_the_same_again_and_another_is_not(session) -> None:
    runs = {}
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        network, *rest = session(folder=folder, seed=seed, losses=LOSSES)
        fit(network, *rest)
        runs[folder] = weights(network)
    assert same(runs["a"], runs["b"])
    assert not same(runs["a"], runs["c"])


@pytest.mark.parametrize("pause", [0.0, 1e9])
@pytest.mark.parametrize("stop_after", [1, 3, 7, 12, 15])
def test_a_stopped_run_goes_on_to_the_same_bits(session, stop_after, pause, monkeypatch) -> None:
    """Five steps per epoch: the run is stopped inside the first epoch, inside a later one, and at the end of one.

    Each epoch is written, or the first and the last alone.
    """
    monkeypatch.setattr(checkpoint, "PAUSE", pause)
    sections = {
        "losses": LOSSES,
        "training": {"epochs": 4, "batch_size": 8, "optimizer": {"lr": 0.02}, "scheduler": {"name": "plateau", "patience": 0, "factor": 0.5}},
    }
    network, *rest = session(folder="whole", **sections)
    whole = fit(network, *rest)
    steps = iter(range(1, 1000))
    stopped, *rest = session(folder="stopped", stop=lambda: next(steps) == stop_after, **sections)
    with pytest.raises(Interrupted):
        fit(stopped, *rest)
    resumed, *rest = session(folder="stopped", **sections)
    again = fit(resumed, *rest)
    assert same(weights(network), weights(resumed))
    strip = [{key: value for key, value in entry.items() if key != "seconds"} for entry in again.history]
    assert strip == [{key: value for key, value in entry.items() if key != "seconds"} for entry in whole.history]


def test_what_waits_for_the_next_writing(session, monkeypatch) -> None:
    """The first epoch is written at once; the chosen one is kept as it was when it ended, and stands in its file at the end."""
    network, train, valid, protocol = session(training={"epochs": 4, "batch_size": 8, "optimizer": {"lr": 0.02}})
    values, seen, saved, files = iter([3.0, 1.0, 2.0, 2.0]), [], [], []

    def score(prediction, target):
        seen.append(weights(network))
        return {"mae": next(values), "corr": 0.0}

    monkeypatch.setattr(checkpoint, "PAUSE", 1e9)
    protocol.score = score
    protocol.on_saved = lambda history: saved.append(len(history))
    protocol.on_epoch = lambda history: files.append(torch.load(protocol.folder / "last.pt", weights_only=True)["progress"]["epoch"])
    fit(network, train, valid, protocol)
    assert (saved, files) == ([1, 4], [1, 1, 1, 1])
    assert same(weights(network), seen[1])
    assert same(torch.load(protocol.folder / "best.pt", weights_only=True)["network"], seen[1])
    last = torch.load(protocol.folder / "last.pt", weights_only=True)
    assert same(last["network"], seen[3])
    assert last["progress"]["best_epoch"] == 2


def test_a_crash_between_the_two_files_goes_on_to_the_same_bits(session, monkeypatch) -> None:
    """``best.pt`` of a later epoch than ``last.pt``: the later epoch is trained again, and chosen again."""
    sections = {"losses": LOSSES, "training": {"epochs": 3, "batch_size": 8, "optimizer": {"lr": 0.02}}}
    whole, *rest = session(folder="whole", **sections)
    fit(whole, *rest)
    monkeypatch.setattr(checkpoint, "PAUSE", 0)
    save, crashed = checkpoint._save, session(folder="crashed", **sections)

    def dying(path, state):
        if path.name == "last.pt" and state["progress"]["epoch"] == 2:
            raise KeyboardInterrupt
        save(path, state)

    monkeypatch.setattr(checkpoint, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(*crashed)
    monkeypatch.setattr(checkpoint, "_save", save)
    resumed, *rest = session(folder="crashed", **sections)
    (rest[-1].folder / ".last.pt.7.tmp").touch()  # it had begun to write
    fit(resumed, *rest)
    assert same(weights(whole), weights(resumed))
    assert {path.name for path in rest[-1].folder.iterdir()} == {"best.pt", "last.pt"}


def test_chosen_weights_of_a_killed_attempt_are_not_those_of_another_epoch(session, monkeypatch) -> None:
    """Killed between the files, then other numbers (another device, say): the epoch in ``best.pt`` is not chosen this time."""
    monkeypatch.setattr(checkpoint, "PAUSE", 0)
    save = checkpoint._save

    def attempt(values, saving):
        network, train, valid, protocol = session(training={"epochs": 3, "batch_size": 8})
        numbers = iter(values)
        protocol.score = lambda prediction, target: {"mae": next(numbers), "corr": 0.0}
        monkeypatch.setattr(checkpoint, "_save", saving)
        fit(network, train, valid, protocol)

    def dying(path, state):
        if path.name == "last.pt" and state["progress"]["epoch"] == 2:
            raise KeyboardInterrupt
        save(path, state)

    with pytest.raises(KeyboardInterrupt):
        attempt([3.0, 1.0], dying)
    with pytest.raises(RunError, match=r"best.pt: holds epoch 2 of an attempt that was killed, not the chosen 1; .*--rerun failed"):
        attempt([4.0, 5.0], save)


def test_deterministic_runs_fill_no_new_memory() -> None:
    code = "import torch; from mmbench.training.seeds import make_deterministic; make_deterministic(1); print(torch.empty(1000).isnan().all().item())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_loss_changes_neither_initial_weights_nor_order(session) -> None:
    plain, train, _, protocol = session()
    rich, *_ = session(losses=LOSSES)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, rich.model.state_dict()[name])
    assert torch.equal(order(1, 2, train.size), order(1, 2, train.size))
    assert not torch.equal(order(1, 2, train.size), order(1, 3, train.size))
    assert sorted(order(protocol.seed, 1, train.size).tolist()) == list(range(train.size))
    assert derive(1, "a") != derive(1, "b") != derive(2, "b")


def test_accumulation_equals_one_large_batch(session) -> None:
    """37 samples: three groups of two batches of 6 and a last, shorter one; losses that compare samples are left out."""
    base = {"epochs": 2, "optimizer": {"name": "adam", "lr": 0.01}}
    model = {"name": "toy", "dropout": 0.0}
    large, *rest = session(folder="large", model=model, training={**base, "batch_size": 12, "clip_norm": 0.1})
    fit(large, *rest)
    small, *rest = session(folder="small", model=model, training={**base, "batch_size": 6, "accumulation": 2, "clip_norm": 0.1})
    fit(small, *rest)
    for name, value in large.state_dict().items():
        torch.testing.assert_close(value, small.state_dict()[name], msg=name, rtol=1e-4, atol=1e-6)


def test_a_non_finite_loss_fails_the_run_and_names_the_term(session) -> None:
    network, *rest = session(model={"name": "toy", "explode_at_step": 7})
    with pytest.raises(RunError, match="task became nan in epoch 2"):
        fit(network, *rest)


def test_a_loss_that_is_not_finite_for_one_sample_is_named_with_that_sample(session, monkeypatch) -> None:
    network, train, *rest = session(losses=LOSSES, training={"batch_size": 6})  # 37 samples
    forward = lambda self, _, batch: dict.fromkeys(self.terms, self.scale / (len(batch.index) - 1))  # noqa: E731
    monkeypatch.setattr(type(network.losses["pull"]), "forward", forward)
    with pytest.raises(RunError, match=r"and so did .*one batch of each epoch has one sample: does `mmbench test` find pull finite"):
        fit(network, train, *rest)


def test_an_exception_in_a_component_is_told_with_its_place(session, monkeypatch) -> None:
    network, train, *_ = session(losses=LOSSES)
    monkeypatch.setattr(type(network.losses["pull"]), "forward", lambda *_: torch.nn.Linear(2, 2)(torch.zeros(3)))
    batch = train.batch(torch.arange(4))
    with pytest.raises(RuntimeError) as raised:
        network.terms(network(batch), batch, 1)
    assert re.search(
        r"RuntimeError: .*shapes.* \(test_training.py, line \d+, in <lambda>; the traceback is in the run's log.txt\)$", _reason(raised.value)
    )


def test_a_selection_metric_that_is_never_finite_fails_the_run(session) -> None:
    network, train, valid, protocol = session(metrics=["mae", "corr"], training={"epochs": 2, "select": "corr"})
    protocol.score = lambda prediction, target: {"mae": 1.0, "corr": math.nan}
    with pytest.raises(RunError, match="'corr' was finite in no epoch"):
        fit(network, train, valid, protocol)


def test_the_best_epoch_is_chosen_and_early_stopping_counts_from_it(session) -> None:
    network, train, valid, protocol = session(training={"epochs": 10, "early_stopping": 2, "optimizer": {"lr": 0.01}})
    values = iter([3.0, 1.0, 2.0, 1.0, 0.5])
    seen = []

    def score(prediction, target):
        seen.append(prediction)
        return {"mae": next(values), "corr": 0.0}

    protocol.score = score
    progress = fit(network, train, valid, protocol)
    assert (progress.best_epoch, progress.epoch, progress.best) == (2, 4, 1.0)
    np.testing.assert_array_equal(predict(network, valid, protocol.training)[0], seen[1])


def test_weights_of_zero_are_not_computed_and_warmups_grow(session) -> None:
    network, train, *_ = session(losses=[{"name": "pull", "weight": {"near": {"value": 0.4, "warmup": 4}, "far": 0}}])
    batch = train.batch(torch.arange(4))
    representation = network(batch)
    assert set(network.terms(representation, batch, 1)) == {"pull.near"}
    assert network.losses["pull"].active == frozenset({"near"})
    first, last = (network.terms(representation, batch, epoch)["pull.near"].item() for epoch in (1, 4))
    assert first == pytest.approx(last / 4)
    assert [weight_at((0.4, 4), epoch) for epoch in (1, 2, 4, 9)] == pytest.approx([0.1, 0.2, 0.4, 0.4])


@pytest.mark.parametrize("returned", [(), ("nearer", "far"), ("near", "far", "more")])
def test_terms_that_a_loss_does_not_declare_are_not_left_out_of_training_silently(session, monkeypatch, returned) -> None:
    network, train, *_ = session(losses=LOSSES)
    monkeypatch.setattr(type(network.losses["pull"]), "forward", lambda *_: {term: torch.zeros(()) for term in returned})
    batch = train.batch(torch.arange(4))
    with pytest.raises(RunError, match=f"'pull' returned {', '.join(map(repr, returned)) or 'no term'}; its component declares 'near', 'far'"):
        network.terms(network(batch), batch, 1)


def test_losses_see_training_batches_only(session) -> None:
    network, train, valid, protocol = session(losses=LOSSES)
    fit(network, train, valid, protocol)
    pull = network.losses["pull"]
    assert pull.epochs == [1, 2, 3, 4]
    best = checkpoint.load_checkpoint(protocol.folder / "last.pt", "fp", network)
    assert best["epoch"] == 4
    assert pull.seen.item() == 4 * train.size


def test_parameter_groups_and_their_rates(session) -> None:
    network, *_ = session(losses=LOSSES)
    groups = network.groups()
    assert list(groups) == ["head", "model", "losses.pull", "adapters"]
    assert sum(len(group) for group in groups.values()) == sum(p.requires_grad for p in network.parameters())
    optimizer = build_optimizer(OptimizerConfig(lr=0.1, groups={"head": {"lr": 0.5}, "losses.pull": {"weight_decay": 0.3}}), groups)
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates == {"head": (0.5, 0.0), "model": (0.1, 0.0), "losses.pull": (0.1, 0.3), "adapters": (0.1, 0.0)}
    empty = build_optimizer(OptimizerConfig(groups={"vision": {"lr": 0.5}}), groups | {"vision": []})
    assert [group["name"] for group in empty.param_groups] == list(groups)
    with pytest.raises(ConfigError, match=r"no parameter group 'haed'\. Did you mean 'head'"):
        build_optimizer(OptimizerConfig(groups={"haed": {}}), groups)


def test_schedules() -> None:
    def optimizer():
        return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 2.0, "name": "a"}])

    cosine = Schedule(WarmupCosineConfig(name="warmup_cosine", warmup=0.2), optimizer(), steps=10)
    rates = []
    for _ in range(10):
        cosine.before_step()
        rates.append(cosine.optimizer.param_groups[0]["lr"])
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[2:] == pytest.approx([1 + math.cos(math.pi * i / 8) for i in range(8)])
    plateau = Schedule(PlateauConfig(name="plateau", patience=1, factor=0.5), optimizer(), steps=10)
    oracle_optimizer = optimizer()
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(oracle_optimizer, patience=1, factor=0.5, threshold=0)
    best = math.inf
    for value in (3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 1.0, 4.0, 4.0, 4.0):
        plateau.after_epoch(value < best)
        best = min(best, value)
        oracle.step(value)
        plateau.before_step()
        assert plateau.optimizer.param_groups[0]["lr"] == oracle_optimizer.param_groups[0]["lr"]


def test_bf16_trains_and_predicts_in_float32(session) -> None:
    network, train, valid, protocol = session(losses=LOSSES, training={"epochs": 2, "precision": "bf16"})
    fit(network, train, valid, protocol)
    assert predict(network, valid, protocol.training)[0].dtype == np.float32


def test_batches_are_cut_after_their_longest_sample(make_dataset) -> None:
    split = make_dataset().splits["train"]
    tensors = TensorSplit(split, CPU)
    for index in torch.arange(37).split(5):
        batch = tensors.batch(index)
        for name, sequence in batch.inputs.items():
            longest = split.inputs[name].mask[index.numpy()].sum(1).max()
            assert sequence.values.shape[1] == longest
            np.testing.assert_array_equal(sequence.values.numpy(), split.inputs[name].values[index.numpy(), :longest])
    holes = np.array([[False, True, False], [False, False, False], [True, False, True]])
    assert extent(holes).tolist() == [2, 0, 3]


def test_buckets_hold_samples_of_like_length_each_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 103)
    samples = order(3, 1, 103)
    found = in_buckets(samples, lengths, 8, 4, 3, 1)
    assert sorted(found.tolist()) == list(range(103))
    assert torch.equal(found, in_buckets(samples, lengths, 8, 4, 3, 1))
    assert not torch.equal(found, in_buckets(samples, lengths, 8, 4, 4, 1))
    spread = [np.ptp(lengths[part.numpy()]) for part in found.split(8)]
    assert np.mean(spread) < 18 < np.mean([np.ptp(lengths[part.numpy()]) for part in samples.split(8)])
    pools = [set(part.tolist()) for part in samples.split(32)]
    assert all(sum(set(part.tolist()) <= pool for pool in pools) == 1 for part in found.split(8))
    means = [lengths[part.numpy()].mean() for part in found.split(8)[:-1]]
    assert means != sorted(means)  # not from the shortest to the longest


def test_training_takes_its_batches_from_buckets(session, monkeypatch) -> None:
    parts = session(training={"epochs": 1, "batch_size": 4, "buckets": 3})
    seen, train = [], parts[1]
    batches = train.batches
    monkeypatch.setattr(train, "batches", lambda size, order, **options: seen.append(order) or batches(size, order, **options))
    fit(*parts)
    expected = in_buckets(order(1, 1, train.size), sum(train.extents.values()), 4, 3, 1, 1)
    assert torch.equal(seen[0], expected)


def test_predictions_do_not_depend_on_batch_size(session) -> None:
    network, _, valid, protocol = session()
    one = predict(network, valid, protocol.training.model_copy(update={"batch_size": 1}))[0]
    all_at_once = predict(network, valid, protocol.training.model_copy(update={"batch_size": 500}))[0]
    np.testing.assert_allclose(one, all_at_once, rtol=1e-5, atol=1e-6)


def test_a_damaged_or_foreign_checkpoint_is_named(session, tmp_path) -> None:
    network, train, valid, protocol = session()
    fit(network, train, valid, protocol)
    path = protocol.folder / "best.pt"
    with pytest.raises(RunError, match="belongs to the experiment fp, not other"):
        checkpoint.load_checkpoint(path, "other", network)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"best.pt: the checkpoint cannot be read"):
        checkpoint.load_checkpoint(path, "fp", network)


def test_an_epochs_log_is_plain_json(session) -> None:
    network, *rest = session(losses=LOSSES)
    progress = fit(network, *rest)
    assert json.loads(json.dumps(progress.history)) == progress.history


def test_the_loop_names_no_test_split() -> None:
    """Training code is handed two splits; nothing in its module could reach a third."""
    source = Path(loop.__file__).read_text()
    assert "splits" not in source.replace("validation splits", "")
    assert "dataset" not in source


def test_a_parameter_that_no_module_holds_is_looked_at_too(session) -> None:
    network, train, _, protocol = session()
    parameters = [*network.parameters(), *(torch.nn.Parameter(torch.tensor([value])) for value in (math.inf, 1.0))]
    optimizer = build_optimizer(OptimizerConfig(), {"model": parameters})
    with pytest.raises(RunError, match=rf"^the weight {len(parameters) - 2} of model became NaN or infinite in epoch 1"):
        Finite(network, optimizer, train, protocol.training).check({}, [], 1)
