"""Several seeds on one machine: runs side by side with one thread each, against one run after another with all threads.

    python benchmarks/jobs.py                                  # five seeds, two jobs

Throughput is taken from wall time of all runs, start-up of their processes included, which is much of runs as short as these. The executor tells
threads how to wait, as in ``mmbench run``: those of several runs sleep, those of a run alone spin. The numbers of ``--jobs N`` and ``--jobs 1`` at
the same number of threads are compared, of the first seeds: results and predictions must be equal to the last bit.
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
from measure import CORES, options, record, timed, without_thread_variables

COMPARED = 2
"""Seeds that are run one after another, too."""


@click.command()
@click.argument("config", default="decalign_mosi")
@click.option("--seeds", default=5, show_default=True)
@click.option("--epochs", default=1, show_default=True)
@click.option("--samples", default=1000, show_default=True, help="Of the data, over all splits.")
@click.option("--jobs", default=max(2, CORES), show_default="cores", type=click.IntRange(2), help="Runs side by side.")
@options()
def main(config: str, seeds: int, epochs: int, samples: int, jobs: int, threads: int, out: Path, quick: bool) -> None:
    """Run CONFIG with several seeds in each of three ways. `--threads`: of each run side by side."""
    seeds, epochs, samples = (1, 1, 60) if quick else (seeds, epochs, samples)
    base = ("data.simulated=true", "data.features=aligned", f"training.epochs={epochs}", f"data.samples={samples}")
    ways = {(jobs, threads): "side by side", (1, jobs * threads): "one run with all threads", (1, threads): "one after another"}
    if quick:
        del ways[1, jobs * threads]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for (together, each), name in ways.items():
            runs = min(seeds, COMPARED) if name == "one after another" else seeds
            seconds, digests = execute(config, (*base, f"training.threads={each}"), runs, together, Path(folder) / name)
            rows.append({"name": name, "jobs": together, "threads": each, "runs": runs, "seconds": round(seconds, 2), "digests": digests})
            click.echo(f"{name:26} --jobs {together}, {each} threads each: {seconds:.1f} s for {runs} runs")
    equal = rows[0]["digests"][:COMPARED] == rows[-1]["digests"]
    speedup = rows[1]["seconds"] / rows[0]["seconds"]
    click.echo(f"throughput x{speedup:.2f} of one run with all threads; numbers equal to one after another: {equal}")
    settings: dict[str, Any] = {"config": config, "seeds": seeds, "epochs": epochs, "samples": samples, "jobs": jobs}
    record(out, "jobs", threads, quick, rows, **settings, speedup=round(speedup, 3), equal=equal)


def execute(config: str, overrides: tuple[str, ...], seeds: int, jobs: int, out: Path) -> tuple[float, list[str]]:
    """Wall seconds of a config's runs, without those of the floors, and a digest of each seed's scores and predictions."""
    from mmbench.executors import LocalConfig, LocalExecutor
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    plan = make_plan(load(config, overrides, f"1-{seeds}"), out, None, "cpu")
    floors = {row.folder for row in plan.rows if row.floor}
    requests = [request for request in prepare(plan, None)[0] if request.folder.parent not in floors]
    kept = without_thread_variables()  # the executor sets them for each run
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    outcomes: list[Any] = []
    seconds = timed(lambda: outcomes.extend(LocalExecutor(LocalConfig(jobs=jobs)).submit(requests)))
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
