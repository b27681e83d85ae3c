"""One optimizer step: forward, terms, backward, clipping, update. What it sums stays on the device until the epoch's end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mmbench.batch import Batch, Representation
from mmbench.config import TrainingConfig
from mmbench.training.network import Network, task_loss
from mmbench.training.optim import Schedule


class Step:
    """Takes the steps of all epochs. `loss`: name of the task loss; `size`: number of training samples, for means over an epoch."""

    fixed = False
    """Whether full batches are to come padded to one of a few lengths."""
    weights: Mapping[str, Tensor] | None = None
    """The weights of the losses' terms by name, where these are tensors."""

    def __init__(self, network: Network, optimizer: Any, schedule: Schedule | None, training: TrainingConfig, loss: str, size: int):
        self.network, self.optimizer, self.schedule = network, optimizer, schedule
        self.training, self.loss, self.size = training, loss, size
        self.epoch = 0
        self.sums: dict[str, Tensor] = {}  # each (), float32

    @contextmanager
    def begin(self, epoch: int) -> Iterator[None]:
        """The context of an epoch's steps."""
        self.epoch, self.sums = epoch, {}
        yield

    def __call__(self, batches: Iterable[Batch], samples: int) -> None:
        """One step over batches that have `samples` samples in all."""
        for batch in batches:
            self.accumulate(batch, samples)
        if self.optimizer is not None and self.schedule is not None:
            self.schedule.before_step()
            self.update()

    def accumulate(self, batch: Batch, samples: int) -> None:
        """Add a batch's share of the step's gradient, and of the epoch's sums."""
        size = len(batch.index)
        with autocast(self.training, batch.index.device, cache=not self.fixed):
            representation = self.network(batch)
            terms = {"task": task_loss(self.loss, representation.prediction, batch.target)}
            terms.update(self.network.terms(representation, batch, self.epoch, self.weights))
        if not self.sums:
            self.sums.update(gradient_norms(terms, representation))
        if self.optimizer is not None:
            (torch.stack([term.float() for term in terms.values()]).sum() * (size / samples)).backward()
        for name, value in (terms | self.network.diagnostics()).items():
            self.sum(name, value.detach().float() * (size / self.size))

    def sum(self, name: str, value: Tensor) -> None:
        """Add to one of the epoch's sums."""
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def update(self) -> None:
        """Move the parameters, and forget the gradient."""
        self._descend()
        self.optimizer.zero_grad(set_to_none=True)

    def _descend(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.network.ranks.add_gradients(parameters, self.network.encoders)  # type: ignore[arg-type]  # a ModuleDict
        if self.training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.training.clip_norm)
        if self.training.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.training.clip_value)
        self.optimizer.step()

    def totals(self) -> dict[str, float]:
        """The sums of the epoch: the one point at which the host waits for the device."""
        values = torch.stack([value.reshape(()) for value in self.sums.values()]).tolist()
        return dict(zip(self.sums, values, strict=True))

    def note(self) -> str:
        """What became of `training.compile`, for the run's record; nothing where it is not set."""
        return ""


def gradient_norms(terms: Mapping[str, Tensor], representation: Representation) -> dict[str, Tensor]:
    """Norm of each weighted term's gradient in the encoded features: how hard the term pulls at the encoders. Once per epoch."""
    encoded = [sequence.values for sequence in representation.encoded.values() if sequence.values.requires_grad]
    norms = {}
    for name, term in terms.items():
        if encoded and term.requires_grad:
            gradients = torch.autograd.grad(term, encoded, retain_graph=True, allow_unused=True)
            squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
            norms[f"gradient.{name}"] = torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=term.device)
    return norms


def autocast(training: TrainingConfig, device: torch.device, cache: bool = True) -> torch.autocast:
    """The precision of forward passes. `cache`: whether a weight is cast once for all its uses, which a CUDA graph must not rely on."""
    return torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16", cache_enabled=cache)
