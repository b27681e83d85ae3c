"""What the guide says works: its example package is installed from its own text and runs."""

import inspect
import os
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mmbench import hookspecs
from mmbench.data.content import Content
from mmbench.data.manifest import load_manifest

GUIDE = Path(__file__).parent.parent / "CONTRIBUTING.md"


def test_every_hook_is_documented() -> None:
    hooks = [name for name, value in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("mmbench_")]
    assert hooks
    assert [name for name in hooks if f"def {name}(" not in GUIDE.read_text()] == []


def test_the_example_format_reads_what_it_says(tmp_path) -> None:
    (block,) = re.findall(r"```python\n(class MineFormat.*?)```", GUIDE.read_text(), re.DOTALL)
    names = {"np": np, "zipfile": zipfile}
    exec(block, names)
    path = tmp_path / "mine.npz"
    labels = np.linspace(-3, 3, 6)
    splits = np.array(["train", "test", "valid", "train", "test", "valid"])
    np.savez(path, id=np.array([f"v_{i}" for i in range(6)]), label=labels, split=splits, audio=np.ones((6, 4, 2)))
    reader = names["MineFormat"]()
    assert reader.recognises(path)
    assert not reader.recognises(GUIDE)
    content = Content(path, load_manifest("mosi"), reader.read(path, load_manifest("mosi")), {"name": "mine", "version": reader.version})
    assert content.columns["test/target"].rows(0, 2).tolist() == pytest.approx([-1.8, 1.8])
    assert set(content.problems) == {"text", "vision", "tokens"}


@pytest.mark.skipif(find_spec("torch") is None, reason="reading the extractors' options needs their package")
@pytest.mark.skipif(find_spec("mmbench_extractors") is None, reason="the config names its extractors")
def test_the_extraction_of_the_readme_is_valid(tmp_path) -> None:
    from mmbench.extraction.config import load_plan

    (block,) = re.findall(r"```yaml\n# features.yaml\n(.*?)```", (GUIDE.parent / "README.md").read_text(), re.DOTALL)
    (tmp_path / "features.yaml").write_text(block)
    plan = load_plan(tmp_path / "features.yaml", ())
    assert list(plan.modalities) == ["text", "audio", "vision"]


@pytest.mark.skipif(find_spec("mmbench_decalign") is None or find_spec("torch") is None, reason="the example is run with DecAlign's losses")
def test_the_example_model_runs_with_every_loss_of_another_plugin(tmp_path) -> None:
    blocks = re.findall(r"```python\n# src/(\S+)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["mmbench_mine/plugin.py", "mmbench_mine/config.py", "mmbench_mine/model.py"]
    (tmp_path / "mmbench_mine").mkdir()
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    (tmp_path / "mmbench_mine" / "__init__.py").touch()
    entry_points = re.search(r"\[project\.entry-points\.mmbench\]\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert entry_points is not None
    info = tmp_path / "mmbench_mine-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmbench-mine\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[mmbench]\n" + entry_points.group(1).replace('"', ""))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "MMBENCH_CACHE": str(tmp_path / "cache")}

    def mmbench(*arguments: str) -> str:
        command = [sys.executable, "-m", "mmbench", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "mine" in mmbench("list", "model")
    assert "width: integer, default 64" in mmbench("show", "model", "mine")
    small = ["data.simulated=true", "data.samples=60", "data.features=aligned", "training.epochs=1"]
    options = [part for value in ["model.name=mine", *small] for part in ("--set", value)]
    checked = mmbench("check", "decalign_mosi", "--build", *options)
    assert "adapters    common, unique" in checked
    table = mmbench("run", "decalign_mosi", *options, "--seeds", "1-2")
    assert "decalign_mosi†" in table
    assert "† with adapters" in table
