"""The verbs as scripts use them: `--json` and `--quiet`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench.cli import check, run, status
from mmbench.cli import list as list_verb
from mmbench.plugins import catalogue

from .results.folders import make_run

FLOOR = """
data: {name: mosi, features: aligned, simulated: true, samples: 90, modalities: [audio, vision]}
model: {name: linear}
training: {epochs: 2}
seeds: [1]
"""


def said(verb: object, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(verb.command, list(arguments))  # type: ignore[attr-defined]
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_list_and_status(tmp_path: Path) -> None:
    found = json.loads(said(list_verb, "--json"))
    assert {(entry["kind"], entry["key"]) for entry in found} == {(entry.component.kind, entry.key) for entry in catalogue().entries}
    assert {entry["kind"] for entry in json.loads(said(list_verb, "metric", "--json"))} == {"metric"}
    make_run(tmp_path / "runs", "misa")
    make_run(tmp_path / "runs", "tfn", seed=2, status="failed", reason="out of memory")
    first, second = json.loads(said(status, str(tmp_path / "runs"), "--json"))
    assert (first["name"], first["seed"], first["status"]) == ("misa", 1, "done")
    assert (second["status"], second["reason"]) == ("failed", "out of memory")
    assert Path(second["folder"]).is_dir()


def test_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMBENCH_DATA", raising=False)
    Path("floor.yaml").write_text(FLOOR)
    found = json.loads(said(check, "floor.yaml", "--json"))
    assert found["can_run"] is True
    assert found["components"][0]["name"] == "mmbench/linear"
    assert [(run["name"], run["seed"], run["state"]) for run in found["runs"]] == [("linear", 1, ""), ("constant", 1, "")]
    assert found["data"][0]["simulated"] is True
    found = json.loads(said(check, "floor.yaml", "--set", "data.simulated=false", "--set", "data.samples=null", "--json"))
    assert (found["can_run"], found["runs"]) == (False, [])
    assert "was not found" in found["problems"][0]


def test_quiet_and_json_exclude_each_other() -> None:
    said(run, "floor.yaml", "--json", "--quiet", code=2)


@pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
def test_a_run_is_told_of_in_json_or_quietly(tmp_path: Path) -> None:
    (tmp_path / "floor.yaml").write_text(FLOOR)
    environment = {**os.environ, "MMBENCH_CACHE": os.environ.get("MMBENCH_CACHE", str(tmp_path / "cache"))}

    def mmbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mmbench", "run", "floor.yaml", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)

    events = [json.loads(line) for line in mmbench("--json").stdout.splitlines()]
    assert events[0] == {"event": "plan", "folder": "runs/floor", "to_do": 2, "done": 0, "failed": 0}
    epochs = [(event["epoch"], event["of"]) for event in events if event["event"] == "epoch" and event["run"] == "linear seed 1"]
    assert epochs == [(1, 2), (2, 2)]
    assert sorted((event["run"], event["status"]) for event in events if event["event"] == "run") == [
        ("constant seed 1", "done"),
        ("linear seed 1", "done"),
    ]
    assert events[-1]["event"] == "tables"
    (table,) = events[-1]["tables"]
    row = next(row for row in table["rows"] if row["name"] == "linear")
    result = json.loads(next(tmp_path.glob("runs/floor/linear-*/seed-1/result.json")).read_text())
    assert row["scores"]["mae"]["mean"] == pytest.approx(result["metrics"]["test"]["mae"])
    assert (row["done"], row["total"], table["simulated"]) == (1, 1, True)
    quiet = mmbench("--quiet")
    assert quiet.stdout.startswith("SIMULATED CMU-MOSI")
    assert "Runs: " not in quiet.stdout
