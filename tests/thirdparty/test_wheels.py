"""Packages of strangers, built as wheels and installed as such: one that works, and ones that do not."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmbench.cli.new import write_plugin
from mmbench.files import shipped

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
RUN = ["--set", "data.samples=60", "--set", "training.epochs=1", "--seeds", "1"]


def execute(*command: object, cwd: Path, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


class Visitor:
    """A folder with a package from the template, its wheel, and what is installed from it."""

    def __init__(self, folder: Path, name: str = "visitor"):
        self.folder, self.source, self.site = folder, folder / f"mmbench-{name}", folder / "site"
        write_plugin(shipped("plugins/mmbench-example"), self.source, name)
        self.entry = self.source / "src" / f"mmbench_{name}" / "plugin.py"

    def change(self, old: str, new: str) -> None:
        text = self.entry.read_text()
        assert old in text
        self.entry.write_text(text.replace(old, new))

    def install(self) -> None:
        execute("hatchling", "build", "-t", "wheel", "-d", self.folder / "wheels", cwd=self.source)
        (wheel,) = (self.folder / "wheels").glob("*.whl")
        execute("pip", "install", "-q", "--no-index", "--no-deps", "--target", self.site, wheel, cwd=self.folder, PIP_NO_INPUT="1")
        shutil.rmtree(self.source / "src")  # what runs is the wheel's

    def mmbench(self, *arguments: object, code: int = 0) -> str:
        return execute("mmbench", *arguments, cwd=self.folder, code=code, PYTHONPATH=str(self.site), MMBENCH_CACHE=str(self.folder / "cache"))


@pytest.fixture
def visitor(tmp_path) -> Visitor:
    return Visitor(tmp_path)


def test_a_wheel_shows_up(visitor: Visitor) -> None:
    visitor.install()
    listed = visitor.mmbench("list")
    for name in ("visitor_gate", "visitor_cosine", "visitor_near", "visitor_bytes"):
        assert name in listed
    assert "margin: number" in visitor.mmbench("show", "loss", "visitor_cosine")


@needs_torch
def test_a_wheel_runs_from_its_config_and_passes_its_own_tests(visitor: Visitor) -> None:
    visitor.install()
    environment = {"PYTHONPATH": str(visitor.site), "MMBENCH_CACHE": str(visitor.folder / "cache")}
    tests = execute("pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=visitor.source, **environment)
    assert "failed" not in tests
    table = visitor.mmbench("run", visitor.source / "visitor.yaml", *RUN)
    assert "visitor_near" in table
    assert "visitor†" in table  # its loss needs `common`, which its model has not
    assert "metric:visitor_near" in visitor.mmbench("test", "mmbench-visitor", "-k", "visitor_near")


def test_a_name_that_is_taken_is_an_error_that_lists_both(visitor: Visitor) -> None:
    visitor.change('name="visitor_gate"', 'name="linear"')
    visitor.install()
    listed = visitor.mmbench("list", "model")
    assert "mmbench-visitor/linear" in listed
    assert "mmbench/linear" in listed
    config = str(visitor.source / "visitor.yaml")
    refused = visitor.mmbench("check", config, "--set", "model.name=linear", code=2)
    assert "model 'linear' is claimed by 2 plugins; write one of:" in refused
    assert "mmbench/linear" in refused
    assert "mmbench-visitor/linear" in refused
    assert "mmbench-visitor/linear" in visitor.mmbench("check", config, "--set", "model.name=mmbench-visitor/linear")


@needs_torch
def test_a_name_that_is_taken_disturbs_nobody_who_says_which(visitor: Visitor) -> None:
    visitor.change('name="visitor_gate"', 'name="linear"')
    visitor.install()
    table = visitor.mmbench("run", visitor.source / "visitor.yaml", "--set", "model.name=mmbench-visitor/linear", *RUN)
    assert "linear (floor)" in table


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kind="model",', 'kind="model",\n        api=2,', "its component 'visitor_gate' was written for plugin API 2; this mmbench has API 1"),
        ("from mmbench import Component", "raise RuntimeError('no luck')\nfrom mmbench import Component", "RuntimeError: no luck"),
    ],
)
def test_a_package_that_cannot_be_used_is_reported_and_harms_nobody(visitor: Visitor, old: str, new: str, problem: str) -> None:
    visitor.change(old, new)
    visitor.install()
    assert f"not loaded: {problem}" in visitor.mmbench("plugins")
    listed = visitor.mmbench("list")
    assert "visitor_cosine" not in listed
    assert f"warning: the plugin mmbench-visitor could not be loaded: {problem}" in listed
    refused = visitor.mmbench("check", visitor.source / "visitor.yaml", code=2)
    assert f"The plugin mmbench-visitor 0.1.0 could not be loaded: {problem}" in refused
    assert problem in visitor.mmbench("test", "mmbench-visitor", code=1)


def test_a_new_package_is_refused_where_it_would_overwrite_or_has_no_name(tmp_path) -> None:
    assert "wrote mmbench-my-loss/pyproject.toml" in execute("mmbench", "new", "plugin", "my-loss", cwd=tmp_path)
    assert "exists already" in execute("mmbench", "new", "plugin", "my-loss", cwd=tmp_path, code=2)
    assert "cannot name a package" in execute("mmbench", "new", "plugin", "My Loss", cwd=tmp_path, code=2)
    (tmp_path / "file").touch()
    execute("mmbench", "new", "plugin", "other", "--into", "file", cwd=tmp_path, code=2)


def test_a_new_package_speaks_of_itself_alone(tmp_path) -> None:
    files = write_plugin(shipped("plugins/mmbench-example"), tmp_path / "mmbench-my-loss", "my-loss")
    assert Path("src/mmbench_my_loss/losses.py") in files
    assert [file for file in files if "example" in (str(file) + (tmp_path / "mmbench-my-loss" / file).read_text()).lower()] == []
    assert "class MyLossCosine" in (tmp_path / "mmbench-my-loss/src/mmbench_my_loss/losses.py").read_text()
