"""One experiment is a config times seeds: plans its runs and those of the floors, as folders, and hands what is missing to an executor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmbench.claims import CLAIM, ClaimedError, claim
from mmbench.component import RunRequest
from mmbench.data.dataset import Dataset
from mmbench.data.load import load_dataset, locate
from mmbench.errors import ConfigError, DataError, RunError, printable
from mmbench.files import read_json, write, write_sealed, writing
from mmbench.plugins import catalogue
from mmbench.privacy import portable, told_path
from mmbench.resolve import Choice, Resolved, resolve
from mmbench.strict_yaml import Document, dump


@dataclass(frozen=True)
class Row:
    """One configuration of an experiment, that is one row of its table: a method (a cell of a sweep), or a floor. `refusal`: why it cannot run."""

    name: str
    resolved: Resolved
    folder: Path
    floor: bool
    refusal: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that an experiment will do, known before anything is trained."""

    rows: tuple[Row, ...]
    datasets: tuple[Dataset, ...]
    device: str

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return self.rows[0].folder.parent

    @property
    def executor(self) -> Choice:
        """What carries it out: as the first of its configs has it, since all have the same."""
        return self.rows[0].resolved.executor

    @property
    def parts(self) -> tuple[str, ...]:
        """What it does with protocols that have parts, a line each: ``iemocap 4way_5fold: 5 parts x 5 seeds``."""
        found: dict[tuple[str, str], tuple[dict[str, None], dict[int, None]]] = {}
        for row in self.rows:
            manifest = row.resolved.manifest
            if manifest.part:
                parts, seeds = found.setdefault((manifest.name, manifest.protocol), ({}, {}))
                parts[manifest.part] = None
                seeds.update(dict.fromkeys(row.resolved.experiment.seeds))
        return tuple(
            f"{name} {protocol}: {len(parts)} part{'s' * (len(parts) > 1)} x {len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(parts)})"
            for (name, protocol), (parts, seeds) in found.items()
        )

    def runs(self) -> Iterator[tuple[Row, int, Path]]:
        """Row, seed and folder of each run, seed by seed, so that partial tables have the same seeds in each row."""
        runnable = [row for row in self.rows if not row.refusal]
        for seed in dict.fromkeys(seed for row in runnable for seed in row.resolved.experiment.seeds):
            for row in runnable:
                if seed in row.resolved.experiment.seeds:
                    yield row, seed, row.folder / f"seed-{seed}"


def make_plan(cells: Sequence[Resolved], out: Path, data_root: Path | None, device: str) -> Plan:
    """Load the data, check what only they can tell, and lay out the runs of an experiment or of a sweep's cells. Imports no torch.

    Raises `ConfigError` where nothing can be run; in a sweep, a cell that is refused is a row with its reason.
    """
    missing = dict.fromkeys(missing for cell in cells for missing in cell.missing)
    refused = dict.fromkeys(f"{cell.experiment.row}: {refusal}".removeprefix(": ") for cell in cells for refusal in cell.fit.refusals)
    if missing or all(cell.fit.refusals for cell in cells):
        raise ConfigError("\n".join(f"cannot run: {problem}" for problem in [*refused, *missing]))
    others = [cell for cell in cells if cell.executor != cells[0].executor]
    if others:
        raise ConfigError(f"{others[0].experiment.row}: executor differs from that of {cells[0].experiment.row}; the runs of a sweep go to one")
    datasets: dict[str, Dataset] = {}
    rows: dict[Path, Row] = {}
    floors: dict[Path, Row] = {}
    asked: set[str] = set()
    for cell in map(partial(_located, data_root), cells):
        key = json.dumps([cell.experiment.data.model_dump(mode="json"), sorted(cell.reads("tokens")), sorted(cell.reads("waveform"))])
        if key not in datasets:
            datasets[key] = open_data(cell)
        folder = out / cell.experiment.name / _label(cell, datasets[key])
        earlier = rows.get(folder)
        name = f"{earlier.name} = {cell.name}" if earlier else cell.name  # equal by construction: one run under two names
        rows[folder] = Row(name, cell, folder, cell.model.entry.component.floor, "; ".join(cell.fit.refusals))
        for floor in _floors(cell, asked) if not cell.fit.refusals else ():
            folder = out / cell.experiment.name / _label(floor, datasets[key])
            floors.setdefault(folder, Row(floor.model.entry.component.name, floor, folder, True))
    return Plan((*rows.values(), *(row for folder, row in floors.items() if folder not in rows)), tuple(datasets.values()), device)


