"""The backbone `mmim`. What it maximises is the loss `mutual_information`, which works with other backbones too.

Differs from the widely used implementation: text is pooled from its features, precomputed or from an encoder in the loop, and gets a linear
layer (there, it is the CLS vector of a BERT that is fine-tuned); weights keep torch's initialisation (there, Xavier's, drawn several times over).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mmbench.batch import Batch, Representation
from mmbench.interfaces import FieldSpec, FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout
from mmbench_baselines.features import cleaned, require_features
from mmbench_baselines.mmim.config import MMIMConfig
from mmbench_baselines.pooling import pooled_text, utterance
from mmbench_baselines.recurrent import LSTM


class MMIM(FusionModel):
    """h_m (`encoded`) -> Z = tanh(W₂ tanh(W₁ [h_t; h_a; h_v])) (`fused`) -> Linear -> prediction.

    h_text: Linear of the pooled text features; h_m of another modality: Linear of the last state of an LSTM over its real frames. Inputs:
    (B, T_m, d_m) of two or more modalities. Prediction: (B,), or (B, classes) logits. `encoded`: vectors of `text_width` or `subnet_width`,
    zeros for a modality without a real frame. `fused`: (B, fusion_width). ValueError: inputs that are no features.
    Source: paper, sections 3.2 and 3.3; released code for the depth of the fusion.
    """

    lstms: Mapping[str, LSTM]

    def __init__(self, inputs: InputSpec, config: MMIMConfig):
        super().__init__(inputs, config)
        require_features("mmim", inputs)
        self.regression = inputs.task == "regression"
        self.text_pooling = config.text_pooling
        self.modalities = tuple(inputs.modalities)
        lstms = {m: LSTM(spec.size, config.hidden) for m, spec in inputs.modalities.items() if m != "text"}
        self.lstms = nn.ModuleDict(lstms)  # type: ignore[assignment]
        fields = {m: FieldSpec(config.text_width if m == "text" else config.subnet_width, sequence=False) for m in self.modalities}
        self.linears = nn.ModuleDict({m: nn.Linear(inputs.modalities[m].size if m == "text" else config.hidden, f.width) for m, f in fields.items()})
        width = config.fusion_width
        self.fusion = nn.Sequential(
            Dropout(config.dropout), nn.Linear(sum(f.width for f in fields.values()), width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.head = nn.Linear(width, inputs.outputs)
        self.spec = RepresentationSpec(inputs, fused=width, encoded=fields)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, d_m) by modality -> prediction, Z and h_m."""
        encoded = {}
        for m in self.modalities:
            x = batch.inputs[m]
            u = self.lstms[m].last(x) if m in self.lstms else pooled_text(cleaned(x), self.text_pooling)
            encoded[m] = utterance(self.linears[m](u), x)  # (B, 1, width of m)
        fused = self.fusion(torch.cat([x.values[:, 0] for x in encoded.values()], -1))  # (B, fusion_width)
        output = self.head(fused)  # (B, outputs)
        return Representation(output.squeeze(-1) if self.regression else output, fused, encoded)
