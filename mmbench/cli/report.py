"""``mmbench report``: the tables of finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from mmbench.errors import ConfigError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", type=click.Choice(["plain", "github", "latex", "csv"]), default="plain", show_default=True, help="how it is written"
)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="write to this file instead of the terminal")
def command(folder: Path, format_: str, out: Path | None) -> None:
    """Print the tables of the runs below DIR: mean and sample standard deviation over seeds, with the floors.

    DIR is the folder of one experiment, or one above several: runs on the same data stand in one table.
    """
    from mmbench.files import write
    from mmbench.results.runs import find_runs
    from mmbench.results.tables import build_tables, render

    text = render(build_tables(find_runs(folder)), format_)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        write(out, text)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror or error})") from None
    click.echo(f"wrote {out}")
