"""From run records to tables: one for each data set as it was used, with rows for configurations and mean ± sample deviation over seeds.

The rules that keep a table honest are here; `mmbench.results.formats` only writes tables down.

* A row competes for best and second only when every one of its seeds is done, so that dropping seeds cannot raise a score
  (`mmbench.results.marks` says which rows that compete are best).
* A seed whose score is not a number makes the cell "n/a": leaving it out would be dropping a seed.
* Floors and the oracle never compete. A mean that is not better than the best of them is marked.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmbench.component import Metric
from mmbench.errors import ConfigError, MmbenchError, PluginError
from mmbench.metrics import METRICS, best_constant, keys, metric_of
from mmbench.results.cells import ORACLE, TOLERANCE, Cell, Column, Row, Table
from mmbench.results.formats import render
from mmbench.results.longest import TOP, shortened
from mmbench.results.marks import environments, floors_marked, ranked
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import RunRecord, find_runs
from mmbench.results.spread import spread
from mmbench.results.statistics import DRAWS
from mmbench.results.titles import several, title

__all__ = ["Cell", "Column", "Row", "Table", "build_tables", "render", "several", "summary", "title"]


class Identity(NamedTuple):
    """What must be equal for two runs to stand in one table."""

    name: str
    fingerprint: str
    modalities: tuple[str, ...]
    metrics: tuple[str, ...]
    protocol: str = ""
    part: str = ""


Runs = dict[tuple[str, str], dict[Any, RunRecord]]
"""Configurations (experiment, label), and their runs by seed. Floors have no experiment, since experiments on the same data share them."""


def build_tables(
    records: Iterable[RunRecord],
    metrics: Mapping[str, Metric] | None = None,
    shown: Sequence[str] = (),
    draws: int = DRAWS,
    rows: str = "configuration",
    top: int = 0,
) -> list[Table]:
    """One table for each data identity (name, fingerprint, modalities, metrics); runs that no table can be told for come in a last one, as notes.

    `metrics` default to those that `known_metrics` finds, `shown` (names or entries, in that order) to all; `draws` of test videos behind best
    and second, none for tables without these marks; `rows`: named by ``configuration``, by ``model`` or by ``losses``; `top`: so many methods of
    a table are shown, the best by its first score, or with 0 all.

    Raises:
        ConfigError: where no run was scored with one of `shown`.
    """
    records = list(records)
    metrics = known_metrics(records) if metrics is None else metrics
    groups: dict[Identity, list[RunRecord]] = defaultdict(list)
    loose: list[RunRecord] = []
    for record, identity in zip(records, identities(records), strict=True):
        (groups[identity] if identity else loose).append(record)
    from mmbench.results.parts import averages  # it builds on what is here

    means, loose = averages(groups, loose, metrics)
    averaged = {identity for mean in means for identity in mean.homes}
    blocks = [([mean.table], list(mean.homes)) for mean in means] + [([], [identity]) for identity in groups if identity not in averaged]
    tables: list[Table] = []
    for first, homes in sorted(blocks, key=lambda block: str(block[1][0])):
        tables += [*first, *(build(identity, groups[identity], metrics) for identity in homes)]
    tables = chosen(tables, shown, metrics)
    if rows != "configuration":
        from mmbench.results.naming import renamed  # it builds on what is here

        tables = renamed(tables, rows)
    short = [shortened(table, top) for table in tables]
    short = [(replace(t, notes=(*t.notes, *different_seeds(t.rows), *environments(t.rows))), others) for t, others in short]

    def rank(some: Sequence[tuple[Table, tuple[Row, ...]]]) -> list[Table]:
        return [ranked(table, metrics, draws, others) if draws else table for table, others in some]

    tables = spread(rank, short, 1) if any(others for _, others in short) else rank(short)  # of small ones, not worth a process
    repeated = Counter(table.title for table in tables)
    tables = [replace(t, title=f"{t.title}; data {str(t.data.get('fingerprint'))[:12]}") if repeated[t.title] > 1 else t for t in tables]
    if loose:
        tables.append(Table("Runs that are in no table", False, (), (), tuple(notes_on(loose, scored=False))))
    return tables


def summary(folder: Path) -> str:
    """The plain tables of the runs below `folder`: what ``mmbench run`` ends with."""
    return render(build_tables(find_runs(folder), top=TOP), "plain")


def chosen(tables: Sequence[Table], shown: Sequence[str], metrics: Mapping[str, Metric]) -> list[Table]:
    """The tables with these columns alone, in this order; a table that has none of them is left out."""
    if not shown:
        return list(tables)
    there = {c.key for table in tables for c in table.columns}
    asked = {name: [c for c in there if c == name or named_by(c, name, metrics)] for name in shown}
    unknown = [name for name, found in asked.items() if not found]
    if unknown:
        raise ConfigError(f"--metrics {', '.join(unknown)}: these runs were not scored with it; there are {', '.join(sorted(there)) or 'no scores'}")
    found = []
    for table in tables:
        own = {c.key: c for c in table.columns}
        columns = tuple(dict.fromkeys(own[key] for name in shown for key in own if key in asked[name]))
        if columns:
            rows = tuple(replace(r, cells={c.key: r.cells[c.key] for c in columns}) for r in table.rows)
            found.append(replace(table, columns=columns, rows=rows))
    return found


def named_by(key: str, name: str, metrics: Mapping[str, Metric]) -> bool:
    """Whether an entry (``recall[happy]``) is one of the metric's."""
    metric = metric_of(key, metrics)
    return metric is not None and metric.name == name


