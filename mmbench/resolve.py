"""From a config's text to an experiment whose every value is checked: all mistakes at once, each with its place. Imports no torch."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mmbench.compatibility import Fit, fit
from mmbench.component import Component
from mmbench.compose import compose, find_config, parse_seeds
from mmbench.config import NUMBERS, DataConfig, Experiment, Weight, parse_weights
from mmbench.data.manifest import Manifest, load_manifest
from mmbench.errors import ConfigError, MmbenchError, PluginError
from mmbench.plugins import Catalogue, Entry, catalogue
from mmbench.privacy import credentials, expanded
from mmbench.strict_yaml import Document, Location
from mmbench.sweep import expand

T = TypeVar("T")

LATER = {"buckets": None, "compile": False, "deterministic": False, "processes": 1}
"""Options of `training` that came after the first results. At these defaults they are no part of a fingerprint, so that earlier runs stay known."""


@dataclass(frozen=True)
class Choice:
    """A component with its validated hyperparameters."""

    entry: Entry
    config: Any

    def declared(self, what: str) -> frozenset[str]:
        """``needs`` or ``provides``, narrowed by the hyperparameters where the config class says so."""
        narrowed = getattr(self.config, what, None)
        return frozenset(narrowed() if callable(narrowed) else getattr(self.entry.component, what))


@dataclass(frozen=True)
class LossChoice(Choice):
    """A loss with the weight of each of its terms."""

    weights: Mapping[str, Weight]


@dataclass(frozen=True)
class Resolved:
    """An experiment that may be run, unless `missing` says what is not installed or `fit` has refusals."""

    experiment: Experiment
    manifest: Manifest
    model: Choice
    encoders: Mapping[str, Choice]
    losses: tuple[LossChoice, ...]
    fit: Fit
    missing: tuple[str, ...]
    document: Document
    executor: Choice

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in use."""
        return self.experiment.data.modalities or tuple(self.manifest.modalities)

    def to_dict(self) -> dict[str, Any]:
        """The whole config with every default filled in, but for what carries it out; reading it back gives the same experiment."""
        filled = self.experiment.model_dump(mode="json", exclude={"executor"})
        filled["data"]["modalities"] = list(self.modalities)
        filled["data"]["protocol"] = self.manifest.protocol or None
        filled["metrics"] = list(self.experiment.metrics or self.manifest.metrics)
        training = filled["training"]
        training["task_loss"] = self.task_loss
        training["select"] = self.select
        encoders = {name: _component_dict(choice) for name, choice in self.encoders.items()}
        filled["model"] = {**_component_dict(self.model), "encoders": {**filled["model"]["encoders"], **encoders}}
        filled["losses"] = [
            {**_component_dict(loss), "weight": {term: {"value": value, "warmup": warmup} for term, (value, warmup) in loss.weights.items()}}
            for loss in self.losses
        ]
        return filled

    @property
    def name(self) -> str:
        """What its row is called in tables."""
        component = self.model.entry.component
        return self.experiment.row or (component.name if component.floor else self.experiment.name)

    def reads(self, kind: str) -> frozenset[str]:
        """The modalities whose encoder reads ``tokens``, or ``waveform``."""
        return frozenset(modality for modality, choice in self.encoders.items() if kind in choice.entry.component.needs)

    @property
    def task_loss(self) -> str:
        """The task loss in use."""
        return self.experiment.training.task_loss or ("l1" if self.manifest.task == "regression" else "cross_entropy")

    @property
    def select(self) -> str:
        """The validation metric that chooses the checkpoint."""
        return self.experiment.training.select or (self.experiment.metrics or tuple(self.manifest.metrics))[0]

    def fingerprint(self, data_fingerprint: str) -> str:
        """12 hex digits of everything that a run's numbers depend on, but the seed: the config without its name, seeds and paths, and the data."""
        return _digest([self.counted(), data_fingerprint])

    @property
    def family(self) -> str:
        """12 hex digits that are the same for all parts of a protocol and differ for any other difference of configs; nothing without parts.

        Parts have other data, and what follows from them may differ: metrics, selection metric and modalities count where they are not the
        part's own.
        """
        if not self.manifest.part:
            return ""
        content = self.counted()
        del content["data"]["part"]
        training, metrics = content["training"], content["metrics"]
        content["metrics"] = None if metrics == list(self.manifest.metrics) else metrics
        training["select"] = None if training["select"] == metrics[0] else training["select"]
        content["data"]["modalities"] = None if self.modalities == tuple(self.manifest.modalities) else list(self.modalities)
        return _digest(content)

    def counted(self) -> dict[str, Any]:
        """What counts as one config: without name, seeds and paths, and without later options where they change nothing."""
        content = self.to_dict()
        del content["name"], content["row"], content["seeds"], content["data"]["path"]
        if NUMBERS > 1:
            content["numbers"] = NUMBERS
        content["training"] = {name: value for name, value in content["training"].items() if name not in LATER or value != LATER[name]}
        return content

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol, its part and all of its parts as a run's record of its data has them; empty for a data set without protocols."""
        manifest = self.manifest
        whole = load_manifest(self.experiment.data.name, manifest.protocol).title if manifest.part else ""
        found = {"protocol": manifest.protocol, "part": manifest.part, "parts": list(manifest.parts), "protocol_title": whole}
        return {key: value for key, value in found.items() if value}


