"""What features look like, in one pass over blocks of rows, and what predictors without a model reach with them. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from mmbench.component import Metric
from mmbench.data.dataset import Dataset, Modality
from mmbench.metrics import METRICS, best_constant, evaluate, keys
from mmbench.plugins import catalogue

_BLOCK_BYTES = 8 << 20
_BINS = 8
PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Of ridge regression on standardised features, for each sample; our choice. Validation chooses among them."""


@dataclass(frozen=True)
class Frames:
    """One modality over all splits: numbers of real frames, frames of zeros, and the mean frame of each sample."""

    total: int
    mean: float
    median: float
    longest: int
    zero: int
    histogram: tuple[tuple[int, int, int], ...]
    """(from, to, samples) for ranges of lengths."""
    constant: tuple[int, ...] = ()
    """Columns with one value in all real frames of training."""
    means: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By split: (N, D) float64, for features alone."""


def frames(parts: Mapping[str, Modality]) -> Frames:
    """The statistics of one modality, given by split."""
    lengths = np.concatenate([part.mask.sum(axis=1, dtype=np.int64) for part in parts.values()])
    zero, constant, means = 0, np.zeros(0, bool), {}
    for split, part in parts.items():
        if part.kind == "waveform":
            zero += sum(int(((np.asarray(part.values[rows]) == 0) & part.mask[rows]).sum()) for rows in _blocks(part))
        elif part.kind == "features":
            count, unvaried, means[split] = _features(part)
            zero += count
            constant = unvaried if split == "train" else constant
    return Frames(
        total=int(lengths.sum()),
        mean=round(float(lengths.mean()), 2),
        median=float(np.median(lengths)),
        longest=int(lengths.max()),
        zero=zero,
        histogram=_histogram(lengths),
        constant=tuple(map(int, np.flatnonzero(constant))),
        means=means,
    )


def _blocks(part: Modality) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES * len(part.values) // max(part.values.nbytes, 1))
    return (slice(start, start + step) for start in range(0, len(part.values), step))


def _features(part: Modality) -> tuple[int, np.ndarray, np.ndarray]:
    """Frames of zeros, columns (D,) bool that never vary, and the mean real frame of each sample (N, D) float64."""
    size, _, width = part.values.shape
    zero, constant, means = 0, np.ones(width, bool), np.zeros((size, width))
    first: np.ndarray | None = None
    for rows in _blocks(part):
        mask = np.asarray(part.mask[rows])
        real = np.asarray(part.values[rows])[mask]  # (F, D)
        if not len(real):
            continue
        first = real[0] if first is None else first
        zero += int((~real.any(axis=1)).sum())
        if constant.any():
            constant[constant] = (real[:, constant] == first[constant]).all(axis=0)
        counts = mask.sum(axis=1)
        filled = counts > 0
        starts = np.cumsum(counts[filled]) - counts[filled]
        means[rows][filled] = np.add.reduceat(real, starts, axis=0, dtype=np.float64) / counts[filled, None]
    return zero, constant, means


def _histogram(lengths: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """At most `_BINS` ranges of equal width from 1 to the greatest length; the first also counts lengths of zero."""
    width = max(1, -(-int(lengths.max()) // _BINS))
    places = np.maximum(lengths - 1, 0) // width
    tops = [min((place + 1) * width, max(1, int(lengths.max()))) for place in range(int(places.max()) + 1)]
    return tuple((place * width + 1, top, int((places == place).sum())) for place, top in enumerate(tops))


def ridge(inputs: Mapping[str, np.ndarray], train: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, float]:
    """Predictions (N, K) for test and the penalty that was chosen: least squares with an L2 penalty, W = (X'X + p N I)^-1 X'Y.

    `inputs`: (N, D) by split; `train`, `valid`: targets (N, K). Columns are standardised by training, which alone is fitted; validation chooses
    the penalty by its squared error. Where there are more columns than samples, W = X'(XX' + p N I)^-1 Y is the same.
    """
    mean, scale = inputs["train"].mean(axis=0), inputs["train"].std(axis=0)
    kept = scale > 1e-9 * np.maximum(1, np.abs(mean))
    x = {split: (values[:, kept] - mean[kept]) / scale[kept] for split, values in inputs.items()}
    offset = train.mean(axis=0)
    wide = x["train"].shape[1] > len(train)
    gram = x["train"] @ x["train"].T if wide else x["train"].T @ x["train"]
    right = train - offset if wide else x["train"].T @ (train - offset)
    best: tuple[float, float, np.ndarray] | None = None
    for penalty in PENALTIES:
        weights = np.linalg.solve(gram + penalty * len(train) * np.eye(len(gram)), right)
        weights = x["train"].T @ weights if wide else weights
        error = float(np.mean((x["valid"] @ weights + offset - valid) ** 2))
        if best is None or error < best[0]:
            best = error, penalty, weights
    assert best is not None
    return x["test"] @ best[2] + offset, best[1]


@dataclass(frozen=True)
class Floor:
    """What one predictor without a model reaches on test, by entry of the metrics; `penalty`: of ridge regression."""

    name: str
    scores: Mapping[str, float]
    penalty: float | None = None


def floors(dataset: Dataset, statistics: Mapping[str, Frames]) -> list[Floor]:
    """Training's constant, ridge regression on the mean frame of each modality and of all, and the best constant for each metric, an oracle.

    The constant is training's median or most frequent class. Of classes, ridge regression fits the indicators.
    """
    metrics = {name: METRICS[name] if name in METRICS else _metric(name) for name in dataset.metrics}
    classes, targets = dataset.classes, {split: np.asarray(part.target) for split, part in dataset.splits.items()}
    fitted = {split: (y[:, None] == np.arange(len(classes)) if classes else y[:, None]).astype(float) for split, y in targets.items()}  # (N, K)

    def score(name: str, prediction: np.ndarray, penalty: float | None = None) -> Floor:
        return Floor(name, evaluate(metrics, prediction if classes else prediction[:, 0], targets["test"], classes, metrics), penalty)

    constant = fitted["train"].mean(axis=0) if classes else np.median(fitted["train"], axis=0)
    found = [score("constant", np.tile(constant, (len(targets["test"]), 1)))]
    features = {name: part.means for name, part in statistics.items() if part.means}
    if len(features) > 1:
        features["all"] = {split: np.concatenate([part[split] for part in features.values()], axis=1) for split in targets}
    found += [score(f"ridge {name}", *ridge(inputs, fitted["train"], fitted["valid"])) for name, inputs in features.items()]
    best = {key: best_constant(metric, targets["test"], classes) for name, metric in metrics.items() for key in keys(name, classes, metrics)}
    return [*found, Floor("oracle", best)]


def _metric(name: str) -> Metric:
    metric: Metric = catalogue().find("metric", name).load()
    return metric
