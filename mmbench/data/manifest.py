"""What is known of a data set before its file is opened: one YAML per data set in `datasets_manifest`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, ValidationError, model_validator

from mmbench import strict_yaml
from mmbench.component import Task
from mmbench.errors import ConfigError
from mmbench.files import check_name, shipped

SPLITS = ("train", "valid", "test")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Sha1 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]


def _known_splits(key: str) -> str:
    parts = key.split("+")
    if len(set(parts)) != len(parts) or not set(parts) <= set(SPLITS):
        raise ValueError("must be train, valid, test, or several of them joined by '+'")
    return key


def _plain(name: str) -> str:
    check_name(name)
    return name


Name = Annotated[str, AfterValidator(_plain)]
"""Folders are called so: where a data set is imported to, and where the features of a modality are."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Shape(_Part):
    """Longest sequence and width of one modality."""

    length: PositiveInt
    width: PositiveInt


class Layout(_Part):
    """One way in which the features are published: where users have the file, and how it is recognised."""

    files: tuple[str, ...] = Field(description="names under the data root, most usual first; matched without regard to case")
    sha256: tuple[Sha256, ...] = ()
    shapes: dict[str, Shape]


class PublishedSplit(_Part):
    """Number of samples, and the fingerprint of their canonical ids, if these are known."""

    size: PositiveInt
    fingerprint: Sha256 | None = None
    counted: Sha256 | None = Field(None, description="the same with clips numbered from 1 in each video, for sources that do not number them")


class Download(_Part):
    """A file that its owner offers for a plain download."""

    url: str = Field(pattern=r"^https?://")
    file: str = Field(description="name under the data root")
    sha256: Sha256 | None = Field(None, description="as published; None where nobody published one")
    notes: str = ""


class Labels(_Part):
    """How often each label value (or class index) occurs in the training split: what simulated labels are drawn from."""

    values: tuple[float, ...]
    counts: tuple[PositiveInt, ...]
    published: bool = Field(True, description="false: nobody counted them in the data, so that data are not compared with them")

    @model_validator(mode="after")
    def _same_length(self) -> Labels:
        if len(self.values) != len(self.counts) or not self.values:
            raise ValueError(f"values ({len(self.values)}) and counts ({len(self.counts)}) must be as many, and not none")
        return self


class Division(_Part):
    """How the samples of a source get their class and split; `mmbench.data.protocol` applies it. Nothing stated: as the source has them."""

    source_classes: tuple[str, ...] = Field((), description="classes of a source that has others, in the order of its indices or columns")
    merge: dict[str, str] = Field(default_factory=dict, description="class of the source: the class that its samples get")
    drop: tuple[str, ...] = Field((), description="classes of the source whose samples are left out")
    leave_out: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")], ...] = Field(
        (), description="samples that are left out: the first 12 hex digits of the sha256 of their canonical ids"
    )
    positive: str | None = Field(None, description="the class of the source that is class 1; all others are class 0")
    test: str | None = Field(None, description="regular expression found in the canonical ids of the test samples; all others are for training")
    validation: float | None = Field(
        None, gt=0, lt=1, description="share of the training samples that is cut for validation, in whole videos, where the source has none"
    )

    @model_validator(mode="after")
    def _names_known_classes(self) -> Division:
        named = {"merge": [*self.merge], "drop": self.drop, "positive": [self.positive] if self.positive else []}
        for key, names in named.items():
            if unknown := sorted(set(names) - set(self.source_classes)):
                raise ValueError(f"{key} names {', '.join(unknown)}, which source_classes does not")
        if self.test is not None:
            try:
                re.compile(self.test)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"test is not a regular expression: {error}") from None
        return self


