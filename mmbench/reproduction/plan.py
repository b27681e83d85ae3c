"""What a target needs and what of it can run here: its configs resolved, their data looked for, the folders of their runs. Imports no torch."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmbench.errors import ConfigError, DataError, MmbenchError
from mmbench.reproduction.target import NOT_IMPLEMENTED, Group, RowConfig, Target
from mmbench.resolve import Resolved, load
from mmbench.results.runs import RunRecord, find_runs, read_run
from mmbench.runner import Plan, Row, make_plan

NO_DATA, NO_WEIGHTS, NOT_INSTALLED, NO_CONFIG, REFUSED = "no data", "no weights", "not installed", "no config", "refused"


LOOKED_FOR = re.compile(r"(?<=for: )[^;]+(?=;)")
"""The names of files in the message that data were not found: dozens, of which a table shows two."""


def _first_two(names: re.Match[str]) -> str:
    found = names[0].split(", ")
    return names[0] if len(found) < 4 else f"{', '.join(found[:2])} and {len(found) - 2} more names"


@dataclass
class Part:
    """One config of a target: its experiment, planned, or why it cannot run here."""

    config: str
    cells: list[Resolved]
    plan: Plan | None = None
    state: str = ""
    reason: str = ""
    found: dict[str, list[RunRecord]] = field(default_factory=dict)
    """By cell: finished runs of exactly this config, where the data are not here to plan it."""

    def row(self, cell: str) -> Row | None:
        """The planned row of a cell of the sweep, or of the config itself where it has none."""
        rows = [row for row in self.plan.rows if not self._beneath(row)] if self.plan else []
        return next((row for row in rows if not cell or cell in (row.name, *row.name.split(" = "))), None)

    @property
    def floors(self) -> list[Row]:
        """The floors of its data."""
        return [row for row in self.plan.rows if self._beneath(row)] if self.plan else []

    def _beneath(self, row: Row) -> bool:
        """Whether a row is a floor that the plan adds: a config may be one of a floor itself."""
        return row.floor and all(row.resolved.model.entry != cell.model.entry for cell in self.cells)


@dataclass(frozen=True)
class Place:
    """One row of a target on one data set: the config and cell behind it, and what can be said of it before anything runs."""

    row: str
    group: Group
    config: str = ""
    cell: str = ""
    state: str = ""
    """Nothing where it can run."""
    reason: str = ""


@dataclass(frozen=True)
class Options:
    """What the command line says of every config of a target."""

    overrides: tuple[str, ...] = ()
    seeds: str | None = None
    out: Path = Path("runs")
    data_root: Path | None = None
    device: str = "auto"

    @property
    def changes(self) -> str:
        """The options that change what is run, as they stand on the command line."""
        changed = [f"--set {shlex.quote(override)}" for override in self.overrides if not override.startswith("executor.")]
        return " ".join([*changed, *([f"--seeds {self.seeds}"] if self.seeds else [])])


@dataclass
class Work:
    """A target with all of its places and configs."""

    target: Target
    rows: dict[str, RowConfig]
    places: dict[tuple[str, str], Place]
    """By row and data set (with protocol)."""
    parts: dict[str, Part]
    floors: dict[str, Part]
    """By data set (with protocol): the config whose floors stand under the table."""
    options: Options

    def records(self, place: Place) -> list[RunRecord]:
        """The runs of a place, one for each seed that its folder has or that is planned."""
        part = self.parts.get(place.config)
        row = part.row(place.cell) if part else None
        if row is None:
            return part.found.get(place.cell, []) if part else []
        return records_of(row)

    @property
    def warnings(self) -> list[str]:
        """What is to be said of the data, each once."""
        plans = [part.plan for part in self.parts.values() if part.plan]
        return list(dict.fromkeys(warning for plan in plans for dataset in plan.datasets for warning in dataset.record.get("warnings", ())))

    @property
    def missing(self) -> list[str]:
        """A line for each reason why something cannot be measured here, with the rows and data sets that it is about."""
        nowhere = [name for name in self.rows if all(self.places[name, group.place].state == NOT_IMPLEMENTED for group in self.target.groups)]
        lines = [f"{NOT_IMPLEMENTED} here: {', '.join(nowhere)} (mmbench new plugin begins one)"] if nowhere else []
        found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for (name, place), told in self.places.items():
            if told.state and name not in nowhere:
                found[told.state, told.reason][place].append(name)
        for (state, reason), places in found.items():
            where = "; ".join(f"{place}: {_several(names)}" for place, names in places.items())
            lines.append(f"{state} ({where})" + (f": {reason}" if reason else ""))
        if not self.target.variant:
            lines += [f"there is a variant, --variant {name}: {variant.about}" for name, variant in self.target.config.variants.items()]
        unseen = [part.config for part in self.parts.values() if any(part.found.values())]
        return lines + [f"{config}: its data are not here; finished runs of exactly this config were found by their fingerprint" for config in unseen]

    def without_weights(self, part: Part) -> None:
        """The weights of a config's encoders could not be got: its places say so."""
        part.state = NO_WEIGHTS
        encoders = {name: choice for cell in part.cells for name, choice in cell.encoders.items()}
        names = [f"{getattr(choice.config, 'model', choice.entry.component.name)} ({name})" for name, choice in encoders.items()]
        part.reason = f"{part.config} trains {' and '.join(names)}, whose weights could not be got (the message is on the terminal)"
        for key, place in self.places.items():
            if place.config == part.config and not place.state:
                self.places[key] = replace(place, state=part.state, reason=part.reason)

    @property
    def plans(self) -> Iterator[tuple[Part, Plan]]:
        """What is to be executed: the rows that the target shows, and for each data set the floors of one config."""
        for part in self.parts.values():
            if part.plan is not None and not part.state:
                left = [] if part in self.floors.values() else part.floors
                yield part, replace(part.plan, rows=tuple(row for row in part.plan.rows if row not in left))


