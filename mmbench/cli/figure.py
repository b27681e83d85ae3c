"""``mmbench figure``: the figures of a paper from finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmbench.results.published import PublishedScore
    from mmbench.results.runs import RunRecord
    from mmbench.results.tables import Column, Row, Table

KINDS = ("curves", "confusion", "classes", "heatmap", "tsne", "pairs", "bubble", "intervals")
MOST = 16
"""Pairs of configurations in a figure of intervals without a baseline."""


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--metric", "metrics", metavar="KEY[,...]", help="heatmap: one; intervals: any; bubble: three; classes: f1 or recall")
@click.option("--rows", metavar="NAME[,...]", help="these configurations alone, in this order; default: all methods, without floors")
@click.option("--baseline", metavar="NAME", help="intervals: against this configuration; default: all pairs")
@click.option("--published", metavar="SOURCE", help="bubble: with this source's published numbers, hollow")
@click.option("--out", metavar="PATH", type=click.Path(path_type=Path), help="where to write PATH.svg and PATH.png; default: the kind, here")
def command(
    kind: str, folders: tuple[Path, ...], metrics: str | None, rows: str | None, baseline: str | None, published: str | None, out: Path | None
) -> None:
    """Draw a figure of the runs below each DIR as SVG and PNG.

    \b
    curves     learning curves: every term of the loss, validation, gradients
    confusion  confusion matrices over rounded intensities or classes
    classes    F1 or recall of each intensity or class
    heatmap    a sweep over two axes
    tsne       features in the plane (first: mmbench embed RUN)
    pairs      two modalities' features in the plane, with the modality gap (first: mmbench embed RUN)
    bubble     two scores against each other, the area a third
    intervals  differences with their intervals, against --baseline or of all pairs
    """
    for option, given, kinds in (("metric", metrics, METRIC), ("baseline", baseline, ("intervals",)), ("published", published, ("bubble",))):
        if given is not None and kind not in kinds:
            raise ConfigError(f"--{option} has no meaning for {kind}; it is for {', '.join(kinds)}")
    from mmbench.results.figures import save
    from mmbench.results.runs import find_runs

    records = list({run.folder: run for folder in folders for run in find_runs(folder)}.values())
    if kind == "bubble":
        figure = bubble(records, listed(metrics), listed(rows), published)
    elif kind == "intervals":
        figure = intervals(records, listed(metrics), listed(rows), baseline)
    else:
        figure = DRAWN[kind](records, listed(metrics), listed(rows))
    path = out or Path(kind)
    for file in save(figure, path.with_suffix("") if path.suffix in (".svg", ".png") else path):
        click.echo(f"wrote {file}")


METRIC = ("heatmap", "classes", "bubble", "intervals")


def listed(text: str | None) -> list[str]:
    """The names in a list with commas; a name with a comma in it may be quoted as in CSV."""
    import csv

    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])] if text else []


def curves(records: Sequence[RunRecord], metrics: Sequence[str], rows: Sequence[str]) -> Figure:
    """Learning curves."""
    from mmbench.results.figures import configurations, curves

    return curves([run for runs in configurations(records, rows=rows).values() for run in runs])


def confusion(records: Sequence[RunRecord], metrics: Sequence[str], rows: Sequence[str]) -> Figure:
    """Confusion matrices."""
    from mmbench.results.figures import configurations, confusion

    return confusion(configurations(records, rows=rows))


def classes(records: Sequence[RunRecord], metrics: Sequence[str], rows: Sequence[str]) -> Figure:
    """Bars of each class."""
    from mmbench.results.figures import configurations, per_class

    score = metrics[0] if metrics else "f1"
    if score not in ("f1", "recall") or len(metrics) > 1:
        raise ConfigError(f"--metric {','.join(metrics)}: classes shows f1 or recall")
    return per_class(configurations(records, rows=rows), score)  # type: ignore[arg-type]


def heatmap(records: Sequence[RunRecord], metrics: Sequence[str], rows: Sequence[str]) -> Figure:
    """A sweep's grid in one metric, by default the first that the data set is scored with."""
    from mmbench.results.figures import configurations, heatmap

    runs = [run for group in configurations(records, rows=rows).values() for run in group]
    known = next((run.data["metrics"] for run in runs if run.data.get("metrics")), [])
    if len(metrics) > 1 or not (metrics or known):
        raise ConfigError("a heat map shows one metric: --metric KEY")
    return heatmap(runs, metrics[0] if metrics else known[0])


def tsne(records: Sequence[RunRecord], metrics: Sequence[str], rows: Sequence[str]) -> Figure:
    """Features by label."""
    from mmbench.results.figures import configurations, tsne
    from mmbench.results.figures.configurations import about
    from mmbench.results.figures.features import embeddings_of, labelled

    chosen = configurations(records, rows=rows)
    title, simulated = about(chosen)
    names = next((tuple(run.data.get("classes", ())) for runs in chosen.values() for run in runs if run.data), ())
    found = embeddings_of(chosen)
    which = f": {next(iter(chosen))}, seed {next(iter(found.values())).about.get('seed')}" if len(found) == 1 else ""
    return tsne(labelled(found), names, f"{title}, test{which}", simulated or any(own.simulated for own in found.values()))


def pairs(records: Sequence[RunRecord], metrics: Sequence[str], rows: Sequence[str]) -> Figure:
    """Two modalities' features."""
    from mmbench.results.figures import configurations, pairs
    from mmbench.results.figures.configurations import about
    from mmbench.results.figures.features import embeddings_of, paired

    chosen = configurations(records, rows=rows)
    title, simulated = about(chosen)
    found = embeddings_of(chosen)
    panels, names, field = paired(found)
    return pairs(panels, names, f"{title}, test; {field} features", simulated or any(own.simulated for own in found.values()))


