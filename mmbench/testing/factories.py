"""Small data in the shape of a data set. torch is imported by what makes tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from mmbench.component import FitContext, InputSpec, ModalitySpec, Task

if TYPE_CHECKING:
    from torch import Tensor

    from mmbench.batch import Batch

MODALITIES = ("text", "audio", "vision")
WIDTHS = {"text": 7, "audio": 3, "vision": 5}
LENGTHS = {"text": 8, "audio": 12, "vision": 10}
VOCABULARY = 30
CLASSES = ("angry", "happy", "neutral", "sad")
TRAIN_SIZE = 24
LABEL_RANGE = (-3.0, 3.0)
LABELS = (-3.0, -1.8, -1.0, -0.4, 0.0, 0.2, 1.0, 1.0, 2.4, 3.0)  # both signs, zero, ties and both ends
SHORTER = 2  # how many frames the longest sample of a batch lacks to the data set's longest: batches are cut, and can be padded again


def make_inputs(
    modalities: Iterable[str] = MODALITIES, task: Task = "regression", *, sequences: bool = True, tokens: Collection[str] = ()
) -> InputSpec:
    """What a model is told of a data set of 24 training samples: modalities of different widths and lengths, at most 12 frames.

    `sequences=False`: every modality is one vector a sample. `tokens`: the modalities that come as token ids (vocabulary 30) instead of features.
    """
    specs = {
        name: ModalitySpec(
            "tokens" if name in tokens else "features",
            VOCABULARY if name in tokens else WIDTHS.get(name, 4),
            LENGTHS.get(name, 9) if sequences else 1,
        )
        for name in modalities
    }
    if task == "regression":
        return InputSpec(specs, task, label_range=LABEL_RANGE, prototypes=7, train_size=TRAIN_SIZE)
    return InputSpec(specs, task, CLASSES, prototypes=len(CLASSES), train_size=TRAIN_SIZE)


def make_batch(inputs: InputSpec, size: int = 4, seed: int = 0, *, unimodal: bool = False) -> Batch:
    """A batch of `size` samples of that data set: variable lengths, zeros as padding, targets that belong to `Batch.index`.

    `unimodal`: with unimodal targets, as some data sets for regression have them.
    """
    import torch

    from mmbench.batch import Batch, Sequence

    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(TRAIN_SIZE, generator=generator)[:size]
    sequences = {}
    for name, spec in inputs.modalities.items():
        longest = max(1, spec.length - SHORTER)
        lengths = torch.randint(1, longest + 1, (size,), generator=generator)
        lengths[int(torch.randint(size, (), generator=generator))] = longest
        mask = torch.arange(longest) < lengths.unsqueeze(1)  # (B, T)
        if spec.kind == "tokens":
            values = torch.randint(1, spec.size, (size, longest), generator=generator) * mask
        else:
            values = torch.randn(size, longest, spec.size, generator=generator) * mask.unsqueeze(-1)
        sequences[name] = Sequence(values, mask)
    own = {name: train_targets(inputs, place + 1)[index] for place, name in enumerate(inputs.modalities)} if unimodal else {}
    return Batch(index, sequences, train_targets(inputs)[index], own)


def train_targets(inputs: InputSpec, stream: int = 0) -> Tensor:
    """The targets of the 24 training samples: (N,) float, or (N,) long."""
    import torch

    generator = torch.Generator().manual_seed(1000 + stream)
    if inputs.task == "classification":
        return torch.randint(len(inputs.classes), (TRAIN_SIZE,), generator=generator)
    return torch.tensor(LABELS)[torch.randint(len(LABELS), (TRAIN_SIZE,), generator=generator)]


def fit_context(inputs: InputSpec) -> FitContext:
    """What components are told when training on that data set starts."""
    return FitContext(TRAIN_SIZE, train_targets(inputs), epochs=3)
