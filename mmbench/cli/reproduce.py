"""``mmbench reproduce``: a table or figure of a paper, run again and written beside the published values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.complete import complete
from mmbench.cli.options import execution, execution_options, experiment_options, quiet_option
from mmbench.cli.terminal import hushed, runs_of, say, say_whole

if TYPE_CHECKING:
    from mmbench.reproduction.plan import Work

ADVICE = "choose another folder with --out"


@click.command()
@click.argument("target", required=False, shell_complete=complete("targets"))
@click.option("--list", "listed", is_flag=True, help="List the targets, as without TARGET.")
@click.option("--variant", default="", metavar="NAME", help="Another setting than the paper's, where the target has one, such as features.")
@experiment_options
@execution_options
@click.option("--rerun", type=click.Choice(["failed", "all"]), help="Start failed runs, or all, anew; what --timeout stopped goes on.")
@click.option("--take-over", is_flag=True, help="Go on with runs of other machines that have shown no sign of life for ten minutes.")
@click.option("--no-run", is_flag=True, help="Train nothing; write the table of the runs that are there.")
@click.option("--format", "format_", type=click.Choice(["plain", "github", "latex", "csv"]), default="plain", show_default=True)
@quiet_option
def command(
    target: str | None,
    listed: bool,
    variant: str,
    overrides: tuple[str, ...],
    seeds: str | None,
    device: str,
    out: Path,
    data_root: Path | None,
    executor: str | None,
    jobs: int | None,
    jobs_per_device: int | None,
    timeout: float | None,
    rerun: str | None,
    take_over: bool,
    no_run: bool,
    format_: str,
    quiet: bool,
) -> None:
    """Run what is missing of TARGET (such as decalign/table2) and write it beside the published values.

    Runs go where mmbench run puts them, so that targets share them and finished ones are not repeated. The table is
    written to OUT/papers/TARGET as .txt, .md, .tex and .csv, figures as .svg and .png. --set changes every config of
    the target. What cannot run here (no data, no weights, not implemented) is a row that says so.

    \b
    Exit codes: 0 ok, 1 some runs failed, 2 usage or config, 3 nothing could be measured here (the files are written
    all the same), 130 interrupted; the same command goes on.
    """
    from mmbench.reproduction.target import load_target

    if target is None or listed:
        say(_list(out), nl=False)
        return
    from mmbench.compose import parse_seeds
    from mmbench.files import check_writable
    from mmbench.reproduction.blocks import result_of
    from mmbench.reproduction.drawings import draw, embedder, no_embedder
    from mmbench.reproduction.formats import FORMATS, render
    from mmbench.reproduction.plan import Options, make_work
    from mmbench.results.formats import clean

    chosen = load_target(target, variant)
    if seeds is not None:
        parse_seeds(seeds)
    place = out / "papers" / chosen.stem
    for suffix in FORMATS.values():
        check_writable(place.with_name(f"{place.name}.{suffix}"), ADVICE)
    overrides = execution(overrides, executor, jobs=jobs, jobs_per_device=jobs_per_device, timeout=timeout)
    work = make_work(chosen, Options(overrides, seeds, out, data_root, device))
    failed = 0
    with hushed(quiet):
        if not no_run:
            failed = _run(work, device, rerun, take_over, quiet)
        drawn = draw(work, place, no_embedder if no_run else embedder(device, data_root, lambda line: say(clean(line))))
    result = result_of(work, drawn.notes)
    texts = {name: render(result, name) for name in FORMATS}
    files = [_write(place.with_name(f"{place.name}.{suffix}"), texts[name]) for name, suffix in FORMATS.items()]
    (say if format_ == "plain" else say_whole)(texts[format_] if quiet else f"\n{texts[format_]}")
    say("wrote " + ", ".join(clean(str(path)) for path in [*files, *drawn.files]))
    if failed:
        sys.exit(1)
    if not no_run and not any(block.measured for block in result.blocks):
        sys.exit(3)


def _run(work: Work, device: str, rerun: str | None, take_over: bool, quiet: bool) -> int:
    """Execute what is missing, after telling what that is. Returns how many runs failed or were stopped, earlier ones among them."""
    from mmbench.cli.display import Failures
    from mmbench.cli.execute import execute, need_torch, prepare_encoders, take_over_runs
    from mmbench.results.formats import clean
    from mmbench.runner import encoder_runs, prepare

    say(f"{work.target.name}: {clean(work.target.config.title)}")
    for warning in work.warnings:
        say(f"warning: {clean(warning)}", err=True)
    requests, failed, done = {}, 0, 0
    for part, plan in work.plans:
        if take_over:
            take_over_runs(plan)
        requests[part.config], finished, broken = prepare(plan, rerun)
        failed, done = failed + broken, done + finished
        say(f"  {part.config}: {runs_of(len(requests[part.config]))} to do, {finished} done" + f", {broken} failed before" * bool(broken))
    for line in work.missing:
        say(f"  {clean(line)}")
    total = sum(map(len, requests.values()))
    say(f"{runs_of(total)} to do, {done} done" + f", {failed} failed before (--rerun failed tries again)" * bool(failed))
    if total:
        need_torch()
    for part, plan in work.plans:
        for folder in encoder_runs(plan, requests[part.config]):
            if prepare_encoders(folder, device):
                work.without_weights(part)
                requests[part.config] = []
                break
    executor = next((plan.executor for _, plan in work.plans), None)
    if executor is None:
        return failed
    ended = execute([request for several in requests.values() for request in several], executor, Failures() if quiet else None)
    if ended.stopping:
        sys.exit(130)
    return failed + ended.failed + ended.interrupted


def _write(path: Path, text: str) -> Path:
    from mmbench.files import write, writing

    with writing(path, ADVICE):
        write(path, text)
    return path


def _list(out: Path) -> str:
    """Every target with its title, and what of it was written to `out`."""
    from mmbench.reproduction.target import load_target, target_names

    lines = []
    for name in target_names():
        target = load_target(name)
        states = [state for stem in (name, *(f"{name}-{variant}" for variant in target.config.variants)) if (state := _state(out, stem, name))]
        lines += [f"{name:17} {target.config.title.partition(', ')[2]}", f"{'':17} {'; '.join(states) or 'not written yet'}"]
    return "\n".join([*lines, "", f"mmbench reproduce TARGET runs what is missing of one and writes it to {out / 'papers'}.", ""])


def _state(out: Path, stem: str, name: str) -> str:
    """What the file of a target or variant says, or nothing where there is none."""
    import csv

    path = out / "papers" / f"{stem}.csv"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("kind") == "method"]
    except (OSError, ValueError, csv.Error):
        return ""
    places = {(row.get("row"), row.get("data")) for row in rows}
    measured = {(row.get("row"), row.get("data")) for row in rows if row.get("mean")}
    variant = f"variant {stem.removeprefix(name + '-')}: " if stem != name else ""
    return f"{variant}{len(measured)} of {len(places)} rows measured" + ", SIMULATED" * any(row.get("simulated") for row in rows)
