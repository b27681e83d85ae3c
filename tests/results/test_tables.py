"""The rules of a table, on numbers worked out by hand."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import ConfigError
from mmbench.results.runs import RunRecord, find_runs, write_predictions
from mmbench.results.tables import ORACLE, Row, Table, build_tables, cell

from .folders import IDS, TARGET, make_run

METHOD = {"mae": 0.8, "corr": 0.6, "acc2_non0": 0.8}


def only(root: Path) -> Table:
    (table,) = build_tables(find_runs(root))
    return table


def rows(root: Path) -> dict[str, Row]:
    return {row.name: row for row in only(root).rows}


def put(root: Path, name: str, values: dict[str, list[float]], **changes: Any) -> None:
    """A configuration with one run for each of the given scores; what is not given is as in METHOD.

    Each prediction is too high by the mean absolute error, so that its score is the same in every draw of videos.
    """
    for index in range(len(next(iter(values.values())))):
        scores = METHOD | {key: found[index] for key, found in values.items()}
        make_run(root, name, index + 1, scores, np.float32(np.nan_to_num(scores["mae"], nan=0.01)) + TARGET, **changes)


# Cells --------------------------------------------------------------------------------------------------------------------------


def test_mean_and_sample_deviation_by_hand(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7, 0.8, 1.2]})  # mean 0.9, deviations -0.2 -0.1 0.3, variance 0.14 / 2
    found = rows(tmp_path)["misa"].cells["mae"]
    assert found.mean == pytest.approx(0.9)
    assert found.sd == pytest.approx(math.sqrt(0.07))
    assert found.n == 3


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    found = rows(tmp_path)["misa"].cells["mae"]
    assert (found.mean, found.n) == (0.7, 1)
    assert math.isnan(found.sd)


def test_a_seed_without_a_number_is_not_left_out(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.1, math.nan, 0.1]})
    put(tmp_path, "mult", {"mae": [0.8, 0.8, 0.8]})
    put(tmp_path, "tfn", {"mae": [0.9, 0.9, 0.9]})
    found = rows(tmp_path)
    assert math.isnan(found["misa"].cells["mae"].mean)
    assert not found["misa"].cells["mae"].best
    assert found["mult"].cells["mae"].best


# Best and second ----------------------------------------------------------------------------------------------------------------


def marks(root: Path, key: str) -> tuple[set[str], set[str]]:
    found = rows(root).items()
    return {name for name, row in found if row.cells[key].best}, {name for name, row in found if row.cells[key].second}


def test_best_and_second_follow_the_direction(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7, 0.7]})
    put(tmp_path, "mult", {"mae": [0.8, 0.8]})
    put(tmp_path, "tfn", {"mae": [0.9, 0.9]})
    assert marks(tmp_path, "mae") == ({"misa"}, {"mult"})
    assert marks(tmp_path, "corr") == ({"misa", "mult", "tfn"}, set())  # equal predictions but for a shift


def test_scores_that_print_alike_share_a_place(tmp_path: Path) -> None:
    """Though the interval of their difference has no width, and so excludes zero."""
    for name, value in {"misa": 0.70001, "mult": 0.70004, "tfn": 0.7011, "lmf": 0.75}.items():
        put(tmp_path, name, {"mae": [value]})
    assert marks(tmp_path, "mae") == ({"misa", "mult"}, {"tfn"})


def test_the_floors_of_experiments_that_say_the_same_are_one_row(tmp_path: Path) -> None:
    for experiment, mae in (("first", 1.2), ("second", 1.3), ("third", 1.2)):
        for name, value in (("constant", 1.5), ("linear", mae)):
            put(tmp_path, name, {"mae": [value, value], "corr": [math.nan] * 2}, floor=True, label=f"{name}-{experiment}", experiment=experiment)
    put(tmp_path, "constant", {"mae": [1.5]}, floor=True, label="constant-4", experiment="other seeds")
    make_run(tmp_path, "constant", 2, status="failed", floor=True, label="constant-5", experiment="failed")
    found = [(row.name, row.cells["mae"].mean) for row in only(tmp_path).rows if row.kind == "floor" and row.done]
    assert found == [
        ("constant (first)", pytest.approx(1.5)), ("constant (other seeds)", pytest.approx(1.5)),
        ("linear (first)", pytest.approx(1.2)), ("linear (second)", pytest.approx(1.3)),
    ]  # fmt: skip


def test_one_method_alone_is_not_best(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    make_run(tmp_path, "constant", 1, METHOD, floor=True)
    assert marks(tmp_path, "mae") == (set(), set())


@pytest.mark.parametrize("state", ["failed", "interrupted", "damaged", "pending"])
def test_a_row_with_a_missing_seed_takes_no_part(tmp_path: Path, state: str) -> None:
    put(tmp_path, "misa", {"mae": [0.1, 0.1, 0.1]})
    put(tmp_path, "mult", {"mae": [0.8, 0.8, 0.8]})
    put(tmp_path, "tfn", {"mae": [0.9, 0.9, 0.9]})
    assert marks(tmp_path, "mae") == ({"misa"}, {"mult"})
    folder = make_run(tmp_path, "misa", 4, METHOD, status="failed" if state in ("damaged", "pending") else state, reason="non-finite loss")
    if state == "damaged":
        (folder / "result.json").write_text("{")
    if state == "pending":
        (folder / "result.json").unlink()
    found = rows(tmp_path)["misa"]
    assert (found.done, found.total, found.competes) == (3, 4, False)
    assert found.cells["mae"].mean == pytest.approx(0.1)
    assert marks(tmp_path, "mae") == ({"mult"}, {"tfn"})


def test_a_pending_seed_is_noted_under_the_name_of_its_row(tmp_path: Path) -> None:
    for seed in (1, 2):
        folder = make_run(tmp_path, "w/o Homo", seed, label="misa-00ff")
    (folder / "result.json").unlink()
    assert "w/o Homo: seed 2 pending" in only(tmp_path).notes


def test_floors_and_the_oracle_never_compete(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    put(tmp_path, "mult", {"mae": [0.8]})
    put(tmp_path, "constant", {"mae": [0.01], "corr": [0.99]}, floor=True)
    assert marks(tmp_path, "mae") == ({"misa"}, {"mult"})
    assert [row.kind for row in only(tmp_path).rows] == ["method", "method", "floor", "oracle"]


# Floors -------------------------------------------------------------------------------------------------------------------------


def test_the_oracle_is_the_best_constant_on_the_stored_targets(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    table = only(tmp_path)
    oracle = table.rows[-1]
    assert oracle.name == ORACLE
    # targets -2 -1 -1 0 1 1.5 2 3: median 0.5; distances 2.5 1.5 1.5 .5 .5 1 1.5 2.5; without 0: 4 of 7 positive
    assert oracle.cells["mae"].mean == pytest.approx(11.5 / 8)
    assert oracle.cells["acc2_non0"].mean == pytest.approx(4 / 7)
    assert math.isnan(oracle.cells["corr"].mean)


def test_what_is_not_better_than_the_best_floor_is_marked(tmp_path: Path) -> None:
    put(tmp_path, "constant", {"mae": [1.5], "corr": [math.nan], "acc2_non0": [0.4]}, floor=True)  # worse than the oracle: 1.4375, 4/7
    put(tmp_path, "linear", {"mae": [1.2], "corr": [0.5], "acc2_non0": [0.5]}, floor=True)
    put(tmp_path, "misa", {"mae": [1.2], "corr": [0.51], "acc2_non0": [4 / 7]})
    put(tmp_path, "mult", {"mae": [1.1], "corr": [0.4], "acc2_non0": [0.6]})
    found = rows(tmp_path)
    assert {key: c.beaten for key, c in found["misa"].cells.items()} == {"mae": True, "corr": False, "acc2_non0": True}
    assert {key: c.beaten for key, c in found["mult"].cells.items()} == {"mae": False, "corr": True, "acc2_non0": False}
    assert not any(c.beaten for name in ("constant", "linear", ORACLE) for c in found[name].cells.values())


def test_a_collapsed_method_at_the_floor_is_not_better_by_rounding(tmp_path: Path) -> None:
    """Summing 0.6937 five times and dividing gives another last bit than 0.6937 itself."""
    values = [317 / 457, 317 / 457, 317 / 457]
    put(tmp_path, "constant", {"acc2_non0": values[:1]}, floor=True)
    put(tmp_path, "misa", {"acc2_non0": [value + 1e-13 for value in values]})
    assert rows(tmp_path)["misa"].cells["acc2_non0"].beaten


def test_experiments_on_the_same_data_share_floors_and_a_table(tmp_path: Path) -> None:
    for experiment in ("first", "second"):
        put(tmp_path, "constant", {"mae": [1.5, 1.5]}, floor=True, experiment=experiment)
        put(tmp_path, "misa", {"mae": [0.7, 0.9]}, experiment=experiment)
    names = [(row.name, row.done, row.total) for row in only(tmp_path).rows]
    assert names == [("misa (first)", 2, 2), ("misa (second)", 2, 2), ("constant", 2, 2), (ORACLE, 0, 0)]


def test_configurations_of_one_name_are_told_apart_by_label(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]}, label="misa-aaa")
    put(tmp_path, "misa", {"mae": [0.8]}, label="misa-bbb")
    assert [row.name for row in only(tmp_path).rows[:2]] == ["misa (misa-aaa)", "misa (misa-bbb)"]


# Tables -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"name": "mosei", "title": "CMU-MOSEI"},
        {"fingerprint": "beef"},
        {"modalities": ["text"]},
        {"metrics": ["mae", "corr"]},
    ],
)
def test_runs_on_different_data_never_share_a_table(tmp_path: Path, data: dict[str, Any]) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    put(tmp_path, "mult", {"mae": [0.8]}, data=data)
    tables = build_tables(find_runs(tmp_path))
    assert sorted(table.rows[0].name for table in tables) == ["misa", "mult"]
    assert len({table.title for table in tables}) == 2 or "metrics" in data


def test_title_tells_simulated_split_and_modalities(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]}, data={"simulated": True})
    table = only(tmp_path)
    assert table.simulated
    assert table.title == "SIMULATED CMU-MOSI; train 1284, valid 229, test 8; text, audio"


@pytest.mark.parametrize(("status", "words"), [("published", "published split"), ("sizes", "split of the published sizes"), ("own", "OWN SPLIT")])
def test_title_tells_whose_split_it_is(tmp_path: Path, status: str, words: str) -> None:
    put(tmp_path, "misa", {"mae": [0.7]}, data={"split_status": status, "layout": "aligned"})
    assert only(tmp_path).title == f"CMU-MOSI; {words} (train 1284, valid 229, test 8); aligned text, audio"


def test_a_split_of_a_users_own_data_is_not_called_published(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]}, data={"split_status": "published", "name": "clips", "title": "clips"})
    assert only(tmp_path).title == "clips; split of its manifest (train 1284, valid 229, test 8); text, audio"


@pytest.mark.parametrize("splits", [None, [], {"test": 8}, {"test": {}}])
def test_title_does_without_sizes(tmp_path: Path, splits: object) -> None:
    put(tmp_path, "misa", {"mae": [0.7]}, data={"splits": splits, "title": ""})
    assert only(tmp_path).title == "mosi; text, audio"


def test_per_class_metrics_have_a_column_for_each_class(tmp_path: Path) -> None:
    classes = ["happy", "sad"]
    scores = {"uar": 0.6, "recall[happy]": 1.0, "recall[sad]": 0.2}
    data = {"task": "classification", "classes": classes, "metrics": ["uar", "recall_per_class"]}
    make_run(tmp_path, "misa", 1, scores, data=data)
    make_run(tmp_path, "constant", 1, {"uar": 0.5, "recall[happy]": 1.0, "recall[sad]": 0.0}, data=data, floor=True)
    table = only(tmp_path)
    assert [column.key for column in table.columns] == ["uar", "recall[happy]", "recall[sad]"]
    assert all(column.percent and column.higher_is_better for column in table.columns)
    assert math.isnan(table.rows[-1].cells["uar"].mean)  # the stored targets of these folders are no class indices
    assert any("targets must be class indices from 0 to 1" in note for note in table.notes)
    assert not table.rows[0].cells["recall[happy]"].beaten  # a constant recognises one class always: that says nothing


def test_failed_configurations_stand_with_their_reason(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    for seed in (1, 2):
        make_run(tmp_path, "mult", seed, METHOD, status="failed", reason="non-finite loss in epoch 2", data={"name": ""})
    make_run(tmp_path, "slad", 1, METHOD, status="incompatible", reason="needs two modalities")
    table = only(tmp_path)
    row = next(row for row in table.rows if row.name == "mult")
    assert (row.done, row.total) == (0, 2)
    assert all(math.isnan(c.mean) and c.n == 0 for c in row.cells.values())
    assert "mult: seeds 1, 2 failed: non-finite loss in epoch 2" in table.notes
    assert "slad: incompatible: needs two modalities" in table.notes
    assert "slad" not in {row.name for row in table.rows}


def test_runs_that_no_table_can_be_told_for_are_still_named(tmp_path: Path) -> None:
    make_run(tmp_path, "mult", 1, METHOD, status="failed", reason="no data", data={"name": ""})
    table = only(tmp_path)
    assert not table.rows
    assert table.notes == ("mult: seed 1 failed: no data",)


def test_a_copied_run_counts_once(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    put(tmp_path / "copy", "misa", {"mae": [0.1]})
    table = only(tmp_path)
    assert (table.rows[0].done, table.rows[0].total) == (1, 1)
    assert any("seed 1 is there twice" in note for note in table.notes)


def test_different_seeds_are_noted(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7, 0.7]})
    put(tmp_path, "mult", {"mae": [0.7]})
    assert any(note == "rows rest on different seeds: misa: 1, 2; mult: 1" for note in only(tmp_path).notes)


def test_missing_predictions_leave_the_oracle_empty_with_a_note(tmp_path: Path) -> None:
    put(tmp_path, "misa", {"mae": [0.7]})
    for path in tmp_path.rglob("predictions.csv.gz"):
        path.unlink()
    table = only(tmp_path)
    assert math.isnan(table.rows[-1].cells["mae"].mean)
    assert any("there are no stored predictions" in note for note in table.notes)


def test_features_that_were_extracted_are_said_to_be(tmp_path: Path) -> None:
    used = {"text": {"name": "mmbench-extractors/hf-text"}, "audio": {"name": "opensmile"}, "aligner": {"name": "mmbench/times"}}
    make_run(tmp_path, "misa", 1, {"mae": 0.5}, data={"modalities": ["text", "audio"], "extraction": {"extractors": used}})
    assert only(tmp_path).title.endswith("text, audio; features extracted with hf-text, opensmile")


def test_a_metric_that_is_not_installed_is_shown_without_marks(tmp_path: Path) -> None:
    for name, value in (("misa", 0.1), ("mult", 0.2)):
        make_run(tmp_path, name, 1, {"mae": 0.5, "novel": value}, data={"metrics": ["mae", "novel"]})
    table = only(tmp_path)
    assert table.columns[1].higher_is_better is None
    assert [row.cells["novel"].mean for row in table.rows[:2]] == [0.1, 0.2]
    assert not any(row.cells["novel"].best or row.cells["novel"].beaten for row in table.rows)


def test_scores_of_one_class_are_chosen_by_the_name_of_their_metric(tmp_path: Path) -> None:
    data = {"task": "classification", "classes": ["happy", "sad"], "metrics": ["uar", "recall_per_class"]}
    make_run(tmp_path, "misa", 1, {"uar": 0.6, "recall[happy]": 1.0, "recall[sad]": 0.2}, data=data)
    make_run(tmp_path, "mult", 1, METHOD)
    for shown, columns in ((["recall_per_class"], ["recall[happy]", "recall[sad]"]), (["recall[sad]", "uar"], ["recall[sad]", "uar"])):
        (table,) = build_tables(find_runs(tmp_path), shown=shown)
        assert [c.key for c in table.columns] == columns
        assert list(table.rows[0].cells) == columns
    with pytest.raises(ConfigError, match="there are acc2_non0, corr, mae, recall"):
        build_tables(find_runs(tmp_path), shown=["recall[angry]"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_cells_do_not_depend_on_the_order_of_seeds(values: list[float], order: random.Random) -> None:
    shuffled = order.sample(values, len(values))
    first, second = cell(values), cell(shuffled)
    assert (first.mean, first.sd) == pytest.approx((second.mean, second.sd), nan_ok=True)
    assert first.mean == pytest.approx(sum(values) / len(values))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0.125, 2, width=16), st.booleans()), min_size=2, max_size=5))
def test_dropping_a_seed_never_makes_a_row_best(values: list[tuple[float, bool]]) -> None:
    data = {"name": "mosi", "metrics": ["mae"]}
    with tempfile.TemporaryDirectory() as root:
        records = []
        for index, (value, fails) in enumerate(values):
            for seed in (1, 2):
                failed = fails and seed == 2
                scores = {} if failed else {"test": {"mae": value}}
                folder = Path(root) / f"{index}-{seed}"
                folder.mkdir()
                write_predictions(folder / "predictions.csv.gz", {"test": (IDS, TARGET, TARGET + np.float32(value))})
                status = "failed" if failed else "done"
                records.append(RunRecord(folder, status, "", "demo", f"m{index}-x", f"m{index}", seed=seed, data=data, metrics=scores))
        (table,) = build_tables(records)
    complete = [round(value, 3) for value, fails in values if not fails]
    best = {row.name for row in table.rows if row.cells["mae"].best}
    for index, (value, fails) in enumerate(values):
        expected = not fails and len(complete) > 1 and f"{value:.3f}" == f"{min(v for v, f in values if not f):.3f}"
        assert (f"m{index}" in best) == expected


def test_the_runs_of_the_target_are_what_the_hand_calculation_assumed() -> None:
    assert np.median(TARGET) == 0.5
    assert TARGET.tolist().count(0.0) == 1


def test_classification_tables_have_an_oracle(tmp_path: Path) -> None:
    data = {"task": "classification", "classes": ["happy", "sad", "angry"], "metrics": ["wacc", "uar", "recall_per_class"]}
    scores = {"wacc": 0.7, "uar": 0.3, "recall[happy]": 0.5, "recall[sad]": 0.5, "recall[angry]": None}
    folder = make_run(tmp_path, "misa", 1, scores, data=data)
    target = np.array([0, 0, 0, 1])
    write_predictions(folder / "predictions.csv.gz", {"test": (tuple("abcd"), target, np.eye(3, dtype=np.float32)[target])})
    misa, oracle = only(tmp_path).rows
    assert (oracle.cells["wacc"].mean, oracle.cells["uar"].mean) == (0.75, 0.5)
    assert math.isnan(oracle.cells["recall[happy]"].mean)
    assert [key for key, c in misa.cells.items() if c.beaten] == ["wacc", "uar"]
