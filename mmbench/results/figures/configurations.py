"""Which runs a figure rests on: configurations by the names that the tables give them, and that they are of the same data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mmbench.errors import ConfigError
from mmbench.results.runs import RunRecord

Configurations = Mapping[str, Sequence[RunRecord]]


def configurations(records: Iterable[RunRecord], floors: bool = False, rows: Sequence[str] = ()) -> dict[str, list[RunRecord]]:
    """The runs of each configuration by its name in a table, seed by seed and part by part; refused combinations are left out.

    Floors of one label are one configuration, whichever experiment ran them. `floors`: with the floors, which are left out unless there is nothing
    else. `rows`: these names alone, in this order, floors among them.

    Raises:
        ConfigError: for a name that is not there, or where nothing is left.
    """
    records = [record for record in records if record.status != "incompatible"]
    labels = {record.label for record in records if record.floor}
    found: dict[tuple[str, ...], dict[tuple[str, str], RunRecord]] = {}
    for record in records:
        place = ("", record.label) if record.label in labels else (str(record.folder.parents[1]), record.family if record.part else record.label)
        runs, one = found.setdefault(place, {}), (f"{record.seed:09d}" if record.seed is not None else "", record.part)
        if one not in runs or runs[one].status != "done":
            runs[one] = record
    groups = [[runs[one] for one in sorted(runs)] for runs in found.values()]
    if not groups:
        raise ConfigError("there is no configuration to draw: every combination was refused")
    named = dict(zip(names(groups), groups, strict=True))
    unknown = [name for name in rows if name not in named]
    if unknown:
        raise ConfigError(f"no configuration is called {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, named))}")
    if rows:
        return {name: named[name] for name in rows}
    return {name: runs for name, runs in named.items() if floors or not any(run.floor for run in runs)} or named


def names(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """A name for each configuration: its title, with what tells it from others of the same title."""
    shown = [next((run for run in runs if run.name), runs[0]) for runs in groups]
    found = [run.title for run in shown]
    for origin in (lambda run: run.experiment, lambda run: run.label, lambda run: str(run.folder.parent)):
        counts = Counter(found)
        found = [f"{run.title} ({origin(run)})" if counts[name] > 1 else name for run, name in zip(shown, found, strict=True)]
    return found


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
