"""What TensorBoard's and MLflow's own readers find after runs: started, stopped, started anew, beside one another, where nothing can be written."""

import json
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

if any(find_spec(name) is None for name in ("tensorboard", "mlflow", "sqlalchemy", "alembic")):  # importing MLflow takes seconds
    pytest.skip("needs TensorBoard and MLflow", allow_module_level=True)

from mmbench.component import TrackedRun
from mmbench.tracking import Tracking
from mmbench_trackers.told import flat

DATA = {"name": "mosi", "title": "CMU-MOSI", "simulated": True, "fingerprint": "f00d"}
CONFIG = {"name": "demo", "model": {"name": "mine", "layers": [1, 2], "deep": True, "none": None}, "losses": [{"name": "a", "weight": {"x": 0.5}}]}
RESULT = {
    "status": "done",
    "reason": "",
    "metrics": {"valid": {"mae": 1.0}, "test": {"mae": 1.5, "corr": None, "recall[happy]": 0.25}},
    "selection": {"metric": "mae", "value": 1.0, "epoch": 2},
    "parameters": 1234,
    "seconds": 2.5,
}
STOPPED = {"status": "interrupted", "reason": "stopped on request"}
FAILED = {"status": "failed", "reason": "task became nan in epoch 2"}


@pytest.fixture
def run(tmp_path, monkeypatch) -> TrackedRun:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return a_run(tmp_path)


def a_run(out: Path, seed: int = 1, **changes) -> TrackedRun:
    folder = out / "demo" / "mine-0123456789ab" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"experiment": "demo", "label": folder.parent.name, "name": "mine + a", "model": "mine", "seed": seed, "config": CONFIG, "data": DATA}
    return TrackedRun(folder=folder, device="cpu", **(told | changes))


def history(epochs: int, offset: float = 0.0) -> list:
    train = {"task": 1.0, "a.x": math.nan, "gradient.task": 0.5}
    valid = {"mae": 0.0, "recall[happy]": 0.5}
    return [
        {"epoch": n, "train": train, "valid": {**valid, "mae": offset + n}, "best": True, "lr": 0.001, "seconds": 0.25} for n in range(1, epochs + 1)
    ]


def attempt(tracker: type, run: TrackedRun, epochs: int, result: dict | None, offset: float = 0.0) -> list[str]:
    """One process's life of a run, from its start; killed where there is no result. Returns the warnings."""
    tracking = Tracking({"tracker": tracker})
    tracking.start(run, history(run.resumed_from, offset))
    tracking.epochs(history(epochs, offset))
    if result is not None:
        tracking.end(result)
    return tracking.warnings


# TensorBoard --------------------------------------------------------------------------------------------------------------------------


def TensorBoard() -> type:  # noqa: N802
    from mmbench_trackers.tensorboard import TensorBoard

    return TensorBoard


def events(out: Path, name: str = "mine-0123456789ab-seed-1-SIMULATED"):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(out / "demo" / "tensorboard" / name))
    found.Reload()
    return found


def curve(found, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in found.Scalars(tag)]


def session(found) -> tuple:
    from tensorboard.plugins.hparams.metadata import parse_session_end_info_plugin_data, parse_session_start_info_plugin_data

    told = found.PluginTagToContent("hparams")
    start = parse_session_start_info_plugin_data(told["_hparams_/session_start_info"])
    return start, parse_session_end_info_plugin_data(told["_hparams_/session_end_info"])


def test_tensorboard_has_curves_scores_and_hyperparameters(run, tmp_path) -> None:
    assert attempt(TensorBoard(), run, 3, RESULT) == []
    found = events(tmp_path)
    assert curve(found, "valid/mae") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert curve(found, "gradient/task") == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert [math.isnan(value) for _, value in curve(found, "train/a.x")] == [True] * 3
    assert curve(found, "test/mae") == [(2, 1.5)]
    assert curve(found, "test/recall[happy]") == [(2, 0.25)]
    assert math.isnan(curve(found, "test/corr")[0][1])
    assert curve(found, "parameters") == [(2, 1234.0)]
    start, end = session(found)
    assert start.group_name == "mine-0123456789ab"
    assert start.hparams["losses.0.weight.x"].number_value == 0.5
    assert start.hparams["model.deep"].bool_value is True
    assert start.hparams["model.layers"].string_value == "[1, 2]"
    assert "model.none" not in start.hparams
    assert end.status == 1  # STATUS_SUCCESS
    (text,) = found.Tensors("run")
    assert b"mine + a, seed 1 (SIMULATED)" in text.tensor_proto.string_val[0]
    assert b"| data | CMU-MOSI |" in text.tensor_proto.string_val[0]


