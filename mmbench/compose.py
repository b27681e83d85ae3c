"""One config from several files and options: ``extends``, deep merge, ``--set``; every value keeps the place where it was written."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmbench.errors import ConfigError
from mmbench.files import shipped
from mmbench.strict_yaml import Document, Location, Mark, load_document, parse

MOST_FILES = 100
"""Files that one config may be made of, each counted as often as it is named: ten that name one another ten times each have no end."""
MOST_SEEDS = 10_000
SPACE: Location = ("tune", "space")
"""The one mapping whose keys are dotted themselves, and may be new."""
_SEEDS = re.compile("([0-9]{1,18})(?:-([0-9]{1,18}))?")


def find_config(name: str | Path, beside: Path | None = None) -> Path:
    """The file of a config, by path (also relative to the folder `beside`) or by the bare name of a shipped one."""
    path = Path(name)
    candidates = [path] if beside is None else [beside / path, beside / f"{path}.yaml", path]
    if not path.is_absolute():
        candidates += [shipped("configs") / path, shipped("configs") / f"{path}.yaml"]
    for candidate in candidates:
        if os.path.isfile(candidate):  # of a name that no file can have, such as one that is too long, a `Path` raises
            return candidate
    known = sorted(file.stem for file in shipped("configs").glob("*.yaml"))
    if os.path.isdir(path):
        raise ConfigError(f"config {str(name)!r} is a folder; name a .yaml file. Of a folder of runs, mmbench report prints the tables")
    own, stem = f"{name}.yaml", path.stem.lower()
    begun = [own] if os.path.isfile(own) else [each for each in known if each.startswith(f"{stem}_")]  # of a model alone, those for each data set
    close = begun or difflib.get_close_matches(stem, known, 1)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Shipped: {', '.join(known)}."
    raise ConfigError(f"config {str(name)!r} is neither a file nor the name of a shipped config. {hint}")


def compose(path: Path, overrides: Sequence[str] = ()) -> Document:
    """The merged content of a file and all that it extends, with the ``--set`` options applied last."""
    document = _extended(path, (), [])
    for override in overrides:
        apply(document, override)
    return document


def _extended(path: Path, stack: tuple[Path, ...], read: list[Path]) -> Document:
    path = path if path.is_absolute() else Path(path)
    resolved = path.resolve()
    if resolved in stack:
        chain = " -> ".join(file.name for file in (*stack[stack.index(resolved) :], resolved))
        raise ConfigError(f"{path}: 'extends' goes in a circle: {chain}")
    read.append(path)
    if len(read) > MOST_FILES:
        raise ConfigError(f"{path}: 'extends' leads to more than {MOST_FILES} files")
    own = load_document(path)
    if own.value is None:
        own = Document({}, {(): Mark(str(path))})
    if not isinstance(own.value, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, not a {type(own.value).__name__}")
    bases = own.value.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{own.mark(('extends',))}: extends: must be a file name or a list of file names")
    merged = Document({}, {})
    for i, base in enumerate(bases):
        try:
            file = find_config(base, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{own.mark(('extends', i))}: extends: {error}") from None
        merged = _merge(merged, _extended(file, (*stack, resolved), read))
    return _merge(merged, own)


def _merge(base: Document, later: Document) -> Document:
    marks = dict(base.marks)
    value = _merge_value(base.value, later.value, (), marks, later.marks)
    marks.setdefault((), later.marks.get((), Mark("config")))
    return Document(value, marks)


def _merge_value(base: Any, later: Any, location: Location, marks: dict[Location, Mark], later_marks: dict[Location, Mark]) -> Any:
    """Mappings are merged key by key, later wins; a component of another name replaces the earlier one whole, as an experiment does not."""
    if isinstance(base, dict) and isinstance(later, dict) and (not location or base.get("name") in (None, later.get("name", base.get("name")))):
        merged = dict(base)
        for key, item in later.items():
            merged[key] = _merge_value(base.get(key), item, (*location, key), marks, later_marks)
        if location in later_marks:
            marks[location] = later_marks[location]
        return merged
    for place in [place for place in marks if place[: len(location)] == location]:
        del marks[place]
    marks.update({place: mark for place, mark in later_marks.items() if place[: len(location)] == location})
    return later


def apply(document: Document, override: str) -> None:
    """Apply one ``a.b.0.c=value`` in place; the value is read as YAML."""
    key, equals, text = override.partition("=")
    place = f"--set {override}"
    if not equals or not key.strip():
        raise ConfigError(f"{place}: must have the form key=value, for example --set training.epochs=10")
    assign(document, key.strip(), parse(text, place).value, Mark(place))


def assign(document: Document, key: str, value: Any, mark: Mark) -> None:
    """Set the dotted `key` of a document in place. A list's items go by position, or by their ``name``; null removes such an item."""
    place = str(mark)
    rest = key.split(".")
    if rest[0] == "losses" and len(rest) > 1 and not document.value.get("losses"):
        raise ConfigError(f"{place}: the config has no losses; add one, for example --set 'losses=[{{name: {rest[1]}}}]'")
    location: Location = ()
    parent: Any = None
    node: Any = document.value
    while rest:
        part = _first(node, rest, location, place)
        del rest[: part.count(".") + 1]
        index = _index(node, part, location, place)
        location = (*location, index)
        if isinstance(node, dict) and node.get(index) is None and rest:
            node[index] = {}
        parent, node = node, (node.get(index) if isinstance(node, dict) else node[index])
    if len(location) > 1 and location[-1] == "name" and isinstance(node, str) and node != value:
        parent.clear()
    removed = isinstance(parent, list) and value is None
    if removed:
        del parent[location[-1]]  # type: ignore[arg-type]
        location = location[:-1]  # the items after it have other positions now
    else:
        parent[location[-1]] = value
    for known in [known for known in document.marks if known[: len(location)] == location]:
        del document.marks[known]
    document.marks[location] = mark


