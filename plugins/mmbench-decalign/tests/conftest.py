"""Batches, specifications and representations that the tests share."""

from __future__ import annotations

import pytest
import torch

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, InputSpec, ModalitySpec, RepresentationSpec

SIZES = {"text": (12, 9), "audio": (5, 14), "vision": (7, 11)}  # width, longest sample
NAMES = ("text", "audio", "vision", "physio", "eeg")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def make_inputs():
    def make(modalities=("text", "audio", "vision"), task="regression", lengths=None):
        sizes = {m: SIZES.get(m, (6, 10)) for m in modalities}
        specs = {m: ModalitySpec("features", width, (lengths or {}).get(m, length)) for m, (width, length) in sizes.items()}
        classes = ("a", "b", "c", "d") if task == "classification" else ()
        label_range = (-3.0, 3.0) if task == "regression" else None
        return InputSpec(specs, task, classes, label_range, prototypes=4 if classes else 7, train_size=100)

    return make


@pytest.fixture
def make_batch():
    def make(inputs, size=4, seed=0, least=1):
        generator = torch.Generator().manual_seed(seed)
        sequences = {}
        for m, spec in inputs.modalities.items():
            length = torch.randint(min(least, spec.length), spec.length + 1, (size,), generator=generator)
            mask = torch.arange(spec.length) < length[:, None]
            values = torch.randn(size, spec.length, spec.size, generator=generator) * mask.unsqueeze(-1)
            sequences[m] = Sequence(values, mask)
        if inputs.task == "regression":
            target = torch.rand(size, generator=generator) * 6 - 3
        else:
            target = torch.randint(0, len(inputs.classes), (size,), generator=generator)
        return Batch(torch.arange(size), sequences, target)

    return make


@pytest.fixture
def make_spec(make_inputs):
    def make(modalities=3, width=6, task="regression", sequence=True, prototypes=None):
        names = NAMES[:modalities]
        inputs = make_inputs(names, task)
        if prototypes:
            inputs = InputSpec(inputs.modalities, inputs.task, inputs.classes, inputs.label_range, prototypes, inputs.train_size)
        fields = {m: FieldSpec(width, sequence) for m in names}
        return RepresentationSpec(inputs, fused=2 * width * modalities, encoded=fields, common=fields, unique=fields)

    return make


@pytest.fixture
def make_representation():
    """A representation of leaves that ask for gradients, with its batch."""

    def make(spec, size=8, frames=5, seed=0, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)

        def random(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

        def field(declared):
            sequences = {}
            for m, entry in declared.items():
                length = frames if entry.sequence else 1
                mask = torch.arange(length) < torch.randint(1, length + 1, (size, 1), generator=generator)
                sequences[m] = Sequence(random(size, length, entry.width), mask)
            return sequences

        if spec.inputs.task == "regression":
            target = torch.randint(-3, 4, (size,), generator=generator).float()
        else:
            target = torch.randint(0, len(spec.inputs.classes), (size,), generator=generator)
        representation = Representation(
            prediction=random(size), fused=random(size, spec.fused), encoded={}, common=field(spec.common), unique=field(spec.unique)
        )
        return representation, Batch(torch.arange(size), {}, target)

    return make
