"""The averaged table of a protocol that has parts (folds, binary tasks); `mmbench.results.tables` shows each part apart below it.

A seed's score is its mean over all parts, and counts only where every part of that seed is done; a row is the mean ± sample deviation of these
over seeds. The runs of one configuration on several parts are found by their family. Floors and the oracle are averaged in the same way.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbench.component import Metric
from mmbench.results.marks import floors_marked
from mmbench.results.runs import RunRecord
from mmbench.results.tables import (
    Column,
    Identity,
    Row,
    Table,
    by_configuration,
    cell,
    columns_of,
    distinct,
    identity_of,
    mean_memory,
    notes_on,
    oracle,
    oracle_row,
    several,
    title,
    unrepeated,
)

Groups = Mapping[Identity, Sequence[RunRecord]]
Home = dict[str, Identity]
"""The data of each part."""


@dataclass(frozen=True)
class Mean:
    """The averaged table of a protocol, and the data of its parts in the protocol's order."""

    table: Table
    homes: tuple[Identity, ...]


@dataclass(frozen=True)
class Family:
    """One configuration: its runs by part and seed. `parts`: all of the protocol's, also those without a run."""

    name: str
    parts: tuple[str, ...]
    runs: Mapping[str, Mapping[Any, RunRecord]]

    @property
    def seeds(self) -> list[int]:
        """The seeds that any part has."""
        return sorted({seed for runs in self.runs.values() for seed in runs if seed is not None})

    @property
    def done(self) -> dict[int, list[RunRecord]]:
        """The runs of each seed that is done on every part, part by part."""
        every = {seed: [self.runs.get(part, {}).get(seed) for part in self.parts] for seed in self.seeds}
        finished = {seed: [run for run in runs if run is not None and run.status == "done"] for seed, runs in every.items()}
        return {seed: runs for seed, runs in finished.items() if len(runs) == len(self.parts)}


def averages(groups: Groups, loose: Sequence[RunRecord], metrics: Mapping[str, Metric]) -> tuple[list[Mean], list[RunRecord]]:
    """The averaged tables of runs by their data, for protocols of which at least two parts have runs, and the loose runs that none of them notes.

    `loose`: runs without a record of their data; one that names a part of a protocol which its experiment has an averaged table of is noted there.
    """
    means = []
    for home in homes(groups):
        runs = [record for identity in home.values() for record in groups[identity]]
        own = [r for r in loose if r.part and (r.experiment, r.data.get("protocol")) in {(o.experiment, o.data.get("protocol")) for o in runs}]
        loose = [record for record in loose if record not in own]
        means.append(Mean(mean_table(home, groups, own, metrics), tuple(home.values())))
    return means, list(loose)


def homes(groups: Groups) -> list[Home]:
    """Which data belong together as the parts of one protocol: those that a configuration was run on, at least two.

    Two states of a data set (a file that has changed) never mix, since a part would have two data.
    """
    used: dict[tuple[Any, ...], dict[Identity, Any]] = defaultdict(dict)
    for identity, records in groups.items():
        for record in records:
            if identity.part and record.family and identity_of(record) == identity:
                key = (record.experiment, record.family, identity.name, identity.protocol, identity.modalities)
                used[key][identity] = record.data.get("sha256")
    found: list[Home] = []
    for sources in used.values():
        one = len({identity.part for identity in sources}) == len(sources)
        for source in [None] if one else list(dict.fromkeys(sources.values())):
            home = {identity.part: identity for identity, own in sources.items() if one or own == source}
            found.append(home)
    merged: list[Home] = []
    for home in sorted(found, key=lambda home: (-len(home), str(sorted(home.items())))):
        for other in merged:
            shared = home.keys() & other.keys()
            if shared and all(home[part] == other[part] for part in shared):
                other.update(home)
                break
        else:
            merged.append(home)
    return [in_order(home, groups) for home in merged if len(home) > 1]


def in_order(home: Home, groups: Groups) -> Home:
    """The parts in the protocol's order."""
    parts = all_parts(home, groups)
    return {part: home[part] for part in sorted(home, key=lambda part: (parts.index(part) if part in parts else len(parts), part))}


def all_parts(home: Home, groups: Groups) -> tuple[str, ...]:
    """Every part of the protocol, as its runs' records have them, in its order."""
    listed = max((tuple(record.data.get("parts", ())) for identity in home.values() for record in groups[identity]), key=len, default=())
    return (*listed, *sorted(home.keys() - set(listed)))


