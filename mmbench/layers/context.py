"""Keys and values of a context that all blocks of a cross-modal transformer attend to."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def context_key_values(context: Tensor, blocks: Iterable[tuple[nn.Linear, nn.LayerNorm]]) -> tuple[Tensor, ...]:
    """linear(norm(context)) of each block: (B, S, d) -> a tensor (B, S, d') for each block, whose linear layers have one width d'.

    The context is the same for all blocks, so it is normalised once, n(c), and goes through one product with all their weights:
    W (g ∘ n(c) + h) + b = (W diag g) n(c) + (W h + b), where g and h are the scale and the shift of a block's norm.
    """
    pairs = list(blocks)
    weight = torch.cat([linear.weight * norm.weight for linear, norm in pairs])  # (blocks·d', d)
    bias = torch.cat([torch.addmv(linear.bias, linear.weight, norm.bias) for linear, norm in pairs])  # (blocks·d',)
    norm = pairs[0][1]
    return F.linear(F.layer_norm(context, norm.normalized_shape, eps=norm.eps), weight, bias).chunk(len(pairs), dim=-1)
