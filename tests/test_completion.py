"""Tab: verbs, configs, components and keys, as a shell asks for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from mmbench.cli import VERBS, cli, completion
from mmbench.plugins import catalogue


def offered(*words: str) -> list[str]:
    """What is offered for the last word."""
    shell = BashComplete(cli, {}, "mmbench", "_MMBENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_verbs_and_options() -> None:
    assert offered("re") == [verb for verb in VERBS if verb.startswith("re")]
    assert offered("") == list(VERBS)
    assert "--data-root" in offered("run", "--da")
    assert offered("new", "") == ["config", "plugin"]
    assert offered("rum", "quick") == []


def test_components_configs_data_sets_and_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered("show", "model", "lin") == ["linear"]
    assert offered("show", "metr") == ["metric"]
    assert offered("run", "--executor", "loc") == ["local"]
    assert offered("new", "config", "--data", "mos") == ["mosei", "mosi"]
    assert offered("run", "quick") == ["quickstart"]
    assert offered("reproduce", "decalign/table2") == ["decalign/table2"]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").touch()
    (tmp_path / "own" / "mine.txt").touch()
    assert offered("check", "ow") == ["own/"]
    assert offered("check", "own/") == ["own/mine.yaml"]


def test_keys_are_those_of_the_config_in_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered("run", "--set", "training.ep") == ["training.epochs="]
    assert offered("run", "--set", "training.optimizer.l") == ["training.optimizer.lr="]
    Path("mine.yaml").write_text("data: {name: mosi}\nmodel: {name: linear}\nexecutor: {name: local}\n")
    assert offered("run", "mine.yaml", "--set", "executor.jobs") == ["executor.jobs=", "executor.jobs_per_device="]
    Path("mine.yaml").write_text("model: [")
    assert offered("run", "mine.yaml", "--set", "training.ep") == []
    assert offered("run", "nothing.yaml", "--set", "training.ep") == []


@pytest.mark.skipif(not catalogue().has("model", "misa"), reason="needs the baselines")
def test_keys_of_a_model_and_its_losses() -> None:
    assert offered("run", "misa_mosi", "--set", "model.hea") == ["model.heads="]
    assert offered("check", "misa_mosi", "--set", "losses.cmd.") == ["losses.cmd.weight=", "losses.cmd.moments="]


def test_a_wrong_config_offers_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("losses: 3\nmodel: [1]\n")
    assert offered("run", str(tmp_path / "c.yaml"), "--set", "losses.x") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("shell", list(completion.LINES))
def test_the_script_of_each_shell(shell: str) -> None:
    said = CliRunner().invoke(completion.command, [shell])
    assert said.exit_code == 0
    assert f"_MMBENCH_COMPLETE={shell}_complete" in said.stdout
    assert [old for old in completion.CHANGED[shell] if old in said.stdout and old not in completion.CHANGED[shell][old]] == []
    assert all(new in said.stdout for new in completion.CHANGED[shell].values())
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=said.stdout, text=True, check=True, capture_output=True).stderr == ""


def test_the_line_to_add_is_that_of_the_own_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    said = CliRunner().invoke(completion.command, []).stdout
    assert said == 'zsh: add this line to ~/.zshrc, and open a new terminal:\n    eval "$(mmbench completion zsh)"\n'
    monkeypatch.setenv("SHELL", "/bin/csh")
    assert len(CliRunner().invoke(completion.command, []).stdout.splitlines()) == 2 * len(completion.LINES)


def test_a_shell_is_answered_without_torch() -> None:
    code = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); from mmbench.cli import main; sys.argv = ['mmbench']; main()"
    asked = {"_MMBENCH_COMPLETE": "bash_complete", "COMP_WORDS": "mmbench run quickstart --set training.ep", "COMP_CWORD": "4"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout == "plain,training.epochs=\nFalse\n"
