"""Training steps as CUDA graphs (`training.compile`): what a step tells the device is recorded once per shape, and replayed.

A graph repeats the same kernels on the same memory, and nothing of Python. So batches are copied into tensors that stay where they are; learning
rates, weights of terms, gradients and sums are tensors that stay, too; and whatever decides on the host what a step does makes a graph invalid:
plain attributes of modules (an epoch's number, say) are compared at each epoch's first batch, and steps are recorded anew where one has changed.
Before a shape is recorded, one of its batches is trained as always, but watched: a step that waits for the device, draws random numbers on the
host, or changes modules in other ways than in place cannot be a graph. The run then goes on without graphs and says why in its record.

All of an epoch's work is on one stream of its own, which graphs are recorded on: uncaptured steps are their warm-up. The graphs share a pool of
memory, since none leaves anything in it that another reads. On a CPU everything is the same, but for the recording: a replay is a plain call.
"""

from __future__ import annotations

import dataclasses
import random
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Sequence
from mmbench.errors import RunError
from mmbench.plugins import one_line
from mmbench.training.network import weight_at
from mmbench.training.optim import make_capturable
from mmbench.training.step import Step

PLAIN = (bool, int, float, str, type(None), frozenset)
OWN = ("Synchronization debug mode", "This instance was constructed with capturable=True")  # warnings of ways that are ours
WAIT = "called a synchronizing CUDA operation"


class CapturedStep(Step):
    """Replays what it has recorded. The first batch of an epoch, of which gradient norms are taken, and a smaller last step run as always."""

    fixed = True

    def __init__(self, *given: Any, device: torch.device):
        super().__init__(*given)
        make_capturable(self.optimizer, device)
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        terms = [f"{name}.{term}" for name, weights in self.network.weights.items() for term in weights]
        self.scales = {name: torch.zeros((), device=device) for name in terms}
        self.weights = self.scales
        self.gradients: dict[nn.Parameter, Tensor | None] = {}
        self.slots: dict[str, Tensor] = {}  # where each sum is kept, in every epoch
        self.batches: dict[Hashable, Batch] = {}  # one for each shape
        self.state: dict[str, Any] = {}
        self.refused = ""
        self._forget()

    def _forget(self) -> None:
        self.replays: dict[Hashable, Callable[[], None]] = {}
        self.rehearsed: set[Hashable] = set()
        self.pool: Any = None  # a new one each time: torch refuses a pool that no graph uses any more

    def note(self) -> str:
        if self.refused:
            return f"not captured: {self.refused}"
        shapes = sum(key in self.batches for key in self.replays)
        return f"captured in {shapes} shapes" if self.stream else f"nothing to capture on a {self.device.type}; {shapes} shapes"

    @contextmanager
    def begin(self, epoch: int) -> Iterator[None]:
        if self.stream is None:
            with super().begin(epoch):
                self._prepare()
                yield
            return
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), super().begin(epoch):
            self._prepare()
            yield
        current.wait_stream(self.stream)

    def _prepare(self) -> None:
        """The weights of the epoch; and parameters without gradients, to see from its first batch which ones get one."""
        for name, weights in self.network.weights.items():
            for term, weight in weights.items():
                self.scales[f"{name}.{term}"].fill_(weight_at(weight, self.epoch))
        self.gradients = {p: p.grad for group in self.optimizer.param_groups for p in group["params"]}
        self.optimizer.zero_grad(set_to_none=True)

    def sum(self, name: str, value: Tensor) -> None:
        if name in self.sums:
            self.sums[name].add_(value)  # in place, where a replay finds it
        else:
            self.sums[name] = self.slots.setdefault(name, torch.empty_like(value)).copy_(value)

    def accumulate(self, batch: Batch, samples: int) -> None:
        if not self.sums:
            super().accumulate(batch, samples)
            self._renew()
        elif len(batch.index) == self.training.batch_size and samples == self.training.batch_size * self.training.accumulation:
            shape = tuple(tuple(part.values.shape) for part in batch.inputs.values())
            if shape in self.batches:
                for kept, new in zip(_tensors(self.batches[shape]), _tensors(batch), strict=True):
                    kept.copy_(new)
            else:
                self.batches[shape] = _copied(batch)
            self._run(shape, lambda: Step.accumulate(self, self.batches[shape], samples))
        else:
            super().accumulate(batch, samples)

    def update(self) -> None:
        self._run("update", self._update)

    def _update(self) -> None:
        self._descend()
        self.optimizer.zero_grad(set_to_none=bool(self.refused))  # a graph finds the gradients where they were

    def _renew(self) -> None:
        """After the first batch of an epoch: what was recorded holds where the modules are as they were and the same parameters learn."""
        state, old = _state(self.network), self.gradients
        same = all((p.grad is None) == (gradient is None) for p, gradient in old.items())
        if _difference(self.state, state) or not same:
            self._forget()
        else:
            for p, gradient in old.items():
                if gradient is not None and p.grad is not None:
                    p.grad = gradient.copy_(p.grad)
        self.state, self.gradients = state, {}

    def _run(self, key: Hashable, body: Callable[[], None]) -> None:
        """Do what `body` does: at first by itself and watched, then by a recording."""
        if self.refused:
            body()
        elif key in self.replays:
            self.replays[key]()
        elif key not in self.rehearsed:
            self.refused = self._rehearse(body)
            self.rehearsed.add(key)
            if self.refused:
                self._forget()
        else:
            if self.stream is not None and self.pool is None:
                self.pool = torch.cuda.graph_pool_handle()
            self.replays[key] = record(body, self.stream, self.pool)
            self.replays[key]()

    def _rehearse(self, body: Callable[[], None]) -> str:
        """Run it, and say what a replay would not repeat; nothing, where it would repeat all."""
        names, before, drawn = set(self.sums), _state(self.network), _host_randomness(self.device)
        places: list[str] = []
        with _waits(self.device, places):
            body()
        if places:
            return f"a step waits for the device at {places[0]}"
        if _host_randomness(self.device) != drawn:
            return "a step draws random numbers on the host"
        changed = _difference(before, _state(self.network))
        if changed:
            return f"each step changes {changed} on the host"
        new = sorted(set(self.sums) - names)
        return f"some batches have {new[0]}, others not" if new else ""


