"""What `mmbench diagnose` wrote beside the runs of a table: modality ablation, robustness, gap and CKA, calibration, probes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbench.errors import DataError
from mmbench.results.embeddings import diagnostics_path, read_diagnostics
from mmbench.results.page.charts import Chart, chart
from mmbench.results.tables import Column, Row
from mmbench.results.text import clean

MOST = 40
"""Configurations that are shown."""


@dataclass(frozen=True)
class Grid:
    """A small table: its first column names the rows."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Diagnosis:
    """One kind of diagnostics: what it says, in charts and tables."""

    title: str
    about: str
    charts: tuple[Chart, ...]
    grids: tuple[Grid, ...]


Values = dict[str, dict[str, list[float]]]
"""By row, by column: a number for each seed."""


def diagnoses(rows: Sequence[Row], column: Column) -> tuple[list[Diagnosis], list[str]]:
    """The diagnostics of a table's rows in one score, and what could not be read or is left out."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    problems = []
    for row in rows[:MOST]:
        for seed, runs in row.finished.items():
            path = diagnostics_path(runs[0])
            if len(runs) != 1 or not path.exists():
                continue
            try:
                found.setdefault(clean(row.name), {})[seed] = read_diagnostics(path)
            except DataError as error:
                problems.append(clean(str(error)))
    if len(rows) > MOST and found:
        problems.append(f"diagnostics of {len(rows) - MOST} configurations are left out")
    if not found:
        return [], problems
    makers = (ablation, robustness, similarity, calibration, probes)
    shown = [made for maker in makers for made in maker(found, column) if made.charts or made.grids]
    return shown, problems


Found = Mapping[str, Mapping[int, Mapping[str, Any]]]


def entries(document: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a list in a document; nothing where it is not one."""
    values = document.get(key)
    yield from (item for item in (values if isinstance(values, list) else []) if isinstance(item, dict))


def score(entry: Mapping[str, Any], key: str) -> float:
    """A score of an entry, NaN where it has none."""
    scores = entry.get("scores")
    return finite(scores.get(key)) if isinstance(scores, dict) else math.nan


def finite(value: Any) -> float:
    """A number, NaN for anything that is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def named(value: Any) -> str:
    """A text, or several joined, for a heading."""
    return clean(" + ".join(map(str, value)) if isinstance(value, list) else str(value))


def spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Mean ± sample deviation over seeds."""
    if not values:
        return ""
    mean = text(float(np.mean(values)))
    return f"{mean} ± {text(float(np.std(values, ddof=1)))}" if len(values) > 1 and mean != "n/a" else mean


def grid(title: str, values: Values, text: Callable[[float], str], corner: str = "configuration") -> Grid | None:
    """Rows by columns, mean ± sample deviation over seeds; None without columns."""
    columns = list(dict.fromkeys(name for row in values.values() for name in row))
    rows = [(name, *(spread(row.get(key, []), text) for key in columns)) for name, row in values.items()]
    return Grid(title, (corner, *columns), tuple(rows)) if columns else None


def kept(*found: Any) -> tuple[Any, ...]:
    """What there is."""
    return tuple(item for item in found if item is not None)


def ablation(found: Found, column: Column) -> Iterator[Diagnosis]:
    """Scores with modalities dropped at test time."""
    values: Values = {}
    for name, seeds in found.items():
        row = values.setdefault(name, defaultdict(list))
        for document in seeds.values():
            for entry in entries(document, "ablation"):
                row[inputs(entry.get("dropped"), document)].append(score(entry, column.key))
    about = f"Test {clean(column.key)} of the trained models with a modality removed; nothing was trained again. Mean ± sample deviation over seeds."
    yield Diagnosis("Modality ablation", about, (), kept(grid("", values, column.text)))


def inputs(dropped: Any, document: Mapping[str, Any]) -> str:
    """What a model still gets: all modalities, one alone, or all without some."""
    if not isinstance(dropped, list) or not dropped:
        return "all modalities"
    known = document["about"].get("modalities")
    left = [name for name in known if name not in dropped] if isinstance(known, list) else []
    return f"{named(left[0])} alone" if len(left) == 1 and len(dropped) > 1 else f"without {named(dropped)}"


