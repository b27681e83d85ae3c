"""Damaged files: cut short anywhere, or with a bit changed anywhere.

Each is told of in one error that names the file and the next step, or is made anew, or changes nothing; no number is ever another one in silence.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from mmbench.config import DataConfig
from mmbench.data import store
from mmbench.data.checks import examine
from mmbench.data.load import load_dataset
from mmbench.errors import DataError, MmbenchError
from mmbench.extraction import assemble
from mmbench.files import DIGEST, file_digest, read_json, write_sealed
from mmbench.metrics import evaluate
from mmbench.results.figures.epochs import read_epochs
from mmbench.results.predictions import read_predictions
from mmbench.results.rescore import rescore
from mmbench.results.runs import RunRecord, find_runs, intact, read_result
from mmbench.results.tables import known_metrics
from mmbench.runner import run_status
from mmbench.training import checkpoint

from .full_disk import command, damaged

pytestmark = pytest.mark.reliability
FLIPPED = "a bit is changed, or the end is missing, in "


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a cache of its own."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        patch.delenv("MMBENCH_DATA", raising=False)
        yield folder


class Network(torch.nn.Linear):
    """As much of a network as a checkpoint needs."""


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run as a worker leaves it."""
    from mmbench.results.predictions import write_predictions

    folder = tmp_path / "runs" / "demo" / "linear-f00d" / "seed-1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    target = rng.uniform(-3, 3, 60).astype(np.float32)
    prediction = (target + rng.normal(size=60)).astype(np.float32)
    write_predictions(folder / "predictions.csv.gz", {"test": (tuple(map(str, range(60))), target, prediction)})
    (folder / "config.yaml").write_text("name: demo\nmodel: {name: linear, dropout: 0.25}\nseeds: [1]\n")
    lines = (f'{{"epoch": {i}, "train": {{"task": {1 / i}}}, "valid": {{"mae": {2 / i}}}, "lr": 0.1, "seconds": 1.0}}\n' for i in range(1, 9))
    (folder / "epochs.jsonl").write_text("".join(lines))
    names = ("mae", "corr", "acc2_non0")
    scores = dict(evaluate(names, prediction, target))
    data = {"name": "mosi", "title": "CMU-MOSI", "task": "regression", "metrics": list(names), "fingerprint": "f", "simulated": False}
    document = {"schema_version": 1, "status": "done", "reason": "", "seed": 1, "name": "linear", "data": data, "metrics": {"test": scores}}
    document |= {"model": "linear", "files": {name: file_digest(folder / name) for name in ("config.yaml", "epochs.jsonl", "predictions.csv.gz")}}
    write_sealed(folder / "result.json", document)
    return folder


def told(path: Path, error: Exception) -> bool:
    """Whether an error is one line that names the file and a next step."""
    text = str(error)
    steps = ("again", "anew", "remove", "--rerun", "another", "try", "version", "is it a result")
    return isinstance(error, MmbenchError) and str(path) in text and "\n" not in text and any(step in text for step in steps)


def survived(path: Path, count: int, read: Callable[[], Any], same: Callable[[Any], bool], seed: int = 0) -> Iterator[bool]:
    """Damage a file in each way, read it, and say whether that was told of or harmless."""
    whole = path.read_bytes()
    try:
        for content in damaged(whole, count, seed):
            path.write_bytes(content)
            try:
                yield same(read())
            except MmbenchError as error:
                yield told(path, error)
    finally:
        path.write_bytes(whole)


def test_checkpoints(tmp_path, times, tally) -> None:
    """torch itself compares no checksums: of 5581 bytes of a small checkpoint 4014 can change without its knowing."""
    torch.manual_seed(0)
    network, path = Network(20, 10), tmp_path / "last.pt"
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    progress = {"epoch": 3, "best": 0.25, "history": [{"valid": {"mae": 0.5}}]}
    checkpoint._save(path, {"fingerprint": "f00d", "network": weights, "progress": progress})
    other = Network(20, 10)

    def same(found: dict) -> bool:
        return found == progress and all(torch.equal(other.state_dict()[key], value) for key, value in weights.items())

    for well in survived(path, times(60, 1000), lambda: checkpoint.load_checkpoint(path, "f00d", other), same):
        tally(FLIPPED + "last.pt or best.pt", well)


def test_values_and_index_of_a_store(place, times, tally, capfd) -> None:
    """One in the cache is built anew, one of the user's is an error; neither is read with other values."""
    config = DataConfig(name="mosi", simulated=True, samples=24, features="aligned", modalities=("text", "audio"))
    dataset = load_dataset(config)
    folder = Path(dataset.record["source"])
    held = {name: np.array(array) for name, array in store.open_store(folder).arrays.items()}
    own = place / "own" / "aligned"
    shutil.copytree(folder, own)
    mine = DataConfig(name="mosi", path=str(own))

    def open_(config: DataConfig, folder: Path) -> store.Store:
        load_dataset(config)
        return store.open_store(folder)

    def same(found: store.Store) -> bool:
        return all(np.array_equal(held[name], array) for name, array in found.arrays.items()) and found.arrays.keys() == held.keys()

    for name in (store.ARRAYS, store.DOCUMENT):
        for config_, where, label in ((config, folder, "a cache"), (mine, own, "a data set of the user's")):
            path = where / name
            whole = path.read_bytes()
            for content in damaged(whole, times(8, 150), seed=len(label)):
                path.write_bytes(content)
                try:
                    well = same(open_(config_, where))
                except DataError as error:
                    well = label != "a cache" and str(where) in str(error) and "again" in str(error)
                tally(f"{FLIPPED}{label} ({name})", well)
                path.write_bytes(whole)


