"""One training step of a config as the loop makes it, taken apart into its parts. Imports torch."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Representation
from mmbench.component import FitContext, InputSpec
from mmbench.resolve import Resolved
from mmbench.training.network import Network, task_loss
from mmbench.training.optim import Schedule, build_optimizer
from mmbench.training.seeds import make_deterministic, order
from mmbench.training.step import autocast

PARTS = ("forward", "losses", "backward", "clip", "optimizer")


class Stepper:
    """The network, optimizer and schedule of a config. `times` holds the seconds of each part of each step."""

    def __init__(self, resolved: Resolved, inputs: InputSpec, targets: Tensor, encoders: Any = None):
        self.resolved, self.training = resolved, resolved.experiment.training
        self.device = torch.device("cpu")
        make_deterministic(self.training.threads)
        self.network = Network(resolved, inputs, 1, encoders)
        self.network.on_fit_start(FitContext(len(targets), targets, self.training.epochs))
        groups = self.network.groups()
        self.optimizer = build_optimizer(self.training.optimizer, groups)
        self.schedule = Schedule(self.training.scheduler, self.optimizer, 1000)
        self.parameters = [parameter for group in groups.values() for parameter in group]
        self.network.train()
        for loss in self.network.losses.values():
            loss.on_epoch_start(1)
        self.times: dict[str, list[float]] = {part: [] for part in PARTS}

    def __call__(self, batch: Batch, losses: bool = True) -> None:
        """Forward, losses, backward, clip, optimizer. Without `losses`, the task loss alone."""
        marks = [time.perf_counter()]
        with autocast(self.training, self.device):
            representation = self.network(batch)
        marks.append(time.perf_counter())
        with autocast(self.training, self.device):
            terms = [task_loss(self.resolved.task_loss, representation.prediction, batch.target)]
            terms += self.network.terms(representation, batch, 1).values() if losses else []
        marks.append(time.perf_counter())
        torch.stack([term.float() for term in terms]).sum().backward()
        marks.append(time.perf_counter())
        if self.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.training.clip_norm)
        if self.training.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.training.clip_value)
        marks.append(time.perf_counter())
        self.schedule.before_step()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        marks.append(time.perf_counter())
        if losses:
            for part, (start, end) in zip(PARTS, itertools.pairwise(marks), strict=True):
                self.times[part].append(end - start)


def full_batches(split: Any, size: int, count: int) -> list[Batch]:
    """The first `count` shuffled batches of `size` samples, resident, each cut after its longest sample as in training."""
    batches = [batch for batch in itertools.islice(split.batches(size, order(1, 1, split.size)), count) if len(batch.index) == min(size, split.size)]
    return [batches[i % len(batches)] for i in range(count)]


def products(call: Callable[[], Any]) -> float:
    """GFLOP of the matrix products and convolutions in a call, forward and backward: 2·m·n·k each.

    Counted by torch's `FlopCounterMode`, which sees every call of a product, also those inside autograd functions of our own. What it does not know
    is added by formula: fused LSTM layers, 2·T·B·4h·(d+h) forward and twice that backward, and the fused attention of CPUs, 4·T·S·d per head
    forward and twice that backward. Not counted: elementwise work, softmax, norms, dropout, sorting, eigenvalues.
    """
    from torch.utils.flop_counter import FlopCounterMode

    aten = torch.ops.aten
    known = {
        aten.mkldnn_rnn_layer: _lstm,
        aten.mkldnn_rnn_layer_backward: _lstm_backward,
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        call()
    return counter.get_total_flops() / 1e9


def _lstm(x: Sequence[int], inner: Sequence[int], recurrent: Sequence[int], *rest: Any, **named: Any) -> int:
    frames, batch, _ = x
    return 2 * frames * batch * (inner[0] * inner[1] + recurrent[0] * recurrent[1])


def _lstm_backward(x: Sequence[int], inner: Sequence[int], recurrent: Sequence[int], *rest: Any, **named: Any) -> int:
    return 2 * _lstm(x, inner, recurrent)


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **named: Any) -> int:
    batch, heads, length, width = query
    return 2 * batch * heads * length * key[2] * (width + value[3])


def _attention_backward(gradient: Any, query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **named: Any) -> int:
    return 2 * _attention(query, key, value)


def operator_calls(call: Callable[[], Any]) -> int:
    """Calls of torch's operators (``aten::``) in a call, nested ones too, as torch's profiler sees them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiled:
        call()
    return sum(event.count for event in profiled.key_averages() if event.key.startswith("aten::"))


def leaves(representation: Representation) -> list[Tensor]:
    """Replace the features that losses read by leaves that ask for gradients; returns these."""
    found = []
    for field in ("encoded", "common", "unique"):
        sequences = getattr(representation, field)
        if sequences:
            cut = {name: dataclasses.replace(part, values=part.values.detach().requires_grad_()) for name, part in sequences.items()}
            setattr(representation, field, cut)
            found += [part.values for part in cut.values()]
    return found
