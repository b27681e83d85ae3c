"""Test predictions counted by class, or by rounded intensity where the task is regression. NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbench.errors import DataError
from mmbench.metrics import SIMS5, PredictionError, bins, checked, clip1
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import RunRecord


@dataclass(frozen=True)
class Scale:
    """What predictions are counted by: the names of the rows, and what they are."""

    names: tuple[str, ...]
    what: str
    accuracy: str
    """The accuracy that the diagonal is."""


INTENSITIES = Scale(("-3", "-2", "-1", "0", "1", "2", "3"), "intensity, clipped to [-3, 3] and rounded half to even", "acc7")
SIMS = Scale(("≤ -0.7", "≤ -0.1", "≤ 0.1", "≤ 0.7", "≤ 1"), "intensity in the five bins of CH-SIMS", "acc5_sims")


def scale_of(data: Mapping[str, Any]) -> Scale:
    """By what the predictions of runs on these data are counted: classes, CH-SIMS's five bins, or intensities from -3 to 3."""
    if data.get("task") == "classification":
        return Scale(tuple(data.get("classes", ())), "class", "accuracy")
    return SIMS if "acc5_sims" in data.get("metrics", ()) else INTENSITIES


def indices(values: np.ndarray, scale: Scale) -> np.ndarray:
    """The row of each value (N,) of a regression: `mmbench.metrics.acc7`'s rounding, or `acc5_sims`'s bins."""
    if scale is SIMS:
        return bins(clip1(values), SIMS5)
    return np.round(np.clip(values, -3, 3)).astype(np.int64) + 3


def confusion_counts(run: RunRecord) -> np.ndarray:
    """Test samples (C, C) of one finished run: rows are the truth, columns what was predicted.

    Raises:
        DataError: where its predictions are missing, damaged or not finite.
    """
    scale = scale_of(run.data)
    path = run.folder / NAME
    stored = read_predictions(path)
    if "test" not in stored:
        raise DataError(f"{path}: holds no predictions of the test split; run this seed again")
    _, target, prediction = stored["test"]
    task = "classification" if run.data.get("task") == "classification" else "regression"
    try:
        p, y = checked(prediction, target, task)  # type: ignore[arg-type]
    except PredictionError as error:
        raise DataError(f"{path}: {error}") from None
    if task == "classification" and p.shape[1] != len(scale.names):
        raise DataError(f"{path}: has {p.shape[1]} scores per sample for {len(scale.names)} classes ({', '.join(scale.names)})")
    truth, guess = (y, p.argmax(axis=1)) if task == "classification" else (indices(y, scale), indices(p, scale))
    size = len(scale.names)
    return np.bincount(truth * size + guess, minlength=size * size).reshape(size, size)  # (C, C)


def by_seed(runs: Sequence[RunRecord]) -> np.ndarray:
    """Counts (S, C, C) of a configuration's seeds; those of the parts of a protocol are added up within a seed."""
    found: dict[int | None, np.ndarray] = {}
    for run in runs:
        counts = confusion_counts(run)
        found[run.seed] = found[run.seed] + counts if run.seed in found else counts
    return np.stack(list(found.values()))


def accuracies(counts: np.ndarray) -> np.ndarray:
    """Accuracy of each seed (S,) from counts (S, C, C)."""
    return np.trace(counts, axis1=1, axis2=2) / counts.sum((1, 2))


def recalls(counts: np.ndarray) -> np.ndarray:
    """Recall (S, C): hits among the samples of a class; NaN for a class without samples."""
    hits, true = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2)
    return np.divide(hits, true, out=np.full(true.shape, np.nan), where=true > 0)


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """F1 (S, C) = 2 hits / (samples + guesses): 0 for a class that is never hit, NaN for one without samples."""
    hits, true, guessed = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)
    return np.divide(2 * hits, true + guessed, out=np.full(true.shape, np.nan), where=true > 0)
