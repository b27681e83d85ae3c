"""The backbone `lf_dnn`.

Differs from the widely used implementation: padding takes no part (there, the LSTM reads on into it).
"""

from __future__ import annotations

import torch
from torch import nn

from mmbench.batch import Batch, Representation
from mmbench.interfaces import FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout
from mmbench_baselines.features import require_features
from mmbench_baselines.lf_dnn.config import LFDNNConfig
from mmbench_baselines.options import per_modality
from mmbench_baselines.subnets import Subnets

HIDDEN = 16  # of a modality that the config does not name


class LFDNN(FusionModel):
    """[h_1; h_2; ...] → dropout → two layers Linear, ReLU → Linear, with h_m the vector of one modality.

    Inputs: features (B, T_m, D_m). Prediction: (B,) for regression, (B, classes) logits. `encoded`: the vectors h_m. `fused` (B, F): the
    second layer. Source: the late fusion of Williams et al. (2018), with the networks of TFN, as MMSA builds it.
    """

    def __init__(self, inputs: InputSpec, config: LFDNNConfig):
        super().__init__(inputs, config)
        require_features("lf_dnn", inputs)
        hidden = per_modality("hidden", config.hidden, HIDDEN, tuple(inputs.modalities))
        self.subnets = Subnets(inputs, hidden, config.text_width, config.dropout)
        size, width = sum(field.width for field in self.subnets.fields.values()), config.fusion_width
        self.fusion = nn.Sequential(Dropout(config.fusion_dropout), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, inputs.outputs)
        self.regression = inputs.task == "regression"
        self.spec = RepresentationSpec(inputs, fused=width, encoded=self.subnets.fields)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, D_m) by modality -> prediction, and the vectors of the modalities."""
        encoded = self.subnets(batch.inputs)
        fused = self.fusion(torch.cat([x.values[:, 0] for x in encoded.values()], -1))  # (B, F)
        output = self.head(fused)  # (B, outputs)
        return Representation(output.squeeze(-1) if self.regression else output, fused, encoded)
