"""Tables and grids of protocols with parts: a seed's score is its mean over all parts, numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import report, score, status
from mmbench.results.formats import render
from mmbench.results.grid import NONE, build_grids
from mmbench.results.runs import find_runs, write_predictions
from mmbench.results.tables import ORACLE, Row, Table, build_tables
from mmbench.strict_yaml import dump, load_document

from .folders import IDS, TARGET, make_run
from .test_grid import add

PARTS = ("second", "first")  # the protocol's order is not that of the alphabet
SCORES = {"mae": 0.8, "corr": 0.6, "acc2_non0": 0.8}
MEAN, SECOND, FIRST = (f"CMU-MOSI; protocol folds, {what}; " for what in ("mean over 2 parts (second, first)", "part second", "part first"))


def of_part(part: str, **changes: Any) -> dict[str, Any]:
    """The data of a run on one part; `changes` to it."""
    return {"protocol": "folds", "part": part, "parts": list(PARTS), "fingerprint": f"data of {part}", **changes}


def put(root: Path, name: str, scores: dict[str, list[float]], key: str = "mae", data: dict[str, Any] | None = None, **changes: Any) -> None:
    """A configuration with a score for each part and seed; the others are as in SCORES."""
    for part, values in scores.items():
        for seed, value in enumerate(values, 1):
            own = {"label": f"{name}-{part}", "family": f"family of {name}", "data": of_part(part, **(data or {}))} | changes
            make_run(root, name, seed, SCORES | {key: value}, TARGET + np.float32(value), **own)


def tables(root: Path) -> list[Table]:
    return build_tables(find_runs(root))


def mean_rows(root: Path) -> dict[str, Row]:
    return {row.name: row for row in tables(root)[0].rows}


# The mean over parts ------------------------------------------------------------------------------------------------------------


def test_parts_are_averaged_for_each_seed_before_the_seeds_are(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.6, 0.8, 1.0], "first": [1.0, 0.8, 0.9]})  # means 0.8, 0.8, 0.95
    mean, second, first = tables(tmp_path)
    assert [table.title for table in (mean, second, first)] == [f"{head}train 1284, valid 229, test 8; text, audio" for head in (MEAN, SECOND, FIRST)]
    assert [table.averaged for table in (mean, second, first)] == [True, False, False]
    row = mean.rows[0]
    assert (row.done, row.total, row.seeds, row.runs) == (3, 3, (1, 2, 3), 6)
    assert row.cells["mae"].mean == pytest.approx(0.85)
    assert row.cells["mae"].sd == pytest.approx(math.sqrt((0.05**2 + 0.05**2 + 0.1**2) / 2))
    assert row.cells["mae"].n == 3
    assert second.rows[0].cells["mae"].mean == pytest.approx(0.8)
    assert first.rows[0].cells["mae"].mean == pytest.approx(0.9)


@pytest.mark.parametrize("state", ["failed", "damaged", "pending", "absent"])
def test_a_seed_counts_where_every_part_is_done(tmp_path: Path, state: str) -> None:
    put(tmp_path, "misa", {"second": [0.1, 0.1, 0.1], "first": [0.3, 0.3, 0.0]})
    put(tmp_path, "mult", {"second": [0.8, 0.8, 0.8], "first": [0.8, 0.8, 0.8]})
    put(tmp_path, "tfn", {"second": [0.9, 0.9, 0.9], "first": [0.9, 0.9, 0.9]})
    folder = tmp_path / "demo" / "misa-first" / "seed-3"
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text("{" if state == "damaged" else json.dumps(result | {"status": "failed", "reason": "non-finite"}))
    if state in ("pending", "absent"):
        for path in [*folder.iterdir()]:
            path.unlink()
        (folder / "config.yaml").write_text("data: {}")
    if state == "absent":
        (folder / "config.yaml").unlink()
        folder.rmdir()
    found = mean_rows(tmp_path)
    assert (found["misa"].done, found["misa"].total, found["misa"].competes) == (2, 3, False)
    assert found["misa"].cells["mae"].mean == pytest.approx(0.2)
    assert [name for name, row in found.items() if row.cells["mae"].best] == ["mult"]
    notes = " ".join(tables(tmp_path)[0].notes)
    assert ("first: misa: seed 3 failed: non-finite" in notes) == (state == "failed")
    assert (state in notes) == (state in ("failed", "damaged", "pending"))


def test_a_part_that_was_never_run_leaves_no_seed_done(tmp_path: Path) -> None:
    parts = ["second", "first", "third"]
    put(tmp_path, "misa", {"second": [0.6, 0.8], "first": [1.0, 0.8]}, data={"parts": parts})
    mean = tables(tmp_path)[0]
    row, oracle = mean.rows
    assert mean.title.startswith("CMU-MOSI; protocol folds, mean over 3 parts (second, first, third)")
    assert (row.done, row.total) == (0, 2)
    assert math.isnan(row.cells["mae"].mean)
    assert math.isnan(oracle.cells["mae"].mean)
    assert "third: has no finished run" in mean.notes


def test_one_part_alone_has_no_mean(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"first": [0.6, 0.8]})
    (table,) = tables(tmp_path)
    assert table.title.startswith(FIRST)


def test_a_seed_without_a_number_in_one_part_is_no_number(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.5, 0.5], "first": [0.5, math.nan]}, key="corr")
    put(tmp_path, "mult", {"second": [0.1, 0.1], "first": [0.1, 0.1]}, key="corr")
    put(tmp_path, "tfn", {"second": [0.0, 0.0], "first": [0.0, 0.0]}, key="corr")
    found = mean_rows(tmp_path)
    assert math.isnan(found["misa"].cells["corr"].mean)
    assert found["mult"].cells["corr"].best


# Floors -------------------------------------------------------------------------------------------------------------------------


def test_floors_and_the_oracle_are_averaged(tmp_path: Path) -> None:
    for experiment in ("one", "two"):
        put(tmp_path, "constant", {"second": [1.0], "first": [2.0]}, floor=True, experiment=experiment)
        put(tmp_path, "misa", {"second": [0.9], "first": [2.2]}, experiment=experiment)
    other = np.array([0, 0, 0, 0, 1, 1, 1, 5], np.float32)  # a constant of 0: absolute errors 0 0 0 0 1 1 1 5; without 0 all are positive
    for path in tmp_path.glob("*/*-first/seed-1/predictions.csv.gz"):
        write_predictions(path, {"test": (IDS, other, other)})
    mean = tables(tmp_path)[0]
    assert [(row.name, row.kind) for row in mean.rows] == [
        ("misa (one)", "method"), ("misa (two)", "method"), ("constant", "floor"), (ORACLE, "oracle")
    ]  # fmt: skip
    oracle = mean.rows[-1].cells
    assert oracle["mae"].mean == pytest.approx((11.5 / 8 + 8 / 8) / 2)
    assert oracle["acc2_non0"].mean == pytest.approx((4 / 7 + 1) / 2)
    assert mean.rows[2].cells["mae"].mean == pytest.approx(1.5)
    assert mean.rows[0].cells["mae"].beaten  # 1.55 is not better than 1.21875, though 0.9 is better than 1.0


# What never mixes ---------------------------------------------------------------------------------------------------------------


def test_protocols_of_one_data_set_never_mix(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.6], "first": [0.8]})
    put(tmp_path, "mult", {"second": [0.6], "first": [0.8]}, data={"protocol": "others"})
    make_run(tmp_path, "tfn", 1, SCORES, data={"protocol": "whole"})
    make_run(tmp_path, "lmf", 1, SCORES)
    found = {table.title.split("; train")[0]: [row.name for row in table.rows[:-1]] for table in tables(tmp_path)}
    assert found == {
        **{head.removesuffix("; "): ["misa"] for head in (MEAN, SECOND, FIRST)},
        **{head.removesuffix("; ").replace("folds", "others"): ["mult"] for head in (MEAN, SECOND, FIRST)},
        "CMU-MOSI; protocol whole": ["tfn"],
        "CMU-MOSI": ["lmf"],
    }


def test_a_changed_file_is_another_table(tmp_path: Path) -> None:
    """The same configuration on two states of the data: four runs, of which only those on the same state belong together."""
    for state, values in (("old", [0.6, 0.8]), ("new", [0.2, 0.4])):
        for part, value in zip(PARTS, values, strict=True):
            data = of_part(part, fingerprint=f"{state} {part}", sha256=state)
            make_run(tmp_path, "misa", 1, SCORES | {"mae": value}, label=f"misa-{state}-{part}", family="misa", data=data)
    means = [table for table in tables(tmp_path) if table.averaged]
    assert sorted(table.rows[0].cells["mae"].mean for table in means) == pytest.approx([0.3, 0.7])
    assert len({table.title for table in means}) == 2


def test_parts_in_files_of_their_own_belong_together(tmp_path: Path) -> None:
    for part, value in zip(PARTS, (0.6, 0.8), strict=True):
        make_run(tmp_path, "misa", 1, SCORES | {"mae": value}, label=f"misa-{part}", family="misa", data=of_part(part, sha256=part))
    assert tables(tmp_path)[0].rows[0].cells["mae"].mean == pytest.approx(0.7)


def test_settings_of_one_name_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.6], "first": [0.8]})
    for part in PARTS:
        make_run(tmp_path, "misa", 1, SCORES, label=f"misa-wide-{part}", family="wide", data=of_part(part))
    names = {row.name: row.cells["mae"].mean for row in tables(tmp_path)[0].rows[:-1]}
    assert names == pytest.approx({"misa (misa-family of misa)": 0.7, "misa (misa-wide)": 0.8})


def test_runs_of_a_time_before_families_stand_apart(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.6], "first": [0.8]}, family="")
    assert [table.averaged for table in tables(tmp_path)] == [False, False]


# Binary tasks -------------------------------------------------------------------------------------------------------------------


def binary(root: Path) -> None:
    for part, uar, recalls in (("happy", 0.6, (0.8, 0.4)), ("sad", 0.7, (0.9, 0.5))):
        data = {"task": "classification", "classes": [f"not {part}", part], "metrics": ["uar", "recall_per_class"], "title": f"{part} or not"}
        data |= {"protocol": "binary", "part": part, "parts": ["happy", "sad"], "fingerprint": part, "protocol_title": "Two tasks"}
        scores = {"uar": uar, f"recall[not {part}]": recalls[0], f"recall[{part}]": recalls[1]}
        folder = make_run(root, "misa", 1, scores, label=f"misa-{part}", family="misa", data=data)
        target = np.array([0, 0, 0, 1])
        write_predictions(folder / "predictions.csv.gz", {"test": (tuple("abcd"), target, np.eye(2, dtype=np.float32)[target])})


def test_only_columns_of_all_parts_are_averaged(tmp_path: Path) -> None:
    binary(tmp_path)
    mean, happy, sad = tables(tmp_path)
    assert mean.title.startswith("Two tasks; protocol binary, mean over 2 parts (happy, sad)")
    assert [c.key for c in mean.columns] == ["uar"]
    assert mean.rows[0].cells["uar"].mean == pytest.approx(0.65)
    assert mean.rows[1].cells["uar"].mean == pytest.approx(0.5)
    assert [c.key for c in happy.columns] == ["uar", "recall[not happy]", "recall[happy]"]
    assert "not averaged, since only some parts have them: recall[not happy], recall[happy], recall[not sad], recall[sad]" in mean.notes
    assert sad.title.startswith("sad or not; protocol binary, part sad")


# Notes --------------------------------------------------------------------------------------------------------------------------


def test_what_is_said_of_several_parts_stands_once(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.6], "first": [0.8]})
    for part in PARTS:
        make_run(tmp_path, "slad", 1, status="incompatible", reason="needs two modalities", label=f"slad-{part}", family="s", data=of_part(part))
    notes = tables(tmp_path)[0].notes
    assert notes == ("second, first: slad: incompatible: needs two modalities",)


def test_runs_that_wait_are_named_with_their_part(tmp_path: Path) -> None:
    """A configuration that has not begun on a part has no record of it but its config."""
    put(tmp_path, "misa", {"second": [0.6, 0.6], "first": [0.8, 0.8]}, data={"parts": [*PARTS, "third"]})
    for seed in (1, 2):
        folder = make_run(tmp_path, "misa", seed, label="misa-third")
        for path in folder.iterdir():
            path.unlink()
        (folder / "config.yaml").write_text(dump({"name": "demo", "data": {"name": "mosi", "protocol": "folds", "part": "third"}}))
    found = tables(tmp_path)
    assert len(found) == 3
    assert "third: misa-third: seeds 1, 2 pending" in found[0].notes
    assert (found[0].rows[0].done, found[0].rows[0].total) == (0, 2)


def test_a_configuration_that_waits_stands_in_the_table_of_its_part(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.6], "first": [0.8]})
    folder = make_run(tmp_path, "mult", 1, label="mult-first")
    for path in folder.iterdir():
        path.unlink()
    (folder / "config.yaml").write_text(dump({"name": "demo", "data": {"name": "mosi", "protocol": "folds", "part": "first"}}))
    _, second, first = tables(tmp_path)
    assert [(row.name, row.done, row.total) for row in first.rows[:-1]] == [("misa", 1, 1), ("mult-first", 0, 1)]
    assert "mult-first" not in [row.name for row in second.rows]


# Formats ------------------------------------------------------------------------------------------------------------------------


def test_every_format_says_that_it_is_a_mean(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"second": [0.6, 0.8], "first": [1.0, 0.8]}, collapsed=True)
    found = tables(tmp_path)
    for name in ("plain", "github", "latex"):
        text = render(found, name)
        assert text.count("mean over 2 parts (second, first)") == 1
        assert text.count("each seed's the mean over all parts, then mean") == 1
        assert "misa 4 of 4" in text
        assert "misa 2 of 2" in text
    entries = list(csv.DictReader(io.StringIO(render(found, "csv"))))
    means = {entry["part"]: entry["mean"] for entry in entries if (entry["configuration"], entry["metric"]) == ("misa", "mae")}
    assert {part: float(value) for part, value in means.items()} == pytest.approx({"(mean)": 0.8, "second": 0.7, "first": 0.9})
    assert {entry["protocol"] for entry in entries} == {"folds"}


def test_without_protocols_a_csv_has_no_such_columns(tmp_path: Path) -> None:
    make_run(tmp_path, "misa", 1, SCORES)
    assert render(tables(tmp_path), "csv").splitlines()[0].endswith(",mean,sd,n,best,second,beaten")


def test_status_lists_the_parts_of_a_configuration_together(tmp_path: Path) -> None:
    for family in ("x", "y"):
        for part, label in zip(PARTS, (f"misa-{family}2", f"misa-{family}1"), strict=True):
            make_run(tmp_path, "misa", 1, SCORES, label=label, family=family, data=of_part(part))
    lines = CliRunner().invoke(status.command, [str(tmp_path)]).output.splitlines()
    assert lines == [f"misa, {part} (demo/misa-{family}{n}): done 1" for family in ("x", "y") for part, n in zip(PARTS, (2, 1), strict=True)]


def test_scores_of_parts_are_computed_again(tmp_path: Path) -> None:
    for part in PARTS:
        make_run(tmp_path, "misa", 1, label=f"misa-{part}", family="misa", data=of_part(part))
    done = CliRunner().invoke(score.command, [str(tmp_path)])
    assert (done.exit_code, done.output) == (0, "2 finished runs: 2 as stored, 0 different\n")


@pytest.mark.parametrize(("key", "value"), [("part", 3), ("protocol", ["folds"]), ("parts", "folds"), ("parts", [1])])
def test_a_damaged_record_is_no_traceback(tmp_path: Path, key: str, value: object) -> None:
    make_run(tmp_path, "misa", 1, SCORES, family="misa", data=of_part("first") | {key: value})
    (record,) = find_runs(tmp_path)
    assert record.status == "damaged"
    assert f"data.{key}" in record.reason


# Grids --------------------------------------------------------------------------------------------------------------------------


def noisy(size: float, *seed: int) -> np.ndarray:
    return (TARGET + size * np.random.default_rng(seed).normal(size=len(TARGET))).astype(np.float32)


def grid_runs(root: Path, model: str, losses: tuple[str, ...], size: float, videos: str, seeds: int = 2, same: bool = False) -> None:
    """A backbone with losses on both parts. `same`: with the same errors in both; `videos` of the parts: `shared` or `own`."""
    for index, part in enumerate(PARTS):
        for seed in range(1, seeds + 1):
            prediction = noisy(size, seed, 0 if same else index)
            family = f"{model} {losses}"
            folder = add(root, model, losses, seed, prediction=prediction, label=f"{family} {part}", data=of_part(part), family=family)
            config = load_document(folder / "config.yaml").value
            (folder / "config.yaml").write_text(dump({**config, "data": {"name": "mosi", "protocol": "folds", "part": part}}))
            ids = [f"{part} {name}" if videos == "own" else name for name in IDS]
            write_predictions(folder / "predictions.csv.gz", {"test": (tuple(ids), TARGET, prediction)})


def test_a_grid_has_the_means_and_each_part(tmp_path: Path) -> None:
    for model in ("mult", "misa"):
        grid_runs(tmp_path, model, (), 1.0, "own")
    grid_runs(tmp_path, "mult", ("cmd",), 0.3, "own")
    grid_runs(tmp_path, "misa", ("cmd",), 0.5, "own")
    (tmp_path / "demo" / "misa ('cmd',) first" / "seed-2" / "result.json").unlink()
    mean, second, first = build_grids(find_runs(tmp_path), "mae", draws=200)
    assert [grid.title.split("; train")[0] + "; " for grid in (mean, second, first)] == [MEAN, SECOND, FIRST]
    assert mean.columns == (NONE, "cmd")
    assert {place: (cell.status, cell.runs) for place, cell in mean.cells.items()} == {
        ("mult", NONE): ("done", 4), ("mult", "cmd"): ("done", 4), ("misa", NONE): ("done", 4), ("misa", "cmd"): ("partial", 2)
    }  # fmt: skip
    cell = mean.cells["mult", "cmd"]

    def error(size: float, seed: int) -> float:
        return float(np.mean([np.abs(noisy(size, seed, index) - TARGET).mean() for index in range(2)]))

    assert cell.score.mean == pytest.approx((error(0.3, 1) + error(0.3, 2)) / 2, rel=1e-5)
    assert cell.score.sd == pytest.approx(abs(error(0.3, 1) - error(0.3, 2)) / math.sqrt(2), rel=1e-5)
    expected = np.mean([error(0.3, seed) - error(1.0, seed) for seed in (1, 2)])
    assert cell.difference.difference == pytest.approx(expected, rel=1e-5)
    assert cell.difference.low < expected < cell.difference.high
    assert mean.cells["misa", "cmd"].difference is None
    assert second.cells["misa", "cmd"].difference is not None
    assert [row.kind for row in mean.floors] == ["oracle"]
    text = CliRunner().invoke(report.command, [str(tmp_path), "--grid", "mae"]).output
    assert text.count("each seed's the mean over all parts") == 1
    assert text.count("test videos of each part") == 1


def test_a_row_of_a_grid_does_not_hang_on_the_part_that_its_config_is_read_from(tmp_path: Path) -> None:
    """The reference's config is lost on one part; those of the other part name other metrics."""
    for losses, size in (((), 1.0), (("cmd",), 0.3)):
        grid_runs(tmp_path, "mult", losses, size, "own")
    for path in tmp_path.glob("demo/* first/seed-*/config.yaml"):
        path.write_text(path.read_text().replace("- acc2_non0\n", ""))
        assert "acc2_non0" not in path.read_text()
    for path in tmp_path.glob("demo/mult () second/seed-*/config.yaml"):
        path.unlink()
    mean = build_grids(find_runs(tmp_path), "mae", draws=100)[0]
    assert mean.rows == ("mult",)
    assert mean.cells["mult", "cmd"].difference is not None


