"""``mmbench rerun``: a finished run once more, beside itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from glob import iglob
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.options import device_option, execution, execution_options, json_option, quiet_option
from mmbench.cli.terminal import hushed, runs_of, say
from mmbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mmbench.results.repeat import Comparison
    from mmbench.results.runs import RunRecord
    from mmbench.runner import Plan

ADVICE = "choose another folder with --out"
RUNS = Path("runs")
"""Where rows are looked for whose folder is not there."""
MOST_NAMED = 3


@dataclass(frozen=True)
class Repetition:
    """A finished run, and the plan of the one run that repeats it."""

    record: RunRecord
    plan: Plan

    @property
    def folder(self) -> Path:
        """Where it is repeated."""
        ((_, _, folder),) = self.plan.runs()
        return folder


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where the new run folders go. Default: beside the folder that RUN belongs to.")
@click.option("--data-root", type=click.Path(path_type=Path), envvar="MMBENCH_DATA", help="Where data sets are looked for (or MMBENCH_DATA).")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="data.path, where the data are now; or an option of the executor.")
@device_option
@execution_options
@quiet_option
@json_option("and each comparison")
def command(
    run: Path,
    out: Path | None,
    data_root: Path | None,
    overrides: tuple[str, ...],
    device: str,
    executor: str | None,
    jobs: int | None,
    jobs_per_device: int | None,
    timeout: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train RUN again from its own config and say whether it comes to the same scores.

    RUN is the folder of a finished run, or of a configuration with all its seeds. Data are taken from where the run found them, or by name from
    --data-root, and must be the same. The new runs go to another folder; those that are done there are not repeated but compared.

    \b
    Exit codes: 0 the same scores as a table prints them, 1 others, or a run failed, 2 usage, 3 the data are missing or others, 130 interrupted.
    """
    from mmbench.cli.display import display_of
    from mmbench.cli.execute import execute, need_torch, prepare_encoders
    from mmbench.results.documents import comparison_document
    from mmbench.results.repeat import compare_runs
    from mmbench.results.runs import read_run
    from mmbench.results.tables import known_metrics
    from mmbench.runner import encoder_runs, prepare

    display, events = display_of(quiet, as_json)
    records, damaged = _finished(run)
    place = out or _beside(records[0], run)
    overrides = execution(overrides, executor, jobs=jobs, jobs_per_device=jobs_per_device, timeout=timeout)
    repetitions = [_repetition(record, place, data_root, overrides, device) for record in records]
    pending = [(each.plan, prepare(each.plan, "failed")[0]) for each in repetitions]
    requests = [request for _, several in pending for request in several]
    there = len(repetitions) - len(requests)
    with hushed(quiet or as_json):
        say(f"{place}: {runs_of(len(requests))} to do, {there} there already")
        if events:
            events.tell("plan", folder=place, to_do=len(requests), done=there)
        if requests:
            need_torch()
        shared = (folder for plan, several in pending for folder in encoder_runs(plan, several))
        if (first := next(shared, None)) and (code := prepare_encoders(first, device)):  # all have the same encoders
            sys.exit(code)
        if execute(requests, repetitions[0].plan.executor, display).stopping:
            sys.exit(130)
        say("")
    metrics = known_metrics(records)
    same = 0
    for each in repetitions:
        new = read_run(each.folder)
        comparison = compare_runs(each.record, new, metrics) if new.status == "done" else None
        same += comparison is not None and comparison.equal
        if events:
            events.tell("comparison", **comparison_document(each.record, new, comparison))
        else:
            _show(each.record, new, comparison)
    if not events:
        say(f"{same} of {len(records) + damaged} runs came to the same scores." + f" {damaged} could not be read." * bool(damaged))
    if same < len(records) + damaged:
        sys.exit(1)


def _finished(run: Path) -> tuple[list[RunRecord], int]:
    """The run, or every finished run of the configuration, and how many are damaged; a line for each that is not finished.

    ConfigError: none, or of several configurations.
    """
    from mmbench.results.formats import clean

    records = _runs(run)
    if (several := len({(record.experiment, record.label) for record in records})) > 1:
        raise ConfigError(f"{run}: holds {several} configurations; choose one of them, for example mmbench rerun {_examples(records, run)}")
    done = [record for record in records if record.status == "done"]
    for record in records:
        if record not in done:
            say(f"left out: {_near(record.folder)}: {record.status}" + f" ({clean(record.reason)})" * bool(record.reason), err=True)
    if not done:
        raise ConfigError(f"{run}: no run here is done, so there is nothing to compare with")
    return done, sum(record.status == "damaged" for record in records)


