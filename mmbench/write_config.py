"""Writes a config to start from: what is chosen stands as values, every other option as a comment with its default, meaning and source."""

from __future__ import annotations

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mmbench.component_config import type_text
from mmbench.compose import assign, compose
from mmbench.config import DataConfig, Experiment, TrainingConfig
from mmbench.errors import ConfigError, printable
from mmbench.files import shipped
from mmbench.mmsa import Translation
from mmbench.plugins import Entry, catalogue
from mmbench.resolve import load
from mmbench.strict_yaml import Document, Mark, dump

WIDTH = 118
"""Columns of a comment."""


def shipped_config(model: str, data: str) -> Path | None:
    """The config that is shipped for a model on a data set, if there is one."""
    path = shipped("configs") / f"{model}_{data}.yaml"
    return path if path.is_file() else None


def start(model: str, data: str, losses: Sequence[str]) -> Document:
    """The values of a new config: those of the shipped one for this model and data set, or the two names alone; then losses."""
    base = shipped_config(model, data)
    bare = {"data": {"name": data}, "model": {"name": model}, "training": {"epochs": TrainingConfig().epochs}}
    document = compose(base) if base else Document(bare, {})
    chosen = document.value.get("losses") or []
    new = [name for name in losses if name not in [loss["name"] for loss in chosen]]
    if new:
        document.value["losses"] = [*chosen, *({"name": name, "weight": 1.0} for name in new)]
    return document


def fill(document: Document, translation: Translation) -> None:
    """Put values from elsewhere into a config. ConfigError: they do not fit into what stands there."""
    mark = Mark("--from-mmsa")
    for key, value in translation.defaults.items():
        section, _, name = key.rpartition(".")
        if document.value.setdefault(section, {}).get(name) is None:
            assign(document, key, value, mark)
    for key, value in translation.values:
        assign(document, key, value, mark)


def text_of(value: Mapping[str, Any], head: Sequence[str]) -> str:
    """The text of a config with these values. PluginError: it names a component that is not installed."""
    known = catalogue()
    model = dict(value["model"])
    lines = [f"# {printable(line)}".rstrip() for line in head]
    lines += ["# Lines that begin with #key are options at their defaults: take the # away to change one.", ""]
    lines += ["data:", *_options(value["data"], DataConfig, 1, {"name"})]
    entry = known.find("model", model["name"])
    lines += ["model:", *_component(model, entry, 1, {"encoders": model.pop("encoders", {})})]
    losses = value.get("losses") or []
    lines += ["losses:" if losses else "losses: []"]
    for loss in losses:
        own = dict(loss)
        of = _component(own, known.find("loss", own["name"]), 2, {"weight": own.pop("weight", 1.0)})
        lines += [line.replace("    name:", "  - name:", 1) if line.startswith("    name:") else line for line in of]
    lines += ["training:", *_options(value.get("training", {}), TrainingConfig, 1)]
    rest = {key: item for key, item in value.items() if key not in ("data", "model", "losses", "training")}
    lines += _options(rest, Experiment, 0, only={"adapters", "metrics", "seeds"})
    return "\n".join(lines) + "\n"


def write_config(path: Path, text: str) -> None:
    """Write a config that ``mmbench check`` accepts. ConfigError: it is there already, cannot be written, or would be refused."""
    from mmbench.files import write, writing

    if path.exists():
        raise ConfigError(f"{path} exists already; choose another name with --out")
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: a config is a .yaml file; choose such a name with --out")
    with writing(path):
        write(path, text)
    try:
        refusals = dict.fromkeys(refusal for cell in load(path) for refusal in cell.fit.refusals)
        if refusals:
            raise ConfigError("\n".join(refusals))
    except ConfigError:
        path.unlink()
        raise


def _component(values: dict[str, Any], entry: Entry, depth: int, reserved: Mapping[str, Any]) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}name: {values.pop('name')}"
    yield from _prose(f"{entry.component.summary} ({entry.distribution} {entry.version})", depth)
    yield from _plain({key: item for key, item in reserved.items() if item != {}}, depth)
    yield from _options(values, entry.load_config(), depth)


def _options(
    values: Mapping[str, Any], cls: type[BaseModel], depth: int, bare: frozenset[str] | set[str] = frozenset(), only: Any = None
) -> Iterator[str]:
    """Each field of a section: its description, and its value, or as a comment its default. Of `bare` fields only the value."""
    for name, field in cls.model_fields.items():
        if only is not None and name not in only:
            continue
        section = _section(field)
        if name not in bare:
            yield from _prose(_meaning(field, section is not None), depth)
        if section is not None:
            given = values.get(name)
            inner = [f"{'  ' * depth}{name}:", *_options(given or {}, section, depth + 1)]
            yield from inner if given else map(_commented, inner)
        elif name in values:
            yield from _plain({name: values[name]}, depth)
        elif not field.is_required():
            default = json.dumps(field.get_default(call_default_factory=True), default=_jsonable)
            yield f"{'  ' * depth}#{name}: {default}"
    unknown = {name: item for name, item in values.items() if name not in (only or cls.model_fields)}
    yield from _plain(unknown, depth)  # kept, so that reading the file tells what is wrong


def _plain(values: Mapping[str, Any], depth: int) -> list[str]:
    return textwrap.indent(dump(dict(values)), "  " * depth).splitlines() if values else []


def _prose(text: str, depth: int) -> list[str]:
    indent = "  " * depth
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False) if text else []


def _commented(line: str) -> str:
    """A line of a section that is left out: a comment already, or one with the sign before its key."""
    content = line.lstrip()
    return line if content.startswith("#") else f"{line[: len(line) - len(content)]}#{content}"


def _meaning(field: FieldInfo, section: bool) -> str:
    """Type, description and source of an option on one line."""
    extra = field.json_schema_extra
    source = extra.get("source") if isinstance(extra, dict) else None
    text = field.description or ""
    text = text if section else f"{type_text(field.annotation)}: {text}"
    return text + (f". Source: {source}" if source else "")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model class of an option that is a section of its own."""
    found = field.annotation
    return found if isinstance(found, type) and not isinstance(found, types.GenericAlias) and issubclass(found, BaseModel) else None


def _jsonable(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else list(typing.cast("Sequence[Any]", value))
