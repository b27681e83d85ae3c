"""Trackers: what they hear, that nothing depends on them, and that one that fails harms no run."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmbench import tracking
from mmbench.component import Component, TrackedRun
from mmbench.errors import PluginError
from mmbench.plugins import Catalogue, Entry, Plugin
from mmbench.resolve import load
from mmbench.runner import make_plan, prepare

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
HISTORY = [
    {
        "epoch": epoch,
        "train": {"task": 2.0 / epoch, "pull.near": 0.5, "gradient.task": 0.25, "gradient.pull.near": math.nan},
        "valid": {"mae": 1.0 + epoch, "recall[happy]": 0.5, "loss": 1.5},
        "best": epoch == 1,
        "lr": 0.001,
        "seconds": 0.25,
    }
    for epoch in (1, 2, 3)
]
PLUGIN = """
import json, os, random, signal
from pathlib import Path
from mmbench import Component, hookimpl


@hookimpl
def mmbench_components():
    for name in ("Journal", "Greedy", "Brittle", "Absent"):
        extras = ("absent_package",) if name == "Absent" else ()
        yield Component("tracker", name.lower(), f"diary:{name}", "a test", extras=extras, install="mmbench-diary[absent]")


class Journal:
    def __init__(self):
        self.file = Path(os.environ["DIARY"])
        orders = self.file.with_name("orders.json")
        self.orders = json.loads(orders.read_text()) if orders.exists() else []
        self.order = self.orders.pop(0) if self.orders else None
        orders.write_text(json.dumps(self.orders))

    def write(self, run, what, **more):
        with open(self.file.with_name(f"{run.model}.jsonl"), "a") as file:
            file.write(json.dumps({"what": what, **more}) + "\\n")

    def run_start(self, run):
        from mmbench.training import checkpoint
        checkpoint.PAUSE = 0 if self.order else 1e9  # each epoch is written and told, or the first and then all
        told = {key: getattr(run, key) for key in ("experiment", "label", "name", "seed", "device", "resumed_from", "simulated")}
        self.write(run, "start", **told, folder=str(run.folder), rate=run.config["training"]["optimizer"]["lr"])

    def epoch_end(self, run, epoch, values):
        self.write(run, "epoch", epoch=epoch, values=values)
        if self.order and self.order["epoch"] == epoch:
            os.kill(os.getpid(), getattr(signal, self.order["signal"]))

    def run_end(self, run, result):
        self.write(run, "end", result=result)


class Greedy:
    def touch(self, *arguments):
        import numpy, torch
        random.seed(7), numpy.random.seed(7), torch.manual_seed(7), torch.rand(99)
        for value in arguments:
            for inner in value.values():
                if isinstance(inner, (dict, list)):
                    inner.clear()
            value.clear()
        print("noise")

    def run_start(self, run):
        self.touch(run.config, run.data)

    def epoch_end(self, run, epoch, values):
        self.touch(values)

    def run_end(self, run, result):
        self.touch(result)


class Brittle(Greedy):
    def epoch_end(self, run, epoch, values):
        if epoch == 2:
            raise OSError(28, "No space left\\non device")
