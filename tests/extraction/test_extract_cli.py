"""The verb as a user meets it: stopped half way and started again, exit codes, one line for each mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench.cli.extract import command, report_failures
from mmbench.errors import ConfigError
from mmbench.extraction.run import Failure, Outcome

pytest.importorskip("torch")

TOYS = Path(__file__).parents[1] / "toys"


@pytest.fixture
def process(tmp_path, raw_folder):
    """The command line and environment of ``mmbench extract`` with the toy extractors installed."""
    info = tmp_path / "site" / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmbench]\ntoys = extract_toys\n")
    lines = [f"data: {{name: {tmp_path / 'tiny.yaml'}, path: {raw_folder}}}", "audio: {name: toy-sound}", "text: {name: toys/toy-text}"]
    (tmp_path / "config.yaml").write_text("\n".join(lines) + "\n")
    environment = {**os.environ, "PYTHONPATH": f"{TOYS}{os.pathsep}{tmp_path / 'site'}", "EXTRACT_TOYS_WAIT": "0.3"}

    def make(*arguments: str, **changes: str) -> dict:
        line = [sys.executable, "-m", "mmbench", "extract", "config.yaml", *arguments]
        return {"args": line, "cwd": tmp_path, "env": {**environment, **changes}, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    return make


def features(cache: Path) -> list[Path]:
    return sorted(path for path in cache.glob("extracted/*/*.npy") if not path.name.startswith("."))


def wait_for(cache: Path, count: int, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(features(cache)) < count:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(parent: subprocess.Popen[str]) -> list[int]:
    """Processes that it has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent.pid:
            found.append(int(path.parent.name))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_stopped_and_started_again_gives_the_same_bytes(process, tmp_path) -> None:
    whole = subprocess.run(**process("--out", "whole", "--jobs", "2", EXTRACT_TOYS_WAIT="0", MMBENCH_CACHE=str(tmp_path / "other")), check=False)
    assert whole.returncode == 0, whole.stderr
    assert whole.stderr == ""
    assert [line.split()[:4] for line in whole.stdout.splitlines()[1:3]] == [["text", "12", "0", "0"], ["audio", "12", "0", "0"]]
    expected = contents(tmp_path / "whole" / "tiny" / "unaligned")
    assert sorted(expected) == ["arrays.safetensors", "store.json"]

    cache = tmp_path / "cache"
    interrupted = subprocess.Popen(**process("--out", "out", "--jobs", "1", EXTRACT_TOYS_WAIT="3"), start_new_session=True)
    wait_for(cache, 8, interrupted)  # six transcripts, each of which two clips have, and two recordings
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal does
    out, err = interrupted.communicate(timeout=60)
    assert (interrupted.returncode, out) == (130, "")
    assert err == "Interrupted; the clips that are done are kept, and the same command goes on from there.\n"

    killed = subprocess.Popen(**process("--out", "out", "--jobs", "1"), start_new_session=True)
    wait_for(cache, 11, killed)
    others = children(killed)
    assert others
    killed.kill()
    killed.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2:3] for pid in others):
        assert time.monotonic() < deadline, "its processes live on"
        time.sleep(0.05)
    done = features(cache)
    assert 11 <= len(done) < 18
    assert not (tmp_path / "out" / "tiny").exists()
    done[0].write_bytes(done[0].read_bytes()[:90])  # a file that a full disk or a crash of the machine has cut

    finished = subprocess.run(**process("--out", "out", EXTRACT_TOYS_WAIT="0"), check=False)
    assert finished.returncode == 0, finished.stderr
    assert contents(tmp_path / "out" / "tiny" / "unaligned") == expected
    assert len(features(cache)) == 18


def test_what_fails_for_several_modalities_alike_is_one_line(capsys) -> None:
    failures = [Failure("train", f"v/{i}", name, "", "is cut short") for i in range(12) for name in ("audio", "vision")]
    report_failures(Outcome(Path("out"), {}, [], failures))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["failed: v/0: audio, vision: is cut short", "failed: v/1: audio, vision: is cut short"]
    assert lines[9:11] == ["failed: v/9: audio, vision: is cut short", "failed: ... and 2 more"]
    assert lines[11].startswith("12 of 0 clips failed")


def test_failures_end_with_exit_code_1_and_errors_with_theirs(tmp_path, raw_folder, toy_extractors, monkeypatch) -> None:
    monkeypatch.setattr("mmbench.extraction.config.catalogue", lambda: toy_extractors)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text("data: {name: tiny.yaml, path: raw}\naudio: {name: toy-sound}\n")
    (raw_folder / "Raw" / "vid_1" / "0010.snd").write_bytes(b"BROKEN")
    (raw_folder / "Raw" / "vid_1" / "0011.snd").unlink()
    failed = CliRunner().invoke(command, ["config.yaml", "--out", "out"])
    assert failed.exit_code == 1
    why = "there is no vid_1/0011 with the ending .snd, .mp4 in Raw/ and wav/"
    assert failed.stderr.splitlines() == [
        "warning: recordings of 1 clips are missing or cannot be read and keep the data set from being written "
        f"(--leave-out-failed: written without them); first vid_1/0011: audio: {why}",
        "failed: vid_1/0010: audio: is damaged",
        f"failed: vid_1/0011: audio: {why}",
        f"2 of 12 clips failed, see {Path('out/tiny/failures.csv')}: no data set was written; --leave-out-failed writes it without them",
    ]
    assert failed.stdout.splitlines()[1].split() == ["audio", "10", "0", "2", "-", "-", failed.stdout.split()[-1]]
    path.write_text("data: {name: tiny.yaml, path: raw}\naudo: {name: toy-sound}\n")
    wrong = CliRunner().invoke(command, ["config.yaml"])
    assert isinstance(wrong.exception, ConfigError)
    assert "config.yaml:2:1: audo: unknown key. Did you mean 'audio'?" in str(wrong.exception)
