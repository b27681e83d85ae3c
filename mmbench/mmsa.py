"""An MMSA configuration (JSON) in the words of this toolkit. The table of keys is ``mmsa.yaml`` beside this file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmbench.data.manifest import list_manifests
from mmbench.errors import ConfigError
from mmbench.files import load_json
from mmbench.strict_yaml import load

SHARED = "datasetCommonParams"


@dataclass(frozen=True)
class Key:
    """Where a key's value goes: `to` has a place for each value of a list, or several for one value. Without any, `note` is the reason."""

    to: tuple[str | None, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Block:
    """The values of one model on one data set."""

    model: str
    data: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Translation:
    """What to set in a config, in this order; `defaults` only where nothing stands yet. `remarks`: what has no counterpart, or another meaning."""

    values: tuple[tuple[str, Any], ...]
    defaults: Mapping[str, Any]
    remarks: tuple[str, ...]


@cache
def tables() -> dict[str, dict[str, Key]]:
    """By model that is known here: what each key of MMSA's becomes."""
    content = load(Path(__file__).with_suffix(".yaml"))
    every = {**_keys(content["every"]), **_reasons(content["without"])}
    return {name: {**every, **_keys(own["keys"]), **_reasons(own.get("without", {}))} for name, own in content["models"].items()}


def _keys(raw: Mapping[str, Any]) -> dict[str, Key]:
    found = {}
    for name, item in raw.items():
        item = item if isinstance(item, dict) else {"to": item}
        to = item["to"] if isinstance(item["to"], list) else [item["to"]]
        found[name] = Key(tuple(to), item.get("values", {}), item.get("with", {}), item.get("note", ""))
    return found


def _reasons(raw: Mapping[str, str]) -> dict[str, Key]:
    return {name: Key(note=reason) for name, reason in raw.items()}


def read_block(path: Path, model: str | None, data: str | None) -> Block:
    """The values of a model on a data set: out of MMSA's whole file, or a file that has one block alone.

    ConfigError: it cannot be read, or it is not said, or not there, or not here, which model and data are meant.
    """
    try:
        content = load_json(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}; MMSA has it in its package: MMSA/config") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is not an object of keys and values")
    whole = SHARED in content
    models = [name for name in content if name in tables()] if whole else list(tables())
    model = _named(path, "--model", model, models)
    if not whole:
        if data is None:
            raise ConfigError(f"{path}: say with --data which is meant: {', '.join(list_manifests())}")
        return Block(model, data, content)
    part = content[model] if isinstance(content[model], dict) else {}
    by_data = part.get("datasetParams")
    by_data = by_data if isinstance(by_data, dict) else {}
    data = _named(path, "--data", data, list(by_data))
    common, own = part.get("commonParams", {}), by_data[data]
    if not isinstance(common, dict) or not isinstance(own, dict):
        raise ConfigError(f"{path}: {model}: commonParams and datasetParams.{data} must be objects")
    return Block(model, data, {**common, **own})


def _named(path: Path, option: str, name: str | None, known: list[str]) -> str:
    if name is None:
        raise ConfigError(f"{path}: say with {option} which is meant" + f": {', '.join(known)}" * bool(known))
    if name not in known:
        raise ConfigError(f"{path}: {option} {name}: there is none that is known here; there are {', '.join(known) or 'none'}")
    return name


def translate(block: Block, layouts: tuple[str, ...]) -> Translation:
    """The block in our words, on data that come in these layouts."""
    values: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    remarks: list[str] = []
    for name, raw in block.values.items():
        key = tables()[block.model].get(name)
        if key is None or not key.to:
            remarks.append(f"{name} = {json.dumps(raw)}: {key.note if key else 'not known here'}")
            continue
        if isinstance(raw, list) and len(raw) != len(key.to):
            remarks.append(f"{name} = {json.dumps(raw)}: {len(key.to)} values are expected")
            continue
        for place, value in _places(key, raw):
            if place in values and values[place] != value:
                remarks.append(f"{name} = {json.dumps(raw)}: one {place} here, which is {json.dumps(values[place])}")
            elif place == "data.features" and value not in layouts:
                remarks.append(f"{name} = {json.dumps(raw)}: {block.data} has no {value} features")
            else:
                values[place] = value
        defaults.update(key.first)
        if key.note:
            remarks.append(f"{name} = {json.dumps(raw)}: {key.note}")
    return Translation(tuple(values.items()), defaults, tuple(remarks))


def _places(key: Key, raw: Any) -> Iterator[tuple[str, Any]]:
    found = [key.values.get(json.dumps(item), item) for item in (raw if isinstance(raw, list) else [raw] * len(key.to))]
    yield from ((place, value) for place, value in zip(key.to, found, strict=True) if place is not None)
