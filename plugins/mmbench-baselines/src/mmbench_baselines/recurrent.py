"""LSTMs that honour each sample's own length without packing, which would have to wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.layers import at_least_float32, without_autocast


def compact(x: Sequence) -> Sequence:
    """The real frames of each sample, in their order, moved to its start, zeros after them: (B, T, D) -> (B, T, D)."""
    order = torch.argsort(~x.mask, dim=1, stable=True)  # (B, T)
    mask = x.mask.gather(1, order)
    values = x.values.gather(1, order.unsqueeze(-1).expand_as(x.values))
    return Sequence(values.masked_fill(~mask.unsqueeze(-1), 0.0), mask)


class LSTM(nn.Module):
    """One LSTM layer over the real frames of each sample: (B, T, D) -> states (B, T, H) and the state after the last real frame (B, H).

    With `bidirectional`, widths double: the second half comes from the sample's own frames in reverse, aligned with them again.
    A sample without a real frame ends in zeros. Computes in float32 or better: torch has no LSTM in bfloat16 for every processor.
    """

    def __init__(self, inputs: int, width: int, bidirectional: bool = False):
        super().__init__()
        self.forwards = nn.LSTM(inputs, width, batch_first=True)
        self.backwards = nn.LSTM(inputs, width, batch_first=True) if bidirectional else None

    def forward(self, x: Sequence) -> tuple[Sequence, Tensor]:
        """States are at the start of each sample, as `compact` moves its frames."""
        x = compact(Sequence(at_least_float32(x.values), x.mask))
        with without_autocast(x.values):
            return self._read(x)

    def _read(self, x: Sequence) -> tuple[Sequence, Tensor]:
        states, _ = self.forwards(x.values)  # (B, T, H)
        lengths = x.mask.sum(1)  # (B,)
        last = _at(states, lengths)
        if self.backwards is not None:
            places = torch.arange(x.mask.shape[1], device=lengths.device)
            mirror = torch.where(x.mask, lengths.unsqueeze(1) - 1 - places, places)  # (B, T): its own inverse
            reverse, _ = self.backwards(_take(x.values, mirror))
            states = torch.cat([states, _take(reverse, mirror)], -1)  # (B, T, 2H)
            last = torch.cat([last, _at(reverse, lengths)], -1)
        return Sequence(states * x.mask.unsqueeze(-1), x.mask), last


def _take(values: Tensor, places: Tensor) -> Tensor:
    return values.gather(1, places.unsqueeze(-1).expand_as(values))


def _at(states: Tensor, lengths: Tensor) -> Tensor:
    """The state at each sample's last real frame: (B, T, H), (B,) -> (B, H)."""
    places = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[-1])
    return states.gather(1, places).squeeze(1) * (lengths > 0).unsqueeze(-1)
