"""Fixtures of the tests of extraction: a cache of their own, a raw folder, and the verb inside this process."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from importlib.util import find_spec

import pytest

from mmbench.extraction.config import load_plan
from mmbench.extraction.progress import Progress
from mmbench.plugins import GROUP, build

from .samples import make_rows, write_manifest, write_raw


class Distribution:
    def __init__(self, name: str):
        self.name, self.version = name, "1.0"


@pytest.fixture(scope="session")
def toy_extractors():
    """The catalogue of the core and of the toy extractors alone."""
    points = [("mmbench", "mmbench.builtin"), ("toys", "extract_toys")]
    return build(EntryPoint(name, module, GROUP)._for(Distribution(name)) for name, module in points)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MMBENCH_DATA", raising=False)


@pytest.fixture
def raw_folder(tmp_path):
    """A raw folder with twelve clips, and the manifest beside it."""
    rows = make_rows()
    write_manifest(tmp_path / "tiny.yaml", rows)
    return write_raw(tmp_path / "raw", rows)


@pytest.fixture
def plan(tmp_path, raw_folder, toy_extractors):
    """Reads a config for the raw folder; its lines are given."""

    def make(*lines: str):
        path = tmp_path / "config.yaml"
        path.write_text("\n".join([f"data: {{name: {tmp_path / 'tiny.yaml'}, path: {raw_folder}}}", *lines]) + "\n")
        return load_plan(path, (), toy_extractors)

    return make


@pytest.fixture
def extract(tmp_path, plan):
    """Carries out a config into a folder of the test; returns the outcome."""
    if find_spec("torch") is None:
        pytest.skip("extracting needs torch")

    def run(*lines: str, jobs: int = 1, leave_out: bool = False, replace: bool = False, device: str = "cpu"):
        from mmbench.extraction.run import Extraction

        return Extraction(plan(*lines), None, tmp_path / "out", device, Progress()).run(jobs, leave_out, replace)

    return run
