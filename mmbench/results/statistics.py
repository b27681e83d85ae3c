"""How sure is a difference between two configurations? It varies with the seeds and with the test videos, and both are counted. NumPy alone.

The score difference d_sv of seed s (paired: the same seed for both) on test video v is that of a crossed design, mu + a_s + b_v + e_sv. The variance
of the mean difference over S seeds and K videos is

    V = V_seeds + max(0, V_videos - V_both)                          (the method of moments, as in readers x cases studies: Hillis, 2007)

    V_seeds   sample variance of the S differences on the whole test set, over S: contains a_s and e_sv
    V_videos  variance of the mean difference over draws of videos: contains b_v and e_sv
    V_both    what both contain, e_sv: (mean over s of the variance of d_s over draws - V_videos) / (S - 1)

Videos are drawn as wholes (utterances of one video are not independent), the same ones for every run; K - 1 of K are drawn, which makes the variance
of the draws the unbiased one (Rao and Wu, 1988). So any metric has a V_videos, not only means.

The interval is difference ± t_df sqrt(V), and p is that of the same t distribution, so that they never contradict each other. The degrees of freedom
are Satterthwaite's (1946), with shares w of V that lean to the component that has few degrees of its own:

    df = 1 / (w_seeds^2 / (S - 1) + w_videos^2 / (K - 1)),   w_i proportional to V_i ((df_i + 2) / df_i)^2,   df_i = S - 1 and K - 1

That leaning is our choice, by simulation: with w_i proportional to V_i alone, a V_seeds that came out small by chance makes sqrt(V) and t too small
together, and three seeds cover 92 %, two 88 %. Measured (benchmarks/coverage.py and its results), the interval covers 93 to 98 % for two to ten seeds
and 30 or 90 videos, whatever share of the noise is the seeds'. Percentiles of a bootstrap over seeds and videos (Owen, The pigeonhole bootstrap,
2007) cover 91 % where five seeds make the noise, and 99.9 % where e_sv does. One seed says nothing of seeds: its interval is over videos alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench import metrics as core
from mmbench.component import Metric
from mmbench.data.ids import video_of
from mmbench.errors import ConfigError

DRAWS = 2000
SEED = 20260
LEVEL = 0.95
UNITS = ("video", "utterance")
"""What is drawn: whole videos, or single utterances (as if they were independent, which those of one video are not)."""
FLIPS, SOME_FLIPS = 16, 2**16
"""Up to so many seeds every flip of signs is counted; with more, so many random ones."""
ROUNDING = 1e-12
"""Differences of scores below it are none: sums of the same numbers in another order differ by so much."""

Score = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Interval:
    """A difference of mean scores, the interval around it and its p; all but the difference are NaN where they cannot be told."""

    difference: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    df: float = math.nan
    """Degrees of freedom of the t distribution behind interval and p."""

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside; never where there is no interval."""
        return self.low > 0 or self.high < 0


# Scores that are functions of sums over samples: a draw needs the sums of each video once, and no sample again -----------------------


@dataclass(frozen=True)
class Additive:
    """A score as `combine` of sums: `parts` gives arrays (S, N) from predictions (S, N) or (S, N, C) and targets (N,), summed for each draw."""

    parts: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
    combine: Callable[[Sequence[np.ndarray]], np.ndarray]


