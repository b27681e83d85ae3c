"""Every component keeps the contracts: the core's own here, each plugin's in its own tests, and none is left out."""

import math
import re
import statistics
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmbench.component import KINDS
from mmbench.plugins import GROUP, catalogue
from mmbench.testing import conformance_tests
from mmbench.testing.checks import CHECKS, PLUGIN
from mmbench.testing.run import Suite

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
GENERAL = {"declaration", "config"}  # what every kind is checked for, whatever it does

# Slow references: one sample after the other, in Python's own floats ------------------------------------------------------------------


def share(pairs) -> float:
    pairs = list(pairs)
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else math.nan


def f1(pairs) -> float:
    pairs = list(pairs)
    total = 0.0
    for label in {truth for truth, _ in pairs}:
        hits = sum(truth == guess == label for truth, guess in pairs)
        precision = hits / max(1, sum(guess == label for _, guess in pairs))
        recall = hits / sum(truth == label for truth, _ in pairs)
        total += sum(truth == label for truth, _ in pairs) * (2 * precision * recall / (precision + recall) if hits else 0.0)
    return total / len(pairs) if pairs else math.nan


def both(prediction, target, limit=math.inf):
    return [(max(-limit, min(limit, float(y))), max(-limit, min(limit, float(p)))) for p, y in zip(prediction, target, strict=True)]


def correlation(pairs) -> float:
    try:
        return statistics.correlation([y for y, _ in pairs], [p for _, p in pairs])
    except statistics.StatisticsError:
        return math.nan


def mean(values) -> float:
    return math.fsum(values) / len(values)


def recalls(prediction, target) -> list[float]:
    pairs = guesses(prediction, target)
    return [share((truth, guess) for truth, guess in pairs if truth == label) for label in range(prediction.shape[1])]


def guesses(prediction, target):
    return [(int(y), max(range(len(p)), key=lambda label: p[label])) for p, y in zip(prediction.tolist(), target, strict=True)]


def place(value, cuts) -> int:
    return sum(value > cut for cut in cuts)


REFERENCES = {
    "mae": lambda p, y: mean([abs(a - b) for a, b in both(p, y)]),
    "mse": lambda p, y: mean([(a - b) ** 2 for a, b in both(p, y)]),
    "corr": lambda p, y: correlation(both(p, y)),
    "acc2_has0": lambda p, y: share((a >= 0, b >= 0) for a, b in both(p, y)),
    "f1_has0": lambda p, y: f1((a >= 0, b >= 0) for a, b in both(p, y)),
    "acc2_non0": lambda p, y: share((a > 0, b > 0) for a, b in both(p, y) if a),
    "f1_non0": lambda p, y: f1((a > 0, b > 0) for a, b in both(p, y) if a),
    "acc3": lambda p, y: share((round(a), round(b)) for a, b in both(p, y, 1)),
    "acc5": lambda p, y: share((round(a), round(b)) for a, b in both(p, y, 2)),
    "acc7": lambda p, y: share((round(a), round(b)) for a, b in both(p, y, 3)),
    "mae_clip1": lambda p, y: mean([abs(a - b) for a, b in both(p, y, 1)]),
    "corr_clip1": lambda p, y: correlation(both(p, y, 1)),
    "acc2_sims": lambda p, y: share((a > 0, b > 0) for a, b in both(p, y, 1)),
    "f1_sims": lambda p, y: f1((a > 0, b > 0) for a, b in both(p, y, 1)),
    "acc3_sims": lambda p, y: share((place(a, (-0.1, 0.1)), place(b, (-0.1, 0.1))) for a, b in both(p, y, 1)),
    "acc5_sims": lambda p, y: share((place(a, (-0.7, -0.1, 0.1, 0.7)), place(b, (-0.7, -0.1, 0.1, 0.7))) for a, b in both(p, y, 1)),
    "wacc": lambda p, y: share(guesses(p, y)),
    "waf1": lambda p, y: f1(guesses(p, y)),
    "uar": lambda p, y: mean([recall for recall in recalls(p, y) if not math.isnan(recall)]),
    "recall_per_class": recalls,
}
test_conformance = conformance_tests("mmbench", references=REFERENCES)


# Nothing is left out ------------------------------------------------------------------------------------------------------------------


def test_every_metric_of_the_core_has_a_reference() -> None:
    assert set(REFERENCES) == {entry.component.name for entry in catalogue().of_kind("metric") if entry.distribution == "mmbench"}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_every_plugin_of_the_repository_runs_the_kit_on_itself(folder: Path) -> None:
    name = re.search(r'^name = "(.+)"$', (folder / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    files = list((folder / "tests").glob("test_*_conformance.py"))
    assert any(re.search(rf'conformance_tests\(\s*"{name}"', path.read_text()) for path in files), f"{name} has no conformance test"


def test_every_component_is_checked_for_what_its_kind_does() -> None:
    assert {check.kind for check in CHECKS if check.name not in GENERAL} == {PLUGIN, *KINDS}
    ours = {"mmbench", *(folder.name for folder in PLUGINS)}
    installed = {point.dist.name for point in entry_points(group=GROUP)} & ours
    for distribution in installed:
        checked = {(case.check.kind, case.name) for case in Suite(distribution).cases if case.check.name not in GENERAL}
        declared = {(entry.component.kind, entry.component.name) for entry in catalogue().entries if entry.distribution == distribution}
        assert declared | {(PLUGIN, distribution)} == checked


def test_every_loss_of_the_repository_states_its_bounds() -> None:
    ours = {folder.name for folder in PLUGINS}
    for entry in catalogue().of_kind("loss"):
        if entry.distribution in ours:
            assert set(entry.component.bounds) == set(entry.component.terms), entry.key


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.kind}-{check.name}")
def test_every_check_says_its_rule(check) -> None:
    if check.needs_torch and find_spec("torch") is None:
        pytest.skip("torch is not installed")
    assert check.rule.endswith(".")
