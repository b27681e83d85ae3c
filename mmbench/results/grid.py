"""From run records to a grid: backbones by losses, each cell against the same backbone without an extra loss.

What stands where is told by the runs' configs, not by names: a row is everything in a config but its losses and adapters, a column is the
losses with their weights and hyperparameters, and how adapters were made. So no cell ever mixes settings; where a backbone or a loss stands
with several settings, it has several rows or columns, named by what differs, and a note says so.

A protocol with parts (folds, binary tasks) has a grid of the means over its parts before those of the parts.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmbench.component import Metric
from mmbench.errors import ConfigError, MmbenchError
from mmbench.metrics import keys
from mmbench.results.comparison import Comparison, Contest
from mmbench.results.parts import Groups, Home, all_parts, homes, joined, mean_of, mean_table, merged_data
from mmbench.results.runs import RunRecord, intact
from mmbench.results.statistics import DRAWS
from mmbench.results.tables import Cell, Column, Identity, Row, build, cell, column, identities, known_metrics, notes_on, title
from mmbench.strict_yaml import load_document

NONE = "none"
"""The column of the backbones without an extra loss."""


@dataclass(frozen=True)
class GridCell:
    """A backbone with losses. `status`: ``done`` (every seed), ``partial`` (some seeds are missing), ``missing`` (all are), ``refused``.

    `difference` is that to the column `NONE` in the same row; None where either is not done with the same seeds. `gradients` is the norm of
    each weighted term's gradient in the encoded features at the first batch of the chosen epoch, mean over seeds.
    """

    status: str
    score: Cell
    total: int
    difference: Comparison | None = None
    adapters: tuple[Mapping[str, Any], ...] = ()
    collapsed: int = 0
    reason: str = ""
    gradients: Mapping[str, float] = field(default_factory=dict)
    label: str = ""
    runs: int = 0
    """Finished runs that it rests on."""


@dataclass(frozen=True)
class Grid:
    """One metric on one data set. `cells` by (row, column); one that was not asked for is not in it. `draws`: of test videos behind the intervals."""

    title: str
    simulated: bool
    metric: Column
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], GridCell]
    floors: tuple[Row, ...]
    notes: tuple[str, ...]
    draws: int
    data: Mapping[str, Any]

    @property
    def averaged(self) -> bool:
        """Whether the score of a seed is its mean over the parts of a protocol."""
        return bool(self.data.get("parts")) and not self.data.get("part")


@dataclass(frozen=True)
class Configuration:
    """The runs of one configuration, with the settings that choose its row and its column. `parts`: of a protocol, where they are averaged."""

    records: tuple[RunRecord, ...]
    row: Mapping[str, Any]
    column: Mapping[str, Any]
    parts: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """Row and column as text that is equal where the settings are."""
        return _text(self.row), _text(self.column)

    @property
    def folder(self) -> str:
        """Where its runs are, for messages."""
        record = self.records[0]
        return f"{record.experiment}/{f'{record.model}-{record.family}' if self.parts else record.label}"

    @property
    def done(self) -> dict[int, list[RunRecord]]:
        """By seed the finished run, or where parts are averaged those of all parts."""
        finished = {(r.part if self.parts else "", r.seed): r for r in self.records if r.status == "done" and r.seed is not None}
        every = {seed: [finished.get((part, seed)) for part in self.parts or ("",)] for _, seed in finished if seed is not None}
        return {seed: [run for run in runs if run] for seed, runs in every.items() if all(runs)}


def build_grids(records: Iterable[RunRecord], key: str, metrics: Mapping[str, Metric] | None = None, draws: int = DRAWS) -> list[Grid]:
    """A grid of the score `key` (``mae``, ``recall[happy]``) for each data identity whose runs were scored with it.

    Raises:
        ConfigError: where no run was scored with it, or there is no backbone to show.
    """
    records = list(records)
    known = known_metrics(records) if metrics is None else metrics
    groups: dict[Identity, list[RunRecord]] = defaultdict(list)
    for record, identity in zip(records, _homes(records), strict=True):
        if identity:
            groups[identity].append(record)
    scored = {name for identity, found in groups.items() for name in _keys(identity, found, known)}
    if key not in scored:
        raise ConfigError(f"--grid {key}: these runs were not scored with it; there are {', '.join(sorted(scored)) or 'no scores'}")
    chosen = {i: found for i, found in groups.items() if key in _keys(i, found, known)}
    means = [home for home in homes(groups) if all(identity in chosen for identity in home.values())]
    averaged = {identity for home in means for identity in home.values()}
    blocks: list[list[Home]] = [[home, *({"": identity} for identity in home.values())] for home in means]
    blocks += [[{"": identity}] for identity in chosen if identity not in averaged]
    order = [home for block in sorted(blocks, key=lambda block: str(next(iter(block[0].values())))) for home in block]
    grids = [_grid(home, groups, key, known, draws) for home in order]
    grids = [grid for grid in grids if grid.rows]
    if not grids:
        raise ConfigError(f"--grid {key}: there are no runs but those of floors")
    repeated = Counter(grid.title for grid in grids)
    return [replace(g, title=f"{g.title}; data {str(g.data.get('fingerprint'))[:12]}") if repeated[g.title] > 1 else g for g in grids]


def _homes(records: Sequence[RunRecord]) -> list[Identity | None]:
    """The data of each run; a refused one, whose record has none, has that of the runs whose config asks for the same data."""
    found = identities(records)
    if all(found):
        return found
    asked: dict[str, set[Identity]] = defaultdict(set)
    seen = set()
    for record, identity in zip(records, found, strict=True):
        if identity and (record.experiment, record.label) not in seen:
            seen.add((record.experiment, record.label))
            asked[_asks(record)].add(identity)
    homes = [None if identity else asked.get(_asks(record), set()) for record, identity in zip(records, found, strict=True)]
    return [identity or (next(iter(home)) if home and len(home) == 1 else None) for identity, home in zip(found, homes, strict=True)]


def _asks(record: RunRecord) -> str:
    config = _config(record) or {}
    return _text([_without_path(config.get("data")), config.get("metrics")])


def _without_path(data: Any, without_part: bool = False) -> Any:
    return {name: v for name, v in data.items() if name != "path" and (name != "part" or not without_part)} if isinstance(data, dict) else data


def _keys(identity: Identity, records: Sequence[RunRecord], known: Mapping[str, Metric]) -> list[str]:
    classes = next((tuple(record.data.get("classes", ())) for record in records if record.data.get("name")), ())
    return [key for name in identity[3] for key in keys(name, classes, known)]


def _grid(home: Home, groups: Groups, key: str, known: Mapping[str, Metric], draws: int) -> Grid:
    """The grid of runs on one data set, or of means over the parts of a protocol."""
    records = [record for identity in home.values() for record in groups[identity]]
    each = {part: next(record.data for record in groups[identity] if record.data.get("name")) for part, identity in home.items()}
    parts = () if "" in home else all_parts(home, groups)
    data = merged_data(list(each.values())) if parts else each[""]
    labels = {record.label for record in records if record.floor}  # a run that is not done does not say itself that it is a floor's
    methods = [record for record in records if record.label not in labels]
    found, notes = configurations(methods, parts)
    rows = names({c.place[0]: (_model(c), c.row) for c in found})
    columns = names({c.place[1]: (" + ".join(name for name in c.column if name != "adapters") or NONE, c.column) for c in found})
    notes += [f"{what}: several settings of one name are {where}s of their own" for what, where in (*_split(rows, "row"), *_split(columns, "column"))]
    placed: dict[tuple[str, str], Configuration] = {}
    for configuration in sorted(found, key=lambda c: (-len(c.done), c.folder)):
        place = rows[configuration.place[0]], columns[configuration.place[1]]
        first = placed.setdefault(place, configuration)
        if first is not configuration:
            notes.append(f"{place[0]}, {place[1]}: is there twice; {first.folder} counts, {configuration.folder} does not")
    seeds = sorted({record.seed for record in methods if record.seed is not None})
    cells = {place: _cell(configuration, key, len(seeds)) for place, configuration in placed.items()}
    differences, problems = _differences(placed, cells, key, known, draws)
    cells = {place: replace(content, difference=differences.get(place)) for place, content in cells.items()}
    if set(columns) == {_text({})}:
        notes.append("no run here has an extra loss, so that there is nothing to compare; without --grid, configurations stand side by side")
    untold = {
        part: notes_on([record for record in groups[identity] if record.status not in ("incompatible", "pending", "queued", "running")])
        for part, identity in home.items()
    }
    return Grid(
        title=title(data),
        simulated=bool(data.get("simulated")),
        metric=column(key, known),
        rows=tuple(sorted({row for row, _ in cells})),
        columns=tuple(sorted({name for _, name in cells}, key=lambda name: (not name.startswith(NONE), name))),
        cells=cells,
        floors=_floors(home, groups, bool(parts), known),
        notes=(*notes, *problems, *(joined(untold) if parts else untold[""])),
        draws=draws,
        data=data,
    )


def _floors(home: Home, groups: Groups, averaged: bool, known: Mapping[str, Metric]) -> tuple[Row, ...]:
    """The floors and the oracle, which reads its targets from any run."""
    usable = {identity: [record for record in groups[identity] if record.floor or record.status == "done"] for identity in home.values()}
    if not all(any(record.data.get("name") for record in records) for records in usable.values()):
        return ()
    if averaged:
        table = mean_table(home, usable, (), known)
    else:
        ((identity, records),) = usable.items()
        table = build(identity, records, known)
    return tuple(row for row in table.rows if row.kind != "method")


def configurations(records: Iterable[RunRecord], parts: tuple[str, ...] = ()) -> tuple[list[Configuration], list[str]]:
    """The runs by configuration, those on several parts together, and a note for each one whose config cannot be read."""
    groups: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.family or not parts:
            groups[record.experiment, record.family if parts else record.label].append(record)
    found, notes = [], []
    for group in groups.values():
        config = next((config for config in map(_config, group) if config), None)
        if config is None:
            notes.append(f"{group[0].title}: not in the grid, since its config cannot be read ({group[0].folder})")
            continue
        losses = {str(loss.get("name")).rpartition("/")[2]: loss for loss in config.get("losses") or ()}
        if losses:  # without a loss there is nothing to adapt
            losses["adapters"] = config.get("adapters", "auto")
        own = ("name", "row", "seeds", "losses", "adapters", *(("metrics",) if parts else ()))  # each part has metrics of its own
        row = {name: value for name, value in config.items() if name not in own}
        row["data"] = _without_path(row.get("data"), bool(parts))
        found.append(Configuration(tuple(group), row, losses, parts))
    return found, notes


def _config(record: RunRecord) -> dict[str, Any] | None:
    """The config of a run, if it can be read."""
    try:
        value = load_document(intact(record, "config.yaml")).value
    except (MmbenchError, OSError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("model"), dict) else None


def _model(configuration: Configuration) -> str:
    return str(configuration.row["model"].get("name")).rpartition("/")[2]


def names(settings: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """A name for each setting: its short one, with what differs where several have that name: ``decalign (model.layers=2)``."""
    flat = {key: flatten(value) for key, (_, value) in settings.items()}
    alike: dict[str, list[str]] = defaultdict(list)
    for key, (short, _) in settings.items():
        alike[short].append(key)
    named = {}
    for short, group in alike.items():
        every = sorted({name for key in group for name in flat[key]})
        differing = [name for name in every if len({flat[key].get(name, "-") for key in group}) > 1]
        for key in group:
            what = ", ".join(f"{name}={flat[key].get(name, '-')}" for name in differing)
            named[key] = f"{short} ({what})" if what else short
    return named


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Dotted keys to values as text; an empty mapping is a value."""
    if isinstance(value, Mapping) and value:
        return {key: text for name, item in value.items() for key, text in flatten(item, f"{prefix}.{name}" if prefix else str(name)).items()}
    return {prefix: value if isinstance(value, str) else _text(value)}


