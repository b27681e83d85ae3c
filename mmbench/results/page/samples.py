"""Test samples and predictions that can be browsed: targets and transcripts once for all runs on the same data, predictions for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from mmbench.config import DataConfig
from mmbench.errors import MmbenchError
from mmbench.privacy import expanded
from mmbench.results.page.embedding import number
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import RunRecord
from mmbench.results.text import clean
from mmbench.strict_yaml import load_document

LONGEST = 300
"""Characters of a transcript that are shown."""


@dataclass(frozen=True)
class Predicted:
    """A run's test predictions as the page holds them. `errors` (N,): absolute error, or by how much the best other class beats the true one."""

    ids: tuple[str, ...]
    target: np.ndarray
    prediction: np.ndarray
    errors: np.ndarray


def predicted(record: RunRecord) -> Predicted:
    """The test predictions of a run.

    Raises:
        MmbenchError: where they are missing or damaged.
    """
    splits = read_predictions(record.folder / NAME)
    if "test" not in splits:
        raise MmbenchError("no test predictions are stored")
    ids, target, prediction = splits["test"]
    if prediction.ndim == 1:
        return Predicted(ids, target, prediction, np.abs(prediction.astype(float) - target))
    if target.min(initial=0) < 0 or target.max(initial=0) >= prediction.shape[1]:
        raise MmbenchError("stored targets are no classes of the stored scores")
    rows = np.arange(len(target))
    others = prediction.astype(float).copy()
    others[rows, target] = -np.inf
    return Predicted(ids, target, prediction.argmax(1), others.max(1) - prediction[rows, target])


class Samples:
    """The distinct sets of test samples of a page; `index` gives the number of a run's set, and adds it where it is new."""

    def __init__(self, examples: int) -> None:
        self.examples = examples
        self.sets: list[dict[str, Any]] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._used: list[set[int]] = []

    def add(self, record: RunRecord) -> dict[str, Any]:
        """What a run's page holds of its predictions: the set of samples, and for each one shown its position, prediction and error."""
        try:
            found = predicted(record)
        except MmbenchError as error:
            return {"problem": clean(str(error))}
        key = (found.ids, found.target.tobytes(), tuple(record.data.get("classes", ())))
        if key not in self._known:
            self._known[key] = len(self.sets)
            words, reason = transcripts(record, found.ids)
            classes = [clean(name) for name in record.data.get("classes", ())]
            target = [number(value) for value in found.target.tolist()]
            self.sets.append({"ids": [clean(name) for name in found.ids], "target": target, "words": words, "reason": reason, "classes": classes})
            self._used.append(set())
        place = self._known[key]
        shown = np.sort(np.argsort(-np.nan_to_num(found.errors, nan=np.inf), kind="stable")[: self.examples])
        self._used[place].update(shown.tolist())
        values = {name: [number(value) for value in part[shown].tolist()] for name, part in (("p", found.prediction), ("e", found.errors))}
        rows = {} if len(shown) == len(found.ids) else {"rows": shown.tolist()}
        return {"set": place, "of": len(found.ids), **values, **rows}

    def document(self) -> list[dict[str, Any]]:
        """The sets for the page; transcripts that no run shows are left out."""
        for own, used in zip(self.sets, self._used, strict=True):
            if own["words"]:
                own["words"] = [text if index in used else "" for index, text in enumerate(own["words"])]
        return self.sets


def transcripts(record: RunRecord, ids: Sequence[str]) -> tuple[list[str], str]:
    """The transcripts of a run's test samples from its data set, or nothing and why."""
    if record.data.get("simulated"):
        return [], "simulated data have no transcripts"
    source = expanded(record.data.get("source"))
    if not isinstance(source, str) or not Path(source).exists():
        return [], "the data set is not on this machine"
    from mmbench.data.load import open_source

    try:
        section = load_document(record.folder / "config.yaml").value["data"]
        fields = {key: value for key, value in section.items() if key in DataConfig.model_fields} | {"path": source}
        opened = open_source(DataConfig(**fields))
        part: Mapping[str, Any] = opened.store.document["splits"]["test"]
        words = part.get("transcripts")
        if not words:
            return [], "the data set has no transcripts"
        by_id = dict(zip(part["ids"], words, strict=True))
        if opened.digest != record.data.get("sha256"):
            return [], "the data set has changed since the run"
        return [shortened(str(by_id.get(name, ""))) for name in ids], ""
    except (MmbenchError, OSError, ValidationError, yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        return [], f"the data set cannot be opened ({clean(str(error))[:200]})"


def shortened(text: str) -> str:
    """A transcript on one line, cut where it is long."""
    text = clean(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."
