"""What the repository promises about itself."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmbench.files import shipped
from mmbench.resolve import load, read
from mmbench.tuning.search import load_search

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))

OPTIONS = ("optuna", "ray", "slurm")
"""Plugins that a user asks for; the README's first command does without what they need."""


def test_every_plugin_is_installed_tested_and_typed() -> None:
    tox, requirements = (ROOT / "tox.ini").read_text(), (ROOT / "requirements.txt").read_text()
    alone = re.search(r"py311-alone-\{(.*)\}", tox)
    wheels = re.search(r"dist-plugins: python .*", tox)
    assert alone
    assert wheels
    for folder in (ROOT / "plugins").iterdir():
        if (folder / "pyproject.toml").is_file():
            short = folder.name.removeprefix("mmbench-")
            assert (f"-e plugins/{folder.name}" in requirements) != (short in OPTIONS)
            assert f"full,{short}: -e{{tox_root}}/plugins/{folder.name}" in tox.replace("thirdparty,", "").replace("full-!newest", "full")
            assert f"types: mypy {{tox_root}}/plugins/{folder.name}/src" in tox
            assert short in alone.group(1).split(", ")
            assert f"    {short}: python -m pytest -q {{posargs:plugins/{folder.name}}}" in tox
            assert f"plugins/{folder.name}" in wheels.group().split()
            assert (folder / "README.md").is_file()
            assert list((folder / "tests").glob("test_*.py")), f"{folder.name} has no tests"


def test_the_readme_names_the_command_of_the_ci() -> None:
    command = "pip install tox && tox run -m ci"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text()


def test_no_file_speaks_of_a_machine_or_a_registry() -> None:
    words = ["/wo" + "rk/", "py" + "pi.org", "files.pythonho" + "sted"]
    suffixes = {".py", ".md", ".yaml", ".toml", ".txt", ".in", ".ini"}
    files = [path for path in ROOT.rglob("*") if path.suffix in suffixes and not {".venv", ".tox", ".venv-ci", ".git"} & set(path.parts)]
    assert len(files) > 50
    assert [f"{path.relative_to(ROOT)}: {word}" for path in files for word in words if word in path.read_text(errors="ignore")] == []


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_valid(name: str) -> None:
    if any(__import__("importlib.util").util.find_spec(f"mmbench_{plugin}") is None for plugin in ("baselines", "decalign", "extractors", "slad")):
        pytest.skip("needs the plugins of this repository")
    path = shipped("configs") / f"{name}.yaml"
    if "tune" in read(path).value and find_spec("mmbench_optuna") is None:
        pytest.skip("searches need a tuner")
    cells = load_search(path).first if "tune" in read(path).value else load(path)
    assert cells
    for cell in cells:
        assert not cell.missing
        assert not cell.fit.refusals or name == "matrix"  # which has every combination, those without meaning too
        assert cell.modalities
