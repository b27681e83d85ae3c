"""What a shell offers after Tab: names of components, configs and data sets, and the keys of ``--set``. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from mmbench.errors import printable

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(source: str, *arguments: str) -> Completer:
    """What offers the items of a function of this module, which runs when a shell asks. A mistake in the line so far offers nothing."""

    def offer(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        with contextlib.suppress(Exception):  # a shell shows whatever is printed in the middle of the line
            return [item for item in globals()[source](context, begun, *arguments) if item.value.startswith(begun)]
        return []

    return offer


def components(context: click.Context, begun: str, kind: str = "") -> Iterator[CompletionItem]:
    """The components of a kind, or of the one that the line has named."""
    from mmbench.plugins import catalogue

    for entry in catalogue().of_kind(kind or str(context.params.get("kind"))):
        yield CompletionItem(printable(entry.component.name), help=printable(entry.component.summary))


def configs(context: click.Context, begun: str) -> Iterator[CompletionItem]:
    """YAML files and folders from what is begun on, then the configs that are shipped."""
    from mmbench.files import shipped

    folder, _, start = begun.rpartition("/")
    place = Path(f"{folder}/") if "/" in begun else Path()
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path.name.startswith(start) and not path.name.startswith(".") and path.name.isprintable() and (path.is_dir() or path.suffix == ".yaml"):
            name = f"{folder}/{path.name}" if "/" in begun else path.name
            yield CompletionItem(f"{name}/" if path.is_dir() else name, help="folder" if path.is_dir() else "file")
    for path in sorted(shipped("configs").glob("*.yaml")):
        yield CompletionItem(path.stem, help="shipped")


def datasets(context: click.Context, begun: str) -> Iterator[CompletionItem]:
    """The data sets that have a manifest."""
    from mmbench.data.manifest import list_manifests

    return map(CompletionItem, list_manifests())


def targets(context: click.Context, begun: str) -> Iterator[CompletionItem]:
    """What can be reproduced."""
    from mmbench.reproduction.target import target_names

    return map(CompletionItem, target_names())


def keys(context: click.Context, begun: str) -> Iterator[CompletionItem]:
    """Every key of a config, with the hyperparameters of what the config in the line names."""
    from mmbench.config import Experiment
    from mmbench.plugins import catalogue

    value = _config(context)
    yield from _fields(Experiment, "")
    for kind, prefix, section in (("model", "model.", value.get("model")), ("executor", "executor.", value.get("executor", {"name": "local"}))):
        if isinstance(section, dict) and catalogue().has(kind, str(section.get("name"))):
            yield from _fields(catalogue().find(kind, section["name"]).load_config(), prefix)
    for loss in value.get("losses") or ():
        if isinstance(loss, dict) and catalogue().has("loss", str(loss.get("name"))):
            yield CompletionItem(f"losses.{loss['name']}.weight=", help="a number, or one for each of its terms")
            yield from _fields(catalogue().find("loss", loss["name"]).load_config(), f"losses.{loss['name']}.")


def _config(context: click.Context) -> Mapping[str, Any]:
    """The composed config that the line names, as far as it can be read."""
    name = context.params.get("config") or next(iter(context.args), None)  # click leaves it there before an option that waits for its value
    if not name:
        return {}
    from mmbench.compose import compose, find_config

    found = compose(find_config(name)).value
    return found if isinstance(found, dict) else {}


def _fields(cls: Any, prefix: str) -> Iterable[CompletionItem]:
    from pydantic import BaseModel

    for name, field in cls.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield CompletionItem(f"{prefix}{name}=", help=field.description)