def robustness(found: Found, column: Column) -> Iterator[Diagnosis]:
    """Scores under missing frames or noise, by rate."""
    points: dict[tuple[str, str], dict[str, dict[float, list[float]]]] = {}
    for name, seeds in found.items():
        for document in seeds.values():
            for entry in entries(document, "robustness"):
                how, rate = (named(entry.get("kind", "")), named(entry.get("modality", ""))), finite(entry.get("rate"))
                if math.isfinite(rate):
                    points.setdefault(how, {}).setdefault(name, {}).setdefault(rate, []).append(score(entry, column.key))
    charts, grids = [], []
    for (kind, modality), lines in points.items():
        means = {name: [(rate, float(np.mean(own))) for rate, own in rates.items()] for name, rates in lines.items()}
        title = f"{kind}, {'all modalities' if modality == 'all' else modality}"
        charts.append(chart(title, f"rate of {kind}", clean(column.key), means, 100 if column.percent else 1))
        values = {name: {f"{rate:g}": own for rate, own in sorted(rates.items())} for name, rates in lines.items()}
        grids.append(grid(title, values, column.text))
    about = f"Test {clean(column.key)} of the trained models on disturbed inputs, by the rate of the disturbance; means over seeds."
    yield Diagnosis("Robustness", about, kept(*charts), kept(*grids))


def similarity(found: Found, column: Column) -> Iterator[Diagnosis]:
    """Gap between modalities and CKA, by field and pair; of the untrained network too."""
    measures = (
        ("gap", "Modality gap", "Distance of two modalities' centres on the unit sphere: 0 none, 2 opposite (Liang et al. 2022)."),
        ("paired_distance", "Distance of pairs", "Mean distance of the two modalities of one sample on the unit sphere, from 0 to 2."),
        ("cka", "CKA", "Linear centred kernel alignment of two modalities: 1 alike up to rotation and scale (Kornblith et al. 2019)."),
        ("separation", "Common against unique", "How alike the common and the unique features of a modality are."),
    )
    for key, title, about in measures:
        values: Values = {}
        for name, seeds in found.items():
            for document in seeds.values():
                untrained = document.get("untrained")
                before = untrained.get(key) if isinstance(untrained, dict) else None
                for row, fields in ((name, document.get(key)), (f"{name}, untrained", before)):
                    for column_name, value in pairs(fields):
                        values.setdefault(row, {}).setdefault(column_name, []).append(value)
        yield Diagnosis(title, about + " Test samples, mean ± sample deviation over seeds.", (), kept(grid("", values, lambda v: f"{v:.3f}")))


def pairs(fields: Any) -> Iterator[tuple[str, float]]:
    """Numbers by field and pair of modalities."""
    for field, inner in fields.items() if isinstance(fields, dict) else ():
        for pair, value in inner.items() if isinstance(inner, dict) else ():
            yield f"{named(field)}: {named(pair)}", finite(value)


def calibration(found: Found, column: Column) -> Iterator[Diagnosis]:
    """Predictions against targets in bins, of each configuration's first seed, and the summary over all seeds."""
    lines: dict[str, list[tuple[float, float]]] = {}
    summary: Values = {}
    grids = []
    classes = False
    for name, seeds in found.items():
        for document in seeds.values():
            own = document.get("calibration_summary")
            for key, value in own.items() if isinstance(own, dict) else ():
                classes |= key == "classes"
                if math.isfinite(finite(value)):
                    summary.setdefault(name, {}).setdefault(named(key).replace("_", " "), []).append(finite(value))
        seed = min(seeds)
        bins = [{key: finite(value) for key, value in entry.items()} for entry in entries(seeds[seed], "calibration")]
        lines[name] = [(b.get("target", math.nan), b.get("prediction", math.nan)) for b in bins]
        heads = tuple(dict.fromkeys(key for b in bins for key in b))
        rows = tuple(tuple(f"{b[key]:.4g}" if math.isfinite(b.get(key, math.nan)) else "" for key in heads) for b in bins)
        if heads:
            grids.append(Grid(f"{name}, seed {seed}", tuple(map(clean, heads)), rows))
    x, y = ("accuracy", "mean confidence") if classes else ("mean target", "mean prediction")
    about = f"{y.capitalize()} against {x} in bins, first seed of each configuration; a calibrated model lies on the diagonal."
    over = grid("All seeds", summary, lambda v: f"{v:.3f}")
    yield Diagnosis("Calibration", about, kept(chart("", x, y, lines)), (*kept(over), *grids))


def probes(found: Found, column: Column) -> Iterator[Diagnosis]:
    """What linear probes read of the true factors of simulated data: a row for each network and features, a column for each thing read."""
    values: Values = {}
    for name, seeds in found.items():
        for document in seeds.values():
            for place, value in numbers(document.get("probes")):
                *features, what = place
                values.setdefault(", ".join((name, *features)), {}).setdefault(what, []).append(value)
    about = "What linear probes read of the true factors of simulated data; mean ± sample deviation over seeds."
    yield Diagnosis("Probes", about, (), kept(grid("", values, lambda v: f"{v:.3f}", "network and features")))


def numbers(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every number in nested objects, with the names on the way to it."""
    if isinstance(value, dict) and len(place) < 6:
        for key, item in value.items():
            yield from numbers(item, (*place, named(key)))
    elif place and math.isfinite(finite(value)):
        yield place, finite(value)
