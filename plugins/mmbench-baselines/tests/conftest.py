"""Inputs and batches that the tests share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmbench.batch import Batch, Sequence
from mmbench.interfaces import InputSpec, ModalitySpec

SIZES = {"text": (12, 9), "audio": (5, 14), "vision": (7, 11)}  # width, longest sample


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def make_inputs():
    def make(modalities=("text", "audio", "vision"), task="regression", lengths=None, label_range=(-3.0, 3.0)):
        sizes = {m: SIZES.get(m, (6, 10)) for m in modalities}
        specs = {m: ModalitySpec("features", width, (lengths or {}).get(m, length)) for m, (width, length) in sizes.items()}
        classes = ("a", "b", "c", "d") if task == "classification" else ()
        return InputSpec(specs, task, classes, None if classes else label_range, prototypes=4 if classes else 7, train_size=100)

    return make


@pytest.fixture
def make_batch():
    """Random samples of random lengths, of at least `least` frames; in float64 on request."""

    def make(inputs, size=4, seed=0, least=1, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        sequences = {}
        for m, spec in inputs.modalities.items():
            length = torch.randint(min(least, spec.length), spec.length + 1, (size, 1), generator=generator)
            values = torch.randn(size, spec.length, spec.size, generator=generator, dtype=torch.float64).to(dtype)
            sequences[m] = Sequence(values, torch.arange(spec.length) < length)
        if inputs.task == "regression":
            target = (torch.rand(size, generator=generator) * 6 - 3).to(dtype)
        else:
            target = torch.randint(0, len(inputs.classes), (size,), generator=generator)
        return Batch(torch.arange(size), sequences, target)

    return make


def _numbers(module):
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def _lstm(module, frames):
    """States (T, H) of one sample's real frames (T, D), gate by gate."""
    p = _numbers(module)
    width = p["weight_hh_l0"].shape[1]
    h, c, states = np.zeros(width), np.zeros(width), []
    for x in frames:
        gates = p["weight_ih_l0"] @ x + p["bias_ih_l0"] + p["weight_hh_l0"] @ h + p["bias_hh_l0"]
        i, f, g, o = (gates[k * width : (k + 1) * width] for k in range(4))
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        states.append(h)
    return np.array(states)


def _linear(module, x):
    p = _numbers(module)
    return p["weight"] @ x + p["bias"]


def _layers(module, x):
    """The linear layers and ReLUs of a Sequential for one vector; dropout is the identity."""
    for layer in module:
        x = _linear(layer, x) if isinstance(layer, torch.nn.Linear) else np.maximum(x, 0) if isinstance(layer, torch.nn.ReLU) else x
    return x


def _subnets(subnets, sequences, i):
    """The vectors of sample i in evaluation, by modality."""
    vectors = {}
    for m, network in subnets.networks.items():
        frames = sequences[m].values[i][sequences[m].mask[i]].double().numpy()
        if not len(frames):
            vectors[m] = np.zeros(subnets.fields[m].width)
        elif m == "text":
            vectors[m] = _layers(network.head, _lstm(network.lstm.forwards, frames)[-1])
        else:
            p = _numbers(network.norm)
            x = (frames.mean(0) - p["running_mean"]) / np.sqrt(p["running_var"] + 1e-5) * p["weight"] + p["bias"]
            vectors[m] = _layers(network.layers, x)
    return vectors


@pytest.fixture
def reference():
    """Slow float64 references of the parts that several backbones have, one sample at a time."""
    return SimpleNamespace(numbers=_numbers, lstm=_lstm, linear=_linear, layers=_layers, subnets=_subnets)
