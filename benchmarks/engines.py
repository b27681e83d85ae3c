"""The same sweep through each engine: what it costs there, and whether its numbers are the same to the last bit.

    python benchmarks/engines.py --engine local --engine slurm

Two models, each with two losses, five seeds, SIMULATED data, a few epochs, and the floors. Runs are as short as these, so that times are those of
starts and of handing over. An engine is an executor of mmbench; where one needs a service of its own, it is started here, on this machine.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
SWEEP: dict[str, Any] = {
    "name": "engines",
    "data": {"name": "mosi", "simulated": True, "samples": 60},
    "training": {"epochs": 3},
    "sweep": {
        "model": {name: {"model": {"name": name}} for name in ("lmf", "lf_dnn")},
        "loss": {name: {"losses": [{"name": name, "weight": 0.1}]} for name in ("cmd", "homogeneity")},
    },
}


@contextlib.contextmanager
def nothing() -> Iterator[dict[str, Any]]:
    """An engine that needs nothing."""
    yield {}


@contextlib.contextmanager
def slurm() -> Iterator[dict[str, Any]]:
    """A Slurm of one node, on loopback; or that of this machine, where SLURM_CONF names one. Yields the executor's options."""
    if "SLURM_CONF" in os.environ:
        yield {}
        return
    sys.path.insert(0, str(ROOT / "tests" / "toys"))
    from one_node_slurm import Slurm, unavailable

    if reason := unavailable():
        raise click.ClickException(f"slurm {reason}")
    with tempfile.TemporaryDirectory() as folder:
        service = Slurm(Path(folder))
        os.environ.update(service.environment)
        try:
            service.start()
            yield {"time": 30, "runs_per_job": 5, "at_once": 2}
        finally:
            service.stop()
            for name in service.environment:
                del os.environ[name]


ENGINES: dict[str, Callable[[], AbstractContextManager[dict[str, Any]]]] = {"local": nothing, "ray": nothing, "slurm": slurm}
"""By executor: what it needs while it is used; yields its options."""


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)), help="Repeatable. Default: local.")
@click.option("--seeds", default="1-5", show_default=True)
def main(engines: tuple[str, ...], seeds: str) -> None:
    """Run the sweep through each engine and print a table: runs, seconds, a digest of all predictions. Exit code 1: they differ."""
    found: dict[str, dict[str, str]] = {}
    for engine in engines or ("local",):
        with tempfile.TemporaryDirectory() as folder:
            seconds, found[engine] = execute(engine, seeds, Path(folder))
        together = hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in sorted(found[engine].items())).encode()).hexdigest()
        click.echo(f"{engine:8} {len(found[engine]):4} runs {seconds:8.1f} s  sha256 of their predictions {together[:32]}")
    first = next(iter(found.values()))
    differing = {name for digests in found.values() for name in first.keys() | digests.keys() if first.get(name) != digests.get(name)}
    click.echo(f"predictions.csv.gz: equal content everywhere: {not differing}")
    for name in sorted(differing):
        click.echo(f"  {name}: {', '.join(f'{engine} {digests.get(name, chr(45))[:12]}' for engine, digests in found.items())}")
    sys.exit(bool(differing))


def execute(engine: str, seeds: str, out: Path) -> tuple[float, dict[str, str]]:
    """Wall seconds of all runs, and the digest of each run's predictions, by its folder. ClickException: a run is not done."""
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    with ENGINES[engine]() as options:
        (out / "engines.yaml").write_text(json.dumps({**SWEEP, "executor": {"name": engine, **options}}))
        plan = make_plan(load(out / "engines.yaml", seeds=seeds), out, None, "cpu")
        requests = prepare(plan, None)[0]
        executor = plan.executor.entry.load()(plan.executor.config)
        started = time.perf_counter()
        outcomes = list(executor.submit(requests))
        seconds = time.perf_counter() - started
    if left := [outcome for outcome in outcomes if outcome.status != "done"]:
        raise click.ClickException(f"{engine}: {left[0].request.label} is {left[0].status}: {left[0].reason}")
    return seconds, {str(run.folder.relative_to(out)): digest(run.folder / "predictions.csv.gz") for run in requests}


def digest(path: Path) -> str:
    """The sha256 of what a compressed file holds."""
    return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()


if __name__ == "__main__":
    main()
