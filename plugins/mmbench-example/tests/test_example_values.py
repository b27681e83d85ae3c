"""Values worked out by hand, and the experiment of the README."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, InputSpec, ModalitySpec, RepresentationSpec
from mmbench_example.config import ExampleBytesConfig, ExampleCosineConfig, ExampleGateConfig
from mmbench_example.extractor import ExampleBytes
from mmbench_example.losses import ExampleCosine
from mmbench_example.metrics import near
from mmbench_example.model import ExampleGate

INPUTS = InputSpec({"text": ModalitySpec("features", 3, 4), "audio": ModalitySpec("features", 2, 5)}, "regression")
SPEC = RepresentationSpec(INPUTS, 2, {m: FieldSpec(2, sequence=False) for m in INPUTS.modalities})
BATCH = Batch(torch.arange(1), {}, torch.zeros(1))


@pytest.mark.parametrize(("angle", "margin", "expected"), [(0.0, 0.0, 0.0), (90.0, 0.0, 1.0), (180.0, 0.0, 2.0), (60.0, 0.2, 0.3)])
def test_the_loss_is_the_cosine_distance_above_the_margin(angle, margin, expected):
    turned = torch.tensor([[np.cos(np.radians(angle)), np.sin(np.radians(angle))]], dtype=torch.float32)
    common = {"text": Sequence.vector(torch.tensor([[3.0, 0.0]])), "audio": Sequence.vector(turned)}
    loss = ExampleCosine(SPEC, ExampleCosineConfig(margin=margin))
    assert loss(Representation(torch.zeros(1), torch.zeros(1, 2), common, common=common), BATCH)["cosine"].item() == pytest.approx(expected, abs=1e-6)


def test_the_model_is_the_gated_sum():
    model = ExampleGate(INPUTS, ExampleGateConfig(width=2)).eval()
    text, audio = torch.randn(1, 4, 3), torch.randn(1, 5, 2)
    masks = {"text": torch.tensor([[True, True, False, False]]), "audio": torch.ones(1, 5, dtype=torch.bool)}
    inputs = {"text": Sequence(text, masks["text"]), "audio": Sequence(audio, masks["audio"])}
    z = torch.zeros(2)
    for m, frames in (("text", text[0, :2]), ("audio", audio[0])):
        h = torch.tanh(model.layers[m].weight @ frames.mean(0) + model.layers[m].bias)
        z = z + torch.sigmoid(model.gates[m].weight[0] @ h + model.gates[m].bias) * h
    expected = model.head.weight[0] @ z + model.head.bias[0]
    found = model(Batch(torch.arange(1), inputs, torch.zeros(1)))
    assert found.prediction.item() == pytest.approx(expected.item(), abs=1e-6)
    assert all(gradient.any() for gradient in torch.autograd.grad(found.prediction.sum(), [sequence.values for sequence in found.encoded.values()]))


def test_the_metric_counts_what_is_near():
    assert near(np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.6, 2.0])) == pytest.approx(2 / 3)


def test_the_extractor_reads_bytes():
    extractor = ExampleBytes(ExampleBytesConfig(width=3, max_tokens=2))
    ids = extractor.prepare("é!")
    assert ids.tolist() == [0xC3, 0xA9]
    features = extractor(Sequence(ids.unsqueeze(0), torch.tensor([[True, False]]))).values[0]
    assert torch.equal(features[0], extractor.embedding[0xC3])
    assert (features[1] == 0).all()


def test_the_experiment_of_the_package_runs(tmp_path):
    config = Path(__file__).parent.parent / "example.yaml"
    small = [part for value in ("data.samples=60", "training.epochs=1") for part in ("--set", value)]
    command = [sys.executable, "-m", "mmbench", "run", str(config), *small, "--seeds", "1"]
    environment = {**os.environ, "MMBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIMULATED" in done.stdout
    assert "example_near" in done.stdout
