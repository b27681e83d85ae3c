"""YAML without surprises: duplicate keys are errors, ``1e-4`` is a number, ``no`` is a string, and every value knows its place.

PyYAML follows YAML 1.1; here plain scalars are read as YAML 1.2 has them. Tags, anchors and merge keys are refused: a config needs none,
and without them a small file cannot grow in memory.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmbench.errors import ConfigError
from mmbench.files import read_text

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Mark:
    """Where a value was written: a file with line and column, or an option of the command line (line 0)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Document:
    """A parsed file: plain Python values, and the mark of each key and list item by its path."""

    value: Any
    marks: dict[Location, Mark]

    def mark(self, location: Location) -> Mark:
        """The mark of a path, or of its nearest parent that has one."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.marks:
                return self.marks[location[:end]]
        return Mark("config")


MOST_TEXT = 16 << 20
"""Bytes of a YAML file. The largest that anyone wrote for this has some ten thousand."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (PyYAML's own class attribute)


_DEEPEST = 100
_SIGNS = re.compile("[&*!]")
_LONG = 100
"""Characters from which on an integer is read as a float: Python writes none of more than 4300 digits."""
_TRUE = re.compile(r"true|True|TRUE")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"~|null|Null|NULL|")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

for _tag, _pattern in (("bool", _BOOL), ("null", _NULL), ("int", _INT), ("float", _FLOAT)):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern.pattern})$"), None)


def load(path: Path) -> Any:
    """The value of a YAML file. Raises `ConfigError` with file, line and column."""
    return load_document(path).value


def load_document(path: Path) -> Document:
    """The value of a YAML file with the marks of its keys. Raises `ConfigError`."""
    try:
        text = read_text(path, MOST_TEXT)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a UTF-8 text file") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """The value of a YAML text; `source` names it in errors."""
    try:
        _refuse_tags_and_aliases(text, source)
        node = _Loader(text).get_single_node()
        marks: dict[Location, Mark] = {}
        return Document(_construct(node, (), source, marks), marks)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        tab = "; indent with spaces" if "'\\t'" in str(error.problem) else ""
        raise ConfigError(f"{place}: not valid YAML: {error.problem or error.context}{tab}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply") from None


def _refuse_tags_and_aliases(text: str, source: str) -> None:
    if not _SIGNS.search(text):  # most files: one pass over them less
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:  # each level more makes the next one slower to read
            raise ConfigError(f"{source}: nested too deeply")
        mark = event.start_mark or yaml.Mark(source, 0, 0, 0, None, 0)
        place = f"{source}:{mark.line + 1}:{mark.column + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(f"{place}: anchors and aliases are not supported; use 'extends' to share settings")
        if tag := getattr(event, "tag", None):
            raise ConfigError(f"{place}: the tag {tag!r:.80} is not allowed in a config")


def _construct(node: yaml.Node | None, location: Location, source: str, marks: dict[Location, Mark]) -> Any:
    if node is None:
        return None
    if len(location) > _DEEPEST:
        raise RecursionError
    here = Mark(source, node.start_mark.line + 1, node.start_mark.column + 1)
    marks.setdefault(location, here)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, location, source, marks)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*location, i), source, marks) for i, item in enumerate(node.value)]
    return _scalar(node.value, node.tag.removeprefix("tag:yaml.org,2002:"))


def _mapping(node: yaml.MappingNode, location: Location, source: str, marks: dict[Location, Mark]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        mark = Mark(source, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{mark}: a key must be a plain word")
        key = key_node.value
        if key in result:
            raise ConfigError(f"{mark}: the key {key!r:.80} stands twice in one mapping (first at line {marks[(*location, key)].line})")
        marks[(*location, key)] = mark
        result[key] = _construct(value_node, (*location, key), source, marks)
    return result


def _scalar(text: str, kind: str) -> Any:
    if kind == "bool":
        return bool(_TRUE.fullmatch(text))
    if kind == "null":
        return None
    if kind == "int":
        if text[:2] in ("0o", "0x"):
            return int(text, 0) if len(text) < _LONG else math.inf
        return int(text) if len(text) < _LONG else float(text)
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def dump(value: Any) -> str:
    """YAML text that `parse` reads back as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = {  # noqa: RUF012  (quote whatever either version of YAML would not read as a string)
        first: [*resolvers] for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern in (("int", _INT), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern.pattern})$"), list("-+.0123456789"))
_Dumper.add_representer(float, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", _float_text(value)))
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_list(list(value)))


def _float_text(value: float) -> str:
    text = repr(value)
    return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)