def known_metrics(records: Iterable[RunRecord]) -> dict[str, Metric]:
    """The core's metrics, and those of installed plugins that the runs were scored with. One that is not installed is left out."""
    metrics = dict(METRICS)
    for name in sorted({name for record in records for name in record.data.get("metrics", ())} - METRICS.keys()):
        from mmbench.plugins import catalogue

        with contextlib.suppress(PluginError):
            metrics[name] = catalogue().find("metric", name).load()
    return metrics


def identities(records: Sequence[RunRecord]) -> list[Identity | None]:
    """The data of each run. A run without a record of its data has that of its configuration's other runs, or of its experiment's if they agree.

    The experiment's are those on the same part of a protocol.
    """
    own = [identity_of(record) for record in records]
    seen: dict[tuple[str, ...], set[Identity]] = defaultdict(set)
    for record, identity in zip(records, own, strict=True):
        if identity:
            seen[(record.experiment, record.label)].add(identity)
            seen[(record.experiment, "", identity.part)].add(identity)
    result: list[Identity | None] = []
    for record, identity in zip(records, own, strict=True):
        for key in ((record.experiment, record.label), (record.experiment, "", record.part)):
            if identity is None and len(seen[key]) == 1:
                (identity,) = seen[key]
        result.append(identity)
    return result


def identity_of(record: RunRecord) -> Identity | None:
    """The data that a run's record states, if any."""
    data = record.data
    if not data.get("name"):
        return None
    chosen = (str(data.get("protocol", "")), record.part)
    return Identity(str(data["name"]), str(data.get("fingerprint", "")), tuple(data.get("modalities", ())), tuple(data.get("metrics", ())), *chosen)


def build(identity: Identity, records: Sequence[RunRecord], metrics: Mapping[str, Metric]) -> Table:
    """The table of runs on the same data."""
    data = next(record.data for record in records if identity_of(record) == identity)
    classes = tuple(data.get("classes", ()))
    columns = columns_of(identity, classes, metrics)
    found, notes = by_configuration(records)
    rows = [row(list(seeds.values()), columns) for seeds in found.values()]
    rows = distinct(unrepeated(sorted(rows, key=lambda r: (r.kind != "method", r.name, r.experiment, r.label))))
    constants, problem = oracle_row([record for seeds in found.values() for record in seeds.values()], columns, classes, metrics)
    rows = floors_marked([*rows, constants], columns)
    if problem:
        notes.append(problem)
    return Table(title(data), bool(data.get("simulated")), columns, tuple(rows), (*notes_on(records), *notes), data)


def by_configuration(records: Sequence[RunRecord]) -> tuple[Runs, list[str]]:
    """The runs on the same data by configuration and seed, without refused ones, and a note for each that is there twice."""
    found: Runs = defaultdict(dict)
    notes: list[str] = []
    floors = {record.label for record in records if record.floor}
    for record in records:
        if record.status == "incompatible":
            continue
        # Experiments on the same data share their floors; methods of the same configuration stay apart, each with its own failures.
        seeds = found[("" if record.label in floors else record.experiment, record.label)]
        first = seeds.setdefault(record.seed, record)
        if first is not record and record.label in floors:
            seeds[record.seed] = first if first.status == "done" else record
        elif first is not record:
            notes.append(f"{record.title}: seed {record.seed} is there twice; {first.folder} counts, {record.folder} does not")
    return found, notes


def different_seeds(rows: Sequence[Row]) -> list[str]:
    """A note where rows that compete rest on different seeds."""
    if len({r.seeds for r in rows if r.competes}) < 2:
        return []
    return ["rows rest on different seeds: " + "; ".join(f"{r.name}: {', '.join(map(str, r.seeds))}" for r in rows if r.competes)]


def columns_of(identity: Identity, classes: Sequence[str], metrics: Mapping[str, Metric]) -> tuple[Column, ...]:
    """The columns of a table: one for each metric, or for each class of a metric per class."""
    return tuple(column(key, metrics) for name in identity.metrics for key in keys(name, classes, metrics))


def column(key: str, metrics: Mapping[str, Metric]) -> Column:
    """How a score is shown: metrics between 0 and 1 as percentages."""
    metric = metric_of(key, metrics)
    if metric is None:
        return Column(key, None, False)
    return Column(key, metric.higher_is_better, tuple(metric.range) == (0, 1), metric.per_class)


