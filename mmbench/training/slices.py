"""Batches of token ids cut into slices of samples of like length, so that an encoder computes little padding."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from mmbench.batch import Sequence as BatchSequence
from mmbench.interfaces import FeatureExtractor
from mmbench.layers import slice_sizes

OVERHEAD = 20
"""What one more slice costs, in tokens: with each, all weights are read, and all their gradients written, once more (BERT-base on one CPU core)."""


def in_slices(encoder: FeatureExtractor, raw: BatchSequence) -> BatchSequence:
    """`encoder(raw)`, computed on slices of the samples in the order of their lengths, each cut after its longest, and put back in order.

    Equal up to rounding, since padding changes no feature of a token. In one piece where lengths are not known, where the encoder skips padding by
    itself, and on a GPU, where launches cost more than padding.
    """
    if raw.lengths is None or raw.values.device.type != "cpu" or encoder.packs:
        return encoder(raw)
    order = sorted(range(len(raw.lengths)), key=raw.lengths.__getitem__, reverse=True)
    lengths = sorted(raw.lengths, reverse=True)
    sizes = slice_sizes(lengths, OVERHEAD)
    if len(sizes) == 1:
        return encoder(raw)
    parts, start = [], 0
    for size in sizes:
        rows, longest = torch.tensor(order[start : start + size]), max(1, lengths[start])
        parts.append(encoder(BatchSequence(raw.values[rows, :longest], raw.mask[rows, :longest], tuple(lengths[start : start + size]))))
        start += size
    length = max(part.values.shape[1] for part in parts)
    values = torch.cat([pad(part.values, (0, 0, 0, length - part.values.shape[1])) for part in parts])  # (B, T', width)
    mask = torch.cat([pad(part.mask, (0, length - part.mask.shape[1])) for part in parts])
    back = torch.empty(len(order), dtype=torch.long).scatter_(0, torch.tensor(order), torch.arange(len(order)))
    return BatchSequence(values[back], mask[back])
