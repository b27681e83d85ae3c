"""Processes killed anywhere.

A small run, an import or an extraction is killed at a random moment of its life, or right before each step that it takes on disk. Then each file is
absent, complete or the older complete version, and the same command ends with the bytes of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pickle
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from mmbench.plugins import Entry, catalogue
from mmbench.resolve import Resolved, load, resolve
from mmbench.runner import run_status
from mmbench.strict_yaml import Document, dump

from .kill_tools import HARMLESS, SIGNALS, TINY, Forks, Planned, Undisturbed, damage, differences

pytestmark = pytest.mark.reliability
ROOT = Path(__file__).parents[2]
DATA: dict[str, Any] = {"name": "mosi", "features": "aligned", "simulated": True, "samples": 40}
TRAINING: dict[str, Any] = {"epochs": 4, "batch_size": 8, "optimizer": {"lr": 0.01}}
NAMED = {  # configs as shipped, but for their size; the second has a loss that keeps a memory of labels
    "decalign_mosi": ["model.width=8", "model.heads=2", "model.layers=1"],
    "self_mm_mosi": ["training.accumulation=2"],
}
SIZE = ["seeds=[1]", "training.epochs=4", "training.batch_size=8", *(f"data.{key}={json.dumps(value)}" for key, value in DATA.items())]
TRAINED = [entry for kind in ("model", "loss") for entry in catalogue().of_kind(kind)]
LIFE = 4.0  # seconds from a start of the command, or of a worker, within which it is killed
Whole = Callable[[Resolved], Undisturbed]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of what these tests share, with a cache of its own."""
    folder = tmp_path_factory.mktemp("kill")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        patch.delenv("MMBENCH_DATA", raising=False)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(scope="module")
def forks(place: Path) -> Iterator[Forks]:
    server = Forks(dict(os.environ), place)
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(place: Path, forks: Forks) -> Whole:
    """Carries out what is resolved without disturbance, and once more with each epoch written: the same."""
    known: dict[str, Undisturbed] = {}

    def run(resolved: Resolved) -> Undisturbed:
        text = dump(resolved.to_dict())
        if text not in known:
            out = place / f"whole{len(known)}"
            folder, often = Planned(resolved, out).folder, Planned(resolved, out / "often").folder
            answer = forks(folder, "--device", "cpu", log=out / "log")
            assert answer["code"] == 0, (out / "log").read_text()
            known[text] = Undisturbed(resolved, folder, answer["seconds"])
            assert forks(often, "--device", "cpu", log=out / "log", pause=0)["code"] == 0
            assert differences(often, known[text]) == []
        return known[text]

    return run


def tiny(model: Entry, *losses: Entry) -> Resolved:
    """A model with losses, each in a small form."""
    sections = [{"name": entry.key, **{k: v for k, v in TINY.items() if k in entry.load_config().model_fields}} for entry in (model, *losses)]
    value = {"name": "tiny", "data": DATA, "model": sections[0], "losses": sections[1:], "training": TRAINING, "seeds": [1]}
    return resolve(Document(value, {}), catalogue())


def named(config: str) -> Resolved:
    """A shipped config made small. Skips where its plugin is not installed."""
    pytest.importorskip(f"mmbench_{'decalign' if 'decalign' in config else 'baselines'}")
    (resolved,) = load(config, (*SIZE, *NAMED[config]))
    return resolved


def count(tally: Any, fault: str, lost: Collection[str]) -> None:
    """Count a try, and say what was lost."""
    print(*lost, sep="\n")
    tally(fault, not lost)


def killed(forks: Forks, undisturbed: Undisturbed, folder: Path, number: str, rng: random.Random) -> list[str]:
    """A run killed at a random moment, as often as not once more while it goes on, then finished: what is lost."""
    pause = rng.choice([0, None])
    # One in five makes the simulated data within the run.
    environment = {"MMBENCH_CACHE": str(folder / "cache")} if rng.random() < 0.2 else {}
    log = folder / "log"
    for attempt in itertools.count():
        run = Planned(undisturbed.resolved, folder / str(attempt))
        rest: list[dict[str, Any]] = [{"signal": number, "after": rng.uniform(0, undisturbed.seconds)}]
        rest += [{"signal": number, "after": rng.uniform(0, undisturbed.seconds)}] * (rng.random() < 0.5)
        for order in [*rest, {}]:
            if not run.remains():
                return differences(run.folder, undisturbed)
            answer = forks(run.folder, "--device", "cpu", log=log, pause=pause, environment=environment, **order)
            if answer["code"] not in ((0, 130, -getattr(signal, number)) if order else (0,)):
                return [f"exit code {answer['code']}: {log.read_text()[-2000:]}"]
            if found := damage(run.folder, undisturbed):
                return found
            if order is rest[0] and answer["late"]:
                break  # not killed at all: with another moment
        else:
            return differences(run.folder, undisturbed)
    raise AssertionError


