"""A target: one table or figure of a paper as a YAML file, ``configs/papers/<paper>/<name>.yaml`` or one of yours. Imports no torch.

It names the configs behind each row on each data set, and the published table that it stands beside; ``configs/papers/README.md`` describes it.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mmbench.component_config import StrictModel
from mmbench.compose import compose
from mmbench.errors import ConfigError
from mmbench.files import shipped
from mmbench.metrics import named
from mmbench.results.published import THE_METHOD, PublishedScore, Source, load_source

NOT_IMPLEMENTED = "not implemented"
YAML = (".yaml", ".yml")


class RowConfig(StrictModel):
    """One row, as the paper prints it. Without `configs` and `cell` the method is not implemented here."""

    configs: dict[str, str] = Field(default_factory=dict, description="by data set: the config that makes this row")
    cell: str = Field("", description="instead: the row of the target's sweep")
    published: str = Field("", description="the printed row, where it is called otherwise; table: row for one of another table")
    section: str = Field("", description="the half of the table that it begins or belongs to")
    marks: dict[str, bool] = Field(default_factory=dict, description="the check marks that the paper prints")
    why: str = Field("", description="why there is nothing here, where it is not that the method is not implemented")


class VariantConfig(StrictModel):
    """Another setting than the paper's, with other configs in place of those named."""

    about: str
    configs: dict[str, str] = Field(min_length=1, description="config of the target: config to take instead")


class DrawingConfig(StrictModel):
    """One figure that is drawn of the target's runs."""

    kind: Literal["bubble", "confusion", "per_class", "heatmap", "tsne", "pairs"]
    name: str = Field("", description="suffix of its file; default: none")
    dataset: str = Field("", description="the data set; a bubble chart has one panel for each")
    rows: tuple[str, ...] = Field((), description="default: all")
    metric: str = Field("", description="of a heat map")
    fields: tuple[str, ...] = Field((), description="of projections: encoded/text, fused, ...")


