"""Finds plugins, keeps the catalogue of their components, and imports a component on first use. Imports no torch.

A plugin that cannot be loaded is reported, never fatal: the catalogue keeps the reason for `mmbench plugins` and for the error about a
name that may have come from it.
"""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from typing import Any

import pluggy

from mmbench import hookspecs
from mmbench.component import API, KINDS, Component
from mmbench.errors import PluginError
from mmbench.installing import how_to_install

GROUP = "mmbench"
CORE = "mmbench"


@dataclass(frozen=True)
class Entry:
    """A component with the distribution that brings it. `key` (``distribution/name``) is unique, `name` may not be."""

    component: Component
    distribution: str
    version: str

    @property
    def key(self) -> str:
        return f"{self.distribution}/{self.component.name}"

    def load(self) -> Any:
        """The class, function or record that the component's target names."""
        return self._import(self.component.target)

    def load_config(self) -> Any:
        """The pydantic class of the component's hyperparameters; one without any for a component that has none."""
        if self.component.config is None:
            return import_module("mmbench.component_config").ComponentConfig
        return self._import(self.component.config)

    def _import(self, target: str) -> Any:
        module, _, attribute = target.partition(":")
        attribute, _, key = attribute.partition("[")
        try:
            found = getattr(import_module(module), attribute)
            return found[key.removesuffix("]")] if key else found
        except Exception as error:
            raise PluginError(
                f"{self.component.kind} {self.key!r} cannot be loaded: importing {target!r} failed: {one_line(error)}{self._hint(error)}"
            ) from error

    def _hint(self, error: Exception) -> str:
        missing = getattr(error, "name", None) or ""
        if isinstance(error, ImportError) and missing.partition(".")[0] == "torch":
            return f". Install torch: {how_to_install('mmbench[train]')}"
        if isinstance(error, OSError) and "torchaudio" in str(error):
            return ". torch and torchaudio are of different builds: install both from the same place, in the same version"
        if isinstance(error, ImportError) and missing.partition(".")[0] in self.component.extras:
            return f". It needs the package {missing!r}: {self.component.how_to_install(missing)}"
        return ""


@dataclass(frozen=True)
class Plugin:
    """One entry point: the distribution it belongs to and, where it could not be loaded, why."""

    name: str
    distribution: str
    version: str
    module: str
    components: tuple[Component, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All components of all plugins that could be loaded."""

    plugins: tuple[Plugin, ...]
    entries: tuple[Entry, ...] = field(default=())

    def of_kind(self, kind: str) -> list[Entry]:
        """The components of one kind, by name."""
        return sorted((entry for entry in self.entries if entry.component.kind == kind), key=lambda entry: (entry.component.name, entry.key))

    def find(self, kind: str, name: str) -> Entry:
        """The component of a bare name, or of ``distribution/name``. Raises `PluginError` where there is none, or more than one."""
        known = self.of_kind(kind)
        found = [entry for entry in known if name in (entry.component.name, entry.key)]
        if len(found) == 1:
            return found[0]
        if found:
            raise PluginError(f"{kind} {name!r} is claimed by {len(found)} plugins; write one of: {', '.join(entry.key for entry in found)}")
        close = difflib.get_close_matches(name, [entry.component.name for entry in known], 1)
        hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(entry.component.name for entry in known) or 'none'}.{_more()}"
        broken = "".join(f" The plugin {p.distribution} {p.version} could not be loaded: {p.problem}." for p in self.plugins if p.problem)
        raise PluginError(f"{kind} {name!r} is not provided by any installed plugin.{hint}{broken}")

    def has(self, kind: str, name: str) -> bool:
        """Whether `find` would succeed."""
        return sum(name in (entry.component.name, entry.key) for entry in self.of_kind(kind)) == 1


def _more() -> str:
    """Where a component may be that is not there."""
    if os.environ.get("MMBENCH_PLUGINS") is not None:
        return " MMBENCH_PLUGINS restricts which plugins are loaded."
    return " A plugin of the repository is installed with: pip install ./plugins/NAME in its folder."


def one_line(error: BaseException) -> str:
    """Type and message of an exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@cache
def catalogue() -> Catalogue:
    """The components of this environment. ``MMBENCH_PLUGINS=a,b`` restricts which entry points are imported; the core's own always is."""
    chosen = os.environ.get("MMBENCH_PLUGINS")
    wanted = None if chosen is None else {name.strip() for name in chosen.split(",") if name.strip()}
    points = sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name != CORE, point.name, point.value))
    unknown = (wanted or set()) - {point.name for point in points}
    if unknown:
        there = ", ".join(point.name for point in points if point.name != CORE) or "none"
        raise PluginError(f"MMBENCH_PLUGINS names {', '.join(sorted(unknown))}, which is not installed; installed: {there}")
    return build(point for point in points if wanted is None or point.name in wanted or point.name == CORE)


def build(points: Iterable[metadata.EntryPoint]) -> Catalogue:
    """Load the given entry points, each under a guard."""
    plugins = tuple(_load(point) for point in points)
    entries = tuple(Entry(component, plugin.distribution, plugin.version) for plugin in plugins for component in plugin.components)
    return Catalogue(plugins, entries)


def _load(point: metadata.EntryPoint) -> Plugin:
    distribution = point.dist.name if point.dist else point.name
    version = point.dist.version if point.dist else "0"
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(point.load(), name=point.name)
        manager.check_pending()
        components = tuple(component for yielded in manager.hook.mmbench_components() for component in yielded)
        problem = _problem(components)
    except (Exception, SystemExit) as error:
        return Plugin(point.name, distribution, version, point.value, problem=one_line(error))
    return Plugin(point.name, distribution, version, point.value, () if problem else components, problem)


def _problem(components: tuple[Component, ...]) -> str:
    """Why these records cannot be used, or nothing."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for component in components:
        if not isinstance(component, Component):
            return f"it yields a {type(component).__name__} where a Component is expected"
        if component.api != API:
            return f"its component {component.name!r} was written for plugin API {component.api}; this mmbench has API {API}"
        if component.kind not in KINDS:
            return f"its component {component.name!r} is of the unknown kind {component.kind!r} (known: {', '.join(KINDS)})"
        seen[component.kind, component.name] += 1
    twice = [f"{kind} {name!r}" for (kind, name), count in seen.items() if count > 1]
    return f"it declares {twice[0]} twice" if twice else ""
