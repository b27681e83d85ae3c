"""A data set as NumPy arrays: what readers produce, the store keeps, transforms change and training selects batches from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmbench.component import InputSpec, ModalitySpec, Task


@dataclass(frozen=True)
class Modality:
    """One modality of one split. `values`: (N, T, D) float32 features or (N, T) int64 token ids. `mask`: (N, T) bool, True on real frames."""

    values: np.ndarray
    mask: np.ndarray

    @property
    def kind(self) -> str:
        """``features`` or ``tokens``."""
        return "features" if self.values.ndim == 3 else "tokens"


@dataclass(frozen=True)
class Split:
    """One split. `ids` are canonical (``video/clip``); `target` is (N,) float32, or (N,) int64 class indices."""

    ids: tuple[str, ...]
    inputs: Mapping[str, Modality]
    target: np.ndarray
    unimodal_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    transcripts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Dataset:
    """The splits of a data set with what a model and a table must know of them.

    `record` is JSON-ready and goes into every run: source file, digest, split fingerprints, modalities, whether it is simulated, warnings.
    `fingerprint` identifies the content that training sees (values after reading, before the config's transforms).
    """

    name: str
    task: Task
    metrics: tuple[str, ...]
    splits: Mapping[str, Split]
    fingerprint: str
    classes: tuple[str, ...] = ()
    label_range: tuple[float, float] | None = None
    prototypes: int = 1
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities in use, in order."""
        return tuple(self.splits["train"].inputs)

    def input_spec(self) -> InputSpec:
        """Widths and longest lengths of the modalities, and the task."""
        specs = {}
        for name in self.modalities:
            parts = [split.inputs[name] for split in self.splits.values()]
            values = parts[0].values
            size = values.shape[2] if values.ndim == 3 else 1 + max(int(part.values.max(initial=0)) for part in parts)
            kind = "features" if values.ndim == 3 else "tokens"
            specs[name] = ModalitySpec(kind, int(size), max(part.values.shape[1] for part in parts))  # type: ignore[arg-type]
        train_size = len(self.splits["train"])
        return InputSpec(specs, self.task, self.classes, self.label_range, self.prototypes, train_size)
