"""Numbers that papers and repositories print, from ``published/*.yaml``: never results of this program, and marked as published wherever shown.

A file is one source. Its tables keep the printed order and the printed digits; each printed column says which metric here it is. The loader
divides what is printed times 100, so that `PublishedScore.value` is in the metric's own units. ``published/README.md`` describes the format.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, field_validator

from mmbench import strict_yaml
from mmbench.component_config import StrictModel
from mmbench.errors import ConfigError
from mmbench.files import shipped
from mmbench.metrics import METRICS, named

NUMBER = r"-?\d+(?:\.\d+)?"
ABSENT = "~"
CELL = re.compile(rf"({NUMBER})(?:±({NUMBER}))?")
THE_METHOD = "full"
"""The row of an ablation that is the method itself: its variant is the empty string."""


@dataclass(frozen=True)
class PublishedScore:
    """One printed number, and what it is here."""

    source: str
    """Name of the file: ``decalign``."""
    table: str
    """``table1``; ``figure4`` for what a paper's text says of a figure."""
    method: str
    """As printed, or as the text has it where a footnote says so."""
    model: str
    """Name of the component here, or nothing."""
    variant: str
    """Nothing for the method itself; else an ablation's row, by the name that the sweep of the config here gives it."""
    dataset: str
    protocol: str
    metric: str
    value: float
    """In the metric's own units: shares between 0 and 1."""
    sd: float | None
    """In the same units; None where the source prints none."""
    seeds: int | None
    """How many runs the source says it averages; None where it does not say."""
    setting: str
    notes: tuple[str, ...]
    """Keys of `Source.footnotes`."""
    heading: str
    """The column's printed name: ``Acc-2``."""
    printed: str
    """The number with the digits that the source prints."""
    origin: str = ""
    """Where the source has the number from, where it says so; nothing: its own run."""


@dataclass(frozen=True)
class PublishedTable:
    """One table: its rows in printed order, each with its scores in the order of the columns (a cell that is not printed has none)."""

    name: str
    title: str
    rows: tuple[tuple[PublishedScore, ...], ...]

    @property
    def scores(self) -> tuple[PublishedScore, ...]:
        """All scores, row by row."""
        return tuple(score for row in self.rows for score in row)


@dataclass(frozen=True)
class Source:
    """A paper or repository: what to cite, under which setting it measured, its tables, and what is known to be wrong with them."""

    name: str
    title: str
    citation: str
    setting: str
    seeds: int | None
    footnotes: Mapping[str, str]
    figures: Mapping[str, str]
    """What the text says of figures."""
    tables: Mapping[str, PublishedTable]

    @property
    def scores(self) -> tuple[PublishedScore, ...]:
        """All scores in printed order."""
        return tuple(score for table in self.tables.values() for score in table.scores)


def published_sources() -> list[str]:
    """Names of the sources that are shipped."""
    return sorted(path.stem for path in shipped("published").glob("*.yaml"))


