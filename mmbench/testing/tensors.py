"""What the checks of models and of losses share: changed batches, differences, copies of state. Imports torch."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.batch import Batch, Sequence
from mmbench.component import InputSpec
from mmbench.testing.checks import Failed, Skipped, expect

NOISE = 30.0  # what padding is filled with where it must not matter

State = dict[str, Tensor]


def subsets(least: int) -> tuple[tuple[str, ...], ...]:
    """One set of modalities of each allowed number."""
    return tuple(names for names in (("text",), ("text", "audio"), ("text", "audio", "vision")) if len(names) >= least)


def changed(batch: Batch, **inputs: Sequence) -> Batch:
    """The batch with other inputs of some modalities."""
    return dataclasses.replace(batch, inputs={**batch.inputs, **inputs})


def padded(batch: Batch, inputs: InputSpec) -> Batch:
    """The same samples, padded to the data set's longest, with noise in all that is padding."""
    generator = torch.Generator().manual_seed(99)
    found = {}
    for name, sequence in batch.inputs.items():
        spec = inputs.modalities[name]
        missing = spec.length - sequence.mask.shape[1]
        mask = nn.functional.pad(sequence.mask, (0, missing))
        if spec.kind == "tokens":
            values = nn.functional.pad(sequence.values, (0, missing))
            noise = torch.randint(1, spec.size, values.shape, generator=generator)
            found[name] = Sequence(torch.where(mask, values, noise), mask)
        else:
            values = nn.functional.pad(sequence.values, (0, 0, 0, missing))
            noise = NOISE * torch.randn(values.shape, generator=generator)
            found[name] = Sequence(torch.where(mask.unsqueeze(-1), values, noise.to(values.dtype)), mask)
    return changed(batch, **found)


def without(batch: Batch, modality: str, sample: int = 0) -> Batch:
    """The batch with a sample that has no real frame of one modality."""
    sequence = batch.inputs[modality]
    mask = sequence.mask.clone()
    mask[sample] = False
    gone = mask if sequence.values.ndim == 2 else mask.unsqueeze(-1)
    return changed(batch, **{modality: Sequence(torch.where(gone, sequence.values, 0), mask)})


def rows(batch: Batch, index: list[int]) -> Batch:
    """Some samples of a batch, each modality cut after their longest."""
    inputs = {}
    for name, sequence in batch.inputs.items():
        mask = sequence.mask[index]
        longest = max(1, int(mask.sum(1).max()))
        inputs[name] = Sequence(sequence.values[index, :longest], mask[:, :longest])
    return Batch(batch.index[index], inputs, batch.target[index], {name: value[index] for name, value in batch.unimodal_targets.items()})


def moved(batch: Batch, device: str | None = None, dtype: torch.dtype | None = None) -> Batch:
    """The batch on another device, or with other floats."""

    def move(value: Tensor) -> Tensor:
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

    inputs = {name: Sequence(move(sequence.values), sequence.mask.to(device)) for name, sequence in batch.inputs.items()}
    return Batch(batch.index.to(device), inputs, move(batch.target), {name: move(value) for name, value in batch.unimodal_targets.items()})


def same_batch(left: Batch, right: Batch) -> bool:
    """Whether two batches hold the same numbers."""
    return all(torch.equal(first, second) for first, second in zip(_parts(left), _parts(right), strict=True))


def _parts(batch: Batch) -> list[Tensor]:
    inputs = [part for sequence in batch.inputs.values() for part in (sequence.values, sequence.mask)]
    return [batch.index, batch.target, *batch.unimodal_targets.values(), *inputs]


def copied(batch: Batch) -> Batch:
    """A batch of tensors of its own."""
    inputs = {name: Sequence(sequence.values.clone(), sequence.mask.clone()) for name, sequence in batch.inputs.items()}
    return Batch(batch.index.clone(), inputs, batch.target.clone(), {name: value.clone() for name, value in batch.unimodal_targets.items()})


def difference(left: Tensor, right: Tensor) -> float:
    """Largest absolute difference, as a part of the largest value where that is above one; infinite where one is not finite."""
    if left.shape != right.shape:
        return float("inf")
    left, right = left.detach().double().cpu(), right.detach().double().cpu()
    if not (left.isfinite().all() and right.isfinite().all()):
        return float("inf")
    return float((left - right).abs().max() / right.abs().max().clamp(min=1.0)) if left.numel() else 0.0


def expect_close(left: Tensor, right: Tensor, tolerance: float, what: str, place: str) -> None:
    """Fail where two results differ by more than the tolerance."""
    found = difference(left, right)
    expect(found <= tolerance, f"{what} (up to {tolerance:g})", f"a difference of {found:.2g}", place)


def expect_finite(value: Tensor, what: str, place: str) -> None:
    """Fail where a result holds NaN or an infinity."""
    bad = int((~value.detach().isfinite()).sum())
    expect(not bad, f"a finite {what}", f"{bad} of {value.numel()} values NaN or infinite", place)


def state_of(module: nn.Module) -> State:
    """A copy of the module's state."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def differing(left: State, right: State) -> list[str]:
    """The entries in which two states differ, bit by bit; NaN equals itself."""
    names = [name for name in sorted({*left, *right}) if name not in left or name not in right]
    return names + [name for name in left if name in right and not _equal(left[name], right[name])]


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and bool(torch.equal(left.nan_to_num(123.0), right.nan_to_num(123.0)))


def through_a_file(module: nn.Module) -> Any:
    """The module's state, saved and loaded with ``weights_only=True``."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:
        raise Failed(f"expected a state that torch.load reads with weights_only=True; seen {' '.join(str(error).split())[:300]}") from error


def load_state(module: nn.Module, state: Mapping[str, Any], place: str) -> None:
    """Load a state into a fresh module; a mismatch is a failure of the check."""
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise Failed(f"expected that a fresh instance takes the state; seen {' '.join(str(error).split())[:300]} ({place})") from error


def trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by name."""
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)


def step(parameter: nn.Parameter) -> None:
    """One small step down a parameter's own gradient, past an initial zero. Call without gradients."""
    if parameter.grad is not None:
        parameter.sub_(0.01 * parameter.grad / parameter.grad.norm().clamp(min=1e-6))


@contextmanager
def gpu() -> Iterator[str]:
    """The device to compare the CPU with, computing in full float32. Raises `Skipped` where there is none."""
    if not torch.cuda.is_available():
        raise Skipped("no CUDA device")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield "cuda"