def _quotient(total: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.divide(total, size, out=np.full(size.shape, np.nan), where=size > 0)


def _mean(single: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Additive:
    """The mean of scores of single samples (S, N); one that is NaN does not count."""

    def parts(p: np.ndarray, y: np.ndarray) -> Sequence[np.ndarray]:
        values = single(p, y).astype(float)
        return np.nan_to_num(values), (~np.isnan(values)).astype(float)

    return Additive(parts, lambda sums: _quotient(*sums))


def _rounded(limit: int) -> Additive:
    return _mean(lambda p, y: np.round(np.clip(p, -limit, limit)) == np.round(np.clip(y, -limit, limit)))


def _binned(cuts: Sequence[float]) -> Additive:
    return _mean(lambda p, y: core.bins(core.clip1(p), cuts) == core.bins(core.clip1(y), cuts))


def _correlation(change: Callable[[np.ndarray], np.ndarray]) -> Additive:
    """Pearson's correlation of changed predictions and targets, from moments around the means of all samples."""

    def parts(p: np.ndarray, y: np.ndarray) -> Sequence[np.ndarray]:
        p, y = change(p), np.broadcast_to(change(y), p.shape)
        p, y = (np.where(np.ptp(x, -1, keepdims=True) > 0, x - x.mean(-1, keepdims=True), 0.0) for x in (p, y))
        p, y = (x / np.maximum(np.abs(x).max(-1, keepdims=True), np.finfo(float).tiny) for x in (p, y))
        return np.ones_like(p), p, y, p * p, y * y, p * y

    def combine(sums: Sequence[np.ndarray]) -> np.ndarray:
        n, p, y, pp, yy, py = sums
        n = np.maximum(n, 1)
        variances = (pp - p * p / n), (yy - y * y / n)
        varied = np.minimum(*variances) / n > 1e-14  # rounding leaves this much of a constant
        both = np.sqrt(np.where(varied, variances[0] * variances[1], 1.0))
        return np.where(varied, np.clip((py - p * y / n) / both, -1.0, 1.0), np.nan)

    return Additive(parts, combine)


def _counts(truth: np.ndarray, guess: np.ndarray, kept: np.ndarray | None = None) -> Sequence[np.ndarray]:
    """For each label: its samples, its guesses and its hits (S, N)."""
    truth = np.broadcast_to(truth, guess.shape)
    parts = [part for label in np.unique(truth) for part in (truth == label, guess == label, (truth == label) & (guess == label))]
    return [(part if kept is None else part & kept).astype(float) for part in parts]


def _weighted_f1(sums: Sequence[np.ndarray]) -> np.ndarray:
    true, guessed, hits = sums[::3], sums[1::3], sums[2::3]
    total = sum(n * 2 * h / np.maximum(n + g, 1) for n, g, h in zip(true, guessed, hits, strict=True))
    return _quotient(np.asarray(total), sum(true, np.zeros(())))


def _mean_recall(sums: Sequence[np.ndarray]) -> np.ndarray:
    recalls = [_quotient(hits, true) for true, hits in zip(sums[::3], sums[2::3], strict=True)]
    present = [~np.isnan(recall) for recall in recalls]
    return _quotient(np.nan_to_num(recalls).sum(0), np.sum(present, 0).astype(float))


ADDITIVE: Mapping[Score, Additive] = {
    core.mae: _mean(lambda p, y: np.abs(p - y)),
    core.mse: _mean(lambda p, y: np.square(p - y)),
    core.mae_clip1: _mean(lambda p, y: np.abs(core.clip1(p) - core.clip1(y))),
    core.corr: _correlation(lambda x: x),
    core.corr_clip1: _correlation(core.clip1),
    core.acc2_has0: _mean(lambda p, y: (p >= 0) == (y >= 0)),
    core.acc2_non0: _mean(lambda p, y: np.where(y != 0, ((p > 0) == (y > 0)).astype(float), np.nan)),
    core.acc3: _rounded(1),
    core.acc5: _rounded(2),
    core.acc7: _rounded(3),
    core.acc2_sims: _binned(core.SIMS2),
    core.acc3_sims: _binned(core.SIMS3),
    core.acc5_sims: _binned(core.SIMS5),
    core.wacc: _mean(lambda p, y: p.argmax(-1) == y),
    core.f1_has0: Additive(lambda p, y: _counts(y >= 0, p >= 0), _weighted_f1),
    core.f1_non0: Additive(lambda p, y: _counts(y > 0, p > 0, y != 0), _weighted_f1),
    core.f1_sims: Additive(lambda p, y: _counts(core.bins(core.clip1(y), core.SIMS2), core.bins(core.clip1(p), core.SIMS2)), _weighted_f1),
    core.waf1: Additive(lambda p, y: _counts(y, p.argmax(-1)), _weighted_f1),
    core.uar: Additive(lambda p, y: _counts(y, p.argmax(-1)), _mean_recall),
}
"""The core's metrics. Every other metric is evaluated anew on each draw."""


# The bootstrap --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneClass:
    """The value of one class of a metric that has one for each."""

    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    position: int

    def __call__(self, prediction: np.ndarray, target: np.ndarray) -> float:
        """The score."""
        return float(self.function(prediction, target)[self.position])


def additive_of(score: Score) -> Additive | None:
    """How a score is computed from sums, if it can be."""
    if isinstance(score, OneClass) and score.function is core.recall_per_class:
        return _mean(lambda p, y: np.where(y == score.position, (p.argmax(-1) == score.position).astype(float), np.nan))
    return ADDITIVE.get(score)


def scorer(key: str, classes: Sequence[str], known: Mapping[str, Metric]) -> Score:
    """The function behind an entry of a result: ``mae``, or ``recall[happy]`` of a per-class metric.

    Raises:
        ConfigError: for a metric that is not known here, or a class that the data set has not.
    """
    metric = core.metric_of(key, known)
    if metric is None or (not metric.per_class and key != metric.name):
        metric = core.named(key, known)
    if not metric.per_class:
        return metric.function
    entries = core.keys(metric.name, classes, known)
    if key not in entries:
        raise ConfigError(f"metric {key!r} has one value for each class; name one of {', '.join(entries)}")
    return OneClass(metric.function, entries.index(key))


class Resampling:
    """Draws of test videos, shared by all comparisons on one test split. `ids`: canonical, ``<video>/<utterance>``.

    The generator is fixed: the same runs give the same interval on every machine. `stream`: another one for videos that are drawn independently.
    `unit`: ``video``, or ``utterance`` to draw samples as if each were a video of its own.
    """

    def __init__(self, ids: Sequence[str], draws: int = DRAWS, stream: int = 0, unit: str = "video"):
        names, self.video = np.unique([video_of(name) for name in ids] if unit == "video" else ids, return_inverse=True)  # (N,)
        self.videos = len(names)
        generator = np.random.default_rng([SEED, stream] if stream else SEED)
        counts = generator.multinomial(max(1, self.videos - 1), np.full(self.videos, 1 / self.videos), draws)
        self.counts = np.concatenate([np.ones((1, self.videos), counts.dtype), counts])  # (1 + draws, K); the first is the sample itself
        self._weights = self.counts.astype(float)  # as products want them

    def scores(self, score: Score, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The scores (1 + draws, S) of predictions (S, N) or (S, N, C) on the test set, then on each draw of videos."""
        additive = additive_of(score)
        if additive is not None:
            return additive.combine([self._weights @ self._by_video(part).T for part in additive.parts(prediction, target)])  # (1 + draws, S)
        samples = np.arange(len(self.video))
        found = np.empty((len(self.counts), len(prediction)))
        for draw, counts in enumerate(self.counts):
            drawn = np.repeat(samples, counts[self.video])
            found[draw] = [score(values[drawn], target[drawn]) for values in prediction]
        return found

    def _by_video(self, values: np.ndarray) -> np.ndarray:
        rows = np.arange(len(values))[:, None] * self.videos  # one pass for all rows
        places = (rows + self.video).ravel()
        return np.bincount(places, values.ravel(), len(values) * self.videos).reshape(len(values), self.videos)  # (S, K)

    def interval(self, first: np.ndarray, second: np.ndarray) -> Interval:
        """The mean difference first - second of two results of `scores`, whose seeds are in the same order."""
        return interval(first - second, self.videos)


def interval(differences: np.ndarray, videos: int) -> Interval:
    """The mean over seeds of differences (1 + draws, S), of which the first line is the test set itself, with its 95 % interval and p.

    The formula is in the head of this module. `videos`: how many the draws are from. No interval where there is one video or a score is NaN.
    """
    differences = np.where(np.abs(differences) < ROUNDING, 0.0, differences)
    seeds = differences.shape[1]
    difference = float(differences[0].mean())
    if videos < 2 or not np.isfinite(differences).all():
        return Interval(difference)
    between = float(differences[0].var(ddof=1)) / seeds if seeds > 1 else 0.0  # V_seeds
    within = float(differences[1:].mean(1).var())  # V_videos
    both = max(0.0, float(differences[1:].var(0).mean()) - within) / (seeds - 1) if seeds > 1 else 0.0
    within = max(0.0, within - both)
    if between + within == 0:
        return Interval(difference, difference, difference, float(difference == 0))
    free = np.array([max(1, seeds - 1), videos - 1])
    shares = np.array([between, within]) * ((free + 2) / free) ** 2
    df = float(1 / ((shares / shares.sum()) ** 2 / free).sum())
    from scipy.special import stdtr, stdtrit  # quicker to import than scipy.stats

    error = math.sqrt(between + within)
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * error
    return Interval(difference, difference - half, difference + half, float(2 * stdtr(df, -abs(difference) / error)), df)


# Tests and shares over seeds ------------------------------------------------------------------------------------------------------


def sign_flip(differences: np.ndarray) -> float:
    """p of paired differences (S,): the share of all 2^S flips of their signs whose sum is as far from zero as theirs (Fisher, 1935).

    Exact, without an assumption on their distribution but that of equal chances of both signs, and two-sided: never below `flip_floor`. It says
    nothing of other test samples.
    """
    if not np.isfinite(differences).all():
        return math.nan
    size = np.abs(differences)
    as_far = abs(differences.sum()) - ROUNDING * max(1.0, size.sum())
    if len(size) > FLIPS:  # the differences themselves are one of the flips
        signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (SOME_FLIPS - 1, len(size)))
        return float(1 + np.count_nonzero(np.abs(signs @ size) >= as_far)) / SOME_FLIPS
    sums = np.zeros(1)
    for value in size:
        sums = np.concatenate([sums + value, sums - value])  # (2^S,) in the end
    return float(np.mean(np.abs(sums) >= as_far))


def flip_floor(seeds: int) -> float:
    """The least p that `sign_flip` can give: 2 / 2^S (0.0625 for five seeds; from six on it can be below 0.05)."""
    return 2.0 ** (1 - seeds) if seeds <= FLIPS else 1 / SOME_FLIPS


def improvement(first: np.ndarray, second: np.ndarray, higher_is_better: bool) -> float:
    """Probability that a run of the first is better than one of the second: the share of all pairs of seeds, ties one half.

    Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021, section 4.3.
    """
    gain = first[:, None] - second[None, :] if higher_is_better else second[None, :] - first[:, None]  # (S, S)
    if not np.isfinite(gain).all():
        return math.nan
    return float(np.mean(np.where(np.abs(gain) < ROUNDING, 0.5, gain > 0)))


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for how many they are, such that the chance of any false finding stays below the level (Holm, 1979).

    In ascending order the i-th of m becomes the largest of (m - j + 1) p_j over j <= i, at most 1. NaN is no test: it stays, and is not counted.
    """
    p = np.asarray(values, float)
    order = [index for index in np.argsort(p, kind="stable") if not np.isnan(p[index])]
    corrected, largest = p.copy(), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[index]))
        corrected[index] = largest
    return [float(value) for value in corrected]
