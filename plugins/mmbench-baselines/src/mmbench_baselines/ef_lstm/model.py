"""The backbone `ef_lstm`.

Differs from the widely used implementation: the LSTM ends at each sample's last real step instead of reading on into the zeros; the batch
normalisation of each time step over samples and features, in which padding took part, is left out (the configs standardise the features);
and where lengths differ, frames are averaged to the text's steps over each sample's own real frames (there, over the padded length).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout, adaptive_average
from mmbench_baselines.ef_lstm.config import EFLSTMConfig
from mmbench_baselines.features import cleaned, require_features
from mmbench_baselines.recurrent import LSTM


class EFLSTM(FusionModel):
    """x_t = [x_t^text; x_t^audio; ...] → LSTM layers with dropout between → last state → dropout → Linear, ReLU → dropout → Linear.

    Inputs: features (B, T_m, D_m). Prediction: (B,) for regression, (B, classes) logits. `fused` (B, H): the layer on the last state.
    `encoded` is empty, as the model mixes raw inputs. The steps are those of the text (without text: of the first modality). A modality
    whose longest sample has the text's length is aligned: its frame t goes to step t, and what is not real counts as zero. Any other is
    resampled (`adaptive_average`), which is our choice. A step is real where an aligned modality is.
    Source: the early fusion of Williams et al. (2018), as MMSA builds it.
    """

    def __init__(self, inputs: InputSpec, config: EFLSTMConfig):
        super().__init__(inputs, config)
        require_features("ef_lstm", inputs)
        self.modalities = tuple(inputs.modalities)
        steps = inputs.modalities["text" if "text" in self.modalities else self.modalities[0]].length
        self.aligned = tuple(m for m in self.modalities if inputs.modalities[m].length == steps)
        size, width = sum(spec.size for spec in inputs.modalities.values()), config.width
        self.layers = nn.ModuleList(LSTM(size if i == 0 else width, width) for i in range(config.layers))
        self.dropout = Dropout(config.dropout)
        self.fusion = nn.Sequential(Dropout(config.dropout), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Sequential(Dropout(config.dropout), nn.Linear(width, inputs.outputs))
        self.regression = inputs.task == "regression"
        self.spec = RepresentationSpec(inputs, fused=width, encoded={})

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, D_m) by modality -> prediction."""
        x = self.join(batch.inputs)
        for i, layer in enumerate(self.layers):
            x, last = layer(x if i == 0 else Sequence(self.dropout(x.values), x.mask))  # (B, T, H), (B, H)
        fused = self.fusion(last)  # (B, H)
        output = self.head(fused)  # (B, outputs)
        return Representation(output.squeeze(-1) if self.regression else output, fused, {})

    def join(self, inputs: Mapping[str, Sequence]) -> Sequence:
        """The features of all modalities, step by step: (B, T_m, D_m) -> (B, T, ΣD_m)."""
        length = max(inputs[m].mask.shape[1] for m in self.aligned)
        aligned = {m: _padded(cleaned(inputs[m]), length) for m in self.aligned}
        steps = torch.stack([x.mask for x in aligned.values()]).any(0)  # (B, T)
        steps = _at_least_one(steps)
        parts = [aligned[m] if m in aligned else adaptive_average(cleaned(inputs[m]), steps) for m in self.modalities]
        return Sequence(torch.cat([part.values for part in parts], -1), steps)


def _padded(x: Sequence, length: int) -> Sequence:
    missing = length - x.mask.shape[1]
    return Sequence(F.pad(x.values, (0, 0, 0, missing)), F.pad(x.mask, (0, missing)))


def _at_least_one(mask: Tensor) -> Tensor:
    """A sample without a real step keeps the first, so that its resampled modalities are not lost."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | (first & ~mask.any(1, keepdim=True))
