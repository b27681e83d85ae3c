"""MISA's losses, each usable with any backbone. Sequences are pooled first: the masked mean of their real frames.

Differ from the widely used implementation in these points. `cmd` has a gradient where two moments are equal (there, the root of zero has none).
`misa_difference` lets gradients through its normalisation (there, norms are constants, and features shrink). `reconstruction` owns its decoders.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import AlignmentLoss, FieldSpec, RepresentationSpec
from mmbench.layers import masked_mean, without_autocast
from mmbench_baselines.misa.config import CMDConfig, DifferenceConfig, ReconstructionConfig

LEAST_NORM = 1e-6  # features that are equal in the whole batch are zero once centred, and stay zero


class Difference(AlignmentLoss):
    """L_diff = Σ_m ‖H_m^cᵀ H_m^p‖² / (d_c d_p) + Σ_{m<n} ‖H_m^pᵀ H_n^p‖² / d_p², Frobenius norms. Source: paper, 'Difference Loss'.

    H: (B, d), the features centred over the batch, then each sample's normalised to length one. The division, a mean over the elements of a
    product, is the released code's, to which the published weights belong. A batch of one gives 0. One modality has the first sum alone.
    """

    terms: ClassVar[tuple[str, ...]] = ("difference",)

    def __init__(self, spec: RepresentationSpec, config: DifferenceConfig):
        super().__init__(spec, config)
        _fields(spec, "misa_difference", "common", "unique")

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        with without_autocast(representation.fused):
            common, unique = _pooled(representation.common), _pooled(representation.unique)
            c, p = (torch.stack([_directions(x) for x in field.values()]) for field in (common, unique))  # (M, B, d)
            loss = _cross(c, p)
            if len(p) > 1:
                pairs = list(itertools.combinations(p.unbind(), 2))
                loss = loss + _cross(*(torch.stack(side) for side in zip(*pairs, strict=True)))
            return {"difference": loss}


class CentralMomentDiscrepancy(AlignmentLoss):
    """L_sim = mean over pairs m<n of CMD(H_m^c, H_n^c). Source: paper, 'Similarity Loss'; Zellinger et al. 2017.

    CMD(X, Y) = ‖E X - E Y‖ + Σ_{k=2..K} ‖C_k(X) - C_k(Y)‖, C_k(X) = E (X - E X)^k element by element over the batch. The definition divides
    moment k by |b - a|^k for features in [a, b]: MISA's sigmoids have [0, 1], and features of other backbones are taken as they are.
    """

    terms: ClassVar[tuple[str, ...]] = ("cmd",)

    def __init__(self, spec: RepresentationSpec, config: CMDConfig):
        super().__init__(spec, config)
        (common,) = _fields(spec, "cmd", "common")
        if len(common) < 2:
            raise ValueError(f"cmd compares modalities and needs two or more, but there is only {list(common)}")
        self.moments = config.moments

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        with without_autocast(representation.fused):
            x = torch.stack(list(_pooled(representation.common).values()))  # (M, B, d)
            mean = x.mean(1, keepdim=True)
            centred = x - mean
            moments = [mean.squeeze(1)] + [centred.pow(k).mean(1) for k in range(2, self.moments + 1)]
            pairs = list(itertools.combinations(torch.stack(moments, 1).unbind(), 2))  # (K, d) each
            distances = torch.stack([torch.linalg.vector_norm(a - b, dim=-1) for a, b in pairs])  # (pairs, K)
            return {"cmd": distances.sum(-1).mean()}


class Reconstruction(AlignmentLoss):
    """L_recon = mean_m mean_i ‖h_i^m - D_m(h_i^{c,m} + h_i^{p,m})‖² / d_m with a linear D_m for each modality. Source: paper, 'Reconstruction Loss'.

    h: `encoded`, of width d_m, not a constant: gradients reach the encoders by both ways, as in the paper. ValueError: invariant and specific
    features of two widths, which have no sum.
    """

    terms: ClassVar[tuple[str, ...]] = ("reconstruction",)

    def __init__(self, spec: RepresentationSpec, config: ReconstructionConfig):
        super().__init__(spec, config)
        encoded, common, unique = _fields(spec, "reconstruction", "encoded", "common", "unique")
        for m in encoded:
            if common[m].width != unique[m].width:
                raise ValueError(
                    f"reconstruction adds common and unique features, which have widths {common[m].width} and {unique[m].width} for '{m}'"
                )
        self.decoders = nn.ModuleDict({m: nn.Linear(unique[m].width, field.width) for m, field in encoded.items()})

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        with without_autocast(representation.fused):
            encoded, common, unique = (_pooled(getattr(representation, name)) for name in ("encoded", "common", "unique"))
            errors = [F.mse_loss(decoder(common[m] + unique[m]), encoded[m]) for m, decoder in self.decoders.items()]
            return {"reconstruction": torch.stack(errors).mean()}


def _fields(spec: RepresentationSpec, loss: str, *names: str) -> list[Mapping[str, FieldSpec]]:
    fields = []
    for name in names:
        field: Mapping[str, FieldSpec] | None = getattr(spec, name)
        if not field:
            raise ValueError(f"{loss} needs '{name}', which this model does not return: use a model or an adapter that does")
        fields.append(field)
    return fields


def _pooled(field: Mapping[str, Sequence] | None) -> dict[str, Tensor]:
    """The masked mean of each modality (B, d)."""
    assert field is not None
    return {m: masked_mean(x) for m, x in field.items()}


def _directions(x: Tensor) -> Tensor:
    """Centred over the batch, then each row of length one: (B, d) -> (B, d)."""
    return F.normalize(x - x.mean(0), dim=-1, eps=LEAST_NORM)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    """Σ_p of the mean squared element of AₚᵀBₚ: (P, B, d), (P, B, e) -> ()."""
    return (first.mT @ second).square().mean((1, 2)).sum()
