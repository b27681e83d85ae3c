"""A split as resident tensors, from which a batch is an index selection: no workers, no collation, no copy of what padding there is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mmbench.batch import Batch, Sequence
from mmbench.data.dataset import Modality, Split

LEVELS = 4


class TensorSplit:
    """The tensors of a split, on the device where they fit into half of its free memory, else pinned in main memory."""

    def __init__(self, split: Split, device: torch.device):
        self.size = len(split)
        self.ids = split.ids
        self.device = device
        # A waveform keeps its length: several encoders change their features with it.
        self.extents = {name: extent(part.mask if part.kind != "waveform" else np.ones_like(part.mask)) for name, part in split.inputs.items()}
        self.levels = [{name: _level(own, k) for name, own in self.extents.items()} for k in range(1, LEVELS + 1)]
        self.ragged = {name for name, part in split.inputs.items() if part.kind == "tokens" and (part.mask.sum(1) == self.extents[name]).all()}
        home = device if _fits(split, device) else torch.device("cpu")
        self.on_device = home == device
        self.inputs = {name: (_tensor(part.values, home, device), _tensor(part.mask, home, device)) for name, part in split.inputs.items()}
        self.target = _tensor(split.target, home, device)
        self.unimodal_targets = {name: _tensor(target, home, device) for name, target in split.unimodal_targets.items()}

    @cached_property
    def finite(self) -> bool:
        """Whether all features are; they do not change, so the host looks at them and waits once."""
        parts = [values for values, _ in self.inputs.values() if values.is_floating_point() and values.numel()]
        return all(math.isfinite(largest(values).item()) for values in parts)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample, where any modality has tokens, else the frames of all modalities: (N,)."""
        tokens = [name for name, (values, _) in self.inputs.items() if not values.is_floating_point()]
        return np.sum([self.extents[name] for name in tokens or self.extents], 0)

    def batch(self, index: Tensor, moved: Tensor | None = None, fixed: bool = False) -> Batch:
        """The samples at `index` (B,), a CPU tensor (`moved`: the same on the device). Each modality is cut after the longest of these samples.

        `fixed`: after one of a few lengths instead, the least share (a quarter, a half, ...) of every modality's longest that holds these samples.
        `Sequence.lengths` is then left out, since code that goes by them has other shapes for each batch.
        """
        rows = index.numpy()
        extents = {name: int(own[rows].max(initial=1)) for name, own in self.extents.items()}
        if fixed:
            extents = next(level for level in self.levels if all(level[name] >= length for name, length in extents.items()))
        moved = index.to(self.device) if moved is None else moved
        home = moved if self.on_device else index
        inputs = {}
        for name, (values, mask) in self.inputs.items():
            length = extents[name]
            lengths = tuple(self.extents[name][rows].tolist()) if name in self.ragged and not fixed else None
            inputs[name] = Sequence(self._pick(values.narrow(1, 0, length), home), self._pick(mask.narrow(1, 0, length), home), lengths)
        unimodal = {name: self._pick(target, home) for name, target in self.unimodal_targets.items()}
        return Batch(moved, inputs, self._pick(self.target, home), unimodal)

    def batches(self, size: int, order: Tensor | None = None, fixed: bool = False) -> Iterator[Batch]:
        """The whole split in its own order, or in another (N,), which goes to the device once. `fixed` as for `batch`, the last one apart."""
        order = torch.arange(self.size) if order is None else order
        for index, moved in zip(order.split(size), order.to(self.device).split(size), strict=True):
            yield self.batch(index, moved, fixed and len(index) == size)

    def _pick(self, values: Tensor, index: Tensor) -> Tensor:
        return values.index_select(0, index).to(self.device, non_blocking=True)


def largest(values: Tensor) -> Tensor:
    """The largest absolute value, or NaN: without a copy, and many times as fast as torch's maximum norm on a CPU. At least one value."""
    low, high = torch.aminmax(values)
    return torch.maximum(-low, high)


def extent(mask: np.ndarray) -> np.ndarray:
    """Position after the last real frame of each sample: (N, T) -> (N,)."""
    return np.where(mask.any(1), mask.shape[1] - mask[:, ::-1].argmax(1), 0)


def _level(extents: np.ndarray, k: int) -> int:
    """k/4 of the longest sample's length, rounded up; samples of one length, as waveforms are, keep it."""
    longest = int(extents.max(initial=1))
    return longest if extents.min(initial=longest) == longest else -(-longest * k // LEVELS)


def _fits(split: Split, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(_bytes(part) for part in split.inputs.values()) < free / 2


def _bytes(part: Modality) -> int:
    return part.values.nbytes + part.mask.nbytes


def _tensor(array: np.ndarray, home: torch.device, device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # a memory map, which is only read
        tensor = torch.from_numpy(np.asarray(array))
    if home.type == "cpu":
        return tensor.pin_memory() if device.type == "cuda" else tensor
    return tensor.to(home)
