"""``mmbench compare``: how sure is it that one configuration is better than another?"""

from __future__ import annotations

from pathlib import Path

import click

from mmbench.cli.options import deliver
from mmbench.errors import ConfigError


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="A [B]")
@click.option("--runs", metavar="DIR", type=click.Path(path_type=Path), help="A and B are names or labels in the tables of this folder, not folders.")
@click.option(
    "--metric", "given", multiple=True, metavar="KEY[,...]", help="The scores to compare; default: all for two, the table's first for all pairs."
)
@click.option("--unit", type=click.Choice(["video", "utterance"]), default="video", show_default=True, help="what of the test split is drawn again")
@click.option("--draws", type=click.IntRange(100), default=2000, show_default=True, help="draws of test videos (or utterances) behind the intervals")
@click.option("--format", "format_", type=click.Choice(["plain", "github", "latex", "csv", "html", "json"]), default="plain", show_default=True)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="write to this file instead of the terminal")
def command(names: tuple[str, ...], runs: Path | None, given: tuple[str, ...], unit: str, draws: int, format_: str, out: Path | None) -> None:
    """Compare two configurations on the same data, or all pairs of them.

    A and B are the folders of an experiment or of one of its configurations; with --runs DIR they are names in its tables.
    With one folder, every pair of its methods is compared in one score: mmbench compare runs --metric mae.

    A difference has an interval over seeds and test videos, and p values corrected for everything that is compared together (Holm).
    Runs on different data or splits are refused; seeds count that both have finished, and where one failed nothing is called significant.
    """
    from mmbench.files import check_writable
    from mmbench.results.comparison_formats import matrices, pair, render
    from mmbench.results.opponents import opponent_at, opponents_by_name
    from mmbench.results.runs import find_runs
    from mmbench.results.tables import known_metrics

    if len(names) > 2 or (runs is not None and len(names) != 2):
        raise ConfigError("name two configurations, or one folder whose methods are all compared")
    if out is not None:
        check_writable(out)
    metrics = tuple(dict.fromkeys(key.strip() for keys in given for key in keys.split(",") if key.strip()))
    if len(names) == 2 and runs is None and not any(Path(name).exists() for name in names):
        raise ConfigError(f"{' and '.join(names)}: there are no such folders; --runs DIR compares two of the names in that folder's tables")
    if len(names) == 1:
        found = matrices(find_runs(Path(names[0])), metrics, draws, unit)
    elif runs is not None:
        pairs = list(opponents_by_name(names[0], names[1], runs))
        known = known_metrics([record for both in pairs for one in both for record in one.row.records])
        found = [pair(one, two, known, metrics, draws, unit) for one, two in pairs]
    else:
        first, second = (opponent_at(Path(name)) for name in names)
        found = [pair(first, second, known_metrics([*first.row.records, *second.row.records]), metrics, draws, unit)]
    text = render(found, format_)
    deliver(text, out, format_)
