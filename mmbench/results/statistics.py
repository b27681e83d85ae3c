"""How sure is a difference between two configurations? A paired bootstrap over seeds and test videos. NumPy alone.

Two things are drawn again: the seeds (the same for both configurations, which is what pairs them) and the videos of the test split, since
utterances of one video are not independent. A draw with seed weights u and video counts v gives the difference

    sum_s u_s [ score(A_s, v) - score(B_s, v) ]

and the 2.5th and 97.5th percentile of the draws are the interval. Seeds and videos are crossed (Owen, The pigeonhole bootstrap, 2007).
Of S seeds, S - 1 are drawn, which makes the variance of the draws the unbiased one (Rao and Wu, 1988): with five seeds the plain bootstrap's is
a fifth too small. Where nearly all of the noise is the seeds', five of them still cover less than 95 % (tests: about 88 %).
"""

from __future__ import annotations

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

Score = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Interval:
    """A difference of mean scores and the interval around it; both ends are NaN where there are too few videos, or a draw has no score."""

    difference: float
    low: float
    high: float

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
    position = entries.index(key)
    function = metric.function
    return lambda prediction, target: float(function(prediction, target)[position])


class Resampling:
    """Draws of seeds and of test videos, shared by all comparisons on one test split. `ids`: canonical, ``<video>/<utterance>``.

    The generator is fixed: the same runs give the same interval on every machine. `stream`: another one for videos that are drawn independently.
    """

    def __init__(self, ids: Sequence[str], seeds: int, draws: int = DRAWS, stream: int = 0):
        names, self.video = np.unique([video_of(name) for name in ids], return_inverse=True)  # (N,)
        self.videos, self.seeds = len(names), seeds
        generator = np.random.default_rng([SEED, stream] if stream else SEED)
        counts = generator.multinomial(self.videos, np.full(self.videos, 1 / self.videos), draws)
        self.counts = np.concatenate([np.ones((1, self.videos), counts.dtype), counts])  # (1 + draws, K); the first is the sample itself
        drawn = max(1, seeds - 1)
        weights = generator.multinomial(drawn, np.full(seeds, 1 / seeds), draws) / drawn
        self.weights = np.concatenate([np.full((1, seeds), 1 / seeds), weights])  # (1 + draws, S)

    def scores(self, score: Score, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The scores (1 + draws, S) of predictions (S, N) or (S, N, C) on each draw of videos."""
        additive = ADDITIVE.get(score)
        if additive is not None:
            return additive.combine([self.counts @ self._by_video(part).T for part in additive.parts(prediction, target)])  # (1 + draws, S)
        samples = np.arange(len(self.video))
        found = np.empty((len(self.counts), self.seeds))
        for draw, counts in enumerate(self.counts):
            drawn = np.repeat(samples, counts[self.video])
            found[draw] = [score(values[drawn], target[drawn]) for values in prediction]
        return found

    def _by_video(self, values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(self.video, row, self.videos) for row in values])  # (S, K)

    def interval(self, first: np.ndarray, second: np.ndarray) -> Interval:
        """The mean difference first - second of two results of `scores`, whose seeds are in the same order, with its 95 % interval."""
        differences = (self.weights * (first - second)).sum(1)  # (1 + draws,)
        if self.videos < 2:
            return Interval(float(differences[0]), np.nan, np.nan)
        low, high = np.quantile(differences[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(differences[0]), float(low), float(high))
