"""What only a GPU can show. Skipped, with the reason, where there is none."""

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import small_runs  # noqa: E402
import toy_parts  # noqa: E402
from mmbench.component import FitContext  # noqa: E402
from mmbench.training.capture import CapturedStep  # noqa: E402
from mmbench.training.loop import Protocol, fit, predict  # noqa: E402
from mmbench.training.network import Network  # noqa: E402
from mmbench.training.optim import Schedule, build_optimizer  # noqa: E402
from mmbench.training.seeds import seed_everything  # noqa: E402
from mmbench.training.step import Step  # noqa: E402
from mmbench.training.tensors import TensorSplit  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
LOSSES = [{"name": "pull", "weight": 0.1}, {"name": "unimodal", "weight": 0.2}]


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_the_gpu_gives_what_the_cpu_gives(toy_config, make_dataset, tmp_path, precision: str, compile: bool) -> None:
    dataset = make_dataset()
    training = {"epochs": 3, "batch_size": 8, "optimizer": {"lr": 0.01}, "precision": precision, "compile": compile}
    resolved = toy_config(losses=LOSSES, model={"name": "toy", "dropout": 0.0}, training=training)
    found = {}
    for name in ("cpu", "cuda"):
        device = torch.device(name)
        network = Network(resolved, dataset.input_spec(), 1).to(device)
        folder = tmp_path / name
        folder.mkdir()
        protocol = Protocol(resolved.experiment.training, "l1", "mae", False, lambda p, t: {"mae": float(abs(p - t).mean())}, 1, folder, "fp")
        train, valid = (TensorSplit(dataset.splits[split], device) for split in ("train", "valid"))
        assert train.on_device
        fit(network, train, valid, protocol)
        found[name] = torch.from_numpy(predict(network, valid, protocol.training)[0])
    tolerance = 1e-4 if precision == "fp32" else 0.1
    torch.testing.assert_close(found["cuda"], found["cpu"], atol=tolerance, rtol=tolerance)


def test_no_step_waits_for_the_device(toy_config, make_dataset) -> None:
    """A training step under torch's own detector of synchronising calls."""
    resolved = toy_config(losses=LOSSES)
    device = torch.device("cuda")
    dataset = make_dataset()
    network = Network(resolved, dataset.input_spec(), 1).to(device)
    train = TensorSplit(dataset.splits["train"], device)
    network.train()
    batches = train.batches(8)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = next(batches)
        representation = network(batch)
        total = sum(network.terms(representation, batch, 1).values())
        total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def steps_of(resolved, dataset) -> tuple[Network, Step, list]:
    """A network with its steps, and the batches of an epoch."""
    training, device = resolved.experiment.training, torch.device("cuda")
    network = Network(resolved, dataset.input_spec(), 1).to(device).train()
    train = TensorSplit(dataset.splits["train"], device)
    network.on_fit_start(FitContext(train.size, train.target, 3))
    optimizer = build_optimizer(training.optimizer, network.groups())
    parts = network, optimizer, Schedule(None, optimizer, 100), training, "l1", train.size
    step = CapturedStep(*parts, device=device) if training.compile else Step(*parts)
    return network, step, list(train.batches(training.batch_size, fixed=True))


def take(step: Step, batches: list, epoch: int) -> dict[str, float]:
    """An epoch, inside of which nothing may wait for the device from the third on."""
    seed_everything(1, "dropout", epoch)
    with step.begin(epoch):
        torch.cuda.set_sync_debug_mode("error" if epoch > 2 else "default")
        try:
            for batch in batches:
                step([batch], len(batch.index))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return step.totals()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_give_what_eager_steps_give_and_nothing_waits(toy_config, make_dataset, precision: str) -> None:
    """The same batches with the same dropout: a graph draws the random numbers that an eager step would draw."""
    found = {}
    for compiled in (False, True):
        training = {"epochs": 6, "batch_size": 8, "optimizer": {"lr": 2**-10}, "precision": precision, "compile": compiled}
        network, step, batches = steps_of(toy_config(losses=LOSSES, training=training), make_dataset())
        totals = [take(step, batches, epoch) for epoch in range(1, 7)]
        found[compiled] = totals, torch.cat([p.detach().flatten() for p in network.model.parameters()])
        assert step.note().startswith("captured in ") == compiled
    tolerance = 1e-4 if precision == "fp32" else 0.05
    for eager, captured in zip(found[False][0], found[True][0], strict=True):
        assert captured == pytest.approx(eager, rel=10 * tolerance, abs=tolerance)
    torch.testing.assert_close(found[True][1], found[False][1], atol=tolerance, rtol=tolerance)


def test_a_graph_is_one_launch(toy_config, make_dataset) -> None:
    from torch.profiler import ProfilerActivity, profile

    launches = {}
    for compiled in (False, True):
        _, step, batches = steps_of(toy_config(losses=LOSSES, training={"batch_size": 8, "compile": compiled}), make_dataset())
        for epoch in (1, 2, 3):
            take(step, batches, epoch)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            take(step, batches, 4)
        names = [event.name for event in profiler.events()]
        assert ("cudaGraphLaunch" in names) == compiled
        launches[compiled] = sum(name.startswith(("cudaLaunchKernel", "cuLaunchKernel")) for name in names)
    assert launches[True] < launches[False]


def test_a_step_that_waits_is_not_captured_and_says_where(toy_config, make_dataset, monkeypatch) -> None:
    forward = toy_parts.Pull.forward
    monkeypatch.setattr(toy_parts.Pull, "forward", lambda self, *given: (self.seen.item(), forward(self, *given))[1])
    _, step, batches = steps_of(toy_config(losses=LOSSES, training={"batch_size": 8, "compile": True}), make_dataset())
    take(step, batches, 1)
    assert step.note().startswith("not captured: a step waits for the device at test_gpu.py:")


def test_deterministic_runs_give_the_same_bytes_twice(tmp_path) -> None:
    """Every registered model and loss under ``training.deterministic``, in two processes; what has no deterministic kernel says so both times."""
    found = []
    for name in ("first", "second"):
        command = [sys.executable, small_runs.__file__, str(tmp_path / name), "--device", "cuda", "--strict"]
        found.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert found[0] == found[1]
    print({label: made["reason"] for label, made in found[0].items() if "reason" in made})
    assert any("predictions.csv.gz" in made for made in found[0].values())
