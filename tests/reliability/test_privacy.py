"""Privacy: what runs and reports write down of a machine and its user.

A user with a home folder, a name and secrets that are found again wherever they stand: trains, fails, imports, reports, draws and diagnoses. No
byte of what others may be shown holds any of them, and the runs go on from another home.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import signal
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench import runner
from mmbench.cli import cli
from mmbench.data.ids import canonical_id
from mmbench.privacy import SharedStream
from mmbench.resolve import load
from mmbench.results.runs import find_runs, read_run
from mmbench.strict_yaml import dump

pytestmark = pytest.mark.reliability

MARK = "canary"
SECRETS = {"HF_TOKEN": "hf-canary-1234", "WANDB_API_KEY": "canary-key-99", "DATABASE_PASSWORD": "canary-pass"}
NAMES = {"USER": "canaryuser", "LOGNAME": "canaryuser", "HOSTNAME": "canaryhost", "MY_OWN_VARIABLE": "canary-value"}
WORKING = ("digests",)
"""Notes in the cache that go by the places of files; the cache is the user's own."""
CONFIG = {"model": {"name": "linear"}, "training": {"epochs": 2, "batch_size": 8}, "seeds": [1, 2], "name": "bird"}
MANIFEST = {
    "name": "bird", "title": "Bird", "task": "regression", "label_range": [-3.0, 3.0], "prototypes": 3, "modalities": ["text", "audio"],
    "metrics": ["mae", "corr"],
}  # fmt: skip


def content() -> dict:
    """A file as users have it."""
    whole = {}
    for number, (split, size) in enumerate({"train": 24, "valid": 9, "test": 12}.items()):
        rng = np.random.default_rng(number)
        target = rng.uniform(-3, 3, size)
        part = {"id": [f"{split}{i // 3}$_${i % 3}" for i in range(size)], "raw_text": ["a film"] * size, "regression_labels": target}
        for name, width in {"text": 4, "audio": 3}.items():
            part[name] = (rng.normal(size=(size, 5, width)) + target[:, None, None]).astype(np.float32)
        whole[split] = part
    assert canonical_id(whole["test"]["id"][0]) == "test0/0"
    return whole


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    """The home folder of that user, with data, and a folder elsewhere that is named after the user."""
    base = tmp_path_factory.mktemp("someone")
    folder = base / "canary-home"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SECRETS, **NAMES, "HOME": str(folder)}.items():
            patch.setenv(name, value)
        for name in ("MMBENCH_CACHE", "XDG_CACHE_HOME", "MMBENCH_DATA"):
            patch.delenv(name, raising=False)
        patch.setenv("MMBENCH_TRACKERS", "")  # which --track changes, so that it is put back
        patch.setenv("MPLCONFIGDIR", str(base / "fonts"))
        for place in (folder / "own", base / "scratch" / "canaryuser"):
            place.mkdir(parents=True)
            (place / "bird.yaml").write_text(dump(MANIFEST))
            (place / "bird.pkl").write_bytes(pickle.dumps(content()))
        config = {**CONFIG, "data": {"name": str(folder / "own" / "bird.yaml"), "path": str(folder / "own" / "bird.pkl"), "splits": "own"}}
        (folder / "bird.yaml").write_text(dump(config))
        patch.chdir(folder)
        yield folder


def mmbench(*arguments: object, code: int = 0) -> str:
    """The command, in this process."""
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done.output


