"""Where the time of an epoch goes: how much of the real training loop is the model's, and how much is everything around it.

    python benchmarks/epoch.py                        # the smallest model on simulated CMU-MOSI
    python benchmarks/epoch.py decalign_mosi --epochs 3

`mmbench.worker` is run as `mmbench run` runs it. What belongs to the model (forward, losses, backward, clipping, optimizer, predictions of the
validation split) is timed by wrappers; batching, metrics, checkpoints and the log likewise; the rest of the epoch is Python between them.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from measure import SMALLEST, child, options, record

MODEL = "model"


@click.command()
@click.argument("config", default=SMALLEST)
@click.option("--epochs", default=8, show_default=True, help="Epochs, of which the first is not counted.")
@click.option("--child", "request", hidden=True)
@options()
def main(config: str, epochs: int, request: str | None, threads: int, out: Path, quick: bool) -> None:
    """Measure the epochs of CONFIG."""
    if request is not None:
        click.echo(json.dumps(answer(json.loads(request))))
        return
    samples = ("data.samples=100",) if quick else ()
    overrides = ("data.simulated=true", "data.features=aligned", "training.batch_size=32", "training.early_stopping=null", *samples)
    found = child(__file__, {"config": config, "overrides": overrides, "epochs": 3 if quick else epochs, "threads": threads}, threads, quick)
    for name, seconds in found["seconds"].items():
        click.echo(f"{name:24} {1000 * seconds:9.1f} ms  {seconds / found['epoch_s']:7.2%}")
    click.echo(f"{'epoch':24} {1000 * found['epoch_s']:9.1f} ms, outside the model {found['outside_share']:.2%}")
    record(out, "epoch", threads, quick, [{"config": config, **found}], epochs=epochs)


class Clock:
    """Seconds by name. A call inside another timed call counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.stack: list[float] = []

    @contextmanager
    def under(self, name: str) -> Iterator[None]:
        """Count what runs inside for `name`."""
        started = time.perf_counter()
        self.stack.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - started
            inner = self.stack.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - inner
            if self.stack:
                self.stack[-1] += whole

    def wrap(self, place: Any, attribute: str, name: str) -> None:
        """Time the function or method `attribute` of `place` from now on."""
        original: Callable[..., Any] = getattr(place, attribute)

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.under(name):
                return original(*arguments, **named)

        setattr(place, attribute, timed)


def measure(config: str, overrides: list[str], epochs: int, threads: int) -> dict[str, Any]:
    """Run one run's worker in this process, and take the mean over its epochs after the first."""
    import torch

    from mmbench import worker
    from mmbench.training import loop, step
    from mmbench.training.checkpoint import Checkpoints
    from mmbench.training.network import Network
    from mmbench.training.tensors import TensorSplit

    clock = Clock()
    ends: list[tuple[float, dict[str, float]]] = []
    clock.wrap(TensorSplit, "batch", "batching")
    clock.wrap(Network, "forward", MODEL)
    clock.wrap(Network, "terms", MODEL)
    clock.wrap(torch.Tensor, "backward", MODEL)
    clock.wrap(step.Step, "update", MODEL)  # clipping and the optimizer
    clock.wrap(step, "task_loss", MODEL)
    clock.wrap(step, "gradient_norms", "gradient norms, once an epoch")
    clock.wrap(Checkpoints, "epoch_end", "checkpoints")
    original = loop.fit

    def fit(network: Any, train: Any, valid: Any, protocol: Any) -> Any:
        on_epoch = protocol.on_epoch

        def ended(history: list[dict[str, Any]]) -> None:
            with clock.under("log"):
                on_epoch(history)
            ends.append((time.perf_counter(), dict(clock.seconds)))

        protocol.on_epoch = ended
        clock.wrap(protocol, "score", "metrics")
        return original(network, train, valid, protocol)

    loop.fit = fit
    with tempfile.TemporaryDirectory() as folder:
        run = planned(config, [*overrides, f"training.threads={threads}", f"training.epochs={epochs}"], Path(folder))
        stdout, sys.stdout = sys.stdout, sys.stderr
        try:
            worker.main([str(run), "--device", "cpu"])
        finally:
            sys.stdout = stdout
        status = json.loads((run / "result.json").read_text())
    if len(ends) < 3:
        raise RuntimeError(f"{config}: {status['status']} after {len(ends)} epochs: {status['reason']}")
    counted = len(ends) - 1
    (start, before), (end, after) = ends[0], ends[-1]
    seconds = {name: (value - before.get(name, 0.0)) / counted for name, value in after.items()}
    epoch = (end - start) / counted
    seconds["the rest of the loop"] = epoch - sum(seconds.values())
    return {
        "epochs": counted,
        "epoch_s": round(epoch, 4),
        "seconds": {name: round(value, 5) for name, value in sorted(seconds.items(), key=lambda item: -item[1])},
        "outside_share": round(1 - seconds[MODEL] / epoch, 4),
    }


def planned(config: str, overrides: list[str], out: Path) -> Path:
    """The folder of a config's first run, ready to be executed; the floors are left out."""
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    plan = make_plan(load(config, overrides, "1"), out, None, "cpu")
    prepare(plan, None)
    return next(folder for row, _, folder in plan.runs() if not row.floor)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a child process is asked for."""
    return measure(**request)


if __name__ == "__main__":
    main()
