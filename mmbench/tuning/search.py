"""The section ``tune:`` of a config: what is searched, how, and that every value of it can be run at all. Imports no torch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.component import Range, Space, Tuner, Values
from mmbench.compose import assign
from mmbench.config import RangeConfig, TuneConfig, ValuesConfig
from mmbench.errors import ConfigError, PluginError
from mmbench.installing import how_to_install
from mmbench.plugins import catalogue
from mmbench.resolve import Checker, Choice, Resolved, read, resolve_all
from mmbench.strict_yaml import Document, Location, Mark
from mmbench.sweep import shown

SECTION = "tune"
COMPARED = frozenset({"name", "protocol", "part", "path", "format", "simulated", "samples", "splits"})
"""Keys of `data` that decide on which samples a trial is measured."""
_LONGEST = 200
"""Characters of the name of a row."""


@dataclass(frozen=True)
class Search:
    """A search that may be made. `document`: the config without its section ``tune``; `marks`: where each key of the space stands."""

    document: Document
    config: TuneConfig
    choice: Choice
    tuner: Tuner
    space: Space
    marks: Mapping[str, Mark]
    first: tuple[Resolved, ...]
    """The experiments of one point of the space."""

    @property
    def name(self) -> str:
        """The experiment that is tuned."""
        return str(self.document.value["name"])

    @property
    def at_once(self) -> int:
        """Trials of one round."""
        jobs = getattr(self.first[0].executor.config, "jobs", None) or 1
        return self.config.at_once or max(1, jobs // (len(self.config.seeds) * len(self.first)))

    def cells(self, values: Mapping[str, Any], row: str) -> list[Resolved]:
        """The experiments of one trial: one, or one for each part of a protocol. ConfigError: these values cannot be run together."""
        return resolve_all(_with(self.trial_document(), {key: (value, self.marks[key]) for key, value in values.items()}, row))

    def trial_document(self) -> Document:
        """The config of the trials, before any value is set."""
        return _for_trials(self.document, self.config.seeds)

    def row(self, number: int, values: Mapping[str, Any]) -> str:
        """The name of a trial's row in tables."""
        short = {key: key.rpartition(".")[2] for key in values}
        if len(set(short.values())) < len(short):
            short = {key: key for key in values}
        name = f"trial {number}: " + ", ".join(f"{short[key]}={shown(value)}" for key, value in values.items())
        return name if len(name) <= _LONGEST else f"trial {number}"

    def lines(self) -> list[str]:
        """The search as ``mmbench check`` shows it; what is shown beside it is one point of the space."""
        seeds = ", ".join(map(str, self.config.seeds))
        rows = [f"search      {self.config.trials} trials by {self.choice.entry.key}, {self.at_once} at once, seeds {seeds}; one of them is shown"]
        return rows + [f"            {key}: {span(each)}" for key, each in self.space.items()]


def span(each: Range | Values) -> str:
    """What a key may be set to, in words."""
    if isinstance(each, Values):
        return ", ".join(map(shown, each.values))
    return f"{shown(each.low)} to {shown(each.high)}" + ", integers" * each.whole + ", log" * each.log


def load_search(source: str | Path, overrides: Sequence[str] = (), seeds: str | None = None) -> Search:
    """Read and check a config with a section ``tune``: its space, and what it comes to at the ends of each range.

    `ConfigError`: one line per mistake.
    """
    document = read(source, overrides, seeds)
    if SECTION not in document.value:
        raise ConfigError(f"{source}: has no section tune, which says what to search; mmbench run {source} runs it as it is")
    if "sweep" in document.value:
        raise ConfigError(f"{document.mark(('sweep',))}: sweep: a search has no sweep; make its axis a key of tune.space, or a config of each cell")
    checker = Checker(document, catalogue())
    section = document.value[SECTION]
    if isinstance(section, dict) and isinstance(section.get("space"), dict):
        section["space"] = {key: item for key, item in section["space"].items() if item is not None}  # null removes, as a variant of a sweep
    config = checker.section(TuneConfig, section, (SECTION,))
    choice = _tuner(checker)
    space, ends = _space(checker, section)
    plain = Document({key: value for key, value in document.value.items() if key != SECTION}, document.marks)
    probe = _Probe(checker, _for_best(plain), ends)
    space = {key: probe.settled(key, each) for key, each in space.items()}
    if checker.problems or config is None or choice is None or not probe.first:
        raise ConfigError("\n".join(dict.fromkeys(checker.problems)))
    first = tuple(resolve_all(_with(_for_trials(plain, config.seeds), probe.start)))
    try:
        tuner = choice.entry.load()(choice.config, space, higher_is_better(first[0]))
    except ValueError as error:
        raise ConfigError(f"{document.mark((SECTION, 'name'))}: tune: {choice.entry.component.name}: {error}") from None
    marks = {key: document.mark((SECTION, "space", key)) for key in space}
    return Search(plain, config, choice, tuner, space, marks, first)


def higher_is_better(resolved: Resolved) -> bool:
    """Whether the greater value of the selection metric is the better one."""
    return resolved.select != "loss" and bool(catalogue().find("metric", resolved.select).load().higher_is_better)


