"""How alike the labels of two modalities are: the weight omega (Eq. 7-12) and the overlap of label sets (Eq. 19-20)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-8  # of Eq. 10; also taken for that of Eq. 20


def label_similarity(first: Tensor, second: Tensor, bandwidth: float = 0.5, tolerance: float = 1e-3) -> Tensor:
    """ω = ω_structure · exp(-(y¹ - y²)² / 2α²), clamped to [0, 1]. Source: Eq. 7-12.

    `first`, `second`: sub-modal labels y¹, y² of one shape, as parts of the data set's label range (in [-1, 1]). `bandwidth`: α.
    They are detached: a network could otherwise lower a weighted loss by making its labels disagree.

    The first relation that holds decides ω_structure; "zero" and "equal" are meant up to `tolerance`:

    | relation | y¹, y² | ω_structure |
    |---|---|---|
    | 1 (Eq. 7) | signs differ, or one is zero | 0 |
    | 2 (Eq. 8) | equal | 1 |
    | 3 (Eq. 9) | same sign, not equal | 0.1 + 0.8 · min(abs y¹, abs y²) / (max(abs y¹, abs y²) + 1e-8) |

    So two zeros are relation 1, although they are equal.
    """
    first, second = first.detach(), second.detach()
    small, large = torch.minimum(first.abs(), second.abs()), torch.maximum(first.abs(), second.abs())
    difference = (first - second).abs()
    incompatible = (small <= tolerance) | (first.sign() != second.sign())
    structure = torch.where(difference <= tolerance, 1.0, 0.1 + 0.8 * small / (large + EPSILON)).masked_fill(incompatible, 0.0)
    return (structure * torch.exp(-difference.square() / (2 * bandwidth**2))).clamp(0.0, 1.0)


def label_overlap(labels: Tensor, overlap: Literal["sign", "magnitude"] = "sign", tolerance: float = 1e-3) -> Tensor:
    """W_ij · M_ij^pos of sets of labels, 0 for i = j: (..., B, C) -> (..., B, B). Source: Eq. 19-20.

    M_ij = 1[y_i · y_j > 0]; W_ij = K_s · K_d with K_s = |y_i ∩ y_j| / (|y_i| + 1e-8) and K_d = 1 / (1 + |y_i| - |y_i ∩ y_j|).
    The set of a row is its non-zero entries (modality, sign). `sign`: |y_i| counts them, |y_i ∩ y_j| those with equal signs.
    `magnitude`: |y_i| = Σ_c |y_ic| and |y_i ∩ y_j| = Σ_c min(|y_ic|, |y_jc|) over the entries with equal signs.
    The labels are detached; those no further from zero than `tolerance` are zero. W is not symmetric.
    """
    y = labels.detach()
    y = y.masked_fill(y.abs() <= tolerance, 0.0)
    positive = y @ y.mT > 0  # (..., B, B)
    size = y.sign().abs() if overlap == "sign" else y.abs()
    agree = y.sign().unsqueeze(-2) * y.sign().unsqueeze(-3) > 0  # (..., B, B, C)
    shared = torch.where(agree, torch.minimum(size.unsqueeze(-2), size.unsqueeze(-3)), 0.0).sum(-1)  # (..., B, B)
    total = size.sum(-1, keepdim=True)  # (..., B, 1)
    weight = shared / (total + EPSILON) / (1 + total - shared)
    itself = torch.eye(y.shape[-2], dtype=torch.bool, device=y.device)
    return weight.masked_fill(~positive | itself, 0.0)
