"""What is expected to fail, what is given to the kit, what is skipped, and the verb ``test``."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from mmbench import plugins
from mmbench.cli.test import command
from mmbench.errors import ConfigError, PluginError
from mmbench.testing import conformance_tests
from mmbench.testing.run import Suite

torch_only = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


def test_cases_have_readable_names_and_none_is_missing(broken) -> None:
    (mark,) = conformance_tests("kit", catalogue=broken).pytestmark
    names = [str(case) for case in mark.args[1]]
    assert mark.kwargs["ids"] is str
    assert len(names) == len(set(names))
    assert {"plugin:kit-imports", "loss:good-bound", "metric:good-reference", "model:two-modalities-batch-of-one"} <= set(names)
    assert {name.rpartition("-")[0] for name in names if name.endswith("-declaration")} == {
        f"{entry.component.kind}:{entry.component.name}" for entry in broken.entries if entry.distribution == "kit"
    }


@torch_only
def test_expected_failures(verdict) -> None:
    reasons = {"metric:reversed:direction": "it is the other way round", "metric:*:order": "too slow", "metric:classes:reference": "none yet"}
    assert verdict("kit", "metric:reversed:direction", expected_failures=reasons) == ("expected", "it is the other way round")
    assert verdict("kit", "metric:first:order", expected_failures=reasons) == ("expected", "too slow")
    status, message = verdict("kit", "metric:good:order", expected_failures=reasons)
    assert status == "failed"
    assert "metric:good-order: unexpectedly passes; remove it from expected_failures (too slow)" in message
    assert verdict("kit", "metric:classes:reference", expected_failures=reasons) == ("skipped", "no reference function was given")
    assert verdict("kit", "metric:doubled:values", expected_failures=reasons) == ("passed", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expected_failures": {"metric:good:ordr": "?"}}, "expected_failures: 'metric:good:ordr' matches nothing. Did you mean 'metric:good:order'"),
        ({"expected_failures": {"metric:g*:orders": "?"}}, "matches nothing"),
        ({"configs": {"model:goood": {}}}, "configs: 'model:goood' matches nothing. Did you mean 'model:good'"),
        ({"configs": {"good": {}}}, "configs: 'good' matches nothing"),
        ({"references": {"metric:good": abs}}, "references: 'metric:good' matches nothing"),
    ],
)
def test_keys_that_match_nothing_are_errors(broken, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        conformance_tests("kit", catalogue=broken, **options)


def test_unknown_distributions_are_met_with_a_suggestion(broken) -> None:
    with pytest.raises(PluginError, match=r"no installed plugin belongs to a distribution 'kitt'\. Did you mean 'kit'"):
        conformance_tests("kitt", catalogue=broken)
    with pytest.raises(PluginError, match="Installed: absent, details, empty, heavy, kit, mmbench"):
        conformance_tests("something-else", catalogue=broken)
    with pytest.raises(PluginError, match="'pytest' is installed, and none of its entry points is in the group 'mmbench'"):
        conformance_tests("pytest", catalogue=broken)


@torch_only
def test_configs_take_the_place_of_defaults_and_of_small_ones(verdict) -> None:
    calls = []

    def made():
        calls.append(1)
        return {"width": 5}

    configs = {"model:required": made, "model:wrong-small": {"width": 2}, "model:good": {"width": -1}}
    for check in ("config", "fields", "seed"):
        assert verdict("kit", f"model:required:{check}", configs=configs) == ("passed", "")
    assert calls == [1]
    assert verdict("kit", "model:wrong-small:fields", configs=configs) == ("passed", "")
    status, message = verdict("kit", "model:good:fields", configs=configs)
    assert status == "failed"
    assert "expected hyperparameters that Model accepts" in message


@torch_only
def test_skips_have_a_reason(verdict) -> None:
    assert verdict("kit", "extractor:required:features") == ("skipped", "no hyperparameters to build it with (configs)")
    assert verdict("kit", "extractor:required:another-process") == ("skipped", "no hyperparameters to build it with (configs)")
    assert verdict("kit", "extractor:required:config") == ("passed", "")
    unavailable = "skipped", "it cannot be built here: the weights could not be had"
    assert verdict("kit", "extractor:unavailable:features") == unavailable
    assert verdict("kit", "extractor:unavailable:another-process") == unavailable
    assert verdict("kit", "model:absent-package:fields") == ("skipped", "needs the package absent_package_xyz, which is not installed")
    assert verdict("absent", "plugin:absent:imports") == ("skipped", "it could not be loaded")


@torch_only
def test_checks_leave_the_random_generators_alone(broken) -> None:
    import random

    import numpy as np
    import torch

    suite = Suite("kit", catalogue=broken)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert suite.run(next(case for case in suite.cases if case.key == "model:good:seed")).status == "passed"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


def test_where_there_is_no_torch_checks_are_collected_and_skipped() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from mmbench.testing import conformance_tests, make_inputs\nfrom mmbench.testing.run import Suite\n"
        "(mark,) = conformance_tests('mmbench').pytestmark\nassert len(mark.args[1]) > 100\nsuite = Suite('mmbench')\n"
        "found = [suite.run(case) for case in suite.cases if case.check.kind != 'executor']\n"
        "assert not [outcome for outcome in found if outcome.status == 'failed'], found\n"
        "skipped = [outcome for outcome in found if outcome.message == 'torch is not installed']\n"
        "assert skipped and all(outcome.case.check.kind == 'model' for outcome in skipped)\nassert make_inputs().outputs == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_kit_imports_neither_torch_nor_pytest() -> None:
    code = "import sys, mmbench.testing, mmbench.cli.test; print([name for name in ('torch', 'pytest') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# The verb ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def verb(broken, monkeypatch):
    monkeypatch.setattr(plugins, "catalogue", lambda: broken)
    return lambda *arguments: CliRunner().invoke(command, arguments)


def test_the_verb_says_what_failed_and_by_which_rule(verb) -> None:
    done = verb("kit", "-k", "metric:[gr]*")
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0] == "kit 1.0"
    assert "  metric:good                      6 passed, 1 skipped" in lines
    assert "    FAILED direction: expected that no prediction beats the targets themselves; seen" in done.output
    assert "           rule: Predictions without error score no worse than others, and some others score worse." in lines
    assert lines[-2:] == ["skipped: 3 x no reference function was given", "16 passed, 2 failed, 3 skipped"]


def test_the_verb_lists_every_check_on_request(verb) -> None:
    assert "direction" not in verb("kit", "-k", "metric:good").output
    done = verb("kit", "--verbose", "-k", "metric:good")
    assert done.exit_code == 0
    assert "    passed direction\n" in done.output
    assert "    skipped reference: no reference function was given\n" in done.output


def test_the_verb_without_a_distribution_tests_all_of_them(verb) -> None:
    done = verb("-k", "plugin:*")
    assert done.exit_code == 1
    assert [line for line in done.output.splitlines() if line.endswith(" 1.0")] == [
        f"{name} 1.0" for name in ("mmbench", "kit", "heavy", "absent", "empty", "details")
    ]
    assert "FAILED loads: expected that kit_absent can be loaded; seen ModuleNotFoundError: No module named 'kit_absent' (absent)" in done.output


def test_the_verb_refuses_what_matches_nothing(verb) -> None:
    assert "no check matches 'zzz'" in verb("kit", "-k", "zzz").output
    done = subprocess.run([sys.executable, "-m", "mmbench", "test", "mmbenc"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no installed plugin belongs to a distribution 'mmbenc'. Did you mean 'mmbench'? One of your own is")
