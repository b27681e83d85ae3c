"""What losses are tested on: a model that fills every field, cut off from its graph, so that gradients are seen to arrive. Imports torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmbench.batch import Batch, Representation, Sequence
from mmbench.component import FieldSpec, InputSpec, RepresentationSpec
from mmbench.interfaces import FusionModel

WIDTH = 6
JUNK = 40.0  # what stands in the frames that are not real


class Reference(FusionModel):
    """Random projections of every modality; `encoded` is of a width of its own for each, `common` and `unique` are of one."""

    def __init__(self, inputs: InputSpec, sequences: bool, seed: int = 0):
        super().__init__(inputs, None)
        generator = torch.Generator().manual_seed(seed)
        self.weights: dict[str, Tensor] = {}
        widths = {name: WIDTH + place for place, name in enumerate(inputs.modalities)}
        for name, spec in inputs.modalities.items():
            for field, width in (("encoded", widths[name]), ("common", WIDTH), ("unique", WIDTH), ("unimodal", inputs.outputs)):
                self.weights[f"{field}.{name}"] = torch.randn(spec.size, width, generator=generator)
        self.fused_width = sum(widths.values())
        self.weights["head"] = torch.randn(self.fused_width, inputs.outputs, generator=generator)
        self.sequences = sequences
        encoded = {name: FieldSpec(width, sequences) for name, width in widths.items()}
        split = {name: FieldSpec(WIDTH, sequences) for name in widths}
        self.spec = RepresentationSpec(inputs, self.fused_width, encoded, split, split, tuple(widths))

    def forward(self, batch: Batch) -> Representation:
        """All fields of the representation; junk in the frames that are not real."""
        fields = {field: {name: self._sequence(field, name, batch) for name in self.spec.modalities} for field in ("encoded", "common", "unique")}
        fused = torch.cat([_clean(sequence).mean() for sequence in fields["encoded"].values()], -1)
        unimodal = {name: self._output(batch.inputs[name].mean() @ self._weight(f"unimodal.{name}", fused)) for name in self.spec.modalities}
        prediction = self._output(fused @ self._weight("head", fused))
        return Representation(prediction, fused, fields["encoded"], fields["common"], fields["unique"], unimodal)

    def _weight(self, name: str, like: Tensor) -> Tensor:
        return self.weights[name].to(like)

    def _sequence(self, field: str, name: str, batch: Batch) -> Sequence:
        raw = batch.inputs[name]
        values = torch.tanh(raw.values @ self._weight(f"{field}.{name}", raw.values))  # (B, T, width)
        if not self.sequences:
            return Sequence.vector(Sequence(values, raw.mask).mean())
        return Sequence(torch.where(raw.mask.unsqueeze(-1), values, JUNK), raw.mask)

    def _output(self, value: Tensor) -> Tensor:
        return value.squeeze(-1) if self.spec.inputs.task == "regression" else value


def _clean(sequence: Sequence) -> Sequence:
    return Sequence(sequence.values * sequence.mask.unsqueeze(-1), sequence.mask)


def completed(spec: RepresentationSpec, reference: RepresentationSpec) -> RepresentationSpec:
    """A model's specification with the fields that it does not fill taken from the reference."""
    changes: dict[str, Any] = {name: getattr(reference, name) for name in ("encoded", "common", "unique", "unimodal_predictions")}
    return dataclasses.replace(spec, **{name: value for name, value in changes.items() if not getattr(spec, name)})


def complete(representation: Representation, reference: Representation) -> Representation:
    """A model's representation with the fields that it does not fill taken from the reference."""
    changes: dict[str, Any] = {name: getattr(reference, name) for name in ("encoded", "common", "unique", "unimodal_predictions")}
    return dataclasses.replace(representation, **{name: value for name, value in changes.items() if not getattr(representation, name)})


def cut(representation: Representation, scale: float = 1.0, dtype: torch.dtype | None = None) -> Representation:
    """The same numbers as leaves of a new graph, which ask for gradients; `scale` multiplies the features, `dtype` is that of all floats."""

    def leaf(value: Tensor, factor: float = 1.0) -> Tensor:
        if not value.is_floating_point():
            return value.detach().clone()
        return (value.detach() * factor).to(dtype or value.dtype).clone().requires_grad_()

    def sequences(found: Mapping[str, Sequence] | None) -> dict[str, Sequence] | None:
        return None if found is None else {name: Sequence(leaf(sequence.values, scale), sequence.mask) for name, sequence in found.items()}

    unimodal = representation.unimodal_predictions
    return Representation(
        leaf(representation.prediction),
        leaf(representation.fused, scale),
        sequences(representation.encoded) or {},
        sequences(representation.common),
        sequences(representation.unique),
        None if unimodal is None else {name: leaf(value) for name, value in unimodal.items()},
        {name: leaf(value) for name, value in representation.extra.items()},
    )


def leaves(representation: Representation, field: str) -> list[Tensor]:
    """The tensors of a field, or of one ``extra.<key>``."""
    if field.startswith("extra."):
        return [representation.extra[field.removeprefix("extra.")]]
    found = getattr(representation, field)
    values = found.values() if isinstance(found, Mapping) else [found]
    return [value.values if isinstance(value, Sequence) else value for value in values]
