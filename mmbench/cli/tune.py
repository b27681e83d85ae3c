"""``mmbench tune``: search values of a config on validation, then run the best of them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.complete import complete
from mmbench.cli.options import execution, execution_options, experiment_options, json_option, quiet_option
from mmbench.cli.terminal import hushed, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmbench.claims import Claim
    from mmbench.cli.display import Display
    from mmbench.resolve import Choice
    from mmbench.runner import Plan
    from mmbench.tuning.study import Study


@click.command()
@click.argument("config", shell_complete=complete("configs"))
@experiment_options
@execution_options
@click.option("--no-final", is_flag=True, help="Do not run the best configuration with the seeds of the experiment.")
@click.option("--rerun", type=click.Choice(["failed"]), help="Start failed runs of trials and of the best anew; what --timeout stopped goes on.")
@click.option("--take-over", is_flag=True, help="Go on with what another machine did that has shown no sign of life for ten minutes.")
@quiet_option
@json_option("each trial, the best of them and last its tables")
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
    no_final: bool,
    rerun: str | None,
    take_over: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Search the space that CONFIG names in its section tune, by validation alone, and run the best of it with every seed of the experiment.

    Trials are runs as any others, in DIR/NAME_tune; the best configuration is NAME_tune/best.yaml, and its runs are in DIR/NAME_tuned. The same
    command goes on with a search that was stopped; with more trials, with one that had ended.
    """
    from mmbench.cli.display import display_of
    from mmbench.cli.execute import need_torch
    from mmbench.resolve import load
    from mmbench.results.tables import summary
    from mmbench.runner import make_plan
    from mmbench.tuning import best
    from mmbench.tuning.search import load_search
    from mmbench.tuning.study import Study

    display, events = display_of(quiet, as_json)
    overrides = execution(overrides, executor, jobs=jobs, jobs_per_device=jobs_per_device, timeout=timeout)
    search = load_search(config, overrides, seeds)
    need_torch()
    carrier = search.first[0].executor
    with _alone(out / f"{search.name}_tune", take_over) as mine:
        study = Study(search, out, data_root, device)
        for warning in dict.fromkeys(warning for dataset in study.start.datasets for warning in dataset.record.get("warnings", ())):
            say(f"warning: {warning}", err=True)
        with hushed(quiet or as_json):
            say(f"{study.folder}: {search.config.trials} trials, {search.at_once} at once; {len(study.asked)} asked for before")
            if events:
                asked = len(study.asked)
                events.tell("plan", folder=study.folder, trials=search.config.trials, at_once=search.at_once, asked=asked)
            _search(study, carrier, rerun, take_over, mine, display)
        position = study.best()
        if position is None:
            first = next((trial.reason for trial in study.trials()), "the tuner asked for none")
            say(f"error: {study.folder}: no trial has a value ({first}); --rerun failed tries them again", err=True)
            sys.exit(1)
        path = best.write_best(study, position)
        with hushed(as_json):
            say("")
            for line in best.summary(study, position):
                say(line)
            say(f"best configuration: {path}")
        if events:
            found = study.trials()[position]
            events.tell("best", trial=position + 1, metric=search.first[0].select, value=found.value, values=found.values, config=path)
    if no_final:
        return
    plan = make_plan(load(path), out, data_root, device)
    best.rename(plan)
    with hushed(quiet or as_json):
        failed = _execute(plan, carrier, rerun, take_over, display)
        say("")
    if events:
        events.tables(plan.folder)
    else:
        say(summary(plan.folder))
        if not quiet:
            say(f"Runs: {plan.folder}")
    if failed:
        sys.exit(1)


def _search(study: Study, carrier: Choice, rerun: str | None, take_over: bool, mine: Claim, display: Display | None = None) -> None:
    """Make trials, round by round, until there are as many as are wanted. ConfigError: another command has taken the search over."""
    from mmbench.cli.display import Events
    from mmbench.errors import ConfigError
    from mmbench.tuning.best import trial_line

    positions = study.unfinished(failed=rerun is not None)
    while positions := positions or study.ask():
        if plan := study.plan(positions):
            _execute(plan, carrier, rerun, take_over, display)
        if not mine.held:  # this machine may have slept meanwhile: what is asked for next is the other's to say
            raise ConfigError(f"{study.folder}: another command has taken this search over, or the folder was removed; nothing more is written")
        trials = study.trials()
        for i in positions:
            if trials[i].status != "running":
                say(trial_line(i + 1, trials[i], study.search))
                if isinstance(display, Events):
                    display.tell("trial", number=i + 1, **asdict(trials[i]))
        if problem := study.keep():
            say(f"warning: {problem}", err=True)
        if study.unfinished():
            say(f"{study.folder}: a trial was stopped before it ended; the same command goes on", err=True)
            sys.exit(1)
        positions, rerun = [], None


def _execute(plan: Plan, carrier: Choice, rerun: str | None, take_over: bool, display: Display | None) -> bool:
    """Execute what is missing of a plan. Returns whether something failed or was stopped; exits where the user interrupted."""
    from mmbench.cli.execute import execute, prepare_encoders, take_over_runs
    from mmbench.runner import encoder_runs, prepare

    if take_over:
        take_over_runs(plan)
    requests, _, failed = prepare(plan, rerun)
    for folder in encoder_runs(plan, requests):
        if code := prepare_encoders(folder, plan.device):
            sys.exit(code)
    ended = execute(requests, carrier, display)
    if ended.stopping:
        sys.exit(130)
    return bool(failed or ended.failed or ended.interrupted)


@contextmanager
def _alone(folder: Path, take: bool) -> Iterator[Claim]:
    """Hold the search of a folder: what one command asks for next depends on all that was asked for before. ConfigError: another one holds it."""
    from mmbench.claims import ClaimedError, claim, take_over
    from mmbench.errors import ConfigError
    from mmbench.files import writing

    advice = "choose another folder with --out"
    with writing(folder, advice):
        folder.mkdir(parents=True, exist_ok=True)
    if take and (owner := take_over(folder)):
        say(f"{folder}: taken over from {owner}", err=True)  # events may go to standard output
    try:
        with claim(folder) as mine:
            yield mine
    except ClaimedError as error:
        raise ConfigError(
            f"{folder}: another command makes this search ({error.owner}); wait for it. If its machine is gone, --take-over goes on after ten minutes"
        ) from None
