"""The backbone `mult`.

Differs from the widely used implementations: padding is no key and moves nothing (there it is attended to, the last step is often padding,
and which frames are later depends on the padded lengths), convolutions keep every frame (there they shorten the sequences), and there are
M(M-1) cross-modal encoders for M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout, TemporalProjection, by_length, positioned
from mmbench_baselines.features import require_features
from mmbench_baselines.mult.config import MulTConfig
from mmbench_baselines.mult.encoder import Encoder
from mmbench_baselines.options import per_modality
from mmbench_baselines.recurrent import compact

KERNEL_SIZE, ATTENTION_DROPOUT = 1, 0.0  # of a modality that the config does not name
MEMORY_LAYERS = 3  # at least


class MulT(FusionModel):
    """Temporal convolutions → encoders from each modality to each other → memory encoders on their concatenations → last steps → linear.

    Inputs: features (B, T_m, D_m). Prediction: (B,) for regression, (B, classes) logits. `encoded`: the sequences after the convolution
    (B, T_m, d). `fused` (B, M(M-1)d): h + W₂ ReLU(W₁ h) of the last real steps h. A modality without a real frame gives zeros, and the others
    attend to nothing in it. Source: Tsai et al. (2019), section 3.2.
    """

    cross: Mapping[str, Mapping[str, Encoder]]
    memories: Mapping[str, Encoder]

    def __init__(self, inputs: InputSpec, config: MulTConfig):
        super().__init__(inputs, config)
        require_features("mult", inputs)
        self.modalities = tuple(inputs.modalities)
        kernels = per_modality("kernel_size", config.kernel_size, KERNEL_SIZE, self.modalities)
        rates = per_modality("attention_dropout", config.attention_dropout, ATTENTION_DROPOUT, self.modalities)
        width, memory = config.width, config.width * (len(self.modalities) - 1)
        self.text_dropout = Dropout(config.text_dropout)
        self.projections = nn.ModuleDict({m: TemporalProjection(inputs.modalities[m].size, width, kernels[m], "same") for m in self.modalities})
        self.cross = nn.ModuleDict(  # type: ignore[assignment]
            {
                m: nn.ModuleDict({other: Encoder(width, config.layers, config, rates[other]) for other in self.modalities if other != m})
                for m in self.modalities
            }
        )
        layers = max(config.layers, MEMORY_LAYERS)
        self.memories = nn.ModuleDict({m: Encoder(memory, layers, config, config.memory_dropout) for m in self.modalities})  # type: ignore[assignment]
        fused = memory * len(self.modalities)
        self.residual = nn.Sequential(nn.Linear(fused, fused), nn.ReLU(), Dropout(config.output_dropout), nn.Linear(fused, fused))
        self.head = nn.Linear(fused, inputs.outputs)
        self.regression = inputs.task == "regression"
        fields = {m: FieldSpec(width, sequence=spec.length > 1) for m, spec in inputs.modalities.items()}
        self.spec = RepresentationSpec(inputs, fused=fused, encoded=fields)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, D_m) by modality -> prediction, and the projected sequences."""
        encoded = {m: self._project(m, batch.inputs[m]) for m in self.modalities}
        last = by_length(self._read, [encoded[m] for m in self.modalities])  # (B, M(M-1)d)
        fused = last + self.residual(last)
        output = self.head(fused)  # (B, outputs)
        return Representation(output.squeeze(-1) if self.regression else output, fused, encoded)

    def _project(self, modality: str, x: Sequence) -> Sequence:
        values = self.text_dropout(x.values) if modality == "text" else x.values
        projected: Sequence = self.projections[modality](compact(Sequence(values, x.mask)))
        return projected

    def _read(self, sequences: list[Sequence]) -> Tensor:
        """The last memories of all modalities: M sequences (B, T_m, d) -> (B, M(M-1)d)."""
        streams = {m: positioned(x) for m, x in zip(self.modalities, sequences, strict=True)}
        return torch.cat([self._memory(m, streams) for m in self.modalities], -1)

    def _memory(self, modality: str, streams: dict[str, Sequence]) -> Tensor:
        """The last memory of one modality: (B, (M-1)d)."""
        x = streams[modality]
        seen = [encoder.cross(x, streams[other]).values for other, encoder in self.cross[modality].items()]  # (B, T, d) each
        return self.memories[modality].last(positioned(Sequence(torch.cat(seen, -1), x.mask)))
