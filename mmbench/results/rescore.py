"""Scores computed again from stored predictions, and how they differ from the stored scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmbench.component import Metric
from mmbench.errors import MmbenchError
from mmbench.files import load_json, write_sealed
from mmbench.metrics import collapsed, evaluate
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import RunRecord, intact

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Rescored:
    """One finished run scored again: the new scores by split, what differs from the stored ones, and what could not be computed."""

    record: RunRecord
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    collapsed: bool = False
    differences: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Metrics of the run that are not installed here; their stored scores are left as they are."""
    problem: str = ""


def rescore(record: RunRecord, metrics: Mapping[str, Metric]) -> Rescored:
    """Score the stored predictions of a finished run with the metrics it was scored with."""
    names = tuple(record.data.get("metrics", ()))
    known = [name for name in names if name in metrics]
    unknown = tuple(name for name in names if name not in metrics)
    classes = tuple(record.data.get("classes", ()))
    try:
        for name in record.files:
            intact(record, name)
        stored = read_predictions(record.folder / NAME)
        found = {split: evaluate(known, prediction, target, classes, metrics) for split, (_, target, prediction) in stored.items()}
        if "test" not in stored:
            return Rescored(record, unknown=unknown, problem="no test predictions are stored")
        _, target, prediction = stored["test"]
        near_constant = collapsed(prediction, target, "classification" if prediction.ndim == 2 else "regression")
    except MmbenchError as error:
        return Rescored(record, unknown=unknown, problem=str(error))
    differences = []
    for split in dict.fromkeys((*found, *record.metrics)):
        old, new = record.metrics.get(split, {}), found.get(split)
        if new is None:
            differences.append(f"{split}: scores are stored, but no predictions")
            continue
        for key, value in new.items():
            if key not in old:
                differences.append(f"{split} {key}: not stored, computed {value:.12g}")
            elif not same(old[key], value):
                differences.append(f"{split} {key}: stored {old[key]:.12g}, computed {value:.12g}")
    if near_constant != record.collapsed:
        differences.append(f"collapsed: stored {record.collapsed}, computed {near_constant}")
    return Rescored(record, found, near_constant, tuple(differences), unknown)


def same(first: float, second: float) -> bool:
    """Whether two scores are equal up to rounding, or both are NaN (in JSON: null)."""
    return (math.isnan(first) and math.isnan(second)) or abs(first - second) <= TOLERANCE


def store(rescored: Rescored) -> None:
    """Put the new scores into the run's ``result.json``, atomically; everything else in it stays as it is."""
    path = rescored.record.folder / "result.json"
    document: dict[str, Any] = load_json(path)
    document["metrics"] = {split: (document["metrics"].get(split) or {}) | dict(new) for split, new in rescored.metrics.items()}
    document["collapsed"] = rescored.collapsed
    write_sealed(path, document)
