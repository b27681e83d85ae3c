"""The local executor: a run that dies, whatever the way, is one failed run with a reason."""

import json
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mmbench import worker
from mmbench.claims import claim
from mmbench.cli.execute import queued_elsewhere
from mmbench.component import RunRequest
from mmbench.errors import ConfigError
from mmbench.executors import LocalConfig, LocalExecutor, Queued, Watch, local
from mmbench.files import write_sealed
from mmbench.plugins import catalogue
from mmbench.resolve import resolve
from mmbench.results.runs import read_run
from mmbench.results.status import status_lines
from mmbench.strict_yaml import Document
from mmbench.tracking import Tracking

LEAVE = "from mmbench.claims import claim; held = claim(folder); held.__enter__(); os._exit({})"
CASES = {
    "done": ("write('done', ''); print('{\"epoch\": 1, \"of\": 1}')", "done", ""),
    "failed": ("write('failed', 'a reason'); sys.exit(1)", "failed", "a reason"),
    "exit": ("sys.exit(3)", "failed", "ended with exit code 3"),
    "killed": ("os.kill(os.getpid(), 9)", "failed", "was killed by SIGKILL"),
    "busy": ("sys.exit(75)", "busy", "another process executes it"),
    **{f"left {n}": (LEAVE.format(n), "failed", f"ended with exit code {n} in the middle") for n in (74, 75, 130)},
    "lies": ("write('done', ''); sys.exit(1)", "failed", "ended with exit code 1"),
    "chatty": ("print('x' * 10**6); print('noise'); write('done', '')", "done", ""),
}
PRELUDE = """
import json, os, pathlib, sys, time
folder = pathlib.Path({folder!r})
def write(status, reason):
    (folder / "result.json").write_text(json.dumps({{"status": status, "reason": reason}}))
"""


@pytest.fixture
def requests(tmp_path, monkeypatch):
    """Requests whose process is a script of the test instead of the worker."""
    original = local.subprocess.Popen

    def popen(command, **options):
        folder = command[3]
        code = PRELUDE.format(folder=folder) + (tmp_path / folder / "code.py").read_text()
        return original([sys.executable, "-c", code], **options)

    monkeypatch.setattr(local.subprocess, "Popen", popen)

    def make(codes):
        for name, code in codes.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "code.py").write_text(code)
        return [RunRequest(tmp_path / name, name, "cpu", 1) for name in codes]

    return make


def test_each_way_of_ending(requests) -> None:
    heard = []
    executor = LocalExecutor(LocalConfig(jobs=2), lambda request, told: heard.append((request.label, told)))
    outcomes = {outcome.request.label: outcome for outcome in executor.submit(requests({name: case[0] for name, case in CASES.items()}))}
    assert set(outcomes) == set(CASES)
    for name, (_, status, reason) in CASES.items():
        assert outcomes[name].status == status, name
        assert reason in outcomes[name].reason, name
    assert heard == [("done", {"epoch": 1, "of": 1})]
    result = json.loads((outcomes["killed"].request.folder / "result.json").read_text())
    assert (result["status"], "SIGKILL" in result["reason"]) == ("failed", True)
    assert not (outcomes["busy"].request.folder / "result.json").exists()
    assert (outcomes["chatty"].request.folder / "log.txt").read_text().endswith("noise\n")


def test_stop_interrupts_what_runs_and_starts_nothing_more(requests) -> None:
    wait = 'import signal; signal.signal(signal.SIGINT, lambda *_: sys.exit(130)); print(\'{"epoch": 1, "of": 9}\', flush=True); time.sleep(60)'
    executor = LocalExecutor(LocalConfig(jobs=1))
    executor.report = lambda request, told: executor.stop()
    (outcome,) = executor.submit(requests({"first": wait, "second": "write('done', '')"}))
    assert (outcome.request.label, outcome.status) == ("first", "interrupted")


def test_a_second_stop_kills(requests) -> None:
    deaf = 'import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(\'{"epoch": 1, "of": 9}\', flush=True); time.sleep(60)'
    executor = LocalExecutor(LocalConfig(jobs=1))

    def twice(request, told):
        executor.stop()
        executor.stop()

    executor.report = twice
    (outcome,) = executor.submit(requests({"deaf": deaf}))
    assert outcome.status == "interrupted"
    assert executor._processes[0].returncode == -signal.SIGKILL


