"""Contests: what is compared, what is refused with which reason, and that nothing incomplete is ever significant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.component import Metric
from mmbench.errors import ConfigError, DataError
from mmbench.metrics import METRICS
from mmbench.results import comparison
from mmbench.results.comparison import OTHER_SAMPLES, Comparison, Contest, contest_of, corrected
from mmbench.results.runs import RunRecord, find_runs
from mmbench.results.statistics import Resampling
from mmbench.results.tables import build_tables

from .folders import IDS, TARGET, make_run

VIDEOS, CLIPS = 12, 3
NAMES = tuple(f"v{video}/{clip}" for video in range(VIDEOS) for clip in range(CLIPS))
TRUTH = np.random.default_rng(0).normal(size=len(NAMES))


def contest(
    predictions: Mapping[str, np.ndarray | Sequence[np.ndarray]],
    target: np.ndarray = TRUTH,
    ids: Sequence[str] | Mapping[str, Sequence[str]] = NAMES,
    seeds: Mapping[str, Sequence[int]] | None = None,
    known: Mapping[str, Metric] = METRICS,
    **options: Any,
) -> Contest:
    """A contest of predictions (S, N) by configuration, or one such array for each part, without files."""
    stored, runs = {}, {}
    for name, values in predictions.items():
        parts = [np.asarray(values)] if isinstance(values, np.ndarray) else list(values)
        runs[name] = {}
        for place, seed in enumerate((seeds or {}).get(name, range(1, len(parts[0]) + 1))):
            runs[name][seed] = []
            for part, array in enumerate(parts):
                folder = Path(f"{name}/{part}/seed-{seed}")
                own = ids[str(part)] if isinstance(ids, Mapping) else ids
                stored[folder / "predictions.csv.gz"] = {"test": (tuple(own), target, array[place])}
                runs[name][seed].append(RunRecord(folder, "done", data={"task": "regression"}))
    with mock.patch.object(comparison, "read_predictions", stored.__getitem__):
        return Contest(runs, known, **{"draws": 300, **options})


def noisy(size: float, seeds: int = 3, seed: int = 1) -> np.ndarray:
    return TRUTH + size * np.random.default_rng(seed).normal(size=(seeds, len(TRUTH)))


def numbers(found: Comparison) -> tuple[float, ...]:
    return found.difference, found.low, found.high, found.p, found.sign_flip, found.improvement


def test_means_and_differences_by_hand() -> None:
    """Two seeds, two videos of two clips, absolute errors written out."""
    target = np.zeros(4)
    first = np.array([[1.0, 1.0, 2.0, 2.0], [2.0, 2.0, 3.0, 3.0]])  # 1.5, 2.5
    second = np.array([[2.0, 2.0, 2.0, 2.0], [4.0, 4.0, 4.0, 4.0]])  # 2, 4
    found = contest({"a": first, "b": second}, target, ("x/1", "x/2", "y/1", "y/2")).compare("a", "b", "mae")
    assert found.means == (2, 3)
    assert found.difference == -1
    assert found.seeds == (1, 2)
    assert found.videos == 2
    assert (found.sign_flip, found.sign_flip_floor) == (0.5, 0.5)
    assert found.improvement == pytest.approx((1 + 1 + 0 + 1) / 4)
    assert found.better == "a"
    assert found.higher_is_better is False
    assert found.p_holm == found.p


def test_scores_are_drawn_with_the_metric_and_compared_as_the_statistics_say() -> None:
    first, second = noisy(0.5), noisy(1.0, seed=2)
    found = contest({"a": first, "b": second}).compare("a", "b", "mae")
    drawing = Resampling(NAMES, 300)
    scores = [drawing.scores(METRICS["mae"].function, values, TRUTH) for values in (first, second)]
    expected = drawing.interval(*scores)
    assert (found.low, found.high, found.p) == pytest.approx((expected.low, expected.high, expected.p))
    assert found.significant
    assert found.better == "a"


@given(st.integers(0, 10**6), st.floats(0, 0.5), st.sampled_from(["mae", "corr", "acc2_non0"]))
@settings(max_examples=25, deadline=None)
def test_what_must_not_matter(seed: int, shift: float, key: str) -> None:
    """Swapping both negates the difference and keeps p; the order of samples and the names of seeds change nothing."""
    first, second = noisy(0.7, seed=seed) + shift, noisy(0.8, seed=seed + 1)
    found = contest({"a": first, "b": second}).compare("a", "b", key)
    turned = contest({"b": second, "a": first}).compare("b", "a", key)
    assert (-turned.difference, -turned.high, -turned.low, turned.p) == pytest.approx((found.difference, found.low, found.high, found.p))
    assert turned.sign_flip == found.sign_flip
    assert turned.improvement == pytest.approx(1 - found.improvement)
    assert turned.better == found.better
    order = np.random.default_rng(seed).permutation(len(TRUTH))
    mixed = contest({"a": first[:, order], "b": second[:, order]}, TRUTH[order], [NAMES[place] for place in order])
    assert numbers(mixed.compare("a", "b", key)) == pytest.approx(numbers(found))
    renamed = contest({"a": first[::-1], "b": second[::-1]}, seeds={"a": (4, 5, 9), "b": (4, 5, 9)}).compare("a", "b", key)
    assert numbers(renamed) == pytest.approx(numbers(found))


def test_equal_runs_have_p_one_and_an_interval_with_zero() -> None:
    same = noisy(1.0)
    found = contest({"a": same, "b": same.copy()}).compare("a", "b", "mae")
    assert (found.difference, found.low, found.high, found.p, found.sign_flip, found.improvement) == (0, 0, 0, 1, 1, pytest.approx(0.5))
    assert not found.significant
    assert not found.excludes_zero
    assert found.better == ""


def test_a_constant_added_to_all_errors_moves_the_difference_and_nothing_else() -> None:
    """Predictions above all targets: their absolute errors grow by what is added to them."""
    first, second = np.abs(noisy(1.0)) + 9, np.abs(noisy(1.0, seed=2)) + 9
    zero = np.zeros(len(TRUTH))
    before = contest({"a": first, "b": second}, zero).compare("a", "b", "mae")
    after = contest({"a": first + 0.25, "b": second}, zero).compare("a", "b", "mae")
    assert (after.difference, after.low, after.high) == pytest.approx(tuple(x + 0.25 for x in (before.difference, before.low, before.high)))
    both = contest({"a": first + 0.25, "b": second + 0.25}, zero).compare("a", "b", "mae")
    assert numbers(both) == pytest.approx(numbers(before))


def test_a_score_that_is_no_number_is_never_significant() -> None:
    constant = np.full((3, len(TRUTH)), 0.5)
    found = contest({"a": constant, "b": noisy(0.1), "c": noisy(2.0, seed=3)}).pairs("corr")
    untold = [c for c in found if "a" in (c.first, c.second)]
    assert len(untold) == 2
    for c in untold:
        assert math.isnan(c.difference)
        assert math.isnan(c.p_holm)
        assert not c.significant
        assert c.better == ""
        assert c.reason == "the score of a is not a number"
    (told,) = (c for c in found if c not in untold)
    assert (told.first, told.second) == ("b", "c")  # the better mean stands first
    assert told.p_holm == told.p  # what is no test is not counted


def test_a_draw_without_a_score_gives_no_interval() -> None:
    """Only one video has a label that is not zero, so that some draws have no Non0 accuracy."""
    target = np.where(np.arange(len(NAMES)) < CLIPS, 1.0, 0.0)
    found = contest({"a": noisy(0.1), "b": noisy(1.0)}, target).compare("a", "b", "acc2_non0")
    assert np.isfinite(found.difference)
    assert math.isnan(found.p)
    assert found.reason == "a draw of test videos has no score"


def test_a_seed_that_is_not_done_in_both_means_no_test() -> None:
    """The difference of the common seeds is told, without interval, p or sign flip; also where a seed was asked for and failed in both."""
    first, second = noisy(0.1, 4), noisy(1.0, 3, seed=2)
    predictions, seeds = {"a": first, "b": second}, {"a": (1, 2, 3, 4), "b": (1, 3, 4)}
    found = contest(predictions, seeds=seeds).compare("a", "b", "mae")
    assert found.seeds == (1, 3, 4)
    assert found.means[0] == pytest.approx(np.abs(first[[0, 2, 3]] - TRUTH).mean())
    assert found.reason == "seed 2: not done in both, so nothing is tested, and the difference is that of the others"
    assert np.isnan([found.low, found.high, found.p, found.p_holm, found.sign_flip]).all()
    assert not found.significant
    assert not found.excludes_zero
    complete = contest({"a": first, "b": noisy(1.0, 4, seed=2)})
    assert complete.compare("a", "b", "mae").significant
    failed = contest({"a": first, "b": noisy(1.0, 4, seed=2)}, asked={"a": (1, 2, 3, 4, 5), "b": (1, 2, 3, 4, 5, 6)})
    assert failed.compare("a", "b", "mae").reason == "seeds 5, 6: not done in both, so nothing is tested, and the difference is that of the others"
    other = contest(predictions, seeds={"a": (1, 2, 3, 4), "b": (7, 8, 9)})
    assert other.compare("a", "b", "mae").reason == "no seed is done in both"


def test_one_seed_is_never_significant() -> None:
    found = contest({"a": noisy(0.1, 1), "b": noisy(2.0, 1)}).compare("a", "b", "mae")
    assert found.excludes_zero
    assert found.p < 0.001
    assert found.sign_flip == found.sign_flip_floor == 1
    assert not found.significant


def test_one_video_has_no_interval() -> None:
    ids = [f"v/{clip}" for clip in range(len(TRUTH))]
    found = contest({"a": noisy(0.1), "b": noisy(2.0)}, ids=ids).compare("a", "b", "mae")
    assert found.reason == "one test video: nothing can be drawn"
    assert math.isnan(found.low)
    assert not found.significant
    utterances = contest({"a": noisy(0.1), "b": noisy(2.0)}, ids=ids, unit="utterance").compare("a", "b", "mae")
    assert utterances.videos == len(TRUTH)
    assert utterances.significant


def test_utterances_as_units_give_a_narrower_interval_where_videos_differ() -> None:
    per_video = np.repeat(np.random.default_rng(3).normal(size=VIDEOS), CLIPS)
    base = np.full((3, len(TRUTH)), 9.0)
    both = {"a": base + per_video, "b": base}
    videos, utterances = (contest(both, np.zeros(len(TRUTH)), unit=unit).compare("a", "b", "mae") for unit in ("video", "utterance"))
    assert (videos.high - videos.low) / (utterances.high - utterances.low) == pytest.approx(CLIPS**0.5, rel=0.2)
    assert (videos.videos, utterances.videos) == (VIDEOS, len(TRUTH))


def test_other_test_samples_are_a_problem_of_those_that_are_alone_with_them() -> None:
    target = TRUTH.copy()
    target[0] += 1
    stored = {"a": (NAMES, TRUTH), "b": (NAMES, TRUTH), "c": (NAMES, target), "d": (NAMES[:-1], TRUTH[:-1])}
    files = {Path(f"{name}/predictions.csv.gz"): {"test": (ids, truth, truth)} for name, (ids, truth) in stored.items()}
    runs = {name: {1: [RunRecord(Path(name), "done")]} for name in ("c", "d", "a", "b")}
    with mock.patch.object(comparison, "read_predictions", files.__getitem__):
        found = Contest(runs, METRICS, 100)
    assert found.problems == {"c": OTHER_SAMPLES, "d": OTHER_SAMPLES}
    assert found.compare("c", "a", "mae").reason == f"c: {OTHER_SAMPLES}"
    assert found.compare("a", "b", "mae").p == 1
    assert sum(not math.isnan(c.p) for c in found.against("a", ["mae", "corr"])) == 2


def test_predictions_that_cannot_be_used_are_a_problem_with_its_reason() -> None:
    good = {"test": (NAMES, TRUTH, TRUTH)}
    stored: dict[str, Any] = {
        "good": good,
        "nan": {"test": (NAMES, TRUTH, TRUTH * np.nan)},
        "none": {"valid": good["test"]},
        "seeds/1": good,
        "seeds/2": {"test": (NAMES, -TRUTH, TRUTH)},
    }

    def read(path: Path) -> Any:
        if str(path.parent) not in stored:
            raise DataError(f"{path}: there are no stored predictions")
        return stored[str(path.parent)]

    runs = {name: {1: [RunRecord(Path(name), "done")]} for name in ("good", "nan", "none", "absent")}
    runs["seeds"] = {seed: [RunRecord(Path(f"seeds/{seed}"), "done")] for seed in (1, 2)}
    with mock.patch.object(comparison, "read_predictions", read):
        found = Contest(runs | {"empty": {}}, METRICS, 100)
    assert list(found.problems) == ["nan", "none", "absent", "seeds", "empty"]
    for name, reason in (
        ("nan", "are NaN or infinite"),
        ("none", "no test predictions are stored"),
        ("absent", "there are no stored predictions"),
        ("seeds", "its seeds have different test samples"),
        ("empty", "no seed is done"),
    ):
        assert reason in found.problems[name]
    assert Contest({}, METRICS).pairs("mae") == []


def test_metrics_that_are_not_here_or_fail_give_a_reason() -> None:
    def broken(prediction: np.ndarray, target: np.ndarray) -> float:
        raise ValueError("needs two labels")

    known = METRICS | {"broken": Metric("broken", broken, True, (0, 1), ("regression",), "fails")}
    found = contest({"a": noisy(1.0), "b": noisy(2.0)}, known=known)
    assert found.compare("a", "b", "unheard_of").reason == "no installed plugin has the metric unheard_of"
    assert found.compare("a", "b", "broken").reason == "needs two labels"
    assert found.compare("a", "b", "broken").better == ""
    with pytest.raises(ConfigError, match="there is no configuration 'z' to compare; there are a, b"):
        found.compare("a", "z", "mae")


def test_holm_counts_what_is_compared_together() -> None:
    four = contest({name: noisy(size, seed=place) for place, (name, size) in enumerate({"a": 0.4, "b": 0.5, "c": 0.9, "d": 0.7}.items())})
    alone = {name: four.compare(name, "b", "mae").p for name in "acd"}
    together = {c.first: c.p_holm for c in four.against("b", ["mae"])}
    ordered = sorted(alone, key=alone.__getitem__)
    expected, largest = {}, 0.0
    for place, name in enumerate(ordered):
        largest = max(largest, min(1.0, alone[name] * (3 - place)))
        expected[name] = largest
    assert together == pytest.approx(expected)
    pairs = four.pairs("mae")
    assert [(c.first, c.second) for c in pairs][:3] == [("a", "b"), ("a", "d"), ("a", "c")]
    assert len(pairs) == 6
    assert min(c.p for c in pairs) * 6 == pytest.approx(min(c.p_holm for c in pairs))
    assert corrected([]) == []


def test_parts_are_averaged_and_those_of_the_same_videos_are_drawn_together() -> None:
    """What a video adds to one part it takes from the other: drawn together it cancels, drawn apart it does not."""
    per_video = np.repeat(np.random.default_rng(3).normal(size=VIDEOS), CLIPS)
    base = np.full((3, len(TRUTH)), 9.0)
    both = {"a": [base + 1 + per_video, base + 2 - per_video], "b": [base, base]}
    zero = np.zeros(len(TRUTH))
    together = contest(both, zero, {"0": NAMES, "1": NAMES}).compare("a", "b", "mae")
    assert together.difference == pytest.approx(1.5)
    assert together.high - together.low == pytest.approx(0, abs=1e-9)
    assert together.videos == VIDEOS
    apart = contest(both, zero, {"0": NAMES, "1": [f"w{name}" for name in NAMES]}).compare("a", "b", "mae")
    assert apart.difference == pytest.approx(1.5)
    assert apart.high - apart.low > 0.1
    assert apart.videos == 2 * VIDEOS


def test_the_contest_of_a_table(tmp_path: Path) -> None:
    """Methods with finished runs, the floors that are named, and the seeds that failed."""
    for seed in (1, 2, 3):
        make_run(tmp_path, "mult", seed)
        make_run(tmp_path, "misa", seed, prediction=TARGET * np.float32(0.9), status="failed" if seed == 3 else "done")
        make_run(tmp_path, "linear", seed, floor=True)
    make_run(tmp_path, "tfn", 1, status="failed")
    for name in ("one", "two"):  # their second seed failed in both
        make_run(tmp_path, name, 1, experiment="pair")
        make_run(tmp_path, name, 2, experiment="pair", status="failed")
    (table,) = build_tables(find_runs(tmp_path), draws=0)
    found = contest_of(table, METRICS, 100)
    assert found.names == ("misa", "mult", "one", "two")
    assert found.compare("one", "two", "mae").reason == "seed 2: not done in both, so nothing is tested, and the difference is that of the others"
    assert found.compare("misa", "mult", "mae").reason == "seed 3: not done in both, so nothing is tested, and the difference is that of the others"
    with_floor = contest_of(table, METRICS, 100, also=("linear",))
    assert set(with_floor.names) - set(found.names) == {"linear"}
    same = with_floor.compare("mult", "linear", "mae")
    assert (same.p, same.videos) == (1, len({name.partition("/")[0] for name in IDS}))