def _component_dict(choice: Choice) -> dict[str, Any]:
    return {"name": choice.entry.key, **choice.config.model_dump(mode="json")}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:12]


def load(source: str | Path, overrides: Sequence[str] = (), seeds: str | None = None) -> list[Resolved]:
    """Read, compose, expand and check a config: one experiment, or one for each cell of its sweep and each part of a protocol that has several.

    `ConfigError`: one line per mistake.
    """
    document = read(source, overrides, seeds)
    if "tune" in document.value:
        raise ConfigError(f"{document.mark(('tune',))}: tune: this config is a search, which is for mmbench tune")
    return resolve_all(document)


def read(source: str | Path, overrides: Sequence[str] = (), seeds: str | None = None) -> Document:
    """A config composed of all its files and options, not yet checked. `ConfigError` where one of them cannot be read."""
    path = find_config(source)
    composed = compose(path, overrides)
    document = Document(expanded(composed.value), composed.marks)
    document.value.setdefault("name", path.stem)
    if seeds is not None:
        document.value["seeds"] = parse_seeds(seeds)
    return document


def resolve_all(document: Document) -> list[Resolved]:
    """Each experiment of a composed config, checked. `ConfigError`: one line per mistake."""
    found, problems = [], []
    if "model" not in document.value and {"text", "audio", "vision", "tokens"} & {*document.value}:
        raise ConfigError(f"{document.mark(())}: names extractors and no model: mmbench extract carries it out")
    for row, cell in expand(document):
        for part in _parts(cell):
            if row:
                part.value["row"] = row
            try:
                found.append(resolve(part, catalogue()))
            except ConfigError as error:
                problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return found


def _parts(document: Document) -> Iterator[Document]:
    """The config for each part of its protocol, where that has several and the config names none. Mistakes are left to `resolve`."""
    data, manifest = document.value.get("data"), None
    if isinstance(data, dict) and isinstance(data.get("name"), str) and isinstance(data.get("protocol"), str | None) and data.get("part") is None:
        with contextlib.suppress(MmbenchError):
            manifest = load_manifest(data["name"], data.get("protocol"))
    if manifest is None or not manifest.parts:
        yield document
        return
    for part in manifest.parts:
        yield Document({**document.value, "data": {**data, "part": part}}, document.marks)


def resolve(document: Document, known: Catalogue) -> Resolved:
    """Check a composed config against the schema and against the config classes of the components that it names."""
    checker = Checker(document, known)
    for location in credentials(document.value):
        checker.problem(location, "a URL brings a user or a password, and a config stands in every run; take them out, or name a file of your own")
    experiment = checker.section(Experiment, document.value, ())
    model = checker.component("model", ("model",), reserved={"encoders"})
    losses = checker.losses()
    manifest = checker.manifest(experiment.data if experiment else None)
    encoders = checker.encoders()
    executor = checker.executor()
    if experiment and manifest:
        checker.values(experiment, manifest)
        checker.processes(experiment, encoders)
    if checker.problems or experiment is None or manifest is None or model is None or executor is None:
        raise ConfigError("\n".join(dict.fromkeys(checker.problems)))
    provides = model.declared("provides")
    modalities = experiment.data.modalities or tuple(manifest.modalities)
    pairs = [(loss.entry.component, loss.declared("needs")) for loss in losses]
    fitted = fit(model.entry.component, provides, pairs, modalities, manifest.task, experiment.adapters)
    checker.check_extras([model, *losses, *encoders.values(), executor])
    return Resolved(experiment, manifest, model, encoders, losses, fitted, tuple(checker.missing), document, executor)


