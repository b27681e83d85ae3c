"""The paired bootstrap: it covers the truth as often as it says, agrees with SciPy's, and rests on pairs, seeds and videos."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from mmbench.errors import ConfigError
from mmbench.metrics import METRICS, evaluate
from mmbench.results.statistics import ADDITIVE, Resampling, scorer

MAE = METRICS["mae"].function


def ids(videos: int, clips: int) -> list[str]:
    return [f"v{video}/{clip}" for video in range(videos) for clip in range(clips)]


def arrays(metric: str, seeds: int, samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (S, N) or (S, N, 3) and targets (N,) that suit a metric, zeros and values on the cuts among them."""
    generator = np.random.default_rng(seed)
    if "classification" in METRICS[metric].tasks:
        return generator.normal(size=(seeds, samples, 3)), generator.integers(0, 3, samples)
    grid = np.array([-3.4, -2.5, -1, -0.7, -0.5, -0.1, 0, 0.1, 0.5, 0.7, 1, 1.5, 3])
    return generator.choice(grid, (seeds, samples)), generator.choice(grid, samples)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if not metric.per_class])
def test_every_draw_is_the_metric_of_the_drawn_samples(name: str) -> None:
    """Each draw against the metric of its samples written out, for the quick way of the means and for the others."""
    prediction, target = arrays(name, 3, 30)
    drawing = Resampling(ids(6, 5), draws=40)
    found = drawing.scores(METRICS[name].function, prediction, target)
    for draw, counts in enumerate(drawing.counts):
        rows = [position for position in range(30) for _ in range(counts[position // 5])]
        expected = [evaluate((name,), values[rows], target[rows], tuple("abc"))[name] for values in prediction]
        np.testing.assert_allclose(found[draw], expected, rtol=1e-9, atol=1e-12)
    assert METRICS[name].function in ADDITIVE


@pytest.mark.parametrize("name", ["corr", "mae", "f1_non0", "uar"])
def test_the_quick_way_agrees_with_the_slow_one(name: str) -> None:
    """A constant among the predictions has no correlation in either; a lambda of the same function is not known to be additive."""
    prediction, target = arrays(name, 3, 30)
    prediction[1] = 0.1 if prediction.ndim == 2 else prediction[1]
    prediction[2, :15] = 0.7 if prediction.ndim == 2 else prediction[2, :15]
    drawing = Resampling(ids(6, 5), draws=300)
    function = METRICS[name].function
    found, slow = (drawing.scores(score, prediction, target) for score in (function, lambda p, y: function(p, y)))
    np.testing.assert_allclose(found, slow, rtol=1e-9, atol=1e-9)
    assert np.isnan(slow[:, 1]).all() == (name == "corr")


def test_no_score_where_no_drawn_sample_counts() -> None:
    """Every label of the second video is zero, so that a draw of it alone has no Non0 accuracy; the interval says so."""
    drawing = Resampling(["a/1", "b/1"], draws=200)
    found = drawing.scores(METRICS["acc2_non0"].function, np.array([[1.0, 1.0]]), np.array([1.0, 0.0]))
    assert np.isnan(found[(drawing.counts == [0, 2]).all(1)]).all()
    assert np.isfinite(found[(drawing.counts == [2, 0]).all(1)]).all()
    interval = drawing.interval(found, found)
    assert interval.difference == 0
    assert np.isnan([interval.low, interval.high]).all()


@pytest.mark.parametrize(
    ("seed_sd", "video_sd", "noise", "least", "most"),
    [
        (0.0, 0.3, 0.5, 0.92, 0.98),
        (0.05, 0.3, 0.5, 0.92, 0.98),
        (0.1, 0.3, 0.3, 0.92, 0.98),
        (0.3, 0.01, 0.01, 0.92, 0.98),  # nearly all noise is the seeds'
        (0.0, 0.0, 1.0, 0.92, 0.98),  # nearly all noise is neither's alone
    ],
)
def test_the_truth_is_covered_about_as_often_as_stated(seed_sd: float, video_sd: float, noise: float, least: float, most: float) -> None:
    """Differences mu + a_s + b_v + e with known mu = 0.2: five seeds, 40 videos of 6 clips, 400 repetitions."""
    generator = np.random.default_rng(7)
    names, target, hits, repetitions = ids(40, 6), np.zeros(240), 0, 400
    drawing = Resampling(names, draws=800)
    for _ in range(repetitions):
        base = 5 + generator.normal(size=(5, 240)) * 0.3
        difference = 0.2 + seed_sd * generator.normal(size=(5, 1)) + np.repeat(video_sd * generator.normal(size=40), 6)
        first = base + difference + noise * generator.normal(size=(5, 240))
        found = drawing.interval(drawing.scores(MAE, first, target), drawing.scores(MAE, base, target))
        hits += found.low <= 0.2 <= found.high
    assert least <= hits / repetitions <= most


def test_clips_of_a_video_are_not_independent() -> None:
    """The same numbers with every clip a video of its own give an interval that is far too narrow."""
    generator = np.random.default_rng(1)
    target = np.zeros(240)
    base = np.full((1, 240), 5.0)
    first = base + np.repeat(generator.normal(size=40), 6)
    widths = []
    for names in (ids(40, 6), ids(240, 1)):
        drawing = Resampling(names)
        found = drawing.interval(drawing.scores(MAE, first, target), drawing.scores(MAE, base, target))
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(6**0.5, rel=0.15)


def test_one_seed_and_one_clip_per_video_is_scipys_bootstrap() -> None:
    generator = np.random.default_rng(2)
    target = generator.normal(size=150)
    first, second = target + generator.normal(size=(2, 1, 150)) * [[[1.0]], [[0.8]]]
    drawing = Resampling(ids(150, 1), draws=20_000)
    found = drawing.interval(drawing.scores(MAE, first, target), drawing.scores(MAE, second, target))

    def statistic(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.mean(axis) - b.mean(axis)

    errors = np.abs(first[0] - target), np.abs(second[0] - target)
    oracle = scipy.stats.bootstrap(errors, statistic, paired=True, vectorized=True, n_resamples=20_000, method="percentile", random_state=0)
    assert found.difference == pytest.approx(statistic(*errors))
    width = found.high - found.low
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=0.03 * width)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=0.03 * width)


def test_where_only_the_seeds_vary_it_is_the_paired_t_test() -> None:
    """Videos that are all alike leave the seeds: interval and p are those of Student's t on paired differences."""
    target = np.zeros(30)
    errors = np.array([[1.0, 2.0, 4.0, 4.5, 7.0], [0.5, 2.5, 1.0, 2.0, 4.0]])
    drawing = Resampling(ids(30, 1), draws=200)
    first, second = (drawing.scores(MAE, np.repeat(own[:, None], 30, axis=1), target) for own in errors)
    found = drawing.interval(first, second)
    oracle = scipy.stats.ttest_rel(*errors)
    expected = oracle.confidence_interval(0.95)
    assert (found.low, found.high, found.p, found.df) == pytest.approx((expected.low, expected.high, oracle.pvalue, 4), rel=1e-9)


def test_where_only_the_videos_vary_it_is_the_paired_t_test_over_videos() -> None:
    """Equal seeds leave the videos: Student's t on one difference for each, up to the noise of the draws."""
    generator = np.random.default_rng(6)
    errors = 3 + generator.normal(size=(2, 12)) * [[0.5], [0.6]]
    drawing = Resampling(ids(12, 1), draws=40_000)
    first, second = (drawing.scores(MAE, np.tile(own, (4, 1)), np.zeros(12)) for own in errors)
    found = drawing.interval(first, second)
    oracle = scipy.stats.ttest_rel(*errors)
    expected = oracle.confidence_interval(0.95)
    assert found.df == pytest.approx(11)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02 * (expected.high - expected.low))
    assert found.p == pytest.approx(oracle.pvalue, abs=0.01)


def test_equal_predictions_have_no_difference_and_pairing_narrows() -> None:
    generator = np.random.default_rng(3)
    target = generator.normal(size=60)
    hard = generator.normal(size=60) * 2  # what is hard is hard for both
    first = target + hard + 0.1 * generator.normal(size=(3, 60))
    second = target + hard + 0.1 * generator.normal(size=(3, 60))
    drawing = Resampling(ids(20, 3))
    one, two = (drawing.scores(MAE, prediction, target) for prediction in (first, second))
    same = drawing.interval(one, one)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    assert not same.excludes_zero
    paired = drawing.interval(one, two)
    unpaired = drawing.interval(one, np.concatenate([two[:1], two[:0:-1]]))  # the second's draws in another order
    assert (unpaired.high - unpaired.low) > 3 * (paired.high - paired.low)
    assert drawing.interval(one - 10, two).excludes_zero
    assert drawing.interval(one + 10, two).excludes_zero
    swapped = drawing.interval(two, one)
    assert (swapped.low, swapped.high) == pytest.approx((-paired.high, -paired.low))


def test_draws_are_fixed_and_do_not_depend_on_the_order_of_the_samples() -> None:
    prediction, target = arrays("mae", 2, 30)
    order = np.random.default_rng(0).permutation(30)
    names = ids(10, 3)
    straight = Resampling(names).scores(MAE, prediction, target)
    mixed = Resampling([names[i] for i in order]).scores(MAE, prediction[:, order], target[order])
    np.testing.assert_allclose(straight, mixed)


def test_one_video_gives_no_interval() -> None:
    drawing = Resampling(["a/1", "a/2"])
    scores = drawing.scores(MAE, np.array([[0.0, 1.0], [1.0, 1.0]]), np.zeros(2))
    found = drawing.interval(scores, scores * 2)
    assert found.difference == -0.75
    assert np.isnan([found.low, found.high]).all()
    assert not found.excludes_zero


def test_a_score_by_its_key() -> None:
    classes = ("happy", "sad", "angry")
    prediction, target = arrays("wacc", 1, 30)
    recall = scorer("recall[sad]", classes, METRICS)
    assert recall(prediction[0], target) == evaluate(("recall_per_class",), prediction[0], target, classes)["recall[sad]"]
    assert scorer("mae", (), METRICS) is MAE
    for key, message in (
        ("mea", "unknown metric 'mea'. Did you mean mse or mae"),
        ("recall_per_class", "one value for each class"),
        ("recall[bored]", "recall.happy"),
    ):
        with pytest.raises(ConfigError, match=message):
            scorer(key, classes, METRICS)
