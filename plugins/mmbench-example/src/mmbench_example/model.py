"""`example_gate`: each modality's masked mean becomes a vector; gates decide how much of each is added to the sum."""

from __future__ import annotations

import torch
from torch import nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, InputSpec, RepresentationSpec
from mmbench_example.config import ExampleGateConfig


class ExampleGate(FusionModel):
    """h_m = tanh(W_m mean(x_m) + b_m), z = Σ_m σ(u_m · h_m) h_m, prediction = V z + c."""

    def __init__(self, inputs: InputSpec, config: ExampleGateConfig):
        super().__init__(inputs, config)
        self.layers = nn.ModuleDict({m: nn.Linear(spec.size, config.width) for m, spec in inputs.modalities.items()})
        self.gates = nn.ModuleDict({m: nn.Linear(config.width, 1) for m in inputs.modalities})
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, inputs.outputs)
        encoded = {m: FieldSpec(config.width, sequence=False) for m in inputs.modalities}
        self.spec = RepresentationSpec(inputs, fused=config.width, encoded=encoded)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, d_m) of each modality -> a prediction (B,) or (B, classes), and what losses may use."""
        encoded = {m: Sequence.vector(torch.tanh(layer(batch.inputs[m].mean()))) for m, layer in self.layers.items()}  # (B, 1, width)
        h = {m: sequence.mean() for m, sequence in encoded.items()}  # (B, width), out of what losses see: gradients are compared there
        z = torch.stack([torch.sigmoid(self.gates[m](value)) * value for m, value in h.items()]).sum(0)  # (B, width)
        output = self.head(self.dropout(z))  # (B, outputs)
        prediction = output.squeeze(-1) if self.spec.inputs.task == "regression" else output
        return Representation(prediction, z, encoded)
