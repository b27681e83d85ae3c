"""One run on several processes (`training.processes`): the encoders are shared out, and everything else is the same in each of them.

Every process, a *rank*, holds the same data, draws the same batches and keeps the same network. It runs the encoders, nearly all of a step's
work, on its own rows of a batch. The features of all rows are then gathered in the batch's order, so model, adapters, task loss and alignment losses
see the whole batch in every rank.

Why a step is that of one process: let f_i(θ) be the features of sample i and L(f_1, …, f_B) the total loss. Each rank has the whole of L, and so
∂L/∂f_i. Going back through its own rows R_r alone, it gets Σ_{i ∈ R_r} ∂L/∂f_i · ∂f_i/∂θ, and the sum over ranks is dL/dθ, since each sample is
in one R_r and its features depend on no other sample. Parameters outside the encoders have their whole gradient in every rank: that of the first is
taken. `DistributedDataParallel` gives each process a batch and a loss of its own and averages the gradients. That is the gradient of L only where L
is a mean over samples: a contrastive loss would lose its pairs across processes, and batch norm, transport, memories and label banks would see
parts of batches.

Random numbers: everything outside the encoders draws the same numbers in every rank as in a single process. Each rank's encoders draw from a stream
of their own. So without dropout in the encoders the numbers are those of one process up to rounding, and with it they are distributed alike.

What the host must know (shapes, which parameters have a gradient, whether to stop) goes over gloo, beside the device: nobody waits for a GPU.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Ordered
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import pad

from mmbench.batch import Sequence
from mmbench.errors import RunError
from mmbench.interfaces import FeatureExtractor
from mmbench.training.encoders import encode
from mmbench.training.seeds import seed_everything

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another that is there and does not answer."""
BUCKET = 32 << 20
"""Bytes of weights or gradients that are sent at a time: what is copied for it stays small."""
DTYPES = torch.float32, torch.bfloat16, torch.float16, torch.float64
ALIKE, NEARLY_ZERO = 1e-2, 1e-4
"""How far apart two ranks' means of a term in an epoch may be: rounding is less, other random numbers are more."""


class PartedError(RunError):
    """Another process of the run has gone or no longer answers; why is to be asked of it."""


class Alone:
    """All there is of a run on one process."""

    first = True

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)

    def begin(self, network: nn.Module, epoch: int) -> None:
        """Before the first epoch, `epoch` of which are done: the same weights everywhere."""

    def epoch(self, seed: int, epoch: int) -> None:
        """An epoch begins."""

    def encode(self, encoder: FeatureExtractor, raw: Sequence) -> Sequence:
        """The features of a batch."""
        return encode(encoder, raw)

    def add_gradients(self, parameters: Ordered[nn.Parameter], encoders: nn.Module) -> None:
        """Make each gradient that of the whole batch, before a step."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any rank."""
        return flag

    def settle(self, network: nn.Module, sums: Mapping[str, float]) -> None:
        """After an epoch's steps: the same buffers everywhere."""

    def share(self, values: np.ndarray) -> np.ndarray:
        """The first rank's numbers."""
        return values

    def copy(self, network: nn.Module) -> None:
        """Give every rank the first one's weights and buffers."""

    def leave(self) -> None:
        """After the last of what is done together."""


