"""How the processes of a run meet: a store, a device for each, and a place among them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

from mmbench.companions import torchrun
from mmbench.errors import RunError
from mmbench.training.environment import choose_device
from mmbench.training.ranks import PATIENCE, Together


def open_store(rank: int, size: int, port: int, listening: int | None = None) -> dist.Store:
    """What the processes say to each other before they are joined, and when one fails: kept by the first at its `listening` socket, or by torchrun.

    RunError: torchrun has started another number of processes than the config has.
    """
    started = torchrun()
    if started is None:
        return dist.TCPStore("127.0.0.1", port, size, rank == 0, timedelta(seconds=60), wait_for_workers=False, master_listen_fd=listening)
    if started[1] != size:
        raise RunError(f"torchrun has started {started[1]} processes, and training.processes is {size}: they must be as many")
    store: dist.Store = next(dist.rendezvous("env://"))[0]
    return store


def join(rank: int, size: int, device: str, store: dist.Store, check: Callable[[], None] = lambda: None) -> Together:
    """Wait for all, and be one of them. `check`: called while waiting, to raise what speaks against it. RunError: there is no GPU for each."""
    own = device_of(device, rank, size)
    store.set(f"mmbench.here.{rank}", "")
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not store.check([f"mmbench.here.{other}" for other in range(size)]):
        check()
        if time.monotonic() > deadline:
            raise RunError(f"the {size} processes of the run have not all begun after {PATIENCE}")
        time.sleep(0.05)
    return Together(rank, size, own, store)


def device_of(name: str, rank: int, size: int) -> torch.device:
    """A GPU of its own for each process, or the CPU for all."""
    if name.startswith("cuda:"):
        raise RunError(f"training.processes is {size}, and --device {name} is one GPU; use --device cuda")
    device = choose_device(name)
    if device.type == "cuda":
        here = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun() else size  # of several machines, torchrun's
        count = torch.cuda.device_count()
        if count < here:
            raise RunError(f"training.processes is {size}, each wants a GPU, and the run has {count}; set it to {count}, or use --device cpu")
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) if torchrun() else rank)
        torch.cuda.set_device(device)
    return device
