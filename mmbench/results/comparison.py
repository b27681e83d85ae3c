"""Two configurations on the same test samples: how much better is one, and how sure is that? From finished runs to `Comparison`s.

The rules that keep a comparison honest are here; the formulas are in `mmbench.results.statistics`.

* Only runs on the same data are compared: the same splits, features, modalities and test targets.
* Seeds are pairs: those that both have finished. Where a seed is not done in both, the difference of the others is told, but no interval and no p,
  so that dropping seeds cannot make anything significant.
* p values are corrected (Holm) for everything that is compared together.
* One seed says nothing of seeds: whatever its interval over videos, it is never significant.

A seed's score under a protocol with parts (folds, binary tasks) is its mean over the parts; their videos are drawn apart, or together where parts
have the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mmbench.component import Metric
from mmbench.data.ids import video_of
from mmbench.errors import ConfigError, MmbenchError
from mmbench.metrics import checked, metric_of
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import RunRecord
from mmbench.results.statistics import DRAWS, LEVEL, Resampling, flip_floor, holm, improvement, interval, scorer, sign_flip

if TYPE_CHECKING:
    from mmbench.results.tables import Table

OTHER_SAMPLES = "its test samples are not those of the other runs"

Runs = Mapping[int, Sequence[RunRecord]]
"""By seed the finished runs of a configuration: one for each part of a protocol, or one where there are no parts."""


@dataclass(frozen=True)
class Comparison:
    """The first configuration against the second in one metric. Numbers that cannot be told are NaN, and `reason` says why.

    `difference` is mean score of the first minus mean score of the second; `low` and `high` are the ends of its interval at `level`, and `p` belongs
    to the same distribution; `p_holm` is corrected for all comparisons that were made together. `sign_flip` is the exact test over the seeds, on
    these test samples alone, which cannot be below `sign_flip_floor`. `improvement`: probability that a run of the first is better than one of the
    second (pairs of seeds, ties one half).
    """

    first: str
    second: str
    metric: str
    higher_is_better: bool | None = None
    means: tuple[float, float] = (math.nan, math.nan)
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    sign_flip: float = math.nan
    sign_flip_floor: float = math.nan
    improvement: float = math.nan
    seeds: tuple[int, ...] = ()
    """Those that both have finished."""
    videos: int = 0
    """Test videos (or utterances, if those are drawn) in all parts."""
    level: float = LEVEL
    reason: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval, which is not corrected for other comparisons; never where there is no interval."""
        return self.low > 0 or self.high < 0

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below 1 - level, on more than one seed."""
        return self.p_holm < 1 - self.level and len(self.seeds) > 1

    @property
    def better(self) -> str:
        """The name of the one with the better mean; nothing where they are equal, or the better direction is not known."""
        if self.higher_is_better is None or not self.difference or math.isnan(self.difference):
            return ""
        return self.first if (self.difference > 0) == self.higher_is_better else self.second


@dataclass(frozen=True)
class Test:
    """What the runs of a configuration predicted on one test split (of one part): ids, targets (N,), predictions (S, N) or (S, N, C)."""

    ids: tuple[str, ...]
    target: np.ndarray
    prediction: np.ndarray
    classes: tuple[str, ...]


class Contest:
    """Configurations on the same data, and what their finished runs predicted; each is scored on each draw of videos once, however it is compared.

    `runs`: by name of a configuration its finished runs; `known`: the metrics; `draws`: of test videos; `unit`: what is drawn, whole
    videos or single utterances. `asked`: by name the seeds that a configuration should have, where those are more than it has finished.
    """

    def __init__(
        self,
        runs: Mapping[str, Runs],
        known: Mapping[str, Metric],
        draws: int = DRAWS,
        *,
        unit: str = "video",
        asked: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        self.known, self.draws, self.unit = known, draws, unit
        self.seeds = {name: tuple(sorted(own)) for name, own in runs.items()}
        self.asked = {name: {*own, *(asked or {}).get(name, ())} for name, own in self.seeds.items()}
        read = {name: _read(own) for name, own in runs.items()}
        problems = {name: found for name, found in read.items() if isinstance(found, str)}
        tests = {name: found for name, found in read.items() if not isinstance(found, str)}
        samples = {name: _samples(found) for name, found in tests.items()}
        usual = Counter(samples.values()).most_common(1)[0][0] if samples else ()
        self._usual = usual
        problems |= {name: OTHER_SAMPLES for name, own in samples.items() if own != usual}
        self.problems: dict[str, str] = {name: problems[name] for name in runs if name in problems}
        """By name why a configuration cannot be compared."""
        self._tests = {name: own for name, own in tests.items() if name not in problems}
        streams: dict[frozenset[str], int] = {}
        self._drawings: list[Resampling] = []
        for ids, _ in usual:
            units = frozenset(map(video_of, ids) if unit == "video" else ids)
            self._drawings.append(Resampling(ids, draws, streams.setdefault(units, len(streams)), unit))  # parts of the same videos together
        self.videos = sum(map(len, streams))
        self._scores: dict[tuple[str, str], np.ndarray] = {}

    def add(self, name: str, runs: Runs) -> None:
        """One more configuration, unless it is there; its test samples must be those of the others."""
        if name in self.seeds:
            return
        self.seeds[name] = tuple(sorted(runs))
        self.asked[name] = {*runs}
        read = _read(runs)
        if isinstance(read, str):
            self.problems[name] = read
        elif _samples(read) != self._usual:
            self.problems[name] = OTHER_SAMPLES
        else:
            self._tests[name] = read

    @property
    def names(self) -> tuple[str, ...]:
        """The configurations, those that cannot be compared among them."""
        return tuple(self.seeds)

    def scores(self, name: str, key: str) -> np.ndarray:
        """Scores (1 + draws, S) of a configuration on the test split and on each draw of its videos, seeds ascending; means over parts.

        Raises MmbenchError or ValueError where they cannot be computed.
        """
        if (name, key) not in self._scores:
            each = []
            for drawing, test in zip(self._drawings, self._tests[name], strict=True):
                each.append(drawing.scores(scorer(key, test.classes, self.known), test.prediction, test.target))
            self._scores[name, key] = np.mean(each, axis=0)
        return self._scores[name, key]

    def compare(self, first: str, second: str, key: str) -> Comparison:
        """The first configuration against the second in the score `key` (``mae``, ``recall[happy]``), by itself: `p_holm` is `p`."""
        for name in (first, second):
            if name not in self.seeds:
                raise ConfigError(f"there is no configuration {name!r} to compare; there are {', '.join(self.names)}")
        metric = metric_of(key, self.known)
        seeds = tuple(seed for seed in self.seeds[first] if seed in self.seeds[second])
        found = Comparison(first, second, key, metric.higher_is_better if metric else None, seeds=seeds, videos=self.videos)
        problem = "; ".join(f"{name}: {self.problems[name]}" for name in dict.fromkeys((first, second)) if name in self.problems)
        if problem or metric is None or not seeds:
            return replace(found, reason=problem or ("no seed is done in both" if metric else f"no installed plugin has the metric {key}"))
        try:
            one, two = (self.scores(name, key)[:, [self.seeds[name].index(seed) for seed in seeds]] for name in (first, second))
        except (MmbenchError, ValueError) as error:
            return replace(found, reason=str(error))
        found = replace(found, means=(float(one[0].mean()), float(two[0].mean())), difference=float((one - two)[0].mean()))
        unscored = [name for name, scores in ((first, one), (second, two)) if not np.isfinite(scores[0]).all()]
        if unscored:
            return replace(found, reason=f"the score of {' and of '.join(unscored)} is not a number")
        found = replace(found, improvement=improvement(one[0], two[0], metric.higher_is_better))
        missing = sorted((self.asked[first] | self.asked[second]) - set(seeds))
        if missing:
            which = f"seed{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
            return replace(found, reason=f"{which}: not done in both, so nothing is tested, and the difference is that of the others")
        around = interval(one - two, min(drawing.videos for drawing in self._drawings))
        told = replace(
            found,
            difference=around.difference,
            low=around.low,
            high=around.high,
            p=around.p,
            p_holm=around.p,
            sign_flip=sign_flip((one - two)[0]),
            sign_flip_floor=flip_floor(len(seeds)),
        )
        if not math.isnan(told.p):
            return told
        one_video = any(drawing.videos < 2 for drawing in self._drawings)
        return replace(told, reason="one test video: nothing can be drawn" if one_video else "a draw of test videos has no score")

    def against(self, baseline: str, keys: Iterable[str]) -> list[Comparison]:
        """Every other configuration against the baseline in each score, corrected for all of them."""
        keys = tuple(keys)
        return corrected([self.compare(name, baseline, key) for name in self.names if name != baseline for key in keys])

    def pairs(self, key: str) -> list[Comparison]:
        """Every pair of configurations in one score, corrected for all of them; the better mean comes first, and those without one last."""
        found = [self.compare(name, name, key) for name in self.names]
        higher = any(c.higher_is_better for c in found)
        ranked = sorted(found, key=lambda c: (math.isnan(c.means[0]), -c.means[0] if higher else c.means[0]))
        return corrected([self.compare(first.first, second.first, key) for first, second in combinations(ranked, 2)])


def contest_of(table: Table, known: Mapping[str, Metric], draws: int = DRAWS, *, unit: str = "video", also: Collection[str] = ()) -> Contest:
    """The contest of a table's methods that have a finished run, and of those rows of another kind (floors) that `also` names."""
    rows = [row for row in table.rows if row.finished and (row.kind == "method" or row.name in also)]
    asked = {row.name: [record.seed for record in row.records if record.seed is not None] for row in rows}
    return Contest({row.name: row.finished for row in rows}, known, draws, unit=unit, asked=asked)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with `p_holm` for all of them together; one without a p is no test and is not counted."""
    return [replace(c, p_holm=p) for c, p in zip(comparisons, holm([c.p for c in comparisons]), strict=True)]


def predictions_of(runs: Runs) -> list[Test]:
    """What finished runs predicted on the test split of each part, seeds ascending.

    Raises:
        DataError: where stored predictions cannot be read, or hold what is no number.
        ValueError: where there are none for the test split, or seeds have different test samples.
    """
    seeds = [runs[seed] for seed in sorted(runs)]
    if not seeds:
        raise ValueError("no seed is done")
    tests = []
    for records in zip(*seeds, strict=True):
        found = []
        for record in records:
            splits = read_predictions(record.folder / NAME)
            if "test" not in splits:
                raise ValueError("no test predictions are stored")
            found.append(splits["test"])
        ids, target, _ = found[0]
        if any(other[0] != ids or not np.array_equal(other[1], target) for other in found):
            raise ValueError("its seeds have different test samples")
        data = records[0].data
        pairs = [checked(prediction, target, data.get("task", "regression")) for _, _, prediction in found]
        tests.append(Test(ids, pairs[0][1], np.stack([prediction for prediction, _ in pairs]), tuple(data.get("classes", ()))))
    return tests


def _samples(tests: Sequence[Test]) -> tuple[tuple[tuple[str, ...], bytes], ...]:
    """What must be the same for two configurations to be compared: ids and targets of each part."""
    return tuple((test.ids, test.target.tobytes()) for test in tests)


def _read(runs: Runs) -> list[Test] | str:
    """What `predictions_of` gives, or why it gives nothing."""
    try:
        return predictions_of(runs)
    except (MmbenchError, ValueError) as error:
        return str(error)
