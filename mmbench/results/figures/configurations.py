"""Which runs a figure rests on: configurations by the names that the tables give them, and that they are of the same data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mmbench.errors import ConfigError
from mmbench.results.runs import RunRecord
from mmbench.results.tables import by_configuration

Configurations = Mapping[str, Sequence[RunRecord]]


def configurations(records: Iterable[RunRecord], floors: bool = False, rows: Sequence[str] = ()) -> dict[str, list[RunRecord]]:
    """The runs of each configuration by its name in a table, seed by seed and part by part; refused combinations are left out.

    `floors`: with the floors. `rows`: these names alone, in this order, floors among them.

    Raises:
        ConfigError: for a name that is not there, or where nothing is left.
    """
    parts: dict[str, list[RunRecord]] = {}
    for record in records:
        parts.setdefault(record.part, []).append(record)
    found: dict[tuple[str, str], list[RunRecord]] = {}
    for group in parts.values():
        for (experiment, label), seeds in by_configuration(group)[0].items():
            key = (experiment, seeds_family(list(seeds.values())) or label)
            found.setdefault(key, []).extend(seeds.values())
    titles = {key: next((run for run in runs if run.name), runs[0]) for key, runs in found.items()}
    names, homes = Counter(run.title for run in titles.values()), Counter((run.title, run.experiment) for run in titles.values())
    named: dict[str, list[RunRecord]] = {}
    for key, runs in found.items():
        shown = titles[key]
        origin = shown.label if homes[(shown.title, shown.experiment)] > 1 else shown.experiment
        name = f"{shown.title} ({origin})" if names[shown.title] > 1 else shown.title
        named[name] = sorted(runs, key=lambda run: (-1 if run.seed is None else run.seed, run.part))
    chosen = {name: runs for name, runs in named.items() if floors or rows or not any(run.floor for run in runs)} or named
    unknown = [name for name in rows if name not in named]
    if unknown:
        raise ConfigError(f"no configuration is called {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, named)) or 'none'}")
    if not chosen:
        raise ConfigError("there is no configuration to draw: every combination was refused")
    return {name: named[name] for name in rows} if rows else chosen


def seeds_family(runs: Sequence[RunRecord]) -> str:
    """What the runs of one configuration on the parts of a protocol share; nothing where there are no parts."""
    return next((run.family for run in runs if run.family and run.part), "")


def finished(chosen: Configurations) -> dict[str, list[RunRecord]]:
    """The finished runs of each configuration, without those that have none.

    Raises:
        ConfigError: where none is finished.
    """
    done = {name: [run for run in runs if run.status == "done"] for name, runs in chosen.items()}
    done = {name: runs for name, runs in done.items() if runs}
    if not done:
        raise ConfigError(f"no run of {', '.join(chosen) or 'these configurations'} is done; mmbench status shows why")
    return done


def seeds_text(runs: Sequence[RunRecord]) -> str:
    """How many of a configuration's runs a figure rests on, where not all: ``4/5 seeds``."""
    done = sum(run.status == "done" for run in runs)
    return "" if done == len(runs) else f"{done}/{len(runs)} runs"


def about(chosen: Configurations) -> tuple[str, bool]:
    """Title of the data and whether they are simulated.

    Raises:
        ConfigError: where the configurations are of different data, with what differs.
    """
    runs = [run for group in chosen.values() for run in group if run.data.get("name")]
    kinds = {
        (str(run.data["name"]), str(run.data.get("protocol", "")), tuple(run.data.get("classes", ())), bool(run.data.get("simulated")))
        for run in runs
    }
    if len(kinds) > 1:
        what = "; ".join(sorted({f"{'SIMULATED ' * simulated}{name} {protocol}".strip() for name, protocol, _, simulated in kinds}))
        raise ConfigError(f"these runs are of different data ({what}), which one figure cannot show; give the folder of one, or choose with --rows")
    return heading(runs)


def heading(runs: Sequence[RunRecord]) -> tuple[str, bool]:
    """The titles of the data of runs, each once, and whether any of them are simulated."""
    titles = {}
    for run in runs:
        if run.data.get("name"):
            protocol, simulated = run.data.get("protocol"), bool(run.data.get("simulated"))
            name = (
                ("SIMULATED " if simulated else "") + str(run.data.get("title") or run.data["name"]) + (f", protocol {protocol}" if protocol else "")
            )
            titles[name] = simulated
    return "; ".join(titles), any(titles.values())
