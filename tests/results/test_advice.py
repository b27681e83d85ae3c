"""`mmbench` alone: the next step, told from what is in the working directory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmbench.claims import claim
from mmbench.cli import advice
from mmbench.installing import how_to_install

from .folders import make_run


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is said in an empty folder that a test fills."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMBENCH_DATA", str(tmp_path / "data"))
    return lambda: "\n".join(advice.advice())


def test_nothing_is_there_yet(said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Nothing has been run here.\n    mmbench run quickstart " in said()
    assert "mmbench data list" in said()
    (tmp_path / "data" / "mosi").mkdir(parents=True)
    assert "mmbench data list" not in said()
    monkeypatch.setattr(advice, "find_spec", lambda name: None)
    assert f"torch is not installed, so that nothing can be trained.\n    {how_to_install('mmbench[train]')} " in said()


def test_who_has_run_on_real_data_is_not_told_to_get_some(said, tmp_path: Path) -> None:
    config = make_run(tmp_path / "runs", "misa") / "config.yaml"
    config.write_text("data:\n  name: mosi\n  simulated: true\n")
    assert "mmbench data list" in said()
    config.write_text("data:\n  name: mosi\n  path: elsewhere.pkl\n  simulated: false\n")
    assert "mmbench data list" not in said()


def test_a_folder_that_somebody_sent_is_seen(said, tmp_path: Path) -> None:
    run = make_run(tmp_path, "misa", experiment="theirs")
    assert "theirs holds runs.\n    mmbench status theirs " in said()
    assert "    mmbench rerun theirs " in said()
    run.parent.rename(tmp_path / run.parent.name)
    assert f"{run.parent.name} holds runs." in said()
    assert "theirs holds" not in said()
    (tmp_path / run.parent.name).rename(tmp_path / "from them")
    assert "from them holds runs.\n    mmbench status 'from them' " in said()


def test_runs_that_ended_otherwise_than_done_have_their_command(said, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "misa", status="failed", experiment="lf_dnn_mosi")
    make_run(tmp_path / "runs", "misa", seed=2, status="interrupted", experiment="mine")
    (make_run(tmp_path / "runs", "misa", seed=3, experiment="mine") / "result.json").unlink()
    (tmp_path / "mine.yaml").write_text("data: {name: mosi}\nmodel: {name: linear}\n")
    text = said()
    assert "1 run of lf_dnn_mosi failed.\n    mmbench status runs/lf_dnn_mosi " in text
    assert "\n    mmbench run lf_dnn_mosi --rerun failed " in text  # a shipped config
    assert re.search(r"2 runs of mine are unfinished\.\n    mmbench run mine.yaml +goes on; with the --set and --seeds of before", text)
    assert "mmbench report" not in text
    assert "has not been run" not in text
    waiting = make_run(tmp_path / "runs", "tfn", experiment="elsewhere")
    (waiting / "result.json").unlink()
    with claim(waiting):
        assert "1 run of elsewhere is going on.\n    mmbench status runs/elsewhere " in said()
    (waiting / "queued.json").write_text("{}")
    assert "1 run of elsewhere is going on." in said()
    (waiting / "queued.json").unlink()
    assert "1 run of elsewhere is unfinished.\n    mmbench run CONFIG " in said()


def test_results_are_reported_and_compared(said, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "misa")
    make_run(tmp_path / "runs", "linear", floor=True)
    assert "2 runs of one configuration are done.\n    mmbench report runs/demo " in said()
    assert "mmbench compare" not in said()
    make_run(tmp_path / "runs", "tfn", experiment="other")
    assert "3 runs are done.\n    mmbench report runs " in said()
    assert "\n    mmbench compare runs " in said()


def test_a_config_without_runs_is_told_of(said, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: quickstart\n")
    (tmp_path / "other.yaml").write_text("services: {}\n")
    assert "mine.yaml has not been run.\n    mmbench check mine.yaml " in said()
    assert "other.yaml" not in said()
    (tmp_path / "mine.yaml").write_text("extends: quickstart\nname: 'demo' # as in the paper\n")
    make_run(tmp_path / "runs", "misa")
    assert "has not been run" not in said()
    (tmp_path / "its copy.yaml").write_text("extends: quickstart\n")
    assert "its copy.yaml has not been run.\n    mmbench check 'its copy.yaml' " in said()


def test_searches_have_their_own_verb(said, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: quickstart\ntune:\n  name: optuna\n")
    assert "mine.yaml has not been run.\n    mmbench check mine.yaml " in said()
    assert "\n    mmbench tune mine.yaml " in said()
    for name in ("mine_tune", "mine_tuned", "other_tune"):
        make_run(tmp_path / "runs", "misa", status="failed", experiment=name)
    (tmp_path / "runs" / "mine_tune" / "search.json").write_text("{}")
    text = said()
    assert "has not been run" not in text
    assert text.count("\n    mmbench tune mine.yaml --rerun failed ") == 2
    assert text.count("\n    mmbench run CONFIG --rerun failed ") == 1


def test_many_experiments_are_counted_and_names_are_harmless(said, tmp_path: Path) -> None:
    for name in ("a\x1b[2J", "b", "c", "d", "e"):
        make_run(tmp_path / "runs", "misa", status="failed", experiment=name)
    text = said()
    assert "So it is in 2 more experiments.\n    mmbench status runs " in text
    assert "\x1b" not in text


def test_the_command_alone_ends_well_and_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys; from mmbench.cli import main; sys.argv = ['mmbench']\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "what can be done next here" in done.stdout
    assert done.stdout.endswith("False\n")
