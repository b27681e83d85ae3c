"""Formats of other packages: found, named, and, where they are broken, named as the culprit without keeping others from their files."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.component import Component
from mmbench.config import DataConfig
from mmbench.data import formats
from mmbench.data.load import open_source
from mmbench.errors import DataError, PluginError
from mmbench.plugins import Catalogue, Entry, catalogue

from .samples import make_content

GUIDE = Path(__file__).parents[2] / "docs" / "extend" / "more.md"


class Good:
    """Reads any file that begins with MINE."""

    version = 1

    def recognises(self, path: Path) -> bool:
        return path.is_file() and path.read_bytes()[:4] == b"MINE"

    def sources(self, path: Path) -> list[Path]:
        return [path]

    def read(self, path: Path, manifest: Any) -> Any:
        return make_content()


class Unmade(Good):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


class Blind(Good):
    def recognises(self, path: Path) -> bool:
        raise KeyError("a mistake")


class Lost(Good):
    def sources(self, path: Path) -> list[Path]:
        raise TypeError("a mistake")


class Faulty(Good):
    def read(self, path: Path, manifest: Any) -> Any:
        raise OSError("a mistake")


class Late(Good):
    """Its values fail when they are asked for."""

    def read(self, path: Path, manifest: Any) -> Any:
        class Frames:
            shape, dtype = (3, 2), np.dtype("<f4")

            def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
                raise ZeroDivisionError("a mistake")

        content = make_content()
        for part in content.values():
            part["audio"] = [Frames()] * len(part["id"])
        return content


def install(monkeypatch: Any, *targets: tuple[str, str]) -> None:
    """Formats of this file (or none that exists) beside those of the installed packages."""
    entries = [
        Entry(Component(kind="dataset-format", name=name, target=target, summary="."), f"mmbench-{i}", "0.1")
        for i, (name, target) in enumerate(targets)
    ]
    whole = Catalogue(catalogue().plugins, (*catalogue().entries, *entries))
    monkeypatch.setattr(formats, "catalogue", lambda: whole)


def here(name: str) -> str:
    return f"{__name__}:{name}"


@pytest.mark.parametrize("target", [here("Unmade"), here("Blind"), here("Absent"), "mmbench_absent:Format"])
def test_a_format_that_cannot_be_asked_keeps_no_others_from_their_files(
    monkeypatch: Any, write: Any, content: Any, tmp_path: Path, target: str
) -> None:
    install(monkeypatch, ("broken", target))
    config = write(make_content())
    assert open_source(config).store.document["reader"]["name"] == "mmsa"
    stray = tmp_path / "stray.bin"
    stray.write_bytes(b"neither")
    with pytest.raises(DataError, match=r"no format recognises it; .*mmbench-0/broken") as error:
        open_source(config.model_copy(update={"path": str(stray)}))
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "told"), [("Lost", "TypeError: a mistake"), ("Faulty", "OSError: a mistake"), ("Late", "ZeroDivisionError: a mistake")]
)
def test_a_format_that_fails_on_its_own_file_is_named(monkeypatch: Any, write: Any, content: Any, tmp_path: Path, name: str, told: str) -> None:
    install(monkeypatch, ("mine", here(name)))
    path = tmp_path / "file.mine"
    path.write_bytes(b"MINE")
    with pytest.raises(DataError, match=rf"file.mine: the format mmbench-0/mine \(version 0.1\) failed on it: {told}"):
        open_source(write(content).model_copy(update={"path": str(path)}))
    assert not list((Path(os.environ["MMBENCH_CACHE"]) / "data").glob(".mmbench-building-*"))


def test_a_format_that_cannot_be_made_is_an_error_where_it_is_named(monkeypatch: Any, write: Any, content: Any) -> None:
    install(monkeypatch, ("broken", here("Unmade")))
    with pytest.raises(PluginError, match="'mmbench-0/broken' cannot be made: RuntimeError: no licence"):
        open_source(write(content, format="broken"))


def test_two_formats_of_one_name_that_recognise_a_file_need_a_choice(monkeypatch: Any, write: Any, content: Any, tmp_path: Path) -> None:
    install(monkeypatch, ("mine", here("Good")), ("mine", here("Good")))
    path = tmp_path / "file.mine"
    path.write_bytes(b"MINE")
    config = write(content).model_copy(update={"path": str(path)})
    with pytest.raises(DataError, match=r"2 formats recognise it. Name one with data.format: mmbench-0/mine, mmbench-1/mine$"):
        open_source(config)
    assert open_source(config.model_copy(update={"format": "mmbench-1/mine"})).store.document["reader"]["name"] == "mine"


@pytest.mark.parametrize("name", [entry.component.name for entry in catalogue().of_kind(formats.KIND)])
@pytest.mark.parametrize("kind", ["folder", "text"])
def test_a_named_format_that_does_not_fit(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_text("nothing of the kind")
    with pytest.raises(DataError, match="thing") as error:
        open_source(DataConfig(name="mosi", path=str(path), format=name))
    assert "failed on it" not in str(error.value)


def test_the_format_of_a_stranger(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(import zipfile.*?class MineFormat.*?)```", GUIDE.read_text(), re.DOTALL)
    site, data = tmp_path / "site", tmp_path / "mine.npz"
    (site / "mmbench_mine").mkdir(parents=True)
    (site / "mmbench_mine" / "__init__.py").touch()
    (site / "mmbench_mine" / "format.py").write_text(block)
    (site / "mmbench_mine" / "plugin.py").write_text(
        "from mmbench import hookimpl\nfrom mmbench.component import Component\n\n\n@hookimpl\ndef mmbench_components():\n"
        "    yield Component(kind='dataset-format', name='mine', target='mmbench_mine.format:MineFormat', summary='One file of NumPy.')\n"
    )
    info = site / "mmbench_mine-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmbench-mine\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[mmbench]\nmine = mmbench_mine.plugin\n")
    splits, rng = np.array(["train", "test", "valid"] * 4), np.random.default_rng(0)
    np.savez(data, id=np.array([f"v_{i}" for i in range(12)]), label=np.linspace(-3, 3, 12), split=splits, audio=rng.normal(size=(12, 4, 2)))
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def mmbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "mmbench", *arguments], capture_output=True, text=True, env=environment, check=False)

    assert "mine" in mmbench("list", "dataset-format").stdout
    own = ("--as", "mosi", "--set", "data.splits=own")
    recognised, named = mmbench("data", "check", str(data), *own), mmbench("data", "check", str(data), *own, "--set", "data.format=mine")
    assert recognised.returncode == 0, recognised.stderr
    assert named.stdout == recognised.stdout
    assert "audio" in recognised.stdout
    tested = mmbench("test", "mmbench-mine")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "mine" in tested.stdout
    (site / "mmbench_mine" / "format.py").write_text("raise RuntimeError('a mistake')\n")
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(make_content()))
    other = mmbench("data", "check", str(tmp_path / "file.pkl"), *own)
    assert (other.returncode, other.stderr) == (0, "")
