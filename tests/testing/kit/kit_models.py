"""A model that keeps every contract, and ones that break one each."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from mmbench.batch import Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, RepresentationSpec


class Good(FusionModel):
    """Linear layers on masked means; fills `encoded` and `unimodal_predictions`."""

    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.layers = nn.ModuleDict({name: nn.Linear(spec.size, config.width) for name, spec in inputs.modalities.items()})
        self.heads = nn.ModuleDict({name: nn.Linear(config.width, inputs.outputs) for name in self.layers})
        self.head = nn.Linear(config.width * len(self.layers), inputs.outputs)
        self.dropout = nn.Dropout(0.2)
        self.register_buffer("steps", torch.zeros(()))
        encoded = {name: FieldSpec(config.width, sequence=True) for name in self.layers}
        fused = config.width * len(self.layers)
        self.spec = RepresentationSpec(inputs, fused, encoded, unimodal_predictions=tuple(self.layers))

    def encode(self, name, sequence):
        return torch.tanh(self.layers[name](sequence.values)) * sequence.mask.unsqueeze(-1)

    def mean(self, sequence):
        return sequence.mean()

    def fuse(self, vectors):
        return torch.cat(vectors, -1)

    def forward(self, batch):
        if self.training:
            self.steps += 1
        encoded = {name: Sequence(self.encode(name, batch.inputs[name]), batch.inputs[name].mask) for name in self.layers}
        vectors = {name: self.mean(sequence) for name, sequence in encoded.items()}
        fused = self.fuse(list(vectors.values()))
        output = self.head(self.dropout(fused))
        unimodal = {name: self.flat(self.heads[name](vector)) for name, vector in vectors.items()}
        return Representation(self.flat(output), fused, encoded, unimodal_predictions=unimodal)

    def flat(self, value):
        return value.squeeze(-1) if self.spec.inputs.task == "regression" else value


class Shows(Good):
    """Good: shows something to a loss of its own."""

    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.spec = dataclasses.replace(self.spec, extra=frozenset({"ratio"}))

    def forward(self, batch):
        found = super().forward(batch)
        return dataclasses.replace(found, extra={"ratio": found.fused.square().mean()})


class Tokens(Good):
    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.layers["text"] = nn.Embedding(inputs.modalities["text"].size, config.width)


class NoModel(nn.Module):
    def __init__(self, inputs, config):
        super().__init__()


class WrongShape(Good):
    def flat(self, value):
        return value


class WrongWidth(Good):
    def forward(self, batch):
        found = super().forward(batch)
        return dataclasses.replace(found, encoded={name: Sequence(each.values[..., 1:], each.mask) for name, each in found.encoded.items()})


class NeedsText(Good):
    def forward(self, batch):
        assert "text" in batch.inputs, "there is no text"
        return super().forward(batch)


class NeedsFrames(Good):
    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        assert all(spec.length > 1 for spec in inputs.modalities.values())


class CountsPadding(Good):
    def mean(self, sequence):
        return sequence.values.mean(1)


class ReadsPadding(Good):
    def mean(self, sequence):
        return super().mean(sequence) + 0.01 * sequence.values.mean(1)

    def encode(self, name, sequence):
        return torch.tanh(self.layers[name](sequence.values))


class ComparesSamples(Good):
    def fuse(self, vectors):
        fused = super().fuse(vectors)
        return fused - fused.mean(0)


class RefusesOne(Good):
    def forward(self, batch):
        if self.training and len(batch.index) == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        return super().forward(batch)


class DividesByZero(Good):
    def mean(self, sequence):
        return (sequence.values * sequence.mask.unsqueeze(-1)).sum(1) / sequence.mask.sum(1, keepdim=True)


class RootOfZero(Good):
    """Its output is finite for an empty modality, its gradient is not."""

    def mean(self, sequence):
        mean = super().mean(sequence)
        return mean * torch.where(sequence.mask.any(1, keepdim=True), 1.0, mean.square().sum(1, keepdim=True).sqrt())


class Dead(Good):
    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.unused = nn.Parameter(torch.zeros(3))


class DeadValue(Good):
    """A parameter that is used and gets a gradient of zero."""

    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.unused = nn.Parameter(torch.ones(()))

    def fuse(self, vectors):
        return super().fuse(vectors) + 0.0 * self.unused


class ZeroStart(Good):
    """Good: what lies below a layer that starts at zero is reached after a step."""

    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.gate = nn.Parameter(torch.zeros(()))
        self.inner = nn.Parameter(torch.ones(()))

    def fuse(self, vectors):
        return super().fuse(vectors) * (1 + self.gate * self.inner)


class Unseeded(Good):
    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(self.head.weight, generator=generator)


class UnseededDropout(Good):
    def fuse(self, vectors):
        generator = torch.Generator()
        generator.seed()
        fused = super().fuse(vectors)
        return fused + torch.rand(fused.shape, generator=generator).to(fused) if self.training else fused


class CountsAlways(Good):
    def forward(self, batch):
        self.steps += 1
        return super().forward(batch)


class Overwrites(Good):
    def forward(self, batch):
        batch.inputs["text"].values.mul_(0.5)
        return super().forward(batch)


class DropsAlways(Good):
    def fuse(self, vectors):
        return nn.functional.dropout(super().fuse(vectors), 0.5, training=True)


class RemembersElsewhere(Good):
    count = 0

    def fuse(self, vectors):
        self.count += self.training
        return super().fuse(vectors) + 0.1 * self.count


class LosesState(Good):
    def state_dict(self, *args, **kwargs):
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "head.bias" not in name}


class PicklesState(Good):
    def get_extra_state(self):
        return Good

    def set_extra_state(self, state):
        pass


class SingleOnly(Good):
    def fuse(self, vectors):
        return super().fuse(vectors).float()


class SingleOutput(Good):
    def flat(self, value):
        return super().flat(value).float()


class LosesDigits(Good):
    def encode(self, name, sequence):
        return ((self.layers[name](sequence.values) + 1000.0) - 1000.0) * sequence.mask.unsqueeze(-1)


class LeftBehind(Good):
    """Another result once it was moved to a device."""

    moved = False

    def to(self, *args, **kwargs):
        self.moved = True
        return super().to(*args, **kwargs)

    def fuse(self, vectors):
        return super().fuse(vectors) + float(self.moved)


def _local():
    class Hidden(Good):
        pass

    return Hidden


Local = _local()