def records_of(row: Row) -> list[RunRecord]:
    """What is to be said of each planned run of a row; a folder that is not there yet is a run to do."""
    return [_record(row, seed) for seed in row.resolved.experiment.seeds]


def _record(row: Row, seed: int) -> RunRecord:
    folder = row.folder / f"seed-{seed}"
    if folder.is_dir():
        return read_run(folder)
    return RunRecord(folder, "pending", experiment=folder.parent.parent.name, label=folder.parent.name, name=row.name, floor=row.floor, seed=seed)


def make_work(target: Target, options: Options) -> Work:
    """Resolve and plan every config of a target. What cannot run is a state with its reason; it stops nothing else.

    Raises:
        ConfigError: an option that one of the configs refuses (names the config), or a config that is not on the data set the target says.
    """
    used: dict[str, dict[str, Group]] = {}
    rows = target.rows or _all_cells(target, options)
    for row in rows.values():
        for group in target.groups:
            if config := target.config_of(row, group.dataset):
                used.setdefault(config, {})[row.cell] = group
    parts = {config: _part(config, cells, options) for config, cells in used.items()}
    places: dict[tuple[str, str], Place] = {}
    floors: dict[str, Part] = {}
    for name, row in rows.items():
        for group in target.groups:
            place = _place(target, name, row, group, parts)
            places[name, group.place] = place
            if place.config and not place.state:
                part = parts[place.config]
                if group.place not in floors or not part.cells[0].encoders:  # those of an encoder in the loop may lack its weights
                    floors[group.place] = part
    return Work(target, rows, places, parts, floors, options)