def _runs(run: Path) -> list[RunRecord]:
    """The runs of a folder. ConfigError: it is none; says which folder may be meant."""
    import tarfile
    import zipfile

    from mmbench.results.runs import find_runs, read_run

    if run.is_file():
        if tarfile.is_tarfile(run) or zipfile.is_zipfile(run):
            raise ConfigError(f"{run}: is an archive; unpack it, and name the folder that comes out of it")
        if (run.parent / "result.json").is_file():
            raise ConfigError(f"{run}: is a file; the run is the folder: mmbench rerun {run.parent}")
    place = run.parent if run.parent != Path() and run.parent.is_dir() else RUNS
    # three levels deep at most: it may be a home, or all of a disk
    near = [] if run.exists() else [name for above in ("", "*/", "*/*/") for name in iglob(f"{above}seed-*", root_dir=place)]
    if near:
        known = [read_run((place / name).resolve()) for name in sorted(near)]
        meant = [record for record in known if run.name in (record.name, record.experiment) or record.label.startswith(run.name)]
        examples = _examples(meant or known, place)
        raise ConfigError(f"{run}: there is no such folder. Rows are the folders below {place}, for example mmbench rerun {examples}")
    return find_runs(run)


def _examples(records: Sequence[RunRecord], place: Path) -> str:
    """Some configurations by their folders and names in tables, methods before floors."""
    found = {}
    for record in sorted(records, key=lambda record: record.floor):
        found[record.folder.parent if record.seed is not None else record.folder] = record.title
    more = f", and {len(found) - MOST_NAMED} more: mmbench status {shlex.quote(str(place))}" * (len(found) > MOST_NAMED)
    return ", ".join(f"{shlex.quote(str(_near(folder)))} ({name})" for folder, name in islice(found.items(), MOST_NAMED)) + more


def _near(folder: Path) -> Path:
    """The folder as seen from the working directory, where it is below that."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _beside(record: RunRecord, run: Path) -> Path:
    """``runs-rerun`` for a run in ``runs``, or ``seed-1-rerun`` for a run folder on its own; for an experiment in the working directory,
    ``<experiment>-rerun`` beside it, since nobody looks beside that directory."""
    folder = record.folder
    whole = (folder.parent.parent.name, folder.parent.name) == (record.experiment, record.label)
    top = folder.parents[2] if whole else folder if run.resolve() == folder else run.resolve()
    if whole and Path.cwd().is_relative_to(top) and top.name != RUNS.name:
        top = folder.parents[1]
    if not top.name:
        raise ConfigError(f"{run}: there is no place beside {top}; choose a folder with --out")
    return _near(top.with_name(f"{top.name}-rerun"))


def _repetition(record: RunRecord, place: Path, data_root: Path | None, overrides: tuple[str, ...], device: str) -> Repetition:
    """What will be run. DataError: the config is not as it was written, or the data are others."""
    from dataclasses import replace

    from mmbench.reopen import check_data, resolve_again
    from mmbench.results.runs import intact
    from mmbench.runner import make_plan

    if not intact(record, "config.yaml").is_file():
        raise DataError(f"{record.folder / 'config.yaml'}: there is no such file, so nobody knows what to run again")
    if absent := _absent(record):
        raise ConfigError(f"{record.folder}: was made with {absent}, which is not installed here; mmbench plugins lists what is")
    elsewhere = [override for override in overrides if override.startswith("executor.")]
    data = [override for override in overrides if override not in elsewhere]
    plan = make_plan([resolve_again(record.folder, data, data_root, elsewhere)], place, data_root, device)
    plan = replace(plan, rows=plan.rows[:1])  # without the floors
    check_data(record, plan.datasets[0])
    found = Repetition(record, plan)
    if found.folder.resolve() == record.folder:
        raise ConfigError(f"{found.folder}: is the run itself, which is never written over; {ADVICE}")
    return found


def _absent(record: RunRecord) -> str:
    """The distributions of a run's components that are not here, with their versions."""
    from mmbench.plugins import catalogue

    here = {plugin.distribution for plugin in catalogue().plugins}
    used = record.environment.get("components")
    made = {key.partition(" ")[2].partition("/")[0]: version for key, version in (used.items() if isinstance(used, dict) else ())}
    return ", ".join(f"{name} {version}" for name, version in made.items() if name and name not in here)


def _show(old: RunRecord, new: RunRecord, comparison: Comparison | None) -> None:
    from tabulate import tabulate

    say(f"{old.title} seed {old.seed}: {_near(old.folder)} and {_near(new.folder)}")
    if comparison is None:
        say(f"  not repeated: {new.status}" + f" ({new.reason})" * bool(new.reason) + "\n")
        return
    for name, text in comparison.facts:
        say(f"  {name:<10} {text}")
    rows = [(*score.texts, "" if score.equal else "differs") for score in comparison.scores]
    table = tabulate(rows, ["score", "before", "now", "difference", ""], disable_numparse=True, colalign=("left", "right", "right", "right", "left"))
    say("\n".join(f"  {line}" for line in table.splitlines()))
    say(f"  {comparison.predictions}\n")