class TargetConfig(StrictModel):
    """What the file says."""

    title: str
    shows: str
    published: str = Field("", description="<source>/<table> of published/*.yaml, or <path of a file of yours>/<table>")
    columns: dict[str, dict[str, str]] = Field(default_factory=dict, description="data set: printed heading: metric; default: the published table's")
    sweep: dict[str, str] = Field(default_factory=dict, description="by data set: a config with a sweep, whose cells rows name")
    rows: dict[str, RowConfig | None] = Field(default_factory=dict, description="in the paper's order; default: all cells of the sweep")
    variants: dict[str, VariantConfig] = Field(default_factory=dict)
    figures: tuple[DrawingConfig, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heading:
    """One printed column: its heading and the metric, or two metrics that stand in one cell (has-0/non-0)."""

    text: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """The columns on one data set."""

    dataset: str
    protocol: str
    headings: tuple[Heading, ...]

    @property
    def place(self) -> str:
        """``iemocap/6way_session5``, or the data set alone."""
        return f"{self.dataset}/{self.protocol}" if self.protocol else self.dataset


@dataclass(frozen=True)
class Target:
    """A target that may be run. `name`: ``decalign/table2``; `variant`: nothing for the paper's own setting."""

    name: str
    path: Path
    config: TargetConfig
    variant: str = ""

    @property
    def argument(self) -> str:
        """What it is called on the command line: its name, or the path of a file of yours."""
        return self.name if self.path.is_relative_to(shipped("configs")) else str(self.path)

    @property
    def stem(self) -> str:
        """Its name, with the variant: what its files are called."""
        return f"{self.name}-{self.variant}" if self.variant else self.name

    @property
    def rows(self) -> dict[str, RowConfig]:
        """The rows that the file names."""
        return {name: row or RowConfig() for name, row in self.config.rows.items()}

    @property
    def groups(self) -> tuple[Group, ...]:
        """The columns by data set: the file's, or those of the published table. `ConfigError`: a metric that does not exist."""
        found: dict[tuple[str, str], dict[str, list[str]]] = {}
        for place, given in self.config.columns.items():
            dataset, _, protocol = place.partition("/")
            found[dataset, protocol] = {text: metrics.split("/") for text, metrics in given.items()}
        if not found:
            for score in self.printed():
                metrics = found.setdefault((score.dataset, score.protocol), {}).setdefault(score.heading, [])
                if score.metric not in metrics:
                    metrics.append(score.metric)
        for columns in found.values():
            for metric in (metric for metrics in columns.values() for metric in metrics):
                named(metric)
        return tuple(
            Group(dataset, protocol, tuple(Heading(text, tuple(metrics)) for text, metrics in headings.items()))
            for (dataset, protocol), headings in found.items()
        )

    def config_of(self, row: RowConfig, dataset: str) -> str:
        """The config behind a row on a data set, under the variant; nothing where there is none."""
        return self._chosen((self.config.sweep if row.cell else row.configs).get(dataset, ""))

    @property
    def sweeps(self) -> list[str]:
        """The configs with a sweep, under the variant."""
        return [self._chosen(config) for config in self.config.sweep.values()]

    def _chosen(self, config: str) -> str:
        variant = self.config.variants.get(self.variant)
        return self._beside(variant.configs.get(config, config) if variant else config)

    def _beside(self, name: str) -> str:
        """A YAML file that the target names, from the target's own folder if it is there; any other name as it is."""
        path = self.path.parent / name
        return str(path) if name.endswith(YAML) and os.path.isfile(path) else name

    @property
    def source(self) -> Source | None:
        """The paper, where the target stands beside published numbers. `ConfigError` names the target."""
        name = self.config.published.rpartition("/")[0]
        try:
            return load_source(self._beside(name)) if name else None
        except ConfigError as error:
            raise ConfigError(f"{self.path}: published: {error}") from None

    @property
    def table(self) -> str:
        """The published table, or figure, that it stands beside."""
        return self.config.published.rpartition("/")[2]

    def printed(self, table: str = "") -> tuple[PublishedScore, ...]:
        """The scores of the published table that it stands beside, or of another one of that paper; empty where there is none.

        A figure of which the paper prints no numbers has none.
        """
        wanted, source = table or self.table, self.source
        if source is None or (wanted in source.figures and wanted not in source.tables):
            return ()
        if wanted not in source.tables:
            raise ConfigError(f"{self.path}: published: {source.name} has no {wanted!r}; it has {', '.join([*source.tables, *source.figures])}")
        return source.tables[wanted].scores

    def published_of(self, name: str, row: RowConfig) -> dict[tuple[str, str, str], PublishedScore]:
        """The printed scores of one row by data set, protocol and metric; a row of an ablation goes by its variant, any other by its method."""
        table, _, other = row.published.rpartition(": ")
        wanted = other or name
        found = [score for score in self.printed(table) if wanted == (score.variant or score.method) or (wanted, score.variant) == (THE_METHOD, "")]
        return {(score.dataset, score.protocol, score.metric): score for score in found}


def target_names() -> list[str]:
    """The shipped targets, in the order of paper, then tables before figures, then number."""
    root = shipped("configs") / "papers"
    names = [str(path.relative_to(root).with_suffix("")).replace("\\", "/") for path in root.glob("*/*.yaml")]
    return sorted(names, key=lambda name: (name.partition("/")[0], "/fig" in name, name))


def load_target(name: str, variant: str = "") -> Target:
    """A shipped target by name, or one of yours by the path of its file.

    Raises:
        ConfigError: there is none, it is no valid file (each mistake with its place), or it has no such variant.
    """
    path = shipped("configs") / "papers" / f"{name}.yaml"
    if name.endswith(YAML):
        path, name = Path(name), Path(name).stem
        if not os.path.isfile(path):  # of a name that no file can have, a `Path` raises
            raise ConfigError(f"there is no file {path}")
    elif name not in (known := target_names()):
        close = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(known)}; the path of a YAML file also works."
        raise ConfigError(f"there is no target {name!r}. {hint}")
    document = compose(path)
    try:
        config = TargetConfig.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as error:
        mistakes = []
        for item in error.errors():
            place = tuple(part for part in item["loc"] if part != "[key]")
            mistakes.append(f"{document.mark(place)}: {'.'.join(map(str, place))}: {item['msg']}")
        raise ConfigError("\n".join(mistakes)) from None
    target = Target(name, path, config, variant)
    for place, problem in _problems(config, variant):
        raise ConfigError(f"{document.mark(place)}: {problem}")
    return target


def _problems(config: TargetConfig, variant: str) -> Any:
    """What the schema alone does not refuse, with its place."""
    for name, row in config.rows.items():
        if row and row.cell and not config.sweep:
            yield ("rows", name, "cell"), f"rows.{name}.cell: names the cell of a sweep, and the target has no sweep"
        if row and row.cell and row.configs:
            yield ("rows", name, "cell"), f"rows.{name}: has configs and a cell; it is one or the other"
    for number, drawing in enumerate(config.figures):
        for drawn in drawing.rows:
            if drawn not in config.rows:
                yield ("figures", number), f"figures.{number}.rows: there is no row {drawn!r}"
    if config.published and ("/" not in config.published or config.published.endswith(YAML)):
        yield ("published",), "published: is a source and its table, such as mmsa/table1 or numbers.yaml/table1"
    if not config.published and not config.columns:
        yield ("columns",), "columns: must be given where there is no published table"
    if not config.rows and not config.sweep:
        yield ("rows",), "rows: must be given where there is no sweep"
    if variant and variant not in config.variants:
        there = f"there is {', '.join(config.variants)}" if config.variants else "this target has no variants"
        yield ("variants",), f"there is no variant {variant!r}; {there}"
