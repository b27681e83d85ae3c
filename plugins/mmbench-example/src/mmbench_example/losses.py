"""`example_cosine`: the cosine distance between the common features of each two modalities of a sample."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench.batch import Batch, Representation
from mmbench.interfaces import AlignmentLoss, RepresentationSpec
from mmbench_example.config import ExampleCosineConfig


class ExampleCosine(AlignmentLoss):
    """Mean over pairs of modalities and samples of max(0, 1 - cos(c_i, c_j) - margin), c_m the masked mean of a modality's common features."""

    terms: ClassVar[tuple[str, ...]] = ("cosine",)

    def __init__(self, spec: RepresentationSpec, config: ExampleCosineConfig):
        super().__init__(spec, config)
        self.margin = config.margin

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        """`representation.common`: M sequences (B, T_m, d) of one width -> {"cosine": scalar in [0, 2]}."""
        assert representation.common is not None  # the component declares that it needs it
        pooled = [sequence.mean().float() for sequence in representation.common.values()]  # M x (B, d)
        distances = torch.stack([1 - F.cosine_similarity(a, b) for a, b in combinations(pooled, 2)])  # (pairs, B)
        return {"cosine": (distances - self.margin).clamp(0, 2).mean()}