def test_a_disk_that_rots_is_found_by_data_check(place, times, tally) -> None:
    """Neither size nor time has changed, so a start does not read it all again: `mmbench data check` does."""
    config = DataConfig(name="mosi", simulated=True, samples=24, features="aligned", modalities=("text", "audio"))
    path = Path(load_dataset(config).record["source"]) / store.ARRAYS
    whole, status = path.read_bytes(), path.stat()
    for content in [each for each in damaged(whole, times(10, 200), seed=3) if len(each) == len(whole)]:
        with open(path, "rb+") as file:
            file.write(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        try:
            examine(config)
            well = path.read_bytes() == whole  # what a start looks at has changed, so it was made anew
        except DataError as error:
            well = told(path, error)
        tally("a bit changes on the disk, and nothing tells", well)
        with open(path, "rb+") as file:
            file.write(whole)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_standardised_values(place, times, tally, monkeypatch) -> None:
    from mmbench.data import transforms

    monkeypatch.setattr(transforms, "IN_MEMORY", 0)
    config = DataConfig(name="mosi", simulated=True, samples=24, features="aligned", modalities=("audio",), standardize={"modalities": ["audio"]})

    def values() -> dict[str, np.ndarray]:
        return {key: np.array(split.inputs["audio"].values) for key, split in load_dataset(config).splits.items()}

    held = values()
    paths = sorted((place / "cache" / "data").glob(f"*/{store.DOCUMENT}"))
    (made,) = [path.parent for path in paths if read_json(path).keys() == {"format", "arrays", "content", DIGEST}]
    for name in (store.ARRAYS, store.DOCUMENT):
        for content in damaged((made / name).read_bytes(), times(6, 100)):
            (made / name).write_bytes(content)
            found = values()
            tally(FLIPPED + "standardised values", all(np.array_equal(held[key], found[key]) for key in held))


def test_files_of_a_run(run, times, tally) -> None:
    record, predictions, epochs = read_result(run), read_predictions(run / "predictions.csv.gz"), read_epochs(read_result(run))
    metrics = known_metrics([record])

    def equal(found: RunRecord) -> bool:
        return found == record

    for well in survived(run / "result.json", times(80, 2000), lambda: read_result(run), equal):
        tally(FLIPPED + "result.json", well)
    (run / "result.json").write_bytes((run / "result.json").read_bytes().replace(b'"mae": ', b'"mae": 1'))
    assert run_status(run) == ""  # so that it is run anew
    assert find_runs(run)[0].status == "damaged"
    write_sealed(run / "result.json", {**_document(record), "metrics": {key: dict(value) for key, value in record.metrics.items()}})

    for well in survived(run / "config.yaml", times(40, 500), lambda: intact(record, "config.yaml"), lambda found: False):
        tally(FLIPPED + "config.yaml", well)
    for well in survived(run / "epochs.jsonl", times(80, 1000), lambda: read_epochs(record), lambda found: found == epochs):
        tally(FLIPPED + "epochs.jsonl", well)

    def same(found: dict) -> bool:
        return found.keys() == predictions.keys() and all(
            one[0] == two[0] and all(map(np.array_equal, one[1:], two[1:])) for one, two in zip(found.values(), predictions.values(), strict=True)
        )

    path = run / "predictions.csv.gz"
    for well in survived(path, times(80, 1000), lambda: read_predictions(path), same):
        tally(FLIPPED + "predictions.csv.gz", well)
    whole = path.read_bytes()
    for content in damaged(whole, times(20, 200)):
        path.write_bytes(content)
        tally(FLIPPED + "predictions.csv.gz, asked by mmbench score", str(path) in rescore(record, metrics).problem)
    path.write_bytes(whole)


def _document(record: RunRecord) -> dict[str, Any]:
    data = {"schema_version": 1, "status": record.status, "seed": record.seed, "name": record.name, "model": record.model}
    return data | {"data": dict(record.data), "files": dict(record.files)}


def test_reports_of_damaged_runs(run, times, tally, capfd) -> None:
    """The commands themselves: no traceback, and what is shown are the numbers or the damage."""
    folder = run.parents[2]
    assert command("report", folder, "--draws", 100, "--format", "json") == 0
    whole = capfd.readouterr().out
    path = run / "result.json"
    content = path.read_bytes()
    for each in damaged(content, times(4, 60), seed=5):
        path.write_bytes(each)
        codes = [command(*verb) for verb in (("status", folder), ("report", folder, "--draws", 100, "--format", "json"))]
        told = capfd.readouterr()
        shown = whole in told.out or ("damaged" in told.out and all(code in (0, 2) for code in codes))
        tally("a damaged result is reported", shown and "Traceback" not in told.err)
    path.write_bytes(content)


def test_features_that_were_extracted(tmp_path, times, tally) -> None:
    array = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    path, whole = tmp_path / "clip.npy", assemble.packed(array)
    for content in damaged(whole, times(80, 1000)):
        path.write_bytes(content)
        try:
            if assemble.whole(path):  # else it is extracted anew
                assemble.shape_of(path)
                tally(FLIPPED + "extracted features", np.array_equal(assemble.load(path), array))
            else:
                tally(FLIPPED + "extracted features", True)
        except DataError as error:
            tally(FLIPPED + "extracted features", told(path, error) and not path.exists())
    np.save(path, array)
    assert np.array_equal(assemble.load(path), array)  # of an older version


def test_what_is_older_than_digests_is_believed(run) -> None:
    document = read_json(run / "result.json")
    write_sealed(run / "result.json", {key: value for key, value in document.items() if key != "files"})
    text = (run / "result.json").read_text()
    (run / "result.json").write_text(text.replace(f'"{DIGEST}"', '"another"'))
    assert read_result(run).status == run_status(run) == "done"
    assert intact(read_result(run), "config.yaml") == run / "config.yaml"
