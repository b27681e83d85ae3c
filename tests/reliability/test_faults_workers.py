"""Faults of a run's process: the others go on, and each is failed with its reason.

A process that dies in any way, hangs, floods its streams or closes them, beside runs that do nothing of that kind.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmbench.component import RunRequest
from mmbench.executors import LocalConfig, LocalExecutor, attend, local
from mmbench.files import read_json

pytestmark = pytest.mark.reliability

PRELUDE = """
import json, os, pathlib, resource, signal, sys, time
folder = pathlib.Path({folder!r})
def write(status, reason=""):
    (folder / "result.json").write_text(json.dumps({{"schema_version": 1, "status": status, "reason": reason}}))
"""
GOOD = "write('done')"
FLOOD = "block = (b'x' * 99 + b'\\n') * 10_000\nfor _ in range({mb}): os.write({stream}, block)\n"
IGNORED = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
HANG = "time.sleep(60)"
DEAF = f"{IGNORED}; {HANG}"
CHILD = "if not os.fork():\n    while (folder / 'code.py').exists(): time.sleep(0.1)\n    os._exit(0)\n"  # it is there for as long as the test is
FAULTS = {
    "its process exits with 3": ("sys.exit(3)", "failed", "exit code 3"),
    "its process aborts": ("os.abort()", "failed", "SIGABRT"),
    "its process is killed, as for want of memory": ("os.kill(os.getpid(), 9)", "failed", "SIGKILL (out of memory?)"),
    "its process gets no more memory": (
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28)); held = bytearray(1 << 30)",
        "failed",
        "exit code 1",
    ),
    "it says done and fails": ("write('done'); sys.exit(1)", "failed", "exit code 1"),
    "it hangs past its time": (HANG, "failed", "--timeout"),
    "it hangs past its time and hears no interrupt": (DEAF, "failed", "--timeout"),
    "it closes its streams and hangs": (f"os.close(1); os.close(2); {DEAF}", "failed", "--timeout"),
    "it closes its standard output": (f"os.close(1); {GOOD}", "done", ""),
    "it floods its standard output": (f"{FLOOD.format(mb='MB', stream=1)}{GOOD}", "done", ""),
    "it floods its standard error": (f"{FLOOD.format(mb='MB', stream=2)}{GOOD}", "done", ""),
    "it prints a line without an end": (f"block = b'x' * 1_000_000\nfor _ in range(MB): os.write(1, block)\n{GOOD}", "done", ""),
    "it prints JSON without an end": (f"print('[' * 60_000); print('{{\"epoch\": ' * 9_000); {GOOD}", "done", ""),
    "it prints epochs that are none": (f'print(\'{{"epoch": null, "of": []}}\'); print(\'{{"unwritten": 1, "epoch": 2}}\'); {GOOD}', "done", ""),
    "it leaves a child that holds its output": (f"{CHILD}{GOOD}", "done", ""),
    "it crashes once its result stands": (f"{GOOD}; os.abort()", "done", ""),
    "it hangs past its time once its result stands": (f"{GOOD}; {DEAF}", "done", ""),
    "it fails for another cause when its time is up": (
        f"signal.signal(signal.SIGINT, lambda *_: (write('failed', 'another cause'), os._exit(1))); {HANG}",
        "failed",
        "another cause",
    ),
}


@pytest.fixture
def requests(tmp_path, monkeypatch):
    """Requests whose process is a script of the test instead of the worker."""
    original = subprocess.Popen

    def popen(command, **options):
        folder = command[3]
        return original([sys.executable, "-S", "-c", PRELUDE.format(folder=folder) + (tmp_path / folder / "code.py").read_text()], **options)

    monkeypatch.setattr(local.subprocess, "Popen", popen)

    def make(codes: dict[str, str]) -> list[RunRequest]:
        for name, code in codes.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "code.py").write_text(code)
        return [RunRequest(tmp_path / name, name, "cpu", 1) for name in codes]

    yield make
    for path in tmp_path.glob("*/code.py"):
        path.unlink()


def test_each_fault_is_one_failed_run_with_its_reason(requests, monkeypatch, times, tally) -> None:
    """A hundred megabytes in the long form; the driver holds little of them, and the log is bounded."""
    monkeypatch.setattr(attend, "GRACE", 1.0)
    megabytes = times(20, 100)
    monkeypatch.setattr(attend, "LOG_HEAD", times(2 << 20, 16 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told: list[object] = []
    outcomes = {}
    for limit in (6.0, None):  # for those that hang, and for those that a busy machine may keep for any time
        codes = {}
        for index, (code, _, _) in enumerate(FAULTS.values()):
            if (HANG in code) == (limit is not None):
                codes |= {f"fault{index}": code.replace("MB", str(megabytes)), f"good{index}": GOOD}
        executor = LocalExecutor(LocalConfig(jobs=4, timeout=limit), lambda run, line: told.append(line))
        outcomes.update({outcome.request.label: outcome for outcome in executor.submit(requests(codes))})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    for index, (name, (_, status, reason)) in enumerate(FAULTS.items()):
        outcome = outcomes[f"fault{index}"]
        result = read_json(outcome.request.folder / "result.json")
        size = (outcome.request.folder / "log.txt").stat().st_size
        bounded = size <= attend.LOG_HEAD + 4 * attend.LOG_TAIL
        print(name, outcome.status, outcome.reason, size)
        stated = outcome.status == status and reason in outcome.reason and result.get("status") in (status, "done")
        tally(name, stated and bounded and outcomes[f"good{index}"].status == "done")
    assert grown < 150_000, f"{grown} kB for {megabytes} MB"
    late = read_json(outcomes["fault5"].request.folder / "result.json")
    assert late["status"] == "failed"
    assert late["resumable"]


def test_a_log_keeps_its_beginning_and_its_end(requests, monkeypatch) -> None:
    monkeypatch.setattr(attend, "LOG_HEAD", 1000)
    monkeypatch.setattr(attend, "LOG_TAIL", 500)
    (request,) = requests(
        {"long": "print('first', file=sys.stderr)\nfor i in range(2000): print('middle', i, file=sys.stderr)\nprint('last'); write('done')"}
    )
    (outcome,) = LocalExecutor(LocalConfig(jobs=1)).submit([request])
    log = (request.folder / "log.txt").read_text()
    assert outcome.status == "done"
    assert log.startswith("first\nmiddle 0\n")
    assert "left out" in log
    assert "last" in log
    assert len(log) < 3000


def test_a_log_that_finds_the_disk_full_stops_no_run(tmp_path, tally) -> None:
    """What it cannot hold is lost, and nothing else: epochs are heard, and the process comes to its end."""
    heard = []
    code = "for i in range(3): print('x' * 100_000); print('epoch', i, flush=True)"
    with open("/dev/full", "wb", buffering=0) as log:
        process = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
        with process:
            late = attend.attend(process, log, lambda line: line.startswith(b"epoch") and not heard.append(line))
    tally("the disk is full for a log", not late and heard == [b"epoch 0", b"epoch 1", b"epoch 2"])


def test_a_run_that_is_told_of_badly_is_not_left_behind(requests) -> None:
    """An error of the display ends the run's process too."""

    def broken(run: RunRequest, line: dict) -> None:
        raise ValueError("no display")

    (request,) = requests({"orphan": "print(json.dumps({'epoch': 1, 'of': 2}), flush=True); time.sleep(60)"})
    executor = LocalExecutor(LocalConfig(jobs=1), broken)
    (outcome,) = executor.submit([request])
    assert (outcome.status, "no display" in outcome.reason) == ("failed", True)
    assert executor._processes[0].poll() == -signal.SIGKILL


