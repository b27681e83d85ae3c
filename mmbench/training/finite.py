"""What goes non-finite in training ends the run, with its place, its likely cause and the next step. Looked at once an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.config import TrainingConfig
from mmbench.errors import RunError
from mmbench.training.network import Network
from mmbench.training.tensors import TensorSplit, largest

LARGE = 1e6
"""Features beyond it are named as the likely cause: their products and powers leave float32 soon."""


class Finite:
    """Watches a training run: its terms, its weights, the optimizer's moments, and the buffers that are finite when it begins."""

    def __init__(self, network: Network, optimizer: Any, train: TensorSplit, training: TrainingConfig):
        self.network, self.optimizer, self.train, self.training = network, optimizer, train, training
        held = {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point() and buffer.numel()}
        self.buffers = [name for name, fine in zip(held, _finite(held.values()), strict=True) if fine]  # a limit may be infinite by intent

    def check(self, sums: Mapping[str, float], history: list[dict[str, Any]], epoch: int) -> None:
        """`sums`: the means of the terms in this epoch; `history`: the epochs before. RunError: which of all is not finite."""
        bad = [name for name, value in sums.items() if not math.isfinite(value)]
        if bad:
            name, *others = bad
            earlier = history[-1]["train"].get(name) if history else None
            after = "" if earlier is None else f", after {earlier:.4g} in epoch {epoch - 1}"
            terms = [each for each in others if not each.startswith("gradient.")]  # which of them was the first is not known
            so = f", and so did {', '.join(terms[:3])}{', ...' * (len(terms) > 3)}" if terms else ""
            raise RunError(f"{name} became {sums[name]} in epoch {epoch}{after}{so}; {self._alone(bad)}{advice(self.train, self.training)}")
        held = self._held()
        lost = [name for name, fine in zip(held, _finite(held.values()), strict=True) if not fine]
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise RunError(f"{lost[0]}{more} became NaN or infinite in epoch {epoch}, with finite losses; {advice(self.train, self.training)}")

    def _alone(self, bad: Iterable[str]) -> str:
        """What to look at first where the loss of a batch of one may be what is not finite."""
        losses = dict.fromkeys(name.partition(".")[0] for name in bad if name.partition(".")[0] in self.network.losses)
        if not losses or self.train.size % self.training.batch_size != 1:
            return ""
        return f"one batch of each epoch has one sample: does `mmbench test` find {' and '.join(losses)} finite there? Else "

    def _held(self) -> dict[str, Tensor]:
        buffers = dict(self.network.named_buffers())
        held = {f"the buffer {name}": buffers[name] for name in self.buffers if name in buffers}
        if self.optimizer is None:
            return held
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        for group in self.optimizer.param_groups:
            for number, parameter in enumerate(group["params"]):
                name = names.get(parameter, f"{number} of {group['name']}")  # one that no module holds
                held[f"the weight {name}"] = parameter.detach()
                for kind, value in self.optimizer.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        held[f"the optimizer's {kind} of {name}"] = value
        return {name: value for name, value in held.items() if value.numel()}


def _finite(tensors: Iterable[Tensor]) -> list[bool]:
    """Whether each is finite. The host waits once."""
    found = [largest(tensor.detach()).float() for tensor in tensors]
    return [math.isfinite(size) for size in torch.stack(found).tolist()] if found else []


def advice(split: TensorSplit, training: TrainingConfig) -> str:
    """What to do where a split led to NaN or infinity: look at its data where they are not finite or large, else at the optimizer."""
    clip = "" if training.clip_norm or training.clip_value else " or clip the gradient (training.clip_norm)"
    precision = "" if training.precision == "fp32" else ", or set training.precision to fp32"
    return _extreme(split) or f"lower the learning rate{clip}{precision}"


def named(ids: Sequence[str], bad: np.ndarray) -> str:
    """The first of the samples that `bad` (N,) marks, and how many more there are."""
    places = np.flatnonzero(bad)
    more = len(places) - 1
    return repr(ids[places[0]]) + (f" and {more} more sample{'s' * (more > 1)}" if more else "")


def _extreme(split: TensorSplit) -> str:
    """Features or labels that are not finite or large, and the next step; nothing where all are in order."""
    for name, (values, _) in split.inputs.items():
        if values.is_floating_point():
            sizes = np.array([float(largest(sample)) if sample.numel() else 0.0 for sample in values.detach()])
            if not np.isfinite(sizes).all():
                return f"{name} of {named(split.ids, ~np.isfinite(sizes))} holds NaN or infinity: look at where it comes from"
            if (sizes > LARGE).any():
                return f"{name} of {named(split.ids, sizes > LARGE)} has values up to {sizes.max():.3g}: standardise it (data.standardize)"
    lost = ~np.isfinite(split.target.cpu().numpy())
    return f"the label of {named(split.ids, lost)} is NaN or infinite: look at the data" if lost.any() else ""
