"""``mmbench status``: what is done, what failed and why, what is running."""

from __future__ import annotations

from pathlib import Path

import click

from mmbench.cli.terminal import say


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Show the state of every run below DIR: one line for each configuration, with the reasons of failures below it."""
    from mmbench.results.formats import clean
    from mmbench.results.runs import find_runs
    from mmbench.results.status import status_lines

    for line in status_lines(find_runs(folder)):
        say(line[: len(line) - len(line.lstrip())] + clean(line))