@pytest.mark.parametrize("config", NAMED)
def test_a_run_is_killed_at_any_moment(config: str, whole: Whole, forks: Forks, tmp_path: Path, times: Any, tally: Any) -> None:
    undisturbed = whole(named(config))
    for attempt in range(times(2, 100)):  # all signals, with the two configs
        number = SIGNALS[(attempt + len(config)) % len(SIGNALS)]
        lost = killed(forks, undisturbed, tmp_path / str(attempt), number, random.Random(f"{config} {attempt}"))
        count(tally, f"{number} at a random moment of a run, {config.removesuffix('_mosi')}", lost)


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: f"{entry.component.kind}-{entry.component.name}")
def test_a_run_of_any_component_is_killed(entry: Entry, whole: Whole, forks: Forks, tmp_path: Path, times: Any, tally: Any) -> None:
    """A loss is with the first model that it fits."""
    tries = times(int(entry.component.name == "linear"), 5)
    if not tries:
        pytest.skip("in the long form: MMBENCH_RELIABILITY=long")
    models = catalogue().of_kind("model")
    choices = (tiny(model, entry) for model in models) if entry.component.kind == "loss" else iter([tiny(entry)])
    undisturbed = whole(next(resolved for resolved in choices if not resolved.fit.refusals and not resolved.missing))
    for attempt in range(tries):
        number = SIGNALS[attempt % len(SIGNALS)]
        lost = killed(forks, undisturbed, tmp_path / str(attempt), number, random.Random(f"{entry.key} {attempt}"))
        count(tally, f"a signal at a random moment of a run, any {entry.component.kind}", lost)


@pytest.mark.parametrize("config", ["linear", *NAMED])
def test_a_run_is_killed_before_each_step_on_disk(config: str, whole: Whole, forks: Forks, tmp_path: Path, times: Any, tally: Any) -> None:
    """Each epoch is written. A step: a file is opened to be written, fsynced, renamed or removed."""
    stride = times(17 if config == "linear" else 0, 1)
    if not stride:
        pytest.skip("in the long form: MMBENCH_RELIABILITY=long")
    undisturbed = whole(tiny(catalogue().find("model", "linear")) if config == "linear" else named(config))
    for step in itertools.count(1, stride):
        run, log = Planned(undisturbed.resolved, tmp_path / str(step)), tmp_path / str(step) / "log"
        code = forks(run.folder, "--device", "cpu", log=log, pause=0, signal="SIGKILL", step=step, folder=run.folder)["code"]
        if code == 0:
            break
        lost = damage(run.folder, undisturbed)
        if run.remains():
            code = forks(run.folder, "--device", "cpu", log=log)["code"]
            lost += [f"exit code {code}: {log.read_text()}"] * (code != 0)
        count(tally, "SIGKILL before each step on disk of a run", lost or differences(run.folder, undisturbed))
    assert step > 30, "the steps were not seen"


# The driver and its workers


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers(folder: Path) -> list[int]:
    """The processes that execute a run below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "mmbench.worker" in words and any(word.startswith(str(folder)) for word in words) and alive(int(path.parent.name)):
            found.append(int(path.parent.name))
    return found


def wait_until(reached: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("who", ["driver", "worker", "both"])
def test_mmbench_run_is_killed(who: str, whole: Whole, place: Path, tmp_path: Path, times: Any, tally: Any) -> None:
    """Of a worker alone that is killed, the run has failed and is begun anew on request."""
    tries = times(int(who == "driver"), 6)
    if not tries:
        pytest.skip("in the long form: MMBENCH_RELIABILITY=long")
    (tmp_path / "tiny.yaml").write_text(dump({"data": DATA, "model": {"name": "linear"}, "training": TRAINING, "seeds": [1]}))
    (resolved,) = load(str(tmp_path / "tiny.yaml"))
    undisturbed = whole(resolved)
    for attempt in range(tries):
        number, out = SIGNALS[attempt % len(SIGNALS)], tmp_path / str(attempt)
        lost = killed_command(out, who, number, random.Random(f"{who} {attempt}"), undisturbed)
        count(tally, f"{number} at a random moment of mmbench run: {who}", lost)


def killed_command(out: Path, who: str, number: str, rng: random.Random, undisturbed: Undisturbed) -> list[str]:
    """``mmbench run`` and its workers: one is killed, or both; then the command again. What is lost."""
    folder = out / "tiny" / undisturbed.folder.parent.name / "seed-1"
    command = [sys.executable, "-m", "mmbench", "run", "tiny.yaml", "--out", str(out), "--device", "cpu", "--jobs", "1"]
    options: dict[str, Any] = {"cwd": out.parent, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    driver = subprocess.Popen(command, **options)
    if who != "driver":
        wait_until(lambda: workers(out) or driver.poll() is not None)
    time.sleep(rng.uniform(0, LIFE))
    for pid in [*([driver.pid] if who != "worker" else []), *(workers(out) if who != "driver" else [])]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, number))
    said = driver.communicate(timeout=300)[0]
    wait_until(lambda: not workers(out))
    good = driver.returncode in (0, 1, 130, -getattr(signal, number)) and "Traceback" not in said
    good &= not (driver.returncode == 0 and "  interrupted" in said)
    lost = [] if good else [f"exit code {driver.returncode}: {said}"]
    if folder.is_dir() and run_status(folder) != "failed":
        lost += damage(folder, undisturbed)
    again = subprocess.run([*command, "--rerun", "failed"], **options, check=False)
    lost += [] if again.returncode == 0 and "Traceback" not in again.stdout else [f"exit code {again.returncode}: {again.stdout}"]
    return lost or differences(folder, undisturbed)


def test_a_worker_whose_driver_died_while_it_started_touches_nothing(whole: Whole, tmp_path: Path, tally: Any) -> None:
    undisturbed = whole(tiny(catalogue().find("model", "linear")))
    folder = Planned(undisturbed.resolved, tmp_path).folder
    code = f"""
