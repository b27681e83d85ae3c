"""``mmbench status``: what is done, what failed and why, what is running."""

from __future__ import annotations

from pathlib import Path

import click

from mmbench.cli.terminal import json_text, say, say_whole


@click.command()
@click.argument("folder", metavar="[DIR]", default=Path("runs"), type=click.Path(path_type=Path))
@click.option("--all", "every", is_flag=True, help="List every configuration, of many too those that are wholly done, pending or queued.")
@click.option("--json", "as_json", is_flag=True, help="Print the state of each run as JSON, for scripts.")
def command(folder: Path, every: bool, as_json: bool) -> None:
    """Show the state of every run below DIR (default: runs): one line for each configuration, with the reasons of failures below it."""
    from mmbench.results.documents import status_document
    from mmbench.results.formats import clean
    from mmbench.results.runs import find_runs
    from mmbench.results.status import status_lines

    if as_json:
        say_whole(json_text(status_document(find_runs(folder))))
        return
    for line in status_lines(find_runs(folder), every):
        say(line[: len(line) - len(line.lstrip())] + clean(line))