class Checker:
    """Gathers the mistakes of a composed config, each with its place, and what is not installed."""

    def __init__(self, document: Document, known: Catalogue):
        self.document = document
        self.known = known
        self.problems: list[str] = []
        self.missing: list[str] = []

    def problem(self, location: Location, text: str) -> None:
        path = ".".join(map(str, location))
        self.problems.append(f"{self.document.mark(location)}: {path + ': ' if path else ''}{text}")

    def section(self, cls: type[T], value: Any, base: Location) -> T | None:
        """Validate one mapping; every error of pydantic becomes a line with its place."""
        try:
            # Strictly, and as JSON, where lists may be tuples.
            return cls.model_validate_json(json.dumps(value), strict=True)  # type: ignore[attr-defined, no-any-return]
        except ValidationError as error:
            for item in error.errors():
                inner = _location(value, item["loc"])
                self.problem((*base, *inner), _message(item, cls, inner))
        return None

    def component(self, kind: str, location: Location, reserved: set[str], raw: Any = None) -> Choice | None:
        raw = self._at(location) if raw is None else raw
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
            return None
        try:
            entry = self.known.find(kind, raw["name"])
            config_class = entry.load_config()
        except PluginError as error:
            self.problem((*location, "name"), str(error))
            return None
        own = {key: item for key, item in raw.items() if key not in reserved | {"name"}}
        config = self.section(config_class, own, location)
        return None if config is None else Choice(entry, config)

    def executor(self) -> Choice | None:
        raw = self._at(("executor",))
        return self.component("executor", ("executor",), set(), {"name": "local", **(raw if isinstance(raw, dict) else {})})

    def losses(self) -> tuple[LossChoice, ...]:
        found: list[LossChoice] = []
        raw = self._at(("losses",))
        for i, item in enumerate(raw if isinstance(raw, list) else []):
            choice = self.component("loss", ("losses", i), {"weight"}, item)
            terms = (choice.entry.component.terms or (choice.entry.component.name,)) if choice else ()
            try:
                weights = parse_weights(item.get("weight", 1.0) if isinstance(item, dict) else 1.0, terms)
            except ValueError as error:
                self.problem(("losses", i, "weight"), str(error))
                continue
            if choice is None:
                continue
            if any(other.entry == choice.entry for other in found):
                self.problem(("losses", i, "name"), f"loss {item['name']!r} stands twice in the list")
            found.append(LossChoice(choice.entry, choice.config, weights))
        return tuple(found)

    def encoders(self) -> dict[str, Choice]:
        found = {}
        raw = self._at(("model", "encoders"))
        for modality, item in (raw if isinstance(raw, dict) else {}).items():
            name = item.get("name") if isinstance(item, dict) else None
            if not isinstance(name, str):
                continue
            if not self.known.has("extractor", name):
                self.missing.append(f"extractor {name!r} (the encoder of {modality}) is not provided by any installed plugin")
                continue
            choice = self.component("extractor", ("model", "encoders", modality), set(), item)
            if choice is not None:
                found[modality] = choice
                self.encoder(modality, choice.entry.component)
        return found

    def encoder(self, modality: str, component: Component) -> None:
        """An encoder inside the training loop turns what a batch holds, tokens or a waveform, into features of its own modality."""
        location = ("model", "encoders", modality, "name")
        name = f"extractor {component.name!r}"
        if component.modalities and modality not in component.modalities:
            self.problem(location, f"{name} is for {' and '.join(component.modalities)}, not for {modality}")
        elif component.provides:
            self.problem(location, f"{name} gives token ids, not features; it serves mmbench extract, not the training loop")
        elif not component.needs & {"tokens", "waveform"}:
            reads = " or ".join(sorted(component.needs)) or "nothing"
            self.problem(location, f"{name} reads {reads}, and an encoder inside the training loop tokens or a waveform; it serves mmbench extract")

    def manifest(self, data: DataConfig | None) -> Manifest | None:
        raw = self._at(("data",))
        name = data.name if data else raw.get("name") if isinstance(raw, dict) else None
        if not isinstance(name, str):
            return None
        try:
            return load_manifest(name, data.protocol if data else None, data.part if data else None)
        except MmbenchError as error:
            self.problem(("data", "name"), str(error))
            return None

    def values(self, experiment: Experiment, manifest: Manifest) -> None:
        """What the schema alone cannot know: modalities, metrics, the selection metric and the task loss must suit the data set."""
        for i, name in enumerate(experiment.data.modalities or ()):
            if name not in manifest.modalities:
                self.problem(("data", "modalities", i), f"{manifest.name} has no modality {name!r}; it has {', '.join(manifest.modalities)}")
        modalities = experiment.data.modalities or tuple(manifest.modalities)
        named: dict[Location, Iterable[str]] = {
            ("data", "max_length"): experiment.data.max_length or (),
            ("model", "encoders"): experiment.model.encoders,
        }
        standardize = experiment.data.standardize
        named["data", "standardize", "modalities"] = (standardize.modalities or ()) if standardize else ()
        for location, names in named.items():
            for name in names:
                if name not in modalities:
                    self.problem(location, f"names the modality {name!r}, which is not in use; in use: {', '.join(modalities)}")
        metrics = experiment.metrics or tuple(manifest.metrics)
        for i, name in enumerate(metrics):
            try:
                tasks = self.known.find("metric", name).component.tasks
            except PluginError as error:
                self.problem(("metrics", i), str(error))
                continue
            if manifest.task not in tasks:
                self.problem(("metrics", i), f"metric {name!r} is for {' and '.join(tasks)}; {manifest.name} is a {manifest.task} data set")
        training = experiment.training
        select = training.select or metrics[0]
        if select not in ("loss", *metrics):
            self.problem(("training", "select"), f"{select!r} is none of this experiment's metrics: loss, {', '.join(metrics)}")
        elif self.known.has("metric", select) and self.known.find("metric", select).load().per_class:
            self.problem(("training", "select"), f"{select!r} has one value per class and cannot choose a checkpoint")
        if training.task_loss is not None and (training.task_loss == "cross_entropy") != (manifest.task == "classification"):
            self.problem(("training", "task_loss"), f"{training.task_loss!r} does not suit {manifest.name}, a {manifest.task} data set")
        if training.clip_norm is not None and training.clip_value is not None:
            self.problem(("training", "clip_value"), "clip_norm and clip_value exclude each other")
        percentiles = standardize.percentiles if standardize else None
        if percentiles and not 0 <= percentiles[0] < percentiles[1] <= 100:
            self.problem(("data", "standardize", "percentiles"), "must be two ascending numbers between 0 and 100")

    def processes(self, experiment: Experiment, encoders: Mapping[str, Choice]) -> None:
        """What several processes of one run share out: encoders that are trained, on steps that are not captured."""
        training, location = experiment.training, ("training", "processes")
        if training.processes == 1:
            return
        if not any(getattr(choice.config, "finetune", False) for choice in encoders.values()):
            self.problem(
                location, "processes share out encoders that are fine-tuned, and there is none: set finetune: true in model.encoders, or take 1"
            )
        if training.compile:
            self.problem(location, "training.compile captures the steps of one process; set it to false, or take 1")

    def check_extras(self, choices: Sequence[Choice]) -> None:
        for choice in choices:
            component = choice.entry.component
            self.missing += [
                f"{component.kind} {component.name!r} needs the package {package!r}: {component.how_to_install(package)}"
                for package in component.extras
                if not find_spec(package)
            ]

    def _at(self, location: Location) -> Any:
        node = self.document.value
        for part in location:
            node = node.get(part) if isinstance(node, dict) else None
        return node