def test_tensorboard_of_real_data_is_not_marked(tmp_path) -> None:
    attempt(TensorBoard(), a_run(tmp_path, data={**DATA, "simulated": False}), 1, FAILED)
    found = events(tmp_path, "mine-0123456789ab-seed-1")
    assert session(found)[1].status == 2  # STATUS_FAILURE
    assert b"SIMULATED" not in found.Tensors("run")[0].tensor_proto.string_val[0]
    assert b"failed: task became nan in epoch 2" in found.Tensors("end")[0].tensor_proto.string_val[0]


def test_tensorboard_has_each_point_once_however_often_a_run_was_stopped(run, tmp_path) -> None:
    """Killed while it writes its third epoch, stopped after its fourth; all within one second or so."""
    attempt(TensorBoard(), run, 3, None)
    (file,) = (tmp_path / "demo" / "tensorboard").rglob("events*")
    file.write_bytes(file.read_bytes()[:-7])
    attempt(TensorBoard(), replace(run, resumed_from=2), 4, STOPPED)
    attempt(TensorBoard(), replace(run, resumed_from=4), 5, RESULT)
    found = events(tmp_path)
    assert curve(found, "valid/mae") == [(n, float(n)) for n in range(1, 6)]
    assert curve(found, "test/mae") == [(2, 1.5)]
    assert session(found)[1].status == 1
    attempt(TensorBoard(), run, 2, FAILED, offset=10.0)  # the whole run anew
    found = events(tmp_path)
    assert curve(found, "valid/mae") == [(1, 11.0), (2, 12.0)]
    assert session(found)[1].status == 2


def test_tensorboard_is_not_taken_for_runs(run, tmp_path) -> None:
    from mmbench.results.runs import find_runs

    attempt(TensorBoard(), run, 1, RESULT)
    attempt(TensorBoard(), a_run(tmp_path, 2, data={}), 1, RESULT)
    assert [record.folder.name for record in find_runs(tmp_path)] == ["seed-1", "seed-2"]


def test_names_do_not_leave_their_cell() -> None:
    from mmbench_trackers.tensorboard import _cell

    assert _cell("a|b\n<c> [d](e) *f*") == r"a\|b \<c\> \[d\](e) \*f\*"


# MLflow -------------------------------------------------------------------------------------------------------------------------------


def MLflow() -> type:  # noqa: N802
    from mmbench_trackers.mlflow import MLflow

    return MLflow


def client(out: Path):
    MLflow()
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{out / 'mlflow.db'}")


def mlflow_runs(out: Path) -> list:
    """All MLflow runs of the experiment, the oldest first."""
    found = client(out)
    return found.search_runs([found.get_experiment_by_name("demo").experiment_id], order_by=["start_time ASC"])


def points(out: Path, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(out).get_metric_history(run_id, key)]


