"""Time, operations and memory of one training step of every shipped method.

    python benchmarks/steps.py                                             # all, on simulated data in the shapes of CMU-MOSI and CMU-MOSEI
    python benchmarks/steps.py --minutes 10                                # goes on with what is not recorded at this commit
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
from measure import (
    CORES,
    WARM_UP,
    Budget,
    child,
    machine_rate,
    matrix_rates,
    memory,
    options,
    peak,
    record,
    recorded,
    repeat,
    reset_peak,
    shipped_configs,
    spread,
)

# Aligned sequences have 50 frames each; unaligned ones 50 words, 375 to 500 frames of sound and 500 of video, in batches of 8 as peers are timed.
SHAPES = (("mosi", "aligned", 32), ("mosi", "unaligned", 8), ("mosei", "aligned", 32))
BATCHES = 4
SAMPLES = 600  # of the data, so that the training split has some batches of 32; a step's time depends on no other number of samples
RATES = 0.1  # seconds for each shape of product


@click.command()
@click.argument("configs", nargs=-1)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="For configs that are named: as in mmbench run.")
@click.option("--seconds", default=1.5, show_default=True, help="Time for the steps of each config, at least three.")
@click.option("--minutes", default=3.0, show_default=True, help="After so many no other config is begun.")
@click.option("--child", "request", hidden=True)
@options(threads=CORES)
def main(
    configs: tuple[str, ...],
    overrides: tuple[str, ...],
    seconds: float,
    minutes: float,
    request: str | None,
    threads: int,
    out: Path,
    quick: bool,
) -> None:
    """Measure CONFIGS, by default one per method and shape; on the first shape with one thread, too."""
    if request is not None:
        click.echo(json.dumps(answer(json.loads(request))))
        return
    budget = Budget(minutes)
    chosen = [(config, "", "", 0, threads) for config in configs] or [
        (config, dataset, features, batch, each)
        for dataset, features, batch, each in (
            (*SHAPES[0], threads),
            *([(*SHAPES[0], 1)] if threads > 1 else []),
            *((*s, threads) for s in SHAPES[1:]),
        )
        for config in shipped_configs(dataset)
    ]
    chosen = [case for case in chosen if case[0] == "misa_mosi"][:1] if quick else chosen
    settings = {"seconds": seconds, "overrides": list(overrides), "configs": list(configs)}
    earlier = recorded(out, "steps", **settings)
    rows: list[dict[str, Any]] = earlier["rows"] if earlier and earlier["threads"] == threads else []
    done = {(row["config"], row["features"], row["threads"]) for row in rows}
    left = [case for case in chosen if (case[0], case[2], case[4]) not in done]
    while left and not budget.over():
        config, dataset, features, batch, each = left.pop(0)
        own = (f"data.features={features}", f"training.batch_size={batch}", "training.accumulation=1") if features else ()
        samples = f"data.samples={100 if quick else SAMPLES}"
        given = ("data.simulated=true", f"training.threads={each}", samples, *own, *overrides)
        asked = {"config": config, "overrides": given, "seconds": 0.0 if quick else seconds, "quick": quick}
        row: dict[str, Any] = {"config": config, "dataset": dataset, "features": features, "batch": batch, "threads": each}
        try:
            row |= child(__file__, asked, each, quick)
        except RuntimeError as error:
            row["problem"] = str(error).splitlines()[-1]
        rows.append(row)
        click.echo(line(row))
        record(out, "steps", threads, quick, rows, whole=not left, **settings)
    if left:
        click.echo(f"{len(left)} of {len(chosen)} are left for another call: the {minutes:g} minutes are over")


def line(row: dict[str, Any]) -> str:
    """One row, to read."""
    name = f"{row['config']:24} {row['dataset']:6} {row['features']:10} {row['threads']} threads "
    if "problem" in row:
        return name + str(row["problem"])
    found = row["step"]
    return name + (
        f"{found['median_ms']:8.1f} ms ({found['min_ms']:.1f}-{found['max_ms']:.1f}), losses {row['losses_share']:.0%}, "
        f"{row['gflop']:.2f} GFLOP, {row['share_of_machine']:.0%} of {row['machine_gflops']:.0f} GFLOP/s, {row['peak_mb']:.0f} MiB"
    )


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
    rates = matrix_rates(0.0 if quick else RATES)  # first and last, so that what is busy for a moment does not count
    dataset = open_data(resolved)
    train = TensorSplit(dataset.splits["train"], torch.device("cpu"))
    stepper = Stepper(resolved, dataset.input_spec(), train.target)
    batches = full_batches(train, training.batch_size, 2 if quick else BATCHES)
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
    after = matrix_rates(0.0 if quick else RATES)
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