def _tuner(checker: Checker) -> Choice | None:
    if not checker.known.of_kind("tuner"):
        checker.problem((SECTION, "name"), f"no tuner is installed. Optuna's comes with: {how_to_install('mmbench-optuna')}")
        return None
    choice = checker.component("tuner", (SECTION,), {*TuneConfig.model_fields})
    try:
        if choice is not None:
            choice.entry.load()
    except PluginError as error:
        checker.problem((SECTION, "name"), str(error))
    return choice


Ends = Mapping[str, Sequence[tuple[Any, Mark]]]
"""By key: the values that are looked at before anything is trained, and where each stands."""


def _space(checker: Checker, section: Any) -> tuple[dict[str, Range | Values], Ends]:
    """What is well-formed of the space; the rest is among the checker's problems."""
    raw = section.get("space") if isinstance(section, dict) else None
    space: dict[str, Range | Values] = {}
    ends: dict[str, list[tuple[Any, Mark]]] = {}
    for key, item in raw.items() if isinstance(raw, dict) else ():
        location: Location = (SECTION, "space", key)
        if isinstance(item, dict) and "values" in item:
            if checker.section(ValuesConfig, item, location):
                space[key] = Values(tuple(item["values"]))
                ends[key] = [(value, checker.document.mark((*location, "values", i))) for i, value in enumerate(item["values"])]
        elif found := checker.section(RangeConfig, item, location):
            whole = isinstance(item["low"], int) and isinstance(item["high"], int)
            low, high = (item["low"], item["high"]) if whole else (found.low, found.high)
            space[key] = Range(low, high, found.log, whole)
            ends[key] = [(low, checker.document.mark((*location, "low"))), (high, checker.document.mark((*location, "high")))]
    return space, ends


class _Probe:
    """Looks at single points of a space: all keys at their first ends, and then each key at its others."""

    def __init__(self, checker: Checker, document: Document, ends: Ends):
        self.checker, self.document = checker, document
        self.ends = {key: several for key, several in ends.items() if self._has_place(key, several[0])}
        self.start = {key: several[0] for key, several in self.ends.items()}
        self.first = self._at(self.start, told=True)

    def settled(self, key: str, each: Range | Values) -> Range | Values:
        """The same values, after a look at each end; of a range between integers, whether its key takes integers alone."""
        if key not in self.ends:
            return each
        problems = len(self.checker.problems)
        points = []
        for end in self.ends[key][1:]:
            if found := self._at({**self.start, key: end}, told=True):
                points.append(found)
                known = {missing for cell in self.first for missing in cell.missing}
                self.checker.problems += [f"{end[1]}: cannot run: {missing}" for cell in found for missing in cell.missing if missing not in known]
        if len(self.checker.problems) == problems and self.first and points:
            self._tell_of_no_use(key, points)
        if isinstance(each, Range) and each.whole and self._at({**self.start, key: (each.low + 0.5, self.start[key][1])}, told=False):
            return Range(float(each.low), float(each.high), each.log)
        return each

    def _tell_of_no_use(self, key: str, points: Sequence[Sequence[Resolved]]) -> None:
        place = (SECTION, "space", key)
        counted = _counted(self.first)
        if any(_compared(point) != _compared(self.first) for point in points):
            self.checker.problem(place, "decides on what, or by which metric, trials are compared, so that it cannot be searched")
        elif all(_counted(point) == counted for point in points):
            self.checker.problem(place, "changes no number of any run, so that there is nothing to search")

    def _has_place(self, key: str, end: tuple[Any, Mark]) -> bool:
        """Whether the key leads anywhere in the config; one that does not would hide the mistakes of all others."""
        try:
            _with(self.document, {key: end})
        except ConfigError as error:
            self.checker.problems.append(str(error))
            return False
        return True

    def _at(self, point: Mapping[str, tuple[Any, Mark]], told: bool) -> list[Resolved]:
        try:
            return resolve_all(_with(self.document, point))
        except ConfigError as error:
            if told:
                self.checker.problems += str(error).splitlines()
            return []


def _compared(cells: Sequence[Resolved]) -> list[Any]:
    """What has to be the same for two trials to be compared."""
    return [
        (cell.select, cell.task_loss if cell.select == "loss" else "", cell.experiment.data.model_dump_json(include=set(COMPARED))) for cell in cells
    ]


def _counted(cells: Sequence[Resolved]) -> list[dict[str, Any]]:
    return [cell.counted() for cell in cells]


def _for_best(document: Document) -> Document:
    """The config of the runs at the end but for its values: what is wrong with their name and seeds is told before anything is trained."""
    name = document.value["name"]
    return Document({**document.value, "name": f"{name}_{SECTION}d" if isinstance(name, str) else name}, document.marks)


def _for_trials(document: Document, seeds: Sequence[int]) -> Document:
    value = {**document.value, "name": f"{document.value['name']}_{SECTION}", "seeds": list(seeds)}
    return Document(value, document.marks)


def _with(document: Document, values: Mapping[str, tuple[Any, Mark]], row: str = "") -> Document:
    """The config with these values, each of which is told of by its place in the space."""
    found = Document(copy.deepcopy(document.value), dict(document.marks))
    for key, (value, mark) in values.items():
        assign(found, key, copy.deepcopy(value), mark)
    return Document({**found.value, "row": row}, found.marks) if row else found


def flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings and lists by their dotted keys."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner:
        yield place, value
    for key, item in inner:
        yield from flat(item, f"{place}.{key}" if place else str(key))
