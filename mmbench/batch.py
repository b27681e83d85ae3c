"""The only types that cross a contract at training time: `Sequence`, `Batch`, `Representation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequence:
    """One modality of a batch.

    `values`: (B, T, D) float features, (B, T) int token ids, or (B, T) float waveform. `mask`: (B, T) bool, True on real frames.
    `lengths`: the number of real frames of each sample, for code that skips padding without asking the device for it; None where that is not
    known, or where some sample's real frames are not its first ones. Batches of the training loop have it for token ids.
    """

    values: Tensor
    mask: Tensor
    lengths: tuple[int, ...] | None = None

    @classmethod
    def vector(cls, values: Tensor) -> Sequence:
        """An utterance-level vector (B, D) as a sequence of length one."""
        return cls(values.unsqueeze(1), torch.ones(values.shape[0], 1, dtype=torch.bool, device=values.device))

    def mean(self) -> Tensor:
        """Mean over the real frames: (B, T, D) -> (B, D). A sample without a real frame gives zeros."""
        if self.values.shape[1] == 1:
            return self.values[:, 0] * self.mask
        weight = self.mask.to(self.values.dtype)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1.0)
        return torch.bmm(weight.unsqueeze(1), self.values).squeeze(1)  # (B, 1, T) x (B, T, D)


@dataclass(frozen=True)
class Batch:
    """Samples as a model and a loss see them.

    `index` (B,): position of each sample in the training split. `target`: (B,) float, or (B,) long for classification.
    `unimodal_targets`: by modality, each (B,); empty where the data set has none.
    """

    index: Tensor
    inputs: Mapping[str, Sequence]
    target: Tensor
    unimodal_targets: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Representation:
    """What a fusion model returns. See `RepresentationSpec` for the widths, which are known before the first batch.

    `prediction`: (B,) or (B, classes). `fused`: (B, F). `encoded`: per modality, right before the model splits or mixes modalities.
    `common`, `unique`: modality-invariant and modality-specific features, each of one width for all modalities.
    `unimodal_predictions`: by modality, shaped like `prediction`. `extra`: for a model's own losses, declared by key, never adapted.
    """

    prediction: Tensor
    fused: Tensor
    encoded: Mapping[str, Sequence]
    common: Mapping[str, Sequence] | None = None
    unique: Mapping[str, Sequence] | None = None
    unimodal_predictions: Mapping[str, Tensor] | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
