"""`training.compile`: replayed steps give what steps taken one by one give. CUDA graphs are stood in for by a recorder of torch's operations.

Like a graph, a recording repeats the same operations on the same memory, and no Python; what waits for the device is an error in it.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import toy_parts  # noqa: E402
from mmbench.errors import RunError  # noqa: E402
from mmbench.plugins import catalogue  # noqa: E402
from mmbench.resolve import Resolved, resolve  # noqa: E402
from mmbench.strict_yaml import Document  # noqa: E402
from mmbench.training import capture  # noqa: E402
from mmbench.training.loop import Interrupted, Progress, Protocol, fit  # noqa: E402
from mmbench.training.network import Network  # noqa: E402
from mmbench.training.step import Step  # noqa: E402
from mmbench.training.tensors import TensorSplit  # noqa: E402

CPU = torch.device("cpu")
WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
MODELS = [entry for entry in catalogue().of_kind("model") if not entry.component.floor and "tokens" not in entry.component.needs]
RECORD = capture.record
LOSSES = [{"name": "pull", "weight": {"near": {"value": 0.3, "warmup": 3}, "far": 0.05}}, {"name": "unimodal", "weight": 0.2}]


class Recorder(TorchDispatchMode):
    """Takes down every operation with its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list, bool]] = []
        self.overwritten: list[tuple[Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in WAITS:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        given = dict(zip([argument.name for argument in func._schema.arguments], args, strict=False)) | kwargs
        for argument in func._schema.arguments:
            if argument.alias_info and argument.alias_info.is_write and argument.name in given:
                self.overwritten += [(value, value.detach().clone()) for value in _leaves(given[argument.name])]
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, _new(func, result), torch.is_grad_enabled()))
        return result

    def replay(self) -> None:
        for func, args, kwargs, results, learning in self.calls:
            with torch._C._AutoDispatchBelowAutograd(), torch.set_grad_enabled(learning):  # some kernels look whether gradients are wanted
                for kept, new in zip(results, _new(func, func(*args, **kwargs)), strict=True):
                    kept.copy_(new)


def _leaves(value) -> list:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _new(func, result) -> list:
    """The results that are memory of their own, not that of an argument."""
    results = result if len(func._schema.returns) != 1 else (result,)
    pairs = zip(func._schema.returns, results or (), strict=True)
    return [leaf for returned, value in pairs if not returned.alias_info for leaf in _leaves(value)]


def recorded(body, stream, pool):
    """In place of `capture.record`: as it, it does not do what it records."""
    randomness = torch.get_rng_state()
    recorder = Recorder()
    with recorder:
        body()
    with torch.no_grad():
        for tensor, before in reversed(recorder.overwritten):
            tensor.copy_(before)
    torch.set_rng_state(randomness)
    return recorder.replay


@pytest.fixture
def run(make_dataset, tmp_path, monkeypatch):
    """Trains a resolved config, with recordings or without; both get batches of fixed lengths, so that they draw the same random numbers."""
    monkeypatch.setattr(capture, "record", recorded)
    monkeypatch.setattr(Step, "fixed", True)

    def train(resolved: Resolved, compiled: bool, folder: str = "", stop=lambda: False, sizes=(25, 5, 5)) -> tuple[Network, Progress]:
        dataset = make_dataset("regression", sizes, modalities=tuple(resolved.modalities))
        network = Network(resolved, dataset.input_spec(), 1)
        place = tmp_path / (folder or f"{compiled}")
        place.mkdir(exist_ok=True)
        training = resolved.experiment.training.model_copy(update={"compile": compiled})
        protocol = Protocol(training, resolved.task_loss, "mae", False, lambda p, t: {"mae": float(abs(p - t).mean())}, 1, place, "fp", stop)
        return network, fit(network, TensorSplit(dataset.splits["train"], CPU), TensorSplit(dataset.splits["valid"], CPU), protocol)

    return train