def _first(node: Any, rest: Sequence[str], location: Location, place: str) -> str:
    """What of a dotted key leads one step on: the longest key that stands there, for some have dots of their own; else what is before the dot.

    ConfigError: a part is set of a key that ``tune.space`` does not have.
    """
    if not isinstance(node, dict):
        return rest[0]
    standing = next((key for i in range(len(rest), 0, -1) if (key := ".".join(rest[:i])) in node), None)
    if standing is not None or location != SPACE:
        return rest[0] if standing is None else standing
    *others, last = rest
    if others and last in ("low", "high", "log", "values"):
        key, known = ".".join(others), list(map(str, node))
        close = difflib.get_close_matches(key, known, 1)
        hint = (
            f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(known) or 'none'}; a new one is set whole, such as {{low: 1, high: 2}}."
        )
        raise ConfigError(f"{place}: tune.space has no key {key!r}. {hint}")
    return ".".join(rest)


def _index(node: Any, part: str, location: Location, place: str) -> str | int:
    if isinstance(node, list):
        names = [item.get("name") if isinstance(item, dict) else None for item in node]
        if names.count(part) == 1:
            return names.index(part)
        if re.fullmatch("-?[0-9]{1,9}", part) and -len(node) <= int(part) < len(node):
            return int(part) % len(node)
        path = ".".join(map(str, location))
        known = ", ".join(str(name) for name in names if name is not None)
        raise ConfigError(
            f"{place}: {path} is a list of {len(node)}; {part!r} is neither a position in it nor the name of one item" + f" ({known})" * bool(known)
        )
    if not isinstance(node, dict):
        raise ConfigError(f"{place}: {'.'.join(map(str, location))} is {node!r}, which has no keys")
    return part


def parse_seeds(text: str) -> list[int]:
    """``1-5`` or ``1,3,7-9`` as a list."""
    seeds: list[int] = []
    for part in text.split(","):
        found = _SEEDS.fullmatch(part.strip())
        if found is None:
            raise ConfigError(f"--seeds {text}: must be numbers or ranges, for example 1-5 or 1,3,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ConfigError(f"--seeds {text}: the range {part.strip()} runs backwards")
        if last - first >= MOST_SEEDS:
            raise ConfigError(f"--seeds {text}: the range {part.strip()} has more than {MOST_SEEDS} seeds")
        seeds += range(first, last + 1)
    return seeds


def only_data_path(overrides: Sequence[str]) -> None:
    """ConfigError: a finished run is asked to be opened with another value than where its data are now."""
    other = [override for override in overrides if override.partition("=")[0].strip() != "data.path"]
    if other:
        raise ConfigError(f"--set {other[0]}: a finished run is opened as it was; only data.path may be set, where its data have moved")