def _split(named: Mapping[str, str], where: str) -> list[tuple[str, str]]:
    counts = Counter(name.partition(" (")[0] for name in named.values())
    return [(short, where) for short, count in counts.items() if count > 1]


def _cell(configuration: Configuration, key: str, total: int) -> GridCell:
    done = [configuration.done[seed] for seed in sorted(configuration.done)]
    runs = [record for seed in done for record in seed]
    score = cell([mean_of(record.metrics.get("test", {}).get(key, np.nan) for record in seed) for seed in done])
    refused = dict.fromkeys(record.reason for record in configuration.records if record.status == "incompatible")
    terms = sorted({term for record in runs for term in record.gradients})
    return GridCell(
        status="refused" if refused else "missing" if not done else "done" if len(done) == total else "partial",
        score=score,
        total=total,
        adapters=next((record.adapters for record in configuration.records if record.adapters), ()),
        collapsed=sum(record.collapsed for record in runs),
        reason="; ".join(refused),
        gradients={term: float(np.mean([record.gradients.get(term, np.nan) for record in runs])) for term in terms},
        label=configuration.folder,
        runs=len(runs),
    )


def _differences(
    placed: Mapping[tuple[str, str], Configuration], cells: Mapping[tuple[str, str], GridCell], key: str, known: Mapping[str, Metric], draws: int
) -> tuple[dict[tuple[str, str], Comparison], list[str]]:
    """The difference of each complete cell to the complete reference of its row, and notes on what cannot be compared."""
    complete = [place for place in sorted(cells, key=lambda place: (place[0], place[1] != NONE, place[1])) if cells[place].status == "done"]
    rows = {row: [name for own, name in complete if own == row] for row in sorted({row for row, _ in complete})}
    alone = [row for row in rows if NONE not in rows[row]]
    problems = [f"{row}: no difference is shown, since it is not there without an extra loss, with every seed" for row in alone]
    named = {f"{row}, {name}": (row, name) for row, found in rows.items() if NONE in found for name in found}
    contest = Contest({name: placed[place].done for name, place in named.items()}, known, draws)
    problems += [f"{name}: no difference is shown: {problem}" for name, problem in contest.problems.items()]
    told = {name: place for name, place in named.items() if place[1] != NONE and not contest.problems.keys() & {name, f"{place[0]}, {NONE}"}}
    found = {place: contest.compare(name, f"{place[0]}, {NONE}", key) for name, place in told.items()}
    return found, problems + [f"{c.first}: no interval is shown: {c.reason}" for c in found.values() if c.reason]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
