"""Random streams, one per purpose, so that adding a loss changes neither the initial model nor the order of the data."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of one run, the same on every machine: ``derive(3, "order", epoch)``."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_everything(seed: int, *purpose: str | int) -> None:
    """Point the global generators of torch, NumPy and Python at the stream of one purpose."""
    value = derive(seed, *purpose)
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)


def make_deterministic(threads: int, strict: bool = False) -> None:
    """Fixed thread count and deterministic kernels. An operation that has none is warned of, and so in the run's log; `strict`: it is an error."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # use_deterministic_algorithms does the same, and imports torch's compiler: over a second
    torch.set_deterministic_debug_mode("error" if strict else "warn")
    # A debugging aid that writes NaN into every new tensor before its values come.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def order(seed: int, epoch: int, size: int) -> torch.Tensor:
    """The order of the training samples in an epoch: a permutation (size,), on the CPU."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(derive(seed, "order", epoch)))


def in_buckets(samples: torch.Tensor, lengths: np.ndarray, batch: int, pool: int, seed: int, epoch: int) -> torch.Tensor:
    """Samples (N,) in an order whose batches are of like length: sorted by `lengths` (N,) within pools of `pool` batches, full batches shuffled."""
    length = torch.from_numpy(lengths)
    pools = [part[length[part].argsort(stable=True)] for part in samples.split(batch * pool)]
    batches = torch.cat(pools).split(batch)
    full = samples.numel() // batch
    shuffled = torch.randperm(full, generator=torch.Generator().manual_seed(derive(seed, "buckets", epoch)))
    return torch.cat([*(batches[i] for i in shuffled.tolist()), *batches[full:]])