def test_parts_are_drawn_together_where_they_have_the_same_videos(tmp_path: Path) -> None:
    """Equal errors in both parts: with the same videos nothing is known twice; with others the interval is about 0.7 times as wide."""
    for videos in ("shared", "own"):
        for losses, size in (((), 1.0), (("cmd",), 0.3)):
            grid_runs(tmp_path / videos, "mult", losses, size, videos, seeds=1, same=True)
    shared, own = (build_grids(find_runs(tmp_path / videos), "mae") for videos in ("shared", "own"))
    (mean, single), other = ([grid.cells["mult", "cmd"].difference for grid in grids] for grids in (shared[:2], own[:1]))
    assert (mean.low, mean.high) == pytest.approx((single.low, single.high))
    assert 0.55 < (other[0].high - other[0].low) / (single.high - single.low) < 0.85


def test_a_score_of_one_part_has_a_grid_there_alone(tmp_path: Path) -> None:
    binary(tmp_path)
    for folder in tmp_path.glob("demo/*/seed-1"):
        (folder / "config.yaml").write_text(dump({"name": "demo", "data": {"name": "mosi"}, "model": {"name": "misa"}}))
    assert [grid.title.split(",")[0] for grid in build_grids(find_runs(tmp_path), "recall[sad]")] == ["sad or not; protocol binary"]
    assert len(build_grids(find_runs(tmp_path), "uar")) == 3
