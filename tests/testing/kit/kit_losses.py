"""Losses that keep every contract, and ones that break one each."""

from __future__ import annotations

import torch
from torch import nn

from mmbench.interfaces import AlignmentLoss


class Good(AlignmentLoss):
    """``pull``: squared distance of a learned map of the common features to their mean; ``push``: to a memory of each sample."""

    terms = ("pull", "push")

    def __init__(self, spec, config):
        super().__init__(spec, config)
        width = next(iter(spec.common.values())).width
        self.map = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("memory", torch.zeros(0, width))
        self.register_buffer("epoch", torch.zeros(()))

    def on_fit_start(self, context):
        self.memory = self.memory.new_zeros(context.train_size, self.map.in_features)

    def on_epoch_end(self, epoch):
        self.epoch += 1

    def pool(self, sequence):
        clean = sequence.values.masked_fill(~sequence.mask.unsqueeze(-1), 0.0).to(self.map.weight.dtype)
        return clean.sum(1) / sequence.mask.sum(1, keepdim=True).clamp(min=1)

    def change(self, vectors):
        return vectors

    def forward(self, representation, batch):
        with torch.autocast(representation.fused.device.type, enabled=False):
            vectors = self.change(torch.stack([self.pool(sequence) for sequence in representation.common.values()]))  # (M, B, d)
            mapped = self.dropout(self.map(vectors))
            found = {}
            if "pull" in self.active:
                found["pull"] = (mapped - mapped.mean(0)).square().mean()
            if "push" in self.active:
                found["push"] = (mapped - self.memory[batch.index]).square().mean() * (1 + self.epoch)
            if self.training:
                self.remember(vectors.detach().mean(0), batch.index)
            return found

    def remember(self, vectors, index):
        self.memory[index] = vectors


class Plain(AlignmentLoss):
    """One term, which is not declared, on the prediction."""

    def forward(self, representation, batch):
        return {"plain": representation.prediction.square().mean()}


class Ratio(AlignmentLoss):
    """On what the model of this distribution shows it."""

    terms = ("ratio",)

    def forward(self, representation, batch):
        return {"ratio": representation.extra["ratio"]}


class NoLoss(nn.Module):
    def __init__(self, spec, config):
        super().__init__()


class Missing(Good):
    def forward(self, representation, batch):
        return {name: value for name, value in super().forward(representation, batch).items() if name != "push"}


class PerSample(Good):
    def forward(self, representation, batch):
        return {name: value.expand(2) for name, value in super().forward(representation, batch).items()}


class Detached(Good):
    def forward(self, representation, batch):
        return {name: value.detach() for name, value in super().forward(representation, batch).items()}


class Attached(Good):
    def change(self, vectors):
        self.diagnostics["size"] = self.map.weight.square().mean()
        return vectors


class ReadsMore(Good):
    def forward(self, representation, batch):
        size = sum(sequence.values.square().mean() for sequence in representation.unique.values())
        return {name: value + 0.0 * size for name, value in super().forward(representation, batch).items()}


class NeedsBoth(Good):
    """Cannot do with a part of its terms."""

    def forward(self, representation, batch):
        found = super().forward(representation, batch)
        return {"pull": found["pull"] + 0.0 * found["push"], "push": found["push"]}


class Explodes(Good):
    """NaN where all samples are equal: a division by their spread."""

    def change(self, vectors):
        return vectors / vectors.std(1, correction=0, keepdim=True).sum() if vectors.shape[1] > 1 else vectors


class CountsPadding(Good):
    def pool(self, sequence):
        return sequence.values.masked_fill(~sequence.mask.unsqueeze(-1), 0.0).mean(1)


class SpreadOfOne(Good):
    def change(self, vectors):
        centred = vectors - vectors.mean(1, keepdim=True)
        return centred / (1 + centred.square().sum(1, keepdim=True) / (vectors.shape[1] - 1))  # 0 / 0 for a batch of one


class DividesByZero(Good):
    def pool(self, sequence):
        clean = sequence.values.masked_fill(~sequence.mask.unsqueeze(-1), 0.0)
        return clean.sum(1) / sequence.mask.sum(1, keepdim=True)


class RootOfZero(Good):
    """A finite value for an empty modality, and a gradient that is not."""

    def change(self, vectors):
        return vectors + 0.0 * vectors.square().sum(-1, keepdim=True).sqrt()


class Dead(Good):
    def __init__(self, spec, config):
        super().__init__(spec, config)
        self.unused = nn.Parameter(torch.zeros(2))


class CutOff(Good):
    """Moves its own parameters alone, never the features."""

    def change(self, vectors):
        return vectors.detach()


class Unseeded(Good):
    def __init__(self, spec, config):
        super().__init__(spec, config)
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(self.map.weight, generator=generator)


class RemembersAlways(Good):
    def forward(self, representation, batch):
        self.memory[batch.index] += 1
        return super().forward(representation, batch)


class RemembersElsewhere(Good):
    def on_fit_start(self, context):
        super().on_fit_start(context)
        self.notes = torch.zeros(())

    def remember(self, vectors, index):
        super().remember(vectors, index)
        self.notes = self.notes + 1

    def change(self, vectors):
        return vectors + self.notes


class GrowsLate(Good):
    """Its memory is as large as the training split only after the first batch: a fresh instance cannot take the state."""

    def on_fit_start(self, context):
        self.size = context.train_size

    def forward(self, representation, batch):
        if not len(self.memory):
            self.memory = self.memory.new_zeros(self.size, self.map.in_features)
        return super().forward(representation, batch)


class SingleOnly(Good):
    def change(self, vectors):
        return vectors @ torch.eye(vectors.shape[-1])


class LosesDigits(Good):
    def pool(self, sequence):
        clean = sequence.values.masked_fill(~sequence.mask.unsqueeze(-1), 0.0)
        return (((clean + 1000.0) - 1000.0).sum(1) / sequence.mask.sum(1, keepdim=True).clamp(min=1)).to(self.map.weight.dtype)


class LeftBehind(Good):
    moved = False

    def to(self, *args, **kwargs):
        self.moved = True
        return super().to(*args, **kwargs)

    def change(self, vectors):
        return vectors + float(self.moved)


def _local():
    class Hidden(Good):
        pass

    return Hidden


Local = _local()
