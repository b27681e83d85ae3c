"""Makes the checks of one distribution: for pytest (`conformance_tests`) and for ``mmbench test``. Imports neither torch nor pytest."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import metadata
from importlib.util import find_spec
from typing import Any, Literal

from mmbench import plugins
from mmbench.errors import ConfigError, PluginError
from mmbench.plugins import Catalogue, Entry, one_line
from mmbench.testing.checks import CHECKS, PLUGIN, Check, Context, Failed, Skipped, Subject
from mmbench.testing.declarations import missing_packages

Configs = Mapping[str, Mapping[str, Any] | Callable[[], Mapping[str, Any]]]
Status = Literal["passed", "failed", "skipped", "expected"]


@dataclass(frozen=True)
class Case:
    """One check of one component (of the distribution itself where `entry` is None)."""

    check: Check
    name: str
    entry: Entry | None = None

    @property
    def component(self) -> str:
        return f"{self.check.kind}:{self.name}"

    @property
    def key(self) -> str:
        """What `expected_failures` names: ``kind:name:check``."""
        return f"{self.component}:{self.check.name}"

    def __str__(self) -> str:
        return f"{self.component}-{self.check.name}"


@dataclass(frozen=True)
class Outcome:
    """How a check ended: `message` says what was expected and seen, or why it was skipped or is expected to fail."""

    case: Case
    status: Status
    message: str = ""


class Suite:
    """All checks of one distribution.

    Raises `PluginError` for a distribution that brings no plugin, `ConfigError` for a key that matches none of its components or checks.
    """

    def __init__(
        self,
        distribution: str,
        *,
        expected_failures: Mapping[str, str] | None = None,
        references: Mapping[str, Callable[..., Any]] | None = None,
        configs: Configs | None = None,
        catalogue: Catalogue | None = None,
    ):
        known = plugins.catalogue() if catalogue is None else catalogue
        found = tuple(plugin for plugin in known.plugins if plugin.distribution == distribution)
        if not found:
            names = sorted({plugin.distribution for plugin in known.plugins})
            if distribution in {str(each.metadata["Name"]) for each in metadata.distributions()}:
                raise PluginError(
                    f"{distribution!r} is installed, and none of its entry points is in the group 'mmbench': is there a section "
                    "[project.entry-points.mmbench] in its pyproject.toml, and was it installed again since?"
                )
            close = difflib.get_close_matches(distribution, names, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Installed: {', '.join(names)}."
            raise PluginError(
                f"no installed plugin belongs to a distribution {distribution!r}. {hint} One of your own is installed first: pip install -e FOLDER"
            )
        self.distribution, self.version = distribution, found[0].version
        self.context = Context(known, found, dict(configs or {}), dict(references or {}))
        self.expected = dict(expected_failures or {})
        self.cases = tuple(self._cases())
        self._check_keys()

    def _cases(self) -> Iterator[Case]:
        yield from (Case(check, self.distribution) for check in CHECKS if check.kind == PLUGIN)
        for entry in self.context.entries:
            yield from (Case(check, entry.component.name, entry) for check in CHECKS if check.kind == entry.component.kind)

    def _check_keys(self) -> None:
        labels = {case.component for case in self.cases}
        metrics = {case.name for case in self.cases if case.check.kind == "metric"}
        keys = [case.key for case in self.cases]
        known = {"configs": labels, "references": metrics, "expected_failures": set(keys)}
        given = {"configs": self.context.configs, "references": self.context.references, "expected_failures": self.expected}
        for what, names in given.items():
            for name in names:
                if name in known[what] or (what == "expected_failures" and any(fnmatchcase(key, name) for key in keys)):
                    continue
                close = difflib.get_close_matches(name, known[what], 1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ConfigError(f"conformance of {self.distribution}: {what}: {name!r} matches nothing.{hint}")

    def run(self, case: Case) -> Outcome:
        """Make one check, and hold it against what is expected to fail."""
        outcome = self._made(case)
        reason = next((reason for pattern, reason in self.expected.items() if fnmatchcase(case.key, pattern)), None)
        if reason is None or outcome.status == "skipped":
            return outcome
        if outcome.status == "failed":
            return Outcome(case, "expected", reason)
        return Outcome(case, "failed", f"unexpectedly passes; remove it from expected_failures ({reason})")

    def _made(self, case: Case) -> Outcome:
        try:
            if case.check.needs_torch and find_spec("torch") is None:
                raise Skipped("torch is not installed")
            subject: Any = self.context
            if case.entry is not None:
                subject = Subject(self.context, case.entry)
                missing = missing_packages(subject)
                if missing:
                    raise Skipped(f"needs the package {missing[0]}, which is not installed")
            with _own_random_numbers(case.check.needs_torch):
                case.check.load()(subject)
        except Skipped as reason:
            return Outcome(case, "skipped", str(reason))
        except Failed as failure:
            return Outcome(case, "failed", str(failure))
        except Exception as error:
            return Outcome(case, "failed", f"expected no error; seen {one_line(error)}{_where(error)}")
        return Outcome(case, "passed")


@contextmanager
def _own_random_numbers(with_torch: bool) -> Iterator[None]:
    """Leave the global generators as they were found."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    try:
        if with_torch:
            import torch

            with torch.random.fork_rng():
                yield
        else:
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _where(error: BaseException) -> str:
    """The place of an error, outside the kit and torch where there is one."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not any(part in code.co_filename for part in ("/mmbench/testing/", "/torch/", "<")):
            found = f" at {code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found


def conformance_tests(
    distribution: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    references: Mapping[str, Callable[..., Any]] | None = None,
    configs: Configs | None = None,
    catalogue: Catalogue | None = None,
) -> Callable[..., None]:
    """A pytest test of every component of an installed distribution, one case for each component and check.

    Args:
        distribution: the name under which the plugin is installed.
        expected_failures: reasons by ``"<kind>:<name>:<check>"`` (patterns of `fnmatch` allowed). Such a check must fail.
        references: by metric, an independent slow function of the same arguments.
        configs: by ``"<kind>:<name>"``, the hyperparameters to test with (or a function that makes them, called once when first needed),
            instead of those that the component calls `small`. What is not given keeps its default.
        catalogue: the components to look among (default: all that are installed).

    Raises:
        PluginError: where no plugin belongs to that distribution.
        ConfigError: for a key that matches nothing.
    """
    import pytest

    suite = Suite(distribution, expected_failures=expected_failures, references=references, configs=configs, catalogue=catalogue)

    @pytest.mark.parametrize("case", suite.cases, ids=str)
    def test_conformance(case: Case) -> None:
        outcome = suite.run(case)
        if outcome.status == "skipped":
            pytest.skip(outcome.message)
        if outcome.status == "expected":
            pytest.xfail(outcome.message)
        if outcome.status == "failed":
            pytest.fail(f"{case}: {outcome.message}\nrule: {case.check.rule}", pytrace=False)

    return test_conformance
