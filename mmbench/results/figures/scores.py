"""Figures of a table's scores: bubbles with published numbers, and differences with their intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure

from mmbench.errors import ConfigError
from mmbench.results.comparison import contest_of, corrected
from mmbench.results.figures.overview import Point, bubble, intervals
from mmbench.results.runs import RunRecord
from mmbench.results.tables import Column, Row, Table, build_tables, known_metrics

MOST = 16
"""Pairs of configurations in a figure of intervals without a baseline."""


def one_table(records: Sequence[RunRecord], names: Sequence[str]) -> tuple[Table, list[Row]]:
    """The table that the figure is of, and its rows of these names, or its methods; a protocol's averaged table stands for its parts.

    Raises:
        ConfigError: where runs are on several data, or a name is not there.
    """
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


def bubble_of(records: Sequence[RunRecord], keys: Sequence[str], names: Sequence[str], source: str | None) -> Figure:
    """Bubbles of the methods, and of a source's published numbers on the same data set, with its footnotes below. ConfigError: data are simulated."""
    table, rows = one_table(records, names)
    columns = {column.key: column for column in table.columns}
    if not keys:
        keys = [key for usual in USUAL for key in [next((key for key in usual if key in columns), "")] if key]
    if len(keys) != 3 or any(key not in columns for key in keys):
        raise ConfigError(f"a bubble shows three scores, --metric X,Y,AREA, of {', '.join(columns)}; not {', '.join(keys) or 'none'}")
    x, y, area = (columns[key] for key in keys)

    def point(name: str, scores: Mapping[str, float], published: bool) -> Point:
        return Point(name, shown(x, scores[x.key]), shown(y, scores[y.key]), shown(area, scores[area.key], inverse=True), published)

    notes: list[str] = []
    points = [
        point(row.name + (f" ({row.done}/{row.total} seeds)" if row.done < row.total else ""), {key: row.cells[key].mean for key in keys}, False)
        for row in rows
    ]
    if source is not None:
        if table.simulated:
            raise ConfigError(f"--published {source}: {table.title}: no published numbers are drawn beside scores on simulated data; leave it out")
        found = printed(table, keys, source)
        points += [point(name, scores, True) for name, scores in found.items()]
        notes = remarks(table, keys, source, found)
    labels = [f"{column.key}, %" if column.percent else column.key for column in (x, y)]
    title = table.short + (f"; hollow: published by {source}" if source else "")
    return bubble(points, (labels[0], labels[1], f"1 / {area.key}" if area.higher_is_better is False else area.key), title, table.simulated, notes)


def printed(table: Table, keys: Sequence[str], source: str) -> dict[str, dict[str, float]]:
    """What a source prints of each method on the table's data set: scores of one of its tables and settings, the first that has all of them.

    Raises:
        ConfigError: for an unknown source, or one without such a method.
    """
    from mmbench.results.published import load_published

    groups: dict[tuple[str, str, str], dict[str, float]] = {}
    for score in load_published(source):
        if (score.dataset, score.protocol, score.variant) == (table.data.get("name"), str(table.data.get("protocol", "")), ""):
            groups.setdefault((score.method, score.table, score.setting), {}).setdefault(score.metric, score.value)
    found: dict[str, dict[str, float]] = {}
    for (name, _, _), scores in groups.items():
        if all(key in scores for key in keys):
            found.setdefault(name, scores)
    if not found:
        raise ConfigError(f"--published {source}: has no method with {', '.join(keys)} on {table.data.get('name')}; choose others with --metric")
    return found


def remarks(table: Table, keys: Sequence[str], source: str, methods: Collection[str]) -> list[str]:
    """What is known to be wrong with what a source prints of these methods on the table's data set in these scores: its footnotes, each once."""
    from mmbench.results.published import load_source

    own = load_source(source)
    where = table.data.get("name"), str(table.data.get("protocol", "")), ""
    scores = [s for s in own.scores if (s.dataset, s.protocol, s.variant) == where and s.metric in keys and s.method in methods]
    return [own.footnotes[key] for key in dict.fromkeys(key for score in scores for key in score.notes)]


def shown(column: Column, value: float, inverse: bool = False) -> float:
    """A score as it is drawn: shares as percentages; with `inverse`, one over what is better when lower."""
    if inverse and column.higher_is_better is False:
        return 1 / value if value > 0 else float("nan")
    return 100 * value if column.percent else value


def intervals_of(records: Sequence[RunRecord], keys: Sequence[str], names: Sequence[str], baseline: str | None) -> Figure:
    """Differences with their intervals."""
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
            many = f"{pairs} pairs in {len(keys)} scores are too many for one figure"
            raise ConfigError(f"{many}; name one with --baseline, or some with --rows: {', '.join(chosen)}")
        found = corrected([c for key in keys for c in contest.pairs(key) if c.first in chosen and c.second in chosen])
    else:
        found = corrected([contest.compare(name, baseline, key) for key in keys for name in chosen if name != baseline])
    title = f"{table.short}: difference of mean test scores to {baseline}" if baseline else f"{table.short}: differences of mean test scores"
    return intervals(found, title, table.simulated)