def test_a_folder_that_is_gone_is_one_failed_run(requests, tmp_path) -> None:
    good = requests({"good": "write('done', '')"})
    gone = RunRequest(tmp_path / "gone", "gone", "cpu", 1)
    outcomes = {outcome.request.label: outcome for outcome in LocalExecutor(LocalConfig(jobs=1)).submit([gone, *good])}
    assert outcomes["gone"].status == "failed"
    assert "FileNotFoundError" in outcomes["gone"].reason
    assert outcomes["good"].status == "done"


def test_gpus_follow_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert local.gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.gpus() == []


TOLD = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES"
TELL = f"(folder / 'told').write_text(json.dumps([os.environ.get(name) for name in {TOLD}])); time.sleep(0.3); write('done', '')"


@pytest.mark.parametrize(("jobs", "runs", "given", "policy"), [(2, 2, "", "PASSIVE"), (1, 2, "", None), (4, 1, "", None), (2, 2, "ACTIVE", "ACTIVE")])
def test_a_run_is_told_its_threads_and_to_sleep_beside_others(requests, monkeypatch, jobs, runs, given, policy) -> None:
    for name in (*TOLD, "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    asked = [replace(request, threads=3) for request in requests({f"run{i}": TELL for i in range(runs)})]
    for outcome in LocalExecutor(LocalConfig(jobs=jobs)).submit(asked):
        assert json.loads((outcome.request.folder / "told").read_text()) == ["3", "3", policy, None]


@pytest.mark.parametrize(("given", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "2"}, False), ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, False)])
def test_a_run_keeps_freed_memory_unless_the_user_has_said_how(monkeypatch, given, kept) -> None:
    for name in [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert (local.MEMORY.items() <= local.process_environment(1, 1).items()) == kept


@pytest.mark.parametrize("config", [LocalConfig(jobs=4), LocalConfig(jobs_per_device=2)])
def test_several_runs_share_each_gpu(requests, monkeypatch, config) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    asked = [replace(request, device="auto") for request in requests({f"run{i}": TELL for i in range(4)})]
    outcomes = LocalExecutor(config).submit(asked)
    devices = {outcome.request.label: json.loads((outcome.request.folder / "told").read_text())[-1] for outcome in outcomes}
    assert devices == {"run0": "2", "run1": "5", "run2": "2", "run3": "5"}
    named = [replace(request, device="cuda:1") for request in requests({"named": TELL})]
    (outcome,) = LocalExecutor(LocalConfig(jobs=2)).submit(named)
    assert json.loads((outcome.request.folder / "told").read_text())[-1] == "2,5"


@pytest.mark.parametrize(("jobs", "expected"), [(None, {"run0": "0,1", "run1": "2,3", "run2": "0,1"}), (1, {f"run{i}": "0,1" for i in range(3)})])
def test_a_run_of_several_processes_has_a_gpu_for_each(requests, monkeypatch, jobs, expected) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    commands = {"run0": TELL, "run1": TELL.replace("0.3", "3"), "run2": TELL}
    asked = [replace(request, device="auto", processes=2) for request in requests(commands)]
    outcomes = LocalExecutor(LocalConfig(jobs=jobs)).submit(asked)
    assert {outcome.request.label: json.loads((outcome.request.folder / "told").read_text())[-1] for outcome in outcomes} == expected


def test_runs_elsewhere_are_watched_through_their_folders(tmp_path) -> None:
    heard = []
    runs = [RunRequest(tmp_path / name, name, "cpu", 1) for name in ("first", "second", "third")]
    for run in runs:
        run.folder.mkdir()
        (run.folder / "config.yaml").write_text("training: {epochs: 9, select: mae}\n")
    watch = Watch(runs, lambda request, told: heard.append((request.label, told)))
    assert (list(watch.look()), heard) == ([], [])
    line = json.dumps({"epoch": 3, "valid": {"mae": 0.5}})
    (tmp_path / "first" / "epochs.jsonl").write_text(f'{{"epoch": 2}}\n{line}\n{{"epo')
    for _ in range(2):
        assert list(watch.look()) == []
    assert heard == [("first", {"epoch": 3, "of": 9, "metric": "mae", "value": 0.5})]
    write_sealed(tmp_path / "first" / "result.json", {"status": "done", "reason": ""})
    write_sealed(tmp_path / "second" / "result.json", {"status": "failed", "reason": "why"})
    write_sealed(tmp_path / "third" / "result.json", {"status": "interrupted", "reason": "stopped"})
    assert [(outcome.request.label, outcome.status, outcome.reason) for outcome in watch.look()] == [
        ("first", "done", ""),
        ("second", "failed", "why"),
    ]
    assert list(watch.left) == [tmp_path / "third"]


def test_a_run_that_a_scheduler_has_is_queued_until_its_process_claims_it(tmp_path) -> None:
    run = tmp_path / "experiment" / "model-0" / "seed-1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("training: {}\n")
    note = Queued.write(run, "slurm", "12_3")
    assert Queued.read(run) == note
    assert (read_run(run).status, read_run(run).owner) == ("queued", str(note))
    assert any("queued 1" in line for line in status_lines([read_run(run)]))
    with claim(run):
        assert read_run(run).status == "running"
        (run / "config.yaml").write_text("training: {epochs: 40, select: mae}\n")
        (run / "epochs.jsonl").write_text('{"epoch": 3, "valid": {"mae": 0.912}}\n')
        assert any("running: epoch 3/40  valid mae 0.912; process " in line for line in status_lines([read_run(run)]))
        (run / "config.yaml").write_text("training: {epochs: .inf, select: mae}\n")
        assert any("running: epoch 3; process" in line for line in status_lines([read_run(run)]))
    (run / "epochs.jsonl").write_text("")  # begun, and to be gone on with
    assert read_run(run).status == "queued"
    Queued.remove(run)
    assert read_run(run).status == "interrupted"
    (run / "queued.json").write_text('{"executor": 1}')
    assert Queued.read(run) is None


def test_runs_that_are_queued_elsewhere_are_told_of(tmp_path) -> None:
    several = [RunRequest(tmp_path / f"seed-{seed}", f"linear seed {seed}", "cpu", 1) for seed in (1, 2, 3)]
    for run in several[:2]:
        run.folder.mkdir()
        Queued.write(run.folder, "slurm", "12_3")
    (line,) = queued_elsewhere(several, "local")
    assert line.startswith("2 runs are queued elsewhere (slurm job 12_3, since ")
    assert list(queued_elsewhere(several, "slurm")) == []
    with claim(several[0].folder):
        assert [line.partition(" queued")[0] for line in queued_elsewhere(several, "local")] == ["1 run is"], "the other one is executed there"


def test_so_many_runs_go_on_at_once_on_each_gpu(requests, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    together = "(folder / 'there').touch(); end = time.monotonic() + 20\n"
    together += "while len(list(folder.parent.glob('*/there'))) < {} and time.monotonic() < end: time.sleep(0.02)\n"
    together += "write('done' if time.monotonic() < end else 'failed', ''); sys.exit(time.monotonic() >= end)"
    asked = [replace(request, device="auto") for request in requests({f"run{i}": together.format(4) for i in range(4)})]
    assert [outcome.status for outcome in LocalExecutor(LocalConfig(jobs_per_device=2)).submit(asked)] == ["done"] * 4


def test_the_runs_of_one_plan_go_to_one_executor(tmp_path) -> None:
    from mmbench.runner import make_plan

    value = {"name": "x", "data": {"name": "mosi", "simulated": True, "samples": 40}, "model": {"name": "linear"}}
    cells = [resolve(Document({**value, "row": f"row {jobs}", "executor": {"jobs": jobs}}, {}), catalogue()) for jobs in (1, 2)]
    with pytest.raises(ConfigError, match="row 2: executor differs from that of row 1"):
        make_plan(cells, tmp_path, None, "cpu")
    assert make_plan(cells[:1], tmp_path, None, "cpu").executor.config.jobs == 1


@pytest.mark.parametrize(("status", "left"), [("done", False), ("failed", False), ("interrupted", True)])
def test_the_note_of_a_scheduler_goes_with_a_final_result(tmp_path, status, left) -> None:
    Queued.write(tmp_path, "slurm", "7_1")
    worker._write_result(tmp_path, {"status": status, "reason": ""}, Tracking())
    assert (Queued.read(tmp_path) is not None) == left
    assert worker.stated(tmp_path)[0] == status


@pytest.mark.parametrize("held", [True, False])
def test_a_run_that_lost_one_of_its_processes_fails_unless_it_was_taken_over(tmp_path, monkeypatch, held) -> None:
    class EndedError(Exception):
        pass

    def end(code):
        raise EndedError(code)

    monkeypatch.setattr(worker.os, "_exit", end)
    Queued.write(tmp_path, "slurm", "7_1")
    with pytest.raises(EndedError, match="1"):
        worker._lost(tmp_path, {"label": "x"}, SimpleNamespace(held=held), "process 2 of 2 is gone")
    assert worker.stated(tmp_path) == (("failed", "process 2 of 2 is gone") if held else ("", ""))
    assert (Queued.read(tmp_path) is None) == held
