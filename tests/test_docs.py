"""What the guide says works: its example package is installed from its own text and runs."""

import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mmbench import hookspecs
from mmbench.data.content import Content
from mmbench.data.manifest import load_manifest

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = DOCS / "extend" / "more.md"


def test_every_hook_is_documented() -> None:
    hooks = [name for name, value in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("mmbench_")]
    assert hooks
    assert [name for name in hooks if f"def {name}(" not in (DOCS / "extend" / "index.md").read_text()] == []


def test_the_example_format_reads_what_it_says(tmp_path) -> None:
    (block,) = re.findall(r"```python\n(import zipfile.*?class MineFormat.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict = {}
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

    (block,) = re.findall(r"```yaml\n# features.yaml\n(.*?)```", (DOCS / "start" / "recordings.md").read_text(), re.DOTALL)
    (tmp_path / "features.yaml").write_text(block)
    plan = load_plan(tmp_path / "features.yaml", ())
    assert list(plan.modalities) == ["text", "audio", "vision"]
