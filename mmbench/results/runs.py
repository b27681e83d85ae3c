"""Run folders, ``runs/<experiment>/<label>/seed-<n>/``, as records. Damaged and partial folders become records too, never a traceback."""

from __future__ import annotations

import contextlib
import gc
import marshal
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmbench import __version__
from mmbench.claims import CLAIM, owner_of
from mmbench.errors import ConfigError, DataError, MmbenchError
from mmbench.files import file_digest, load_json, read_text, sealed
from mmbench.queued import Queued
from mmbench.results.predictions import read_predictions, write_predictions
from mmbench.results.spread import spread
from mmbench.strict_yaml import MOST_TEXT, parse

__all__ = ["RunRecord", "find_runs", "read_predictions", "read_result", "write_predictions"]

SCHEMA_VERSION = 1
PIECE = 500
"""Run folders that one process reads at a time, where there are more."""
STATUSES = ("done", "failed", "interrupted", "incompatible")
"""What ``result.json`` may say; a folder without it is ``pending``, ``queued``, ``running`` or ``interrupted``, an unreadable one ``damaged``."""

SEED_FOLDER = re.compile(r"seed-(\d+)")
A_PART = re.compile(r"^ +part: (?!null)", re.MULTILINE)


@dataclass(frozen=True)
class RunRecord:
    """One run: what its ``result.json`` says, or what can be told of its folder without one. Scores that are NaN or absent are NaN."""

    folder: Path
    status: str
    reason: str = ""
    experiment: str = ""
    label: str = ""
    """``<model>-<fingerprint>``: one configuration."""
    name: str = ""
    """The configuration's name in a table."""
    model: str = ""
    losses: tuple[Mapping[str, Any], ...] = ()
    floor: bool = False
    adapters: tuple[Mapping[str, Any], ...] = ()
    seed: int | None = None
    fingerprint: str = ""
    family: str = ""
    """Equal for the runs of one configuration on the parts of a protocol; nothing where there are no parts."""
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Scores by split, then by entry (``corr``, ``recall[happy]``)."""
    collapsed: bool = False
    selection: Mapping[str, Any] = field(default_factory=dict)
    gradients: Mapping[str, float] = field(default_factory=dict)
    """By term: the norm of its weighted gradient in the encoded features, at the first batch of the chosen epoch."""
    epochs: int = 0
    parameters: int = 0
    seconds: float = float("nan")
    peak_memory_mb: float = float("nan")
    environment: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """sha256 of other files of a finished run, by name; see `intact`."""
    warnings: tuple[str, ...] = ()
    """What went wrong beside the run, such as a tracker that was switched off."""
    numbers: int = 0
    """`mmbench.config.NUMBERS` of the version that made it; 0: it was not counted yet."""
    owner: str = ""
    """The process and machine that execute it, or did when it died, or the scheduler's job that it waits for; for a terminal alone, since what
    others are shown names no machine."""

    @property
    def title(self) -> str:
        """The configuration's name, or its folder's where the record has none."""
        return self.name or self.label or self.folder.name

    @property
    def part(self) -> str:
        """The part of a protocol that it was run on; nothing where there are no parts."""
        return str(self.data.get("part", ""))


def read_result(folder: Path, known: dict[bytes, Any] | None = None) -> RunRecord:
    """The record of a run folder's ``result.json``. `known`: data and environments of other runs; one that is equal is held once.

    Raises:
        DataError: where it is missing, is no JSON object of this schema, or a value is of the wrong kind; names the key.
    """
    path = folder / "result.json"
    try:
        document = load_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}); mmbench run does this run anew") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: is not a JSON object; mmbench run does this run anew")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        step = f"mmbench{_writer(document)} wrote it: read it with that version, or update" if newer else "is it a result of mmbench?"
        raise DataError(f"{path}: has schema_version {version!r:.40}; mmbench {__version__} reads {SCHEMA_VERSION}. {step}")
    if not sealed(document):
        raise DataError(f"{path}: is not as it was written (a damaged disk, or edited by hand); copy it again, or mmbench run does this run anew")
    values: dict[str, Any] = {key: checked(path, key, document[key], kind) for key, kind in KINDS.items() if document.get(key) is not None}
    if known is not None:
        values |= {key: known.setdefault(marshal.dumps(values[key], 2), values[key]) for key in ("data", "environment") if key in values}
    status = values.get("status", "")
    if status not in STATUSES:
        raise DataError(f"{path}: status is {status!r}, not one of {', '.join(STATUSES)}")
    for key, inner in (("data", "name"), ("metrics", "test")):
        if status == "done" and inner not in values.get(key, {}):
            raise DataError(f"{path}: says that the run is done, but has no {key}.{inner}")
    place = told_by_path(folder)
    if place["seed"] is not None and values.get("seed", place["seed"]) != place["seed"]:
        raise DataError(f"{path}: says seed {values['seed']}, but its folder is {folder.name}; was it copied?")
    values |= {key: tuple(values.get(key, ())) for key in ("losses", "adapters", "warnings")}
    values["metrics"] = {split: scores(path, f"metrics.{split}", found) for split, found in values.get("metrics", {}).items()}
    values["gradients"] = scores(path, "gradients", values.get("gradients", {}))
    return RunRecord(folder, **(place | values))


def intact(record: RunRecord, name: str) -> Path:
    """The path of a file of the run. DataError: the run is done, and the file is not the one that it wrote."""
    path = record.folder / name
    known = record.files.get(name)
    if record.status == "done" and known is not None and path.is_file() and file_digest(path) != known:
        raise DataError(
            f"{path}: is not as the run wrote it (a damaged disk, or edited by hand); copy it again, or run this seed anew with --rerun all"
        )
    return path


def _writer(document: Mapping[str, Any]) -> str:
    """Which version of mmbench a result says it is from, after a space; nothing where it does not say."""
    with contextlib.suppress(KeyError, TypeError):
        return f" {document['environment']['packages']['mmbench']}"
    return " of a newer version"


KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("status", "reason", "experiment", "label", "name", "model", "fingerprint", "family"), str),
    **dict.fromkeys(("losses", "adapters", "warnings"), list),
    **dict.fromkeys(("floor", "collapsed"), bool),
    **dict.fromkeys(("seed", "epochs", "parameters", "numbers"), int),
    **dict.fromkeys(("data", "metrics", "selection", "gradients", "environment", "files"), dict),
    **dict.fromkeys(("seconds", "peak_memory_mb"), (int, float)),
}


def checked(path: Path, key: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    """The value, if it is of that kind (true and false are no numbers)."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"{path}: {key} is {value!r:.60}, which is of the wrong kind")
    if isinstance(value, list) and not all(isinstance(item, str if key == "warnings" else dict) for item in value):
        raise DataError(f"{path}: {key} holds something that is not {'a string' if key == 'warnings' else 'an object'}")
    for part in value if isinstance(value, list) and key == "adapters" else ():
        if not all(isinstance(part.get(name, ""), str) for name in ("field", "kind")) or type(part.get("parameters", 0)) is not int:
            raise DataError(f"{path}: adapters holds {part!r:.60}, where field, kind and number of parameters should stand")
    if isinstance(value, dict) and key == "data":
        if value.get("task", "regression") not in ("regression", "classification"):
            raise DataError(f"{path}: data.task is {value['task']!r:.60}, which is no task")
        for name in ("name", "title", "task", "fingerprint", "protocol", "part", "protocol_title"):
            if not isinstance(value.get(name, ""), str):
                raise DataError(f"{path}: data.{name} is {value[name]!r:.60}, which is not a string")
        for name in ("classes", "modalities", "metrics", "parts"):
            found = value.get(name, [])
            if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
                raise DataError(f"{path}: data.{name} is {found!r:.60}, which is not a list of strings")
    return value


