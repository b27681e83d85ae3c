"""What a GPU makes of training steps: eager, and replayed as CUDA graphs (`training.compile`). The figures of docs/performance.md for GPUs.

    python benchmarks/gpu.py                        # every config of one method on CMU-MOSI, on simulated data
    python benchmarks/gpu.py decalign_mosi --runs 8

For each config, in fp32 and bf16, eager and captured: kernels and launches per step, times the host waits for the device in an epoch (its end is
one), milliseconds per step over whole epochs, peak memory, and the steps per second of several runs at once on the same device. Each measurement is
a process of its own. Prints a table and writes benchmarks/results/gpu.json. Needs a CUDA device, and says so where there is none.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
OVERRIDES = ("data.simulated=true", "data.features=aligned")
WARM, TIMED = 2, 3  # epochs
COLUMNS = ("config", "precision", "compile", "ms_per_step", "kernels_per_step", "launches_per_step", "waits_per_epoch", "peak_memory_mb", "note")


@click.command()
@click.argument("configs", nargs=-1)
@click.option("--runs", default=4, show_default=True, help="Largest number of runs at once on the device; also half of it, and so on.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results" / "gpu.json", show_default=True)
@click.option("--one", hidden=True, help="measure this alone: a JSON object of config, precision and compile")
def main(configs: tuple[str, ...], runs: int, out: Path, one: str | None) -> None:
    """Measure CONFIGS, by default those of all methods with features on CMU-MOSI."""
    import torch

    if not torch.cuda.is_available():
        raise click.ClickException(f"torch {torch.__version__} sees no CUDA device here; nothing was measured")
    if one is not None:
        click.echo(json.dumps(measure(**json.loads(one), device=torch.device("cuda"))))
        return
    rows = []
    for config, precision, compiled in itertools.product(configs or discovered(), ("fp32", "bf16"), (False, True)):
        case = {"config": config, "precision": precision, "compile": compiled}
        count, several = runs, {}
        (row,) = processes(case, 1)
        while count > 1:
            several[count] = round(sum(each.get("steps_per_second", 0.0) for each in processes(case, count)), 1)
            count //= 2
        rows.append({**case, **row, "steps_per_second_of_runs": dict(sorted(several.items()))})
        click.echo(table(rows[-1:]).splitlines()[-1])
    figures = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "data": "simulated",
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    click.echo(f"\n{figures['device']}, torch {figures['torch']}, CUDA {figures['cuda']}, {figures['date']}, simulated data\n\n{table(rows)}")


def discovered() -> list[str]:
    """The configs on CMU-MOSI of one experiment each that have no encoder in the loop."""
    from mmbench.resolve import load

    found = []
    for path in sorted((ROOT / "configs").glob("*_mosi.yaml")):
        cells = load(path.stem, OVERRIDES)
        if len(cells) == 1 and not cells[0].encoders and not cells[0].missing:
            found.append(path.stem)
    return found


def processes(case: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The figures of some processes that measure the same at once; of one that fails, the reason as its note."""
    command = [sys.executable, __file__, "--one", json.dumps(case)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(count)]
    figures = []
    for process in started:
        told, errors = process.communicate()
        lines = errors.strip().splitlines()
        figures.append(json.loads(told) if process.returncode == 0 else {"note": lines[-1] if lines else f"exit {process.returncode}"})
    return figures


def measure(config: str, precision: str, compile: bool, device: Any) -> dict[str, Any]:
    """One config, in this process."""
    import torch

    from mmbench.component import FitContext
    from mmbench.resolve import load
    from mmbench.runner import open_data
    from mmbench.training.capture import CapturedStep
    from mmbench.training.loop import Protocol, _train_epoch
    from mmbench.training.network import Network
    from mmbench.training.optim import Schedule, build_optimizer
    from mmbench.training.seeds import make_deterministic, seed_everything
    from mmbench.training.step import Step
    from mmbench.training.tensors import TensorSplit

    (resolved,) = load(config, (*OVERRIDES, f"training.precision={precision}", f"training.compile={json.dumps(compile)}"))
    training = resolved.experiment.training
    make_deterministic(training.threads)
    dataset = open_data(resolved)
    train = TensorSplit(dataset.splits["train"], device)
    network = Network(resolved, dataset.input_spec(), 1).to(device)
    network.on_fit_start(FitContext(train.size, train.target, training.epochs))
    optimizer = build_optimizer(training.optimizer, network.groups())
    batches = -(-train.size // training.batch_size)
    parts = network, optimizer, Schedule(training.scheduler, optimizer, batches * training.epochs), training, resolved.task_loss, train.size
    step = CapturedStep(*parts, device=device) if compile else Step(*parts)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    epochs = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:
        protocol = Protocol(training, resolved.task_loss, "loss", False, lambda p, t: {}, 1, Path(folder), "")

        def epoch() -> float:
            number = next(epochs)
            seed_everything(1, "dropout", number)
            wait()
            started = time.perf_counter()
            _train_epoch(network, step, train, protocol, number)
            wait()
            return time.perf_counter() - started

        for _ in range(WARM):
            epoch()
        seconds = statistics.median(epoch() for _ in range(TIMED))
        waits = _waits(epoch)
        kernels, launches = _kernels(epoch)
    return {
        "ms_per_step": round(1000 * seconds / batches, 3),
        "steps_per_second": round(batches / seconds, 1),
        "kernels_per_step": round(kernels / batches, 1),
        "launches_per_step": round(launches / batches, 1),
        "waits_per_epoch": waits,
        "peak_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if device.type == "cuda" else None,
        "note": step.note(),
    }


def _waits(epoch: Any) -> int:
    """How often torch sees the host wait for the device."""
    import torch

    if not torch.cuda.is_available():
        return 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        epoch()
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing CUDA operation" in str(warning.message) for warning in caught)


def _kernels(epoch: Any) -> tuple[int, int]:
    """Kernels that the device ran, copies included, and calls of the host that started something: a graph is one."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        epoch()
    events = profiler.events() or ()
    started = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
    return (
        sum(event.device_type == DeviceType.CUDA for event in events),
        sum(event.device_type == DeviceType.CPU and event.name.startswith(started) for event in events),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    counts = sorted({count for row in rows for count in row["steps_per_second_of_runs"]})
    heads = [*COLUMNS, *(f"steps/s, {count} runs" for count in counts)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for row in rows:
        cells = [row.get(column, "") for column in COLUMNS] + [row["steps_per_second_of_runs"].get(count, "") for count in counts]
        lines.append(" | ".join(map(str, cells)))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    main()