import os, signal
from pathlib import Path
from mmbench.component import RunRequest
from mmbench.executors import local
popen = local.subprocess.Popen
def dies(*arguments, **options):
    print(popen(*arguments, **options).pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
local.subprocess.Popen = dies
list(local.LocalExecutor(local.LocalConfig(jobs=1)).submit([RunRequest(Path({str(folder)!r}), "x", "cpu", 1)]))
"""
    driver = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert driver.returncode == -signal.SIGKILL
    wait_until(lambda: not alive(int(driver.stdout)))
    count(tally, "driver killed while its worker starts", {path.name for path in folder.iterdir()} - HARMLESS - {"config.yaml"})


def test_a_worker_that_nobody_hears_is_interrupted_not_failed(whole: Whole, forks: Forks, tmp_path: Path, tally: Any) -> None:
    """The driver is killed while its worker validates: the pipe breaks before the worker looks for its parent."""
    undisturbed = whole(tiny(catalogue().find("model", "linear")))
    folder = Planned(undisturbed.resolved, tmp_path).folder
    code = forks(folder, "--device", "cpu", log=None, pause=0)["code"]
    lost = [*damage(folder, undisturbed), *([] if (code, run_status(folder)) == (130, "interrupted") else [f"{code}, {run_status(folder)}"])]
    forks(folder, "--device", "cpu", log=tmp_path / "log")
    count(tally, "driver killed while its worker tells of an epoch", lost or differences(folder, undisturbed))


def test_a_run_is_never_half_removed_and_done(whole: Whole, forks: Forks, tmp_path: Path, tally: Any) -> None:
    """``--rerun all`` is killed before each of its first steps in the run's folder."""
    (tmp_path / "tiny.yaml").write_text(dump({"data": DATA, "model": {"name": "linear"}, "training": TRAINING, "seeds": [1]}))
    (resolved,) = load(str(tmp_path / "tiny.yaml"))
    undisturbed = whole(resolved)
    for step in itertools.count(1):
        folder = tmp_path / str(step) / "tiny" / undisturbed.folder.parent.name / "seed-1"
        shutil.copytree(undisturbed.folder, folder)
        arguments = ["mmbench", "run", tmp_path / "tiny.yaml", "--out", tmp_path / str(step), "--rerun", "all", "--jobs", "1"]
        code = forks(*arguments, log=tmp_path / "log", signal="SIGKILL", step=step, folder=folder)["code"]
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()
        if {path.name for path in folder.iterdir() if not path.name.startswith(".")} - HARMLESS == {"config.yaml"}:
            break
        count(tally, "SIGKILL before each step of --rerun all", damage(folder, undisturbed))
    assert step >= len(list(undisturbed.folder.iterdir())) - 1, "the steps were not seen"


# Data


@pytest.fixture(scope="module")
def source(place: Path) -> list[object]:
    """What `mmbench data import` is told of a small file in the users' format."""
    samples = runpy.run_path(str(ROOT / "tests" / "data" / "samples.py"))
    content = samples["make_content"]()
    (place / "source.pkl").write_bytes(pickle.dumps(content, 4))
    (place / "tiny.yaml").write_text(dump(samples["make_manifest"](content)))
    return ["mmbench", "data", "import", place / "source.pkl", "--as", place / "tiny.yaml"]


def imported(root: Path) -> dict[str, bytes]:
    """The files of an imported data set."""
    return {path.name: path.read_bytes() for path in root.glob("tiny/unaligned/*")}


def test_an_import_is_killed(source: list[object], forks: Forks, tmp_path: Path, times: Any, tally: Any) -> None:
    def call(place: Path, **order: Any) -> dict[str, Any]:
        environment = {"MMBENCH_CACHE": str(place / "cache")}
        return forks(*source, "--data-root", place / "root", log=tmp_path / "log", environment=environment, **order)

    answer = call(tmp_path / "whole")
    expected = imported(tmp_path / "whole" / "root")
    assert (answer["code"], sorted(expected)) == (0, ["arrays.safetensors", "store.json"])
    for step in itertools.count(1, times(15, 1)):
        folder = tmp_path / str(step)
        if call(folder, signal="SIGKILL", step=step, folder=folder)["code"] == 0:
            break
        tally("SIGKILL before each step on disk of an import", whole_import(call, folder, expected))
    assert step > 20, "the steps were not seen"
    for attempt in range(times(0, 100)):
        number, folder = SIGNALS[attempt % len(SIGNALS)], tmp_path / f"moment{attempt}"
        call(folder, signal=number, after=random.Random(f"import {attempt}").uniform(0, answer["seconds"]))
        tally(f"{number} at a random moment of an import", whole_import(call, folder, expected))


def whole_import(call: Callable[..., dict[str, Any]], folder: Path, expected: dict[str, bytes]) -> bool:
    """Whether, after a kill, the data set is absent or whole, and the same command makes it and leaves no more behind than it must."""
    found = imported(folder / "root")
    left = list((folder / "root").glob("*/.mmbench-building-*"))
    for path in left:
        os.utime(path, (0, 0))  # swept once a day is over
    done = call(folder)["code"] == 0 and imported(folder / "root") == expected
    return found in ({}, expected) and done and not (left and list((folder / "root").glob("*/.mmbench-building-*")))


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The command line and environment of ``mmbench extract`` with toy extractors, for one of several tries."""
    samples = runpy.run_path(str(ROOT / "tests" / "extraction" / "samples.py"))
    rows = samples["make_rows"]()
    samples["write_manifest"](tmp_path / "tiny.yaml", rows)
    samples["write_raw"](tmp_path / "raw", rows)
    info = tmp_path / "site" / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmbench]\ntoys = extract_toys\n")
    (tmp_path / "config.yaml").write_text("data: {name: tiny.yaml, path: raw}\naudio: {name: toy-sound}\ntext: {name: toys/toy-text}\n")
    path = os.pathsep.join(filter(None, [str(ROOT / "tests" / "toys"), str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}

    def make(name: str) -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": path, "MMBENCH_CACHE": str(tmp_path / name / "cache"), "MMBENCH_PLUGINS": "toys"}
        line = [sys.executable, "-m", "mmbench", "extract", "config.yaml", "--out", name, "--jobs", "1"]
        return {"args": line, "cwd": tmp_path, "env": environment, **streams}

    return make


def test_an_extraction_is_killed(extract: Callable[..., dict[str, Any]], tmp_path: Path, times: Any, tally: Any) -> None:
    """By turns the command alone, and all its processes, as a terminal interrupts them."""
    tries = times(0, 20)
    if not tries:
        pytest.skip("in the long form: MMBENCH_RELIABILITY=long")
    started = time.monotonic()
    done = subprocess.run(**extract("whole"), check=False)
    seconds, expected = time.monotonic() - started, extracted(tmp_path / "whole")
    assert (done.returncode, len(expected)) == (0, 2), done.stdout
    for attempt in range(tries):
        number, rng, name = SIGNALS[attempt % len(SIGNALS)], random.Random(f"extract {attempt}"), f"try{attempt}"
        process = subprocess.Popen(**extract(name))
        time.sleep(rng.uniform(0, seconds))
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if attempt % 2 else os.kill)(process.pid, getattr(signal, number))
        said, found = process.communicate(timeout=300)[0], extracted(tmp_path / name)
        again = subprocess.run(**extract(name), check=False)
        whole = found in ({}, expected) and again.returncode == 0 and extracted(tmp_path / name) == expected
        tally(f"{number} at a random moment of an extraction", whole and "Traceback" not in said + again.stdout)


def extracted(out: Path) -> dict[str, bytes]:
    """The files of an extracted data set."""
    return {path.name: path.read_bytes() for path in out.glob("tiny/unaligned/*")}