def scores(path: Path, place: str, found: Any) -> dict[str, float]:
    """Numbers by name, such as the scores of one split, with NaN where the file says null."""
    if not isinstance(found, dict):
        raise DataError(f"{path}: {place} is not an object")
    if all(type(value) is float for value in found.values()):
        return {sys.intern(key): value for key, value in found.items()}  # thousands of runs have the same keys
    for key, value in found.items():
        if value is not None:
            checked(path, f"{place}.{key}", value, (int, float))
    return {sys.intern(key): math.nan if value is None else float(value) for key, value in found.items()}


def told_by_path(folder: Path) -> dict[str, Any]:
    """Experiment, label, model and seed as ``<experiment>/<label>/seed-<n>`` has them; a folder of another name stands for a whole configuration."""
    seed = SEED_FOLDER.fullmatch(folder.name)
    configuration = folder.parent if seed else folder
    label = configuration.name
    return {"experiment": configuration.parent.name, "label": label, "model": label.rpartition("-")[0], "seed": int(seed[1]) if seed else None}


def told_by_config(folder: Path) -> dict[str, Any]:
    """Protocol and part that a run's ``config.yaml`` names, for a run that has no record of them yet; nothing where there are no parts."""
    try:
        text = read_text(folder / "config.yaml", MOST_TEXT)
        if not A_PART.search(text):  # told without parsing thousands of files
            return {}
        data = parse(text, str(folder / "config.yaml")).value["data"]
        return {"data": {key: str(data[key]) for key in ("protocol", "part")}}
    except (OSError, ValueError, MmbenchError, KeyError, TypeError):
        return {}


