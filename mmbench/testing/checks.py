"""The table of checks, what a check is given, and the two ways in which it ends early. Imports no torch.

A check is a function of a `Subject` whose docstring's first line is the rule that it holds the component to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from mmbench.component import KINDS, Component
from mmbench.errors import MmbenchError
from mmbench.plugins import Catalogue, Entry, Plugin

PLUGIN = "plugin"
"""The kind of the checks that are made once for a distribution."""


class Failed(MmbenchError):  # noqa: N818  (it is a finding, not an error)
    """The component breaks the rule of a check."""


class Skipped(MmbenchError):  # noqa: N818
    """The check cannot be made here; the message is the reason."""


@dataclass(frozen=True)
class Check:
    """One rule for components of one kind. `module` is a module of this package that has a function of the check's name."""

    kind: str
    name: str
    module: str

    @property
    def needs_torch(self) -> bool:
        return self.module in ("models", "losses", "extractors", "processes")

    def load(self) -> Callable[[Any], None]:
        """The function that makes the check."""
        function: Callable[[Any], None] = getattr(import_module(f"mmbench.testing.{self.module}"), self.name.replace("-", "_"))
        return function

    @property
    def rule(self) -> str:
        """The first line of the check's docstring."""
        return (self.load().__doc__ or "").strip().partition("\n")[0]


def _checks(kind: str, module: str, *names: str) -> tuple[Check, ...]:
    return tuple(Check(kind, name, module) for name in names)


CHECKS: tuple[Check, ...] = (
    *_checks(PLUGIN, "declarations", "loads", "imports"),
    *(check for kind in KINDS for check in _checks(kind, "declarations", "declaration", "config")),
    *_checks("model", "models", "fields", "modalities", "padding", "batch-of-one", "empty-modality", "gradients", "seed", "evaluation", "state"),
    *_checks("model", "models", "float64", "bf16", "gpu"),
    *_checks("model", "processes", "another-process"),
    *_checks("loss", "losses", "terms", "needs", "bound", "padding", "batch-of-one", "empty-modality", "gradients", "seed", "evaluation", "state"),
    *_checks("loss", "losses", "float64", "bf16", "gpu"),
    *_checks("loss", "processes", "another-process"),
    *_checks("metric", "metrics", "record", "values", "direction", "order", "reference"),
    *_checks("extractor", "extractors", "features", "padding", "batch-of-one", "empty-sample", "preparation", "spans", "frozen", "gradients"),
    *_checks("extractor", "extractors", "digest", "state", "bf16", "gpu"),
    *_checks("extractor", "processes", "another-process"),
    *_checks("aligner", "data", "contract", "digest"),
    *_checks("dataset-format", "data", "contract", "foreign"),
    *_checks("executor", "executors", "outcomes"),
    *_checks("tracker", "trackers", "course", "values", "resumed"),
    *_checks("tuner", "tuners", "space", "repeatable", "account"),
)


@dataclass(frozen=True)
class Context:
    """One distribution under test. `cache` keeps what is done once for all of its components."""

    catalogue: Catalogue
    plugins: tuple[Plugin, ...]
    configs: Mapping[str, Mapping[str, Any] | Callable[[], Mapping[str, Any]]]
    references: Mapping[str, Callable[..., Any]]
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """The components of the distribution."""
        return [entry for entry in self.catalogue.entries if entry.distribution == self.plugins[0].distribution]


@dataclass(frozen=True)
class Subject:
    """A component under test, with the hyperparameters to test it with."""

    context: Context
    entry: Entry

    @property
    def component(self) -> Component:
        return self.entry.component

    @property
    def label(self) -> str:
        return f"{self.component.kind}:{self.component.name}"

    @property
    def options(self) -> dict[str, Any]:
        """The hyperparameters that are given for the tests; those that are not keep their defaults."""
        key = f"options {self.label}"
        if key not in self.context.cache:
            given = self.context.configs.get(self.label, self.component.small)
            self.context.cache[key] = dict(given() if callable(given) else given)
        return dict(self.context.cache[key])

    def config(self, **changes: Any) -> Any:
        """The hyperparameters, checked. Raises `Failed` where they are refused, or where one without a default is not given."""
        cls = self.entry.load_config()
        try:
            return cls.model_validate_json(json.dumps({**self.options, **changes}), strict=True)  # as a config file is read
        except ValidationError as error:
            missing = [".".join(map(str, problem["loc"])) for problem in error.errors() if problem["type"] == "missing"]
            if missing:
                raise Failed(
                    f"expected hyperparameters to test with; seen no value for {', '.join(missing)}, which have no default: "
                    f"give conformance_tests configs={{{self.label!r}: {{...}}}}"
                ) from error
            raise Failed(f"expected hyperparameters that {cls.__name__} accepts; seen {' '.join(str(error).split())}") from error


def expect(holds: Any, expected: str, seen: Any, place: str = "") -> None:
    """Fail unless the condition holds, with what was expected, what was seen, and for which data."""
    if not holds:
        raise Failed(f"expected {expected}; seen {seen}" + (f" ({place})" if place else ""))
