"""How far the numbers of a run move where they may: with other numbers of threads, and from one repeat to the next. The table of docs/reliability.md.

    python benchmarks/determinism.py                                        # every method on CMU-MOSI: one thread, again, and two
    python benchmarks/determinism.py decalign_mosi --threads 1,4
    python benchmarks/determinism.py --device cuda --repeats 3               # the spread over repeats on a GPU
    python benchmarks/determinism.py --device cuda --repeats 3 --strict      # with training.deterministic

Each run is the worker's, on simulated data in real widths and lengths. A run is compared with the first of its config: whether its predictions are
the same bytes, the largest difference of a prediction on validation and test, and of the metric that chooses.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

COLUMNS = ("config", "threads", "repeat", "bytes", "prediction", "selection", "note")


@click.command()
@click.argument("configs", nargs=-1)
@click.option("--threads", default="1,2", show_default=True, help="Numbers of threads, the reference first.")
@click.option("--repeats", default=2, show_default=True, help="Runs at the first number of threads.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--strict", is_flag=True, help="With training.deterministic: an operation without a deterministic kernel fails.")
@click.option("--samples", default=120, show_default=True, help="Size of the simulated data.")
@click.option("--epochs", default=3, show_default=True)
def main(configs: tuple[str, ...], threads: str, repeats: int, device: str, strict: bool, samples: int, epochs: int) -> None:
    """Compare repeated runs of CONFIGS, by default those of all methods with features on CMU-MOSI."""
    from gpu import discovered

    first, *others = map(int, threads.split(","))
    told = [f"training.epochs={epochs}", f"training.deterministic={json.dumps(strict)}", f"data.samples={samples}"]
    click.echo("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for config in configs or discovered():
        reference = None
        for count, repeat in [*((first, i + 1) for i in range(repeats)), *((other, 1) for other in others)]:
            with tempfile.TemporaryDirectory() as folder:
                made = run(config, [*told, f"training.threads={count}"], device, Path(folder))
            if reference is None:
                reference = made
                continue
            row = {"config": config, "threads": count, "repeat": repeat, **difference(reference, made)}
            click.echo("| " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |")
            sys.stdout.flush()


def run(config: str, overrides: list[str], device: str, folder: Path) -> dict[str, Any]:
    """One run in a process of its own: the bytes of its predictions, the predictions, the chosen value; of a failed one the reason."""
    from gpu import OVERRIDES

    from mmbench.executors import LocalConfig, LocalExecutor
    from mmbench.resolve import load
    from mmbench.results.runs import read_predictions, read_result
    from mmbench.runner import make_plan, prepare

    plan = make_plan(load(config, (*OVERRIDES, *overrides), "1"), folder, None, device)
    requests, *_ = prepare(plan, None)
    (outcome,) = LocalExecutor(LocalConfig(jobs=1)).submit(requests[:1])
    if outcome.status != "done":
        return {"note": outcome.reason}
    place = outcome.request.folder
    predictions = np.concatenate([part[2].ravel() for part in read_predictions(place / "predictions.csv.gz").values()])
    return {"bytes": (place / "predictions.csv.gz").read_bytes(), "predictions": predictions, "value": read_result(place).selection["value"]}


def difference(reference: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """How a run differs from the first one."""
    if "note" in reference or "note" in made:
        return {"note": made.get("note") or "nothing to compare with"}
    return {
        "bytes": "the same" if reference["bytes"] == made["bytes"] else "others",
        "prediction": f"{np.abs(reference['predictions'] - made['predictions']).max():.1e}",
        "selection": f"{abs(reference['value'] - made['value']):.1e}",
    }


if __name__ == "__main__":
    main()
