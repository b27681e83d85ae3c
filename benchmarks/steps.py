"""Time, operations and memory of one training step of every shipped method.

    python benchmarks/steps.py                                             # all, on simulated data in the shapes of CMU-MOSI and CMU-MOSEI
    python benchmarks/steps.py mult_mosi --set data.features=unaligned --out /tmp/mine

Each config is measured in a process of its own. Its steps run on batches that are at hand already, so batching and reading are not in them
(`epoch.py` and `start.py` measure these).
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import click
from measure import WARM_UP, child, machine_rate, matrix_rates, memory, options, peak, record, repeat, reset_peak, shipped_configs, spread

# Aligned sequences have 50 frames each; unaligned ones 50 words, 375 to 500 frames of sound and 500 of video, in batches of 8 as peers are timed.
SHAPES = (("mosi", "aligned", 32), ("mosi", "unaligned", 8), ("mosei", "aligned", 32))


@click.command()
@click.argument("configs", nargs=-1)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="For configs that are named: as in mmbench run.")
@click.option("--seconds", default=3.0, show_default=True, help="Time for the steps of each config.")
@click.option("--child", "request", hidden=True)
@options()
def main(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    seconds: float,
    request: str | None,
    threads: int,
    out: Path,
    quick: bool,
) -> None:
    """Measure CONFIGS, by default one per method and shape."""
    if request is not None:
        click.echo(json.dumps(answer(json.loads(request))))
        return
    chosen = [(config, "", "", 0) for config in configs] or [
        (config, dataset, features, batch) for dataset, features, batch in SHAPES for config in shipped_configs(dataset)
    ]
    rows = []
    for config, dataset, features, batch in chosen[:1] if quick else chosen:
        own = (f"data.features={features}", f"training.batch_size={batch}", "training.accumulation=1") if features else ()
        samples = ("data.samples=100",) if quick else ()
        settings = ("data.simulated=true", f"training.threads={threads}", *own, *samples, *overrides)
        asked = {"config": config, "overrides": settings, "seconds": 0.0 if quick else seconds, "quick": quick}
        row: dict[str, Any] = {"config": config, "dataset": dataset, "features": features, "batch": batch}
        try:
            row |= child(__file__, asked, threads)
        except RuntimeError as error:
            row["problem"] = str(error).splitlines()[-1]
        rows.append(row)
        found = row.get("step", {})
        click.echo(
            f"{config:24} {dataset:6} {features:10} "
            + (
                f"{found['median_ms']:8.1f} ms ({found['min_ms']:.1f}-{found['max_ms']:.1f}), losses {row['losses_share']:.0%}, "
                f"{row['gflop']:.2f} GFLOP, {row['share_of_machine']:.0%} of {row['machine_gflops']:.0f} GFLOP/s, {row['peak_mb']:.0f} MiB"
                if found
                else row["problem"]
            )
        )
    record(out, "steps", threads, quick, rows, seconds=seconds)


def measure(config: str, overrides: list[str], seconds: float, quick: bool) -> dict[str, Any]:
    """The figures of one config, in this process."""
    import torch
    from stepping import PARTS, Stepper, full_batches, operator_calls, products

    from mmbench.resolve import load
    from mmbench.runner import open_data
    from mmbench.training.tensors import TensorSplit

    (resolved,) = load(config, overrides)
    training = resolved.experiment.training
    torch.set_num_threads(training.threads)
    rates = matrix_rates(0.0 if quick else 0.3)  # first and last, so that what is busy for a moment does not count
    dataset = open_data(resolved)
    train = TensorSplit(dataset.splits["train"], torch.device("cpu"))
    stepper = Stepper(resolved, dataset.input_spec(), train.target)
    batches = full_batches(train, training.batch_size, 2 if quick else 10)
    reset_peak()
    before = memory()["rss"]
    for i in range(WARM_UP):
        stepper(batches[i % len(batches)])
    for part in PARTS:
        stepper.times[part].clear()
    bare = []
    turn = iter(range(1_000_000))

    def both() -> None:  # with and without the losses in turn, on the same batch, so that noise meets both
        batch = batches[next(turn) % len(batches)]
        stepper(batch)
        if resolved.losses:
            bare.append(repeat(lambda: stepper(batch, losses=False), 0, least=1)[0])

    repeat(both, seconds)
    grown = peak() - before
    whole = [sum(parts) for parts in zip(*stepper.times.values(), strict=True)]
    median = statistics.median(whole)
    gflop = statistics.mean(products(lambda batch=batch: stepper(batch)) for batch in batches)  # type: ignore[misc]
    after = matrix_rates(0.0 if quick else 0.3)
    rates = {name: max(rate, after[name]) for name, rate in rates.items()}
    lengths = {name: float(part.mask.sum(1).float().mean()) for name, part in batches[0].inputs.items()}
    return {
        "batch": training.batch_size,
        "shape": {name: [spec.length, spec.size] for name, spec in dataset.input_spec().modalities.items()},
        "mean_length": {name: round(length, 1) for name, length in lengths.items()},
        "parameters": sum(parameter.numel() for parameter in stepper.parameters),
        "steps": len(whole),
        "step": spread(whole),
        "parts_ms": {part: round(1000 * statistics.median(times), 3) for part, times in stepper.times.items()},
        "losses_share": round(1 - statistics.median(bare) / median, 4) if bare else 0.0,
        "operator_calls": operator_calls(lambda: stepper(batches[0])),
        "gflop": round(gflop, 3),
        "matrix_gflops": rates,
        "machine_gflops": machine_rate(rates),
        "share_of_machine": round(gflop / median / machine_rate(rates), 4),
        "peak_mb": round(grown, 1),
    }


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a child process is asked for."""
    return measure(**request)


if __name__ == "__main__":
    main()
