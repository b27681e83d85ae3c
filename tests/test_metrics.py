"""Metrics against hand-checked vectors, published floors and, on random and degenerate input, scikit-learn and SciPy."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmbench.component import Metric
from mmbench.errors import ConfigError, RunError
from mmbench.metrics import METRICS, PredictionError, best_constant, collapsed, evaluate, metric_of

sklearn_metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

REGRESSION = [name for name, metric in METRICS.items() if metric.tasks == ("regression",)]
CLASSIFICATION = [name for name, metric in METRICS.items() if metric.tasks == ("classification",)]

MOSI_Y = np.array([-1, 0, 0.5, 2.5, -2.5, 3])
MOSI_P = np.array([-0.2, 0.1, 1.5, 2.4, -3.6, 3.4])
SIMS_Y = np.array([-0.7, -0.1, 0, 0.1, 0.7, 1])


def score(name: str, prediction: np.ndarray, target: np.ndarray) -> float:
    return evaluate([name], prediction, target)[name]


# Hand-checked vectors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acc2_has0", 1.0),
        ("acc2_non0", 1.0),
        ("f1_has0", 1.0),
        ("f1_non0", 1.0),
        ("acc7", 3 / 6),  # round half up would give 2/6, truncation another value
        ("acc5", 4 / 6),  # y: -1 0 0 2 -2 2, p: 0 0 2(1.5) 2 -2 2
        ("acc3", 4 / 6),  # y: -1 0 0 1 -1 1, p: 0 0 1 1 -1 1
        ("mae", (0.8 + 0.1 + 1.0 + 0.1 + 1.1 + 0.4) / 6),  # -3.6 and 3.4 are not clipped
        ("mse", (0.64 + 0.01 + 1.0 + 0.01 + 1.21 + 0.16) / 6),
    ],
)
def test_mosi_golden_vector(name: str, expected: float, dtype: type) -> None:
    assert score(name, MOSI_P.astype(dtype), MOSI_Y.astype(dtype)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "bins", "representatives"),
    [
        ("acc2_sims", [0, 0, 0, 1, 1, 1], [-0.5, 0.5]),
        ("acc3_sims", [0, 0, 1, 1, 2, 2], [-0.5, 0.05, 0.5]),
        ("acc5_sims", [0, 1, 2, 2, 3, 4], [-0.9, -0.5, 0.05, 0.5, 0.9]),
    ],
)
def test_sims_bins_are_closed_on_the_right(name: str, bins: list[int], representatives: list[float], dtype: type) -> None:
    y = SIMS_Y.astype(dtype)
    assert score(name, np.array(representatives)[bins].astype(dtype), y) == 1.0
    for index, constant in enumerate(representatives):
        assert score(name, np.full(6, constant, dtype), y) == pytest.approx(bins.count(index) / 6)


def test_sims_clips_before_mae_and_correlation() -> None:
    y, p = np.array([-1.0, 0.0, 1.0]), np.array([-3.0, 0.5, 2.0])
    assert score("mae_clip1", p, y) == pytest.approx(0.5 / 3)
    assert score("mae", p, y) == pytest.approx(3.5 / 3)
    assert score("corr_clip1", p, y) == pytest.approx(stats.pearsonr(np.clip(p, -1, 1), y)[0])
    assert abs(score("corr", p, y) - score("corr_clip1", p, y)) > 1e-3


def test_zero_labels_decide_between_the_binary_conventions() -> None:
    y, p = np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.0, -1.0, 1.0, 0.0])
    assert score("acc2_has0", p, y) == 3 / 4  # 0 >= 0 is positive on both sides
    assert score("acc2_non0", p, y) == 0.0  # only the last is kept, and its prediction of 0 is not > 0
    assert score("acc2_sims", p, y) == 2 / 4  # 0 is negative on both sides


def test_f1_weights_by_true_labels_not_by_predictions() -> None:
    y, p = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1.0, -1.0, -1.0, -1.0])
    # class +: tp 1, fp 0, fn 2, F1 2/4; class -: tp 1, fp 2, fn 0, F1 2/4; unequal case below
    assert score("f1_has0", p, y) == pytest.approx(0.5)
    y, p = np.array([1.0, 1.0, 1.0, 1.0, -1.0]), np.array([1.0, 1.0, -1.0, -1.0, -1.0])
    right = (4 * (2 * 2 / (2 * 2 + 2)) + 1 * (2 * 1 / (2 * 1 + 2))) / 5
    swapped = (2 * (2 * 2 / (2 * 2 + 2)) + 3 * (2 * 1 / (2 * 1 + 2))) / 5
    assert score("f1_has0", p, y) == pytest.approx(right)
    assert abs(right - swapped) > 0.05


# Floors that follow from the published label counts -----------------------------------------------------------------------------


def labels(**counts: int) -> np.ndarray:
    return np.repeat([float(key.replace("m", "-").replace("d", ".")[1:]) for key in counts], list(counts.values()))


MOSI = labels(_m3=46, _m2=156, _m1=145, _m0d2=32, _0=30, _0d2=44, _1=113, _2=100, _3=20)
MOSEI = labels(_m3=70, _m2=399, _m1=554, _m0d333=327, _0=1025, _0d333=575, _1=1228, _2=440, _3=41)
SIMS = labels(_m1=151, _m0d4=97, _0=69, _0d4=69, _1=71)


@pytest.mark.parametrize(
    ("target", "name", "expected"),
    [
        (MOSI, "acc2_non0", 57.77),
        (MOSI, "acc2_has0", 55.25),
        (MOSI, "acc7", 22.74),
        (MOSEI, "acc2_non0", 62.85),
        (MOSEI, "acc2_has0", 71.02),
        (MOSEI, "acc7", 41.36),
        (SIMS, "acc2_sims", 69.37),
        (SIMS, "f1_sims", 56.82),
        (SIMS, "acc3_sims", 54.27),
        (SIMS, "acc5_sims", 100 * 151 / 457),
    ],
)
def test_best_constant_is_the_floor_of_the_label_counts(target: np.ndarray, name: str, expected: float) -> None:
    assert 100 * best_constant(METRICS[name], target) == pytest.approx(expected, abs=0.005)


def test_the_published_row_of_a_collapsed_model() -> None:
    """MMSA prints 69.37 / 56.82 / 54.27 / 21.23 for EF-LSTM on CH-SIMS: a constant in the bin (-0.7, -0.1]."""
    p = np.full(len(SIMS), -0.3)
    found = evaluate(["acc2_sims", "f1_sims", "acc3_sims", "acc5_sims", "corr_clip1"], p, SIMS)
    assert [round(100 * value, 2) for value in found.values()][:4] == [69.37, 56.82, 54.27, 21.23]
    assert math.isnan(found["corr_clip1"])
    assert collapsed(p, SIMS, "regression")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(REGRESSION),
    st.lists(st.sampled_from([-3, -2.5, -1.5, -1, -0.7, -0.5, -0.1, 0, 0.1, 0.5, 0.6, 1, 1.8, 2.2, 3]), min_size=1, max_size=12),
)
def test_no_constant_on_a_fine_grid_beats_the_best_constant(name: str, target: list[float]) -> None:
    metric, y = METRICS[name], np.array(target, np.float64)
    best = best_constant(metric, y)
    tried = [metric.function(np.full_like(y, constant), y) for constant in np.round(np.arange(-4, 4.01, 0.05), 2)]
    tried = [value for value in tried if not np.isnan(value)]
    if not tried:
        assert math.isnan(best)
    elif metric.higher_is_better:
        assert best == pytest.approx(max(tried))
    else:
        assert best <= min(tried) + 1e-12


def test_best_constant_of_classes_and_where_it_has_no_meaning() -> None:
    y = np.array([0, 1, 1, 2, 1])
    assert best_constant(METRICS["wacc"], y, ("a", "b", "c")) == 3 / 5
    assert best_constant(METRICS["uar"], y, ("a", "b", "c")) == pytest.approx(1 / 3)
    assert best_constant(METRICS["waf1"], y, ("a", "b", "c")) == pytest.approx(3 / 5 * (2 * 3 / (2 * 3 + 2)))
    assert math.isnan(best_constant(METRICS["recall_per_class"], y, ("a", "b", "c")))
    assert math.isnan(best_constant(METRICS["corr"], MOSI))
    assert math.isnan(best_constant(METRICS["acc2_non0"], np.zeros(4)))
    with pytest.raises(PredictionError, match="class indices"):
        best_constant(METRICS["uar"], np.array([0, -1]), ("a", "b"))
    with pytest.raises(PredictionError, match="NaN"):
        best_constant(METRICS["mae"], np.array([0.0, np.nan]))
    assert best_constant(METRICS["mae"], np.array([0.0, 1.0, 5.0])) == pytest.approx(5 / 3)
    assert best_constant(METRICS["mse"], np.array([0.0, 3.0])) == pytest.approx(2.25)


def test_best_constant_of_a_metric_from_elsewhere_tries_the_targets() -> None:
    exact = Metric("exact", lambda p, y: float(np.mean(p == y)), True, (0, 1), ("regression",))
    assert best_constant(exact, np.array([0.3, 17.25, 17.25, 9.0])) == 0.5


# Oracles ------------------------------------------------------------------------------------------------------------------------

values = st.floats(-4, 4, width=32) | st.sampled_from([-3.0, -2.5, -1.0, -0.5, 0.0, 0.5, 1.5, 2.5, 3.0])
pairs = st.integers(2, 25).flatmap(lambda n: st.tuples(arrays.arrays(np.float64, n, elements=values), arrays.arrays(np.float64, n, elements=values)))


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_regression_metrics_agree_with_scikit_learn_and_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = pair
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate(REGRESSION, p, y)

    def f1(truth: np.ndarray, guess: np.ndarray) -> float:
        return sklearn_metrics.f1_score(truth, guess, average="weighted", zero_division=0) if len(truth) else math.nan

    def rounded(limit: int) -> float:
        return sklearn_metrics.accuracy_score(np.round(np.clip(y, -limit, limit)).astype(int), np.round(np.clip(p, -limit, limit)).astype(int))

    kept = y != 0
    expected = {
        "mae": sklearn_metrics.mean_absolute_error(y, p),
        "mse": sklearn_metrics.mean_squared_error(y, p),
        "acc2_has0": sklearn_metrics.accuracy_score(y >= 0, p >= 0),
        "f1_has0": f1(y >= 0, p >= 0),
        "acc2_non0": sklearn_metrics.accuracy_score(y[kept] > 0, p[kept] > 0) if kept.any() else math.nan,
        "f1_non0": f1(y[kept] > 0, p[kept] > 0),
        "acc3": rounded(1),
        "acc5": rounded(2),
        "acc7": rounded(3),
        "mae_clip1": sklearn_metrics.mean_absolute_error(np.clip(y, -1, 1), np.clip(p, -1, 1)),
        "acc2_sims": sklearn_metrics.accuracy_score(y > 0, p > 0),
        "f1_sims": f1(y > 0, p > 0),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    for name, limit in (("corr", np.inf), ("corr_clip1", 1)):
        left, right = np.clip(p, -limit, limit), np.clip(y, -limit, limit)
        if min(left.std(), right.std()) > 1e-3:
            assert found[name] == pytest.approx(stats.pearsonr(left, right)[0], abs=1e-9), name
        elif np.ptp(left) == 0 or np.ptp(right) == 0:
            assert math.isnan(found[name]), name
        else:
            assert -1 <= found[name] <= 1, name


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 5), st.integers(1, 25))
def test_classification_metrics_agree_with_scikit_learn(data: st.DataObject, classes: int, n: int) -> None:
    y = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    guess = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    p = np.eye(classes)[guess] * 3 - 1
    found = evaluate(CLASSIFICATION, p, y)
    present = np.unique(y)
    recalls = sklearn_metrics.recall_score(y, guess, labels=np.arange(classes), average=None, zero_division=0)
    assert found["wacc"] == pytest.approx(sklearn_metrics.accuracy_score(y, guess))
    assert found["waf1"] == pytest.approx(sklearn_metrics.f1_score(y, guess, average="weighted", zero_division=0))
    assert found["uar"] == pytest.approx(recalls[present].mean())
    for label in range(classes):
        assert found[f"recall[{label}]"] == pytest.approx(recalls[label] if label in present else math.nan, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter_nor_does_float32(pair: tuple[np.ndarray, np.ndarray], random: object) -> None:
    p, y = pair
    order = np.array(random.sample(range(len(y)), len(y)))  # type: ignore[attr-defined]
    expected = evaluate(REGRESSION, p, y)
    assert evaluate(REGRESSION, p[order], y[order]) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    single = evaluate(REGRESSION, p.astype(np.float32), y.astype(np.float32))  # the strategy draws values that float32 holds exactly
    assert single == pytest.approx(expected, abs=1e-12, nan_ok=True)


# Edges --------------------------------------------------------------------------------------------------------------------------


def test_constant_predictions_have_no_correlation_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(score("corr", np.full(9, 0.1), np.linspace(-1, 1, 9)))
        assert math.isnan(score("corr", np.linspace(-1, 1, 9), np.full(9, 0.1)))


def test_scores_without_samples_are_nan() -> None:
    zero = evaluate(["acc2_non0", "f1_non0", "acc2_has0"], np.ones(3), np.zeros(3))
    assert math.isnan(zero["acc2_non0"])
    assert math.isnan(zero["f1_non0"])
    assert zero["acc2_has0"] == 1.0
    assert all(math.isnan(value) for value in evaluate(REGRESSION, np.array([]), np.array([])).values())
    assert all(math.isnan(value) for value in evaluate(CLASSIFICATION, np.empty((0, 3)), np.array([], np.int64)).values())


def test_recall_of_each_class_is_named_and_nan_where_absent() -> None:
    p = np.eye(3)[[0, 0, 1, 0]]
    found = evaluate(["uar", "recall_per_class"], p, np.array([0, 0, 1, 1]), ("happy", "sad", "angry"))
    assert list(found) == ["uar", "recall[happy]", "recall[sad]", "recall[angry]"]
    assert found["recall[happy]"] == 1.0
    assert found["recall[sad]"] == 0.5
    assert math.isnan(found["recall[angry]"])
    assert found["uar"] == 0.75
    assert metric_of("recall[sad]") is METRICS["recall_per_class"]
    assert metric_of("corr") is METRICS["corr"]
    assert metric_of("nonsense") is None


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.array([1.0, np.nan]), np.zeros(2), "1 of 2 predictions are NaN or infinite"),
        (np.array([np.inf, 1.0]), np.zeros(2), "predictions are NaN"),
        (np.zeros(2), np.array([np.nan, 1.0]), "targets are NaN"),
        (np.zeros(3), np.zeros(2), r"shape \(3,\) do not fit targets of shape \(2,\)"),
        (np.zeros(2), np.zeros((2, 1)), "do not fit"),
        (np.zeros((2, 1, 1)), np.zeros(2), "do not fit"),
    ],
)
def test_what_cannot_be_scored_is_refused(prediction: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(PredictionError, match=message) as caught:
        evaluate(["mae"], prediction, target)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RunError)


@pytest.mark.parametrize("target", [[0, 3], [-1, 0], [0.5, 1]])
def test_targets_that_are_no_class_index_are_refused(target: list[float]) -> None:
    with pytest.raises(PredictionError, match="class indices from 0 to 2"):
        evaluate(["wacc"], np.zeros((2, 3)), np.array(target))


def test_class_names_must_match_the_scores() -> None:
    with pytest.raises(PredictionError, match=r"3 scores per sample for 2 classes \(a, b\)"):
        evaluate(["wacc"], np.zeros((2, 3)), np.array([0, 1]), ("a", "b"))


def test_unknown_metrics_and_those_of_the_other_task_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'acc2_nonzero'. Did you mean acc2_non0"):
        evaluate(["acc2_nonzero"], np.zeros(2), np.zeros(2))
    with pytest.raises(ConfigError, match="'wacc' is for classification, but these predictions are of regression"):
        evaluate(["wacc"], np.zeros(2), np.zeros(2))


def test_collapse_begins_below_five_percent_of_the_labels_deviation() -> None:
    y = np.linspace(-3, 3, 50)
    assert collapsed(0.049 * y + 1, y, "regression")
    assert not collapsed(0.051 * y + 1, y, "regression")
    assert collapsed(np.full(50, 0.1), np.full(50, 0.1), "regression")
    scores = np.tile([0.1, 0.9], (4, 1))
    assert collapsed(scores, np.array([0, 1, 0, 1]), "classification")
    scores[0] = [0.9, 0.1]
    assert not collapsed(scores, np.array([0, 1, 0, 1]), "classification")


def test_records_say_what_they_are() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.summary
        assert metric.function.__doc__
        perfect = np.array([0.0, 1.0, -1.0, 0.5]) if "regression" in metric.tasks else np.eye(2)
        target = perfect if "regression" in metric.tasks else np.array([0, 1])
        best = metric.range[1] if metric.higher_is_better else metric.range[0]
        assert metric.function(perfect, target) == pytest.approx(best)


def test_metrics_import_only_numpy() -> None:
    code = "import sys, mmbench.metrics; print([m for m in ('torch', 'pandas', 'sklearn', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
