"""A split whose inputs are changed on their way to the network: modalities dropped, frames missing, noise added. Masks and shapes stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping

import torch
from torch import Tensor

from mmbench.batch import Batch, Sequence
from mmbench.data.dataset import CONTEXT
from mmbench.training.seeds import derive
from mmbench.training.tensors import TensorSplit

Change = Callable[[Batch], Batch]


class Altered(TensorSplit):
    """The same samples in the same batches, each batch changed by a function."""

    def __init__(self, split: TensorSplit, change: Change):
        vars(self).update(vars(split))
        self.change = change

    def batches(self, size: int, order: Tensor | None = None, fixed: bool = False) -> Iterator[Batch]:
        """The changed batches."""
        return map(self.change, super().batches(size, order, fixed))


@dataclasses.dataclass(frozen=True)
class Frames:
    """Mean and standard deviation of each column over the real frames of a split: (D,) each."""

    mean: Tensor
    sd: Tensor


def statistics_of(split: TensorSplit, size: int = 128) -> dict[str, Frames]:
    """Of every input that has features; batch by batch, in float64."""
    sums: dict[str, list[Tensor]] = {}
    for power in (1, 2):  # the second pass takes squares around the mean
        for batch in split.batches(size):
            for name, part in batch.inputs.items():
                if part.values.ndim != 3:
                    continue
                frames = part.values[part.mask].double()  # (F, D)
                if power == 2:
                    frames = (frames - sums[name][1] / sums[name][0]).square()
                found = sums.setdefault(name, [torch.zeros((), device=frames.device)] + [frames.new_zeros(frames.shape[1])] * 2)
                found[power] = found[power] + frames.sum(0)
                if power == 1:
                    found[0] = found[0] + len(frames)
    return {name: Frames((total / count).float(), (squares / count).sqrt().float()) for name, (count, total, squares) in sums.items()}


def without(names: Collection[str], frames: Mapping[str, Frames], fill: str) -> Change:
    """Modalities whose real frames all show the same: the training split's mean frame (``mean``), or zeros (``zeros``).

    Token ids and waveforms have no mean frame: they become zeros, that is the first token of the vocabulary (padding), and silence.
    """

    def change(batch: Batch) -> Batch:
        return _replace(batch, {name: _filled(part, frames.get(name), fill) for name, part in batch.inputs.items() if _is_one(name, names)})

    return change


def missing(names: Collection[str], rate: float, draw: int, lengths: Mapping[str, int], size: int) -> Change:
    """Each real frame of these modalities becomes zeros with the probability `rate`; the mask stays, so that the network is not told.

    `lengths`: longest sample by input. One draw decides for all rates: what is missing at a rate is missing at every greater one.
    As in Yuan et al., TFR-Net (ACM MM 2021), and Zhang et al., LNLN (NeurIPS 2024).
    """
    chance = {
        name: torch.rand(size, length, generator=torch.Generator().manual_seed(derive(draw, "missing", name)))
        for name, length in lengths.items()
        if _is_one(name, names)
    }  # by input: (N, T)

    def change(batch: Batch) -> Batch:
        rows, found = batch.index.cpu(), {}
        for name, uniform in chance.items():
            part = batch.inputs[name]
            kept = (uniform[rows, : part.mask.shape[1]] >= rate).to(part.mask.device)  # (B, T)
            kept = kept.unsqueeze(-1) if part.values.ndim == 3 else kept
            found[name] = Sequence(part.values * kept.to(part.values.dtype), part.mask)
        return _replace(batch, found)

    return change


def noisy(names: Collection[str], rate: float, draw: int, frames: Mapping[str, Frames]) -> Change:
    """Gaussian noise of `rate` times each column's standard deviation in training, added to the real frames of these modalities.

    The noise itself is the same for all rates. Token ids and waveforms stay as they are.
    """
    streams = {name: torch.Generator().manual_seed(derive(draw, "noise", name)) for name in frames if _is_one(name, names)}

    def change(batch: Batch) -> Batch:
        found = {}
        for name, stream in streams.items():
            part = batch.inputs[name]
            noise = torch.randn(part.values.shape, generator=stream).to(part.values.device)
            found[name] = Sequence(part.values + rate * frames[name].sd * noise * part.mask.unsqueeze(-1), part.mask)
        return _replace(batch, found)

    return change


def _is_one(name: str, names: Collection[str]) -> bool:
    return name.removesuffix(CONTEXT) in names


def _filled(part: Sequence, frames: Frames | None, fill: str) -> Sequence:
    if frames is None or fill == "zeros":
        return Sequence(torch.zeros_like(part.values), part.mask)
    return Sequence(frames.mean.to(part.values) * part.mask.unsqueeze(-1), part.mask)


def _replace(batch: Batch, inputs: Mapping[str, Sequence]) -> Batch:
    return dataclasses.replace(batch, inputs={**batch.inputs, **inputs})
