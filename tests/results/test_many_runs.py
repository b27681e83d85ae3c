"""Many run folders: what is read quickly is what is read carefully, and a table that is shortened says of its rows what the whole one says."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.claims import CLAIM
from mmbench.cli.report import command
from mmbench.errors import DataError
from mmbench.files import MOST_NESTED, parse_json
from mmbench.queued import Queued
from mmbench.results import comparison, predictions, runs
from mmbench.results.longest import NOTES, TOP
from mmbench.results.predictions import NAME, read_predictions, write_predictions
from mmbench.results.runs import find_runs, read_run
from mmbench.results.spread import spread
from mmbench.results.status import MANY, status_lines
from mmbench.results.tables import Table, build_tables

from .folders import make_run

TARGET = np.tile(np.array([-2, -0.5, 1.5], np.float32), 20)
IDS = tuple(f"v{index // 3}/{index}" for index in range(len(TARGET)))
FIELDS = ("1", "0", "2", "-1", "0.5", "nan", "inf", "1e300", "x", "", " 1", "1_0", "3.40282347e+38", "3.5e38", '"1"', "1\r", "0.10000000149")


def put(root: Path, name: str, size: float, seeds: int = 2) -> None:
    """Finished runs with errors around a size, in two scores."""
    for seed in range(1, seeds + 1):
        rng = np.random.default_rng([*map(ord, name), seed])
        guess = (TARGET + np.abs(rng.normal(size, 0.1, len(TARGET)))).astype(np.float32)
        error = np.abs(guess.astype(float) - TARGET)
        scores: dict[str, float | None] = {"mae": float(error.mean()), "mse": float(np.square(error).mean())}
        folder = make_run(root, name, seed, scores, np.zeros(8, np.float32), data={"metrics": ["mae", "mse"]})
        write_predictions(folder / NAME, {"test": (IDS, TARGET, guess)})


def marks(table: Table) -> dict[tuple[str, str], tuple[bool, bool]]:
    return {(row.name, key): (cell.best, cell.second) for row in table.rows for key, cell in row.cells.items() if row.kind == "method"}


@pytest.mark.parametrize("seed", range(4))
def test_a_shortened_table_marks_its_rows_as_the_whole_one_does(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for index, size in enumerate(rng.choice([0.5, 0.52, 0.55, 0.7, 0.9], 9)):
        put(tmp_path, f"m{index}", float(size))
    records = find_runs(tmp_path)
    (whole,) = build_tables(records, draws=200)
    assert any(best for best, _ in marks(whole).values())
    for top in (2, 4, 8):
        (table,) = build_tables(records, draws=200, top=top)
        shown = marks(table)
        assert len(shown) == 2 * top
        assert shown == {place: mark for place, mark in marks(whole).items() if place in shown}
        means = [row.cells["mae"].mean for row in table.rows if row.kind == "method"]
        assert means == sorted(means)
        assert f"{9 - top} of 9 configurations are not shown" in table.notes[-1]


def test_few_predictions_are_read_of_a_table_with_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(12):
        put(tmp_path, f"m{index:02}", 0.3 + 0.1 * index)
    read: list[Path] = []

    def counted(path: Path) -> object:
        read.append(path)
        return read_predictions(path)

    monkeypatch.setattr(comparison, "read_predictions", counted)
    build_tables(find_runs(tmp_path), draws=100, top=3)
    assert len(read) == 2 * 3


@pytest.mark.parametrize("readable", [True, False])
def test_a_row_that_is_not_shown_is_best_where_its_predictions_can_be_read(tmp_path: Path, readable: bool) -> None:
    for index in range(4):
        put(tmp_path, f"m{index}", 0.3 + 0.3 * index)
    put(tmp_path, "hidden", 0.1)
    for path in tmp_path.glob("demo/hidden-*/*/result.json"):
        result = json.loads(path.read_text())
        result["metrics"]["test"]["mae"] = 9.0  # so that it is not among the shown; it is the best in the other score
        path.write_text(json.dumps(result))
        if not readable:
            (path.parent / NAME).write_bytes(b"damaged")
    (table,) = build_tables(find_runs(tmp_path), draws=100, top=3)
    places = {place: mark for place, mark in marks(table).items() if any(mark)}
    other = {("m0", "mse"): (False, True)} if readable else {("m0", "mse"): (True, False), ("m1", "mse"): (False, True)}
    assert places == {("m0", "mae"): (True, False), ("m1", "mae"): (False, True), **other}


def test_notes_under_a_shortened_table_are_few(tmp_path: Path) -> None:
    for index in range(NOTES + 10):
        make_run(tmp_path, f"m{index}", 1)
        make_run(tmp_path, f"m{index}", 2, status="failed", reason=f"reason {index}")
    (table,) = build_tables(find_runs(tmp_path), draws=0, top=2)
    assert [note for note in table.notes if note.startswith("10 more notes are left out")]
    assert sum("failed: reason" in note for note in table.notes) == NOTES


def test_the_verb_shows_the_best_rows_and_data_are_whole(tmp_path: Path) -> None:
    for index in range(101):
        make_run(tmp_path, f"m{index}", 1)

    def rows(*options: str) -> int:
        done = CliRunner().invoke(command, [str(tmp_path), "--metrics", "mae", "--draws", "100", *options])
        assert done.exit_code == 0, done.output
        return len([line for line in done.output.splitlines() if line.startswith(("m", "CMU"))]) - done.output.count("CMU-MOSI; train")

    assert rows() == TOP
    assert (rows("--top", "5"), rows("--top", "0")) == (5, 101)
    assert CliRunner().invoke(command, [str(tmp_path), "--format", "csv", "--draws", "100"]).output.count("method") == 101 * 3


def test_plain_and_careful_reading_of_predictions_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, generator, read = tmp_path / NAME, random.Random(0), 0
    plain: Callable[[str], object] = predictions._plain

    def found() -> object:
        try:
            splits = read_predictions(path)
        except DataError as error:
            return str(error)
        return {name: (ids, *(part for a in rest for part in (a.dtype, a.shape, a.tobytes()))) for name, (ids, *rest) in splits.items()}

    for _ in range(600):
        head = generator.choice(["prediction", "prediction", "score_0,score_1,score_2", "score_0", "score_1", ""])
        fields = FIELDS if generator.random() < 0.4 else FIELDS[:3]
        lines = [f"split,id,target,{head}"]
        for sample in range(generator.randrange(6)):
            columns = head.count(",") + 2 if generator.random() < 0.97 else generator.randrange(5)
            lines.append(",".join([generator.choice(["test", "valid"]), f"v/{sample}", *(generator.choice(fields) for _ in range(columns))]))
        path.write_bytes(gzip.compress(("\n".join(lines) + generator.choice(["", "\n", "\n\n"])).encode(), 1))
        monkeypatch.setattr(predictions, "_plain", plain)
        first = found()
        read += isinstance(first, dict) and plain("\n".join(lines)) is not None
        monkeypatch.setattr(predictions, "_plain", lambda text: None)
        assert first == found()
    assert read > 50


def change(root: Path, folder: Path, generator: random.Random) -> None:
    """Something that happens to a run."""
    result, what = folder / "result.json", generator.randrange(7)
    if what == 0:
        result.unlink(missing_ok=True)
    elif what == 1 and result.exists():
        result.write_bytes(result.read_bytes()[: generator.randrange(200)])
    elif what == 2 and result.exists():
        result.write_text(result.read_text().replace('"done"', '"gone"'))  # as many bytes
    elif what == 3:
        Queued.write(folder, "slurm", "7")
    elif what == 4:
        (folder / CLAIM).mkdir(exist_ok=True)
    elif what == 5:
        (folder / "epochs.jsonl").touch()
    else:
        (folder / "config.yaml").unlink(missing_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_runs_that_are_found_together_are_as_each_by_itself(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    folders = [make_run(tmp_path, f"m{index}", run) for index in range(4) for run in (1, 2)]
    for _ in range(12):
        change(tmp_path, generator.choice(folders), generator)
        found = {record.folder: record for record in find_runs(tmp_path)}
        assert {folder: repr(found[folder]) for folder in folders} == {folder: repr(read_run(folder)) for folder in folders}
    assert len({record.status for record in found.values()}) > 1


def test_what_runs_have_in_common_is_held_once(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_run(tmp_path, "m", seed, environment={"packages": {"mmbench": "1"}})
    make_run(tmp_path, "other", 1, environment={"packages": {"mmbench": "2"}})
    first, second, other = find_runs(tmp_path)
    assert first.environment is second.environment
    assert first.data is other.data
    assert other.environment == {"packages": {"mmbench": "2"}}


def test_nesting_is_refused_at_the_same_depth_whether_or_not_brackets_are_few() -> None:
    many = "[], " * MOST_NESTED
    for depth, refused in ((MOST_NESTED, False), (MOST_NESTED + 1, True)):
        for text in ("[" * depth + "]" * depth, f"[{many}{'[' * (depth - 1)}{']' * (depth - 1)}]"):
            if refused:
                with pytest.raises(ValueError, match="nested"):
                    parse_json(text)
            else:
                assert isinstance(parse_json(text), list)


def test_counts_come_first_where_there_are_many_configurations(tmp_path: Path) -> None:
    for index in range(MANY):
        make_run(tmp_path, f"m{index}", 1)
    assert not status_lines(find_runs(tmp_path))[0].startswith("20 runs")
    Queued.write(make_run(tmp_path, "other", 1, status="interrupted"), "slurm", "17")
    assert status_lines(find_runs(tmp_path)) == [
        "21 runs of 21 configurations: 20 done, 1 queued",
        "whole configurations that are not listed: 20 done, 1 queued; --all lists them",
    ]
    assert len(status_lines(find_runs(tmp_path), every=True)) == 1 + 21 + 1, "the job has a line of its own"
    failed = make_run(tmp_path, "other", 2, status="failed").parent.name
    told = status_lines(find_runs(tmp_path))
    assert failed in told[1]
    assert told[-1].startswith("whole configurations that are not listed: 20 done; ")


def test_work_that_is_spread_over_processes_has_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    processes = spread(lambda some: [os.getpid()] * len(some), range(7), 2)
    assert len(processes) == 7
    assert parent not in processes
    assert spread(lambda some: [item**2 for item in some], range(7), 2) == [item**2 for item in range(7)]
    assert spread(lambda some: [os.getpid()], range(7), 7) == [parent]

    def deadly(some: Any) -> list[int]:
        return [os._exit(1) if os.getpid() != parent else item for item in some]

    assert spread(deadly, range(4), 2) == [0, 1, 2, 3]
    for index in range(5):
        make_run(tmp_path, f"m{index}", index + 1, status="failed" if index == 3 else "done")
    alone = find_runs(tmp_path)
    monkeypatch.setattr(runs, "PIECE", 2)
    assert find_runs(tmp_path) == alone
