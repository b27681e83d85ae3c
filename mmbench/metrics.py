"""Scores of predictions in pure NumPy float64, with the field's conventions in their names. Imports no torch, pandas or scikit-learn.

Regression metrics take `prediction` (N,) and `target` (N,) on the label scale (MOSI and MOSEI: [-3, 3]; SIMS: [-1, 1]).
Classification metrics take `prediction` (N, C) scores, of which the largest is the predicted class, and `target` (N,) class indices.
A score without samples to rest on (Non0 when every label is zero, correlation of a constant) is NaN, never 0.

Source of the regression conventions: MMSA's metrics for MOSI/MOSEI (``has0``, ``non0``) and for CH-SIMS (``sims``, ``clip1``).
F1 is always the weighted F1 with the true labels as weights: scikit-learn's ``f1_score(target, prediction, average="weighted")``.
Several published codes swap the two arguments, which weights by predicted frequency and moves the score by up to two points.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmbench.component import Metric, Task
from mmbench.errors import ConfigError, RunError

COLLAPSED = 0.05
"""A regression run collapsed when its predictions' standard deviation is below this share of the labels'."""

REGRESSION: tuple[Task, ...] = ("regression",)
CLASSIFICATION: tuple[Task, ...] = ("classification",)
UNBOUNDED = (0.0, float("inf"))


class PredictionError(RunError, ValueError):
    """Predictions that cannot be scored: not finite, or not of the targets' shape."""


# Building blocks ----------------------------------------------------------------------------------------------------------------


def accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """Share of equal entries of two label arrays (N,); NaN without samples."""
    return float(np.mean(truth == guess)) if truth.size else float("nan")


def weighted_f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """F1 of each class of `truth`, weighted by its share of `truth`: sum_c n_c / n * 2 tp_c / (2 tp_c + fp_c + fn_c); 0 where tp_c is 0."""
    if not truth.size:
        return float("nan")
    total = 0.0
    for label in np.unique(truth):
        true, guessed = truth == label, guess == label
        hits = np.count_nonzero(true & guessed)
        total += np.count_nonzero(true) * 2 * hits / (np.count_nonzero(true) + np.count_nonzero(guessed))  # n_c * F1_c
    return float(total / truth.size)


def bins(values: np.ndarray, cuts: Sequence[float]) -> np.ndarray:
    """Index of the bin of each value, bins being open on the left and closed on the right: ``cuts[i-1] < value <= cuts[i]``.

    Compared in float32, in which the labels are stored: 0.1 is then on its cut whether it came as float32 or as float64.
    """
    return np.searchsorted(np.asarray(cuts, np.float32), values.astype(np.float32), side="left")


# Regression, MOSI and MOSEI -----------------------------------------------------------------------------------------------------