def mean_table(home: Home, groups: Groups, loose: Sequence[RunRecord], metrics: Mapping[str, Metric]) -> Table:
    """The table of means over parts. `loose`: runs of the protocol without a record of their data, which its notes name."""
    parts = all_parts(home, groups)
    data = {part: next(r.data for r in groups[identity] if identity_of(r) == identity) for part, identity in home.items()}
    classes = {part: tuple(found.get("classes", ())) for part, found in data.items()}
    each = {part: columns_of(identity, classes[part], metrics) for part, identity in home.items()}
    everywhere = dict.fromkeys(c for own in each.values() for c in own)
    columns = tuple(c for c in everywhere if all(c in own for own in each.values()))
    rows = [mean_row(found, columns) for found in families(home, groups, parts)]
    rows = distinct(unrepeated(sorted(rows, key=lambda r: (r.kind != "method", r.name, r.experiment, r.label))))
    constants, problems = {}, []
    for part, identity in home.items():
        runs = [run for seeds in by_configuration(groups[identity])[0].values() for run in seeds.values()]
        constants[part], problem = oracle_row(runs, columns, classes[part], metrics)
        problems += [f"{part}: {problem}"] if problem else []
    rows = floors_marked([*rows, mean_oracle(constants, parts, columns)], columns)
    waiting = {part: notes_on([r for r in loose if r.part == part], scored=False) for part in dict.fromkeys(r.part for r in loose)}
    left = [c.key for c in everywhere if c not in columns]
    notes = (
        *joined({part: notes_on(groups[identity]) for part, identity in home.items()}),
        *joined(waiting),
        *(f"{part}: has no finished run" for part in parts if part not in home),
        *problems,
        *([f"not averaged, since only some parts have them: {', '.join(left)}"] if left else ()),
    )
    merged = merged_data(list(data.values()))
    return Table(title(merged), bool(merged.get("simulated")), columns, tuple(rows), notes, merged)


def families(home: Home, groups: Groups, parts: Sequence[str]) -> list[Family]:
    """The configurations with their runs on all parts; experiments on the same data share floors."""
    found: dict[tuple[str, str], dict[str, dict[Any, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for part, identity in home.items():
        for (experiment, _), runs in by_configuration(groups[identity])[0].items():
            family = next((run.family for run in runs.values() if run.family), "")
            for seed, run in runs.items() if family else ():
                found[experiment, family][part].setdefault(seed, run)
    return [Family(family, tuple(parts), runs) for (_, family), runs in found.items()]


def mean_row(family: Family, columns: Sequence[Column]) -> Row:
    """The row of one configuration: mean and sample deviation over seeds of the means over parts."""
    runs = [run for seeds in family.runs.values() for run in seeds.values()]
    done = family.done
    counted = [run for seed in done.values() for run in seed]
    shown = sorted(counted or runs, key=lambda run: not run.name)[0]
    return Row(
        name=shown.title,
        kind="floor" if any(run.floor for run in runs) else "method",
        cells={c.key: cell([mean_of(run.metrics.get("test", {}).get(c.key, math.nan) for run in seed) for seed in done.values()]) for c in columns},
        done=len(done),
        total=len(family.seeds),
        collapsed=sum(run.collapsed for run in counted),
        adapted=any(run.adapters for run in runs),
        parameters=max((run.parameters for run in counted), default=None),
        seconds=mean_of(run.seconds for run in counted) if counted else math.nan,
        experiment=shown.experiment,
        label=f"{shown.model}-{family.name}",
        seeds=tuple(done),
        runs=len(counted),
        memory=mean_memory(counted),
        model=shown.model.rpartition("/")[2],
        records=tuple(runs),
        finished={seed: tuple(own) for seed, own in done.items()},
    )


def mean_oracle(constants: Mapping[str, Row], parts: Sequence[str], columns: Sequence[Column]) -> Row:
    """The best constants of each part, averaged; n/a where a part has none."""
    return oracle({c.key: mean_of(constants[part].cells[c.key].mean if part in constants else math.nan for part in parts) for c in columns})


def mean_of(values: Iterable[float]) -> float:
    """The mean, NaN where a value is."""
    return float(np.mean(list(values)))


def joined(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """The notes on each part as one list: what is said of several stands once, after their names."""
    said: dict[str, list[str]] = defaultdict(list)
    for part, lines in notes.items():
        for line in lines:
            said[line].append(part)
    return [f"{several(parts)}: {line}" for line, parts in said.items()]


def merged_data(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the parts' data have in common; simulated, or of an own split, where any of them is."""
    first = parts[0]
    shared = {key: value for key, value in first.items() if key != "part" and all(other.get(key) == value for other in parts)}
    states = [part.get("split_status") for part in parts]
    return shared | {
        "name": first["name"],
        "title": str(first.get("protocol_title") or shared.get("title", "")),
        "simulated": any(part.get("simulated") for part in parts),
        "split_status": next((state for state in ("own", "sizes") if state in states), states[0]),
        "parts": max((list(part.get("parts", ())) for part in parts), key=len),
        "modalities": list(first.get("modalities", ())),
        "fingerprint": hashlib.sha256("".join(str(part.get("fingerprint")) for part in parts).encode()).hexdigest(),
    }
