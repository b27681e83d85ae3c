"""``mmbench run``: what is missing of an experiment, then its table."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mmbench.cli.complete import complete
from mmbench.cli.options import execution, execution_options, experiment_options, json_option, quiet_option
from mmbench.cli.terminal import runs_of, say


@click.command()
@click.argument("config", shell_complete=complete("configs"))
@experiment_options
@execution_options
@click.option(
    "--track",
    "trackers",
    metavar="NAME",
    multiple=True,
    shell_complete=complete("components", "tracker"),
    help="Write the course of runs elsewhere too: mmbench list tracker. Repeatable.",
)
@click.option("--rerun", type=click.Choice(["failed", "all"]), help="Start failed runs, or all, anew; what --timeout stopped goes on.")
@click.option("--take-over", is_flag=True, help="Go on with runs of other machines that have shown no sign of life for ten minutes.")
@quiet_option
@json_option("and last the tables")
def command(
    config: str,
    overrides: tuple[str, ...],
    seeds: str | None,
    device: str,
    out: Path,
    data_root: Path | None,
    executor: str | None,
    jobs: int | None,
    jobs_per_device: int | None,
    timeout: float | None,
    trackers: tuple[str, ...],
    rerun: str | None,
    take_over: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train and score the runs of CONFIG (a file, or the name of a shipped config) that are not done yet, and print the table."""
    from mmbench.cli.display import display_of
    from mmbench.cli.execute import execute, need_torch, prepare_encoders, take_over_runs
    from mmbench.cli.terminal import hushed
    from mmbench.resolve import load
    from mmbench.results.tables import summary
    from mmbench.runner import encoder_runs, make_plan, prepare
    from mmbench.sources import changed
    from mmbench.tracking import choose

    display, events = display_of(quiet, as_json)
    choose(trackers)
    overrides = execution(overrides, executor, jobs=jobs, jobs_per_device=jobs_per_device, timeout=timeout)
    with hushed(quiet or as_json):
        plan = make_plan(load(config, overrides, seeds), out, data_root, device)
        for warning in dict.fromkeys(warning for dataset in plan.datasets for warning in dataset.record.get("warnings", ())):
            say(f"warning: {warning}", err=True)
        if take_over:
            take_over_runs(plan)
        requests, done, failed = prepare(plan, rerun)
        for line in plan.parts:
            say(line)
        say(
            f"{plan.folder}: {runs_of(len(requests))} to do, {done} done"
            + (f", {failed} failed before (--rerun failed tries again)" if failed else "")
        )
        for line in changed(plan):
            say(f"warning: {line}", err=True)
        if events:
            events.tell("plan", folder=plan.folder, to_do=len(requests), done=done, failed=failed)
        if requests:
            need_torch()
        for folder in encoder_runs(plan, requests):
            if code := prepare_encoders(folder, device):
                sys.exit(code)
        ended = execute(requests, plan.executor, display)
        if ended.stopping:
            sys.exit(130)
        say("")
    if events:
        events.tables(plan.folder)
    else:
        say(summary(plan.folder))
        if not quiet:
            say(f"Runs: {plan.folder}")
    if failed or ended.failed or ended.interrupted:  # a run's process may be told to stop when this one is not
        sys.exit(1)
