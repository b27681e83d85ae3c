"""How often the 95 % interval of a difference covers the truth, and how often p is below 0.05 where there is no difference.

    python benchmarks/coverage.py --out benchmarks/results/coverage.csv        # about ten minutes on one core

Predictions of two configurations are simulated on videos of 4 to 20 utterances, and go through the code that `mmbench compare` uses: their scores
on each draw of videos, then interval and p. The difference of their scores has an effect of the seed, one of the video, and noise of each sample:

* mae: the absolute errors differ by mu + a_s + b_v + e; a_s and e are Gaussian, b_v is a gamma of skewness 1 around 0 (that of the differences of
  videos between two of ten methods on real CMU-MOSI is 0.4 in the median and at most 0.9), or of skewness 2 in ``skewed``, which is beyond it.
* acc2_non0: the chances of a hit differ by mu + a_s + b_v, Gaussian, around 0.7; the noise of the samples is that of hits and misses.

A scenario is the share that seeds have in what both effects add to the variance of the mean difference; ``none`` has neither effect.
`percentile`: the coverage of the bootstrap over seeds (S - 1 of S) and videos with percentiles, for comparison. `width`: the median half width over
1.96 standard deviations of the estimate, which would be 1 if they were known. `sign_flip`: how often its p is at most 0.05 without a difference over
all videos; it takes the test videos as given, so where they vary it finds differences of these videos alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np

from mmbench.files import write
from mmbench.metrics import METRICS
from mmbench.results.statistics import LEVEL, Resampling, interval, sign_flip

SHARES = {"seeds 95 %": 0.95, "seeds 80 %": 0.8, "seeds 50 %": 0.5, "seeds 5 %": 0.05, "none": None, "skewed": 0.05}
SEEDS, VIDEOS = (2, 3, 5, 10), (30, 90)
SPREAD = {"mae": 0.05, "acc2_non0": 0.03}
"""Standard deviation of the mean difference that effects of seeds and videos give together, on 30 videos."""
EFFECT = {"mae": 0.1, "acc2_non0": 0.05}
"""The true difference where coverage is measured."""
BATCH = 100


class Scenario:
    """One score, share of the seeds, number of seeds S and of videos K; draws predictions of many repetitions at once."""

    def __init__(self, score: str, name: str, seeds: int, videos: int, draws: int, generator: np.random.Generator):
        self.score, self.seeds, self.generator, share = score, seeds, generator, SHARES[name]
        self.shape = 1 if name == "skewed" else 4  # of the gamma, whose skewness is 2 / sqrt(shape)
        self.sizes = np.random.default_rng(videos).integers(4, 21, videos)
        self.video = np.repeat(np.arange(videos), self.sizes)  # (N,)
        weights = self.sizes / self.sizes.sum()
        spread = 0.0 if share is None else SPREAD[score] * np.sqrt(30 / videos)
        self.seed_sd = spread * np.sqrt((share or 0.0) * seeds)
        self.video_sd = spread * np.sqrt((1 - (share or 0.0)) / np.square(weights).sum())
        self.drawing = Resampling([f"{video}/{clip}" for clip, video in enumerate(self.video)], draws)
        self.target = np.where(np.arange(len(self.video)) % 2, 1.0, -1.0)

    def scores(self, difference: float, repetitions: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores of both configurations, (1 + draws, repetitions, S)."""
        shape = (repetitions, self.seeds, len(self.video))
        seed = self.seed_sd * self.generator.normal(size=(repetitions, self.seeds, 1))
        size = (repetitions, 1, len(self.sizes))
        skewed = (self.generator.gamma(self.shape, size=size) - self.shape) / np.sqrt(self.shape)
        video = self.video_sd * (skewed if self.score == "mae" else self.generator.normal(size=size))
        effect = difference + seed + video[:, :, self.video]  # (R, S, N)
        if self.score == "mae":
            base = 5 + self.generator.normal(size=shape)
            both = [self.target + base + effect + 0.5 * self.generator.normal(size=shape), self.target + base]
        else:
            chances = [np.clip(0.7 + sign * np.clip(effect, -0.5, 0.5) / 2, 0, 1) for sign in (1, -1)]
            both = [self.target * np.where(self.generator.random(shape) < chance, 1.0, -1.0) for chance in chances]
        function = METRICS[self.score].function
        found = [self.drawing.scores(function, p.reshape(-1, len(self.video)), self.target) for p in both]
        return found[0].reshape(-1, repetitions, self.seeds), found[1].reshape(-1, repetitions, self.seeds)


def percentile_covers(differences: np.ndarray, truth: float, weights: np.ndarray) -> bool:
    """Whether the percentile interval covers the truth: differences (1 + draws, S), weights of the drawn seeds (draws, S)."""
    low, high = np.quantile((differences[1:] * weights).sum(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return bool(low <= truth <= high)


def measure(score: str, name: str, seeds: int, videos: int, repetitions: int, draws: int) -> dict[str, Any]:
    """Coverage with a difference, false positives without one."""
    generator = np.random.default_rng([seeds, videos, list(SHARES).index(name), list(EFFECT).index(score)])
    scenario = Scenario(score, name, seeds, videos, draws, generator)
    drawn = max(1, seeds - 1)
    weights = generator.multinomial(drawn, np.full(seeds, 1 / seeds), draws) / drawn
    covered, percentiles, halves, estimates, false, flips = 0, 0, [], [], 0, 0
    for truth in (EFFECT[score], 0.0):
        for start in range(0, repetitions, BATCH):
            first, second = scenario.scores(truth, min(BATCH, repetitions - start))
            for index in range(first.shape[1]):
                differences = first[:, index] - second[:, index]  # (1 + draws, S)
                found = interval(differences, videos)
                if truth:
                    covered += found.low <= truth <= found.high
                    percentiles += percentile_covers(differences, truth, weights)
                    halves.append((found.high - found.low) / 2)
                    estimates.append(found.difference)
                else:
                    false += found.p < 1 - LEVEL
                    flips += sign_flip(differences[0]) <= 1 - LEVEL
    return {
        "score": score,
        "variance": name,
        "seeds": seeds,
        "videos": videos,
        "repetitions": repetitions,
        "coverage": covered / repetitions,
        "percentile": percentiles / repetitions,
        "width": float(np.median(halves) / (1.96 * np.std(estimates))),
        "false_positives": false / repetitions,
        "sign_flip": flips / repetitions,
    }


def scenarios() -> Iterator[tuple[str, str, int, int]]:
    """All of them: score, name, seeds, videos."""
    for score, name, seeds, videos in product(EFFECT, SHARES, SEEDS, VIDEOS):
        if name != "skewed" or (score == "mae" and seeds == 5):
            yield score, name, seeds, videos


@click.command()
@click.option("--repetitions", default=2000, show_default=True)
@click.option("--draws", default=1000, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the table to this CSV file.")
def main(repetitions: int, draws: int, out: Path | None) -> None:
    """Measure every scenario and print a line for each."""
    rows = []
    for scenario in scenarios():
        row = measure(*scenario, repetitions, draws)
        rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
        click.echo("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    if out is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write(out, text.getvalue())


if __name__ == "__main__":
    main()
