"""A whole search by the command line: trials side by side, killed in the middle and gone on with, and the best of it in a table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

CONFIG = """name: demo
data: {name: mosi, features: aligned, simulated: true, samples: 60}
model: {name: linear}
training: {epochs: 1}
tune:
  name: optuna
  trials: 4
  startup_trials: 2
  space:
    training.optimizer.lr: {low: 1e-3, high: 1e-1, log: true}
    training.batch_size: {values: [8, 16]}
"""


def command(folder: Path, *options: str) -> list[str]:
    (folder / "search.yaml").write_text(CONFIG)
    return [sys.executable, "-m", "mmbench", "tune", str(folder / "search.yaml"), "--out", str(folder / "runs"), *options]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    return {**os.environ, "MMBENCH_CACHE": str(tmp_path_factory.mktemp("cache"))}


def called(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def straight(tmp_path_factory, environment) -> tuple[Path, str]:
    """A search, two trials at once, and its end."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, called(command(folder, "--jobs", "2", "--seeds", "7"), environment)


def asked(folder: Path) -> list[dict]:
    return json.loads((folder / "runs" / "demo_tune" / "search.json").read_text())["trials"]


def results(folder: Path) -> dict[str, dict]:
    return {path.parent.parent.name: json.loads(path.read_text()) for path in (folder / "runs" / "demo_tune").rglob("result.json")}


def test_a_search_ends_with_the_best_of_its_trials_in_a_table(straight) -> None:
    folder, output = straight
    assert "4 trials, 2 at once; 0 asked for before" in output
    found = results(folder)
    assert [found[trial["labels"][0]]["status"] for trial in asked(folder)] == ["done"] * 4
    values = [found[trial["labels"][0]]["selection"]["value"] for trial in asked(folder)]
    number = values.index(min(values)) + 1
    assert f"best: trial {number}, validation mae {min(values):.4g}" in output
    final = [json.loads(path.read_text()) for path in (folder / "runs" / "demo_tuned").rglob("result.json")]
    assert {(result["name"], result["seed"], result["status"]) for result in final} == {
        ("constant", 7, "done"),
        ("demo, tuned (4 trials)", 7, "done"),
    }
    assert "SIMULATED CMU-MOSI" in output
    assert (
        (folder / "runs" / "demo_tune" / "best.yaml").read_text().startswith(f"# Trial {number} of 4 of the search in demo_tune, by mmbench-optuna/")
    )
    assert (folder / "runs" / "demo_tune" / "optuna.journal").is_file()


def test_a_search_that_is_killed_goes_on_to_the_same_trials(straight, tmp_path, environment) -> None:
    arguments = command(tmp_path, "--jobs", "1", "--set", "tune.at_once=2", "--no-final")
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    record = tmp_path / "runs" / "demo_tune" / "search.json"
    until = time.monotonic() + 300
    while not (record.is_file() and len(asked(tmp_path)) == 4) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)  # the first round is over, the second begins
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = results(tmp_path)
    first = [trial["labels"][0] for trial in asked(tmp_path)[:2]]
    assert [before[label]["status"] for label in first] == ["done", "done"]
    plan, *told, best = map(json.loads, called([*arguments, "--json"], environment).splitlines())
    assert (plan["event"], plan["trials"], plan["asked"]) == ("plan", 4, 4)
    assert [each["number"] for each in told if each["event"] == "trial"] == [3, 4]
    assert best["value"] == min(result["selection"]["value"] for result in results(tmp_path).values())
    assert asked(tmp_path) == asked(straight[0])
    after = results(tmp_path)
    assert {label: after[label] for label in first} == {label: before[label] for label in first}  # not made again
    values = [{label: result["selection"] for label, result in found.items()} for found in (after, results(straight[0]))]
    assert values[0] == values[1]
    assert not (tmp_path / "runs" / "demo_tuned").exists()
