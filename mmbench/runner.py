"""One experiment is a config times seeds: plans its runs and those of the floors, as folders, and hands what is missing to an executor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench.component import RunRequest
from mmbench.data.dataset import Dataset
from mmbench.data.load import load_dataset, locate
from mmbench.errors import ConfigError
from mmbench.files import write
from mmbench.plugins import catalogue
from mmbench.resolve import Resolved, resolve
from mmbench.strict_yaml import Document, dump


@dataclass(frozen=True)
class Row:
    """One configuration of an experiment, that is one row of its table: the method itself, or a floor."""

    name: str
    resolved: Resolved
    folder: Path
    floor: bool


@dataclass(frozen=True)
class Plan:
    """Everything that an experiment will do, known before anything is trained."""

    resolved: Resolved
    dataset: Dataset
    rows: tuple[Row, ...]
    device: str

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return self.rows[0].folder.parent

    def runs(self) -> Iterator[tuple[Row, int, Path]]:
        """Row, seed and folder of each run, seed by seed, so that partial tables have the same seeds in each row."""
        for seed in self.resolved.experiment.seeds:
            for row in self.rows:
                yield row, seed, row.folder / f"seed-{seed}"


def make_plan(resolved: Resolved, out: Path, data_root: Path | None, device: str) -> Plan:
    """Load the data, check what only they can tell, and lay out the runs. Imports no torch."""
    refuse(resolved)
    data = resolved.experiment.data
    if not data.simulated:
        data = data.model_copy(update={"path": str(locate(data, data_root).resolve())})
        resolved = _with_data_path(resolved, str(data.path))
    dataset = load_dataset(data, data_root)
    experiment = out / resolved.experiment.name
    row = Row(resolved.experiment.name, resolved, experiment / _label(resolved, dataset), resolved.model.entry.component.floor)
    return Plan(resolved, dataset, (row, *_floors(resolved, dataset, experiment)), device)


def refuse(resolved: Resolved) -> None:
    """Raise `ConfigError` where an experiment cannot be run: combinations without meaning, and what is not installed."""
    problems = [f"cannot run: {refusal}" for refusal in resolved.fit.refusals] + [f"cannot run: {missing}" for missing in resolved.missing]
    if problems:
        raise ConfigError("\n".join(problems))


def _label(resolved: Resolved, dataset: Dataset) -> str:
    return f"{resolved.model.entry.component.name}-{resolved.fingerprint(dataset.fingerprint)}"


def _with_data_path(resolved: Resolved, path: str) -> Resolved:
    value = {**resolved.document.value, "data": {**resolved.document.value["data"], "path": path}}
    return resolve(Document(value, resolved.document.marks), catalogue())


def _floors(resolved: Resolved, dataset: Dataset, experiment: Path) -> Iterator[Row]:
    """The floors on the same data, splits, metrics and seeds, each trained as its component says."""
    filled = resolved.to_dict()
    for entry in catalogue().of_kind("model"):
        if not entry.component.floor or entry == resolved.model.entry:
            continue
        training = {**entry.component.training, "select": resolved.select, "threads": resolved.experiment.training.threads}
        if resolved.manifest.task == "classification":
            training.pop("task_loss", None)  # a floor's recipe is for regression; classes have one task loss
        value = {
            **{key: filled[key] for key in ("data", "metrics", "seeds")},
            "name": filled["name"],
            "model": {"name": entry.key},
            "training": training,
        }
        floor = resolve(Document(value, {}), catalogue())
        yield Row(entry.component.name, floor, experiment / _label(floor, dataset), True)


def prepare(plan: Plan, rerun: str | None) -> tuple[list[RunRequest], int, int]:
    """Write the config of each run that is to be executed. Returns the requests, and how many runs are done or failed and left alone."""
    requests, done, failed = [], 0, 0
    for row, seed, folder in plan.runs():
        status = run_status(folder)
        if rerun == "all" or (rerun == "failed" and status == "failed"):
            shutil.rmtree(folder, ignore_errors=True)
            status = ""
        if status in ("done", "failed"):
            done, failed = done + (status == "done"), failed + (status == "failed")
            continue
        content = {**row.resolved.to_dict(), "seeds": [seed]}
        try:
            write(folder / "config.yaml", f"# {row.name}, seed {seed}: every value in force\n{dump(content)}")
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out") from None
        requests.append(RunRequest(folder, f"{row.name} seed {seed}", plan.device, row.resolved.experiment.training.threads))
    return requests, done, failed


def run_status(folder: Path) -> str:
    """The status that a run's result states, or nothing where there is none that can be read."""
    try:
        status: Any = json.loads((folder / "result.json").read_text())["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(status)