@pytest.mark.parametrize("code", [0, 75])
def test_a_component_that_ends_the_process_is_a_failed_run(tmp_path, monkeypatch, code) -> None:
    """75 would say that another process executes the run, which would be waited for and started again without end."""
    from mmbench import resolve, worker

    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(resolve, "load", lambda path: sys.exit(code))
    assert worker.main([str(tmp_path)]) == worker.EXIT["failed"]
    result = read_json(tmp_path / "result.json")
    assert (result["status"], f"SystemExit: {code}" in result["reason"]) == ("failed", True)


def test_a_second_stop_ends_what_a_run_has_started_too(requests) -> None:
    """As a loader of a plugin's, which hears no interrupt either."""
    line = "json.dumps({'epoch': 1, 'of': 2, 'child': child})"
    (request,) = requests({"parent": f"{IGNORED}; child = os.fork()\nif child: print({line}, flush=True)\ntime.sleep(60)"})
    children = []

    def twice(run: RunRequest, line: dict) -> None:
        children.append(line["child"])
        executor.stop()
        executor.stop()

    executor = LocalExecutor(LocalConfig(jobs=1), twice)
    (outcome,) = executor.submit([request])
    assert outcome.status == "interrupted"
    deadline = time.monotonic() + 30
    while _runs(children[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(children[0])


def _runs(pid: int) -> bool:
    """Whether a process is there and has not ended; one that nobody has seen off yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(("text", "seconds"), [("2", 7200), ("90m", 5400), ("1.5h", 5400), ("45s", 45), ("10 min", 600)])
def test_spans_of_time(text: str, seconds: float) -> None:
    from mmbench.cli.options import _seconds

    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "m", "1e9", "nan", "inf", "9" * 400])
def test_what_is_no_span_of_time(text: str) -> None:
    import click

    from mmbench.cli.options import _seconds

    with pytest.raises(click.BadParameter, match="no span of time"):
        _seconds(text)


def test_a_run_that_was_late_goes_on_where_it_was(tmp_path: Path) -> None:
    from mmbench.files import write_sealed
    from mmbench.runner import _cleared

    for name, more in {"late": {"resumable": True}, "broken": {}}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "last.pt").write_text("a checkpoint")
        write_sealed(folder / "result.json", {"schema_version": 1, "status": "failed", "reason": "", **more})
        assert _cleared(folder, "failed") == ""
        assert (folder / "last.pt").exists() == (name == "late")
        assert not (folder / "result.json").exists()
