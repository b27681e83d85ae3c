"""The backbone `decalign` (sections 3.1 and 3.4). None of the losses lives here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, InputSpec, RepresentationSpec
from mmbench.layers import Dropout, TemporalProjection, adaptive_average, by_length, positioned
from mmbench_decalign.config import DecAlignConfig
from mmbench_decalign.transformer import Transformer

KERNEL_SIZE, ATTENTION_DROPOUT = 5, 0.1  # of a modality that the config does not name
Value = TypeVar("Value", int, float)


class DecAlign(FusionModel):
    """Temporal convolution → unique and common encoders → a transformer per modality on the unique features → concatenation → linear.

    Inputs: features (B, T_m, d_m) of one or more modalities. Prediction: (B,) for regression, (B, classes) logits.
    `fused` (B, 2Md): the M pooled transformer outputs and the M pooled common features (B, Md without `decouple`).
    Source: paper, sections 3.1 and 3.4, Table 4.
    """

    def __init__(self, inputs: InputSpec, config: DecAlignConfig):
        super().__init__(inputs, config)
        self.config = config
        self.modalities = tuple(inputs.modalities)
        self.reference = "text" if "text" in self.modalities else self.modalities[0]
        self.regression = inputs.task == "regression"
        width = config.width

        for name, modality in inputs.modalities.items():
            if modality.kind != "features":
                raise ValueError(
                    f"decalign reads features, but modality '{name}' is {modality.kind}: "
                    f"give it an encoder (model.encoders.{name}) or extracted features"
                )
        kernels = _per_modality("kernel_size", config.kernel_size, KERNEL_SIZE, self.modalities)
        attention = _per_modality("attention_dropout", config.attention_dropout, ATTENTION_DROPOUT, self.modalities)

        self.text_dropout = Dropout(config.text_dropout)
        self.projections = nn.ModuleDict(
            {m: TemporalProjection(inputs.modalities[m].size, width, kernels[m], config.padding) for m in self.modalities}
        )
        if config.decouple:
            self.unique_encoders = nn.ModuleDict({m: _encoder(width, config.encoder_depth) for m in self.modalities})
            self.common_encoder = _encoder(width, config.encoder_depth)
        self.transformers = nn.ModuleDict(
            {
                m: Transformer(width, config.heads, config.layers, attention[m], config.relu_dropout, config.residual_dropout, config.embed_dropout)
                for m in self.modalities
            }
        )
        fused = width * len(self.modalities) * (2 if config.decouple else 1)
        self.head = nn.Sequential(Dropout(config.output_dropout), nn.Linear(fused, inputs.outputs))

        fields = {m: FieldSpec(width, sequence=self._length(m, inputs) > 1) for m in self.modalities}
        split = dict(fields) if config.decouple else None
        self.spec = RepresentationSpec(inputs=inputs, fused=fused, encoded=fields, common=split, unique=split)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, d_m) by modality -> prediction, encoded, common and unique sequences."""
        encoded = self._encode(batch.inputs)
        if self.config.decouple:
            unique = {m: self._split(self.unique_encoders[m], x) for m, x in encoded.items()}
            common = {m: self._split(self.common_encoder, x) for m, x in encoded.items()}
        else:
            unique, common = encoded, {}
        refined = by_length(self._refine, [unique[m] for m in self.modalities])  # (B, Md)
        fused = torch.cat([refined, *(x.mean() for x in common.values())], dim=-1)  # (B, 2Md)
        prediction = self.head(fused)  # (B, outputs)
        return Representation(
            prediction=prediction.squeeze(-1) if self.regression else prediction,
            fused=fused,
            encoded=encoded,
            common=common if self.config.decouple else None,
            unique=unique if self.config.decouple else None,
        )

    def _encode(self, inputs: Mapping[str, Sequence]) -> dict[str, Sequence]:
        projected = {m: self.projections[m](self._drop_text(m, inputs[m])) for m in self.modalities}
        length = self.config.sequence_length
        if length == "own":
            return projected
        if length == "text":
            # Decided from the names, never from the lengths: whether two modalities have equal masks is not known without looking at them.
            positions = _at_least_one(projected[self.reference].mask)  # (B, T)
            return {m: x if m == self.reference else adaptive_average(x, positions) for m, x in projected.items()}
        return {m: adaptive_average(x, x.mask.new_ones(x.mask.shape[0], length)) for m, x in projected.items()}

    def _drop_text(self, modality: str, x: Sequence) -> Sequence:
        return Sequence(self.text_dropout(x.values), x.mask) if modality == "text" else x

    def _split(self, encoder: nn.Module, x: Sequence) -> Sequence:
        """Zeros where a frame is not real: encoded frames are so, and a single linear layer without a bias keeps them."""
        values = encoder(x.values)
        return Sequence(values if self.config.encoder_depth == 1 else values * x.mask.unsqueeze(-1), x.mask)

    def _refine(self, unique: list[Sequence]) -> Tensor:
        """The transformers and their outputs' means: M sequences (B, T_m, d) -> (B, Md)."""
        streams = {m: positioned(x) for m, x in zip(self.modalities, unique, strict=True)}
        return torch.cat([self.transformers[m](streams[m], self._others(streams, m)).mean() for m in self.modalities], dim=-1)

    def _others(self, sequences: Mapping[str, Sequence], modality: str) -> list[Sequence] | None:
        """The context of a modality's transformer; with a single modality, cross attention is self attention."""
        return [x for m, x in sequences.items() if m != modality] if self.config.context == "cross" else None

    def _length(self, modality: str, inputs: InputSpec) -> int:
        length = self.config.sequence_length
        if isinstance(length, int):
            return length
        return inputs.modalities[self.reference if length == "text" else modality].length


def _encoder(width: int, depth: int) -> nn.Module:
    """`depth` linear layers d -> d on every frame (convolutions of kernel one, no bias), GELU and LayerNorm between them."""
    layers: list[nn.Module] = [nn.Linear(width, width, bias=False)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.LayerNorm(width), nn.Linear(width, width, bias=False)]
    return nn.Sequential(*layers)


def _at_least_one(mask: Tensor) -> Tensor:
    """A sample without a real text frame keeps one position, so that its other modalities are not lost."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | (first & ~mask.any(1, keepdim=True))


def _per_modality(option: str, value: Value | Mapping[str, Value], fallback: Value, modalities: tuple[str, ...]) -> dict[str, Value]:
    """One value per modality from an option that is one value for all, or a mapping."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(modalities, value)
    known = {"text", "audio", "vision", *modalities}
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"decalign: {option} names unknown modalities {unknown}; known are {sorted(known)}")
    return {m: value.get(m, fallback) for m in modalities}
