"""The backbone `self_mm`. Its label generation is the loss `self_supervised_labels`, which works with other backbones too.

Differs from the widely used implementation: text is pooled from its features, precomputed or from an encoder in the loop (there, a BERT's CLS).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout
from mmbench_baselines.features import cleaned, require_features
from mmbench_baselines.options import per_modality
from mmbench_baselines.pooling import pooled_text, utterance
from mmbench_baselines.recurrent import LSTM
from mmbench_baselines.self_mm.config import SelfMMConfig

FALLBACK = 16  # width of what an option's mapping does not name


class SelfMM(FusionModel):
    """F = ReLU(W [u_t; u_a; u_v]) -> Linear, ReLU, Linear -> prediction; F_m = ReLU(W_m u_m) -> Linear, ReLU, Linear -> unimodal prediction.

    u_text: pooled text features; u_m of another modality: the last state of an LSTM over its real frames, then Linear. Inputs: (B, T_m, d_m) of
    two or more modalities. Prediction, and each of `unimodal_predictions`: (B,), or (B, classes) logits. `fused` (B, fusion_width): F.
    `encoded`: the vectors F_m, zeros for a modality without a real frame; they do not enter F, which reads the u_m beside them.
    Parameter groups `audio`, `vision` (each modality but text): its LSTM with its linear layer. ValueError: inputs that are no features.
    Source: paper, 'Overall Architecture'; released code for the depths.
    """

    def __init__(self, inputs: InputSpec, config: SelfMMConfig):
        super().__init__(inputs, config)
        require_features("self_mm", inputs)
        self.regression = inputs.task == "regression"
        self.text_pooling = config.text_pooling
        self.modalities = tuple(inputs.modalities)
        hidden, subnet, unimodal = (
            per_modality(name, getattr(config, name), FALLBACK, self.modalities) for name in ("hidden", "subnet_width", "unimodal_width")
        )
        self.subnets = nn.ModuleDict({m: Subnet(spec.size, hidden[m], subnet[m]) for m, spec in inputs.modalities.items() if m != "text"})
        sizes = {m: spec.size if m == "text" else subnet[m] for m, spec in inputs.modalities.items()}
        self.dropout = Dropout(config.dropout)
        self.fusion = nn.Sequential(nn.Linear(sum(sizes.values()), config.fusion_width), nn.ReLU())
        self.head = _head(config.fusion_width, inputs.outputs)
        self.unimodal = nn.ModuleDict({m: nn.Sequential(nn.Linear(sizes[m], unimodal[m]), nn.ReLU()) for m in self.modalities})
        self.unimodal_heads = nn.ModuleDict({m: _head(unimodal[m], inputs.outputs) for m in self.modalities})
        fields = {m: FieldSpec(unimodal[m], sequence=False) for m in self.modalities}
        self.spec = RepresentationSpec(inputs, fused=config.fusion_width, encoded=fields, unimodal_predictions=self.modalities)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, d_m) by modality -> prediction, F, F_m and unimodal predictions."""
        inputs = {m: batch.inputs[m] for m in self.modalities}
        u = {m: self.subnets[m](x) if m in self.subnets else pooled_text(cleaned(x), self.text_pooling) for m, x in inputs.items()}  # (B, d_m)
        fused = self.fusion(self.dropout(torch.cat(list(u.values()), -1)))  # (B, fusion_width)
        encoded = {m: utterance(self.unimodal[m](self.dropout(u[m])), x) for m, x in inputs.items()}
        return Representation(
            prediction=self._output(self.head(fused)),
            fused=fused,
            encoded=encoded,
            unimodal_predictions={m: self._output(self.unimodal_heads[m](x.values[:, 0])) for m, x in encoded.items()},
        )

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """The subnets by modality. `audio` and `vision` are groups also of data without them, so that one config serves both."""
        return {m: self.subnets[m].parameters() if m in self.subnets else () for m in ("audio", "vision", *self.subnets)}

    def _output(self, value: Tensor) -> Tensor:
        return value.squeeze(-1) if self.regression else value


class Subnet(nn.Module):
    """The last state of an LSTM over the real frames, then Linear: (B, T, D) -> (B, width)."""

    def __init__(self, inputs: int, hidden: int, width: int):
        super().__init__()
        self.lstm = LSTM(inputs, hidden)
        self.linear = nn.Linear(hidden, width)

    def forward(self, x: Sequence) -> Tensor:
        output: Tensor = self.linear(self.lstm.last(x))
        return output


def _head(width: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))
