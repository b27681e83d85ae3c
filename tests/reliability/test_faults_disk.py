"""Faults of disks: full at every step, read-only, and clocks that go back.

Whatever is written finds the disk full at its n-th step, for every n in the long form. What was there before still stands, nothing is left behind,
one error names the place, and once there is room the same command comes to the numbers of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from mmbench import files, runner, worker
from mmbench.config import DataConfig
from mmbench.data import transforms
from mmbench.data.load import load_dataset
from mmbench.errors import DataError, MmbenchError
from mmbench.executors import LocalConfig, LocalExecutor
from mmbench.resolve import Resolved, resolve
from mmbench.results.predictions import NAME
from mmbench.results.runs import read_result
from mmbench.strict_yaml import Document, dump
from mmbench.training import checkpoint

from .full_disk import Disk, command, left_behind, steps_of, work

pytestmark = pytest.mark.reliability
CONFIG: dict[str, Any] = {
    "name": "small",
    "data": {"name": "mosi", "features": "aligned", "simulated": True, "samples": 60, "modalities": ["text", "audio"]},
    "model": {"name": "linear"},
    "training": {"epochs": 2, "batch_size": 16},
    "seeds": [1],
}
MANIFEST = {
    "name": "bird", "title": "Bird", "task": "regression", "label_range": [-3.0, 3.0], "prototypes": 3, "modalities": ["text", "audio"],
    "metrics": ["mae", "corr"],
}  # fmt: skip


def resolved(**changes: Any) -> Resolved:
    from mmbench.plugins import catalogue

    return resolve(Document({**CONFIG, **changes}, {}), catalogue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of what these tests share, with a cache of its own and a data set in a file."""
    folder = tmp_path_factory.mktemp("disk")
    rng = np.random.default_rng(0)
    content = {}
    for split, size in {"train": 12, "valid": 6, "test": 6}.items():
        target = rng.uniform(-3, 3, size)
        content[split] = {"id": [f"{split}{i}$_$0" for i in range(size)], "raw_text": ["a film"] * size, "regression_labels": target}
        content[split] |= {name: rng.normal(size=(size, 5, width)).astype(np.float32) for name, width in {"text": 4, "audio": 3}.items()}
    (folder / "bird.pkl").write_bytes(pickle.dumps(content))
    (folder / "bird.yaml").write_text(dump(MANIFEST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        patch.delenv("MMBENCH_DATA", raising=False)
        yield folder


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """A finished run of one process, undisturbed."""
    plan = runner.make_plan([resolved()], place / "runs", None, "cpu")
    request = next(request for request in runner.prepare(plan, None)[0] if request.folder.parent.name.startswith("linear"))
    assert work(request.folder) == 0
    return request.folder


def again(run: Path, folder: Path) -> Path:
    """The same run elsewhere, planned and not begun."""
    target = folder / run.parent.name / run.name
    target.mkdir(parents=True)
    shutil.copyfile(run / "config.yaml", target / "config.yaml")
    return target


def as_undisturbed(run: Path, other: Path) -> bool:
    """Whether two runs came to the same numbers, and the second one holds what a finished one holds."""
    one, two = read_result(run), read_result(other)
    same = one.metrics == two.metrics and (run / NAME).read_bytes() == (other / NAME).read_bytes()
    return same and one.status == two.status == "done" and {p.name for p in run.iterdir()} == {p.name for p in other.iterdir()}


def spread(total: int, count: int) -> list[int]:
    """So many of the steps, the first and the last among them."""
    return sorted({round(i * (total - 1) / max(1, count - 1)) for i in range(count)}) if count < total else list(range(total))


def test_a_run_whose_disk_is_full_at_any_step_goes_on(run, tmp_path, times, tally, capfd) -> None:
    total = steps_of(tmp_path, lambda: work(again(run, tmp_path / "count")))
    for step in sorted({*spread(total, times(12, total)), *range(total - 4, total)}):  # the last ones write the result
        folder = again(run, tmp_path / str(step))
        with Disk(folder, step).full():
            code = work(folder)
        told = capfd.readouterr()
        result = files.read_json(folder / "result.json")
        well = not left_behind(folder) and "Traceback" not in told.err
        if code:  # the last steps may fail without harm
            why = result.get("reason", told.out + told.err)
            well &= code in (worker.UNWRITTEN, worker.EXIT["interrupted"]) and result.get("status", "interrupted") == "interrupted"
            well &= "No space left" in why and str(folder.parent.name) in why
        well &= work(folder) == 0 and as_undisturbed(run, folder)
        tally("the disk is full at some step of a run", well)


def test_a_checkpoint_finds_no_room_where_a_result_does(run, tmp_path, tally, monkeypatch) -> None:
    """The run is interrupted, not failed, with the reason in its result."""
    folder, path = again(run, tmp_path), tmp_path / "best.pt"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_save", full)
        code = work(folder)
    record = read_result(folder)
    well = (code, record.status) == (worker.EXIT["interrupted"], "interrupted") and "best.pt: the disk is full" in record.reason
    tally("there is no room for a checkpoint", well and work(folder) == 0 and as_undisturbed(run, folder))


def test_an_older_checkpoint_stands_when_a_newer_one_cannot_be_written(tmp_path, times, tally) -> None:
    path, state = tmp_path / "last.pt", {"weights": torch.arange(50.0), "progress": {"epoch": 2}}
    checkpoint._save(path, {"weights": torch.zeros(50)})
    old = path.read_bytes()
    total = steps_of(tmp_path, lambda: checkpoint._save(tmp_path / "other.pt", state))
    for step in spread(total, times(20, total)):
        path.write_bytes(old)
        with Disk(tmp_path, step).full(), pytest.raises(OSError, match="No space left on device") as error:
            checkpoint._save(path, state)
        whole = path.read_bytes() == old or torch.equal(torch.load(path, weights_only=True)["weights"], state["weights"])  # the last: of the folder
        tally("the disk is full at some step of a checkpoint", whole and not left_behind(tmp_path) and error.value.filename == str(path))


def test_chosen_weights_are_written_before_the_epoch_that_chose_them(tmp_path, tally, monkeypatch) -> None:
    """Wherever it ends: ``best.pt`` is of the last epoch in ``last.pt`` that was the best one, or of a later one, to which a second attempt leads."""
    monkeypatch.setattr(checkpoint, "PAUSE", 0)

    def begun(name: str) -> checkpoint.Checkpoints:
        (tmp_path / name).mkdir()
        kept = checkpoint.Checkpoints(tmp_path / name, "f00d", torch.nn.Linear(2, 1))
        kept.epoch_end({"epoch": 1}, improved=True)
        return kept

    whole = begun("whole")
    for step in range(steps_of(tmp_path, lambda: whole.epoch_end({"epoch": 2}, improved=True))):
        kept = begun(str(step))
        with Disk(tmp_path, step).full(), pytest.raises(OSError, match="No space left on device"):
            kept.epoch_end({"epoch": 2}, improved=True)
        last, best = (torch.load(path, weights_only=True)["progress"]["epoch"] for path in (kept.last, kept.best))
        tally("the disk is full between the two checkpoints of an epoch", last <= best)


def test_an_import_or_a_cache_finds_the_disk_full(place, tmp_path, times, tally, monkeypatch, capfd) -> None:
    bird = ("--as", place / "bird.yaml", "--set", "data.splits=own")

    def check(where: Path) -> int:
        monkeypatch.setenv("MMBENCH_CACHE", str(where / "cache"))
        return command("data", "check", place / "bird.pkl", *bird)

    def bring(where: Path) -> int:
        monkeypatch.setenv("MMBENCH_CACHE", str(place / "cache"))
        return command("data", "import", place / "bird.pkl", *bird, "--data-root", where)

    for name, act in {"a cache": check, "an import": bring}.items():
        assert act(tmp_path / name) == 0
        whole = capfd.readouterr().out.replace(str(tmp_path / name), "")
        total = steps_of(tmp_path, partial(act, tmp_path / f"{name} counted"))
        capfd.readouterr()
        for step in spread(total, times(7, total)):
            where = tmp_path / f"{name} {step}"
            with Disk(where, step).full():
                code = act(where)
            told = capfd.readouterr()
            lines = told.err.strip().splitlines()
            well = "Traceback" not in told.err and not left_behind(where)
            if code:
                well &= code == DataError.exit_code and str(where) in lines[-1] and "No space left" in lines[-1] and "another folder" in lines[-1]
            well &= act(where) == 0
            text = capfd.readouterr().out.replace(str(where), "")
            held = [line for line in text.splitlines() if "holds bird" not in line and "imported bird" not in line]
            well &= held == [line for line in whole.splitlines() if "imported bird" not in line]
            tally(f"the disk is full at some step of {name}", well)


def test_standardised_values_need_no_disk(place, tmp_path, times, tally, monkeypatch) -> None:
    monkeypatch.setattr(transforms, "IN_MEMORY", 0)
    config = DataConfig(name="mosi", simulated=True, samples=60, features="aligned", standardize={"modalities": ["audio"]})
    load_dataset(DataConfig(name="mosi", simulated=True, samples=60, features="aligned"))
    held = {key: np.array(split.inputs["audio"].values) for key, split in load_dataset(config).splits.items()}
    data = place / "cache" / "data"
    before = set(data.iterdir())
    made = [path for path in before if path.is_dir() and (path / "store.json").is_file() and "splits" not in files.read_json(path / "store.json")]
    for path in made:
        shutil.rmtree(path)
    total = steps_of(data, lambda: load_dataset(config))
    for step in spread(total, times(5, total)):
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        with Disk(data, step).full():
            found = load_dataset(config)
        same = all(np.array_equal(held[key], split.inputs["audio"].values) for key, split in found.splits.items())
        tally("the disk is full at some step of standardised values", same and not left_behind(data))


def writes(run: Path) -> dict[str, Callable[[Path], int]]:
    """Commands that write a page, a table or a figure of a run to a place."""
    return {
        "a table": lambda out: command("report", run, "--draws", 100, "--format", "csv", "--out", out),
        "a page": lambda out: command("report", run, "--draws", 100, "--html", out),
        "a figure": lambda out: command("figure", "curves", run, "--out", out.with_suffix(".svg")),
    }


def test_a_report_finds_the_disk_full(run, tmp_path, times, tally, capfd) -> None:
    for name, act in writes(run).items():
        if name != "a table":
            pytest.importorskip("matplotlib")
        out = tmp_path / name / "out.svg"
        total = steps_of(tmp_path, partial(act, out))
        for step in spread(total, times(2, total)):
            out.write_text("older")
            capfd.readouterr()
            with Disk(tmp_path, step).full():
                code = act(out)
            told = capfd.readouterr()
            stands = out.read_text() == "older" or len(out.read_text()) > 100
            one = told.err.startswith("error: ") and told.err.count("\n") == 1 and str(out.with_suffix("")) in told.err and "No space" in told.err
            well = stands and one and code in (1, 2) and not left_behind(tmp_path)
            tally(f"the disk is full at some step of {name}", well and act(out) == 0 and len(out.read_text()) > 100)


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own at `place`."""
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", *options, "none", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_real_disk_that_is_full(run, tmp_path, times, tally, capfd) -> None:
    with mounted(tmp_path / "small", "-o", "size=2m") as disk:
        for number, free in enumerate(spread(100, times(5, 50))):
            folder = again(run, disk / str(number))
            with open(disk / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            os.truncate(disk / "ballast", max(0, (disk / "ballast").stat().st_size - 4096 * free))
            code = work(folder)
            told = capfd.readouterr()
            well = code in (0, worker.UNWRITTEN, worker.EXIT["interrupted"]) and "Traceback" not in told.err and not left_behind(folder)
            (disk / "ballast").unlink()
            well &= work(folder) == 0 and as_undisturbed(run, folder)
            shutil.rmtree(disk / str(number))
            tally("a small disk is full", well)


def test_read_only_folders(run, place, tmp_path, tally, monkeypatch, capfd) -> None:
    """As root, who may write anywhere but on a disk that is mounted read-only."""
    config = tmp_path / "small.yaml"
    config.write_text(dump(CONFIG))
    bird = ("--as", place / "bird.yaml", "--set", "data.splits=own")
    with mounted(tmp_path / "disk") as disk:
        shutil.copy(place / "bird.pkl", disk)
        done = again(run, disk / "runs")
        assert work(done) == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        out = tmp_path / "mine"
        cases: dict[str, tuple[tuple[object, ...], str, tuple[int, ...], str]] = {
            "--out": (("run", config, "--out", disk / "out"), str(place / "cache"), (2,), "--out"),
            "the cache": (("data", "check", place / "bird.pkl", *bird), str(disk / "cache"), (3,), "MMBENCH_CACHE"),
            "the data root of an import": (
                ("data", "import", place / "bird.pkl", *bird, "--data-root", disk),
                str(place / "cache"),
                (3,),
                "--data-root",
            ),
            "a table": (("report", run, "--draws", 100, "--out", disk / "table"), str(place / "cache"), (2,), "--out"),
            "a figure": (("figure", "curves", run, "--out", disk / "curves"), str(place / "cache"), (2,), "--out"),
        }
        for name, (arguments, cache, codes, advice) in cases.items():
            monkeypatch.setenv("MMBENCH_CACHE", cache)
            capfd.readouterr()
            code = command(*arguments)
            told = capfd.readouterr().err.splitlines()[-1]
            well = code in codes and told.startswith("error: ") and advice in told and "ead-only" in told and str(disk) in told
            tally(f"read-only: {name}", well)
        monkeypatch.setenv("MMBENCH_CACHE", str(place / "cache"))
        tally("read-only: the data", command("data", "check", disk / "bird.pkl", *bird) == 0)
        tally("read-only: the runs that are reported", command("report", disk / "runs", "--draws", 100, "--format", "csv", "--out", out) == 0)
        capfd.readouterr()


def test_a_clock_that_goes_back(run, tmp_path, times, tally, monkeypatch) -> None:
    """Within a run, and between two attempts of one."""
    real = time.time
    for number in range(times(2, 20)):
        folder = again(run, tmp_path / str(number))
        asked = iter(range(10**9))
        monkeypatch.setattr(time, "time", lambda asked=asked: real() - 3600.0 * next(asked))
        with Disk(folder, 60 + number).full():
            work(folder)
        monkeypatch.setattr(time, "time", lambda asked=asked: real() - 1e7 - 3600.0 * next(asked))
        code = work(folder)
        monkeypatch.setattr(time, "time", real)
        record = read_result(folder)
        tally(
            "the clock goes back",
            code == 0 and as_undisturbed(run, folder) and record.seconds >= 0 and files.read_json(folder / "result.json")["seconds_total"] >= 0,
        )


def test_a_run_that_was_late_goes_on(run, place, tmp_path, tally) -> None:
    """Its process is stopped by the executor, is failed, and comes to the same numbers with --rerun failed."""
    plan = runner.make_plan([resolved()], tmp_path, None, "cpu")
    request = next(request for request in runner.prepare(plan, None)[0] if request.folder.parent.name == run.parent.name)
    (outcome,) = LocalExecutor(LocalConfig(jobs=1, timeout=0.5)).submit([request])
    failed = read_result(request.folder)
    well = outcome.status == failed.status == "failed" and "stopped after 0.5 s" in failed.reason and "--rerun failed" in failed.reason
    untouched, _, count = runner.prepare(plan, None)
    well &= count == 1 and request not in untouched and request in runner.prepare(plan, "failed")[0]
    well &= work(request.folder) == 0
    (request.folder / "log.txt").unlink()
    tally("a run takes longer than --timeout", well and as_undisturbed(run, request.folder))


def test_an_error_that_is_no_full_disk_stays_itself(tmp_path) -> None:
    def broken(file: Any) -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        files.write(tmp_path / "x", broken)
    assert files.no_room(MmbenchError("a mistake")) is None
