"""What this repository's plugins declare, whether they are installed or not, and what the docstrings of their code say."""

from __future__ import annotations

import ast
import json
import re
import types
import typing
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mmbench.compose import compose
from mmbench.plugins import GROUP, Catalogue, Entry, build
from writers.markdown import ROOT, cell, escaped, table


class _Distribution:
    def __init__(self, name: str):
        self.name, self.version = name, "0"


@cache
def declared() -> Catalogue:
    """The components of the core and of every plugin in ``plugins/``. SystemExit: one cannot be read."""
    points = []
    for project in [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]:
        section = re.search(r"^\[project\.entry-points\.mmbench\]\n((?:\S.*\n)+)", project.read_text(), re.MULTILINE)
        name, module = re.findall(r"^(\S+) = \"(\S+)\"", section[1], re.MULTILINE)[0] if section else ("", "")
        points.append(EntryPoint(name, module, GROUP)._for(_Distribution(name)))  # type: ignore[attr-defined]
    found = build(points)
    for plugin in found.plugins:
        if plugin.problem:
            raise SystemExit(f"{plugin.distribution}: cannot be read, so its pages cannot be written: {plugin.problem}")
    return found


def source_of(entry: Entry) -> tuple[Path, ast.Module]:
    """The file that a component's target is in, and its syntax. It is not imported: it may need torch."""
    module = entry.component.target.partition(":")[0].replace(".", "/")
    for base in (ROOT, *sorted(ROOT.glob("plugins/*/src"))):
        for path in (base / f"{module}.py", base / module / "__init__.py"):
            if path.is_file():
                return path, ast.parse(path.read_text())
    raise SystemExit(f"{entry.key}: there is no file of {entry.component.target}")


def docstrings(entry: Entry) -> tuple[str, str]:
    """Of the component's class, and of its module; nothing where there is none."""
    _, module = source_of(entry)
    name = re.split(r"[:\[]", entry.component.target)[1]
    classes = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name]
    return (ast.get_docstring(classes[0]) or "") if classes else "", ast.get_docstring(module) or ""


@cache
def shipped_configs() -> dict[str, dict[str, Any]]:
    """What each config of the package says, ``extends`` followed."""
    return {path.stem: compose(path).value for path in sorted((ROOT / "configs").glob("*.yaml"))}


def type_of(annotation: Any) -> str:
    """A type as a user would write it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_of(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_of(argument) for argument in arguments))
    if origin is dict:
        return f"{{name: {type_of(arguments[1])}}}"
    if origin in (list, tuple):
        return f"\\[{', '.join(type_of(argument) for argument in arguments if argument is not ...)}\\]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{...}"
    return {int: "integer", float: "number", bool: "true or false", str: "text", type(None): "null", Any: "any"}.get(annotation, "text")


def default_of(field: Any) -> str:
    """A field's default as YAML has it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "its own defaults"
    return f"`{json.dumps(value, default=str, ensure_ascii=False)}`"


def options(config: Any) -> str:
    """The table of a config class's options; the column of sources stands where any has one."""
    extras = {name: field.json_schema_extra for name, field in config.model_fields.items()}
    sources = {name: extra.get("source", "") if isinstance(extra, dict) else "" for name, extra in extras.items()}
    header = ["option", "type", "default", "what it is", "source"][: 5 if any(sources.values()) else 4]
    rows = [
        [f"`{name}`", type_of(field.annotation), default_of(field), escaped(field.description or ""), escaped(str(sources[name]))][: len(header)]
        for name, field in config.model_fields.items()
    ]
    return table(header, [[cell(each) for each in row] for row in rows])
