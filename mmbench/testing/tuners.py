"""Checks of tuners. Imports no torch."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.component import Range, Space, Trial, Tuner, Values
from mmbench.testing.checks import Subject, expect

KINDS_OF_VALUES: Space = {
    "training.optimizer.lr": Range(1e-5, 1e-1, log=True),
    "losses.0.weight": Range(-1.0, 1.0),
    "training.batch_size": Range(1, 64, log=True, whole=True),
    "model.layers": Range(1, 3, whole=True),
    "model.dropout": Values((0.1, 0.5)),
    "model.hidden": Values(([64], [64, 32], {"text": 8}, None, True, "same")),
    "model.width": Values((8,)),
}
POINTS: Space = {"model.layers": Range(1, 3, whole=True), "model.norm": Values(("batch", None))}
"""A space of few points, which a search may come to the end of."""
TRIALS = 15
"""More than a tuner makes at random before it looks at the others."""


def space(subject: Subject) -> None:
    """It chooses a value for each key, of that key's kind and within its limits, after trials that are done, failed and running."""
    for higher in (False, True):
        for name, searched in (("all kinds", KINDS_OF_VALUES), ("few points", POINTS)):
            if (tuner := _built(subject, searched, higher)) is not None:
                _search(tuner, searched, name)


def repeatable(subject: Subject) -> None:
    """Another instance chooses the same after the same trials, and no global random numbers are used."""
    before = random.getstate(), repr(np.random.get_state())
    for searched in (KINDS_OF_VALUES, POINTS):
        tuners = [_built(subject, searched, False) for _ in range(2)]
        if tuners[0] is not None and tuners[1] is not None:
            trials = _search(tuners[0], searched, "first instance")
            for count in (0, len(trials) // 2, len(trials) - 1):
                chosen = tuners[1].ask(trials[:count])
                expect(chosen == trials[count].values, f"the same choice after {count} trials: {trials[count].values}", chosen)
    expect((random.getstate(), repr(np.random.get_state())) == before, "that the global random numbers are left alone", "others")


def account(subject: Subject) -> None:
    """Its importances are of keys of the space, and what it keeps for its own tools changes nothing."""
    if (tuner := _built(subject, POINTS, True)) is not None:
        trials = _search(tuner, POINTS, "few points")
        for known in ([], trials[:1], trials):
            found = tuner.importances(known)
            expect(set(found) <= set(POINTS), f"importances of {', '.join(POINTS)}", ", ".join(found))
            with tempfile.TemporaryDirectory() as folder:
                tuner.keep(Path(folder), known)
                tuner.keep(Path(folder), known)  # it is called after each round
        expect(tuner.ask(trials[:2]) == trials[2].values, "the same choice as before", tuner.ask(trials[:2]))


def _built(subject: Subject, searched: Space, higher: bool) -> Tuner | None:
    """An instance; nothing where it says that it cannot search this space, which it may of one of the two."""
    cls = subject.entry.load()
    try:
        tuner = cls(subject.config(), searched, higher)
    except ValueError as error:
        expect(searched is KINDS_OF_VALUES, "that it can search whole numbers and values", f"ValueError: {error}")
        return None
    expect(isinstance(tuner, Tuner), f"a subclass of mmbench.interfaces.Tuner at {subject.component.target}", cls.__name__)
    return tuner


def _search(tuner: Tuner, searched: Space, name: str) -> list[Trial]:
    """Trials one after another, of which each third fails; each choice is also made while the last two are still running."""
    trials: list[Trial] = []
    while len(trials) < TRIALS and (values := tuner.ask(trials)) is not None:
        _expect_inside(values, searched, name)
        _expect_inside(tuner.ask([*trials[:-2], *(Trial(trial.values) for trial in trials[-2:])]), searched, f"{name}, two trials running")
        trials.append(_ended(len(trials), values))
    expect(len(trials) > 2, "that it chooses for some trials", len(trials), name)
    return trials


def _ended(number: int, values: Mapping[str, Any]) -> Trial:
    if number % 3 == 2:
        return Trial(values, "failed", reason="task became nan in epoch 2")
    return Trial(values, "done", 1.0 + 0.1 * (number * 7 % 5))


def _expect_inside(values: Any, searched: Space, name: str) -> None:
    expect(isinstance(values, Mapping), "a mapping of keys to values, or None", type(values).__name__, name)
    expect(set(values) == set(searched), f"a value for each of {', '.join(searched)}", ", ".join(values), name)
    for key, each in searched.items():
        expect(values[key] in each, f"{key} of {each}", repr(values[key]), name)
