"""``mmbench`` alone: what can be done next, told from what is in the working directory. It reads little, so that it answers at once."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from mmbench import __version__
from mmbench.cli.terminal import runs_of
from mmbench.errors import printable
from mmbench.files import shipped

RUNS = Path("runs")
MOST_RUNS = 2000
"""Run folders that are looked at; of more, those that come first."""
MOST_LOOKED = 50
"""Folders of the working directory, and of each of them, that are looked into for runs."""
MOST_NAMED = 3
"""Experiments that are named one by one."""
LONGEST = 1 << 16
"""Bytes of a file that are looked at."""
_STATUS = re.compile(r'"status": "(\w+)"')
_CONFIG = re.compile(r"^(extends|model|losses):", re.MULTILINE)
_SIMULATED = re.compile(r"\bsimulated: true")
_NAME = re.compile(r"^name: *['\"]?([\w.-]+)", re.MULTILINE | re.ASCII)
_TUNE = re.compile(r"^tune:", re.MULTILINE)
_SEARCH = re.compile(r"_tuned?$")
Step = tuple[str, str]
"""A command, and what it does."""


@dataclass
class Found:
    """What is there of one experiment: runs by state, configurations that are done (floors apart), when something last happened, on what data."""

    name: str
    states: Counter[str] = field(default_factory=Counter)
    methods: set[str] = field(default_factory=set)
    latest: float = 0.0
    real: bool = False

    @property
    def command(self) -> str:
        """What goes on with it, with a placeholder where its config has another name; of trials and the best of them, the search."""
        name = _SEARCH.sub("", self.name)
        verb = "tune" if name != self.name and (RUNS / f"{name}_tune" / "search.json").is_file() else "run"
        name = name if verb == "tune" else self.name
        own = Path(f"{name}.yaml")
        known = own.name if own.is_file() else name if (shipped("configs") / own).is_file() else "CONFIG"
        return f"mmbench {verb} {_word(known)}"


def advice() -> list[str]:
    """Lines that say what to do next here. Nothing is changed."""
    found = experiments(RUNS)
    sections = [*_install(), *_runs(found), *_configs(found), *_results(found), *_sent(), *_start(found), *_data(found), _own()]
    lines = [f"mmbench {__version__}: what can be done next here"]
    width = max(len(command) for _, steps in sections for command, _ in steps)
    for title, steps in sections:
        lines += ["", title]
        lines += [f"    {command:<{width}}  {what}" for command, what in steps]
    return [*lines, "", "mmbench --help lists every command."]


def experiments(runs: Path) -> list[Found]:
    """What is in a folder of runs, the latest first."""
    found: dict[str, Found] = {}
    for folder in islice(_run_folders(runs), MOST_RUNS):
        label, name = folder.parent.name, folder.parent.parent.name
        if name not in found:
            found[name] = Found(name, real=not _SIMULATED.search(_head(folder / "config.yaml")))
        each = found[name]
        state, floor = _state(folder)
        each.states[state] += 1
        each.latest = max(each.latest, folder.stat().st_mtime)
        if state == "done" and not floor:
            each.methods.add(label)
    return sorted(found.values(), key=lambda each: (-each.latest, each.name))


def _run_folders(runs: Path) -> Iterator[Path]:
    for experiment in _folders(runs):
        for label in _folders(experiment):
            yield from (folder for folder in _folders(label) if folder.name.startswith("seed-"))


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        return []


def _state(folder: Path) -> tuple[str, bool]:
    """The state of a run in one word, and whether it is a floor."""
    text = _head(folder / "result.json")
    if stated := _STATUS.search(text):
        status = stated[1] if stated[1] in ("done", "failed") else "unfinished"
        return status, '"floor": true' in text
    if (folder / "claim").is_dir():
        from mmbench.claims import owner_of

        owner = owner_of(folder)
        if owner is not None and owner.state() != "gone":
            return "going on", False
    return ("going on" if (folder / "queued.json").exists() else "unfinished"), False


def _head(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(LONGEST).decode(errors="replace")
    except OSError:
        return ""


def _install() -> Iterator[tuple[str, list[Step]]]:
    if find_spec("torch") is None:
        from mmbench.installing import how_to_install

        yield "torch is not installed, so that nothing can be trained.", [(how_to_install("mmbench[train]"), "installs it")]


def _runs(found: list[Found]) -> Iterator[tuple[str, list[Step]]]:
    """What did not come about, or is coming."""
    steps = {
        "going on": lambda each: [(f"mmbench status {_word(RUNS / each.name)}", "who executes what")],
        "failed": lambda each: [
            (f"mmbench status {_word(RUNS / each.name)}", "why"),
            (f"{each.command} --rerun failed", "tries them again; with the --set and --seeds of before"),
        ],
        "unfinished": lambda each: [(each.command, "goes on; with the --set and --seeds of before")],
    }
    for state, of in steps.items():
        concerned = [each for each in found if each.states[state]]
        for each in concerned[:MOST_NAMED]:
            yield f"{runs_of(each.states[state])} of {printable(each.name)} {_verb(state, each.states[state])}.", of(each)
        if more := concerned[MOST_NAMED:]:
            yield f"So it is in {len(more)} more experiments.", [(f"mmbench status {RUNS}", "all of them")]


def _word(name: str | Path) -> str:
    """A name as a shell takes it for one word."""
    return shlex.quote(printable(str(name)))


def _verb(state: str, count: int) -> str:
    return "failed" if state == "failed" else f"{'is' if count == 1 else 'are'} {state}"


def _configs(found: list[Found]) -> Iterator[tuple[str, list[Step]]]:
    """Configs in the working directory that have no runs yet."""
    known = {name for each in found for name in (each.name, _SEARCH.sub("", each.name))}
    heads = {path: _head(path) for path in sorted(Path().glob("*.yaml")) if path.is_file()}
    named = {path: own[1] if (own := _NAME.search(head)) else path.stem for path, head in heads.items()}
    for path in [path for path, head in heads.items() if named[path] not in known and _CONFIG.search(head)][:MOST_NAMED]:
        name, verb = _word(path), "tune" if _TUNE.search(heads[path]) else "run"
        steps = [(f"mmbench check {name}", "what it would do"), (f"mmbench {verb} {name}", "trains, and prints the table")]
        yield f"{printable(path.name)} has not been run.", steps


def _results(found: list[Found]) -> Iterator[tuple[str, list[Step]]]:
    done = [each for each in found if each.methods]
    if not done:
        return
    place = _word(RUNS / done[0].name if len(done) == 1 else RUNS)
    methods = sum(len(each.methods) for each in done)
    steps = [(f"mmbench report {place}", "the tables")]
    if methods > 1:
        steps.append((f"mmbench compare {place}", "how sure the differences are"))
    steps.append((f"mmbench report {place} --html report.html", "everything on one page"))
    yield f"{runs_of(sum(each.states['done'] for each in done))} {'are' if methods > 1 else 'of one configuration are'} done.", steps


def _sent() -> Iterator[tuple[str, list[Step]]]:
    """Experiments and configurations right here, as somebody sends them."""
    sent = [place for place in _folders(Path())[:MOST_LOOKED] if any(map(_has_seeds, (place, *_folders(place)[:MOST_LOOKED])))]
    for place in sent[:MOST_NAMED]:
        name = _word(place)
        steps = [(f"mmbench status {name}", "which folder is which row"), (f"mmbench score {name}", "its scores again, from the stored predictions")]
        yield f"{printable(place.name)} holds runs.", [*steps, (f"mmbench rerun {name}", "trains one of its configurations again, and compares")]


def _has_seeds(folder: Path) -> bool:
    return any(inner.name.startswith("seed-") for inner in _folders(folder))


def _data(found: list[Found]) -> Iterator[tuple[str, list[Step]]]:
    """For somebody who has had no data yet: those of a run may lie anywhere."""
    if any(each.real for each in found):
        return
    place = Path(os.environ.get("MMBENCH_DATA") or "data")
    try:
        there = any(place.iterdir())
    except OSError:
        there = False
    if not there:
        steps = [("mmbench data list", "the data sets, and how to get each"), ("mmbench data check mosi --data-root DIR", "whether yours are right")]
        yield f"No data sets in {printable(str(place))}; MMBENCH_DATA or --data-root says where they are.", steps


def _start(found: list[Found]) -> Iterator[tuple[str, list[Step]]]:
    if not found:
        yield "Nothing has been run here.", [("mmbench run quickstart", "a first table in minutes, on simulated data")]


def _own() -> tuple[str, list[Step]]:
    steps = [
        ("mmbench list model", "what is there to compare with"),
        ("mmbench new config", "an experiment, every option explained"),
        ("mmbench new plugin NAME", "a package of your own to start from"),
    ]
    return "Your own experiment and method.", steps