def _location(value: Any, loc: Sequence[str | int]) -> Location:
    """A pydantic location without the tags that unions put into it."""
    found: list[str | int] = []
    for i, part in enumerate(loc):
        inside = (isinstance(value, dict) and part in value) or (isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value))
        if inside:
            value = value[part]
        elif i < len(loc) - 1 or not isinstance(value, dict):
            continue
        found.append(part)
    return tuple(found)


def _message(item: Any, cls: type, location: Location) -> str:
    kind, text = item["type"], item["msg"]
    if kind == "extra_forbidden":
        fields = _fields(cls, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), fields, 1)
        return "unknown key. " + (f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(fields)) or 'none'}.")
    if kind == "missing":
        return "is missing"
    if kind == "union_tag_invalid":
        return f"unknown name {item['ctx']['tag']!r}; known: {item['ctx']['expected_tags']}"
    if kind == "union_tag_not_found":
        return "must be a mapping with a 'name'"
    if kind in ("list_type", "tuple_type"):
        text = "must be a list" + (f", such as [{item['input']}]" if isinstance(item["input"], str | int | float) else "")
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        named = isinstance(item["input"], str) and "name" in _fields(cls, location)
        text = "must be a mapping of keys to values" + (f", such as {{name: {item['input']}}}" if named else "")
    elif kind in ("bool_type", "bool_parsing"):
        text = "must be true or false"
    elif kind == "string_pattern_mismatch" and location == ("name",):
        text = "must be up to 100 letters from a to z, digits, '.', '_' and '-'; without this key it is the name of the file"
    text = text.removeprefix("Value error, ").removeprefix("Input ").replace("should", "must", 1)
    shown = repr(item["input"])
    return f"{text} (got {shown if len(shown) <= 60 else shown[:57] + '...'})"


def _fields(cls: Any, location: Location) -> list[str]:
    """Names of the fields of the model at a location inside `cls`."""
    models = _models(cls)
    for part in location:
        if isinstance(part, int):
            continue
        annotations = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        models = [model for annotation in annotations for model in _models(annotation)] or models
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]
