"""The floors of every table: what is reached without learning, and by one linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmbench.adapters import Normalize
from mmbench.batch import Batch, Representation, Sequence
from mmbench.component import FitContext, InputSpec, RepresentationSpec
from mmbench.interfaces import FusionModel


class Constant(FusionModel):
    """Predicts the median of the training targets, or the share of each class among them; there is nothing to train."""

    value: Tensor

    def __init__(self, inputs: InputSpec, config: Any):
        super().__init__(inputs, config)
        self.spec = RepresentationSpec(inputs, fused=inputs.outputs, encoded={})
        self.register_buffer("value", torch.zeros(inputs.outputs))

    def on_fit_start(self, context: FitContext) -> None:
        """Take the constant from the training targets."""
        targets = context.train_targets
        if self.spec.inputs.task == "regression":
            # The mean of the two middle values: `Tensor.median` would take the lower one.
            self.value.copy_(targets.double().quantile(0.5).reshape(1))
        else:
            counts = (targets.unsqueeze(1) == torch.arange(len(self.value), device=targets.device)).double().mean(0)
            self.value.copy_(counts)

    def forward(self, batch: Batch) -> Representation:
        """The same prediction for each sample."""
        fused = self.value.expand(len(batch.index), -1)
        return Representation(_prediction(fused, self.spec), fused, {})


class Linear(FusionModel):
    """Masked mean of each modality, normalised by training statistics, concatenated -> one linear layer."""

    def __init__(self, inputs: InputSpec, config: Any):
        super().__init__(inputs, config)
        width = sum(spec.size for spec in inputs.modalities.values())
        self.spec = RepresentationSpec(inputs, fused=width, encoded={})  # it mixes raw inputs
        self.normalize = Normalize(width)
        self.head = nn.Linear(width, inputs.outputs)
        nn.init.zeros_(self.head.weight)

    def forward(self, batch: Batch) -> Representation:
        """Masked means (B, sum of widths) -> (B,) or (B, classes)."""
        fused = torch.cat([batch.inputs[name].mean() for name in self.spec.modalities], -1)
        vectors = Sequence.vector(fused)
        normal = self.normalize(vectors.values, vectors.mask)[:, 0]
        return Representation(_prediction(self.head(normal), self.spec), fused, {})


def _prediction(output: Tensor, spec: RepresentationSpec) -> Tensor:
    return output.squeeze(-1) if spec.inputs.task == "regression" else output
