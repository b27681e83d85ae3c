"""The backbone `tfn`.

Differs from the widely used implementation: padding takes no part (there, the LSTM reads on into it), predictions are squashed to the data set's
own label range (there to [-3, 3], on CH-SIMS too), and the outer product runs over whatever modalities there are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation
from mmbench.interfaces import FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout, at_least_float32, without_autocast
from mmbench_baselines.features import require_features
from mmbench_baselines.options import per_modality
from mmbench_baselines.subnets import Subnets
from mmbench_baselines.tfn.config import TFNConfig
from mmbench_baselines.tfn.product import dropped_product

HIDDEN = 32  # of a modality that the config does not name


class TFN(FusionModel):
    """z = ⊗_m [1; h_m] → dropout → two layers Linear, ReLU → Linear; for regression y = low + (high - low)·σ(.) over the label range.

    Inputs: features (B, T_m, D_m). Prediction: (B,) for regression, (B, classes) logits. `encoded`: the vectors h_m. `fused` (B, F): the
    second layer. A modality without a real frame has h_m = 0, which leaves the products of the others.
    Source: Zadeh et al. (2017), sections 4.1-4.3.
    """

    def __init__(self, inputs: InputSpec, config: TFNConfig):
        super().__init__(inputs, config)
        require_features("tfn", inputs)
        hidden = per_modality("hidden", config.hidden, HIDDEN, tuple(inputs.modalities))
        self.subnets = Subnets(inputs, hidden, config.text_width, config.dropout)
        size = 1
        for field in self.subnets.fields.values():
            size *= field.width + 1
        width = config.fusion_width
        self.fusion = nn.Sequential(Dropout(config.fusion_dropout), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, inputs.outputs)
        self.regression = inputs.task == "regression"
        self.label_range = inputs.label_range
        self.spec = RepresentationSpec(inputs, fused=width, encoded=self.subnets.fields)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, D_m) by modality -> prediction, and the vectors of the modalities."""
        encoded = self.subnets(batch.inputs)
        fused = self._fuse([x.values[:, 0] for x in encoded.values()])  # (B, F)
        output = self.head(fused)  # (B, outputs)
        return Representation(self._prediction(output) if self.regression else output, fused, encoded)

    def _fuse(self, vectors: list[Tensor]) -> Tensor:
        fused: Tensor
        if not self.training or vectors[0].device.type != "cpu":
            fused = self.fusion(outer_product(vectors))
            return fused
        dropout, linear = self.fusion[0], self.fusion[1]
        assert isinstance(dropout, Dropout)
        assert isinstance(linear, nn.Linear)
        with without_autocast(vectors[0]):
            first = at_least_float32(outer_product(vectors[:1]))
            fused = dropped_product(first, at_least_float32(outer_product(vectors[1:])), linear.weight, linear.bias, dropout.rate)
        fused = self.fusion[2:](fused)
        return fused

    def _prediction(self, output: Tensor) -> Tensor:
        output = output.squeeze(-1)  # (B,)
        if self.label_range is None:
            return output
        low, high = self.label_range
        return low + (high - low) * output.sigmoid()


def outer_product(vectors: list[Tensor]) -> Tensor:
    """⊗_m [1; h_m], flattened: (B, D_1), (B, D_2), ... -> (B, Π(D_m + 1))."""
    first, *rest = (torch.cat([torch.ones_like(h[:, :1]), h], -1) for h in vectors)  # (B, D_m + 1)
    for h in rest:
        first = (first.unsqueeze(2) * h.unsqueeze(1)).flatten(1)
    return first