class Manifest(Division):
    """A data set: its task, its published splits, its files, and where to ask for it; under one protocol, where it has several."""

    name: Name
    title: str
    protocols: tuple[Name, ...] = Field((), description="the protocols that the data set has; set by `load_manifest`")
    protocol: str = Field("", description="the protocol in force; set by `load_manifest`")
    part: str = Field("", description="the part of the protocol in force; set by `load_manifest`")
    parts: tuple[Name, ...] = Field((), description="the parts that the protocol has (folds, binary tasks), where it has several")
    task: Task
    classes: tuple[str, ...] = ()
    label_range: tuple[float, float] | None = None
    prototypes: PositiveInt
    modalities: tuple[Name, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    layouts: dict[Literal["aligned", "unaligned"], Layout] = Field(default_factory=dict, description="none where no features are published")
    raw: tuple[str, ...] = Field((), description="folders with label.csv and recordings under the data root, most usual first; in any case")
    sha1: tuple[Sha1, ...] = Field((), description="digests of older copies, of either layout")
    splits: dict[Annotated[str, AfterValidator(_known_splits)], PublishedSplit] = Field(
        default_factory=dict,
        description="'train+valid' where only the union is published and validation is cut from training by the protocol; none: nothing is published",
    )
    ids_per_split: bool = Field(False, description="ids are unique within a split only, and occur again in others")
    samples: Sha256 | None = Field(None, description="fingerprint of all ids: tells 'divided differently' from 'other samples'")
    labels: Labels | None = None
    unimodal_labels: bool = Field(False, description="every modality has a label of its own")
    sizes: dict[str, PositiveInt] | None = Field(None, description="of simulated data, where `splits` joins splits")
    licence: str = ""
    source: str = Field("", description="where to ask for the data")
    downloads: tuple[Download, ...] = ()
    citation: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Manifest:
        if (self.task == "classification") != bool(self.classes):
            raise ValueError("classes must be given for classification, and only there")
        if (self.task == "regression") != (self.label_range is not None):
            raise ValueError("label_range must be given for regression, and only there")
        if unknown := sorted(set(self.merge.values()) - set(self.source_classes if self.positive else self.classes)):
            raise ValueError(f"merge makes {', '.join(unknown)}, which classes does not name")
        if self.positive and len(self.classes) != 2:
            raise ValueError("positive needs two classes: its absence and its presence")
        for key, layout in self.layouts.items():
            if set(layout.shapes) != set(self.modalities):
                raise ValueError(f"layouts.{key}.shapes must name exactly the modalities {', '.join(self.modalities)}")
        if self.splits and sorted("+".join(self.splits).split("+")) != sorted(SPLITS):
            raise ValueError("splits must cover train, valid and test once each")
        if self.splits and set(self.sizes or self.splits) != set(SPLITS):
            raise ValueError("sizes of train, valid and test must be given where splits are joined")
        return self

    def split_sizes(self) -> Mapping[str, int]:
        """Size of train, valid and test, as a simulation of the full size has them. ConfigError: nothing is published."""
        if not self.sizes and not self.splits:
            raise ConfigError(f"the manifest of {self.name} has no splits, so there is no size to simulate")
        return {name: self.sizes[name] if self.sizes else self.splits[name].size for name in SPLITS}


def list_manifests() -> list[str]:
    """Names of the data sets that have a manifest."""
    return sorted(path.stem for path in shipped("datasets_manifest").glob("*.yaml"))


def load_manifest(name_or_path: str | Path, protocol: str | None = None, part: str | None = None) -> Manifest:
    """The manifest of a data set by name, or from a YAML file, under one of its protocols (default: the first) and one part of that.

    ``protocols:`` in the file maps names to what differs from the rest of the file, and ``parts:`` in a protocol names to what differs further.
    ConfigError: unknown, or not a valid manifest.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        path = Path(text)
        if not os.path.isfile(path):  # of a name that no file can have, a `Path` raises
            raise ConfigError(f"there is no manifest {text}; mmbench data new FOLDER writes one for a folder with label.csv")
    else:
        path = shipped("datasets_manifest") / f"{text}.yaml"
        if text not in list_manifests():
            close = difflib.get_close_matches(text.lower(), list_manifests(), 1)
            beside = Path(text) / "dataset.yaml"  # what mmbench data new writes
            close = [str(beside)] if os.path.isfile(beside) else close
            hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(list_manifests())}; a path to a YAML file also works."
            if not close and os.path.isfile(Path(text) / "label.csv"):
                hint = f"mmbench data new {text} writes a manifest for this folder: {beside}"
            raise ConfigError(f"no data set is called {text!r}. {hint}")
    return _read(path, path.stat().st_mtime_ns, protocol, part)


def _choose(path: Path, kind: str, given: dict[str, Any], name: str | None) -> tuple[str, dict[str, Any]]:
    if name is None:
        return next(iter(given.items()), ("", {})) if kind == "protocol" else ("", {})
    if name not in given:
        raise ConfigError(f"{path}: has no {kind} {name!r}; " + (f"it has {', '.join(given)}" if given else "it has none"))
    return name, given[name]


@lru_cache(maxsize=64)
def _read(path: Path, modified: int, protocol: str | None, part: str | None) -> Manifest:
    """Each state of a file is parsed once: the cells of a sweep all name the same one."""
    content = strict_yaml.load(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a manifest is a mapping of keys to values, not a {type(content).__name__}")
    protocols = content.pop("protocols", {})
    for name, changes in protocols.items() if isinstance(protocols, dict) else [("", None)]:
        parts = changes.get("parts", {}) if isinstance(changes, dict) else None
        if not isinstance(parts, dict) or not all(isinstance(each, dict) for each in parts.values()):
            raise ConfigError(f"{path}: protocols.{name}: must be a mapping of what differs, its parts too")
    name, changes = _choose(path, "protocol", protocols, protocol)
    parts = changes.get("parts", {})
    chosen, further = _choose(path, "part", parts, part)
    content |= {key: value for key, value in changes.items() if key != "parts"} | further
    try:
        return Manifest.model_validate({**content, "protocols": tuple(protocols), "protocol": name, "part": chosen, "parts": tuple(parts)})
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, item['loc'])) or 'manifest'}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{path}: " + "; ".join(mistakes)) from None
