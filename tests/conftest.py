"""What many tests share: small arrays in the shape of a data set, and a catalogue with the toy plugin."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from mmbench.data.dataset import Dataset, Modality, Split
from mmbench.plugins import GROUP, build
from mmbench.resolve import resolve
from mmbench.strict_yaml import Document

WIDTHS = {"text": 7, "audio": 3, "vision": 4}
LENGTHS = {"text": 5, "audio": 6, "vision": 1}


class Distribution:
    def __init__(self, name: str):
        self.name, self.version = name, "1.0"


@pytest.fixture(scope="session")
def toys():
    """The catalogue of the core and the toy plugin alone."""
    points = [("mmbench", "mmbench.builtin"), ("toys", "toy_plugin")]
    return build(EntryPoint(name, module, GROUP)._for(Distribution(name)) for name, module in points)


@pytest.fixture(scope="session")
def toy_config(toys):
    """A resolved experiment of the toy model; keywords replace whole sections."""

    def make(**sections):
        value = {
            "name": "toy",
            "data": {"name": "mosi", "modalities": ["text", "audio"]},
            "model": {"name": "toy", "dropout": 0.3},
            "training": {"epochs": 4, "batch_size": 8, "optimizer": {"lr": 0.02}},
            **sections,
        }
        return resolve(Document(value, {}), toys)

    return make


@pytest.fixture(scope="session")
def make_dataset():
    """A small learnable data set with variable lengths."""

    def make(task: str = "regression", sizes: tuple[int, int, int] = (37, 11, 13), modalities: tuple[str, ...] = ("text", "audio"), seed: int = 0):
        generator = np.random.default_rng(seed)
        splits = {}
        for name, size in zip(("train", "valid", "test"), sizes, strict=True):
            factor = generator.normal(size=size)
            inputs = {}
            for modality in modalities:
                length, width = LENGTHS[modality], WIDTHS[modality]
                mask = np.arange(length) < generator.integers(1, length + 1, size=(size, 1))
                values = generator.normal(size=(size, length, width)) + factor[:, None, None]
                inputs[modality] = Modality((values * mask[..., None]).astype(np.float32), mask)
            target = np.clip(factor, -3, 3).astype(np.float32) if task == "regression" else (np.digitize(factor, [-0.5, 0.5])).astype(np.int64)
            splits[name] = Split(tuple(f"{name}{i // 3}/{i}" for i in range(size)), inputs, target)
        classes = ("low", "middle", "high") if task == "classification" else ()
        metrics = ("wacc", "waf1") if classes else ("mae", "corr")
        return Dataset("toy", task, metrics, splits, "toyfingerprint", classes, None if classes else (-3.0, 3.0), 3, {"simulated": True})

    return make
