"""Texts of different lengths in one row without padding: only attention must know where one ends and the next begins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from mmbench_extractors.attention import NAME

PROBE = (3, 2, 3)
"""Lengths of the texts on which `can_pack` asks a network."""


@dataclass(frozen=True)
class Packed:
    """Where each token of a row stands in a batch (B, T) of texts of known lengths; texts of one length stand together.

    `index` (N,): the token's position in the flattened batch. `places` (N,): its position in its text. `groups`: number and length of the texts
    of each length, in the row's order.
    """

    index: Tensor
    places: Tensor
    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, lengths: tuple[int, ...], width: int) -> Packed:
        """From the lengths of the texts of a batch (B, `width`); at least one is not empty."""
        rows = sorted((row for row, length in enumerate(lengths) if length), key=lambda row: lengths[row])
        index = torch.cat([torch.arange(row * width, row * width + lengths[row]) for row in rows])
        places = torch.cat([torch.arange(lengths[row]) for row in rows])
        groups = tuple((len(list(same)), length) for length, same in groupby(lengths[row] for row in rows))
        return cls(index, places, groups)

    def states(self, network: Any, ids: Tensor, first: int) -> Tensor:
        """The last hidden states of token ids (B, T) -> (B, T, width), zero behind each text. `first` is the number of the first position."""
        row = ids.reshape(-1)[self.index].unsqueeze(0)  # (1, N)
        found = network(input_ids=row, position_ids=self.places.unsqueeze(0) + first, packed=self.groups).last_hidden_state[0]  # (N, width)
        empty = found.new_zeros(ids.numel(), found.shape[-1])
        return empty.index_copy(0, self.index, found).view(*ids.shape, -1)


@torch.no_grad()
def can_pack(network: Any, first: int) -> bool:
    """Whether the network gives texts in one row the states that it gives each alone: it is asked, since kinds and releases differ.

    No for one whose attention is its own (DeBERTa), that takes no positions, or whose attention is more than the softmax of a product.
    """
    if getattr(network.config, "_attn_implementation", None) != NAME:
        return False
    lengths, training = PROBE, network.training
    ids = torch.arange(3, 3 + sum(lengths)).remainder(network.get_input_embeddings().num_embeddings)
    packed = Packed.of(lengths, max(lengths))
    batch = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    texts = ids.split(list(lengths))
    for row, text in zip(batch, texts, strict=True):
        row[: len(text)] = text
    network.eval()
    try:
        together = packed.states(network, batch, first)
        alone = [
            network(input_ids=text.unsqueeze(0), attention_mask=torch.ones(1, len(text), dtype=torch.long)).last_hidden_state[0] for text in texts
        ]
        return all(torch.allclose(states[: len(text)], text, atol=1e-4) for states, text in zip(together, alone, strict=True))
    except Exception:  # whatever a network says that cannot be asked in this way
        return False
    finally:
        network.train(training)
