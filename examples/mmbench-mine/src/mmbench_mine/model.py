import torch
from torch import nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, RepresentationSpec


class Mine(FusionModel):
    """h_m = ReLU(W_m mean(x_m)), prediction = V [h_1, ..., h_M]."""

    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.layers = nn.ModuleDict({name: nn.Linear(spec.size, config.width) for name, spec in inputs.modalities.items()})
        width = config.width * len(self.layers)
        self.head = nn.Linear(width, inputs.outputs)
        encoded = {name: FieldSpec(config.width, sequence=False) for name in self.layers}
        self.spec = RepresentationSpec(inputs, fused=width, encoded=encoded)

    def forward(self, batch: Batch) -> Representation:
        encoded = {name: Sequence.vector(torch.relu(layer(batch.inputs[name].mean()))) for name, layer in self.layers.items()}
        fused = torch.cat([sequence.mean() for sequence in encoded.values()], -1)  # (B, M * width), out of what losses see
        output = self.head(fused)
        prediction = output.squeeze(-1) if self.spec.inputs.task == "regression" else output
        return Representation(prediction, fused, encoded)
