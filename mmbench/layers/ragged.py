"""Batches cut into slices of samples of like length, so that a model computes little padding."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Ordered

import numpy as np
import torch
from torch import Tensor

from mmbench.batch import Sequence

OVERHEAD = 500.0
"""What one more slice costs, in frames of all sequences: its calls take time, and weights are read once more (transformers of width 32 and 64)."""
Read = Callable[[list[Sequence]], Tensor]


def by_length(read: Read, sequences: Ordered[Sequence]) -> Tensor:
    """`read(sequences)`, computed on slices of the samples in the order of their lengths, each cut after its longest, and put back in order.

    `sequences`: M of (B, T_m, d_m). `read`: to (B, F), each row from that sample's real frames alone, as a transformer and a masked mean give it.
    Equal up to rounding; whatever `read` draws at random is drawn slice by slice. In one piece where that costs no more, and on a GPU, where lengths
    are not known without waiting.
    """
    if any(x.mask.device.type != "cpu" for x in sequences):
        return read(list(sequences))
    extents = torch.stack([_extent(x.mask) for x in sequences])  # (M, B)
    totals, order = extents.sum(0).sort(descending=True)
    sizes = slice_sizes(totals.tolist(), OVERHEAD)
    if len(sizes) == 1:
        return read(list(sequences))
    slices = zip(*(_cut(x, extent, order, sizes) for x, extent in zip(sequences, extents, strict=True)), strict=True)
    return torch.cat([read(list(parts)) for parts in slices]).index_select(0, order.argsort())


def slice_sizes(lengths: Ordered[float], overhead: float) -> list[int]:
    """The division of descending lengths l₁ ≥ … ≥ l_B into runs of the least Σ (n_s · l_first(s) + overhead): sizes n_s of the runs, in order.

    Dynamic programme over the end of the last run.
    """
    longest, starts = np.asarray(lengths, float), np.arange(len(lengths))
    best, last = np.zeros(len(lengths) + 1), [0]
    for end in range(1, len(lengths) + 1):
        costs = best[:end] + (end - starts[:end]) * longest[:end]
        last.append(int(costs.argmin()))
        best[end] = costs[last[-1]] + overhead
    sizes, end = [], len(lengths)
    while end:
        sizes.append(end - last[end])
        end = last[end]
    return sizes[::-1]


def _cut(x: Sequence, extents: Tensor, order: Tensor, sizes: list[int]) -> list[Sequence]:
    """The slices of one sequence, each (n_s, longest, d)."""
    longest = [max(1, *part.tolist()) for part in extents[order].split(sizes)]
    parts = zip(x.values.index_select(0, order).split(sizes), x.mask.index_select(0, order).split(sizes), longest, strict=True)
    return [Sequence(values[:, :length], mask[:, :length]) for values, mask, length in parts]


def _extent(mask: Tensor) -> Tensor:
    """Position after the last real frame of each sample: (B, T) -> (B,)."""
    return (mask * torch.arange(1, mask.shape[1] + 1)).amax(1)
