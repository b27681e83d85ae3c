"""Metrics, executors, trackers and tuners: ones that keep every contract, and ones that break one each."""

from __future__ import annotations

import random

import numpy as np

from mmbench.component import Metric, RunOutcome, Values
from mmbench.component import Tuner as Base

REGRESSION = ("regression",)


def good(prediction, target):
    """Mean absolute error."""
    return float(np.mean(np.abs(prediction - target)))


def classes(prediction, target):
    """Share of each class that is recognised."""
    hit = prediction.argmax(1) == target
    return np.array([hit[target == label].mean() if (target == label).any() else np.nan for label in range(prediction.shape[1])])


def _undocumented(prediction, target):
    return good(prediction, target)


def _sorts(prediction, target):
    """It sorts its argument."""
    prediction.sort()
    return good(prediction, target)


def _warns(prediction, target):
    """A division by the spread."""
    return good(prediction, target) / float(np.std(target))


def _empty(prediction, target):
    """The mean of what may be empty."""
    return float(np.mean(np.abs(prediction - target)[target != 0]))


def _first(prediction, target):
    """The first sample counts twice."""
    return (good(prediction, target) + float(abs(prediction[0] - target[0]))) / 2


def _constant(prediction, target):
    """Always the same."""
    return 0.5


def metric(name, function=good, higher=False, limits=(0.0, float("inf")), tasks=REGRESSION, **more):
    return Metric(name, function, higher, limits, tasks, "a test", **more)


METRICS = {
    "good": metric("good"),
    "classes": metric("classes", classes, True, (0.0, 1.0), ("classification",), per_class=True),
    "renamed": metric("another-name"),
    "undocumented": metric("undocumented", _undocumented),
    "whole": metric("whole", lambda p, y: int(good(p, y))),
    "outside": metric("outside", limits=(0.0, 0.5)),
    "sorts": metric("sorts", _sorts),
    "warns": metric("warns", _warns),
    "empty": metric("empty", _empty),
    "reversed": metric("reversed", higher=True),
    "constant": metric("constant", _constant),
    "first": metric("first", _first),
    "doubled": metric("doubled", lambda p, y: 2 * good(p, y)),
}
NOT_A_METRIC = good


class Executor:
    """Every run fails."""

    def __init__(self, config, report=None):
        self.config, self.report = config, report

    def submit(self, runs):
        for run in runs:
            yield RunOutcome(run, "failed", "this executor executes nothing")


class Forgetful(Executor):
    def submit(self, runs):
        yield from list(super().submit(runs))[:1]


class Lying(Executor):
    def submit(self, runs):
        for run in runs:
            yield RunOutcome(run, "done")


class Silent(Executor):
    def submit(self, runs):
        for run in runs:
            yield RunOutcome(run, "failed")


class Tracker:
    """It listens."""

    def run_start(self, run):
        pass

    def epoch_end(self, run, epoch, values):
        pass

    def run_end(self, run, result):
        pass


class Writer(Tracker):
    def epoch_end(self, run, epoch, values):
        (run.folder / "mine.txt").write_text(str(epoch))


class Rounding(Tracker):
    def epoch_end(self, run, epoch, values):
        self.rounded = {name: round(value) for name, value in values.items()}


class Lucky(Tracker):
    def run_start(self, run):
        self.name = random.random()


class OnceOnly(Tracker):
    def run_start(self, run):
        (run.folder.parents[1] / "mine").mkdir()


class Tuner(Base):
    """Each value in turn, and one end of each range."""

    def ask(self, trials):
        return {key: each.values[len(trials) % len(each.values)] if isinstance(each, Values) else each.low for key, each in self.space.items()}


class Outside(Tuner):
    def ask(self, trials):
        return {key: value + 100 if isinstance(value, int) else value for key, value in super().ask(trials).items()}


class Guessing(Tuner):
    def ask(self, trials):
        return {key: each.values[random.randrange(len(each.values))] if isinstance(each, Values) else each.low for key, each in self.space.items()}


class Inventive(Tuner):
    def importances(self, trials):
        return {"luck": 1.0}