DRAWN: Mapping[str, Callable[[Sequence[RunRecord], Sequence[str], Sequence[str]], Figure]] = {
    "curves": curves,
    "confusion": confusion,
    "classes": classes,
    "heatmap": heatmap,
    "tsne": tsne,
    "pairs": pairs,
}


def one_table(records: Sequence[RunRecord], names: Sequence[str]) -> tuple[Table, list[Row]]:
    """The table that the figure is of, and its rows of these names, or its methods; a protocol's averaged table stands for its parts.

    Raises:
        ConfigError: where runs are on several data, or a name is not there.
    """
    from mmbench.results.tables import build_tables

    tables = [table for table in build_tables(records, draws=0) if any(row.finished for row in table.rows)]
    tables = [table for table in tables if table.averaged] or tables
    if len(tables) != 1:
        titles = "; ".join(table.title for table in tables) or "none of them is done"
        raise ConfigError(f"a figure is of runs on the same data, but these are on {len(tables)}: {titles}; give the folder of one")
    (table,) = tables
    by_name = {row.name: row for row in table.rows if row.finished}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ConfigError(f"no finished configuration is called {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, by_name))}")
    return table, [by_name[name] for name in names] or [row for row in by_name.values() if row.kind == "method"] or list(by_name.values())


USUAL = (("acc2_non0", "acc2_sims", "acc2_has0", "wacc"), ("f1_non0", "f1_sims", "f1_has0", "waf1"), ("mae", "mae_clip1", "uar"))
"""What a bubble shows unless told: the first that the runs were scored with, of x, y and area."""


def bubble(records: Sequence[RunRecord], keys: Sequence[str], names: Sequence[str], source: str | None) -> Figure:
    """Bubbles of the methods, and of a source's published numbers on the same data set."""
    from mmbench.results.figures import Point, bubble

    table, rows = one_table(records, names)
    columns = {column.key: column for column in table.columns}
    if not keys:
        keys = [key for usual in USUAL for key in [next((key for key in usual if key in columns), "")] if key]
    if len(keys) != 3 or any(key not in columns for key in keys):
        raise ConfigError(f"a bubble shows three scores, --metric X,Y,AREA, of {', '.join(columns)}; not {', '.join(keys) or 'none'}")
    x, y, area = (columns[key] for key in keys)
    points = [Point(row.name, *(shown(column, row.cells[column.key].mean, column is area) for column in (x, y, area))) for row in rows]
    if source is not None:
        from mmbench.results.published import load_published

        printed: dict[str, dict[str, PublishedScore]] = {}
        for score in load_published(source):
            if (score.dataset, score.protocol, score.variant) == (table.data.get("name"), str(table.data.get("protocol", "")), ""):
                printed.setdefault(score.method, {}).setdefault(score.metric, score)
        known = {name: scores for name, scores in printed.items() if all(key in scores for key in keys)}
        if not known:
            raise ConfigError(f"--published {source}: has no method with {', '.join(keys)} on {table.data.get('name')}; choose others with --metric")
        points += [Point(name, *(shown(c, scores[c.key].value, c is area) for c in (x, y, area)), True) for name, scores in known.items()]
    labels = [f"{column.key}, %" if column.percent else column.key for column in (x, y)]
    title = table.short + (f"; hollow: published by {source}" if source else "")
    return bubble(points, (labels[0], labels[1], f"1 / {area.key}" if area.higher_is_better is False else area.key), title, table.simulated)


def shown(column: Column, value: float, area: bool) -> float:
    """A score as it is drawn: shares as percentages; as an area, the inverse of what is better when lower."""
    if area and column.higher_is_better is False:
        return 1 / value if value > 0 else float("nan")
    return 100 * value if column.percent else value


def intervals(records: Sequence[RunRecord], keys: Sequence[str], names: Sequence[str], baseline: str | None) -> Figure:
    """Differences with their intervals."""
    from mmbench.results.comparison import contest_of, corrected
    from mmbench.results.figures import intervals
    from mmbench.results.tables import known_metrics

    table, rows = one_table(records, names)
    columns = [column.key for column in table.columns]
    keys = list(keys) or columns[:1]
    unknown = [key for key in keys if key not in columns]
    if unknown:
        raise ConfigError(f"--metric {', '.join(unknown)}: these runs were not scored with it; there are {', '.join(columns)}")
    chosen = [row.name for row in rows]
    there = [row.name for row in table.rows if row.finished]
    if baseline is not None and baseline not in there:
        raise ConfigError(f"--baseline {baseline}: there is no such configuration; there are {', '.join(there)}")
    contest = contest_of(table, known_metrics(records), also=[*chosen, *([baseline] if baseline else [])])
    if baseline is None:
        pairs = len(chosen) * (len(chosen) - 1) // 2
        if pairs * len(keys) > MOST:
            raise ConfigError(
                f"{pairs} pairs in {len(keys)} scores are too many for one figure; name one with --baseline, or some with --rows: {chosen}"
            )
        found = corrected([c for key in keys for c in contest.pairs(key) if c.first in chosen and c.second in chosen])
    else:
        found = corrected([contest.compare(name, baseline, key) for key in keys for name in chosen if name != baseline])
    title = f"{table.short}: difference of mean test scores to {baseline}" if baseline else f"{table.short}: differences of mean test scores"
    return intervals(found, title, table.simulated)
