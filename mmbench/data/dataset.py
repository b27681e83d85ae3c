"""A data set as NumPy arrays: what readers produce, the store keeps, transforms change and training selects batches from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmbench.component import InputSpec, ModalitySpec, Task

CONTEXT = "_context"


@dataclass(frozen=True)
class Modality:
    """One modality of one split. `mask`: (N, T) bool, True on real frames.

    `values`: (N, T, D) float32 features, (N, T) int64 token ids, or (N, T) float32 waveform.
    """

    values: np.ndarray
    mask: np.ndarray

    @property
    def kind(self) -> str:
        """``features``, ``tokens`` or ``waveform``."""
        return "features" if self.values.ndim == 3 else "tokens" if self.values.dtype.kind == "i" else "waveform"


@dataclass(frozen=True)
class Split:
    """One split. `ids` are canonical (``video/clip``); `target` is (N,) float32, or (N,) int64 class indices.

    `inputs` also holds previous utterances, as ``<modality>_context``. A text that is not tokenised yet has token ids of length zero; its words
    are in `transcripts`.
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Modality]
    target: np.ndarray
    unimodal_targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    transcripts: tuple[str, ...] = ()
    context: Mapping[str, int] = field(default_factory=dict)
    """By modality: how many previous utterances its context holds at most."""

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
        return tuple(name for name in self.splits["train"].inputs if not name.endswith(CONTEXT))

    def input_spec(self) -> InputSpec:
        """Widths and longest lengths of the modalities and of their contexts, and the task."""
        inputs = self.splits["train"].inputs
        contexts = {name.removesuffix(CONTEXT): self._spec(name) for name in inputs if name.endswith(CONTEXT)}
        modalities = {name: self._spec(name) for name in self.modalities}
        return InputSpec(modalities, self.task, self.classes, self.label_range, self.prototypes, len(self.splits["train"]), contexts)

    def _spec(self, name: str) -> ModalitySpec:
        parts = [split.inputs[name] for split in self.splits.values()]
        kind = parts[0].kind
        size = {"features": parts[0].values.shape[-1], "waveform": 1, "tokens": 0}[kind]
        if kind == "tokens":
            size = 1 + max(int(part.values.max(initial=0)) for part in parts)
        return ModalitySpec(kind, int(size), max(part.values.shape[1] for part in parts))  # type: ignore[arg-type]