"""
CONFIG = """
data: {name: mosi, features: aligned, simulated: true, samples: 60, modalities: [audio, vision]}
model: {name: linear}
training: {epochs: 4}
seeds: [1]
"""


class Diary:
    """A folder with an installed plugin of trackers and a config."""

    def __init__(self, folder):
        self.folder = folder
        info = folder / "site" / "mmbench_diary-0.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmbench-diary\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text("[mmbench]\nmmbench-diary = diary\n")
        (folder / "site" / "diary.py").write_text(PLUGIN)
        (folder / "demo.yaml").write_text(CONFIG)
        self.environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "MMBENCH_CACHE": str(folder / "cache"), "DIARY": str(folder / "diary")}
        self.environment |= {"MMBENCH_PLUGINS": "mmbench-diary", "OMP_NUM_THREADS": "1"}
        self.environment.pop(tracking.VARIABLE, None)

    def python(self, *arguments, code=0, **more):
        command = [sys.executable, "-m", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env={**self.environment, **more}, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, out, *changes):
        """The folder of the planned run of the linear model."""
        plan = make_plan(load(str(self.folder / "demo.yaml"), changes), self.folder / out, None, "cpu")
        requests, _, _ = prepare(plan, None)
        return next(request.folder for request in requests if request.folder.parent.name.startswith("linear"))

    def told(self, model="linear"):
        return [json.loads(line) for line in (self.folder / f"{model}.jsonl").read_text().splitlines()]


@pytest.fixture
def diary(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    return Diary(tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of the finished run without trackers."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("plain")
        patch.setenv("MMBENCH_CACHE", str(folder / "cache"))
        diary = Diary(folder)
        run = diary.planned("runs")
        diary.python("mmbench.worker", run, "--device", "cpu")
    return run


def a_run(resumed_from=0) -> TrackedRun:
    return TrackedRun(Path("m/m-0/seed-1"), "m", "m-0", "a name", "m", 1, {}, {}, "cpu", resumed_from)


class Listener:
    """Notes what it hears; raises where it is told to."""

    heard: list  # of the class that a test makes

    def _hear(self, *what):
        self.heard.append(what)
        if what[0] == self.weak:
            raise self.error

    def run_start(self, run):
        self._hear("start")

    def epoch_end(self, run, epoch, values):
        self._hear(epoch, values["valid/mae"])

    def run_end(self, run, result):
        self._hear("end", result["status"])


def listener(weak=None, error=None):
    return type("Each", (Listener,), {"heard": [], "weak": weak, "error": error})


def catalogue_of(*components: Component) -> Catalogue:
    return Catalogue((Plugin("diary", "mmbench-diary", "1", "diary"),), tuple(Entry(component, "mmbench-diary", "1") for component in components))


def test_an_epoch_is_told_flat() -> None:
    told = tracking.values(HISTORY[1])
    assert math.isnan(told.pop("gradient/pull.near"))
    assert told == {
        "train/task": 1.0,
        "train/pull.near": 0.5,
        "gradient/task": 0.25,
        "valid/mae": 3.0,
        "valid/recall[happy]": 0.5,
        "valid/loss": 1.5,
        "lr": 0.001,
        "seconds": 0.25,
    }


def test_each_epoch_is_told_once_and_those_of_an_earlier_attempt_first() -> None:
    each = listener()
    tracked = tracking.Tracking({"each": each})
    tracked.end({"status": "failed"})  # before training: nobody has heard of the run
    tracked.start(a_run(resumed_from=2), HISTORY[:2])
    tracked.epochs(HISTORY)
    tracked.epochs(HISTORY)
    tracked.end({"status": "done"})
    assert each.heard == [("start",), (1, 2.0), (2, 3.0), (3, 4.0), ("end", "done")]
    assert tracked.warnings == []


@pytest.mark.parametrize(
    ("weak", "heard", "what"),
    [("start", 1, "be started"), (1, 2, "write epoch 1"), (2, 3, "write epoch 2"), ("end", 4, "write the end of the run")],
)
@pytest.mark.parametrize("error", [OSError(28, "No space\nleft"), SystemExit(3), RecursionError("deep")], ids=lambda error: type(error).__name__)
def test_one_that_fails_is_told_no_more_and_the_others_are(capsys, weak, heard, what, error) -> None:
    bad, good = listener(weak, error), listener()
    tracked = tracking.Tracking({"bad": bad, "good": good})
    tracked.start(a_run(), [])
    tracked.epochs(HISTORY[:1])
    tracked.epochs(HISTORY[:2])
    tracked.end({"status": "done"})
    assert len(bad.heard) == heard
    assert len(good.heard) == 4
    (warning,) = tracked.warnings
    assert warning.startswith(f"tracker 'bad' could not {what} and is switched off for this run: {type(error).__name__}: ")
    assert capsys.readouterr().err == f"warning: {warning}\n"


def test_one_that_cannot_be_built_is_a_warning() -> None:
    def refuses():
        raise ValueError("no")

    tracked = tracking.Tracking({"bad": refuses})
    tracked.start(a_run(), HISTORY)
    tracked.end({"status": "done"})
    assert tracked.warnings == ["tracker 'bad' could not be started and is switched off for this run: ValueError: no"]


def test_the_tracker_of_the_guide_writes_what_it_says(tmp_path) -> None:
    guide = (Path(__file__).parent.parent / "docs" / "extend" / "more.md").read_text()
    (block,) = re.findall(r"```python\n(class MineTracker.*?)```", guide, re.DOTALL)
    names: dict = {}
    exec(block, names)
    folder = tmp_path / "demo" / "m-0" / "seed-1"
    folder.mkdir(parents=True)
    for _ in range(2):  # the second attempt hears of the first one's epochs
        tracked = tracking.Tracking({"mine": names["MineTracker"]})
        tracked.start(replace(a_run(), folder=folder, data={"simulated": True}), [])
        tracked.epochs(HISTORY)
        tracked.end({"status": "done"})
        assert tracked.warnings == []
    assert (tmp_path / "demo" / "m-0-seed-1.txt").read_text() == "1 1.5\n2 1.5\n3 1.5\ndone SIMULATED\n"


def test_names_come_from_the_options_or_the_environment(monkeypatch) -> None:
    monkeypatch.delenv(tracking.VARIABLE, raising=False)
    assert tracking.names() == []
    monkeypatch.setenv(tracking.VARIABLE, " b, a,,b")
    assert tracking.names() == ["b", "a"]
    assert tracking.names(["c", "c"]) == ["c"]


def test_what_cannot_be_loaded_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(PluginError, match=r"tracker 'x': no tracker is installed. TensorBoard and MLflow come with: pip install '"):
        tracking.load(["x"], catalogue_of())
    known = catalogue_of(
        Component("tracker", "needy", "json:dumps", "a test", extras=("json", "absent_package"), install="mmbench-diary[absent]"),
        Component("tracker", "broken", "absent_module:Tracker", "a test"),
        Component("tracker", "fine", "json:dumps", "a test", extras=("json",)),
    )
    with pytest.raises(PluginError, match=r"tracker 'need' is not provided by any installed plugin. Did you mean 'needy'\?"):
        tracking.load(["need"], known)
    with pytest.raises(PluginError, match=r"tracker 'needy' needs the package 'absent_package': pip install 'mmbench-diary\[absent\]'"):
        tracking.load(["needy"], known)
    with pytest.raises(PluginError, match=r"tracker 'mmbench-diary/broken' cannot be loaded: .*absent_module"):
        tracking.load(["fine", "broken"], known)
    assert tracking.load(["fine"], known) == {"fine": json.dumps}


def test_a_mistake_is_said_before_anything_is_written(diary) -> None:
    (diary.folder / "runs").mkdir()
    assert "error: tracker 'jurnal' is not provided" in diary.python("mmbench", "run", "demo.yaml", "--track", "jurnal", code=2)
    missing = diary.python("mmbench", "run", "demo.yaml", code=2, MMBENCH_TRACKERS="journal,absent")
    assert "error: tracker 'absent' needs the package 'absent_package': pip install 'mmbench-diary[absent]'" in missing
    assert list((diary.folder / "runs").iterdir()) == []
    assert "journal" in diary.python("mmbench", "list", "tracker")
    assert "extras: absent_package" in diary.python("mmbench", "show", "tracker", "absent")


@needs_torch
def test_nothing_depends_on_trackers(diary, plain) -> None:
    """Greedy ones that seed every generator and empty what they are given, one that fails, and a journal."""
    options = [part for name in ("journal", "greedy", "brittle") for part in ("--track", name)]
    shown = diary.python("mmbench", "run", "demo.yaml", "--out", "tracked", "--jobs", "2", *options)
    tracked = diary.folder / "tracked" / "demo" / plain.parent.name / "seed-1"
    assert (plain / "predictions.csv.gz").read_bytes() == (tracked / "predictions.csv.gz").read_bytes()
    results = {name: json.loads((folder / "result.json").read_text()) for name, folder in {"plain": plain, "tracked": tracked}.items()}
    warning = "tracker 'brittle' could not write epoch 2 and is switched off for this run: OSError: [Errno 28] No space left on device"
    assert results["tracked"].pop("warnings") == [warning]
    for result in results.values():
        result["data"].pop("source")  # a path
    for key in ("metrics", "selection", "gradients", "parameters", "status", "collapsed", "data", "reason"):
        assert results["plain"][key] == results["tracked"][key]
    assert results["plain"].keys() == results["tracked"].keys()
    assert (tracked / "log.txt").read_text().count(f"warning: {warning}\n") == 1
    assert shown.count(warning) == 1

    start, *epochs, end = diary.told()
    assert start["what"] == "start"
    assert [entry["epoch"] for entry in epochs] == [1, 2, 3, 4]
    written = [json.loads(line) for line in (tracked / "epochs.jsonl").read_text().splitlines()]
    assert [entry["values"]["valid/mae"] for entry in epochs] == [entry["valid"]["mae"] for entry in written]
    assert [entry["values"]["train/task"] for entry in epochs] == [entry["train"]["task"] for entry in written]
    assert end["result"]["metrics"] == results["tracked"]["metrics"]


@needs_torch
def test_a_run_that_is_killed_and_stopped_goes_on(diary, plain) -> None:
    """Killed while it tells of the second epoch, stopped after the third: each attempt tells from the first epoch on."""
    folder = diary.planned("runs")
    (diary.folder / "orders.json").write_text(json.dumps([{"epoch": 2, "signal": "SIGKILL"}, {"epoch": 3, "signal": "SIGINT"}]))
    for code in (-9, 130, 0):
        diary.python("mmbench.worker", folder, "--device", "cpu", code=code, MMBENCH_TRACKERS="journal")
    assert (plain / "predictions.csv.gz").read_bytes() == (folder / "predictions.csv.gz").read_bytes()
    told = diary.told()
    assert [(entry["what"], entry.get("epoch", entry.get("resumed_from"))) for entry in told] == [
        *[("start", 0), ("epoch", 1), ("epoch", 2)],
        *[("start", 2), ("epoch", 1), ("epoch", 2), ("epoch", 3), ("end", None)],
        *[("start", 3), ("epoch", 1), ("epoch", 2), ("epoch", 3), ("epoch", 4), ("end", None)],
    ]
    assert told[7]["result"]["status"] == "interrupted"
    assert told[13]["result"]["status"] == "done"
    assert told[1]["values"] == told[4]["values"] == told[9]["values"]
    expected = {"experiment": "demo", "label": folder.parent.name, "name": "linear", "seed": 1, "device": "cpu", "simulated": True}
    assert expected.items() <= told[0].items()
    assert told[0]["folder"] == str(folder)


@needs_torch
def test_failed_runs_are_told_and_one_whose_trackers_are_gone_has_failed(diary) -> None:
    growing = ["scheduler={name: warmup_cosine, warmup: 0.9}", "optimizer.lr=3.0e+18", "task_loss=mse", "epochs=9", "batch_size=8"]
    folder = diary.planned("runs", *(f"training.{option}" for option in growing))
    diary.python("mmbench.worker", folder, "--device", "cpu", code=1, MMBENCH_TRACKERS="journal")
    assert diary.told()[0]["rate"] == 3e18
    written = [json.loads(line)["epoch"] for line in (folder / "epochs.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in diary.told()[1:-1]] == written
    assert len(written) > 1  # the later ones were in no checkpoint
    assert diary.told()[-1]["result"]["status"] == "failed"
    assert "became" in diary.told()[-1]["result"]["reason"]
    other = diary.planned("other")
    diary.python("mmbench.worker", other, "--device", "cpu", code=1, MMBENCH_TRACKERS="journal,absent")
    assert "needs the package 'absent_package'" in json.loads((other / "result.json").read_text())["reason"]
    assert not (other / "epochs.jsonl").exists()