def mae(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean absolute error, mean |p - y|, over all samples and without clipping (MMSA)."""
    return float(np.mean(np.abs(prediction - target))) if target.size else float("nan")


def mse(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean squared error, mean (p - y)^2, over all samples and without clipping."""
    return float(np.mean((prediction - target) ** 2)) if target.size else float("nan")


def corr(prediction: np.ndarray, target: np.ndarray) -> float:
    """Pearson's correlation over all samples and without clipping (MMSA); NaN when either side is constant."""
    if target.size < 2 or np.ptp(prediction) == 0 or np.ptp(target) == 0:
        return float("nan")
    p, y = prediction - prediction.mean(), target - target.mean()
    p, y = p / np.abs(p).max(), y / np.abs(y).max()  # scale first: squares of tiny deviations underflow
    return float(np.clip(p @ y / np.sqrt((p @ p) * (y @ y)), -1.0, 1.0))


def acc2_has0(prediction: np.ndarray, target: np.ndarray) -> float:
    """Binary accuracy on all samples, ``y >= 0`` against ``p >= 0``: zero counts as positive (MMSA ``Has0_acc_2``)."""
    return accuracy(target >= 0, prediction >= 0)


def f1_has0(prediction: np.ndarray, target: np.ndarray) -> float:
    """Weighted F1 of the classes of `acc2_has0` (MMSA ``Has0_F1_score``)."""
    return weighted_f1(target >= 0, prediction >= 0)


def acc2_non0(prediction: np.ndarray, target: np.ndarray) -> float:
    """Binary accuracy without the samples labelled exactly 0, ``y > 0`` against ``p > 0`` (MMSA ``Non0_acc_2``; a prediction of 0 is kept)."""
    kept = target != 0
    return accuracy(target[kept] > 0, prediction[kept] > 0)


def f1_non0(prediction: np.ndarray, target: np.ndarray) -> float:
    """Weighted F1 of the classes of `acc2_non0` (MMSA ``Non0_F1_score``)."""
    kept = target != 0
    return weighted_f1(target[kept] > 0, prediction[kept] > 0)


def rounded_accuracy(prediction: np.ndarray, target: np.ndarray, limit: int) -> float:
    """Equality rate after clipping both to [-limit, limit] and rounding half to even, as ``np.round`` does."""
    return accuracy(np.round(np.clip(target, -limit, limit)), np.round(np.clip(prediction, -limit, limit)))


def acc3(prediction: np.ndarray, target: np.ndarray) -> float:
    """Three-class accuracy: clip both to [-1, 1], round half to even, compare (MMSA ``Mult_acc_3``)."""
    return rounded_accuracy(prediction, target, 1)


def acc5(prediction: np.ndarray, target: np.ndarray) -> float:
    """Five-class accuracy: clip both to [-2, 2], round half to even, compare (MMSA ``Mult_acc_5``)."""
    return rounded_accuracy(prediction, target, 2)


def acc7(prediction: np.ndarray, target: np.ndarray) -> float:
    """Seven-class accuracy: clip both to [-3, 3], round half to even, compare (MMSA ``Mult_acc_7``)."""
    return rounded_accuracy(prediction, target, 3)


# Regression, CH-SIMS and CH-SIMS v2: both sides are clipped to [-1, 1] before anything else, for MAE and correlation too ---------


def clip1(values: np.ndarray) -> np.ndarray:
    """Values (N,) limited to the label range of CH-SIMS."""
    return np.clip(values, -1.0, 1.0)


def mae_clip1(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean absolute error after clipping both to [-1, 1] (MMSA for CH-SIMS)."""
    return mae(clip1(prediction), clip1(target))


def corr_clip1(prediction: np.ndarray, target: np.ndarray) -> float:
    """Pearson's correlation after clipping both to [-1, 1] (MMSA for CH-SIMS); NaN when either side is then constant."""
    return corr(clip1(prediction), clip1(target))


def acc2_sims(prediction: np.ndarray, target: np.ndarray) -> float:
    """Binary accuracy after clipping, bins [-1, 0] and (0, 1]: zero counts as negative (MMSA ``Mult_acc_2`` of CH-SIMS)."""
    return accuracy(bins(clip1(target), SIMS2), bins(clip1(prediction), SIMS2))


def f1_sims(prediction: np.ndarray, target: np.ndarray) -> float:
    """Weighted F1 of the classes of `acc2_sims` (MMSA ``F1_score`` of CH-SIMS)."""
    return weighted_f1(bins(clip1(target), SIMS2), bins(clip1(prediction), SIMS2))


def acc3_sims(prediction: np.ndarray, target: np.ndarray) -> float:
    """Three-class accuracy after clipping, bins [-1, -0.1], (-0.1, 0.1], (0.1, 1] (MMSA ``Mult_acc_3`` of CH-SIMS)."""
    return accuracy(bins(clip1(target), SIMS3), bins(clip1(prediction), SIMS3))


def acc5_sims(prediction: np.ndarray, target: np.ndarray) -> float:
    """Five-class accuracy after clipping, bins cut at -0.7, -0.1, 0.1 and 0.7, closed on the right (MMSA ``Mult_acc_5`` of CH-SIMS)."""
    return accuracy(bins(clip1(target), SIMS5), bins(clip1(prediction), SIMS5))


SIMS2 = (0.0,)
SIMS3 = (-0.1, 0.1)
SIMS5 = (-0.7, -0.1, 0.1, 0.7)


# Classification -----------------------------------------------------------------------------------------------------------------


def wacc(prediction: np.ndarray, target: np.ndarray) -> float:
    """Plain accuracy of the argmax. It is what the field calls WAcc: recalls weighted by class size, sum_c n_c r_c / n, are the accuracy.

    It is not balanced accuracy; that is `uar`. Source: GCNet, MERBench; DecAlign, equation 14.
    """
    return accuracy(target, prediction.argmax(axis=1))


def waf1(prediction: np.ndarray, target: np.ndarray) -> float:
    """Weighted F1 of the argmax (WAF1 of GCNet, MERBench and DecAlign); a class that is never hit counts 0."""
    return weighted_f1(target, prediction.argmax(axis=1))


def recall_per_class(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Recall of each class (C,): the share of its samples that are recognised; NaN for a class without samples."""
    hit = prediction.argmax(axis=1) == target
    counts = np.bincount(target, minlength=prediction.shape[1]).astype(np.float64)
    hits = np.bincount(target[hit], minlength=prediction.shape[1])
    return np.divide(hits, counts, out=np.full_like(counts, np.nan), where=counts > 0)


def uar(prediction: np.ndarray, target: np.ndarray) -> float:
    """Unweighted average recall (balanced accuracy): the mean recall of the classes that occur in the targets."""
    recalls = recall_per_class(prediction, target)
    present = recalls[~np.isnan(recalls)]
    return float(present.mean()) if present.size else float("nan")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("mae", mae, False, UNBOUNDED, REGRESSION, "mean absolute error, unclipped"),
        Metric("mse", mse, False, UNBOUNDED, REGRESSION, "mean squared error, unclipped"),
        Metric("corr", corr, True, (-1, 1), REGRESSION, "Pearson's correlation, unclipped"),
        Metric("acc2_has0", acc2_has0, True, (0, 1), REGRESSION, "binary accuracy, zero positive (y >= 0)"),
        Metric("f1_has0", f1_has0, True, (0, 1), REGRESSION, "weighted F1, zero positive (y >= 0)"),
        Metric("acc2_non0", acc2_non0, True, (0, 1), REGRESSION, "binary accuracy without labels of zero (y > 0)"),
        Metric("f1_non0", f1_non0, True, (0, 1), REGRESSION, "weighted F1 without labels of zero (y > 0)"),
        Metric("acc3", acc3, True, (0, 1), REGRESSION, "accuracy after clipping to [-1, 1] and rounding half to even"),
        Metric("acc5", acc5, True, (0, 1), REGRESSION, "accuracy after clipping to [-2, 2] and rounding half to even"),
        Metric("acc7", acc7, True, (0, 1), REGRESSION, "accuracy after clipping to [-3, 3] and rounding half to even"),
        Metric("mae_clip1", mae_clip1, False, (0, 2), REGRESSION, "mean absolute error after clipping to [-1, 1] (CH-SIMS)"),
        Metric("corr_clip1", corr_clip1, True, (-1, 1), REGRESSION, "Pearson's correlation after clipping to [-1, 1] (CH-SIMS)"),
        Metric("acc2_sims", acc2_sims, True, (0, 1), REGRESSION, "binary accuracy, zero negative (CH-SIMS)"),
        Metric("f1_sims", f1_sims, True, (0, 1), REGRESSION, "weighted F1, zero negative (CH-SIMS)"),
        Metric("acc3_sims", acc3_sims, True, (0, 1), REGRESSION, "accuracy in three bins cut at -0.1, 0.1 (CH-SIMS)"),
        Metric("acc5_sims", acc5_sims, True, (0, 1), REGRESSION, "accuracy in five bins cut at -0.7, -0.1, 0.1, 0.7 (CH-SIMS)"),
        Metric("wacc", wacc, True, (0, 1), CLASSIFICATION, "accuracy (the field's WAcc)"),
        Metric("waf1", waf1, True, (0, 1), CLASSIFICATION, "weighted F1"),
        Metric("uar", uar, True, (0, 1), CLASSIFICATION, "balanced accuracy: mean recall of the classes"),
        Metric("recall_per_class", recall_per_class, True, (0, 1), CLASSIFICATION, "recall of each class", per_class=True),
    )
}


# Scoring ------------------------------------------------------------------------------------------------------------------------


def keys(name: str, classes: Sequence[str] = (), metrics: Mapping[str, Metric] = METRICS) -> list[str]:
    """The entries that one metric has in a result: itself, or for a per-class metric one for each class, such as ``recall[happy]``."""
    metric = metrics.get(name)
    return [f"{name.removesuffix('_per_class')}[{label}]" for label in classes] if metric and metric.per_class else [name]


def checked(prediction: np.ndarray, target: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (classification: the target as int64).

    Raises:
        PredictionError: for values that are not finite, shapes that do not belong together, or class indices without a score.
    """
    p, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    dimensions = 2 if task == "classification" else 1
    if y.ndim != 1 or p.ndim != dimensions or p.shape[0] != y.shape[0]:
        wanted = "(N, classes) and (N,)" if task == "classification" else "(N,) and (N,)"
        raise PredictionError(f"predictions of shape {p.shape} do not fit targets of shape {y.shape}: {task} needs {wanted}")
    for what, values in (("predictions", p), ("targets", y)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise PredictionError(f"{bad} of {values.size} {what} are NaN or infinite: such a run is not scored")
    if task == "regression":
        return p, y
    indices = y.astype(np.int64)
    if np.any(indices != y) or np.any((indices < 0) | (indices >= p.shape[1])):
        raise PredictionError(f"targets must be class indices from 0 to {p.shape[1] - 1}: predictions have {p.shape[1]} scores per sample")
    return p, indices


def evaluate(
    names: Iterable[str],
    prediction: np.ndarray,
    target: np.ndarray,
    classes: Sequence[str] = (),
    metrics: Mapping[str, Metric] = METRICS,
) -> dict[str, float]:
    """Score predictions, (N,) or (N, C), with each named metric; a per-class metric becomes ``recall[happy]``, ``recall[sad]``, and so on.

    Without `classes` a per-class metric is numbered, ``recall[0]``.

    Raises:
        ConfigError: for a metric that is unknown or belongs to the other task.
        PredictionError: see `checked`.
    """
    task: Task = "classification" if np.ndim(prediction) == 2 else "regression"
    p, y = checked(prediction, target, task)
    labels = tuple(classes) if task == "regression" else tuple(classes) or tuple(str(index) for index in range(p.shape[1]))
    if task == "classification" and len(labels) != p.shape[1]:
        raise PredictionError(f"{p.shape[1]} scores per sample for {len(labels)} classes ({', '.join(labels)})")
    scores: dict[str, float] = {}
    for name in names:
        metric = named(name, metrics)
        if task not in metric.tasks:
            raise ConfigError(f"metric {name!r} is for {' and '.join(metric.tasks)}, but these predictions are of {task}")
        value = metric.function(p, y)
        values = value if metric.per_class else [value]
        scores.update(zip(keys(name, labels, metrics), map(float, values), strict=True))
    return scores


def named(name: str, metrics: Mapping[str, Metric] = METRICS) -> Metric:
    """The metric of that name; a `ConfigError` with the nearest names where there is none."""
    if name in metrics:
        return metrics[name]
    near = difflib.get_close_matches(name, metrics, n=3)
    raise ConfigError(f"unknown metric {name!r}. " + (f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(metrics)}"))


def metric_of(key: str, metrics: Mapping[str, Metric] = METRICS) -> Metric | None:
    """The metric behind an entry of a result, ``corr`` or ``recall[happy]``; None for one that is not known here."""
    base = key.split("[", 1)[0]
    return metrics.get(base) or metrics.get(f"{base}_per_class")


def collapsed(prediction: np.ndarray, target: np.ndarray, task: Task) -> bool:
    """Whether the predictions are near a constant: standard deviation below 5 % of the labels', or one predicted class for all samples."""
    p, y = checked(prediction, target, task)
    if len(y) < 2:
        return False
    if task == "classification":
        return len(np.unique(p.argmax(axis=1))) == 1
    return bool(np.ptp(p) == 0 or p.std() < COLLAPSED * y.std())


def best_constant(metric: Metric, target: np.ndarray, classes: Sequence[str] = ()) -> float:
    """The best score that any constant prediction gets on these targets (N,). An oracle: it has seen them.

    Regression tries the median (exact for MAE, clipped or not), the mean (MSE), and one value in each bin of every accuracy here:
    the integers from -3 to 3 and the halves; a metric from elsewhere also gets the percentiles of the targets. Classification, where
    `classes` has the names, tries each class. Correlation has no value for a constant, and a per-class score no meaning: NaN.
    """
    if metric.per_class or not np.size(target):
        return float("nan")
    if "classification" in metric.tasks and classes:
        _, y = checked(np.zeros((len(target), len(classes))), target, "classification")
        scores = [metric.function(np.tile(row, (len(y), 1)), y) for row in np.eye(len(classes))]
    else:
        _, y = checked(np.zeros(len(target)), target, "regression")
        constants = [np.median(y), y.mean(), *np.arange(-3.0, 4.0), -0.5, 0.5]
        if METRICS.get(metric.name) is not metric:
            constants.extend(np.quantile(y, np.linspace(0, 1, 101), method="nearest"))
        scores = [metric.function(np.full_like(y, constant), y) for constant in constants]
    finite = [float(score) for score in scores if not np.isnan(score)]
    return (max if metric.higher_is_better else min)(finite, default=float("nan"))
