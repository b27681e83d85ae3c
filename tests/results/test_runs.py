"""Run folders in every state become records."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from mmbench.claims import claim
from mmbench.errors import ConfigError, DataError
from mmbench.results.runs import find_runs, read_result

from .folders import make_run


def change(folder: Path, **values: object) -> None:
    path = folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "decalign: w/o mmd", 3, {"mae": 0.7, "corr": None, "acc2_non0": 1}, adapters=[{"field": "common"}])
    record = read_result(folder)
    assert (record.status, record.name, record.model, record.seed) == ("done", "decalign: w/o mmd", "decalign", 3)
    assert record.metrics["test"]["mae"] == 0.7
    assert math.isnan(record.metrics["test"]["corr"])
    assert record.adapters == ({"field": "common"},)
    assert record.seconds == 75.0


def test_runs_are_found_at_any_level_in_order_of_seeds(tmp_path: Path) -> None:
    for seed in (10, 9, 1):
        make_run(tmp_path / "runs", seed=seed)
    folder = make_run(tmp_path / "runs", "misa", seed=2)
    (tmp_path / "runs" / ".hidden" / "seed-4").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "plots").mkdir()
    assert [(r.model, r.seed) for r in find_runs(tmp_path / "runs")] == [("decalign", 1), ("decalign", 9), ("decalign", 10), ("misa", 2)]
    assert [(r.experiment, r.model, r.seed) for r in find_runs(folder)] == [("demo", "misa", 2)]
    assert [r.seed for r in find_runs(folder.parent)] == [2]


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent: there is no such folder"):
        find_runs(tmp_path / "absent")
    with pytest.raises(ConfigError, match="holds no runs"):
        find_runs(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is a file; give the folder of an experiment"):
        find_runs(tmp_path / "file")


def test_states_of_unfinished_folders(tmp_path: Path) -> None:
    home = tmp_path / "demo" / "misa-abc"
    for seed in range(1, 6):
        (home / f"seed-{seed}").mkdir(parents=True)
        (home / f"seed-{seed}" / "config.yaml").touch()
    (home / "seed-2" / "epochs.jsonl").touch()
    (home / "seed-3" / "config.yaml").unlink()
    (home / "seed-5" / "run.lock").touch()  # of an earlier version
    with claim(home / "seed-4"):
        assert [r.status for r in find_runs(tmp_path)] == ["pending", "interrupted", "damaged", "running", "interrupted"]
        assert f"process {os.getpid()} on " in find_runs(tmp_path)[3].owner
    assert find_runs(tmp_path)[3].status == "pending"
    (home / "seed-4" / "log.txt").touch()
    assert find_runs(tmp_path)[3].status == "pending"  # its process has not begun
    (home / "seed-4" / "log.txt").write_text("a library's words")
    assert find_runs(tmp_path)[3].status == "interrupted"
    (home / "seed-3" / ".config.yaml.1-a.tmp").touch()  # it is being written
    assert find_runs(tmp_path)[2].status == "pending"
    record = find_runs(tmp_path)[0]
    assert (record.experiment, record.label, record.model, record.seed, record.title) == ("demo", "misa-abc", "misa", 1, "misa-abc")


def test_a_failed_run_that_runs_again_is_running(tmp_path: Path) -> None:
    folder = make_run(tmp_path, status="failed", reason="non-finite loss")
    with claim(folder):
        assert find_runs(tmp_path)[0].status == "running"
    assert find_runs(tmp_path)[0].status == "failed"


def test_an_early_failure_takes_its_place_from_its_folder(tmp_path: Path) -> None:
    folder = make_run(tmp_path, seed=4)
    (folder / "result.json").write_text('{"schema_version": 1, "status": "failed", "reason": "config.yaml: damaged"}')
    record = find_runs(tmp_path)[0]
    assert (record.status, record.experiment, record.model, record.seed) == ("failed", "demo", "decalign", 4)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"schema_version": 2}, "schema_version 2"),
        ({"status": "great"}, "status is 'great'"),
        ({"seed": 7}, "says seed 7, but its folder is seed-1"),
        ({"seed": True}, "seed is True"),
        ({"seconds": "long"}, "seconds is 'long'"),
        ({"adapters": ["common"]}, "adapters holds something"),
        ({"metrics": {"valid": {}}}, "has no metrics.test"),
        ({"metrics": {"test": {"mae": "low"}}}, "metrics.test.mae is 'low'"),
        ({"metrics": {"test": 3}}, "metrics.test is not an object"),
        ({"gradients": {"task": "steep"}}, "gradients.task is 'steep'"),
        ({"data": {}}, "has no data.name"),
        ({"data": {"name": "mosi", "modalities": "text"}}, "data.modalities is 'text'"),
        ({"data": {"name": ["mosi"]}}, "data.name is"),
        ({"data": None}, "has no data.name"),
    ],
)
def test_damaged_records_say_what_is_wrong(tmp_path: Path, values: dict[str, object], reason: str) -> None:
    folder = make_run(tmp_path)
    change(folder, **values)
    (record,) = find_runs(tmp_path)
    assert record.status == "damaged"
    assert reason in record.reason
    assert (record.label, record.seed) == (folder.parent.name, 1)
    with pytest.raises(DataError):
        read_result(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_files_that_are_no_record_are_damaged(tmp_path: Path, content: bytes) -> None:
    folder = make_run(tmp_path)
    (folder / "result.json").write_bytes(content)
    assert find_runs(tmp_path)[0].status == "damaged"


@pytest.mark.parametrize("place", ["seconds", "score"])
def test_a_number_beyond_all_floats(tmp_path: Path, place: str) -> None:
    folder = make_run(tmp_path)
    huge = 10**400
    change(folder, **({"seconds": huge} if place == "seconds" else {"metrics": {"test": {"mae": huge}, "valid": {}}}))
    record = read_result(folder)
    assert math.isinf(record.seconds if place == "seconds" else record.metrics["test"]["mae"])


def test_a_count_beyond_all_counts_is_no_count(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    change(folder, parameters=10**400)
    with pytest.raises(DataError, match="parameters is inf, which is of the wrong kind"):
        read_result(folder)
