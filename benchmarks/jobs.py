"""Several seeds on one machine: runs side by side with one thread each, against one run after another with all threads.

    python benchmarks/jobs.py                                  # five seeds, two jobs

Throughput is taken from wall time of all runs, start-up of their processes included. The numbers of ``--jobs N`` and ``--jobs 1`` at the same number
of threads are compared: results and predictions must be equal to the last bit.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click
from measure import options, record, thread_variables, timed


@click.command()
@click.argument("config", default="decalign_mosi")
@click.option("--seeds", default=5, show_default=True)
@click.option("--epochs", default=3, show_default=True)
@click.option("--jobs", default=max(2, len(os.sched_getaffinity(0))), show_default="cores", type=click.IntRange(2), help="Runs side by side.")
@options()
def main(config: str, seeds: int, epochs: int, jobs: int, threads: int, out: Path, quick: bool) -> None:
    """Run CONFIG with several seeds in each of three ways. `--threads`: of each run side by side."""
    seeds, epochs = (1, 1) if quick else (seeds, epochs)
    samples = ("data.samples=60",) if quick else ()
    base = ("data.simulated=true", "data.features=aligned", f"training.epochs={epochs}", *samples)
    ways = {(jobs, threads): "side by side", (1, jobs * threads): "one run with all threads", (1, threads): "one after another"}
    if quick:
        del ways[1, jobs * threads]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for (together, each), name in ways.items():
            seconds, digests = execute(config, (*base, f"training.threads={each}"), seeds, together, Path(folder) / name)
            rows.append({"name": name, "jobs": together, "threads": each, "seconds": round(seconds, 2), "digests": digests})
            click.echo(f"{name:26} --jobs {together}, {each} threads each: {seconds:.1f} s")
    equal = rows[0]["digests"] == rows[-1]["digests"]
    speedup = rows[1]["seconds"] / rows[0]["seconds"]
    click.echo(f"throughput x{speedup:.2f} of one run with all threads; numbers equal to one after another: {equal}")
    record(out, "jobs", threads, quick, rows, config=config, seeds=seeds, epochs=epochs, jobs=jobs, speedup=round(speedup, 3), equal=equal)


def execute(config: str, overrides: tuple[str, ...], seeds: int, jobs: int, out: Path) -> tuple[float, list[str]]:
    """Wall seconds of a config's runs, without those of the floors, and a digest of each seed's scores and predictions."""
    from mmbench.executors.local import LocalExecutor
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    plan = make_plan(load(config, overrides, f"1-{seeds}"), out, None, "cpu")
    floors = {row.folder for row in plan.rows if row.floor}
    requests = [request for request in prepare(plan, None)[0] if request.folder.parent not in floors]
    os.environ["OMP_WAIT_POLICY"] = thread_variables(1)["OMP_WAIT_POLICY"]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.pop(name, None)  # the executor sets them for each run
    outcomes: list[Any] = []
    seconds = timed(lambda: outcomes.extend(LocalExecutor(jobs).submit(requests)))
    failed = [outcome.reason for outcome in outcomes if outcome.status != "done"]
    if failed:
        raise click.ClickException(f"{config}: a run failed: {failed[0]}")
    return seconds, [_digest(request.folder) for request in sorted(requests, key=lambda request: request.folder.name)]


def _digest(folder: Path) -> str:
    scores = json.loads((folder / "result.json").read_text())["metrics"]
    predictions = gzip.decompress((folder / "predictions.csv.gz").read_bytes())
    return hashlib.sha256(json.dumps(scores, sort_keys=True).encode() + predictions).hexdigest()[:16]


if __name__ == "__main__":
    main()
