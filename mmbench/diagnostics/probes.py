"""How much of the true factors of simulated data a linear probe reads out of features, and what there is to read.

In simulated data (`mmbench.data.simulate`) modality m shows ``shown_m``, its version of the label's factor, and three factors of its own,
``unique_m``. A probe is a ridge regression: fitted on the training split's features, its penalty chosen on validation, its R² taken on test.

Features of a sequence are three weighted means over its real frames, with the weights 1, 2s - 1 and 1 - 2|2s - 1| (s from 0 to 1 through the
sample): these are the envelopes of the simulated factors, two of which a plain mean cannot see whatever the network does.

What an R² is to be held against:

* ``factors``: the label out of the true ``shown_m`` (out of all of them for ``all``). No reader of modality m can linearly know more of the label:
  the rest is the modality's noise and contradiction.
* ``patterns``: the factors out of the inputs by someone who knows the patterns W_m and v_m that they were written with. The ceiling for ``shown``
  and ``unique``; below 1 by the frames' noise, and for ``shown`` by the stretch on which it shows, whose length a linear reader does not know.
* ``inputs``: the same probe on the raw inputs, which has to learn the patterns from the training split.
* the untrained network, through which much of the inputs passes as well.

``share_shown`` and ``share_unique`` turn the question around: the share of the features' variance on test that is linear in the factors. A probe
can read what hardly moves the features; a share tells what moves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ALPHAS = 10.0 ** np.arange(-3, 6.5, 0.5)
"""Penalties that are tried, for standardised features and the sum of squared errors."""
SPLITS = ("train", "valid", "test")
_BLOCK = 256

Table = Mapping[str, np.ndarray]
"""One array (N, D) for each split."""


def probe(features: Table, factors: Table) -> np.ndarray:
    """R² on test of each factor (K,), read out of features (N, D) by a ridge regression; NaN for a factor that is constant there."""
    predicted = ridge(features["train"], factors["train"], features["valid"], factors["valid"], features["test"])
    return r2(factors["test"], predicted)


def ridge(x: np.ndarray, y: np.ndarray, x_valid: np.ndarray, y_valid: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Predictions (N, K) for `x_test`, of the penalty in `ALPHAS` with the least error on validation (the greatest of equals).

    That error is the absolute one, over each factor's deviation: few samples of one or two frames would decide a squared one alone.

    Features (N, D) are standardised by training statistics, columns that are constant there count as zero; the mean of y (N, K) is not penalised.
    """
    mean, sd = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    sd = np.where(sd > 1e-7 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny), sd, np.inf)
    x, x_valid, x_test = ((part - mean) / sd for part in (x, x_valid, x_test))
    middle = y.mean(0, dtype=np.float64)
    wide = x.shape[1] > len(x)
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    right = vectors.T @ (y - middle if wide else x.T @ (y - middle))

    def weights(alpha: float) -> np.ndarray:
        solved = vectors @ (right / (np.maximum(values, 0) + alpha)[:, None])
        return np.asarray(x.T @ solved if wide else solved)  # (D, K)

    spread = y.std(0)
    errors = [(np.abs(x_valid @ weights(alpha) + middle - y_valid).mean(0) / np.where(spread > 0, spread, 1)).mean() for alpha in ALPHAS]
    best = len(ALPHAS) - 1 - int(np.argmin(errors[::-1]))
    return np.asarray(x_test @ weights(ALPHAS[best]) + middle)