def test_mlflow_has_what_a_run_told_once_however_often_it_was_stopped(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Killed at the third epoch; stopped after the fourth; done.
    assert attempt(MLflow(), run, 3, None) == []
    (found,) = mlflow_runs(tmp_path)
    assert found.info.status == "RUNNING"
    assert attempt(MLflow(), replace(run, resumed_from=3), 4, STOPPED) == []
    (found,) = mlflow_runs(tmp_path)
    assert (found.info.status, found.data.tags["reason"]) == ("KILLED", "stopped on request")
    assert attempt(MLflow(), replace(run, resumed_from=4), 5, RESULT) == []
    (found,) = mlflow_runs(tmp_path)
    identifier = found.info.run_id
    assert (found.info.status, found.info.run_name) == ("FINISHED", "mine + a, seed 1 (SIMULATED)")
    assert found.data.params == {
        "name": "demo",
        "model.name": "mine",
        "model.layers": "[1, 2]",
        "model.deep": "True",
        "losses.0.name": "a",
        "losses.0.weight.x": "0.5",
    }
    tags = {
        "simulated": "SIMULATED",
        "fingerprint": "0123456789ab",
        "data fingerprint": "f00d",
        "data": "CMU-MOSI",
        "folder": "/".join(run.folder.parts[-3:]),
    }
    assert {f"mmbench.{key}": value for key, value in tags.items()}.items() <= found.data.tags.items()
    assert points(tmp_path, identifier, "valid/mae") == [(n, float(n)) for n in range(1, 6)]
    assert points(tmp_path, identifier, "valid/recall_happy_") == [(n, 0.5) for n in range(1, 6)]
    assert [math.isnan(value) for _, value in points(tmp_path, identifier, "train/a.x")] == [True] * 5
    assert points(tmp_path, identifier, "test/mae") == [(2, 1.5)]
    assert points(tmp_path, identifier, "chosen/epoch") == [(2, 2.0)]
    assert math.isnan(found.data.metrics["test/corr"])

    # Another seed, and the first one anew, twice: the second such start finds nothing written of the first.
    attempt(MLflow(), a_run(tmp_path, 2, data={**DATA, "simulated": False}), 1, FAILED)
    attempt(MLflow(), run, 0, None)
    attempt(MLflow(), run, 1, FAILED, offset=10.0)
    first, other, anew = mlflow_runs(tmp_path)
    assert first.info.run_id == identifier
    assert (other.info.run_name, other.info.status, other.data.tags["mmbench.simulated"]) == ("mine + a, seed 2", "FAILED", "no")
    assert points(tmp_path, anew.info.run_id, "valid/mae") == [(1, 11.0)]
    assert points(tmp_path, identifier, "valid/mae") == [(n, float(n)) for n in range(1, 6)]
    # One that was killed and is then started anew is no longer running.
    attempt(MLflow(), a_run(tmp_path, 3), 2, None)
    attempt(MLflow(), a_run(tmp_path, 3), 1, RESULT)
    assert [found.info.status for found in mlflow_runs(tmp_path)[3:]] == ["KILLED", "FINISHED"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mlflow.db.lock", "demo", "mlflow.db"]  # no mlruns


def beside_others(out: str, seed: int, barrier) -> None:
    run = a_run(Path(out), seed)
    tracker = MLflow()
    barrier.wait()
    warnings = attempt(tracker, run, 5, RESULT)
    assert warnings == [], warnings


def test_four_processes_start_at_once_where_there_is_no_database_yet(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    MLflow()  # imported once for all
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=beside_others, args=(str(tmp_path), seed, barrier)) for seed in range(1, 5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0] * 4
    found = mlflow_runs(tmp_path)
    assert sorted(each.info.run_name for each in found) == [f"mine + a, seed {seed} (SIMULATED)" for seed in range(1, 5)]
    assert {each.info.status for each in found} == {"FINISHED"}
    for each in found:
        assert points(tmp_path, each.info.run_id, "valid/mae") == [(n, float(n)) for n in range(1, 6)]


def test_mlflow_says_nothing_to_anyone() -> None:
    """The module switches telemetry off before it imports MLflow, whatever the environment said."""
    code = (
        "import socket\n"
        "def refuse(*arguments): raise AssertionError(f'it connects: {arguments}')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import mmbench_trackers.mlflow\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "print(is_telemetry_disabled(), get_telemetry_client())\n"
    )
    quiet = ("PYTEST_", "CI", "GITHUB", "GITLAB", "JENKINS", "BUILD", "TF_BUILD", "MLFLOW", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(quiet)}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "false"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["True", "None"], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("valid/recall[happy & sad]", "valid/recall_happy _ sad_"),
        ("train/Größe: 100 %", "train/Größe: 100 _"),
        ("../a//b/./c", "a/b/c"),
        ("..", "_"),
        ("", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_are_such_as_mlflow_takes(name, expected) -> None:
    MLflow()
    from mlflow.utils.validation import _validate_metric_name

    from mmbench_trackers.mlflow import allowed

    assert allowed(name) == expected
    _validate_metric_name(allowed(name))


# Both ---------------------------------------------------------------------------------------------------------------------------------


def test_a_config_is_flat() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "l": [], "m": [{"n": 1.5}, {"n": True}], "s": "x", "p": ["y", None], "e": {}}
    assert flat(nested) == {"a.b.c": 1, "l": "[]", "m.0.n": 1.5, "m.1.n": True, "s": "x", "p": '["y", null]'}


@pytest.mark.parametrize("tracker", [TensorBoard, MLflow])
def test_a_place_that_cannot_be_written_is_one_warning(run, tmp_path, capfd, tracker) -> None:
    """A file stands where each tool wants a folder or a database."""
    (tmp_path / "demo" / "tensorboard").touch()
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    (warning,) = attempt(tracker(), run, 2, RESULT)
    assert warning.startswith("tracker 'tracker' could not be started and is switched off for this run: ")
    assert "\n" not in warning
    assert warnings_of(capfd.readouterr().err) == [f"warning: {warning}"]


def warnings_of(log: str) -> list[str]:
    """What a run's log says, without the making of tables that older releases of MLflow tell of."""
    return [line for line in log.splitlines() if "INFO" not in line]


def on_a_small_disk(tracker: type, run: TrackedRun, told) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    tracking = Tracking({"tracker": tracker})
    tracking.start(run, [])
    tracking.epochs(history(1))
    size = max(path.stat().st_size for path in run.folder.parents[2].rglob("*") if path.is_file()) + 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    tracking.epochs(history(200))
    tracking.end(RESULT)
    told.put(tracking.warnings)


@pytest.mark.parametrize("tracker", [TensorBoard, MLflow])
def test_a_full_disk_is_one_warning(run, capfd, tracker) -> None:
    """The limit of a file's size stands in for the disk: it is reached while epochs are written."""
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    process = context.Process(target=on_a_small_disk, args=(tracker(), run, told))
    process.start()
    (warning,) = told.get(timeout=300)
    process.join(timeout=60)
    assert process.exitcode == 0
    assert warning.startswith("tracker 'tracker' could not write epoch ")
    assert warnings_of(capfd.readouterr().err) == [f"warning: {warning}"]


@pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
def test_a_run_is_tracked_by_both(tmp_path) -> None:
    """From the command line, with the floors beside it; nothing is left in the folder where it was started."""
    (tmp_path / "demo.yaml").write_text(
        "data: {name: mosi, features: aligned, simulated: true, samples: 60, modalities: [audio, vision]}\n"
        "model: {name: linear}\ntraining: {epochs: 2}\nseeds: [1]\n"
    )
    environment = {**os.environ, "MMBENCH_CACHE": str(tmp_path / "cache"), "MMBENCH_TRACKERS": "tensorboard,mlflow"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mmbench", "run", "demo.yaml", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tracker" not in done.stdout + done.stderr
    (path,) = (tmp_path / "runs" / "demo").glob("linear-*/seed-1/result.json")
    result = json.loads(path.read_text())
    found = {each.info.run_name: each for each in mlflow_runs(tmp_path / "runs")}
    assert set(found) == {"linear, seed 1 (SIMULATED)", "constant, seed 1 (SIMULATED)"}
    assert found["linear, seed 1 (SIMULATED)"].data.metrics["test/mae"] == result["metrics"]["test"]["mae"]
    scalars = events(tmp_path / "runs", f"{path.parents[1].name}-seed-1-SIMULATED")
    assert curve(scalars, "test/mae")[0][1] == pytest.approx(result["metrics"]["test"]["mae"])
    assert [step for step, _ in curve(scalars, "valid/mae")] == [1, 2]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cache", "demo.yaml", "runs"]
