"""What a run's own page holds: its config with provenance, learning curves, data, selection, adapters, gradients, environment, predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmbench.component import Metric
from mmbench.errors import DataError
from mmbench.files import read_text
from mmbench.privacy import shared
from mmbench.results.page.embedding import lines, number, safe
from mmbench.results.page.samples import Samples
from mmbench.results.runs import RunRecord, intact
from mmbench.results.tables import column
from mmbench.results.text import clean, count, duration
from mmbench.strict_yaml import MOST_TEXT

CONFIG = 20_000
"""Characters of a config that are shown."""
EPOCHS = 400
"""Epochs that a learning curve is drawn from; of more, every k-th."""


@dataclass(frozen=True)
class Listed:
    """A run in the list of runs. `number`: of its page, None without one."""

    number: int | None
    title: str
    experiment: str
    data: str
    seed: str
    status: str
    score: str
    sort: str
    epochs: str
    time: str
    seconds: str
    flags: str


def listed(record: RunRecord, page: int | None, key: str | None, known: Mapping[str, Metric]) -> Listed:
    """One line of the list of runs, with its test score in `key`."""
    value = record.metrics.get("test", {}).get(key, math.nan) if key else math.nan
    best = record.selection.get("epoch")
    where = "SIMULATED" * bool(record.data.get("simulated")), record.data.get("name", ""), record.part
    return Listed(
        number=page,
        title=clean(record.title),
        experiment=clean(record.experiment),
        data=" ".join(clean(str(part)) for part in where if part),
        seed="" if record.seed is None else str(record.seed),
        status=record.status,
        score="" if math.isnan(value) or key is None else f"{clean(key)} {column(key, known).text(value)}",
        sort="" if math.isnan(value) else f"{value:.9g}",
        epochs=f"{best} / {record.epochs}" if isinstance(best, int) and record.epochs else str(record.epochs or ""),
        time=duration(record.seconds),
        seconds="" if math.isnan(record.seconds) else f"{record.seconds:.9g}",
        flags=", ".join(("floor",) * record.floor + ("collapsed",) * record.collapsed + ("with adapters",) * bool(record.adapters)),
    )


class Details:
    """The documents of all runs with a page of their own. Equal records of data and environments stand once, in `shared`."""

    def __init__(self, known: Mapping[str, Metric], examples: int) -> None:
        self.known = known
        self.samples = Samples(examples)
        self._data: dict[str, int] = {}
        self._environments: dict[str, int] = {}

    def shared(self) -> dict[str, Any]:
        """What the documents refer to by number."""
        return {
            "data": [json.loads(text) for text in self._data],
            "environments": [json.loads(text) for text in self._environments],
            "samples": self.samples.document(),
        }

    def document(self, record: RunRecord) -> dict[str, Any]:
        """One run."""
        curves, problem = learning_curves(record)
        return {
            "title": clean(record.title),
            "experiment": clean(record.experiment),
            "label": clean(record.label),
            "seed": record.seed,
            "status": record.status,
            "reason": clean(record.reason),
            "warnings": [clean(warning) for warning in record.warnings],
            "model": clean(record.model),
            "part": clean(record.part),
            "simulated": bool(record.data.get("simulated")),
            "floor": record.floor,
            "collapsed": record.collapsed,
            "losses": safe(record.losses),
            "adapters": safe(record.adapters),
            "selection": safe(record.selection),
            "gradients": {clean(term): number(value) for term, value in record.gradients.items()},
            "facts": [
                *([["epochs", str(record.epochs)]] if record.epochs else []),
                *([["parameters", count(record.parameters)]] if record.status == "done" else []),
                *([["training time", duration(record.seconds)]] if not math.isnan(record.seconds) else []),
                *([["peak memory", f"{record.peak_memory_mb:.0f} MB"]] if not math.isnan(record.peak_memory_mb) else []),
                ["config fingerprint", clean(record.fingerprint)],
                ["folder", clean(shared(str(record.folder)))],
            ],
            "scores": self.scores(record),
            "data": number_of(self._data, safe(record.data)),
            "environment": number_of(self._environments, safe(record.environment)),
            "curves": curves,
            "curves_problem": problem,
            "config": config_text(record),
            "predictions": self.samples.add(record) if record.status == "done" else None,
        }

    def scores(self, record: RunRecord) -> list[list[str]]:
        """For each score: its name with its direction, on validation, on test, as text."""
        named = list(dict.fromkeys([*record.metrics.get("test", {}), *record.metrics.get("valid", {})]))
        found = []
        for key in named:
            own = column(key, self.known)
            arrow = {True: " ↑", False: " ↓", None: ""}[own.higher_is_better]
            values = [own.text(record.metrics.get(split, {}).get(key, math.nan)) for split in ("valid", "test")]
            found.append([clean(key) + arrow, *values])
        return found


def number_of(known: dict[str, int], value: Any) -> int:
    """The number of a record among those seen so far."""
    return known.setdefault(json.dumps(value, sort_keys=True), len(known))


def config_text(record: RunRecord) -> str:
    """The resolved config as it is stored, or why it cannot be shown."""
    try:
        return lines(read_text(intact(record, "config.yaml"), MOST_TEXT), CONFIG)
    except DataError as error:
        return f"# {error}"
    except OSError as error:
        return f"# config.yaml cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "# config.yaml is not a UTF-8 text file"
    except ValueError as error:
        return f"# config.yaml cannot be read: {error}"


def learning_curves(record: RunRecord) -> tuple[dict[str, list[float | int | None]], str]:
    """Numbers by epoch, one list for each (``train.task``, ``valid.mae``) and one of the epochs; and what is wrong with the log, or left out."""
    from mmbench.results.figures.epochs import read_epochs

    try:
        found = read_epochs(record)
    except DataError as error:
        return {}, clean(str(error))
    epochs = sorted(found)
    step = -(-len(epochs) // EPOCHS)
    kept = epochs[::step]
    names = dict.fromkeys(name for epoch in kept for name in found[epoch])
    columns = {clean(name): [number(found[epoch].get(name)) for epoch in kept] for name in names}
    return {"epoch": [*kept], **columns}, f"every {step}th of {len(epochs)} epochs is drawn" if step > 1 else ""
