"""The backbone `slad` (sections 3.2-3.5). None of the losses lives here."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import FieldSpec, FusionModel, InputSpec, ModalitySpec, RepresentationSpec
from mmbench.layers import Dropout, adaptive_average, by_length, masked_mean, without_autocast
from mmbench_slad.config import SLaDConfig
from mmbench_slad.fusion import FusionStack
from mmbench_slad.pooling import at_least_one


class SLaD(FusionModel):
    """Features X of equal length (`encoded`) → invariant I (`common`), specific S (`unique`) and pseudo-labels; fusion of I and of X → MLP.

    Inputs: features (B, T_m, d_m) of two or more modalities, precomputed or from encoders inside the loop; `<m>_context` where the data bring
    it. Prediction, and each of `unimodal_predictions` (Eq. 1-2, from the masked mean of X): (B,) for regression, (B, classes) logits.
    `fused` (B, F): the CLS outputs of all streams of all stacks, then the masked mean of each context (zeros where there is none).
    Source: paper, sections 3.2-3.5, Eq. 1-6, Table 4.
    """

    def __init__(self, inputs: InputSpec, config: SLaDConfig):
        super().__init__(inputs, config)
        self.config = config
        self.modalities = tuple(inputs.modalities)
        self.contexts = tuple(inputs.contexts)
        self.reference = "text" if "text" in self.modalities else self.modalities[0]
        self.regression = inputs.task == "regression"
        _check(inputs)
        width = config.width

        self.projections = nn.ModuleDict({m: nn.Linear(spec.size, width) for m, spec in inputs.modalities.items() if spec.size != width})
        self.invariant = nn.ModuleDict({m: _head(width) for m in (("shared",) if config.share_invariant else self.modalities)})
        self.specific = nn.ModuleDict({m: _head(width) for m in self.modalities})
        self.pseudo_labels = nn.ModuleDict({m: nn.Linear(width, inputs.outputs) for m in self.modalities})
        stacks = ("common", "encoded", "unique") if config.include_specific else ("common", "encoded")
        self.fusion = nn.ModuleDict({name: FusionStack(len(self.modalities), width, config.heads, config.layers, config.dropout) for name in stacks})
        fused = width * (len(stacks) * len(self.modalities) + len(self.contexts))
        self.mlp = nn.Sequential(
            Dropout(config.dropout), nn.Linear(fused, width), nn.ReLU(), Dropout(config.dropout), nn.Linear(width, inputs.outputs)
        )
        fields = {m: FieldSpec(width, sequence=inputs.modalities[self.reference].length > 1) for m in self.modalities}
        self.spec = RepresentationSpec(inputs=inputs, fused=fused, encoded=fields, common=fields, unique=fields, unimodal_predictions=self.modalities)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, d_m) by modality -> all fields of the representation."""
        encoded = self._encode(batch.inputs)
        common = {m: _masked(self._invariant(m)(x.values), x.mask) for m, x in encoded.items()}
        unique = {m: _masked(self.specific[m](x.values), x.mask) for m, x in encoded.items()}
        fields = {"common": common, "encoded": encoded, "unique": unique}
        parts = [by_length(self._fuse, [x for name in self.fusion for x in fields[name].values()])]  # (B, stacks·M·d)
        parts += [masked_mean(self._project(m, _clean(batch.inputs[f"{m}_context"]))) for m in self.contexts]
        fused = torch.cat(parts, dim=-1)  # (B, F)
        return Representation(
            prediction=self._output(self.mlp(fused)),
            fused=fused,
            encoded=encoded,
            common=common,
            unique=unique,
            unimodal_predictions={m: self._pseudo_label(m, x) for m, x in encoded.items()},
        )

    def _fuse(self, streams: list[Sequence]) -> Tensor:
        """The stacks' CLS outputs: the M streams (B, T, d) of each stack -> (B, stacks·M·d)."""
        count = len(self.modalities)
        return torch.cat([cls for i, stack in enumerate(self.fusion.values()) for cls in stack(streams[i * count : (i + 1) * count])], -1)

    def _encode(self, inputs: Mapping[str, Sequence]) -> dict[str, Sequence]:
        """Pooled first and projected then: averages and linear layers commute, and the other modalities often have many narrow frames."""
        reference = _clean(inputs[self.reference])
        positions = at_least_one(reference.mask)  # (B, T)
        # Decided from the names, never from the lengths: whether two modalities have equal masks is not known without looking at them.
        return {m: self._project(m, reference if m == self.reference else adaptive_average(_clean(inputs[m]), positions)) for m in self.modalities}

    def _project(self, modality: str, x: Sequence) -> Sequence:
        return _masked(self.projections[modality](x.values), x.mask) if modality in self.projections else x

    def _invariant(self, modality: str) -> nn.Module:
        return self.invariant["shared" if self.config.share_invariant else modality]

    def _pseudo_label(self, modality: str, x: Sequence) -> Tensor:
        with without_autocast(x.values):  # their differences decide about relations between labels
            return self._output(self.pseudo_labels[modality](masked_mean(x)))

    def _output(self, value: Tensor) -> Tensor:
        return value.squeeze(-1) if self.regression else value


def _check(inputs: InputSpec) -> None:
    if len(inputs.modalities) < 2:
        raise ValueError(f"slad lets modalities attend to each other and needs two or more, but there is only {list(inputs.modalities)}")
    entries: list[tuple[str, str, ModalitySpec]] = [(m, m, spec) for m, spec in inputs.modalities.items()]
    entries += [(f"{m}_context", m, spec) for m, spec in inputs.contexts.items()]
    for name, modality, spec in entries:
        if spec.kind != "features":
            raise ValueError(
                f"slad reads features, but '{name}' is {spec.kind}: give it an encoder (model.encoders.{modality}) or extracted features"
            )
        if modality not in inputs.modalities:
            raise ValueError(f"slad: '{name}' belongs to no modality of the data, which are {list(inputs.modalities)}")
        if spec.size != inputs.modalities[modality].size:
            raise ValueError(f"slad: '{name}' has width {spec.size} and '{modality}' {inputs.modalities[modality].size}; they share an encoder")


def _head(width: int) -> nn.Module:
    """Linear, GELU, LayerNorm, Linear on every frame (our choice: section 3.4 describes none)."""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, width))


def _masked(values: Tensor, mask: Tensor) -> Sequence:
    return Sequence(values * mask.unsqueeze(-1), mask)


def _clean(x: Sequence) -> Sequence:
    """Zeros wherever a frame is not real, whatever stands there."""
    return Sequence(x.values.masked_fill(~x.mask.unsqueeze(-1), 0.0), x.mask)
