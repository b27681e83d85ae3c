"""Optimizers with named parameter groups, and learning-rate schedules."""

from __future__ import annotations

import difflib
import math
from typing import Any

import torch
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from mmbench.config import OptimizerConfig, PlateauConfig, WarmupCosineConfig
from mmbench.errors import ConfigError


def _uncompiled(method: Any) -> Any:
    """The method itself, without the decorators that import torch's compiler (over a second of a run's start) to keep it out of what is compiled."""
    while hasattr(method, "__wrapped__"):
        method = method.__wrapped__
    return method


class _Direct:
    """An optimizer whose methods are called as they stand: nothing here is compiled by torch."""

    add_param_group = _uncompiled(Optimizer.add_param_group)
    state_dict = _uncompiled(Optimizer.state_dict)
    load_state_dict = _uncompiled(Optimizer.load_state_dict)
    zero_grad = _uncompiled(Optimizer.zero_grad)


class _Adam(_Direct, Adam):
    step = torch.no_grad()(_uncompiled(Adam.step))


class _AdamW(_Direct, AdamW):
    step = torch.no_grad()(_uncompiled(AdamW.step))


def build_optimizer(config: OptimizerConfig, groups: dict[str, list[nn.Parameter]]) -> Optimizer:
    """One parameter group per name; a group that no part of the network has is a mistake of the config."""
    for name in config.groups:
        if name not in groups:
            close = difflib.get_close_matches(name, groups, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(groups)}."
            raise ConfigError(f"training.optimizer.groups: the network has no parameter group {name!r}. {hint}")
    parameters = []
    for name, members in groups.items():
        if not members:
            continue
        own = config.groups.get(name)
        group: dict[str, Any] = {"name": name, "params": members}
        if own is not None and own.lr is not None:
            group["lr"] = own.lr
        if own is not None and own.weight_decay is not None:
            group["weight_decay"] = own.weight_decay
        parameters.append(group)
    cls = _Adam if config.name == "adam" else _AdamW
    return cls(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def make_capturable(optimizer: Optimizer, device: torch.device) -> None:
    """Have the optimizer read its learning rates from the device, where a CUDA graph finds what `Schedule` fills in."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
        group["capturable"] = True


class Schedule:
    """Sets each group's learning rate to its initial value times a common factor. The state is plain numbers."""

    def __init__(self, config: PlateauConfig | WarmupCosineConfig | None, optimizer: Optimizer, steps: int):
        self.config = config
        self.optimizer = optimizer
        self.steps = steps
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.factor = 1.0
        self.step = 0
        self.bad_epochs = 0

    def before_step(self) -> None:
        """Called before each optimizer step (0, 1, ...)."""
        if isinstance(self.config, WarmupCosineConfig):
            warmup = round(self.config.warmup * self.steps)
            if self.step < warmup:
                self.factor = (self.step + 1) / warmup
            else:
                self.factor = 0.5 * (1 + math.cos(math.pi * (self.step - warmup) / max(1, self.steps - warmup)))
        self.step += 1
        for group, lr in zip(self.optimizer.param_groups, self.base, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr * self.factor)
            else:
                group["lr"] = lr * self.factor

    @property
    def rate(self) -> float:
        """The learning rate of the first group, at the last step."""
        return float(self.base[0] * self.factor)

    def after_epoch(self, improved: bool) -> None:
        """Called after each epoch with whether the selection metric got better."""
        if isinstance(self.config, PlateauConfig):
            self.bad_epochs = 0 if improved else self.bad_epochs + 1
            if self.bad_epochs > self.config.patience:
                self.factor *= self.config.factor
                self.bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"factor": self.factor, "step": self.step, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.factor, self.step, self.bad_epochs = state["factor"], state["step"], state["bad_epochs"]
