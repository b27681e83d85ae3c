"""The backbone `misa`.

Differs from the widely used implementations in these points. Audio and vision are read over their own lengths: there, the number of text
tokens cut them. Text is pooled from its features, precomputed or from an encoder in the loop. Any two or more modalities, in any order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout, attention
from mmbench_baselines.features import cleaned, require_features
from mmbench_baselines.misa.config import MISAConfig
from mmbench_baselines.pooling import pooled_text, utterance
from mmbench_baselines.recurrent import LSTM


class MISA(FusionModel):
    """u_m -> h_m (`encoded`) -> h_m^c = σ(W_c h_m) (`common`), h_m^p = σ(W_p^m h_m) (`unique`) -> self-attention over all 2M -> MLP.

    u_text: pooled text features; u_m of another modality: the last states of two stacked biLSTMs, by default as wide as its features, with a
    LayerNorm between them. h_m = LN(ReLU(W u_m)). Inputs: (B, T_m, d_m) of two or more modalities. Prediction: (B,), or (B, classes) logits.
    `encoded`, `common`, `unique`: vectors of `width`, zeros for a modality without a real frame. `fused` (B, 2M·width): the 2M attended vectors.
    ValueError: inputs that are no features. Source: paper, section 3; released code for the sizes.
    """

    def __init__(self, inputs: InputSpec, config: MISAConfig):
        super().__init__(inputs, config)
        require_features("misa", inputs)
        width = config.width
        self.regression = inputs.task == "regression"
        self.text_pooling = config.text_pooling
        self.modalities = tuple(inputs.modalities)
        self.readers = nn.ModuleDict({m: StackedLSTM(spec.size, config.hidden or spec.size) for m, spec in inputs.modalities.items() if m != "text"})
        sizes = {m: spec.size if m == "text" else 4 * (config.hidden or spec.size) for m, spec in inputs.modalities.items()}
        self.projections = nn.ModuleDict({m: nn.Sequential(nn.Linear(n, width), nn.ReLU(), nn.LayerNorm(width)) for m, n in sizes.items()})
        self.unique = nn.ModuleDict({m: nn.Sequential(nn.Linear(width, width), nn.Sigmoid()) for m in self.modalities})
        self.common = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        self.fusion = FusionLayer(width, config.heads, config.feed_forward, config.fusion_dropout)
        fused = 2 * len(self.modalities) * width
        self.head = nn.Sequential(nn.Linear(fused, fused // 2), Dropout(config.dropout), nn.ReLU(), nn.Linear(fused // 2, inputs.outputs))
        fields = {m: FieldSpec(width, sequence=False) for m in self.modalities}
        self.spec = RepresentationSpec(inputs, fused=fused, encoded=fields, common=fields, unique=fields)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, d_m) by modality -> all fields of the representation."""
        encoded, unique, common = {}, {}, {}
        for m in self.modalities:
            x = batch.inputs[m]
            h = self.projections[m](self.readers[m](x) if m in self.readers else pooled_text(cleaned(x), self.text_pooling))  # (B, width)
            encoded[m] = utterance(h, x)
            h = encoded[m].values[:, 0]  # what follows rests on what is shown, so that its gradient is that of the features
            unique[m], common[m] = utterance(self.unique[m](h), x), utterance(self.common(h), x)
        tokens = torch.cat([x.values for x in (*unique.values(), *common.values())], 1)  # (B, 2M, width)
        fused = self.fusion(tokens).flatten(1)  # (B, 2M * width)
        output = self.head(fused)  # (B, outputs)
        return Representation(
            prediction=output.squeeze(-1) if self.regression else output,
            fused=fused,
            encoded=encoded,
            common=common,
            unique=unique,
        )


class StackedLSTM(nn.Module):
    """Two biLSTMs of width H with a LayerNorm between them, each over the real frames: (B, T, D) -> the last states of both (B, 4H)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.first = LSTM(inputs, width, bidirectional=True)
        self.norm = nn.LayerNorm(2 * width)
        self.second = LSTM(2 * width, width, bidirectional=True)
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)

    def forward(self, x: Sequence) -> Tensor:
        states, early = self.first(x)  # (B, T, 2H), (B, 2H)
        late = self.second.last(Sequence(self.norm(states.values), states.mask))
        return torch.cat([early, late], -1)  # (B, 4H)


class FusionLayer(nn.Module):
    """One post-norm transformer layer, LN(x + Attention(x)) and LN(x + W₂ ReLU(W₁ x)), over tokens that are all real: (B, N, d) -> (B, N, d)."""

    def __init__(self, width: int, heads: int, feed_forward: int, rate: float):
        super().__init__()
        self.heads, self.rate = heads, rate
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, feed_forward), nn.ReLU(), Dropout(rate), nn.Linear(feed_forward, width))
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, N, d/heads)
        query, key, value = parts.unbind()
        allowed = torch.ones(1, 1, 1, x.shape[1], dtype=torch.bool, device=x.device)
        attended = attention(query, key, value, allowed, self.rate if self.training else 0.0)
        x = self.first_norm(x + self.dropout(self.output(attended.transpose(1, 2).flatten(2))))  # (B, N, d)
        return self.second_norm(x + self.dropout(self.feed_forward(x)))
