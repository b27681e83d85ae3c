"""Thousands of synthetic run folders in the likeness of one real run: methods x losses x data sets x seeds, some of them not finished.

The mould is a finished run on simulated data. Of each synthetic one the configuration, the seed, the predictions and the scores that follow from
them differ; its files have the mould's formats and about its sizes. Checkpoints are left out, since no verb that is measured opens them.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.files import DIGEST, seal
from mmbench.metrics import evaluate
from mmbench.results.predictions import NAME, read_predictions
from mmbench.strict_yaml import dump, load

METHODS, DATASETS, SEEDS = 30, 5, 5
UNFINISHED = {"failed": 0.02, "pending": 0.02, "interrupted": 0.01}
"""Shares of runs that are not done."""
LEAST, MOST = 0.5, 1.2
"""Noise of the best and of the worst method's predictions, in units of the labels."""


@dataclass(frozen=True)
class Mould:
    """What is varied of a real run."""

    config: dict[str, Any]
    result: dict[str, Any]
    epochs: str
    splits: dict[str, tuple[tuple[str, ...], np.ndarray, np.ndarray]]


def mould(folder: Path) -> Mould:
    """A finished run of simulated data."""
    result = json.loads((folder / "result.json").read_text())
    assert result["data"]["simulated"], f"{folder}: is not a run of simulated data"
    return Mould(load(folder / "config.yaml"), result, (folder / "epochs.jsonl").read_text(), read_predictions(folder / NAME))


@dataclass(frozen=True)
class Configuration:
    """One of the synthetic configurations. `noise`: of its predictions."""

    method: str
    loss: str
    dataset: str
    noise: float

    @property
    def fingerprint(self) -> str:
        """12 digits that no other has."""
        return hashlib.sha256(f"{self.method} {self.loss} {self.dataset}".encode()).hexdigest()[:12]


def configurations(count: int) -> Iterator[Configuration]:
    """So many configurations: every method on every data set, without a loss and then with one after another."""
    generator = np.random.default_rng(0)
    noise = np.linspace(LEAST, MOST, METHODS)
    for index in range(count):
        dataset, rest = index % DATASETS, index // DATASETS
        method, loss = rest % METHODS, rest // METHODS
        factor = 1 + 0.05 * generator.normal()
        yield Configuration(f"method{method:02}", f"loss{loss:02}" if loss else "", f"set{dataset}", float(noise[method] * factor))


def make(runs: int, cast: Mould, out: Path, seeds: int = SEEDS) -> int:
    """Write about so many run folders of one experiment below `out`, those that are there already left alone. Returns how many there are."""
    generator, made = np.random.default_rng(1), 0
    for configuration in configurations(runs // seeds):
        for seed in range(1, seeds + 1):
            state = "done"
            drawn = generator.random()
            for name, share in UNFINISHED.items():
                state, drawn = (name, 2.0) if drawn < share else (state, drawn - share)
            folder = out / "matrix" / f"{configuration.method}-{configuration.fingerprint}" / f"seed-{seed}"
            made += 1
            if not folder.exists():
                write_run(folder, configuration, seed, state, cast)
    return made


def write_run(folder: Path, configuration: Configuration, seed: int, state: str, cast: Mould) -> None:
    """One run folder."""
    folder.mkdir(parents=True)
    losses = [{"name": configuration.loss, "weight": {configuration.loss: {"value": 0.1, "warmup": 0}}}] if configuration.loss else []
    name = " + ".join(filter(None, (configuration.method, configuration.loss)))
    config = copy.deepcopy(cast.config) | {"name": "matrix", "row": name, "losses": losses, "seeds": [seed]}
    config["model"]["name"] = f"synthetic/{configuration.method}"
    config["data"]["name"] = configuration.dataset
    text = f"# {name}, seed {seed}: every value in force\n{dump(config)}"
    (folder / "config.yaml").write_text(text)
    if state == "pending":
        return
    (folder / "epochs.jsonl").write_text(cast.epochs)
    (folder / "log.txt").touch()
    if state == "interrupted":
        return
    about: dict[str, Any] = {"experiment": "matrix", "name": name, "model": configuration.method, "status": state}
    about["losses"] = [{"name": configuration.loss, "weight": {configuration.loss: [0.1, 0]}}] if losses else []
    data = {"name": configuration.dataset, "title": f"Set {configuration.dataset[3:]}"}
    data["fingerprint"] = hashlib.sha256(configuration.dataset.encode()).hexdigest()
    write_result(folder, seed, configuration.noise, cast, about, data)


def write_result(folder: Path, seed: int, noise: float, cast: Mould, about: dict[str, Any], data: dict[str, Any]) -> None:
    """The result of a run, and its predictions unless it failed. `noise`: of these; `about` and `data` replace what the mould says."""
    result = copy.deepcopy(cast.result) | {"label": folder.parent.name, "seed": seed, "fingerprint": folder.parent.name[-12:]} | about
    result["data"] |= data
    if result["status"] == "failed":
        result |= {"reason": "out of memory: synthetic; use a smaller training.batch_size"}
        result = {key: value for key, value in result.items() if key not in ("metrics", "files", "selection", "gradients")}
    else:
        generator = np.random.default_rng([int(result["fingerprint"][:8], 16), seed])
        lines = ["split,id,target,prediction\n"]
        for split, (ids, target, _) in cast.splits.items():
            predicted = (target + noise * generator.normal(size=target.shape)).astype(np.float32)
            result["metrics"][split] = evaluate(tuple(result["data"]["metrics"]), predicted, target)
            rows = zip(ids, target.tolist(), predicted.tolist(), strict=True)
            lines += [f"{split},{sample},{truth:.9g},{value:.9g}\n" for sample, truth, value in rows]
        (folder / NAME).write_bytes(gzip.compress("".join(lines).encode(), 6, mtime=0))
        names = ("config.yaml", "epochs.jsonl", NAME)
        result["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    plain = json.loads(json.dumps({key: value for key, value in result.items() if key != DIGEST}))
    (folder / "result.json").write_text(json.dumps({**plain, DIGEST: seal(plain)}, indent=1, ensure_ascii=False) + "\n")


def finish(folders: list[Path], cast: Mould) -> None:
    """Give run folders that were only planned a result, as if they had been executed."""
    for folder in folders:
        config = load(folder / "config.yaml")
        (folder / "epochs.jsonl").write_text(cast.epochs)
        (folder / "log.txt").touch()
        model = folder.parent.name.rpartition("-")[0]
        about = {"experiment": config["name"], "name": config["row"] or model, "model": model, "losses": [], "floor": model in ("constant", "linear")}
        write_result(folder, config["seeds"][0], 1.0, cast, about, {})