def open_data(resolved: Resolved, data_root: Path | None = None) -> Dataset:
    """The data set as an experiment's encoders want it. DataError: names the part, where the protocol has several."""
    try:
        return load_dataset(resolved.experiment.data, data_root, resolved.reads("tokens"), resolved.reads("waveform"))
    except DataError as error:
        raise DataError(f"part {resolved.manifest.part}: {error}" if resolved.manifest.part else str(error)) from None


def planned_fingerprint(resolved: Resolved, dataset: Dataset, folder: Path) -> str:
    """The fingerprint of a run, which its folder has in its name. RunError: it is another, since the data or the config have changed."""
    fingerprint, planned = resolved.fingerprint(dataset.fingerprint), folder.parent.name.rpartition("-")[2]
    if fingerprint != planned:
        raise RunError(f"{folder}: the data or the config have changed since this run was planned ({fingerprint}, not {planned}); run it anew")
    return fingerprint


def _label(resolved: Resolved, dataset: Dataset) -> str:
    return f"{resolved.model.entry.component.name}-{resolved.fingerprint(dataset.fingerprint)}"


def _located(data_root: Path | None, resolved: Resolved) -> Resolved:
    """The same experiment with the absolute path of its data."""
    data = resolved.experiment.data
    if data.simulated:
        return resolved
    path = locate(data, data_root, raw=bool(resolved.reads("waveform")))
    value = {**resolved.document.value, "data": {**resolved.document.value["data"], "path": str(path.resolve())}}
    return resolve(Document(value, resolved.document.marks), catalogue())


def _floors(resolved: Resolved, asked: set[str]) -> Iterator[Resolved]:
    """The floors on the same data, splits, metrics and seeds, each trained as its component says; encoders of raw inputs stay as they come.

    One whose config is among `asked`, those of earlier cells, is left out: most cells of a sweep have the same.
    """
    filled = resolved.to_dict()
    encoders = {
        modality: {**section, "finetune": False} if "finetune" in section else section for modality, section in filled["model"]["encoders"].items()
    }
    for entry in catalogue().of_kind("model"):
        if not entry.component.floor or entry == resolved.model.entry:
            continue
        training = {**entry.component.training, "select": resolved.select, "threads": resolved.experiment.training.threads}
        if resolved.manifest.task == "classification":
            training.pop("task_loss", None)  # a floor's recipe is for regression; classes have one task loss
        value = {
            **{key: filled[key] for key in ("metrics", "seeds", "name")},
            "data": {**filled["data"], "context": {}},
            "model": {"name": entry.key, "encoders": encoders},
            "training": training,
        }
        text = json.dumps(value, sort_keys=True)
        if text not in asked:
            asked.add(text)
            yield resolve(Document(value, {}), catalogue())