def record(body: Callable[[], None], stream: Any, pool: Any) -> Callable[[], None]:
    """What repeats `body` on the same memory: the replay of its CUDA graph, which is recorded without being run. Without a stream: itself."""
    if stream is None:
        return body
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            body()
    except Exception as error:  # what torch knows of the device is not to be relied on any more, so the run cannot go on without graphs
        cause: BaseException = error
        while cause.__context__ is not None:  # the end of a failed capture fails, too
            cause = cause.__context__
        place = next(frame for frame in reversed(traceback.extract_tb(cause.__traceback__)) if "/torch/" not in frame.filename)
        where = f"{Path(place.filename).name}:{place.lineno}"
        reason = one_line(cause)[:200]
        raise RunError(f"training.compile: a step cannot be captured as a CUDA graph, at {where} ({reason}); set it to false") from error
    replay: Callable[[], None] = graph.replay
    return replay


def _tensors(batch: Batch) -> list[Tensor]:
    inputs = [tensor for part in batch.inputs.values() for tensor in (part.values, part.mask)]
    return [batch.index, batch.target, *inputs, *batch.unimodal_targets.values()]


def _copied(batch: Batch) -> Batch:
    inputs = {name: Sequence(part.values.clone(), part.mask.clone()) for name, part in batch.inputs.items()}
    unimodal = {name: target.clone() for name, target in batch.unimodal_targets.items()}
    return dataclasses.replace(batch, index=batch.index.clone(), inputs=inputs, target=batch.target.clone(), unimodal_targets=unimodal)


def _state(network: nn.Module) -> dict[str, Any]:
    """What a step can see of the modules, by the names of their attributes: plain values, and which tensors there are (not what is in them)."""
    found = {}
    for name, module in network.named_modules():
        for key, value in (vars(module) | module._buffers | module._parameters).items():
            if isinstance(value, (*PLAIN, Tensor)):
                found[f"{name}.{key}".lstrip(".")] = value
    return found


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The name of an attribute that is another; nothing where all are the same."""
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        plain = isinstance(old, PLAIN) and isinstance(new, PLAIN)
        if not (old is new or (plain and old == new and name in before and name in after)):
            return name
    return ""


def _host_randomness(device: torch.device) -> tuple[Any, ...]:
    """The states of the generators whose numbers a graph would keep. torch's own is a device's where that is the CPU."""
    _, numbers, place, *_ = np.random.get_state()
    host = torch.get_rng_state().numpy().tobytes() if device.type != "cpu" else b""
    return random.getstate(), np.asarray(numbers).tobytes(), place, host


@contextmanager
def _waits(device: torch.device, places: list[str]) -> Iterator[None]:
    """Collects in `places` the lines at which the host waits for the device."""
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    for warning in caught:
        message = str(warning.message)
        if WAIT in message:
            places.append(f"{Path(warning.filename).name}:{warning.lineno}")
        elif not message.startswith(OWN):
            warnings.warn_explicit(message, warning.category, warning.filename, warning.lineno)
