"""The modules of the test plugin."""

from __future__ import annotations

import torch
from torch import nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import AlignmentLoss, FeatureExtractor, FieldSpec, FusionModel, RepresentationSpec


class ToyModel(FusionModel):
    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.layers = nn.ModuleDict({name: nn.Linear(spec.size, config.width + i) for i, (name, spec) in enumerate(inputs.modalities.items())})
        encoded = {name: FieldSpec(layer.out_features, sequence=True) for name, layer in self.layers.items()}
        width = sum(layer.out_features for layer in self.layers.values())
        self.spec = RepresentationSpec(inputs, fused=width, encoded=encoded)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, inputs.outputs)
        self.explode_at_step = config.explode_at_step
        self.steps = 0

    def parameter_groups(self):
        return {"head": self.head.parameters()}

    def forward(self, batch: Batch) -> Representation:
        encoded = {}
        for name, layer in self.layers.items():
            sequence = batch.inputs[name]
            encoded[name] = Sequence(torch.tanh(layer(sequence.values)) * sequence.mask.unsqueeze(-1), sequence.mask)
        fused = torch.cat([sequence.mean() for sequence in encoded.values()], -1)
        output = self.head(self.dropout(fused))
        if self.training and self.explode_at_step:
            self.steps += 1
            if self.steps == self.explode_at_step:
                output = output * float("nan")
        return Representation(output.squeeze(-1) if self.spec.inputs.task == "regression" else output, fused, encoded)


class Pull(AlignmentLoss):
    terms = ("near", "far")

    def __init__(self, spec, config):
        super().__init__(spec, config)
        self.scale = nn.Parameter(torch.tensor(config.scale))
        self.register_buffer("seen", torch.zeros(()))
        self.epochs: list[int] = []

    def on_epoch_start(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def forward(self, representation, batch):
        self.seen += len(batch.index)
        common = torch.stack([sequence.mean() for sequence in representation.common.values()])
        unique = torch.stack([sequence.mean() for sequence in representation.unique.values()])
        found = {"near": self.scale * (common - common.mean(0)).square().mean()}
        if "far" in self.active:
            found["far"] = -(unique - unique.mean(0)).square().mean().clamp(max=1.0)
        self.diagnostics = {"spread": common.var()}
        return found


class Unimodal(AlignmentLoss):
    terms = ("unimodal",)

    def forward(self, representation, batch):
        values = torch.stack(list(representation.unimodal_predictions.values()))
        if values.ndim == 3:
            return {"unimodal": torch.stack([nn.functional.cross_entropy(value, batch.target) for value in values]).mean()}
        return {"unimodal": (values - batch.target).abs().mean()}


class Size(AlignmentLoss):
    terms = ("size",)

    def forward(self, representation, batch):
        return {"size": torch.stack([sequence.mean().square().mean() for sequence in representation.encoded.values()]).sum()}


class _Extractor(FeatureExtractor):
    def __init__(self, config):
        super().__init__(config)
        self.width = config.width
        self.samples = 0
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(self.rows, config.width, generator=generator), requires_grad=self.finetune)

    def digest(self) -> str:
        return f"{type(self).__name__} {self.weight.sum().item()}"


class Letters(_Extractor):
    rows = vocabulary = 128

    def prepare(self, path_or_text):
        return torch.tensor([1, *(ord(letter) % 128 for letter in str(path_or_text)), 2])

    def forward(self, raw: Sequence) -> Sequence:
        self.samples += len(raw.values)
        return Sequence(self.weight[raw.values] * raw.mask.unsqueeze(-1), raw.mask)


class Waves(_Extractor):
    rows = 10

    def forward(self, raw: Sequence) -> Sequence:
        self.samples += len(raw.values)
        frames = raw.values.unfold(1, 10, 10)  # (B, T / 10, 10)
        mask = raw.mask[:, ::10][:, : frames.shape[1]]
        return Sequence((frames @ self.weight) * mask.unsqueeze(-1), mask)
