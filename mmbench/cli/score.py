"""``mmbench score``: every score again, from the stored predictions."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mmbench.cli.terminal import say


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--write", "update", is_flag=True, help="put the computed scores into each result.json that differs")
def command(folder: Path, update: bool) -> None:
    """Compute every metric again from the stored predictions of the runs below DIR and compare with the stored scores.

    Ends with status 1 if a stored score differs by more than 1e-9 (without --write), or if predictions cannot be read.
    """
    from mmbench.results.formats import clean
    from mmbench.results.rescore import rescore, store
    from mmbench.results.runs import find_runs
    from mmbench.results.tables import known_metrics

    found_runs = find_runs(folder)
    records = [record for record in found_runs if record.status == "done"]
    metrics = known_metrics(records)
    agreeing = differing = unreadable = 0
    for record in found_runs:
        if record.status == "damaged":
            unreadable += 1
            say(clean(f"{record.experiment}/{record.label}/{record.folder.name}: cannot be scored: {record.reason}"))
    for record in records:
        found = rescore(record, metrics)
        where = f"{record.experiment}/{record.label}/{record.folder.name}"
        if found.unknown:
            say(clean(f"{where}: not computed, because no installed plugin has them: {', '.join(found.unknown)}"))
        if found.problem:
            unreadable += 1
            say(clean(f"{where}: cannot be scored: {found.problem}"))
            continue
        for difference in found.differences:
            say(clean(f"{where}: {difference}"))
        if not found.differences:
            agreeing += 1
            continue
        differing += 1
        if update:
            store(found)
    outcome = "updated" if update else "different"
    say(f"{len(records)} finished runs: {agreeing} as stored, {differing} {outcome}" + (f", {unreadable} cannot be scored" * bool(unreadable)))
    if unreadable or (differing and not update):
        sys.exit(1)
