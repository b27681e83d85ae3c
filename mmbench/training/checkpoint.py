"""Checkpoints: one file, written atomically, read with ``weights_only=True``. Random streams start anew each epoch, so none is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmbench.errors import RunError
from mmbench.files import write
from mmbench.plugins import one_line
from mmbench.training.network import Network
from mmbench.training.optim import Schedule


def save_checkpoint(
    path: Path, fingerprint: str, network: Network, optimizer: Any = None, schedule: Schedule | None = None, progress: dict[str, Any] | None = None
) -> None:
    """Write the state of the network, and of the optimizer and the progress where the run is to go on from it."""
    state = {
        "fingerprint": fingerprint,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict() if optimizer else None,
        "schedule": schedule.state_dict() if schedule else None,
        "progress": progress,
    }
    write(path, lambda file: torch.save(state, file))


def load_checkpoint(
    path: Path,
    fingerprint: str,
    network: Network,
    optimizer: Any = None,
    schedule: Schedule | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote; returns the progress. Raises `RunError` for a damaged file or one of another experiment."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if state["fingerprint"] != fingerprint:
            raise RunError(f"{path}: belongs to the experiment {state['fingerprint']}, not {fingerprint}; remove the folder or choose another --out")
        network.load_state_dict(state["network"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
    except RunError:
        raise
    except Exception as error:
        raise RunError(f"{path}: the checkpoint cannot be read ({one_line(error)[:200]}); start the run anew with --rerun failed") from error
    return state["progress"] or {}
