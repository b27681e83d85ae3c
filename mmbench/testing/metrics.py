"""Checks of metrics, in NumPy. Imports no torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from mmbench.component import Metric
from mmbench.testing.checks import Failed, Skipped, Subject, expect
from mmbench.testing.factories import CLASSES, LABELS

TOLERANCE = 1e-9
Pair = tuple[str, np.ndarray, np.ndarray]


def metric_of(subject: Subject) -> Metric:
    """The metric that the component's target names."""
    found = subject.entry.load()
    if not isinstance(found, Metric):
        raise Failed(f"expected an mmbench.Metric at {subject.component.target}; seen {type(found).__name__}")
    return found


def pairs(task: str) -> Iterator[Pair]:
    """Predictions and targets: random, with ties, of one class, constant, without error, and of one sample."""
    generator = np.random.default_rng(0)
    if task == "classification":
        count = len(CLASSES)
        for size in (1, 2, 40):
            target = generator.integers(0, count, size)
            yield f"{size} random samples", generator.normal(size=(size, count)), target
            yield f"{size} samples of one class", generator.normal(size=(size, count)), np.full(size, 2)
            yield f"{size} samples, ties in the scores", generator.integers(0, 2, (size, count)).astype(float), target
            yield f"{size} samples, one predicted class", np.tile(np.eye(count)[1], (size, 1)), target
            yield f"{size} samples without error", np.eye(count)[target], target
        return
    for size in (1, 2, 40):
        target = generator.choice(LABELS, size)
        yield f"{size} random samples", generator.normal(scale=2.0, size=size), generator.normal(scale=2.0, size=size)
        yield f"{size} samples with ties", generator.choice(LABELS, size), target
        yield f"{size} samples of one label", generator.normal(size=size), np.full(size, -1.0)
        yield f"{size} samples with labels of zero", generator.normal(size=size), np.zeros(size)
        yield f"{size} constant predictions", np.full(size, 0.25), target
        yield f"{size} samples without error", target.copy(), target


def score(metric: Metric, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The values of a metric: one, or one for each class."""
    return np.atleast_1d(np.asarray(metric.function(prediction, target), np.float64))


def record(subject: Subject) -> None:
    """The metric's name and tasks are those of its component, its range is a range, and its function has a docstring."""
    metric, component = metric_of(subject), subject.component
    expect(metric.name == component.name, f"the name {component.name!r}", repr(metric.name))
    expect(set(metric.tasks) == set(component.tasks), f"the tasks {component.tasks}", metric.tasks)
    expect(metric.range[0] < metric.range[1], "a least and a greatest value", metric.range)
    expect((metric.function.__doc__ or "").strip(), "a docstring of its function", "none")


def values(subject: Subject) -> None:
    """The value is a float within the range, or NaN, on usual and degenerate data; no warning, and the arrays are left alone."""
    metric = metric_of(subject)
    low, high = metric.range
    for task in metric.tasks:
        for place, prediction, target in pairs(task):
            given = prediction.copy(), target.copy()
            with np.errstate(all="raise"), warnings.catch_warnings():
                warnings.simplefilter("error")
                found: Any = metric.function(prediction, target)
            if metric.per_class:
                expect(np.shape(found) == (len(CLASSES),), f"one value for each of {len(CLASSES)} classes", f"shape {np.shape(found)}", place)
            else:
                expect(isinstance(found, float), "a float", type(found).__name__, place)
            for value in np.atleast_1d(np.asarray(found, np.float64)):
                inside = math.isnan(value) or low - TOLERANCE <= value <= high + TOLERANCE
                expect(inside, f"a value from {low:g} to {high:g}, or NaN", f"{value:g}", place)
            left_alone = np.array_equal(given[0], prediction) and np.array_equal(given[1], target)
            expect(left_alone, "arrays that the metric leaves alone", "other values", place)


def direction(subject: Subject) -> None:
    """Predictions without error score no worse than others, and some others score worse."""
    metric = metric_of(subject)
    sign = 1.0 if metric.higher_is_better else -1.0
    for task in metric.tasks:
        worse = False
        for place, prediction, target in pairs(task):
            perfect = np.eye(len(CLASSES))[target] if task == "classification" else target.copy()
            best, found = sign * score(metric, perfect, target), sign * score(metric, prediction, target)
            both = ~(np.isnan(best) | np.isnan(found))
            expect((found[both] <= best[both] + TOLERANCE).all(), "that no prediction beats the targets themselves", f"{found} against {best}", place)
            worse = worse or bool((found[both] < best[both] - TOLERANCE).any())
        expect(worse, f"some predictions for {task} that score worse than the targets themselves", "none")


def order(subject: Subject) -> None:
    """The order of the samples does not matter."""
    metric = metric_of(subject)
    generator = np.random.default_rng(1)
    for task in metric.tasks:
        for place, prediction, target in pairs(task):
            shuffled = generator.permutation(len(target))
            before, after = score(metric, prediction, target), score(metric, prediction[shuffled], target[shuffled])
            expect(np.allclose(before, after, rtol=0, atol=TOLERANCE, equal_nan=True), f"{before} in another order", after, place)


def reference(subject: Subject) -> None:
    """The metric gives what an independent, slow function gives."""
    slow = subject.context.references.get(subject.component.name)
    if slow is None:
        raise Skipped("no reference function was given")
    metric = metric_of(subject)
    for task in metric.tasks:
        for place, prediction, target in pairs(task):
            expected, found = np.atleast_1d(np.asarray(slow(prediction, target), np.float64)), score(metric, prediction, target)
            same = expected.shape == found.shape and np.allclose(found, expected, rtol=0, atol=TOLERANCE, equal_nan=True)
            expect(same, f"{expected} from the reference", found, place)
