"""SLaD's losses, each usable with any backbone; what compares two modalities is summed over the pairs of modalities."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import AlignmentLoss, FieldSpec, RepresentationSpec
from mmbench.layers import at_least_float32, masked_mean, without_autocast
from mmbench_slad.config import SladContrastiveConfig, SladMultilabelConfig, SladRepulsiveConfig, UnimodalRegressionConfig
from mmbench_slad.labels import label_overlap, label_similarity

LEAST_NORM = 1e-8  # features that are all zero have cosine 0 with any


class UnimodalRegression(AlignmentLoss):
    """Σ_m mean_i |ŷ_i^m - y_i^m|, the unimodal part of L_cls. Source: section 3.3, Eq. 22.

    ŷ^m: `unimodal_predictions` (B,), in units of the labels. y^m: see the option `target`.
    """

    terms: ClassVar[tuple[str, ...]] = ("unimodal",)

    def __init__(self, spec: RepresentationSpec, config: UnimodalRegressionConfig):
        super().__init__(spec, config)
        self.target = config.target
        if not spec.unimodal_predictions:
            raise ValueError(
                "unimodal_regression needs 'unimodal_predictions', which this model does not return: use a model or an adapter that does"
            )

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        assert representation.unimodal_predictions is not None
        predictions = representation.unimodal_predictions
        own = batch.unimodal_targets if self.target == "own_if_present" else {}
        with without_autocast(representation.fused):
            predicted = torch.stack([at_least_float32(value) for value in predictions.values()])  # (M, B)
            if self.target == "none":
                return {"unimodal": predicted.sum() * 0.0}
            target = torch.stack([own.get(m, batch.target).to(predicted.dtype) for m in predictions])
            return {"unimodal": (predicted - target).abs().mean(1).sum()}


class _Pairwise(AlignmentLoss):
    """What the three losses on pairs of modalities share: the cosines of pooled features, and the sub-modal labels.

    In a pair, text comes first, so that the printed direction is text to audio whatever the order of the modalities.
    """

    first: Tensor  # (P,) places of the modalities of each pair
    second: Tensor

    def __init__(self, spec: RepresentationSpec, config: SladContrastiveConfig | SladRepulsiveConfig | SladMultilabelConfig, name: str, field: str):
        super().__init__(spec, config)
        self.field, self.labels, self.temperature = field, config.labels, config.temperature
        declared: Mapping[str, FieldSpec] | None = getattr(spec, field)
        if not declared:
            raise ValueError(f"{name} needs '{field}', which this model does not return: use a model or an adapter that does")
        if len(declared) < 2:
            raise ValueError(f"{name} compares modalities and needs two or more, but there is only {list(declared)}")
        if len({entry.width for entry in declared.values()}) > 1:
            raise ValueError(f"{name} needs one width for all modalities, got { ({m: entry.width for m, entry in declared.items()}) }")
        self.name = name
        self.modalities = sorted(declared, key=lambda m: m != "text")
        self.range = max(map(abs, spec.inputs.label_range)) if spec.inputs.label_range else 1.0
        pairs = torch.tensor(list(itertools.combinations(range(len(self.modalities)), 2)))
        self.register_buffer("first", pairs[:, 0].clone(), persistent=False)
        self.register_buffer("second", pairs[:, 1].clone(), persistent=False)

    def _similarity(self, representation: Representation) -> Tensor:
        """⟨x_i, z_j⟩/τ of the normalised masked means of both modalities of each pair: (P, B, B). Source: Eq. 13, 17."""
        sequences: Mapping[str, Sequence] = getattr(representation, self.field)
        features = torch.stack([masked_mean(sequences[m]) for m in self.modalities])  # (M, B, d)
        features = F.normalize(features, dim=-1, eps=LEAST_NORM)
        return features[self.first] @ features[self.second].mT / self.temperature

    def _labels(self, representation: Representation, batch: Batch) -> Tensor:
        """The sub-modal labels of each pair as parts of the label range: (2, P, B)."""
        given = batch.unimodal_targets if self.labels == "annotated" else representation.unimodal_predictions
        missing = [m for m in self.modalities if m not in (given or {})]
        if given is None or missing:
            raise ValueError(
                f"{self.name}: there are no {self.labels} labels of {', '.join(missing)}"
                + ("; use `labels: predicted` with this data set" if self.labels == "annotated" else "")
            )
        y = torch.stack([at_least_float32(given[m]) for m in self.modalities]) / self.range  # (M, B)
        return torch.stack([y[self.first], y[self.second]])

    def _weights(self, representation: Representation, batch: Batch, config: SladContrastiveConfig | SladRepulsiveConfig, like: Tensor) -> Tensor:
        """ω of Eq. 12 for each pair, or ones: (P, B)."""
        if not config.label_weights:
            return like.new_ones(like.shape[:2])
        first, second = self._labels(representation, batch)  # (P, B) each
        omega = label_similarity(first, second, config.bandwidth, config.tolerance).to(like.dtype)
        self.diagnostics["omega"] = omega.mean()
        return omega


class SladContrastive(_Pairwise):
    """L_con = 1/B Σ_i ω_i (L_i^pos + λ L_i^neg), summed over the pairs of modalities. Source: Eq. 13-16.

    L_i^pos = -log exp(S_ii) / Σ_j exp(S_ij); L_i^neg = mean over the K largest S_ij, j ≠ i, of log(1 + exp(S_ij)) (K' = min(K, B-1));
    λ = τ σ(mean_i S_ii). S: cosines over τ of the pooled invariant features. No gradient passes through ω and λ. A batch of one gives 0.
    Diagnostics: `omega`, and the mean cosines of the `positive` pairs and of the `hardest` negatives.
    """

    terms: ClassVar[tuple[str, ...]] = ("contrastive",)

    def __init__(self, spec: RepresentationSpec, config: SladContrastiveConfig):
        super().__init__(spec, config, "slad_contrastive", "common")
        self.config = config

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        self.diagnostics = {}
        with without_autocast(representation.fused):
            S = self._similarity(representation)  # (P, B, B)
            if S.shape[-1] < 2:
                return {"contrastive": S.sum() * 0.0}
            omega = self._weights(representation, batch, self.config, S)  # (P, B)
            positive = S.diagonal(dim1=-2, dim2=-1)  # (P, B)
            factor = self.temperature * positive.detach().mean(-1, keepdim=True).sigmoid()  # λ, (P, 1)
            loss = self._direction(S, positive, factor)
            if self.config.symmetric:
                loss = (loss + self._direction(S.mT, positive, factor)) / 2
            self.diagnostics["positive"] = positive.detach().mean() * self.temperature
            self.diagnostics["hardest"] = _off_diagonal(S.detach()).amax(-1).mean() * self.temperature
            return {"contrastive": (omega * loss).mean(1).sum()}

    def _direction(self, S: Tensor, positive: Tensor, factor: Tensor) -> Tensor:
        hard = _off_diagonal(S).topk(min(self.config.top_k, S.shape[-1] - 1), dim=-1).values  # (P, B, K')
        return S.logsumexp(-1) - positive + factor * F.softplus(hard).mean(-1)  # (P, B)


class SladRepulsive(_Pairwise):
    """L_rep = 1/Σω Σ_i ω_i max(0, r_i - m), r_i = max_{j≠i} R_ij, summed over the pairs of modalities. Source: Eq. 17-18.

    R: cosines over τ of the pooled specific features; m = `margin`/τ. With `include_diagonal` the maximum is over all j.
    No gradient passes through ω. Where all ω are 0, and for a batch of one, the loss is 0.
    Diagnostics: `omega`, the mean cosine of the `hardest` negatives, and the share of samples that are `repelled` (r_i > m).
    """

    terms: ClassVar[tuple[str, ...]] = ("repulsive",)

    def __init__(self, spec: RepresentationSpec, config: SladRepulsiveConfig):
        super().__init__(spec, config, "slad_repulsive", "unique")
        self.config = config

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        self.diagnostics = {}
        with without_autocast(representation.fused):
            R = self._similarity(representation)  # (P, B, B)
            if R.shape[-1] < 2:
                return {"repulsive": R.sum() * 0.0}
            omega = self._weights(representation, batch, self.config, R)  # (P, B)
            hardest = (R if self.config.include_diagonal else _off_diagonal(R)).amax(-1)  # (P, B)
            hinge = F.relu(hardest - self.config.margin / self.temperature)
            self.diagnostics["hardest"] = hardest.detach().mean() * self.temperature
            self.diagnostics["repelled"] = (hinge.detach() > 0).to(R.dtype).mean()
            total = omega.sum(1).clamp(min=torch.finfo(R.dtype).tiny)
            return {"repulsive": ((omega * hinge).sum(1) / total).sum()}


class SladMultilabel(_Pairwise):
    """L_ml = 1/B Σ_i Σ_{j≠i} W_ij M_ij (-log exp(S_ij) / Σ_{k≠i} exp(S_ik)), summed over the pairs of modalities. Source: Eq. 19-21.

    S: cosines over τ of the pooled invariant features. M_ij = 1[y_i · y_j > 0] of the sub-modal labels y_i, one of each modality, and
    W_ij = |y_i ∩ y_j| / |y_i| · 1 / (1 + |y_i| - |y_i ∩ y_j|), where |y| counts the labels that are not zero and ∩ keeps those of one sign.
    No gradient passes through W and M. A batch of one gives 0. Diagnostics: `positives`, the mean Σ_j W_ij M_ij.
    """

    terms: ClassVar[tuple[str, ...]] = ("multilabel",)

    def __init__(self, spec: RepresentationSpec, config: SladMultilabelConfig):
        super().__init__(spec, config, "slad_multilabel", "common")
        self.config = config

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        self.diagnostics = {}
        with without_autocast(representation.fused):
            S = self._similarity(representation)  # (P, B, B)
            if S.shape[-1] < 2:
                return {"multilabel": S.sum() * 0.0}
            labels = self._labels(representation, batch)  # (2, P, B)
            weight = label_overlap(labels.movedim(0, -1), self.config.overlap, self.config.tolerance).to(S.dtype)  # (P, B, B)
            negative_log = _off_diagonal(S).logsumexp(-1, keepdim=True) - S  # (P, B, B)
            self.diagnostics["positives"] = weight.sum(-1).mean()
            return {"multilabel": (weight * negative_log).sum(-1).mean(1).sum()}


def _off_diagonal(matrix: Tensor) -> Tensor:
    """The diagonal becomes -∞: (..., B, B) -> (..., B, B)."""
    return matrix.masked_fill(torch.eye(matrix.shape[-1], dtype=torch.bool, device=matrix.device), -torch.inf)
