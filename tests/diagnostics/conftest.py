"""Finished runs of the toy model on small simulated data, made by the worker itself."""

from __future__ import annotations

import os
import shutil
import signal
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmbench import plugins, worker
from mmbench.resolve import resolve
from mmbench.runner import make_plan, prepare
from mmbench.strict_yaml import Document

LOSSES = [{"name": "pull", "weight": {"near": 0.1, "far": 0.05}}]
VOCABULARY = 4000  # of simulated tokens


class Distribution:
    def __init__(self, name: str):
        self.name, self.version = name, "1.0"


@pytest.fixture(scope="package")
def toyland(tmp_path_factory):
    """The core and the toy plugin are all that is installed; the cache is empty; torch's settings and signals are put back at the end."""
    import torch

    import toy_parts

    points = [
        EntryPoint(name, module, plugins.GROUP)._for(Distribution(name)) for name, module in (("mmbench", "mmbench.builtin"), ("toys", "toy_plugin"))
    ]
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "metadata", SimpleNamespace(entry_points=lambda group: points))
        patch.setenv("MMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MMBENCH_DATA", raising=False)
        patch.setattr(toy_parts.Letters, "rows", VOCABULARY)
        patch.setattr(toy_parts.Letters, "vocabulary", VOCABULARY)
        plugins.catalogue.cache_clear()
        yield
    plugins.catalogue.cache_clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="package")
def train(toyland):
    """Runs an experiment in this process; returns the run folders, floors last."""

    def make(out: Path, seeds: tuple[int, ...] = (1,), **sections: Any) -> list[Path]:
        value = {
            "name": "toy",
            "row": "a toy",
            "data": {"name": "mosi", "features": "aligned", "simulated": True, "samples": 90},
            "model": {"name": "toy", "dropout": 0.2},
            "losses": LOSSES,
            "training": {"epochs": 3, "batch_size": 16, "optimizer": {"lr": 0.02}},
            "seeds": list(seeds),
            **sections,
        }
        plan = make_plan([resolve(Document(value, {}), plugins.catalogue())], out, None, "cpu")
        requests, _, _ = prepare(plan, None)
        for request in requests:
            assert worker.main([str(request.folder), "--device", "cpu"]) == 0, (request.folder / "result.json").read_text()
        return [request.folder for request in requests]

    return make


@pytest.fixture(scope="package")
def finished(train, tmp_path_factory) -> Path:
    """A regression run of the toy model, whose loss was given common and unique features by adapters."""
    return train(tmp_path_factory.mktemp("regression"))[0]


@pytest.fixture(scope="package")
def classified(train, tmp_path_factory) -> Path:
    """A classification run without extra losses."""
    data = {"name": "iemocap", "protocol": "6way_session5", "simulated": True, "samples": 120, "modalities": ["text", "vision"]}
    return train(tmp_path_factory.mktemp("classification"), data=data, losses=[])[0]


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the regression run that a test may damage."""
    folder = tmp_path / "runs" / "toy" / finished.parent.name / finished.name
    shutil.copytree(finished, folder)
    return folder


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything that a change of a folder would change."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): (os.stat(path).st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}