def load_source(name_or_path: str | Path) -> Source:
    """A source by name, or from a YAML file of yours.

    Raises:
        ConfigError: unknown, or not a valid file; names file, table and row.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        path = Path(text)
        if not os.path.isfile(path):  # of a name that no file can have, a `Path` raises
            raise ConfigError(f"there is no file {text}")
    else:
        known = published_sources()
        path = shipped("published") / f"{text}.yaml"
        if text not in known:
            near = difflib.get_close_matches(text.lower(), known, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(known)}; a path to a YAML file also works."
            raise ConfigError(f"no published numbers are called {text!r}. {hint}")
    return _read(path, path.stat().st_mtime_ns)


def load_published(source: str | Path | None = None) -> tuple[PublishedScore, ...]:
    """The scores of one source in printed order, or of all that are shipped. `ConfigError` as in `load_source`."""
    names = published_sources() if source is None else [source]
    return tuple(score for name in names for score in load_source(name).scores)


def find(
    scores: Iterable[PublishedScore], model: str, dataset: str, protocol: str = "", variant: str = "", metric: str | None = None
) -> list[PublishedScore]:
    """Those of one component's (or one ablation row's) scores on one data set, in the order given; of one metric, or of all."""
    wanted = (model, dataset, protocol, "" if variant == THE_METHOD else variant)
    return [
        score
        for score in scores
        if (score.model, score.dataset, score.protocol, score.variant) == wanted and (metric is None or score.metric == metric)
    ]


# The file -----------------------------------------------------------------------------------------------------------------------


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Places = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
Notes = Annotated[dict[str, Places], Field(description="key of a footnote: the columns it is about (mosei, mae, mosei.mae), or all")]


class _Row(StrictModel):
    values: str = Field(description="as printed, separated by spaces; '~' where nothing is printed, a/b in a column of two metrics, mean±sd")
    mark: str = Field("", description="one of the table's marks")
    setting: str = ""
    seeds: PositiveInt | None = None
    notes: Notes = Field(default_factory=dict)


class _Table(StrictModel):
    title: str
    columns: dict[str, dict[str, str]] = Field(description="data set (or data set/protocol): printed heading: metric, or metric/metric")
    rows: dict[str, _Row]
    variants_of: str = Field("", description="the method whose ablation this is: its rows are then variants")
    marks: dict[str, str] = Field(default_factory=dict, description="a mark of the printed table: where numbers with it come from")
    setting: str = ""
    notes: Notes = Field(default_factory=dict)

    @field_validator("rows", mode="before")
    @classmethod
    def _short_rows(cls, rows: object) -> object:
        return {name: row if isinstance(row, dict) else {"values": row} for name, row in rows.items()} if isinstance(rows, dict) else rows


class _File(StrictModel):
    title: str
    citation: str
    setting: str
    seeds: PositiveInt | None = Field(None, description="runs per number; none where the source does not say")
    times_100: Literal["shares", "everything", "nothing"] = Field("shares", description="what is printed times 100; shares: accuracies and F1")
    models: dict[str, str] = Field(default_factory=dict, description="method as printed: component here")
    figures: dict[str, str] = Field(default_factory=dict)
    footnotes: dict[str, str] = Field(default_factory=dict)
    tables: dict[str, _Table]


@dataclass(frozen=True)
class _Column:
    dataset: str
    protocol: str
    heading: str
    metric: str

    def is_at(self, place: str) -> bool:
        return place in ("all", self.dataset, self.metric, f"{self.dataset}.{self.metric}")


@lru_cache(maxsize=64)
def _read(path: Path, modified: int) -> Source:
    """Each state of a file is parsed once."""
    try:
        file = _File.model_validate(strict_yaml.load(path))
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(mistakes)) from None
    name = path.stem
    tables = {key: PublishedTable(key, table.title, _rows(f"{path}: tables.{key}", name, key, table, file)) for key, table in file.tables.items()}
    return Source(name, file.title, file.citation, file.setting, file.seeds, file.footnotes, file.figures, tables)


def _rows(place: str, source: str, key: str, table: _Table, file: _File) -> tuple[tuple[PublishedScore, ...], ...]:
    columns = _columns(place, table)
    common = _notes(place, table.notes, columns, file)
    rows = []
    for name, row in table.rows.items():
        where = f"{place}.rows.{name}"
        if row.mark and row.mark not in table.marks:
            raise ConfigError(f"{where}: has the mark {row.mark!r}, which the table's marks do not explain")
        own = _notes(where, row.notes, columns, file)
        method, variant = (table.variants_of, name) if table.variants_of else (name, "")
        rows.append(
            tuple(
                PublishedScore(
                    source=source,
                    table=key,
                    method=method,
                    model=file.models.get(method, ""),
                    variant="" if variant == THE_METHOD else variant,
                    dataset=column.dataset,
                    protocol=column.protocol,
                    metric=column.metric,
                    value=value,
                    sd=sd,
                    seeds=row.seeds or file.seeds,
                    setting=row.setting or table.setting or file.setting,
                    notes=(*common[column], *own[column]),
                    heading=column.heading,
                    printed=printed,
                    origin=table.marks.get(row.mark, ""),
                )
                for column, (printed, value, sd) in _cells(where, row.values, table, columns, file.times_100)
            )
        )
    return tuple(rows)


def _columns(place: str, table: _Table) -> list[_Column]:
    columns = []
    for data, headings in table.columns.items():
        dataset, _, protocol = data.partition("/")
        for heading, metrics in headings.items():
            for metric in metrics.split("/"):
                try:
                    named(metric)
                except ConfigError as error:
                    raise ConfigError(f"{place}.columns.{data}.{heading}: {error}") from None
                columns.append(_Column(dataset, protocol, heading, metric))
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{place}.columns: two columns are the same metric on the same data under one heading")
    return columns


def _notes(place: str, notes: Mapping[str, tuple[str, ...]], columns: list[_Column], file: _File) -> dict[_Column, tuple[str, ...]]:
    for key, places in notes.items():
        if key not in file.footnotes:
            raise ConfigError(f"{place}.notes: {key!r} is none of the file's footnotes ({', '.join(file.footnotes) or 'it has none'})")
        for each in places:
            if not any(column.is_at(each) for column in columns):
                raise ConfigError(f"{place}.notes.{key}: {each!r} is no column; write all, a data set, a metric, or both as dataset.metric")
    return {column: tuple(key for key, places in notes.items() if any(map(column.is_at, places))) for column in columns}


def _cells(place: str, values: str, table: _Table, columns: list[_Column], times_100: str) -> list[tuple[_Column, tuple[str, float, float | None]]]:
    """Each printed number of a row: with its digits, its value and its standard deviation."""
    widths = [len(metrics.split("/")) for headings in table.columns.values() for metrics in headings.values()]
    texts = values.split()
    if len(texts) != len(widths):
        raise ConfigError(f"{place}: has {len(texts)} values for {len(widths)} columns; write '~' where the source prints none")
    parts: list[str] = []
    for text, width in zip(texts, widths, strict=True):
        split = [ABSENT] * width if text == ABSENT else text.split("/")
        if len(split) != width:
            raise ConfigError(f"{place}: {text!r} is {len(split)} numbers in a column of {width}")
        parts.extend(split)
    cells = []
    for column, text in zip(columns, parts, strict=True):
        if text == ABSENT:
            continue
        found = CELL.fullmatch(text)
        if found is None:
            raise ConfigError(f"{place}: {text!r} is no number; write 85.75, 85.75±0.31, or '~' where the source prints none")
        low, high = METRICS[column.metric].range
        share = (low, high) == (0, 1)
        divisor = 100 if times_100 == "everything" or (times_100 == "shares" and share) else 1
        value, sd = (float(Decimal(part) / divisor) if part else None for part in found.groups())
        assert value is not None
        if not low <= value <= high:
            raise ConfigError(
                f"{place}: {text} is no {column.metric} on {column.dataset}: {value:g} is outside {low:g} to {high:g}; is times_100 right?"
            )
        cells.append((column, (found[1], value, sd)))
    return cells
