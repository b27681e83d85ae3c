"""What makes any loss fit any model: the fields that a loss needs and a model lacks, made from its `encoded` features.

Projections to one width are frozen, orthogonal and seeded: trainable ones let a loss shrink its own inputs instead of moving the encoders.
Splitting heads are trained, and normalised at their end for the same reason.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.batch import Representation, Sequence
from mmbench.component import FieldSpec, RepresentationSpec


class Normalize(nn.BatchNorm1d):
    """Batch normalisation of the real frames of a sequence, without affine parameters; running statistics in evaluation and at one sample.

    One sample alone, normalised by itself, would have the mean zero whatever it shows. Its frames still move the running statistics.
    """

    def __init__(self, width: int):
        super().__init__(width, affine=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """(B, T, D), (B, T) -> (B, T, D), padding zero. Padding takes no part in the statistics. At least float32, under autocast too."""
        running_mean, running_var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        values = values.to(running_mean.dtype)
        weight = mask.unsqueeze(-1).to(values.dtype)  # (B, T, 1)
        mean, var = running_mean, running_var
        if self.training:
            count = weight.sum().clamp(min=1.0)
            batch_mean = (values * weight).sum((0, 1)) / count  # (D,)
            batch_var = ((values - batch_mean).square() * weight).sum((0, 1)) / count
            several = mask.any(1).sum() > 1  # samples with a real frame
            mean = torch.where(several, batch_mean, running_mean)
            var = torch.where(several, batch_var, running_var)
            with torch.no_grad():
                step = self.momentum * (count > 1).to(values.dtype)  # type: ignore[operator]
                running_mean.lerp_(batch_mean, step)
                running_var.lerp_(batch_var, step)
        return (values - mean) * torch.rsqrt(var + self.eps) * weight


class Adapters(nn.Module):
    """Adds `fields` to a representation. `kind`: ``auto`` (projections frozen, heads trained), ``frozen`` or ``trained`` for all of them.

    Every kind starts from the same weights, so that a comparison of kinds is one of learning alone. The running statistics of frozen heads
    still move: they are no parameters, and only a batch of one sample is normalised by them.
    """

    def __init__(self, spec: RepresentationSpec, fields: tuple[str, ...], kind: str = "auto"):
        super().__init__()
        self.fields = fields
        widths = {name: field.width for name, field in spec.encoded.items()}
        self.width = max(widths.values())
        changes: dict[str, Any] = {}
        split = {name: FieldSpec(self.width, field.sequence) for name, field in spec.encoded.items()}
        if {"common", "unique"} & set(fields):
            self.projections = nn.ModuleDict({name: _orthogonal(width, self.width) for name, width in widths.items() if width != self.width})
            self.projections.requires_grad_(kind == "trained")
        for field in ("common", "unique"):
            if field in fields:
                changes[field] = split
        if "common" in fields:
            self.common = nn.Linear(self.width, self.width)
            self.common_norms = nn.ModuleDict({name: Normalize(self.width) for name in widths})
        if "unique" in fields:
            self.unique = nn.ModuleDict({name: nn.Linear(self.width, self.width) for name in widths})
            self.unique_norms = nn.ModuleDict({name: Normalize(self.width) for name in widths})
        if "unimodal_predictions" in fields:
            self.unimodal = nn.ModuleDict({name: nn.Linear(width, spec.inputs.outputs) for name, width in widths.items()})
            changes["unimodal_predictions"] = tuple(widths)
        if kind == "frozen":
            self.requires_grad_(False)
        self.regression = spec.inputs.task == "regression"
        self.spec = dataclasses.replace(spec, **changes)

    def forward(self, representation: Representation) -> Representation:
        """The representation with the added fields; those that the model fills are left alone."""
        changes: dict[str, Any] = {}
        encoded = representation.encoded
        if {"common", "unique"} & set(self.fields):
            wide = {
                name: self.projections[name](sequence.values) if name in self.projections else sequence.values for name, sequence in encoded.items()
            }
        if "common" in self.fields:
            changes["common"] = {
                name: Sequence(self.common_norms[name](self.common(wide[name]), sequence.mask), sequence.mask) for name, sequence in encoded.items()
            }
        if "unique" in self.fields:
            changes["unique"] = {
                name: Sequence(self.unique_norms[name](self.unique[name](wide[name]), sequence.mask), sequence.mask)
                for name, sequence in encoded.items()
            }
        if "unimodal_predictions" in self.fields:
            outputs = {name: self.unimodal[name](sequence.mean()) for name, sequence in encoded.items()}  # (B, outputs)
            changes["unimodal_predictions"] = {name: value.squeeze(-1) if self.regression else value for name, value in outputs.items()}
        return dataclasses.replace(representation, **changes)

    def describe(self) -> list[dict[str, Any]]:
        """What was added, for the record and the tables: one entry per part with its number of parameters."""
        parts = []
        for name, module in self.named_children():
            if sum(p.numel() for p in module.parameters()):
                trained = any(p.requires_grad for p in module.parameters())
                count = sum(p.numel() for p in module.parameters())
                parts.append({"field": name, "kind": "trained" if trained else "frozen", "parameters": count})
        return parts


def _orthogonal(width: int, target: int) -> nn.Linear:
    layer = nn.Linear(width, target, bias=False)
    nn.init.orthogonal_(layer.weight)
    return layer
