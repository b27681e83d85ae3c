"""``mmbench figure``: the figures of a paper from finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmbench.cli.terminal import say
from mmbench.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmbench.results.runs import RunRecord

KINDS = ("curves", "confusion", "classes", "heatmap", "tsne", "pairs", "bubble", "intervals")


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
    from mmbench.files import check_writable
    from mmbench.results.runs import find_runs

    path = out or Path(kind)
    path = path.with_suffix("") if path.suffix in (".svg", ".png") else path
    for suffix in ("svg", "png"):
        check_writable(path.with_name(f"{path.name}.{suffix}"))
    records = list({run.folder: run for folder in folders for run in find_runs(folder)}.values())
    from mmbench.results.figures import save  # seconds: after what can be wrong

    if kind == "bubble":
        from mmbench.results.figures.scores import bubble_of

        figure = bubble_of(records, listed(metrics), listed(rows), published)
    elif kind == "intervals":
        from mmbench.results.figures.scores import intervals_of

        figure = intervals_of(records, listed(metrics), listed(rows), baseline)
    else:
        figure = DRAWN[kind](records, listed(metrics), listed(rows))
    for file in save(figure, path):
        say(f"wrote {file}")


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
    known: Sequence[str] = next((run.data["metrics"] for run in runs if run.data.get("metrics")), [])
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