def _place(target: Target, name: str, row: RowConfig, group: Group, parts: Mapping[str, Part]) -> Place:
    config = target.config_of(row, group.dataset)
    if not config:
        here = row.configs or row.cell
        why = f"the paper has no such row on {group.dataset}, or there is no config for it" if here else ""
        return Place(name, group, state=NO_CONFIG if here else NOT_IMPLEMENTED, reason=row.why or why)
    part = parts[config]
    found = part.row(row.cell)
    if part.state or found is None:
        return Place(name, group, config, row.cell, part.state or NO_CONFIG, part.reason or f"{config} has no cell {row.cell!r}")
    return Place(name, group, config, row.cell, REFUSED if found.refusal else "", found.refusal)


class OptionError(ConfigError):
    """An option that a config of the target refuses."""


def _load(config: str, options: Options) -> list[Resolved]:
    """The cells of a config. A mistake of the options is the user's, and names the config; without options it is a state of this installation."""
    try:
        return load(config, options.overrides, options.seeds)
    except ConfigError as error:
        if not options.overrides and options.seeds is None:
            raise
        load(config)  # an error here is not the options'
        raise OptionError("\n".join(f"{config}: {line}" for line in str(error).splitlines())) from None


def _all_cells(target: Target, options: Options) -> dict[str, RowConfig]:
    """A row for each cell of the sweeps; where one cannot be read here, a single row, which then says why."""
    try:
        names = [cell.experiment.row for config in target.sweeps for cell in _load(config, options)]
    except OptionError:
        raise
    except MmbenchError:
        return {"all cells": RowConfig(configs=target.config.sweep)}
    return {name: RowConfig(cell=name) for name in names}


def _part(config: str, wanted: Mapping[str, Group], options: Options) -> Part:
    try:
        cells = [cell for cell in _load(config, options) if cell.experiment.row in wanted or "" in wanted]
    except OptionError:
        raise
    except MmbenchError as error:
        return Part(config, [], state=NOT_INSTALLED, reason=_one_line(error))
    part = Part(config, cells)
    for cell in cells:
        group = wanted[cell.experiment.row if cell.experiment.row in wanted else ""]
        if cell.manifest.name != group.dataset or (group.protocol and cell.manifest.protocol != group.protocol):
            where = f"{cell.manifest.name}/{cell.manifest.protocol}".removesuffix("/")
            raise ConfigError(f"{config} is on {where}, but its place is in the columns of {group.place}; leave data.name as the config has it")
    try:
        part.plan = make_plan(cells, options.out, options.data_root, options.device)
    except DataError as error:
        part.state, part.reason = NO_DATA, LOOKED_FOR.sub(_first_two, _one_line(error))
        part.found = {cell.experiment.row: _finished(cell, options.out) for cell in cells}
    except ConfigError as error:
        part.state, part.reason = NOT_INSTALLED if any(cell.missing for cell in cells) else REFUSED, _one_line(error)
    return part


def _finished(cell: Resolved, out: Path) -> list[RunRecord]:
    """Finished runs of exactly this config on whatever data they say, found by their fingerprint, and what is missing to all of its seeds.

    Of several data those with the most runs.
    """
    folder = out / cell.experiment.name
    records = find_runs(folder) if folder.is_dir() and any(folder.glob("*/seed-*")) else []
    name = cell.model.entry.component.name
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        data = str(record.data.get("fingerprint", ""))
        if record.status == "done" and record.seed in cell.experiment.seeds and record.label == f"{name}-{cell.fingerprint(data)}":
            found.setdefault(record.label, []).append(record)
    best = max(found.values(), key=len, default=[])
    there = {record.seed for record in best}
    missing = [seed for seed in cell.experiment.seeds if best and seed not in there]
    return best + [RunRecord(folder / best[0].label / f"seed-{seed}", "pending", name=best[0].name, seed=seed) for seed in missing]


def _several(names: list[str]) -> str:
    """Names in a list, or the first of many."""
    return ", ".join(names) if len(names) < 10 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _one_line(error: Exception) -> str:
    return "; ".join(str(error).splitlines())
