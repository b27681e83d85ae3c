"""The contracts that a plugin implements. A method imports this module and `mmbench.batch`, and nothing else of the core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from mmbench.batch import Batch, Representation, Sequence
from mmbench.component import (
    Aligner,
    Component,
    DatasetFormat,
    Executor,
    FieldSpec,
    FitContext,
    InputSpec,
    Metric,
    ModalitySpec,
    Range,
    RepresentationSpec,
    RunOutcome,
    RunRequest,
    Space,
    TrackedRun,
    Tracker,
    Trial,
    Tuner,
    Values,
)

__all__ = [
    "Aligner", "AlignmentLoss", "Component", "DatasetFormat", "Executor", "FeatureExtractor", "FieldSpec", "FitContext", "FusionModel",
    "InputSpec", "Metric", "ModalitySpec", "Range", "RepresentationSpec", "RunOutcome", "RunRequest", "Space",
    "TrackedRun", "Tracker", "Trial", "Tuner", "Values",
]  # fmt: skip


class FusionModel(nn.Module):
    """A network from a batch of modalities to a prediction and the features that losses may use.

    A subclass takes ``(inputs: InputSpec, config)``, sets `spec`, and must not let padding or batch mates change a sample's output.
    """

    spec: RepresentationSpec

    def __init__(self, inputs: InputSpec, config: Any):
        super().__init__()

    def forward(self, batch: Batch) -> Representation:
        """Features and prediction of a batch of any size, one included."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in forward")

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Named groups, for learning rates of their own in ``training.optimizer.groups``. Parameters in no group form ``model``."""
        return {}

    def on_fit_start(self, context: FitContext) -> None:
        """Called once before the first epoch, with the training targets. State set here belongs in buffers."""


class AlignmentLoss(nn.Module):
    """One or more named scalar terms on a representation. A subclass takes ``(spec: RepresentationSpec, config)``.

    `terms` names what `forward` can return. `active` holds the terms whose weight is not zero: the others need not be computed
    and are not used. What the loss wants logged beside its terms it writes to `diagnostics`, detached.
    Memory (prototypes, label banks) belongs in buffers, so that checkpoints carry it. Losses see training batches only.
    """

    terms: ClassVar[tuple[str, ...]] = ()

    def __init__(self, spec: RepresentationSpec, config: Any):
        super().__init__()
        self.active: frozenset[str] = frozenset(self.terms)
        self.diagnostics: dict[str, Tensor] = {}

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        """The active terms of a training batch, each a finite scalar that carries a gradient; a batch of one is legal."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in forward")

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Named groups, as for a model. Parameters in no group form ``losses.<name>``."""
        return {}

    def on_fit_start(self, context: FitContext) -> None:
        """Called once before the first epoch."""

    def on_epoch_start(self, epoch: int) -> None:
        """Called before each epoch (1, 2, ...)."""

    def on_epoch_end(self, epoch: int) -> None:
        """Called after the training batches of each epoch."""


class FeatureExtractor(nn.Module):
    """Raw media of one modality -> `Sequence`; offline (cached) or, with ``finetune``, in the loop.

    A subclass takes its config and sets `width`, the width of its features, and, where it reads tokens, `vocabulary`.
    """

    width: int
    vocabulary: int | None = None
    frame_rate: float | None = None
    """Features per second: frame i is of the seconds [i, i + 1) / frame_rate of the clip. None where frames have no times: words, or one for all."""
    packs: bool = False
    """Whether `forward` skips padding by itself where `Sequence.lengths` is known; else token ids come in slices of samples of like length."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings of the files that `prepare` reads, most wanted first; none for text, whose `prepare` takes the transcript."""

    def __init__(self, config: Any):
        super().__init__()
        self.finetune: bool = bool(getattr(config, "finetune", False))

    def digest(self) -> str:
        """What identifies the features: a digest of the weights, and of every option that changes them."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in digest")

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """One sample on the CPU: token ids (T,), a waveform (T,), images (T, C, H, W), or features (T, width). T is at least 1."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in prepare")

    def spans(self, text: str) -> list[tuple[int, int]] | None:
        """Text alone: the characters [start, end) that each frame of a transcript stands for, (0, 0) for a special token; None: frames have none."""
        return None

    def forward(self, raw: Sequence) -> Sequence:
        """A batch on the device: raw values -> (B, T', width) features with their mask; what is features already comes back as it is."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in forward")
