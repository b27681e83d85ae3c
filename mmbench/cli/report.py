"""``mmbench report``: the tables of finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from mmbench.cli.options import deliver
from mmbench.cli.terminal import say
from mmbench.errors import ConfigError

if TYPE_CHECKING:
    from mmbench.results.runs import RunRecord

ALONE = {
    "html": ("format_", "out", "grid", "baseline", "rows", "columns", "metrics", "published", "top"),
    "grid": ("baseline", "rows", "columns", "metrics", "published", "top"),
    "baseline": ("rows", "columns", "published", "top"),
}
"""Options that choose what is shown, and the others that have no meaning beside them."""


@click.command()
@click.argument("folders", metavar="[DIR...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["plain", "github", "latex", "csv", "html", "json"]),
    default="plain",
    show_default=True,
    help="csv and json have raw numbers; html is a fragment of a page",
)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="write to this file instead of the terminal")
@click.option(
    "--rows",
    type=click.Choice(["configuration", "model", "losses"]),
    default="configuration",
    show_default=True,
    help="what a row is called by: its name in the config, its model, or its losses",
)
@click.option(
    "--columns",
    type=click.Choice(["metric", "dataset"]),
    default="metric",
    show_default=True,
    help="metric: a table for each data set; dataset: one table, with the data sets side by side",
)
@click.option("--metrics", metavar="KEY,...", help="these scores alone, in this order (mae,acc2_non0; mmbench list metric)")
@click.option("--top", type=click.IntRange(0), help="configurations of a table, the best by its first score; 0: all  [default: 50; csv, json: all]")
@click.option("--published", is_flag=True, help="also what papers print for the same data set and metric, marked as published")
@click.option("--baseline", metavar="NAME", help="instead: the difference of every row to this one, with interval and corrected p")
@click.option("--grid", metavar="METRIC", help="instead: a grid of backbones by losses, each against the same backbone without an extra loss")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="instead: write everything as one page to look at")
@click.option("--draws", type=click.IntRange(100), default=2000, show_default=True, help="draws of test videos behind the intervals")
@click.pass_context
def command(
    context: click.Context,
    folders: tuple[Path, ...],
    format_: str,
    out: Path | None,
    rows: str,
    columns: str,
    metrics: str | None,
    top: int | None,
    published: bool,
    baseline: str | None,
    grid: str | None,
    html: Path | None,
    draws: int,
) -> None:
    """Print the tables of the runs below DIR: mean and sample standard deviation over seeds, with the floors.

    DIR is the folder of one experiment, or one above several (default: runs); with several, a run that is found twice counts once. Runs on the same
    data stand in one table. A protocol with parts (folds, binary tasks) has a table of the means over its parts, then one for each part.

    \b
      mmbench report runs                                            a table for each data set
      mmbench report runs --rows model --columns dataset \\
          --metrics mae,acc2_non0 --format latex --out main.tex      the main table of a paper
      mmbench report runs --published                                with what papers print
      mmbench report runs --baseline mult_mosi                       who is better than mult_mosi, and how sure is that
      mmbench report runs/matrix --grid mae                          backbones by losses
      mmbench report runs --html report.html                         one page with everything

    Best and second best are shared by rows whose difference may be zero (95 % interval over seeds and test videos).
    """
    given = [name for name in context.params if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)]
    refuse(given)
    if grid is not None and format_ == "html":
        raise ConfigError("--format html: grids have plain, github, latex, csv and json")
    from mmbench.files import check_writable

    if out is not None:
        check_writable(out)
    if html is not None:
        check_writable(html, "choose another place with --html")
    records = found_below(folders or (Path("runs"),))
    chosen = tuple(dict.fromkeys(key.strip() for key in metrics.split(",") if key.strip())) if metrics is not None else ()
    if metrics is not None and not chosen:
        raise ConfigError("--metrics names no score; write them with commas, such as --metrics mae,acc2_non0")
    if html is not None:
        from mmbench.results.page import write_page

        write_page(records, html, draws)
        say(f"wrote {html}")
        return
    text = shown(records, format_, rows, columns, chosen, published, baseline, grid, draws, top)
    deliver(text, out, format_)


def refuse(given: Sequence[str]) -> None:
    """Raises a ConfigError for options that contradict each other."""
    for name, others in ALONE.items():
        wrong = [f"--{other.rstrip('_')}" for other in others if other in given]
        if name in given and wrong:
            raise ConfigError(f"--{name} shows something else than these tables, so that {' and '.join(wrong)} would change nothing; leave one out")


def found_below(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs below several folders, each once; ConfigError as in `find_runs`."""
    from mmbench.results.runs import find_runs

    return list({record.folder: record for folder in folders for record in find_runs(folder)}.values())


def shown(
    records: Sequence[RunRecord],
    format: str,
    rows: str,
    columns: str,
    metrics: tuple[str, ...],
    published: bool,
    baseline: str | None,
    grid: str | None,
    draws: int,
    top: int | None,
) -> str:
    """What was asked for, as text."""
    if grid is not None:
        from mmbench.results import grid_formats
        from mmbench.results.grid import build_grids

        return grid_formats.render(build_grids(records, grid, draws=draws), format)
    if baseline is not None:
        from mmbench.results.comparison_formats import baseline_text

        return baseline_text(records, baseline, format, draws, metrics=metrics)
    from mmbench.results import pivot
    from mmbench.results.longest import TOP
    from mmbench.results.tables import build_tables, render

    if top is None:
        top = 0 if format in ("csv", "json") or columns == "dataset" else TOP  # data, and rows that stand in several tables, are whole
    tables = build_tables(records, shown=metrics, draws=draws, rows=rows, top=top)
    if published:
        from mmbench.results.published_rows import with_published

        tables = with_published(tables)
    return pivot.render(tables, format) if columns == "dataset" else render(tables, format)
