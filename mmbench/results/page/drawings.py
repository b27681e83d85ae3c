"""The figures of a table as SVG inside the page: few enough to stay light, and a reason for each that is not there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from mmbench.errors import ConfigError, MmbenchError
from mmbench.results.embeddings import FIELDS, Embeddings, embeddings_path, read_embeddings
from mmbench.results.tables import Column, Row, Table
from mmbench.results.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmbench.results.comparison import Comparison

CURVES, CLASSES, POINTS = 10, 6, 3
"""Configurations in the learning curves, in the figures of classes, and in those of embeddings: the best by the table's first score."""
SWEEP = 64
"""Configurations that may be a grid of two axes."""
LARGEST = 1_000_000
"""Characters of one figure."""
LEAST = 540
HEATMAP = "Sweep"


@dataclass(frozen=True)
class Drawing:
    """A figure of the page."""

    title: str
    caption: str
    svg: Markup
    least: int
    """Pixels below which it is scrolled and not made smaller."""


@dataclass(frozen=True)
class Wanted:
    """A figure that may be drawn. `most`: of how many configurations, nothing for all."""

    title: str
    caption: str
    draw: Callable[[], Figure]
    most: int = 0


def drawings(table: Table, rows: Sequence[Row], column: Column, comparisons: Sequence[Comparison], prefix: str) -> tuple[list[Drawing], list[str]]:
    """The figures of a table, whose methods are `rows` with the best first; and why others are not there.

    `comparisons`: of the best with each other. `prefix`: of the ids in the SVG.
    """
    from mmbench.results import figures

    found, problems, key = [], [], clean(column.key)
    for index, wanted in enumerate(figures_of(table, rows, column, comparisons)):
        try:
            drawn = Markup(figures.svg(wanted.draw(), wanted.title, f"{prefix}-{index}"))
        except (MmbenchError, ValueError, LookupError) as error:
            if wanted.title == HEATMAP and isinstance(error, ConfigError):
                continue  # the configurations are no sweep of two axes
            problems.append(f"{wanted.title}: not drawn: {clean(str(error))[:300]}")
            continue
        if len(drawn) > LARGEST:
            problems.append(f"{wanted.title}: not shown, since it would make the page too large")
            continue
        fewer = wanted.most and len(rows) > wanted.most
        caption = f"{wanted.caption} The {wanted.most} best of {len(rows)} configurations by {key}." if fewer else wanted.caption
        natural = re.search(r"max-width:(\d+)px", drawn)
        found.append(Drawing(wanted.title, caption, drawn, min(LEAST, int(natural[1])) if natural else LEAST))
    return found, problems


def figures_of(table: Table, rows: Sequence[Row], column: Column, comparisons: Sequence[Comparison]) -> Iterator[Wanted]:
    """The figures that suit a table."""
    from mmbench.results import figures

    runs = {row.name: [run for seed in row.finished.values() for run in seed] for row in rows}
    few = dict(list(runs.items())[:CLASSES])
    every = [run for found in runs.values() for run in found]
    curves = [run for found in list(runs.values())[:CURVES] for run in found]
    key, title, simulated = clean(column.key), clean(table.short), table.simulated
    if comparisons:
        about = f"The best by {key} minus each other, with the 95 % interval of the difference; p is Holm's over all pairs."
        yield Wanted("The best against each other", about, lambda: figures.intervals(comparisons, title, simulated))
    about = "A thin line for each seed, the mean bold; a dot marks the epoch chosen on validation."
    yield Wanted("Learning curves", about, lambda: figures.curves(curves), CURVES)
    yield Wanted("Confusion", "Test predictions of all seeds.", lambda: figures.confusion(few), CLASSES)
    yield Wanted("By class", "Test scores class by class.", lambda: figures.per_class(few), CLASSES)
    if 4 <= len(rows) <= SWEEP:
        yield Wanted(HEATMAP, f"Mean test {key} over seeds on the grid of the sweep.", lambda: figures.heatmap(every, column.key))
    names = [row.name for row in rows if embedded(row)][:POINTS]
    if not names:
        return
    by_name = {row.name: row for row in rows}
    classes = tuple(table.data.get("classes", ()))
    about = "Fused features of the test samples by t-SNE, first seed with embeddings."

    def fused() -> Figure:
        read = {name: opened(by_name[name]) for name in names}
        return figures.tsne({name: (own.fused, own.target) for name, own in read.items()}, classes, title, simulated)

    def paired() -> Figure:
        field, pair = shared_pair([opened(by_name[name]) for name in names])
        read = {name: opened(by_name[name]).modalities(field) for name in names}
        return figures.pairs({name: (own[pair[0]], own[pair[1]]) for name, own in read.items()}, pair, title, simulated)

    yield Wanted("Embeddings", about, fused, POINTS)
    yield Wanted("Pairs of modalities", "The same test samples in two modalities in one t-SNE, a line joins each pair.", paired, POINTS)


def embedded(row: Row) -> bool:
    """Whether a seed of the row has embeddings beside it."""
    return any(len(runs) == 1 and embeddings_path(runs[0]).exists() for runs in row.finished.values())


def opened(row: Row) -> Embeddings:
    """The embeddings of the row's first seed that has them. DataError: damaged."""
    return next(read_embeddings(embeddings_path(runs[0])) for runs in row.finished.values() if embeddings_path(runs[0]).exists())


def shared_pair(found: Sequence[Embeddings]) -> tuple[str, tuple[str, str]]:
    """Two modalities of one width, in a field that all of them have: common features before encoded ones, text with vision before others.

    Raises:
        ConfigError: where there are none.
    """
    preferred = [("text", "vision"), ("text", "audio"), ("audio", "vision")]
    for field in sorted(FIELDS, key=("common", "encoded", "unique").index):
        fields = [own.modalities(field) for own in found]
        for first, second in preferred:
            if all(first in own and second in own and own[first].shape == own[second].shape for own in fields):
                return field, (first, second)
    raise ConfigError("no two modalities have features of one width in all of these configurations")
