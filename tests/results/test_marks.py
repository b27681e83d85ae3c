"""Who shares best and second, and which notes say why a row does not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.component import Metric
from mmbench.metrics import METRICS
from mmbench.results.predictions import write_predictions
from mmbench.results.runs import find_runs
from mmbench.results.statistics import Resampling, additive_of, scorer
from mmbench.results.tables import Table, build_tables

from .folders import make_run

VIDEOS, EACH = 30, 3
TARGET = np.tile(np.array([-2, -0.5, 1.5], np.float32), VIDEOS)
IDS = tuple(f"v{index // EACH}/{index}" for index in range(len(TARGET)))


def errors(name: str, seed: int, size: float) -> np.ndarray:
    """Absolute errors (N,) around a size; each video and each sample has its own."""
    rng = np.random.default_rng([*map(ord, name), seed])
    video = np.repeat(np.random.default_rng(7).normal(0, 0.1, VIDEOS), EACH)  # hard videos are hard for all
    return np.clip(size + video + rng.normal(0, 0.1, len(TARGET)), 0.01, None)


def put(root: Path, name: str, size: float | list[float], seeds: int = 3, ids: tuple[str, ...] = IDS, **changes: Any) -> None:
    """Finished runs whose score is that of their predictions."""
    sizes = size if isinstance(size, list) else [size] * seeds
    for seed, own in enumerate(sizes, 1):
        prediction = (TARGET + errors(name, seed, own)).astype(np.float32)
        mae = float(np.abs(prediction.astype(float) - TARGET).mean())
        data = {"metrics": ["mae"]} | changes.get("data", {})
        folder = make_run(root, name, seed, {"mae": mae}, np.zeros(8, np.float32), **{**changes, "data": data})
        write_predictions(folder / "predictions.csv.gz", {"test": (ids, TARGET, prediction)})


def only(root: Path, **changes: Any) -> Table:
    (table,) = build_tables(find_runs(root), draws=500, **changes)
    return table


def marks(table: Table) -> tuple[set[str], set[str]]:
    return ({row.name for row in table.rows if row.cells["mae"].best}, {row.name for row in table.rows if row.cells["mae"].second})


def difference_of_videos(first: tuple[str, float], second: tuple[str, float]) -> float:
    """p of a paired t test over the videos' mean errors: an oracle from SciPy that knows nothing of the code here."""
    from scipy.stats import ttest_rel

    one, two = (np.mean([errors(name, seed, size) for seed in (1, 2, 3)], axis=0).reshape(VIDEOS, EACH).mean(1) for name, size in (first, second))
    return float(ttest_rel(one, two).pvalue)


def test_rows_that_cannot_be_told_apart_share_a_place(tmp_path: Path) -> None:
    sizes = {"misa": 0.500, "mult": 0.501, "tfn": 0.600, "lmf": 0.606, "last": 0.9}
    for name, size in sizes.items():
        put(tmp_path, name, size)
    pairs = {pair: difference_of_videos(*((name, sizes[name]) for name in pair)) for pair in (("misa", "mult"), ("tfn", "lmf"), ("mult", "tfn"))}
    assert pairs["misa", "mult"] > 0.2
    assert pairs["tfn", "lmf"] > 0.2
    assert pairs["mult", "tfn"] < 1e-6
    table = only(tmp_path)
    assert marks(table) == ({"misa", "mult"}, {"tfn", "lmf"})
    assert len({f"{row.cells['mae'].mean:.3f}" for row in table.rows if row.kind == "method"}) == 5  # none by print alone
    assert not table.notes


def test_seeds_that_differ_much_make_a_row_hard_to_tell(tmp_path: Path) -> None:
    """Its mean is worse than the second's, but it may still be the best."""
    put(tmp_path, "misa", 0.50)
    put(tmp_path, "mult", 0.60)
    put(tmp_path, "wild", [0.3, 0.7, 0.95])
    table = only(tmp_path)
    assert marks(table) == ({"misa", "wild"}, {"mult"})
    means = {row.name: row.cells["mae"].mean for row in table.rows}
    assert means["misa"] < means["mult"] < means["wild"]


