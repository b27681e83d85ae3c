"""The parts of the executor without a cluster: options, what a node checks, and which runs that others execute are free."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mmbench.claims import CLAIM, SILENT
from mmbench.component import RunOutcome, RunRequest
from mmbench.errors import ConfigError
from mmbench.executors import Queued
from mmbench.plugins import catalogue
from mmbench.resolve import resolve
from mmbench.strict_yaml import Document
from mmbench_ray.config import RayConfig
from mmbench_ray.node import different, unseen, versions, written


def test_gpus_and_jobs_per_device_say_the_same():
    assert RayConfig().part is None
    assert RayConfig(gpus=0.25).part == RayConfig(jobs_per_device=4).part == 0.25
    assert 3 * RayConfig(jobs_per_device=3).part <= 1
    value = {"name": "x", "data": {"name": "mosi", "simulated": True}, "model": {"name": "linear"}}
    with pytest.raises(ConfigError, match=r"executor.jobs_per_device: and gpus say the same; give one of them"):
        resolve(Document({**value, "executor": {"name": "ray", "gpus": 0.5, "jobs_per_device": 2}}, {}), catalogue())


def test_what_names_the_executor_imports_no_ray():
    code = "import sys, mmbench_ray.plugin, mmbench_ray.config, mmbench_ray.node; assert not {'ray', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cluster_that_is_not_there_is_told_of_at_once(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    pytest.importorskip("ray", reason="needs ray, which has no wheels for this Python")
    from mmbench_ray.executor import connect

    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for name in (address, f"ray://{address}"):
            with pytest.raises(
                ConfigError, match=rf"executor.address: no Ray cluster answers at '{name}': ConnectionRefusedError.*export RAY_AUTH_MODE=token"
            ):
                connect(name)


def test_a_node_with_other_versions_is_told_what_to_install():
    here = versions(["mmbench", "mmbench-ray"])
    assert different(here) == ""
    assert different({**here, "nothing-like-it": "1.0"}) == "nothing-like-it is missing there and 1.0 with this command; install the same there"
    wrong = different({**here, "python": "3.1", "mmbench": "0.0.1"})
    assert wrong.startswith(f"python is {here['python']} there and 3.1 with this command, mmbench is {here['mmbench']} there")


def test_a_folder_without_the_note_of_the_command_is_not_the_same_folder(tmp_path):
    assert unseen(tmp_path, "", 0) == ""
    assert unseen(tmp_path, "mmbench-1", 0, patience=0.0).startswith(f"the run folder {tmp_path} is not seen there")
    Queued.write(tmp_path, "ray", "mmbench-1")
    assert unseen(tmp_path, "mmbench-1", 0) == ""
    assert "is not seen there" in unseen(tmp_path, "mmbench-2", 0, patience=0.0)


def test_a_run_that_another_command_has_ended_or_queued_is_no_folder_of_another_machine(tmp_path):
    (tmp_path / "config.yaml").write_text("seeds: [1]")
    config = written(tmp_path)
    assert unseen(tmp_path, "mmbench-1", config, patience=0.0) == ""  # its note was removed, with a result
    note = Queued.write(tmp_path, "slurm", "7_1")
    assert unseen(tmp_path, "mmbench-1", config, patience=0.0) == ""
    Queued.remove(tmp_path, "mmbench-1")
    assert Queued.read(tmp_path) == note  # that of the other command
    assert "is not seen there" in unseen(tmp_path, "mmbench-1", config - 1, patience=0.0)


def test_a_run_that_another_command_stopped_before_it_began_is_handed_out_anew(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="needs ray, which has no wheels for this Python")
    from mmbench_ray import executor

    monkeypatch.setattr(executor.ray, "get", lambda answer, timeout: answer)

    several = [RunRequest(tmp_path / name, name, "cpu", 1) for name in ("ended", "left")]
    told = "token", [(str(run.folder), "left", "") for run in several]
    actor = SimpleNamespace(look=SimpleNamespace(remote=lambda *_: told), stop=SimpleNamespace(remote=lambda *_: None))
    done = {several[0].folder: RunOutcome(several[0], "done")}
    for stopping, expected in ((0, ["done", "busy"]), (1, ["done"])):
        handed = executor.Handed("mmbench-1", actor, several)
        assert [outcome.status for outcome in handed.look(stopping, done)] == expected
        assert not handed.runs


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """Lets a supervisor, without its thread and its cluster, look once at a run with a claim of another machine. Returns what it makes of it."""
    pytest.importorskip("ray", reason="needs ray, which has no wheels for this Python")
    from mmbench_ray import supervisor

    monkeypatch.setattr(supervisor.Supervisor, "_live", lambda self: None)
    monkeypatch.setattr(supervisor, "PAUSE", -1.0)

    def look(age: float, hosts: tuple[dict[str, str], set[str]]) -> str:
        folder = tmp_path / f"seed-{len(list(tmp_path.iterdir()))}"
        (folder / CLAIM).mkdir(parents=True)
        claim = folder / CLAIM / "0123.json"
        claim.write_text(json.dumps({"host": "far", "boot": "b", "space": "s", "pid": 7, "born": "1", "since": "then"}))
        os.utime(claim, (time.time() - age,) * 2)
        monkeypatch.setattr(supervisor, "hosts", lambda: hosts)
        monkeypatch.setattr(supervisor.ray, "nodes", pytest.fail)
        order = {"folder": str(folder), "label": "run", "cpus": 1, "gpus": 0}
        actor = supervisor.Supervisor(json.dumps({"job": "mmbench-1", "orders": [order], "jobs": None, "retries": 3}))
        actor._hand_out()
        actor._look_again()
        actor._look_again()
        _, told = actor.look("", 0)
        assert [status for _, status, _ in told].count("note") == 1  # said once
        assert claim.exists() != bool(actor._waiting)
        return "taken over" if actor._waiting else told[-1][1] if not actor._held else "waits"

    return look


def test_a_claim_is_taken_over_from_a_node_that_is_dead_and_silent_alone(carried):
    dead, unknown = ({}, {"far"}), ({}, {"other"})
    assert carried(SILENT - 60, dead) == "waits"
    assert carried(SILENT + 60, dead) == "taken over"
    assert carried(SILENT + 60, unknown) == "busy"  # the command then says what to do
    assert carried(0, unknown) == "waits"


def test_a_text_in_pieces_is_what_the_actor_reads(carried, monkeypatch):
    from mmbench_ray import supervisor

    text = json.dumps({"orders": [{"folder": "ä" * 10}], "jobs": 2})
    actor = supervisor.Supervisor(*(text[start : start + 7] for start in range(0, len(text), 7)))
    assert list(actor._waiting) == [{"folder": "ä" * 10}]
    assert actor._work == {"jobs": 2}
