"""``mmbench run``: what is missing of an experiment, then its table."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from mmbench.cli.options import experiment_options


@click.command()
@click.argument("config")
@experiment_options
@click.option("--jobs", type=click.IntRange(1), help="Runs at once. Default: one per GPU, or one per core.")
@click.option("--rerun", type=click.Choice(["failed", "all"]), help="Start failed runs, or all, anew.")
def command(
    config: str,
    overrides: tuple[str, ...],
    seeds: str | None,
    device: str,
    out: Path,
    data_root: Path | None,
    jobs: int | None,
    rerun: str | None,
) -> None:
    """Train and score the runs of CONFIG (a file, or the name of a shipped config) that are not done yet, and print the table."""
    from mmbench.errors import ConfigError
    from mmbench.plugins import catalogue
    from mmbench.resolve import load
    from mmbench.results.tables import summary
    from mmbench.runner import encoder_runs, make_plan, prepare

    plan = make_plan(load(config, overrides, seeds), out, data_root, device)
    for warning in dict.fromkeys(warning for dataset in plan.datasets for warning in dataset.record.get("warnings", ())):
        click.echo(f"warning: {warning}", err=True)
    requests, done, failed = prepare(plan, rerun)
    for line in plan.parts:
        click.echo(line)
    click.echo(
        f"{plan.folder}: {len(requests)} runs to do, {done} done" + (f", {failed} failed before (--rerun failed tries again)" if failed else "")
    )
    if find_spec("torch") is None:
        raise ConfigError("training needs torch, which is not installed: pip install 'mmbench[train]'")
    for folder in encoder_runs(plan, requests):
        click.echo(f"encoders: getting weights and the features of frozen ones ({folder.parent.name})")
        code = subprocess.run([sys.executable, "-m", "mmbench.worker", str(folder), "--device", device, "--prepare"], check=False).returncode
        if code:
            sys.exit(code)
    display = Display(len(requests))
    executor = catalogue().find("executor", "local").load()(jobs, display.epoch)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: executor.stop())
    interrupted = 0
    for outcome in executor.submit(requests):
        display.outcome(outcome)
        failed += outcome.status == "failed"
        interrupted += outcome.status == "interrupted"
    if executor.stopping:
        click.echo(f"Interrupted; {interrupted} runs were stopped. Finished ones are kept, and the same command goes on from each one's last epoch.")
        sys.exit(130)
    click.echo("")
    click.echo(summary(plan.folder))
    click.echo(f"Runs: {plan.folder}")
    if failed:
        sys.exit(1)


class Display:
    """One line per finished run; on a terminal, a last line with what is running."""

    def __init__(self, total: int):
        self.total = total
        self.finished = 0
        self.running: dict[Path, str] = {}
        self.last: dict[Path, dict[str, Any]] = {}
        self.started: dict[Path, float] = {}
        self.live = sys.stdout.isatty()

    def epoch(self, request: Any, told: dict[str, Any]) -> None:
        """Hear of an epoch of a run."""
        self.started.setdefault(request.folder, time.time())
        self.last[request.folder] = told
        self.running[request.folder] = f"{request.label} {told['epoch']}/{told['of']}"
        if self.live:
            line = " | ".join(self.running.values())
            width = shutil.get_terminal_size()[0]
            click.echo(f"\r\033[K{line[: width - 1]}", nl=False)

    def outcome(self, outcome: Any) -> None:
        """Hear of the end of a run."""
        self.finished += 1
        folder = outcome.request.folder
        self.running.pop(folder, None)
        told = self.last.get(folder)
        detail = ""
        if told:
            value = told["value"]
            shown = "n/a" if value is None else f"{value:.4g}"
            detail = f"  epoch {told['epoch']}/{told['of']}  valid {told['metric']} {shown}  {time.time() - self.started[folder]:.1f} s"
        reason = f"  {outcome.reason}" if outcome.reason else ""
        clear = "\r\033[K" if self.live else ""
        click.echo(f"{clear}[{self.finished}/{self.total}] {outcome.request.label}  {outcome.status}{detail}{reason}")
