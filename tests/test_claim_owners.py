"""Claims of folders: who holds one, who may take it, and what becomes of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmbench import claims, worker
from mmbench.claims import CLAIM, SILENT, ClaimedError, claim, clock, owner_of, take_over
from mmbench.cli.execute import Waiting
from mmbench.component import RunRequest
from mmbench.executors import LocalConfig, LocalExecutor
from mmbench.results.runs import RunRecord, find_runs, read_run
from mmbench.results.status import status_lines
from mmbench.results.tables import notes_on
from mmbench.runner import _cleared

HERE = claims._here()


def held_by(folder: Path, *, quiet: float = 0.0, content: str | None = None, **changes: object) -> Path:
    """A claim that another process has left; its last sign of life was so many seconds ago."""
    place = folder / CLAIM
    place.mkdir(parents=True)
    owner = {"host": HERE.host, "boot": HERE.boot, "space": HERE.space, "pid": os.getpid(), "born": claims._born(os.getpid()), "since": "2026-01-01"}
    file = place / "0f0f.json"
    file.write_text(json.dumps(owner | changes) if content is None else content)
    os.utime(file, (time.time() - quiet,) * 2)
    return file


@pytest.fixture(scope="module")
def ended() -> int:
    """The number of a process that is there no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_claim_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    with claim(tmp_path) as held:
        owner = owner_of(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.host, owner.state(), held.held) == (os.getpid(), HERE.host, "alive", True)
        with pytest.raises(ClaimedError, match=f"process {os.getpid()} on "), claim(tmp_path):
            pass
        assert take_over(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="inside"), claim(tmp_path):
        raise ValueError("inside")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", ["dead", "reused", "zombie", "restarted"])
def test_the_claim_of_a_process_that_is_gone_is_taken_over(tmp_path: Path, ended: int, case: str) -> None:
    if case == "zombie":
        process = subprocess.Popen([sys.executable, "-c", ""])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not seen off
        changes: dict[str, object] = {"pid": process.pid, "born": ""}
    else:
        cases: dict[str, dict[str, object]] = {
            "dead": {"pid": ended},
            "reused": {"born": "1"},
            "restarted": {"boot": "another", "pid": 1, "quiet": time.time() - 1e9},
        }
        changes = cases[case]
    held_by(tmp_path, **changes)  # type: ignore[arg-type]
    owner = owner_of(tmp_path)
    assert owner is not None
    assert owner.state() == "gone"
    with claim(tmp_path):
        assert [path.name == "0f0f.json" for path in (tmp_path / CLAIM).iterdir()] == [False]


def test_a_machine_of_the_same_name_that_beats_is_alive_whatever_the_clocks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_started", lambda: time.time() + 3600)  # its clock is ahead of the file system's
    file = held_by(tmp_path, boot="another", pid=1, quiet=claims.BEAT)
    owner = owner_of(tmp_path)
    assert owner is not None
    assert owner.state() == "alive"
    with pytest.raises(ClaimedError), claim(tmp_path):
        pass
    assert file.exists()


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "alive"),
        ({"quiet": 9 * SILENT}, "alive"),  # on this machine a process that is there is enough
        ({"host": "node7", "boot": "b"}, "alive"),
        ({"host": "node7", "boot": "b", "quiet": SILENT * 2}, "silent"),
        ({"space": "pid:[1]", "pid": 999_999_999}, "alive"),  # of another container, whose numbers say nothing here
        ({"space": "pid:[1]", "pid": 999_999_999, "quiet": SILENT * 2}, "silent"),
        ({"boot": "another", "pid": 1}, "alive"),  # a machine of the same name
        ({"content": "", "quiet": 0.0}, "alive"),
        ({"content": "[1]", "quiet": SILENT * 2}, "silent"),
        ({"pid": -1}, "alive"),
        ({"pid": 1 << 40, "quiet": SILENT * 2}, "silent"),
    ],
    ids=["here", "here-quiet", "other", "other-silent", "container", "container-silent", "same-name", "empty", "damaged", "pid-negative", "pid-huge"],
)
def test_what_is_not_proven_is_not_taken(tmp_path: Path, changes: dict[str, object], state: str) -> None:
    file = held_by(tmp_path, **changes)  # type: ignore[arg-type]
    owner = owner_of(tmp_path)
    assert owner is not None
    assert owner.state() == state
    with pytest.raises(ClaimedError), claim(tmp_path):
        pass
    assert file.exists()
    assert (take_over(tmp_path) is not None) == (state == "silent")
    assert file.exists() == (state != "silent")
    if state == "silent":
        with claim(tmp_path) as held:
            assert held.held