def assert_same(one: tuple[Network, Progress], other: tuple[Network, Progress], tolerance: float = 1e-5) -> None:
    for name, value in one[0].state_dict().items():
        torch.testing.assert_close(other[0].state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")
    assert len(one[1].history) == len(other[1].history)
    for first, second in zip(one[1].history, other[1].history, strict=True):
        assert {**first, "seconds": 0, "train": 0, "valid": 0} == {**second, "seconds": 0, "train": 0, "valid": 0}
        for part in ("train", "valid"):
            assert second[part] == pytest.approx(first[part], rel=10 * tolerance, abs=tolerance)


def resolved_of(model, losses) -> Resolved:
    sections = [{"name": entry.key, **entry.component.small} for entry in (model, *losses)]
    data = {"name": "mosi", "modalities": ["text", "audio", "vision"]}
    training = {
        "epochs": 2 if losses else 1,
        "batch_size": 4,
        "accumulation": 2,
        "clip_norm": 0.5,
        "optimizer": {"lr": 2**-10},
    }  # a rate that float32 has
    return resolve(Document({"name": "captured", "data": data, "model": sections[0], "losses": sections[1:], "training": training}, {}), catalogue())


def shipped() -> list[Any]:
    """Each model alone, and with the first that takes it each loss."""
    cases = [pytest.param(model, (), id=model.component.name) for model in MODELS]
    taken: dict[str, list[Any]] = {}
    for loss in catalogue().of_kind("loss"):
        model = next(model for model in reversed(MODELS) if not resolved_of(model, [loss]).fit.refusals)
        taken.setdefault(model.key, []).append(loss)
    return cases + [pytest.param(model, tuple(taken[model.key]), id=f"{model.component.name}-losses") for model in MODELS if model.key in taken]


@pytest.mark.parametrize(("model", "losses"), shipped())
def test_every_shipped_method_can_be_captured(run, monkeypatch, model, losses) -> None:
    """Where a method, or torch, looks at values on a CPU alone, they do as on a GPU here."""
    for name in ("mmbench_decalign.transport", "mmbench_baselines.recurrent"):
        monkeypatch.setattr(pytest.importorskip(name), "_readable", lambda flag: False)
    monkeypatch.setattr(F, "one_hot", lambda x, classes: torch.zeros(*x.shape, classes, dtype=torch.long).scatter_(-1, x.unsqueeze(-1), 1))
    resolved = resolved_of(model, losses)
    captured = run(resolved, True, sizes=(19, 4, 4))
    assert captured[1].compile.endswith(" shapes")
    assert not captured[1].compile.endswith(" 0 shapes")
    assert_same(run(resolved, False, sizes=(19, 4, 4)), captured)


def toy_training(**more) -> dict[str, Any]:
    return {"epochs": 4, "batch_size": 4, "optimizer": {"lr": 2**-6}, **more}


COSINE, PLATEAU = {"name": "warmup_cosine", "warmup": 0.3}, {"name": "plateau", "patience": 0, "factor": 0.5}


@pytest.mark.parametrize(("scheduler", "accumulation"), [(COSINE, 1), (PLATEAU, 3)], ids=["cosine", "plateau"])
def test_weights_that_warm_up_rates_that_change_and_smaller_last_steps(run, toy_config, scheduler, accumulation) -> None:
    """31 samples in batches of 4: of three in a step, the last step has one, and one of 3 samples. Rates are float32 in a graph."""
    # Frozen heads: Adam makes steps of any size of a gradient that is zero but for rounding, as that of a bias before a normalisation.
    resolved = toy_config(adapters="frozen", losses=LOSSES, training=toy_training(scheduler=scheduler, accumulation=accumulation, clip_value=0.01))
    captured, plain = (run(resolved, compiled, sizes=(31, 5, 5)) for compiled in (True, False))
    assert captured[1].compile != "nothing to capture on a cpu; 0 shapes"
    assert_same(plain, captured, tolerance=1e-3)


def test_padding_to_fixed_lengths_changes_no_numbers(run, toy_config, monkeypatch) -> None:
    resolved = toy_config(losses=LOSSES[1:], model={"name": "toy", "dropout": 0.0}, training=toy_training(epochs=2, optimizer={"lr": 2**-10}))
    captured = run(resolved, True)
    monkeypatch.setattr(Step, "fixed", False)
    assert_same(run(resolved, False), captured, tolerance=1e-4)


def test_a_stopped_run_goes_on_to_the_same_bits_from_replays(run, toy_config) -> None:
    resolved = toy_config(losses=LOSSES, training=toy_training(scheduler=PLATEAU))
    whole = run(resolved, True, "whole")
    steps = iter(range(1, 1000))
    with pytest.raises(Interrupted):
        run(resolved, True, "stopped", lambda: next(steps) == 12)  # seven steps per epoch
    assert_same(whole, run(resolved, True, "stopped"), tolerance=0.0)


def test_a_loss_that_becomes_infinite_in_replays_fails_the_run(run, toy_config) -> None:
    resolved = toy_config(losses=LOSSES, training=toy_training(optimizer={"lr": 1e37}))
    with pytest.raises(RunError, match=r"became (nan|inf) in epoch \d.*lower the learning rate"):
        run(resolved, True)


def refused(run, resolved, reason: str) -> None:
    captured = run(resolved, True)
    assert captured[1].compile == f"not captured: {reason}"
    assert_same(run(resolved, False), captured)


def test_a_model_that_counts_its_steps_is_not_captured(run, toy_config) -> None:
    refused(run, toy_config(model={"name": "toy", "explode_at_step": 1000}, training=toy_training()), "each step changes model.steps on the host")


def patched(monkeypatch, network_part, change) -> None:
    original = network_part.forward

    def forward(self, *given):
        change(self)
        return original(self, *given)

    monkeypatch.setattr(network_part, "forward", forward)


def test_a_loss_that_draws_on_the_host_is_not_captured(run, toy_config, monkeypatch) -> None:
    patched(monkeypatch, toy_parts.Pull, lambda loss: np.random.random())
    refused(run, toy_config(losses=LOSSES, training=toy_training()), "a step draws random numbers on the host")


def test_a_loss_that_replaces_its_memory_is_not_captured(run, toy_config, monkeypatch) -> None:
    patched(monkeypatch, toy_parts.Pull, lambda loss: setattr(loss, "seen", loss.seen + 1))
    refused(run, toy_config(losses=LOSSES, training=toy_training()), "each step changes losses.pull.seen on the host")


def test_what_depends_on_the_epoch_is_recorded_anew(run, toy_config, monkeypatch) -> None:
    """A number of Python's, and the set of the parameters that learn."""
    start, forward = toy_parts.Pull.on_epoch_start, toy_parts.Pull.forward

    def on_epoch_start(self, epoch):
        start(self, epoch)
        self.epoch = epoch

    def scaled(self, *given):
        found = forward(self, *given)
        return {**found, "near": self.epoch * (found["near"] if self.epoch != 3 else found["near"] * 0 + found["far"])}

    monkeypatch.setattr(toy_parts.Pull, "on_epoch_start", on_epoch_start)
    monkeypatch.setattr(toy_parts.Pull, "forward", scaled)
    resolved = toy_config(losses=LOSSES, training=toy_training())
    assert_same(run(resolved, False), run(resolved, True))


def test_bf16_is_captured(run, toy_config) -> None:
    resolved = toy_config(adapters="frozen", losses=LOSSES, training=toy_training(precision="bf16", epochs=2))
    assert_same(run(resolved, False), run(resolved, True), tolerance=0.01)  # a weight is a float32 tensor there, which half precision gives way to


def test_a_parameter_that_rests_for_an_epoch_is_not_moved_by_a_gradient_of_zero(run, toy_config, monkeypatch) -> None:
    """Adam leaves a parameter alone that has no gradient, and moves on one whose gradient is zero."""
    start, forward = toy_parts.Pull.on_epoch_start, toy_parts.Pull.forward
    now: list[int] = []

    def on_epoch_start(self, epoch):
        start(self, epoch)
        now[:] = [epoch]

    def resting(self, *given):
        found = forward(self, *given)
        return {**found, "near": found["near"] if now[0] % 2 else found["near"].detach() / self.scale.detach()}

    monkeypatch.setattr(toy_parts.Pull, "on_epoch_start", on_epoch_start)
    monkeypatch.setattr(toy_parts.Pull, "forward", resting)
    resolved = toy_config(losses=LOSSES, training=toy_training())
    assert_same(run(resolved, False), run(resolved, True))


def test_what_cannot_be_recorded_ends_the_run_and_names_its_place(run, toy_config, monkeypatch) -> None:
    """On a CPU no rehearsal sees that a step waits for the device."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, stream: Recorder())
    monkeypatch.setattr(capture, "record", lambda body, stream, pool: RECORD(body, "a stream", pool))
    patched(monkeypatch, toy_parts.Pull, lambda loss: loss.seen.item())
    with pytest.raises(RunError, match=r"cannot be captured as a CUDA graph, at test_capture.py:\d+ \(.*not permitted.*\); set it to false"):
        run(toy_config(losses=LOSSES, training=toy_training()), True)


def test_four_lengths_for_all_modalities_together(make_dataset) -> None:
    """Of 6 and 5 frames at most: the least quarter that holds all samples of the batch, in both modalities."""
    split = make_dataset().splits["train"]
    tensors = TensorSplit(split, CPU)
    longest = {name: split.inputs[name].mask.sum(1) for name in split.inputs}
    lengths = {"text": [2, 3, 4, 5], "audio": [2, 3, 5, 6]}
    for index in torch.randperm(37, generator=torch.Generator().manual_seed(1)).split(2):
        batch = tensors.batch(index, fixed=True)
        wanted = next(k for k in range(4) if all(longest[name][index].max() <= lengths[name][k] for name in lengths))
        for name, sequence in batch.inputs.items():
            length = lengths[name][wanted]
            assert sequence.values.shape[:2] == sequence.mask.shape == (len(index), length)
            np.testing.assert_array_equal(sequence.values.numpy(), split.inputs[name].values[index.numpy(), :length])
            np.testing.assert_array_equal(sequence.mask.numpy(), split.inputs[name].mask[index.numpy(), :length])
    shapes = {tuple(part.values.shape[1] for part in batch.inputs.values()) for batch in tensors.batches(2, fixed=True)}
    assert 1 < len(shapes) <= 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_benchmark_of_gpus_says_that_there_is_none() -> None:
    spec = spec_from_file_location("gpu_benchmark", Path(__file__).parent.parent / "benchmarks" / "gpu.py")
    benchmark = module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    result = CliRunner().invoke(benchmark.main, [])
    assert result.exit_code == 1
    assert "sees no CUDA device here; nothing was measured" in result.output
    row = {"config": "a", "compile": True, "ms_per_step": 1.5, "steps_per_second_of_runs": {2: 9.0}}
    assert benchmark.table([row, {**row, "steps_per_second_of_runs": {4: 12.0}}]).splitlines()[2:] == [
        "| a |  | True | 1.5 |  |  |  |  |  | 9.0 |  |",
        "| a |  | True | 1.5 |  |  |  |  |  |  | 12.0 |",
    ]