def read_run(folder: Path, settled: bool = False, known: dict[bytes, Any] | None = None) -> RunRecord:
    """The record of one run folder, whatever its state. `settled`: it was just seen to hold a result and no claim. `known`: as in `read_result`."""
    owner = None if settled else owner_of(folder)
    state, damage = owner.state() if owner else "", ""
    if state != "alive" and (settled or (folder / "result.json").exists()):
        try:
            record = read_result(folder, known)
            if record.status == "interrupted" and state != "silent" and (note := Queued.read(folder)):  # stopped, and to be gone on with
                record = replace(record, status="queued", reason="", owner=str(note))
            return record if record.data else replace(record, **told_by_config(folder))
        except DataError as error:
            if not (folder / "result.json").exists():
                return read_run(folder)  # it was started anew in between
            damage = str(error)
    told = told_by_path(folder) | told_by_config(folder)
    if state == "alive":
        return RunRecord(folder, "running", owner=str(owner), **told)
    if damage:
        return RunRecord(folder, "damaged", damage, **told)
    if not (folder / "config.yaml").exists() and not any(folder.glob(".config.yaml.*")):  # which is being written
        return RunRecord(folder, "damaged", f"{folder}: has neither result.json nor config.yaml", **told)
    if owner is not None and state == "silent":
        quiet = f"no sign of life for {owner.quiet(time.time())} from its process on another machine"
        reason = f"{quiet}; if it is gone, run the experiment with --take-over to resume"
        return RunRecord(folder, "interrupted", reason, owner=str(owner), **told)
    if note := Queued.read(folder):
        return RunRecord(folder, "queued", owner=str(note), **told)
    begun = any((folder / name).exists() for name in (CLAIM, "run.lock", "epochs.jsonl")) or _holds(folder / "log.txt")
    reason = f"{'its process died' if owner else 'stopped before it finished'}; run the experiment again to resume" * begun
    return RunRecord(folder, "interrupted" if begun else "pending", reason, owner=str(owner or ""), **told)


def _holds(path: Path) -> bool:
    """Whether a file is there and not empty: a log is opened before its process has claimed the run."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Records hold no cycles, and looking for some among those of thousands of runs would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_some(places: Sequence[tuple[Path, bool]]) -> list[RunRecord]:
    """The records of run folders, each with whether it was just seen to hold a result and no claim; what is equal in them is held once."""
    known: dict[bytes, Any] = {}
    return [read_run(place, settled, known) for place, settled in places]


def find_runs(folder: Path) -> list[RunRecord]:
    """Every run below `folder` (all runs, one experiment, one configuration or one run), ordered by experiment, configuration and seed.

    A run folder is one named ``seed-<n>``, or any with a ``result.json``; hidden folders are passed over.

    Raises:
        ConfigError: where the folder does not exist or holds no run.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ConfigError(f"{folder}: is a file; give the folder of an experiment, such as runs/<experiment>")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; give the folder of an experiment, such as runs/<experiment>")
    found: dict[Path, bool] = {}
    for place, children, files in os.walk(folder.resolve()):
        settled = "result.json" in files and CLAIM not in children  # what is listed already need not be asked for again
        children[:] = sorted(child for child in children if not child.startswith("."))
        if "result.json" in files or SEED_FOLDER.fullmatch(Path(place).name):
            found[Path(place)] = settled
        if SEED_FOLDER.fullmatch(Path(place).name):
            children.clear()
    if not found:
        raise ConfigError(
            f"{folder}: holds no runs; expected <experiment>/<model>-<fingerprint>/seed-<n> folders below it, as mmbench run writes them"
        )
    with _without_collection():
        records = spread(_read_some, list(found.items()), PIECE)
    return sorted(records, key=lambda record: (record.experiment, record.label, -1 if record.seed is None else record.seed, str(record.folder)))