def prepare(plan: Plan, rerun: str | None) -> tuple[list[RunRequest], int, int]:
    """Write the config of each run that is to be executed. Returns the requests, and how many runs are done or failed and left alone.

    Runs that another process executes are among the requests, since they may end otherwise than done; they are not started anew.
    """
    requests, done, failed = [], 0, 0
    configs = _Configs()
    for row in plan.rows:
        if row.refusal:
            component = row.resolved.model.entry.component
            losses = [{"name": loss.entry.component.name, "weight": loss.weights} for loss in row.resolved.losses]
            refused = {"schema_version": 1, "status": "incompatible", "reason": row.refusal, "label": row.folder.name, "name": row.name}
            refused |= {"experiment": row.resolved.experiment.name, "model": component.name, "losses": losses, "floor": False}
            if row.resolved.protocol:
                refused |= {"family": row.resolved.family, "data": row.resolved.protocol}
            _write_config(row.folder, f"# {row.name}, refused: every value in force", configs.text(row))
            with writing(row.folder):
                write_sealed(row.folder / "result.json", refused)
        else:
            with writing(row.folder, "choose another folder with --out"):
                (row.folder / "result.json").unlink(missing_ok=True)  # of a time when it was refused
    for row, seed, folder in plan.runs():
        status = run_status(folder)
        if folder.is_dir() and (rerun == "all" or (rerun == "failed" and status == "failed")):
            status = _cleared(folder, rerun)
        if status == "done":
            with suppress(OSError):  # of another user's, say: it is in nobody's way
                (folder / "last.pt").unlink(missing_ok=True)  # of a process that was killed as its last act
        if status in ("done", "failed"):
            done, failed = done + (status == "done"), failed + (status == "failed")
            continue
        _write_config(folder, f"# {row.name}, seed {seed}: every value in force", configs.text(row, seed))
        label = f"{row.name}, {part}, seed {seed}" if (part := row.resolved.manifest.part) else f"{row.name} seed {seed}"
        training = row.resolved.experiment.training
        requests.append(RunRequest(folder, label, plan.device, training.threads, training.processes))
    return requests, done, failed


def _cleared(folder: Path, rerun: str) -> str:
    """Remove what a run has left, except where another process works on it. Returns the status that it has then.

    The config stays: it is replaced, and whoever has begun to read it reads that of the same run.
    """
    try:
        with writing(folder, "choose another folder with --out"), claim(folder):
            if rerun == "failed" and read_json(folder / "result.json").get("resumable"):
                (folder / "result.json").unlink()  # what stopped it is no fault of the run: it goes on
            elif rerun == "all" or run_status(folder) == "failed":  # not where another command was first
                (folder / "result.json").unlink(missing_ok=True)  # first, since a half removed run must not look done
                for path in folder.iterdir():
                    if path.name.startswith((CLAIM, f".{CLAIM}-", "config.yaml", ".config.yaml.")):
                        continue
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    except ClaimedError:
        return ""
    return run_status(folder)


class _Configs:
    """What stands in the runs' ``config.yaml``. Those of a row differ in their seed alone, and rows of a sweep have most sections in common: each
    section is written as YAML once, which takes milliseconds."""

    def __init__(self) -> None:
        self._rows: dict[Path, dict[str, str]] = {}
        self._sections: dict[str, str] = {}

    def text(self, row: Row, seed: int | None = None) -> str:
        """The config of a row's run, or of a row."""
        if row.folder not in self._rows:
            content = portable({**row.resolved.to_dict(), "row": row.name})
            content["data"]["path"] = content["data"]["path"] and told_path(content["data"]["path"])  # no part of the fingerprint
            self._rows[row.folder] = {key: self._section(key, value) for key, value in content.items()}
        own = {} if seed is None else {"seeds": self._section("seeds", [seed])}
        return "".join((self._rows[row.folder] | own).values())

    def _section(self, key: str, value: Any) -> str:
        known = json.dumps([key, value])
        if known not in self._sections:
            self._sections[known] = dump({key: value})
        return self._sections[known]


def _write_config(folder: Path, comment: str, content: str) -> None:
    path, text = folder / "config.yaml", f"{printable(comment)}\n{content}"
    with writing(folder, "choose another folder with --out"):
        if not path.is_file() or path.read_bytes() != text.encode():  # a run that goes on may be reading it
            write(path, text)


def encoder_runs(plan: Plan, requests: Sequence[RunRequest]) -> list[Path]:
    """One pending run of each choice of encoders and data: what they share is prepared from its folder."""
    pending = {request.folder for request in requests}
    found: dict[str, Path] = {}
    for row, _, folder in plan.runs():
        if row.resolved.encoders and folder in pending:
            filled = row.resolved.to_dict()
            found.setdefault(json.dumps([filled["model"]["encoders"], filled["data"]], sort_keys=True), folder)
    return list(found.values())


def run_status(folder: Path) -> str:
    """The status that a run's result states, or nothing where there is none that can be read."""
    return str(read_json(folder / "result.json").get("status", ""))
