"""Where a run is made: its device, and the versions that its record names."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

from mmbench.checkout import commit
from mmbench.errors import RunError
from mmbench.resolve import Resolved
from mmbench.sources import sources


def choose_device(name: str) -> torch.device:
    """The device that ``--device`` names. RunError: it is a GPU, and torch sees none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RunError(f"the device {name!r} was asked for, and torch {torch.__version__} sees no GPU here; use --device cpu")
    return torch.device(name)


def environment(resolved: Resolved, device: torch.device) -> dict[str, Any]:
    """Versions, device and threads, as ``result.json`` has them."""
    packages = ("mmbench", "torch", "numpy", "pandas", "pydantic", "safetensors", "transformers")
    installed = {name: _version(name) for name in packages}
    used = [resolved.model, *resolved.encoders.values(), *resolved.losses]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name, version in installed.items() if version},
        "components": {f"{choice.entry.component.kind} {choice.entry.key}": choice.entry.version for choice in used},
        "sources": sources(resolved),
        "git": commit(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        **({"processes": processes} if (processes := resolved.experiment.training.processes) > 1 else {}),
        "precision": resolved.experiment.training.precision,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
