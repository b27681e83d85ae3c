"""A run's ``epochs.jsonl``: one line an epoch, with the terms of the loss, the scores on validation and the norms of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mmbench.errors import DataError
from mmbench.files import parse_json, read_text
from mmbench.results.runs import RunRecord, intact

NAME = "epochs.jsonl"
GRADIENT = "gradient."
TASK = "task"


def read_epochs(record: RunRecord) -> dict[int, dict[str, float]]:
    """By epoch: ``train.<key>`` and ``valid.<key>``, NaN for what is null or no number. A last line that was cut off is left out.

    Raises:
        DataError: where the file is missing, empty or damaged; names the line.
    """
    path = intact(record, NAME)
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no log of epochs; the run had not begun, or the file was removed") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run this seed again") from None
    found: dict[int, dict[str, float]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = parse_json(line)
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("epoch"), int):
            raise DataError(f"{path}: line {number}: is no epoch of a run; the file is damaged, run this seed again")
        found[entry["epoch"]] = dict(numbers(entry))
    if not found:
        raise DataError(f"{path}: holds no complete epoch")
    return found


def numbers(entry: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """What one line says of training and validation, as numbers."""
    for part in ("train", "valid"):
        values = entry.get(part)
        for key, value in (values if isinstance(values, dict) else {}).items():
            usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            yield f"{part}.{key}", float(value) if usable else math.nan


def terms_of(record: RunRecord, epochs: Mapping[int, Mapping[str, float]]) -> list[str]:
    """The terms of the loss in their order, ``task`` first: what is weighted, not what a loss logs beside it."""
    keys = dict.fromkeys(key.removeprefix("train.") for entry in epochs.values() for key in entry if key.startswith("train."))
    weighted = {f"{loss.get('name')}.{term}" for loss in record.losses for term in (loss["weight"] if isinstance(loss.get("weight"), dict) else {})}
    return [key for key in keys if not key.startswith(GRADIENT) and (key == TASK or GRADIENT + key in keys or key in weighted)]


def series(epochs: Mapping[int, Mapping[str, float]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (E,) and the values (E,) of one key, NaN where a line has none."""
    order = sorted(epochs)
    return np.array(order), np.array([epochs[epoch].get(key, math.nan) for epoch in order])


def mean_over(runs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean over seeds at the epochs that every seed has, NaN where one of them has no number."""
    tables = [dict(zip(steps.tolist(), values.tolist(), strict=True)) for steps, values in runs]
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    return np.array(shared), np.array([np.mean([table[step] for table in tables]) for step in shared])
