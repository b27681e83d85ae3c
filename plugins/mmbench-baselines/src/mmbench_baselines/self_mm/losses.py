"""Self-MM's loss: each modality learns a label of its own, generated from where the sample lies between the class centres.

Differs from the widely used implementation in these points. The centres are kept as running sums, so that a step costs no more than its batch
(there, means over the whole training split in every step). A class without a member leaves the labels as they are (there, they become NaN).
Labels stay inside the data set's label range (there, within ±3 on CH-SIMS v2.0, too, whose labels lie within ±1). A relative distance of the fused
features of zero is moved away from it without changing its sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation
from mmbench.interfaces import AlignmentLoss, FitContext, RepresentationSpec
from mmbench.layers import at_least_float32, masked_mean, without_autocast
from mmbench_baselines.self_mm.config import SelfSupervisedLabelsConfig

EPSILON = 1e-8


class SelfSupervisedLabels(AlignmentLoss):
    """L = Σ_m mean_i tanh|y_i^m - y_i| · |ŷ_i^m - y_i^m| with a label y^m for each sample and modality. Source: paper, 'ULGM', Algorithm 1.

    ŷ^m: `unimodal_predictions` (B,). y^m starts as the multimodal label y, so that the loss is 0 in the first two epochs. In epoch n = 2, 3, ...,
    with δ = (‖F - C⁻‖ - ‖F - C⁺‖) / (‖F - C⁺‖ + ε) of the fused features F, δ_m of those of the modality (the masked mean of `encoded`), and
    α = δ_m / δ:  y' = ½ α y + ½ (y + δ_m - δ), inside the label range, and  y^m ← (n-1)/(n+1) y^m + 2/(n+1) y'.
    C⁺, C⁻: means of the features, as each training sample was last seen, with a label above and below zero, by each modality's own labels.
    A batch is compared with its labels from before, then gets new ones from the centres without its own features, which are stored last.
    Only a forward pass in training mode changes the memory. Diagnostics: `label_shift`, the mean |y^m - y| of the labels in use.
    """

    terms: ClassVar[tuple[str, ...]] = ("unimodal",)
    banks: Mapping[str, Bank]
    limits: Tensor  # (2,) lowest and highest label
    kept: Tensor  # () float64: (n-1)/(n+1), the share of an old label; 1 in the first epoch. On the device, where a CUDA graph reads it anew

    def __init__(self, spec: RepresentationSpec, config: SelfSupervisedLabelsConfig):
        super().__init__(spec, config)
        missing = [name for name in ("encoded", "unimodal_predictions") if not getattr(spec, name)]
        if missing:
            raise ValueError(f"self_supervised_labels needs '{missing[0]}', which this model does not return: use a model or an adapter that does")
        if spec.inputs.task != "regression":
            raise ValueError("self_supervised_labels compares intensities and needs regression, but the data have classes")
        self.modalities = tuple(spec.encoded)
        self.range = spec.inputs.label_range
        self.register_buffer("limits", torch.tensor(self.range or (-torch.inf, torch.inf)))
        self.register_buffer("kept", torch.ones((), dtype=torch.float64), persistent=False)
        self.fused = Bank(spec.fused, spec.inputs.train_size)
        self.banks = nn.ModuleDict({m: Bank(field.width, spec.inputs.train_size) for m, field in spec.encoded.items()})  # type: ignore[assignment]

    def on_fit_start(self, context: FitContext) -> None:
        """Start with empty memories, and the range of the training labels where the data set has none."""
        for bank in (self.fused, *self.banks.values()):
            bank.clear(context.train_size)
        if self.range is None:
            targets = context.train_targets
            self.limits.copy_(torch.stack([targets.min(), targets.max()]))

    def on_epoch_start(self, epoch: int) -> None:
        """Take note of the epoch, and sum up anew: rounding errors of the running sums last no longer than an epoch."""
        self.kept.fill_((epoch - 1) / (epoch + 1) if epoch > 1 else 1.0)
        for bank in (self.fused, *self.banks.values()):
            bank.recount()

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        assert representation.unimodal_predictions is not None
        with without_autocast(representation.fused):
            y = at_least_float32(batch.target)
            labels = {m: self.banks[m].recall(batch.index, y) for m in self.modalities}  # (B,) each
            losses, shifts = [], []
            for m, label in labels.items():
                shift = (label - y).abs()
                losses.append((shift.tanh() * (at_least_float32(representation.unimodal_predictions[m]) - label).abs()).mean())
                shifts.append(shift.mean())
            self.diagnostics = {"label_shift": torch.stack(shifts).mean()}
            if self.training:
                self._learn(representation, batch.index, y, labels)
            return {"unimodal": torch.stack(losses).sum()}

    @torch.no_grad()
    def _learn(self, representation: Representation, index: Tensor, y: Tensor, labels: dict[str, Tensor]) -> None:
        """New labels (from the second epoch on), then the features and labels of the batch go into the memories."""
        fused = at_least_float32(representation.fused.detach())
        delta, known = self.fused.position(fused)
        for m, label in labels.items():
            features = masked_mean(representation.encoded[m]).detach()
            own, own_known = self.banks[m].position(features)
            divisor = torch.where(delta.abs() < EPSILON, torch.copysign(torch.full_like(delta, EPSILON), delta), delta)
            generated = (0.5 * own / divisor * y + 0.5 * (y + own - delta)).clamp(self.limits[0], self.limits[1])
            moves = known & own_known & (self.kept < 1)
            label = torch.where(moves, self.kept * label + (1 - self.kept) * generated, label)
            self.banks[m].store(index, features, label)
        self.fused.store(index, fused, y)


class Bank(nn.Module):
    """The latest features (N, d) and label (N,) of each training sample, and the sums of the features above and below zero.

    It costs O(batch) to store and to ask; `recount` alone passes over all samples.
    """

    features: Tensor  # (N, d)
    labels: Tensor  # (N,)
    seen: Tensor  # (N,) bool
    sums: Tensor  # (2, d) float64: labels above zero, below zero
    counts: Tensor  # (2,) float64

    def __init__(self, width: int, size: int):
        super().__init__()
        self.register_buffer("features", torch.zeros(0, width))
        self.register_buffer("sums", torch.zeros(2, width, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.float64))
        self.clear(size)

    def clear(self, size: int) -> None:
        """Forget everything and make room for `size` samples."""
        like = self.features
        self.features = like.new_zeros(size, like.shape[1])
        self.register_buffer("labels", like.new_zeros(size))
        self.register_buffer("seen", torch.zeros(size, dtype=torch.bool, device=like.device))
        self.recount()

    def recount(self) -> None:
        """The sums and counts from all samples."""
        members = _members(self.labels, self.seen)  # (N, 2)
        self.sums.copy_(members.T @ self.features.double())
        self.counts.copy_(members.sum(0))

    def recall(self, index: Tensor, default: Tensor) -> Tensor:
        """The labels of the samples (B,); of those that were never stored, the default."""
        return torch.where(self.seen[index], self.labels[index].to(default.dtype), default)

    def position(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(‖F - C⁻‖ - ‖F - C⁺‖) / (‖F - C⁺‖ + ε) of features (B, d) -> (B,), and whether both classes have a member: () bool."""
        centres = (self.sums / self.counts.clamp(min=1.0).unsqueeze(1)).to(features.dtype)  # (2, d)
        positive, negative = torch.linalg.vector_norm(features.unsqueeze(1) - centres, dim=-1).unbind(1)  # (B,) each
        return (negative - positive) / (positive + EPSILON), (self.counts > 0).all()

    def store(self, index: Tensor, features: Tensor, labels: Tensor) -> None:
        """Put the samples in place of what they were before: (B,), (B, d), (B,)."""
        before = _members(self.labels[index], self.seen[index])  # (B, 2)
        after = _members(labels, torch.ones_like(index, dtype=torch.bool))
        features = features.to(self.features.dtype)
        self.sums += after.T @ features.double() - before.T @ self.features[index].double()
        self.counts += after.sum(0) - before.sum(0)
        self.features.index_copy_(0, index, features)
        self.labels.index_copy_(0, index, labels.to(self.labels.dtype))
        self.seen.index_fill_(0, index, True)


def _members(labels: Tensor, seen: Tensor) -> Tensor:
    """Whether each sample counts above zero, and below zero: (n,), (n,) bool -> (n, 2) float64."""
    return (torch.stack([labels > 0, labels < 0], 1) & seen.unsqueeze(1)).double()
