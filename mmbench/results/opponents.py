"""Who is compared with whom: configurations by their folders, or by their names in the tables of a folder. Refuses runs on different data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.errors import ConfigError
from mmbench.results.runs import RunRecord, find_runs
from mmbench.results.tables import Row, Table, build_tables

ASPECTS = (
    ("data set", "name"),
    ("protocol", "protocol"),
    ("part", "part"),
    ("task", "task"),
    ("classes", "classes"),
    ("modalities", "modalities"),
)
"""What must be equal, besides the splits and the data themselves: how it is called in a message, and its key in a run's record."""


@dataclass(frozen=True)
class Opponent:
    """One configuration: its row, and the table of the data it was run on."""

    row: Row
    table: Table

    @property
    def data(self) -> Mapping[str, Any]:
        """What its runs say of their data; of a protocol's parts, what those have in common."""
        return self.table.data if self.table.averaged else next(iter(self.row.finished.values()))[0].data

    @property
    def place(self) -> str:
        """Where its runs are, ``<experiment>/<configuration>``."""
        return f"{self.row.experiment}/{self.row.label}"

    @property
    def folder(self) -> str:
        """The configuration's folder, of a protocol's parts the first's."""
        return str(self.row.records[0].folder.parent)


def all_tables(records: Sequence[RunRecord]) -> list[Table]:
    """The tables of runs, without marks of best and second, and only those that have a row with a finished run."""
    return [table for table in build_tables(records, draws=0) if any(row.finished for row in table.rows)]


def opponent_at(folder: Path) -> Opponent:
    """The one configuration whose runs are below `folder`: the method of an experiment, or any configuration's own folder.

    Where an experiment ran a protocol's parts, it is the mean over them.

    Raises:
        ConfigError: where there is none, none of its runs is done, or there are several.
    """
    tables = all_tables(find_runs(folder))
    if any(table.averaged for table in tables):
        tables = [table for table in tables if table.averaged]
    found = [Opponent(row, table) for table in tables for row in table.rows if row.finished]
    methods = [one for one in found if one.row.kind == "method"] or found
    if not methods:
        raise ConfigError(f"{folder}: none of its runs is done, so that there is nothing to compare; mmbench status {folder} says why")
    if len(methods) > 1:
        names = ", ".join(dict.fromkeys(one.place for one in methods))
        raise ConfigError(
            f"{folder}: holds several configurations ({names}); give the folder of one of them, or their names: mmbench compare A B --runs {folder}"
        )
    return methods[0]


def opponents_by_name(first: str, second: str, folder: Path) -> Iterator[tuple[Opponent, Opponent]]:
    """Both configurations in each table of the runs below `folder` that has both. A name is a row's, a label, ``experiment/label`` or an experiment.

    Raises:
        ConfigError: for a name that is not there or that several rows of a table have, or where no table has both; then says how their data differ.
    """
    tables = all_tables(find_runs(folder))
    found = {name: [Opponent(row, table) for table in tables for row in [named(name, table)] if row] for name in (first, second)}
    for name, places in found.items():
        if not places:
            rows = dict.fromkeys(row.name for table in tables for row in table.rows if row.finished)
            raise ConfigError(f"{folder}: has no finished configuration {name!r}; there are {', '.join(rows) or 'none'}")
    both = [(one, two) for one in found[first] for two in found[second] if one.table is two.table]
    if not both:
        refuse_other_data(found[first][0], found[second][0])
        raise ConfigError(f"{first} and {second} were scored with different metrics; run mmbench compare with their folders instead of --runs")
    yield from [pair for pair in both if pair[0].table.averaged] or both


def named(name: str, table: Table) -> Row | None:
    """The row of that name.

    Raises:
        ConfigError: where several rows have it.
    """
    rows = [row for row in table.rows if row.finished]
    for matches in (
        lambda row: row.name == name,
        lambda row: name in (row.label, f"{row.experiment}/{row.label}"),
        lambda row: row.kind == "method" and row.experiment == name,
        lambda row: row.name.partition(" (")[0] == name,
    ):
        found = [row for row in rows if matches(row)]
        if len(found) > 1:
            raise ConfigError(
                f"{name!r} names {len(found)} configurations: {', '.join(f'{row.name} ({row.label})' for row in found)}; give one's label"
            )
        if found:
            return found[0]
    return None


def refuse_other_data(first: Opponent, second: Opponent) -> None:
    """Raises a ConfigError that names what differs, with both values, unless both were run on the same data."""
    one, two = first.data, second.data
    found = [f"{what} {_shown(one.get(key))} and {_shown(two.get(key))}" for what, key in ASPECTS if (one.get(key) or None) != (two.get(key) or None)]
    simulated = [bool(data.get("simulated")) for data in (one, two)]
    if simulated[0] != simulated[1]:
        found.append(f"{'simulated' if simulated[0] else 'real'} and {'simulated' if simulated[1] else 'real'} data")
    for split in ("train", "valid", "test"):
        prints = [_fingerprint(data, split) for data in (one, two)]
        if prints[0] != prints[1]:
            found.append(f"{split} split {_shown(prints[0])} and {_shown(prints[1])}")
    if one.get("fingerprint") != two.get("fingerprint"):
        found.append(f"data fingerprint {_shown(one.get('fingerprint'))} and {_shown(two.get('fingerprint'))}")
    if found:
        raise ConfigError(
            f"{first.place} and {second.place} cannot be compared, since they were not run on the same data: {'; '.join(found)}. "
            "Run both with the same data: section"
        )


def _fingerprint(data: Mapping[str, Any], split: str) -> Any:
    splits = data.get("splits")
    own = splits.get(split) if isinstance(splits, dict) else None
    return (own.get("fingerprint") or own.get("size")) if isinstance(own, dict) else None


def _shown(value: Any) -> str:
    """A value for a message: fingerprints by their first digits."""
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "none")
    return (text[:16] if len(text) == 64 else text) or "none"
