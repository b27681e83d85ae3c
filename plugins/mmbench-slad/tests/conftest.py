"""Batches, specifications and representations that the tests share."""

from __future__ import annotations

import pytest
import torch

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, InputSpec, ModalitySpec, RepresentationSpec

SIZES = {"text": (8, 9), "audio": (5, 14), "vision": (7, 11)}  # width, longest sample


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def make_inputs():
    def make(modalities=("text", "audio"), task="regression", lengths=None, contexts=(), label_range=(-3.0, 3.0)):
        specs = {m: ModalitySpec("features", SIZES[m][0], (lengths or {}).get(m, SIZES[m][1])) for m in modalities}
        classes = ("a", "b", "c", "d") if task == "classification" else ()
        before = {m: ModalitySpec("features", SIZES[m][0], 2 * SIZES[m][1]) for m in contexts}
        return InputSpec(specs, task, classes, None if classes else label_range, prototypes=7, train_size=100, contexts=before)

    return make


@pytest.fixture
def make_batch():
    def make(inputs, size=4, seed=0, least=1):
        generator = torch.Generator().manual_seed(seed)

        def sequence(spec, least):
            length = torch.randint(min(least, spec.length), spec.length + 1, (size, 1), generator=generator)
            return Sequence(torch.randn(size, spec.length, spec.size, generator=generator), torch.arange(spec.length) < length)

        sequences = {m: sequence(spec, least) for m, spec in inputs.modalities.items()}
        sequences.update({f"{m}_context": sequence(spec, 0) for m, spec in inputs.contexts.items()})
        if inputs.task == "regression":
            target = torch.rand(size, generator=generator) * 6 - 3
        else:
            target = torch.randint(0, len(inputs.classes), (size,), generator=generator)
        return Batch(torch.arange(size), sequences, target)

    return make


@pytest.fixture
def make_spec(make_inputs):
    def make(modalities=("text", "audio"), width=6, label_range=(-3.0, 3.0), unimodal=True):
        inputs = make_inputs(modalities, label_range=label_range)
        fields = {m: FieldSpec(width, True) for m in modalities}
        return RepresentationSpec(inputs, 4, fields, fields, fields, modalities if unimodal else None)

    return make


@pytest.fixture
def make_representation():
    """A representation of leaves that ask for gradients, with its batch. Labels lie on a coarse grid, so that zeros and ties occur."""

    def make(spec, size=8, frames=4, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)

        def random(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

        def labels():
            return torch.randint(-4, 5, (size,), generator=generator).to(dtype).mul_(0.75).requires_grad_()

        def field(declared):
            masks = {m: torch.rand(size, frames, generator=generator) < 0.6 for m in declared}  # with holes
            return {m: Sequence(random(size, frames, entry.width), masks[m].index_fill(1, torch.tensor([0]), True)) for m, entry in declared.items()}

        representation = Representation(
            prediction=random(size),
            fused=random(size, spec.fused),
            encoded={},
            common=field(spec.common),
            unique=field(spec.unique),
            unimodal_predictions={m: labels() for m in spec.modalities},
        )
        own = {m: labels().detach() for m in spec.modalities}
        return representation, Batch(torch.arange(size), {}, labels().detach(), own)

    return make