def found(path: Path) -> list[str]:
    """Where the mark stands in a file: in its name, its bytes, or what is packed in it."""
    places = [str(path.name)] * (MARK in path.name)

    def look(name: str, raw: bytes) -> None:
        for encoding in ("utf-8", "utf-16-le", "utf-32-le"):
            position = raw.find(MARK.encode(encoding))
            if position >= 0:
                places.append(f"{name}: ...{raw[max(0, position - 60) : position + 40]!r}")
        if zipfile.is_zipfile(io.BytesIO(raw)):  # npz, and checkpoints
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                for inner in archive.namelist():
                    look(f"{name}:{inner}", archive.read(inner))
        elif raw[:2] == b"\x1f\x8b":
            look(f"{name}:gzip", gzip.decompress(raw))
        elif raw[:4] == b"\x89PNG":
            for start in range(8, len(raw)):
                if raw[start : start + 4] in (b"zTXt", b"iTXt"):
                    tail = raw[start:].split(b"\0", 2)[-1]
                    look(f"{name}:text", zlib.decompressobj().decompress(tail) if raw[start : start + 4] == b"zTXt" else tail)

    look(path.name, path.read_bytes())
    return places


@contextmanager
def handlers() -> Iterator[None]:
    """What a worker in this process does with signals ends with it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def clean(tally, what: str, folder: Path, least: int = 1) -> None:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not set(WORKING) & set(path.parts)]
    assert len(paths) >= least, paths
    places = {path: found(path) for path in paths}
    print("\n".join(place for each in places.values() for place in each))
    for each in places.values():
        tally(f"a name, a path or a secret in {what}", not each)


@pytest.fixture(scope="module")
def runs(home) -> Path:
    """Two runs that are done and two that failed, made by the command in processes of their own; with TensorBoard where it is installed."""
    pytest.importorskip("torch")
    plan = runner.make_plan(load(home / "bird.yaml"), home / "runs", None, "cpu")
    broken = {folder.parent.name.partition("-")[0] + folder.name: folder for _, _, folder in plan.runs()}
    (broken["linearseed-2"] / "epochs.jsonl").mkdir(parents=True)  # a fault of the system, with a traceback
    broken["constantseed-1"].mkdir(parents=True)
    (broken["constantseed-1"] / "last.pt").write_bytes(b"no checkpoint")  # a mistake, which names a path
    tracker = ["--track", "tensorboard"] if find_spec("mmbench_trackers") and find_spec("tensorboard") else []
    mmbench("run", "bird.yaml", "--out", home / "runs", "--device", "cpu", *tracker, code=1)
    return home / "runs"


def test_the_mark_is_found_wherever_it_stands(tmp_path) -> None:
    """Else all below proves nothing."""
    np.savez_compressed(tmp_path / "a.npz", about=np.array("x canary x"))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"x canary x"))
    (tmp_path / "c.txt").write_text("x canary x")
    (tmp_path / "canary.txt").write_text("")
    assert all(len(found(path)) == 1 for path in tmp_path.iterdir())


def test_run_folders(home, runs, tally) -> None:
    records = {(record.model, record.seed): record for record in find_runs(runs)}
    expected = {("linear", 1): "done", ("constant", 2): "done", ("linear", 2): "failed", ("constant", 1): "failed"}
    assert {key: record.status for key, record in records.items()} == expected
    assert "$HOME/runs/bird/constant-" in records["constant", 1].reason
    failed = records["linear", 2].folder
    assert "Traceback" in (failed / "log.txt").read_text()
    assert 'File "$HOME' in (failed / "log.txt").read_text() or str(home) not in os.path.dirname(sys.executable)
    config = (failed / "config.yaml").read_text()
    assert "path: $HOME/own/bird.pkl" in config
    assert "name: $HOME/own/bird.yaml" in config
    assert json.loads((records["linear", 1].folder / "result.json").read_text())["data"]["source"] == "$HOME/own/bird.pkl"
    assert set(records["linear", 1].environment) >= {"python", "platform", "packages", "device_name", "threads"}
    assert "host" not in records["linear", 1].environment
    clean(tally, "a run folder", runs, least=18)
    if find_spec("mmbench_trackers") and find_spec("tensorboard"):
        assert list(runs.rglob("events.out.tfevents.*"))


def test_what_is_made_of_runs(home, runs, tally) -> None:
    out = home / "made"
    out.mkdir(exist_ok=True)
    mmbench("report", runs, "--html", out / "page.html", "--draws", "100")
    for form in ("json", "csv", "latex", "html", "plain"):
        mmbench("report", runs, "--format", form, "--out", out / f"table.{form}", "--draws", "100")
    mmbench("figure", "curves", runs, "--out", out / "curves")
    (best,) = runs.glob("bird/linear-*/seed-1")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in best.iterdir()}
    mmbench("embed", best, "--device", "cpu")
    mmbench("diagnose", best, "--device", "cpu", "--draws", "1")
    tally("a diagnostic changes a finished run", before == {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in best.iterdir()})
    assert list(runs.rglob("*.npz"))
    assert list(runs.rglob("diagnostics/*.json"))
    page = (out / "page.html").read_text()
    assert "$HOME/own/bird.pkl" in page
    clean(tally, "a page, a table or a figure", out, least=8)
    clean(tally, "an embedding or a diagnosis", next(runs.glob("bird/linear-*")), least=8)


def test_stores(home, tally) -> None:
    source = home.parent / "scratch" / "canaryuser"
    arguments = ("--as", source / "bird.yaml", "--data-root", home / "data", "--set", "data.splits=own")
    mmbench("data", "import", source / "bird.pkl", *arguments)
    (document,) = (home / "data").rglob("store.json")
    assert json.loads(document.read_text())["origin"]["path"].endswith("/scratch/$USER/bird.pkl")
    clean(tally, "a data store", home / "data", least=2)
    clean(tally, "a store in the cache", home / ".cache" / "mmbench", least=2)


def test_runs_go_on_from_another_home_and_from_configs_with_whole_paths(home, runs, tmp_path, monkeypatch, tally) -> None:
    """Finished ones are known and open; so are those of earlier versions, whose ``config.yaml`` has the path as it was."""
    from mmbench.diagnostics.opening import open_run
    from mmbench.worker import main as work

    moved = tmp_path / "elsewhere"
    shutil.copytree(home, moved)
    shutil.move(home / "own", home / "away")
    monkeypatch.setenv("HOME", str(moved))
    monkeypatch.setenv("USER", "another")
    try:
        (folder,) = moved.glob("runs/bird/linear-*/seed-1")
        tally("a run does not open from another home", open_run(folder).difference < 1e-6)
    finally:
        shutil.move(home / "away", home / "own")
    monkeypatch.setenv("HOME", str(home))
    (folder,) = home.glob("runs/bird/linear-*/seed-1")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("$HOME", str(home)))
    try:
        tally("a run of an earlier version does not open", open_run(folder, record=replace(read_run(folder), files={})).difference < 1e-6)
    finally:
        (folder / "config.yaml").write_text(text)
    requests, done, failed = runner.prepare(runner.make_plan(load(home / "bird.yaml"), runs, None, "cpu"), None)
    tally("a run is not known again", (len(requests), done, failed) == (0, 2, 2))
    interrupted = home / "again" / folder.relative_to(runs)
    interrupted.mkdir(parents=True)
    shutil.copy(folder / "config.yaml", interrupted)
    with handlers():
        assert work([str(interrupted), "--device", "cpu"]) == 0
    same = (interrupted / "predictions.csv.gz").read_bytes() == (folder / "predictions.csv.gz").read_bytes()
    tally("a run with $HOME in its config is another", same)


def test_the_log_of_a_run_passes_through_a_stream_that_hides(home, tally) -> None:
    below = io.StringIO()
    stream = SharedStream(below)
    print(f"{home}/x: https://me:canary@host/y, {SECRETS['HF_TOKEN']}", file=stream, flush=True)
    tally("a name, a path or a secret in a log", below.getvalue() == "$HOME/x: https://***@host/y, ***\n")
    stream.writelines([f"{home}/y\n", "z\n"])
    tally("a name, a path or a secret in a log", below.getvalue().endswith("\n$HOME/y\nz\n"))
    assert not stream.isatty()
