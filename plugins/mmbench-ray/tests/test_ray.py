"""Runs on a real Ray of two nodes: a node is killed, the command is killed, interrupted and comes back, nodes that are not the command's like."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

if any(find_spec(name) is None for name in ("ray", "torch")):
    pytest.skip("needs ray, which has no wheels for some Pythons, and torch", allow_module_level=True)

import ray

from mmbench.claims import owner_of
from mmbench.component import RunRequest
from mmbench.errors import ConfigError, RunError
from mmbench.executors import LocalExecutor, Queued
from mmbench.files import load_json
from mmbench.plugins import catalogue
from mmbench.resolve import resolve
from mmbench.results.runs import read_run
from mmbench.runner import make_plan, prepare, run_status
from mmbench.strict_yaml import Document, dump
from mmbench_ray import executor as driver
from mmbench_ray import node
from mmbench_ray.config import RayConfig
from mmbench_ray.executor import NAMESPACE, RayExecutor

STORE = 80 << 20
EPOCHS = 1000  # some seconds on any machine: enough to be killed in
CONFIG = {
    "name": "demo",
    "data": {"name": "mosi", "simulated": True, "samples": 40, "modalities": ["text", "audio"]},
    "model": {"name": "linear"},
    "training": {"epochs": EPOCHS, "batch_size": 8, "optimizer": {"lr": 0.0001}},
    "seeds": [1, 2],
}


class Two:
    """A cluster of two nodes with one CPU each on this machine. This process belongs to the first; the second can be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False})
        self.address = str(self.cluster.address)
        driver.connect(self.address)
        self.second = self.cluster.add_node(num_cpus=1, object_store_memory=STORE)
        self.raylet = int(self.second.all_processes["raylet"][0].process.pid)

    def lose(self, worker: int) -> None:
        """Let the second node go as a machine without power does: Ray's processes, and that of a run on it, whose claim stays."""
        for pid in (self.raylet, parent(worker), worker):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        token = tmp_path_factory.mktemp("token") / "token"  # which Ray would write to the home folder
        token.write_text("0" * 64)
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        patch.setenv("MMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        cluster = Two()
        yield cluster
        ray.shutdown()
        cluster.cluster.shutdown()


def planned(out: Path, **sections) -> list[RunRequest]:
    """The runs of the method, without the floor's."""
    plan = make_plan([resolve(Document(CONFIG | sections, {}), catalogue())], out, None, "cpu")
    return [run for run in prepare(plan, None)[0] if run.folder.parent.name.startswith("linear")]


def predictions(runs: list[RunRequest]) -> dict[str, str]:
    return {run.folder.name: load_json(run.folder / "result.json")["files"]["predictions.csv.gz"] for run in runs}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the runs come to with the local executor, by seed."""
    runs = planned(tmp_path_factory.mktemp("local"))
    assert {outcome.status for outcome in LocalExecutor().submit(runs)} == {"done"}
    return predictions(runs)


def until(condition, seconds: float = 120.0):
    """What the condition comes to, once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def command():
    """Starts ``mmbench run`` in a process of its own; returns it and the folder of the method's run, which has come to some epochs."""
    started = []

    def start(out: Path, *more: str) -> tuple[subprocess.Popen[str], Path]:
        out.mkdir()
        (out / "demo.yaml").write_text(dump(CONFIG | {"seeds": [1]}))
        line = [sys.executable, "-m", "mmbench", "run", str(out / "demo.yaml"), "--out", str(out), "--device", "cpu", "--executor", "ray", *more]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        started.append(process)

        def some() -> Path | None:
            assert process.poll() is None, process.communicate()[0]
            return next((log.parent for log in out.glob("demo/linear-*/seed-1/epochs.jsonl") if log.read_text().count("\n") > 5), None)

        return process, until(some)

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_command_that_is_killed_leaves_its_runs_to_the_cluster_where_the_next_one_finds_them(two, command, undisturbed, tmp_path):
    out = tmp_path / "out"
    process, folder = command(out, "--set", f"executor.address={two.address}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    owner, note = owner_of(folder), Queued.read(folder)
    assert note.executor == "ray"
    assert ray.get_actor(note.job, NAMESPACE)
    time.sleep(2)  # the cluster has heard that the command is gone
    assert owner_of(folder) == replace(owner, beat=owner_of(folder).beat)
    (run,) = planned(out, seeds=[1])
    jobs = set()

    def told(run, epoch):
        jobs.update(note.job for note in [Queued.read(run.folder)] if note)  # which goes with the result

    (outcome,) = RayExecutor(RayConfig(address=two.address), told).submit([run])
    assert (outcome.status, outcome.reason) == ("done", "")
    assert jobs == {note.job}
    assert load_json(folder / "result.json")["started"] <= owner.since  # not begun again
    assert predictions([run]) == {"seed-1": undisturbed["seed-1"]}
    assert planned(out, seeds=[1]) == []


def test_an_interrupt_stops_the_runs_after_their_step_and_the_next_command_goes_on(two, command, undisturbed, tmp_path):
    out = tmp_path / "out"
    process, folder = command(out, "--set", f"executor.address={two.address}")
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert re.search(r"Interrupted; (1 run was|2 runs were) stopped", told)  # the floor may be running too
    assert not [noise for noise in ("Traceback", "(raylet)", "WARNING", "INFO") if noise in told], told
    assert (run_status(folder), owner_of(folder), Queued.read(folder)) == ("interrupted", None, None)
    assert 5 < len((folder / "epochs.jsonl").read_text().splitlines()) < EPOCHS
    (run,) = planned(out, seeds=[1])
    (outcome,) = RayExecutor(RayConfig(address=two.address)).submit([run])
    assert outcome.status == "done"
    assert predictions([run]) == {"seed-1": undisturbed["seed-1"]}


def test_a_node_of_another_installation_is_one_error(two, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "versions", lambda names: {**node.versions(names), "mmbench": "9.9"})
    runs = planned(tmp_path)
    with pytest.raises(RunError, match=rf"node {platform.node()}: mmbench is .* there and 9.9 with this command; install the same there"):
        list(RayExecutor(RayConfig(address=two.address)).submit(runs))
    until(lambda: not any((run.folder / "queued.json").exists() for run in runs))
    assert {read_run(run.folder).status for run in runs} == {"pending"}


def test_what_no_node_has_room_for_is_one_error(two, tmp_path):
    runs = planned(tmp_path)
    with pytest.raises(ConfigError, match=r"cpus 64, gpus 0, memory 0 GiB, and no node .* has so much \(they have: 1, 0, .* GiB; 1, 0"):
        list(RayExecutor(RayConfig(address=two.address, cpus=64)).submit(runs))
    with pytest.raises(ConfigError, match=r"gpus 0\.25"):
        list(RayExecutor(RayConfig(address=two.address, gpus=0.25)).submit([replace(run, device="auto") for run in runs]))
    with pytest.raises(ConfigError, match="--device cuda:1 names a GPU of one machine"):
        list(RayExecutor(RayConfig(address=two.address)).submit([replace(run, device="cuda:1") for run in runs]))
    assert not any((run.folder / "queued.json").exists() for run in runs)


def test_the_runs_of_a_node_that_is_killed_are_handed_out_again(two, undisturbed, tmp_path, capsys):
    runs = planned(tmp_path)
    killed = []

    def report(run, told):
        assert told["of"] == EPOCHS
        owner = owner_of(run.folder)
        if not killed and told["epoch"] > 5 and owner is not None and parent(parent(owner.pid)) == two.raylet:
            two.lose(owner.pid)
            killed.append(run)

    outcomes = list(RayExecutor(RayConfig(address=two.address), report).submit(runs))
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("done", "")] * 2
    assert f"{killed[0].label}: its node or process was lost" in capsys.readouterr().err
    assert predictions(runs) == undisturbed
    assert not [run for run in runs if owner_of(run.folder)]
    assert not any((run.folder / "queued.json").exists() for run in runs)


def test_a_cluster_of_its_own_ends_with_the_command_and_its_runs_stop_after_their_step(two, command, tmp_path):
    out = tmp_path / "out"
    process, folder = command(out)
    workers = children(process.pid)
    assert Queued.read(folder) is None
    assert any("raylet" in Path(f"/proc/{pid}/cmdline").read_text() for pid in workers)
    process.kill()
    process.wait()
    until(lambda: owner_of(folder) is None or owner_of(folder).state() == "gone")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert run_status(folder) in ("", "interrupted")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