class Together(Alone):
    """One rank among `size`. Raises `PartedError` from any method when another has gone."""

    def __init__(self, rank: int, size: int, device: torch.device, store: dist.Store):
        super().__init__(device)
        self.rank, self.size = rank, size
        self.first = rank == 0
        self.stream = Stream(device)
        with _in_touch():
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
            self.data = dist.new_group(backend="nccl", timeout=PATIENCE) if device.type == "cuda" else None

    def begin(self, network: nn.Module, epoch: int) -> None:
        """`RunError`: the ranks have not gone on from the same epoch."""
        epochs = [int(found.item()) for found in self._gather(torch.tensor([epoch]))]
        if len(set(epochs)) > 1:
            raise RunError(f"the processes of the run have read checkpoints of the epochs {', '.join(map(str, epochs))}; start it again")
        self.copy(network)

    def epoch(self, seed: int, epoch: int) -> None:
        self.stream.seed(seed, "dropout", epoch, "rank", self.rank)

    def encode(self, encoder: FeatureExtractor, raw: Sequence) -> Sequence:
        """The features of the whole batch, of which this rank computes, and sends a gradient back through, its own rows."""
        rows, counts = self._rows(raw)
        index = _moved(rows, self.device)
        own: Sequence | None = None
        if rows:
            length = raw.values.shape[1]
            lengths = None if raw.lengths is None else tuple(raw.lengths[row] for row in rows)
            if lengths is not None:
                length = max(1, *lengths)
            with self.stream:
                own = encode(encoder, Sequence(raw.values[index, :length], raw.mask[index, :length], lengths))
        shape = torch.tensor([own.values.shape[1], DTYPES.index(own.values.dtype)] if own else [0, -1])
        shapes = torch.stack(self._gather(shape)).amax(0).tolist()
        length, dtype = shapes[0], DTYPES[shapes[1]]
        block = torch.zeros(max(counts), length, encoder.width + 1, dtype=dtype, device=self.device)  # features and, last, the mask
        if own:
            block[: len(rows), : own.values.shape[1], :-1] = own.values.detach()
            block[: len(rows), : own.values.shape[1], -1] = own.mask
        gathered = block.new_empty(self.size * len(block), *block.shape[1:])
        with _in_touch():
            dist.all_gather_into_tensor(gathered, block, group=self.data)
        whole = gathered.index_select(0, _moved(self._places(raw, counts), self.device))  # (B, T', width + 1)
        values, mask = whole[..., :-1].contiguous(), whole[..., -1] > 0
        if own:
            values = values.index_copy(0, index, pad(own.values, (0, 0, 0, length - own.values.shape[1])))
        elif torch.is_grad_enabled():
            values.requires_grad_()  # as in the other ranks, so that the same is done with them
        return Sequence(values, mask)

    def _order(self, raw: Sequence) -> tuple[list[int], list[int]]:
        """The samples of a batch in the order in which they are dealt out, and how many each rank gets: runs of like length, like many tokens."""
        size = len(raw.values)
        if raw.lengths is None:
            return list(range(size)), deal([1] * size, self.size)
        order = sorted(range(size), key=raw.lengths.__getitem__, reverse=True)
        return order, deal([max(1, raw.lengths[row]) for row in order], self.size)

    def _rows(self, raw: Sequence) -> tuple[list[int], list[int]]:
        order, counts = self._order(raw)
        start = sum(counts[: self.rank])
        return order[start : start + counts[self.rank]], counts

    def _places(self, raw: Sequence, counts: list[int]) -> list[int]:
        """Where each sample of the batch stands in what is gathered, a block of `max(counts)` rows from each rank."""
        order, _ = self._order(raw)
        slots = [rank * max(counts) + i for rank, count in enumerate(counts) for i in range(count)]
        places = [0] * len(order)
        for row, slot in zip(order, slots, strict=True):
            places[row] = slot
        return places

    def add_gradients(self, parameters: Ordered[nn.Parameter], encoders: nn.Module) -> None:
        """Sum over ranks for encoders; the first rank's for all others, so that what is rounded otherwise elsewhere does not add up over steps."""
        shared = {id(p) for p in encoders.parameters()}
        counts = [self.first or id(p) in shared for p in parameters]
        known = torch.tensor([p.grad is not None and mine for p, mine in zip(parameters, counts, strict=True)], dtype=torch.uint8)
        with _in_touch():
            dist.all_reduce(known, dist.ReduceOp.MAX)
        gradients: list[Tensor] = []
        for p, mine, learns in zip(parameters, counts, known.tolist(), strict=True):
            if not learns:
                p.grad = None  # an optimizer leaves it alone
            elif p.grad is None:
                p.grad = torch.zeros_like(p)
            elif not mine:
                p.grad.zero_()
            if p.grad is not None:
                gradients.append(p.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            with _in_touch():
                dist.all_reduce(flat, group=self.data)
            for gradient, total in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
                gradient.copy_(total.view_as(gradient))

    def any(self, flag: bool) -> bool:
        known = torch.tensor([flag], dtype=torch.uint8)
        with _in_touch():
            dist.all_reduce(known, dist.ReduceOp.MAX)
        return bool(known.item())

    def settle(self, network: nn.Module, sums: Mapping[str, float]) -> None:
        """`RunError`: the ranks have come to other terms, as where a component draws numbers that no seed decides."""
        names = int.from_bytes(hashlib.sha256("/".join(sums).encode()).digest()[:7], "big")
        if len({int(found.item()) for found in self._gather(torch.tensor([names]))}) > 1:
            raise RunError("the processes of the run have come to different terms of the loss; training.processes: 1 trains this method")
        for rank, found in enumerate(self._gather(torch.tensor(list(sums.values()), dtype=torch.float64))):
            for name, mine, other in zip(sums, sums.values(), found.tolist(), strict=True):
                same = math.isclose(mine, other, rel_tol=ALIKE, abs_tol=NEARLY_ZERO)
                if math.isfinite(mine) and math.isfinite(other) and not same:
                    raise RunError(
                        f"{name} is {other:.4g} in process {rank + 1} and {mine:.4g} in process {self.rank + 1}, of the same weights and "
                        "samples: a component draws random numbers that the seed does not decide; training.processes: 1 trains this method"
                    )
        self._same(network.buffers())

    def share(self, values: np.ndarray) -> np.ndarray:
        shared = torch.from_numpy(values.copy())
        with _in_touch():
            dist.broadcast(shared, 0)
        found: np.ndarray = shared.numpy()
        return found

    def copy(self, network: nn.Module) -> None:
        self._same(network.parameters())
        self._same(network.buffers())

    def leave(self) -> None:
        with _in_touch():
            dist.barrier()
        dist.destroy_process_group()

    @torch.no_grad()
    def _same(self, tensors: Iterator[Tensor]) -> None:
        """The first rank's values in all of them, bit by bit."""
        held = [tensor for tensor in tensors if tensor.numel()]
        for bucket in _buckets(held):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with _in_touch():
                dist.broadcast(flat.view(torch.uint8), 0, group=self.data)  # of any type
            for tensor, values in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(values.view_as(tensor))

    def _gather(self, mine: Tensor) -> list[Tensor]:
        """A small CPU tensor of each rank."""
        found = [torch.empty_like(mine) for _ in range(self.size)]
        with _in_touch():
            dist.all_gather(found, mine)
        return found


class Stream:
    """Random streams of one's own, in force inside a `with`."""

    def __init__(self, device: torch.device):
        self.device = device
        self._inside = self._outside = self._now()

    def seed(self, seed: int, *purpose: str | int) -> None:
        """Start it anew for one purpose."""
        with self:
            seed_everything(seed, *purpose)

    def __enter__(self) -> None:
        self._outside = self._now()
        self._set(self._inside)

    def __exit__(self, *error: object) -> None:
        self._inside = self._now()
        self._set(self._outside)

    def _now(self) -> tuple[Any, ...]:
        device = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return torch.get_rng_state(), device, random.getstate(), np.random.get_state()

    def _set(self, state: tuple[Any, ...]) -> None:
        host, device, python, numpy = state
        torch.set_rng_state(host)
        if device is not None:
            torch.cuda.set_rng_state(device, self.device)
        random.setstate(python)
        np.random.set_state(numpy)


def deal(weights: Ordered[int], shares: int) -> list[int]:
    """How many of the items, in their order, each share gets, so that the weights of the shares are alike; none is empty while there are items."""
    ends = np.concatenate([[0], np.cumsum(weights)])
    count, cuts = len(weights), [0]
    for share in range(1, shares):
        nearest = int(np.abs(ends - ends[-1] * share / shares).argmin())
        cuts.append(min(max(nearest, cuts[-1] + 1), max(count - (shares - share), min(share, count))))
    return np.diff([*cuts, count]).tolist()  # type: ignore[no-any-return]


@contextmanager
def _in_touch() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo, NCCL and stores alike
        raise PartedError(f"another process of the run has gone or does not answer ({' '.join(str(error).split())[:200]})") from error


def _moved(rows: list[int], device: torch.device) -> Tensor:
    """Row numbers on the device, without waiting for it."""
    index = torch.tensor(rows, dtype=torch.long)
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of tensors of one type, of about `BUCKET` bytes."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(one.nbytes for one in bucket) + tensor.nbytes > BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
