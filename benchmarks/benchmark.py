"""Time per step and per epoch, data start-up time and peak memory of one config.

    python benchmarks/benchmark.py decalign_mosi --set data.simulated=true --set data.features=aligned --steps 40

Times are medians with the fastest and slowest step in brackets; a shared machine shows in their distance. Nothing here is asserted anywhere.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("config")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--device", default="cpu", show_default=True)
@click.option("--data-root", type=click.Path(path_type=Path), envvar="MMBENCH_DATA")
@click.option("--steps", default=40, show_default=True, help="Timed training steps, after 5 that are not.")
@click.option("--out", type=click.Path(path_type=Path), help="Append the figures to this file, as one JSON line.")
def main(config: str, overrides: tuple[str, ...], device: str, data_root: Path | None, steps: int, out: Path | None) -> None:
    """Measure CONFIG with its own number of threads (training.threads)."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else two processes on one machine slow each other beyond their share
    figures = {"config": config, "set": list(overrides), "machine": platform.processor() or platform.machine(), "help_s": _help_time()}
    figures.update(_measure(config, overrides, device, data_root, steps))
    for name, value in figures.items():
        click.echo(f"{name:24} {value}")
    if out is not None:
        with open(out, "a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")


def _help_time() -> float:
    """Wall time of ``mmbench --help``, best of five."""
    command = [sys.executable, "-m", "mmbench", "--help"]
    return round(min(_timed(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(5)), 3)


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _measure(config: str, overrides: tuple[str, ...], device_name: str, data_root: Path | None, steps: int) -> dict[str, Any]:
    import torch

    from mmbench.component import FitContext
    from mmbench.resolve import load
    from mmbench.runner import open_data
    from mmbench.training.encoders import build_encoders, prepare
    from mmbench.training.loop import autocast, predict
    from mmbench.training.network import Network, task_loss
    from mmbench.training.optim import Schedule, build_optimizer
    from mmbench.training.seeds import make_deterministic, order
    from mmbench.training.tensors import TensorSplit

    resolved = load(config, overrides)[0]
    training, device = resolved.experiment.training, torch.device(device_name)
    make_deterministic(training.threads)
    first = _timed(lambda: open_data(resolved, data_root))
    encoders = build_encoders(resolved)
    started = time.perf_counter()
    dataset = prepare(open_data(resolved, data_root), ("train", "valid"), encoders, device)
    train, valid = (TensorSplit(dataset.splits[name], device) for name in ("train", "valid"))
    again = time.perf_counter() - started
    network = Network(resolved, dataset.input_spec(), 1, encoders).to(device)
    network.on_fit_start(FitContext(train.size, train.target, training.epochs))
    optimizer = build_optimizer(training.optimizer, network.groups())
    schedule = Schedule(training.scheduler, optimizer, steps)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    network.train()

    def forward_backward(batch: Any, losses: bool) -> None:
        with autocast(training, device):
            representation = network(batch)
            terms = [task_loss(resolved.task_loss, representation.prediction, batch.target)]
            terms += network.terms(representation, batch, 1).values() if losses else []
        torch.stack([term.float() for term in terms]).sum().backward()

    def step(batch: Any, losses: bool = True) -> None:
        forward_backward(batch, losses)
        if training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
        schedule.before_step()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wait()

    times: dict[bool, list[float]] = {True: [], False: []}
    epoch = 0
    while len(times[True]) < steps + 5:
        epoch += 1
        for batch in train.batches(training.batch_size, order(1, epoch, train.size)):
            if len(batch.index) < training.batch_size and train.size > training.batch_size:
                continue
            for losses in (True, False):  # interleaved, so that noise meets both
                times[losses].append(_timed(lambda b=batch, with_losses=losses: step(b, with_losses)))
            if len(times[True]) >= steps + 5:
                break
    whole, bare = (times[losses][5:] for losses in (True, False))
    evaluation = _timed(lambda: predict(network, valid, training))
    batches = math.ceil(train.size / training.batch_size)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "threads": training.threads,
        "batch_size": training.batch_size,
        "modalities": {name: [spec.length, spec.size] for name, spec in dataset.input_spec().modalities.items()},
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "data_first_s": round(first, 3),
        "data_again_s": round(again, 3),
        "step_ms": _spread(whole),
        "step_without_losses_ms": _spread(bare),
        "losses_share": f"{1 - statistics.median(bare) / statistics.median(whole):.1%}",
        "epoch_s": round(batches * statistics.median(whole) + evaluation, 2),
        "validation_s": round(evaluation, 3),
        "peak_memory_mb": round(
            torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            1,
        ),
    }


def _spread(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f} ({1000 * min(seconds):.1f}-{1000 * max(seconds):.1f})"


if __name__ == "__main__":
    main()