@pytest.mark.parametrize("silent", [False, True])
def test_of_two_who_take_over_the_late_one_removes_nothing_of_the_first(
    tmp_path: Path, ended: int, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Both have seen the same owner; one of them has the claim by the time at which the other removes it."""
    if silent:
        held_by(tmp_path, host="node7", boot="b", quiet=2 * SILENT)
    else:
        held_by(tmp_path, pid=ended)
    remove = claims._remove
    first: list[object] = []

    def late(file: Path) -> None:
        if not first:
            first.append(file)
            if silent:
                take_over(tmp_path)
            stack.enter_context(claim(tmp_path))
            first.append(owner_of(tmp_path))
        remove(file)

    monkeypatch.setattr(claims, "_remove", late)
    with contextlib.ExitStack() as stack:
        if silent:
            take_over(tmp_path)
        with pytest.raises(ClaimedError), claim(tmp_path):
            pass
        assert first[1] is not None
        assert owner_of(tmp_path) == first[1]
    assert list(tmp_path.iterdir()) == []


def test_an_owner_beats_and_hears_that_it_was_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.01)
    lost = threading.Event()
    with claim(tmp_path, lost.set) as held:
        file = next((tmp_path / CLAIM).iterdir())
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 30
        while file.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert clock(tmp_path) - file.stat().st_mtime < 30
        file.unlink()
        assert lost.wait(30)
        assert not held.held
        with claim(tmp_path):
            other = next((tmp_path / CLAIM).iterdir())
            held.release()
            assert other.exists()  # a late one removes nothing of another's


def test_an_unwritable_folder_is_an_error_and_a_stray_claim_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError), claim(tmp_path / "absent"):
        pass
    monkeypatch.setattr(claims, "_PATIENCE", 0.05)
    (tmp_path / CLAIM).mkdir()
    (tmp_path / CLAIM / "notes.txt").touch()
    with pytest.raises(OSError, match="holds something that is no claim"), claim(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [CLAIM]


def test_what_a_killed_process_had_begun_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / f".{CLAIM}-old", tmp_path / f".{CLAIM}-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (time.time() - 2 * SILENT,) * 2)
    with claim(tmp_path):
        assert (old.exists(), new.exists()) == (False, True)


def test_states_of_claimed_runs(tmp_path: Path, ended: int) -> None:
    def state(name: str, **changes: object) -> RunRecord:
        folder = tmp_path / "demo" / "misa-abc" / name
        held_by(folder, **changes)  # type: ignore[arg-type]
        (folder / "config.yaml").touch()
        return read_run(folder)

    own, dead, silent = state("seed-1"), state("seed-2", pid=ended), state("seed-3", host="node7", boot="b", quiet=7200.0)
    assert (own.status, own.reason, own.owner) == ("running", "", f"process {os.getpid()} on {HERE.host}, since 2026-01-01")
    assert (dead.status, dead.reason) == ("interrupted", "its process died; run the experiment again to resume")
    assert dead.owner == f"process {ended} on {HERE.host}, since 2026-01-01"
    assert silent.status == "interrupted"
    assert silent.reason.startswith("no sign of life for 2 h from its process on another machine; ")
    assert "--take-over" in silent.reason


def test_machines_are_named_by_status_and_nowhere_else(tmp_path: Path, ended: int) -> None:
    for seed, changes in enumerate(({"host": "node7", "boot": "b"}, {"host": "node7", "boot": "b", "quiet": 7200.0}, {"pid": ended}), start=1):
        folder = tmp_path / "demo" / "misa-abc" / f"seed-{seed}"
        held_by(folder, **changes)  # type: ignore[arg-type]
        (folder / "config.yaml").touch()
    records = find_runs(tmp_path)
    told = "\n".join(status_lines(records))
    assert told.count("on node7, since 2026") == 2
    assert f"process {ended} on {HERE.host}" in told
    shown = "\n".join([*notes_on(records), *(str(getattr(each, field)) for each in records for field in ("reason", "warnings"))])
    assert "running" in shown
    assert "node7" not in shown
    assert f"on {HERE.host}" not in shown


def write(folder: Path, status: str, reason: str = "") -> None:
    (folder / "result.json").write_text(json.dumps({"status": status, "reason": reason}))


def test_a_run_that_others_execute_or_have_executed_is_not_started(tmp_path: Path) -> None:
    requests = []
    for name in ("alive", "silent", "done", "failed"):
        (tmp_path / name).mkdir()
        requests.append(RunRequest(tmp_path / name, name, "cpu", 1))
    held_by(tmp_path / "alive")
    held_by(tmp_path / "silent", host="node7", boot="b", quiet=2 * SILENT)
    write(tmp_path / "done", "done")
    write(tmp_path / "failed", "failed", "non-finite loss")
    outcomes = {outcome.request.label: (outcome.status, outcome.reason) for outcome in LocalExecutor(LocalConfig(jobs=2)).submit(requests)}
    assert {name: status for name, (status, _) in outcomes.items()} == {"alive": "busy", "silent": "busy", "done": "done", "failed": "failed"}
    assert outcomes["failed"][1] == "non-finite loss; executed by another command"
    assert not list(tmp_path.glob("*/log.txt"))


def test_a_worker_leaves_what_is_finished_or_held(tmp_path: Path) -> None:
    for status, code in (("done", 0), ("failed", 1)):
        write(tmp_path, status, "kept")
        assert worker.main([str(tmp_path)]) == code
        assert json.loads((tmp_path / "result.json").read_text()) == {"status": status, "reason": "kept"}
    (tmp_path / "result.json").unlink()
    held_by(tmp_path)
    assert worker.main([str(tmp_path)]) == worker.BUSY
    assert [path.name for path in tmp_path.iterdir()] == [CLAIM]


def test_a_worker_that_lost_its_claim_writes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(folder: Path, *_: object) -> dict[str, str]:
        next((folder / CLAIM).iterdir()).unlink()
        return {"status": "done", "reason": ""}

    monkeypatch.setattr(worker, "_guarded", guarded)
    assert worker.main([str(tmp_path)]) == worker.BUSY
    assert not (tmp_path / "result.json").exists()


def test_runs_are_not_started_anew_under_a_process_that_executes_them(tmp_path: Path, ended: int) -> None:
    for name in ("config.yaml", "log.txt", "best.pt"):
        (tmp_path / name).touch()
    write(tmp_path, "failed")
    with claim(tmp_path):
        before = sorted(path.name for path in tmp_path.iterdir())
        assert _cleared(tmp_path, "all") == ""
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    write(tmp_path, "done")
    assert _cleared(tmp_path, "failed") == "done"  # another command was first
    assert (tmp_path / "best.pt").exists()
    held_by(tmp_path, pid=ended)
    assert _cleared(tmp_path, "all") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_who_is_waited_for_and_who_is_given_up(tmp_path: Path, ended: int, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Waiting()
    for name in ("alive", "other", "silent", "gone", "free"):
        (tmp_path / name).mkdir()
        waiting.runs.append(RunRequest(tmp_path / name, name, "cpu", 1))
    held_by(tmp_path / "alive")
    held_by(tmp_path / "other", host="node7", boot="b", pid=42)
    held_by(tmp_path / "silent", host="node7", boot="b", quiet=2 * SILENT)
    held_by(tmp_path / "gone", pid=ended)
    ready, silent = waiting.look()
    assert ([run.label for run in ready], silent, [run.label for run in waiting.runs]) == (["gone", "free"], 1, ["alive", "other"])
    told = capsys.readouterr().err
    assert re.fullmatch(r"silent: no sign of life for 20 min from process \d+ on node7, since .*; if it is gone, .* --take-over goes on\n", told)
    waiting.say()
    told = capsys.readouterr().out
    assert told.startswith("waiting for 2 runs that others execute (process ")
    assert "process 42 on node7" in told


@pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
def test_take_over_is_an_option_of_the_command(tmp_path: Path) -> None:
    """A silent claim of another machine: told of and left, then taken over."""
    (tmp_path / "floor.yaml").write_text(
        "data: {name: mosi, features: aligned, simulated: true, samples: 60, modalities: [audio]}\n"
        "model: {name: linear}\ntraining: {epochs: 1}\nseeds: [1]\n"
    )

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mmbench", "run", "floor.yaml", "--device", "cpu", *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert run().returncode == 0
    (folder,) = tmp_path.glob("runs/floor/linear-*/seed-1")
    (folder / "result.json").unlink()
    held_by(folder, host="node7", boot="b", pid=42, quiet=2 * SILENT)
    left = run()
    assert left.returncode == 1
    assert "no sign of life for 20 min from process 42 on node7" in left.stderr
    assert not (folder / "result.json").exists()
    taken = run("--take-over")
    assert taken.returncode == 0, taken.stdout + taken.stderr
    assert "linear seed 1: taken over from process 42 on node7" in taken.stdout
    assert json.loads((folder / "result.json").read_text())["status"] == "done"
