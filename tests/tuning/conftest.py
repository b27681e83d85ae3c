"""Searches with the toys and a tuner of theirs, which need no torch."""

from importlib.metadata import EntryPoint

import pytest

from mmbench.plugins import GROUP, build
from mmbench.tuning.search import load_search

BASE = """name: toys
data: {name: mosi, features: aligned, simulated: true, samples: 60}
model: {name: toy, width: 4}
losses: [{name: pull, weight: {near: 0.5, far: 0.5}}]
"""


@pytest.fixture
def searches(tmp_path, monkeypatch):
    """What reads a search out of a section ``tune:``, with the toys and their tuner installed."""

    class Distribution:
        name, version = "toys", "1.0"

    modules = {"mmbench": "mmbench.builtin", "toys": "toy_plugin", "tuner": "toy_tuner"}
    known = build(EntryPoint(name, module, GROUP)._for(Distribution()) for name, module in modules.items())
    for module in ("resolve", "runner", "tuning.search"):
        monkeypatch.setattr(f"mmbench.{module}.catalogue", lambda: known)

    def read(section: str, *overrides: str, base: str = BASE, **options):
        (tmp_path / "c.yaml").write_text(base + section)
        return load_search(tmp_path / "c.yaml", overrides, **options)

    return read