def test_without_draws_nothing_is_marked(tmp_path: Path) -> None:
    put(tmp_path, "misa", 0.5)
    put(tmp_path, "mult", 0.9)
    (table,) = build_tables(find_runs(tmp_path), draws=0)
    assert marks(table) == (set(), set())
    assert not table.notes


@pytest.mark.parametrize(("damage", "reason"), [("gone", "no stored predictions"), ("broken", "damaged"), ("others", "test samples are not those")])
def test_a_row_that_cannot_be_compared_is_named_and_the_others_are_ranked(tmp_path: Path, damage: str, reason: str) -> None:
    put(tmp_path, "misa", 0.1)
    put(tmp_path, "mult", 0.5)
    put(tmp_path, "tfn", 0.9)
    for path in tmp_path.glob("demo/misa*/seed-2/predictions.csv.gz"):
        path.write_bytes(b"x") if damage == "broken" else path.unlink()
    if damage == "others":
        for path in tmp_path.glob("demo/misa*/seed-*"):
            write_predictions(path / "predictions.csv.gz", {"test": (IDS[::-1], TARGET, TARGET + np.float32(0.1))})
    table = only(tmp_path)
    assert marks(table) == ({"mult"}, {"tfn"})
    (note,) = [note for note in table.notes if note.startswith("misa: is not ranked: ")]
    assert reason in note


def test_a_row_on_other_seeds_is_not_ranked(tmp_path: Path) -> None:
    put(tmp_path, "misa", 0.1, seeds=2)
    put(tmp_path, "mult", 0.5)
    put(tmp_path, "tfn", 0.9)
    table = only(tmp_path)
    assert marks(table) == ({"mult"}, {"tfn"})
    assert "misa: is not ranked: it rests on other seeds" in table.notes
    assert any(note.startswith("rows rest on different seeds") for note in table.notes)


def test_places_from_one_seed_say_that_they_rest_on_videos_alone(tmp_path: Path) -> None:
    put(tmp_path, "misa", 0.1, seeds=1)
    put(tmp_path, "mult", 0.9, seeds=1)
    table = only(tmp_path)
    assert marks(table) == ({"misa"}, {"mult"})
    assert "one seed says nothing of other seeds: the intervals behind best and second are over test videos alone" in table.notes


def test_one_video_ranks_nobody(tmp_path: Path) -> None:
    ids = tuple(f"same/{index}" for index in range(len(TARGET)))
    put(tmp_path, "misa", 0.1, ids=ids)
    put(tmp_path, "mult", 0.9, ids=ids)
    table = only(tmp_path)
    assert marks(table) == (set(), set())
    assert any(note.startswith("rows are not ranked by mae: one test video") for note in table.notes)


def test_a_draw_without_a_score_unranks_the_row_in_that_score(tmp_path: Path) -> None:
    """A correlation of predictions that are constant within all videos but one is not there in draws without that video."""
    for name, size in (("misa", 0.1), ("mult", 0.5), ("tfn", 0.9)):
        put(tmp_path, name, size, data={"metrics": ["mae", "corr"]})
    for path in tmp_path.glob("demo/tfn*/seed-*/predictions.csv.gz"):
        write_predictions(path, {"test": (IDS, TARGET, np.where(np.arange(len(TARGET)) < EACH, TARGET, np.float32(0.5)))})
    for path in tmp_path.glob("demo/*/seed-*/result.json"):
        path.write_text(path.read_text().replace('"test": {"mae"', '"test": {"corr": 0.5, "mae"'))
    table = only(tmp_path)
    assert "tfn: is not ranked by corr: a draw of test videos has no score" in table.notes
    assert not next(row for row in table.rows if row.name == "tfn").cells["corr"].best
    assert next(row for row in table.rows if row.name == "misa").cells["corr"].best


def environment(device: str, git: str | None, release: str = "0.1.0") -> dict[str, Any]:
    return {"device_name": device, "git": git, "packages": {"mmbench": release}}