def r2(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """``1 - sum (y - p)^2 / sum (y - mean y)^2`` of each column (K,): 0 for the test mean, below 0 for what is worse; NaN for a constant column."""
    spread = np.square(target - target.mean(0)).sum(0)
    varies = np.ptp(target, axis=0) > 0  # the spread of a constant is rounding errors
    return np.where(varies, 1 - np.square(target - prediction).sum(0) / np.where(varies, spread, 1), np.nan)


def share(features: Table, factors: Table) -> float:
    """Share of the features' variance on test that is linear in the factors, as fitted on the training split; NaN for constant features."""
    predicted = ridge(factors["train"], features["train"], factors["valid"], features["valid"], factors["test"])
    test = np.asarray(features["test"], np.float64)
    spread = np.square(test - test.mean(0)).sum()
    return float(1 - np.square(test - predicted).sum() / spread) if np.ptp(test, axis=0).any() else float("nan")


class Factors:
    """The true factors of each split: `label` (N, 1) or as class indicators (N, C), `shown` (N, C) and `unique` (N, 3) by modality."""

    def __init__(self, loaded: Mapping[str, Mapping[str, np.ndarray]], modalities: tuple[str, ...], classes: int):
        def table(name: str) -> dict[str, np.ndarray]:
            return {split: np.asarray(loaded[split][name], np.float64).reshape(len(loaded[split][name]), -1) for split in SPLITS}

        label = table("label")
        self.label = {split: np.eye(classes)[values[:, 0].astype(int)] for split, values in label.items()} if classes else label
        self.modalities = modalities
        self.shown = {name: table(f"shown_{name}") for name in modalities}
        self.unique = {name: table(f"unique_{name}") for name in modalities}

    def read(self, features: Table, modality: str) -> dict[str, Any]:
        """Everything a document says of the features of one modality."""
        unique = probe(features, self.unique[modality])
        return {
            "label": _mean(probe(features, self.label)),
            "shown": _mean(probe(features, self.shown[modality])),
            "unique": _mean(unique),
            "unique_factors": unique.tolist(),
            "share_shown": share(features, self.shown[modality]),
            "share_unique": share(features, self.unique[modality]),
        }

    def ceilings(self) -> dict[str, dict[str, float]]:
        """R² of the label out of what each modality truly shows, and out of all of it."""
        every = {split: np.concatenate([self.shown[name][split] for name in self.modalities], axis=1) for split in SPLITS}
        found = {name: {"label": _mean(probe(self.shown[name], self.label))} for name in self.modalities}
        return {**found, "all": {"label": _mean(probe(every, self.label))}}

    def references(
        self, arrays: Mapping[str, np.ndarray], patterns: Mapping[str, tuple[np.ndarray, np.ndarray]], modalities: tuple[str, ...]
    ) -> dict[str, Any]:
        """What the raw inputs of a store hold (`inputs`), and what one who knows the patterns reads in them (`patterns`), by modality."""
        found: dict[str, Any] = {"inputs": {}, "patterns": {}, "factors": self.ceilings()}
        for name in modalities:
            raw = {split: through_time(arrays[f"{split}/features/{name}"], arrays[f"{split}/features_mask/{name}"]) for split in SPLITS}
            inverse = np.linalg.pinv(np.concatenate(patterns[name]).astype(np.float64))  # (D, C + 3)
            known = {split: (part.reshape(len(part), 3, -1) @ inverse).reshape(len(part), -1) for split, part in raw.items()}
            for key, features in (("inputs", raw), ("patterns", known)):
                found[key][name] = {
                    "label": _mean(probe(features, self.label)),
                    "shown": _mean(probe(features, self.shown[name])),
                    "unique": _mean(probe(features, self.unique[name])),
                }
        return found


def envelopes(mask: np.ndarray) -> np.ndarray:
    """Weights of the three means over the real frames: (N, T) -> (N, 3, T), each divided by the number of real frames."""
    count = np.maximum(mask.sum(1, keepdims=True), 1)
    through = (np.cumsum(mask, axis=1) - 0.5) / count  # from 0 to 1
    weights = np.stack([np.ones_like(through), 2 * through - 1, 1 - 2 * np.abs(2 * through - 1)], axis=1)
    return np.asarray(weights * (mask / count)[:, None])


def through_time(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The three weighted means of sequences, block by block: (N, T, D), (N, T) -> (N, 3D)."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(values), _BLOCK)]
    parts = [envelopes(np.asarray(mask[rows])) @ np.asarray(values[rows], np.float64) for rows in blocks]
    return np.concatenate(parts).reshape(len(values), -1)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
