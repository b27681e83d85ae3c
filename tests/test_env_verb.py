"""`mmbench env`: what a bug report needs, and nothing that names a person, a machine or a secret."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmbench.cli import env


def test_nothing_personal_is_told_and_a_broken_plugin_is(tmp_path: Path) -> None:
    home = tmp_path / "zaphod"
    info = tmp_path / "site" / "heart_of_gold-4.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heart-of-gold\nVersion: 4.2\n")
    (info / "entry_points.txt").write_text("[mmbench]\ngold = no_such_module\n")
    own = {"HOME": str(home), "USER": "zaphod", "LOGNAME": "zaphod", "MMBENCH_CACHE": str(home / "cache"), "MMBENCH_TOKEN": "beeblebrox-42"}
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "mmbench", "env", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own, "PYTHONPATH": path}, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("zaphod", "beeblebrox", platform.node() or "no name"):
        assert name not in done.stdout
    assert found["cache"] == "$HOME/cache"
    assert found["python"] == platform.python_version()
    assert found["variables"]["MMBENCH_TOKEN"] == "***"
    (broken,) = (plugin for plugin in found["plugins"] if plugin["name"] == "gold")
    assert (broken["version"], broken["problem"]) == ("4.2", "ModuleNotFoundError: No module named 'no_such_module'")
    assert ("version" if find_spec("torch") else "problem") in found["torch"]
    text = "\n".join(env.lines(found))
    assert "plugin    gold (heart-of-gold 4.2): not loaded: ModuleNotFoundError" in text
    assert "cache     $HOME/cache" in text
    several = {1: "1 component", 2: "2 components"}
    for number, words in several.items():
        assert env.lines({**found, "plugins": [{**broken, "components": number, "problem": None}]})[6].endswith(f"4.2): {words}")


def test_a_torch_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "ASK", "import no_such_torch")
    found = env.facts()
    assert found["torch"] == {"problem": "ModuleNotFoundError: No module named 'no_such_torch'"}
    assert "torch     ModuleNotFoundError" in "\n".join(env.lines(found))
    monkeypatch.setattr(env, "ASK", "raise SystemExit(3)")
    assert env.facts()["torch"] == {"problem": "importing torch ended the process with 3"}