def test_devices_and_versions_are_noted_where_they_differ(tmp_path: Path) -> None:
    for name, device, git in (("misa", "x86_64", "a" * 40), ("mult", "x86_64", "a" * 40)):
        make_run(tmp_path, name, environment=environment(device, git))
    assert not build_tables(find_runs(tmp_path), draws=0)[0].notes
    make_run(tmp_path, "tfn", environment=environment("H200", "b" * 40 + "-dirty"))
    make_run(tmp_path, "lmf", environment=environment("x86_64", None, "0.2.0"))
    notes = build_tables(find_runs(tmp_path), draws=0)[0].notes
    assert notes == (
        "times and memory are not comparable between devices: x86_64 (lmf, misa, mult); H200 (tfn)",
        "runs were made by different versions of the code, so that times and scores may differ for that alone: "
        "0.2.0 (lmf); aaaaaaaaaa (misa, mult); bbbbbbbbbb-dirty (tfn)",
    )


def test_code_of_a_plugin_that_was_edited_between_seeds_is_noted(tmp_path: Path) -> None:
    for seed, source in ((1, "a1"), (2, "a1"), (3, "b2")):
        make_run(tmp_path, "misa", seed=seed, environment={"sources": {"mmbench_mine": source}})
    make_run(tmp_path, "mult", environment={"sources": {"mmbench_other": "c3"}})
    notes = build_tables(find_runs(tmp_path), draws=0)[0].notes
    assert "the code of mmbench_mine was changed between runs; --rerun all makes them anew: a1 (misa); b2 (misa)" in notes


@pytest.mark.parametrize("value", [3, ["x"], {"mmbench": 3}, None])
def test_a_strange_environment_is_no_traceback(tmp_path: Path, value: Any) -> None:
    make_run(tmp_path, "misa", environment={"device_name": value, "git": value, "packages": value})
    make_run(tmp_path, "mult", environment=environment("x", "y"))
    assert build_tables(find_runs(tmp_path), draws=0)[0].rows


def test_peak_memory_is_the_mean_over_runs_that_tell_it(tmp_path: Path) -> None:
    for seed, size in ((1, 100.0), (2, 300.0), (3, None)):
        make_run(tmp_path, "misa", seed, peak_memory_mb=size)
    make_run(tmp_path, "mult", 1, peak_memory_mb=None)
    found = {row.name: row.memory for row in build_tables(find_runs(tmp_path), draws=0)[0].rows}
    assert found["misa"] == 200
    assert math.isnan(found["mult"])


def test_recalls_are_drawn_as_quickly_as_other_scores_and_to_the_same_numbers() -> None:
    rng = np.random.default_rng(4)
    target = rng.integers(0, 3, 40)
    prediction = rng.normal(size=(2, 40, 3))
    drawing = Resampling([f"v{index // 5}/{index}" for index in range(40)], 50)
    score = scorer("recall[sad]", ("happy", "sad", "angry"), METRICS)
    assert additive_of(score) is not None
    recall_score = pytest.importorskip("sklearn.metrics").recall_score
    slow = drawing.scores(lambda p, y: score(p, y), prediction, target)
    np.testing.assert_allclose(drawing.scores(score, prediction, target), slow)
    own = [recall_score(target, p.argmax(1), labels=[1], average="macro") for p in prediction]
    np.testing.assert_allclose(slow[0], own)


def test_a_score_that_is_computed_anew_on_each_draw_has_fewer_draws(tmp_path: Path) -> None:
    """A metric of a plugin: 200 draws, and the others as many as asked for."""
    known = {**METRICS, "novel": Metric("novel", lambda p, y: float(np.abs(p - y).max()), False, (0, math.inf), ("regression",))}
    calls = []
    counted = replace(known["novel"], function=lambda p, y: calls.append(1) or float(np.abs(p - y).mean()))
    for name, size in (("misa", 0.1), ("mult", 0.9)):
        put(tmp_path, name, size, data={"metrics": ["mae", "novel"]})
    for path in tmp_path.glob("demo/*/seed-*/result.json"):
        path.write_text(path.read_text().replace('"test": {"mae"', f'"test": {{"novel": {0.1 if "misa" in str(path) else 0.9}, "mae"'))
    (table,) = build_tables(find_runs(tmp_path), {**known, "novel": counted})
    assert [row.name for row in table.rows if row.cells["novel"].best] == ["misa"]
    assert len(calls) < 2000  # with 2000 draws: 12000, and what the oracle tries
    assert "novel: the intervals behind best and second are from 200 draws" in table.notes