def row(records: Sequence[RunRecord], columns: Sequence[Column]) -> Row:
    """The row of one configuration from its runs, one for each seed."""
    done = [record for record in records if record.status == "done"]
    shown = (done or sorted(records, key=lambda record: not record.name))[0]
    tests = [record.metrics.get("test", {}) for record in done]
    return Row(
        name=shown.title,
        kind="floor" if any(record.floor for record in records) else "method",
        cells={c.key: cell([scores.get(c.key, math.nan) for scores in tests]) for c in columns},
        done=len(done),
        total=len(records),
        collapsed=sum(record.collapsed for record in done),
        adapted=any(record.adapters for record in records),
        parameters=max((record.parameters for record in done), default=None),
        seconds=float(np.mean([record.seconds for record in done])) if done else math.nan,
        experiment=shown.experiment,
        label=shown.label,
        seeds=tuple(sorted(record.seed for record in done if record.seed is not None)),
        runs=len(done),
        memory=mean_memory(done),
        model=shown.model.rpartition("/")[2],
        records=tuple(records),
        finished={record.seed: (record,) for record in done if record.seed is not None},
    )


def mean_memory(records: Sequence[RunRecord]) -> float:
    """Mean peak memory in megabytes of the runs that have a record of it."""
    known = [record.peak_memory_mb for record in records if not math.isnan(record.peak_memory_mb)]
    return float(np.mean(known)) if known else math.nan


def unrepeated(rows: Sequence[Row]) -> list[Row]:
    """The same rows without floors whose scores are those of a floor of the same name.

    Experiments on the same data that scale their inputs differently have floors of their own, but a constant is the same in all of them.
    """
    kept: list[Row] = []
    for r in rows:
        if r.kind != "floor" or not any(o.kind == "floor" and o.name == r.name and alike(o, r) for o in kept):
            kept.append(r)
    return kept


def alike(first: Row, second: Row) -> bool:
    """Whether two rows rest on the same seeds, all done, and have equal scores in every metric."""
    if first.seeds != second.seeds or first.done != first.total or second.done != second.total:
        return False
    pairs = [(a, b) for key in first.cells for a, b in zip(astuple(first.cells[key])[:2], astuple(second.cells[key])[:2], strict=True)]
    return all(abs(a - b) <= TOLERANCE or (math.isnan(a) and math.isnan(b)) for a, b in pairs)


def cell(scores: Sequence[float]) -> Cell:
    """Mean and sample standard deviation (ddof 1) of the scores of the seeds; one that is NaN makes both NaN."""
    mean = float(np.mean(scores)) if scores else math.nan
    return Cell(mean, float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan, len(scores))


def distinct(rows: Sequence[Row]) -> list[Row]:
    """The same rows, with experiment or label added to names that occur more than once."""
    names, homes = Counter(r.name for r in rows), Counter((r.name, r.experiment) for r in rows)
    renamed = []
    for r in rows:
        origin = r.label if homes[(r.name, r.experiment)] > 1 else r.experiment
        renamed.append(replace(r, name=f"{r.name} ({origin})") if names[r.name] > 1 else r)
    return renamed


def oracle_row(
    records: Sequence[RunRecord], columns: Sequence[Column], classes: Sequence[str], metrics: Mapping[str, Metric]
) -> tuple[Row, str | None]:
    """The best constant per metric on the stored test targets, and a note where no run has them."""
    problem = None
    for record in records:
        if record.status == "done":
            try:
                target = read_predictions(record.folder / NAME)["test"][1]
                return oracle({c.key: best_of(metric_of(c.key, metrics), target, classes) for c in columns}), None
            except (MmbenchError, KeyError) as error:
                why = error if isinstance(error, MmbenchError) else "no test predictions are stored"
                problem = f"{record.title}: seed {record.seed}: {why}"
    return oracle({c.key: math.nan for c in columns}), problem


def oracle(scores: Mapping[str, float]) -> Row:
    """The row of the best constants."""
    return Row(ORACLE, "oracle", {key: Cell(score, math.nan, 1) for key, score in scores.items()})


def best_of(metric: Metric | None, target: np.ndarray, classes: Sequence[str]) -> float:
    """The best constant's score in a metric, NaN for one that is not installed."""
    return math.nan if metric is None else best_constant(metric, target, classes)


def notes_on(records: Sequence[RunRecord], scored: bool = True) -> list[str]:
    """A line for each configuration, state and reason of the runs that are not done; with `scored` False also of those that are."""
    names = {(record.experiment, record.label): record.name for record in records if record.name}  # a pending run does not say its own
    found: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.status != "done" or not scored:
            found[(names.get((record.experiment, record.label), record.title), record.status, record.reason)].append(record)
    lines = []
    for (name, status, reason), runs in found.items():
        seeds = sorted(record.seed for record in runs if record.seed is not None)
        which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} " if seeds and status != "incompatible" else ""
        lines.append(f"{name}: {which}{status}" + (f": {reason}" if reason else ""))
    return lines
