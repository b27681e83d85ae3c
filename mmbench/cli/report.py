"""``mmbench report``: the tables of finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from mmbench.errors import ConfigError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["plain", "github", "latex", "csv", "json"]),
    default="plain",
    show_default=True,
    help="json: grids alone",
)
@click.option("--grid", metavar="METRIC", help="A grid instead: backbones by losses, each against the same backbone without an extra loss.")
@click.option("--draws", type=click.IntRange(100), default=2000, show_default=True, help="Draws of the bootstrap behind the grid's intervals.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="write to this file instead of the terminal")
def command(folder: Path, format_: str, grid: str | None, draws: int, out: Path | None) -> None:
    """Print the tables of the runs below DIR: mean and sample standard deviation over seeds, with the floors.

    DIR is the folder of one experiment, or one above several: runs on the same data stand in one table.
    A protocol with parts (folds, binary tasks) has a table of the means over its parts, then one for each part.
    With --grid mae (or another score) the runs stand as a grid of backbones and losses.
    """
    from mmbench.files import write
    from mmbench.results.runs import find_runs

    records = find_runs(folder)
    if grid is not None:
        from mmbench.results import grid_formats
        from mmbench.results.grid import build_grids

        text = grid_formats.render(build_grids(records, grid, draws=draws), format_)
    else:
        from mmbench.results.tables import build_tables, render

        if format_ == "json":
            raise ConfigError("--format json is for grids; add --grid METRIC, or take --format csv")
        text = render(build_tables(records), format_)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        write(out, text)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror or error})") from None
    click.echo(f"wrote {out}")
