"""LSTMs that honour each sample's own length without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.layers import at_least_float32, without_autocast
from mmbench_baselines.features import cleaned
from mmbench_baselines.packed import lstm, pack

WIDE = 1 << 16  # weights of one gate from which packed frames are quicker on a CPU, also where no sample has padding (measured)


def compact(x: Sequence) -> Sequence:
    """The real frames of each sample, in their order, moved to its start, zeros after them: (B, T, D) -> (B, T, D)."""
    if _readable(x.mask) and bool((x.mask[:, :-1] >= x.mask[:, 1:]).all()):  # nothing to move, which other devices are not asked
        return cleaned(x)
    order = torch.argsort(~x.mask, dim=1, stable=True)  # (B, T)
    return cleaned(Sequence(_take(x.values, order), x.mask.gather(1, order)))


class LSTM(nn.Module):
    """One LSTM layer over the real frames of each sample: (B, T, D) -> states (B, T, H) and the state after the last real frame (B, H).

    With `bidirectional`, widths double: the second half comes from the sample's own frames in reverse, aligned with them again.
    A sample without a real frame ends in zeros. Padding may be anything. Computes in float32 or better: torch has no LSTM in bfloat16 for every
    processor. On a CPU, a wide layer reads the real frames alone (`packed`); else torch's LSTM reads all of them.
    """

    def __init__(self, inputs: int, width: int, bidirectional: bool = False):
        super().__init__()
        self.wide = (inputs + width) * width >= WIDE
        self.forwards = nn.LSTM(inputs, width, batch_first=True)
        self.backwards = nn.LSTM(inputs, width, batch_first=True) if bidirectional else None

    def forward(self, x: Sequence) -> tuple[Sequence, Tensor]:
        """States are at the start of each sample, as `compact` moves its frames."""
        lengths = x.mask.sum(1, keepdim=True)  # (B, 1)
        states, last = self._read(x, every=True)
        mask = torch.arange(x.mask.shape[1], device=x.mask.device) < lengths  # (B, T)
        return Sequence(states * mask.unsqueeze(-1), mask), last * (lengths > 0)

    def last(self, x: Sequence) -> Tensor:
        """The state after the last real frame alone: (B, T, D) -> (B, H)."""
        return self._read(x, every=False)[1] * x.mask.any(1, keepdim=True)

    def _read(self, x: Sequence, every: bool) -> tuple[Tensor, Tensor]:
        """States (B, T, H), only with `every`, and the last ones (B, H)."""
        x = Sequence(at_least_float32(x.values), x.mask)
        layers = [self.forwards] if self.backwards is None else [self.forwards, self.backwards]
        with without_autocast(x.values):
            if self.wide and _readable(x.mask) and bool(x.mask.any()):
                directions = [_packed(layer, x, layer is self.backwards, every) for layer in layers]
            else:
                x = compact(x)
                directions = [_padded(layer, x, layer is self.backwards, every) for layer in layers]
            states, last = zip(*directions, strict=True)
            return torch.cat(states, -1), torch.cat(last, -1)


def _readable(mask: Tensor) -> bool:
    """Whether Python can look at the values without waiting for a device."""
    return mask.device.type == "cpu"


def _packed(layer: nn.LSTM, x: Sequence, reverse: bool, every: bool) -> tuple[Tensor, Tensor]:
    size, length = x.mask.shape
    packing = pack(x.mask, reverse)
    frames = x.values.flatten(0, 1).index_select(0, packing.frames)  # (N, D)
    weight, recurrent, bias, second_bias = layer.parameters()
    h = lstm(frames, packing.counts, weight, recurrent, bias + second_bias)  # (N, H)
    states = h.new_zeros(size * length, h.shape[1]).index_copy(0, packing.starts, h).unflatten(0, (size, length)) if every else h[:0]
    return states, h.index_select(0, packing.last)


def _padded(layer: nn.LSTM, x: Sequence, reverse: bool, every: bool) -> tuple[Tensor, Tensor]:
    """The same from frames that are at the start of each sample."""
    lengths = x.mask.sum(1, keepdim=True)  # (B, 1)
    places = torch.arange(x.mask.shape[1], device=lengths.device)
    mirror = torch.where(x.mask, lengths - 1 - places, places)  # (B, T): its own inverse
    states, _ = layer(_take(x.values, mirror) if reverse else x.values)  # (B, T, H)
    last = _take(states, (lengths - 1).clamp(min=0)).squeeze(1)
    return _take(states, mirror) if reverse and every else states, last


def _take(values: Tensor, places: Tensor) -> Tensor:
    """Frames in another order: (B, T, D), (B, S) -> (B, S, D)."""
    rows = places + values.shape[1] * torch.arange(len(values), device=values.device).unsqueeze(1)
    return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, places.shape)  # whole rows: faster than a gather
