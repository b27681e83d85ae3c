"""What predictions and features show by themselves: calibration, gap and CKA between modalities. NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from mmbench.results.embeddings import FIELDS, Embeddings, cka, modality_gap, paired_distance

BINS = 7
"""Bins of a regression's labels: on [-3, 3] the rounded labels, as in Acc7."""
CONFIDENCE_BINS = 10


def similarity(embeddings: Embeddings) -> dict[str, dict[str, dict[str, float | None]]]:
    """``gap``, ``paired_distance`` and ``cka`` by field, then by pair (``text-audio``); a gap of features of two widths is None."""
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"gap": modality_gap, "paired_distance": paired_distance, "cka": cka}
    found: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in measures}
    for field in FIELDS:
        features = embeddings.modalities(field)
        for name, measure in measures.items():
            values = {}
            for first, second in combinations(features, 2):
                a, b = features[first], features[second]
                values[f"{first}-{second}"] = measure(a, b) if name == "cka" or a.shape[1] == b.shape[1] else None
            if values:
                found[name][field] = values
    return found


def separation(embeddings: Embeddings) -> dict[str, dict[str, float]]:
    """How alike the common and the unique features of one modality are, by modality: their mean ``cosine`` over samples, and their ``cka``.

    Losses that split the two want a cosine of 0; at -1 (or 1) one is the other with its sign turned (or not), and nothing is split.
    Modalities whose two widths differ have no cosine.
    """
    found = {}
    for name in embeddings.common.keys() & embeddings.unique.keys():
        common, unique = (np.asarray(features[name], np.float64) for features in (embeddings.common, embeddings.unique))
        found[name] = {"cka": cka(common, unique)}
        if common.shape == unique.shape:
            lengths = np.linalg.norm(common, axis=1) * np.linalg.norm(unique, axis=1)
            found[name]["cosine"] = float(((common * unique).sum(1) / np.where(lengths > 0, lengths, 1)).mean())
    return {name: found[name] for name in embeddings.common if name in found}


def regression_calibration(prediction: np.ndarray, target: np.ndarray, label_range: tuple[float, float] | None) -> list[dict[str, float]]:
    """By bin of the label: its limits, samples, mean target and prediction, bias (prediction minus target) and MAE. Empty bins are left out.

    Both (N,). Seven bins of equal width centred between the ends of the labels' range; without a range, between the least and the greatest label.
    """
    p, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    low, high = label_range or (float(y.min()), float(y.max()))
    middle, width = (low + high) / 2, (high - low) / (BINS - 1) or 1.0
    number = np.round((y - middle) / width)
    rows = []
    for k in np.unique(number):
        own = number == k
        centre = middle + k * width
        rows.append(
            {
                "low": centre - width / 2,
                "high": centre + width / 2,
                "n": int(own.sum()),
                "target": float(y[own].mean()),
                "prediction": float(p[own].mean()),
                "bias": float((p[own] - y[own]).mean()),
                "mae": float(np.abs(p[own] - y[own]).mean()),
            }
        )
    return rows


def regression_line(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Least squares of the prediction on the label: below a slope of 1, strong labels are predicted too weak. NaN where labels are constant."""
    p, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    spread = np.square(y - y.mean()).sum()
    slope = float(((y - y.mean()) * (p - p.mean())).sum() / spread) if spread > 0 else float("nan")
    return {"slope": slope, "intercept": float(p.mean() - slope * y.mean()), "bias": float((p - y).mean())}


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Softmax of scores (N, C)."""
    shifted = np.exp(np.asarray(scores, np.float64) - np.max(scores, axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def classification_calibration(probability: np.ndarray, target: np.ndarray) -> list[dict[str, float]]:
    """By bin of confidence (the greatest probability), ten of equal width: limits, samples, accuracy (`target`), mean confidence (`prediction`), and
    their distance (`mae`). `probability` (N, C), `target` (N,) class indices. Empty bins are left out. Source: Guo et al. 2017, section 2."""
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == np.asarray(target)
    number = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    rows = []
    for k in np.unique(number):
        own = number == k
        accuracy, mean = float(right[own].mean()), float(confidence[own].mean())
        limits = {"low": k / CONFIDENCE_BINS, "high": (k + 1) / CONFIDENCE_BINS, "n": int(own.sum())}
        rows.append({**limits, "target": accuracy, "prediction": mean, "mae": abs(accuracy - mean)})
    return rows


def expected_calibration_error(rows: list[dict[str, float]]) -> float:
    """``sum_bins n_bin / n |accuracy - confidence|``. Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), Eq. 3."""
    return float(sum(row["n"] * row["mae"] for row in rows) / sum(row["n"] for row in rows))


def class_reliability(probability: np.ndarray, target: np.ndarray, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """By class: its share of the samples and of the predictions, mean probability, precision, recall, and its own calibration error."""
    guess, y = probability.argmax(axis=1), np.asarray(target)
    rows = []
    for index, name in enumerate(classes):
        true, said, own = y == index, guess == index, probability[:, index]
        number = np.minimum((own * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
        error = sum(abs(true[number == k].mean() - own[number == k].mean()) * (number == k).mean() for k in np.unique(number))
        row = {"class": name, "n": int(true.sum()), "predicted": int(said.sum()), "probability": float(own.mean())}
        rows.append({**row, "precision": _share(true[said]), "recall": _share(said[true]), "calibration_error": float(error)})
    return rows


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def calibration(prediction: np.ndarray, target: np.ndarray, classes: tuple[str, ...], label_range: tuple[float, float] | None) -> Mapping[str, Any]:
    """The entries ``calibration`` (bins) and ``calibration_summary`` of a document."""
    if not classes:
        rows = regression_calibration(prediction, target, label_range)
        return {"calibration": rows, "calibration_summary": regression_line(prediction, target)}
    probability = probabilities(prediction)
    rows = classification_calibration(probability, target)
    summary = {"expected_calibration_error": expected_calibration_error(rows), "classes": class_reliability(probability, target, classes)}
    return {"calibration": rows, "calibration_summary": summary}
