"""Checks of losses, on the features of a reference model: every task, two and three modalities, sequences and vectors.

A loss that needs ``extra.<key>`` is tested on the models of its own distribution that provide it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmbench.batch import Batch, Representation
from mmbench.component import FIELDS, InputSpec, RepresentationSpec
from mmbench.interfaces import AlignmentLoss, FusionModel
from mmbench.plugins import one_line
from mmbench.testing import tensors
from mmbench.testing.checks import Failed, Skipped, Subject, expect
from mmbench.testing.factories import fit_context, make_batch, make_inputs
from mmbench.testing.reference import Reference, complete, completed, cut, leaves
from mmbench.testing.tensors import expect_close, expect_finite, state_of
from mmbench.training.seeds import seed_everything

EXACT, DOUBLE, BF16, GPU, BOUND = 1e-4, 1e-3, 0.05, 1e-3, 1e-5
"""Tolerances: of what should be equal in float32, of float32 against float64, of bf16 inputs against the same numbers in float32, of the GPU
against the CPU, and of a bound."""


@dataclass(frozen=True)
class Case:
    """A loss for one task and set of modalities, on the features of the reference model or of a model of the same distribution."""

    subject: Subject
    inputs: InputSpec
    sequences: bool
    model: Subject | None = None

    @property
    def label(self) -> str:
        on = f", on {self.model.component.name}" if self.model else ", sequences" if self.sequences else ", vectors"
        return f"{self.inputs.task}, {'+'.join(self.inputs.modalities)}{on}"

    @cached_property
    def reference(self) -> Reference:
        return Reference(self.inputs, self.sequences)

    @cached_property
    def own(self) -> FusionModel | None:
        """The model whose features the loss is made for."""
        if self.model is None:
            return None
        seed_everything(0, "conformance")
        built: FusionModel = self.model.entry.load()(self.inputs, self.model.config())
        built.on_fit_start(fit_context(self.inputs))
        return built.eval()

    @property
    def spec(self) -> RepresentationSpec:
        return completed(self.own.spec, self.reference.spec) if self.own else self.reference.spec

    def build(self, seed: int = 0, spec: RepresentationSpec | None = None) -> AlignmentLoss:
        """The loss with the weights of a seed, in training mode, with all terms active and the first epoch begun."""
        seed_everything(seed, "conformance")
        loss: Any = self.subject.entry.load()
        if not (isinstance(loss, type) and issubclass(loss, AlignmentLoss)):
            raise Failed(f"expected a subclass of mmbench.interfaces.AlignmentLoss at {self.subject.component.target}; seen {loss!r}")
        built = loss(spec or self.spec, self.subject.config())
        built.active = frozenset(terms_of(self.subject))
        built.on_fit_start(fit_context(self.inputs))
        built.on_epoch_start(1)
        return built.train()

    def batch(self, size: int = 4, seed: int = 0, unimodal: bool = False) -> Batch:
        return make_batch(self.inputs, size, seed, unimodal=unimodal)

    @torch.no_grad()
    def features(self, batch: Batch, scale: float = 1.0, dtype: torch.dtype | None = None) -> Representation:
        """What the loss sees of a batch, as leaves that ask for gradients."""
        found = self.reference(batch)
        with torch.enable_grad():
            return cut(complete(self.own(batch), found) if self.own else found, scale, dtype)


def terms_of(subject: Subject) -> tuple[str, ...]:
    """The declared terms; a loss that declares none has one of its own name."""
    return subject.component.terms or (subject.component.name,)


def needs_of(subject: Subject) -> frozenset[str]:
    """The fields that the loss reads, narrowed by its hyperparameters where the config class says so."""
    config = subject.config()
    found: frozenset[str] = config.needs() if hasattr(config, "needs") else subject.component.needs
    return found


def cases(subject: Subject) -> Iterator[Case]:
    """One case for each task, number of modalities and form of the features."""
    extra = {need for need in needs_of(subject) if need.startswith("extra.")}
    models: list[Subject | None] = [None]
    if extra:
        entries = [entry for entry in subject.context.entries if entry.component.kind == "model" and extra <= entry.component.provides]
        expect(entries, f"a model of {subject.entry.distribution} that provides {', '.join(sorted(extra))}", "none")
        models = [Subject(subject.context, entry) for entry in entries]
    for model, task in itertools.product(models, subject.component.tasks):
        if model is not None and task not in model.component.tasks:
            continue
        least = max(subject.component.min_modalities, model.component.min_modalities if model else 1)
        for names, sequences in itertools.product(tensors.subsets(least), (True,) if model else (True, False)):
            yield Case(subject, make_inputs(names, task), sequences, model)


def total_of(found: dict[str, Tensor]) -> Tensor:
    """The sum of all terms."""
    return torch.stack([value.float() for value in found.values()]).sum()


def values(loss: AlignmentLoss, case: Case, batch: Batch) -> dict[str, Tensor]:
    """The terms of a batch under a seed of their own, so that dropout is the same each time."""
    seed_everything(3, "conformance")
    return loss(case.features(batch), batch)


def terms(subject: Subject) -> None:
    """The loss returns the declared terms, each a finite scalar that carries a gradient; what is not active may be left out."""
    names = terms_of(subject)
    for case in cases(subject):
        loss = case.build()
        declared = tuple(getattr(loss, "terms", ()))
        expect(not subject.component.terms or set(declared) == set(names), f"terms {names} of the class, as its component says", declared, case.label)
        for unimodal in (False, True) if case.inputs.task == "regression" else (False,):
            batch = case.batch(unimodal=unimodal)
            _expect_terms(loss(case.features(batch), batch), names, case)
            for name, value in loss.diagnostics.items():
                detached = isinstance(value, Tensor) and value.numel() == 1 and not value.requires_grad
                expect(detached, f"the diagnostic {name!r} as a detached scalar", value, case.label)
        for name in names:
            loss.active = frozenset({name})
            _expect_terms(loss(case.features(batch), batch), (name,), case)


def _expect_terms(found: Any, names: tuple[str, ...], case: Case) -> None:
    expect(isinstance(found, dict), "a dict of terms", type(found).__name__, case.label)
    expect(set(names) <= set(found), f"the active terms {sorted(names)}", sorted(found), case.label)
    for name in names:
        value = found[name]
        expect(isinstance(value, Tensor) and value.ndim == 0, f"a scalar {name}", getattr(value, "shape", value), case.label)
        expect_finite(value, name, case.label)
        expect(value.requires_grad, f"a {name} that carries a gradient", "one that does not", case.label)


def needs(subject: Subject) -> None:
    """The loss reads no field that it does not declare: it runs where a model fills the others with nothing."""
    for case in cases(subject):
        full, batch = case.spec, case.batch()
        absent = [field for field in FIELDS if field not in needs_of(subject)]
        nothing: dict[str, Any] = {field: {} if field == "encoded" else None for field in absent}
        loss = case.build(spec=dataclasses.replace(full, **nothing))
        try:
            loss(dataclasses.replace(case.features(batch), **nothing), batch)
        except Exception as error:
            raise Failed(f"expected that it runs without {', '.join(absent)}; seen {one_line(error)} ({case.label})") from error


def bound(subject: Subject) -> None:
    """Every term stays within its stated bounds: for usual, enlarged, tiny and identical features, a large batch and a batch of one."""
    stated = subject.component.bounds
    for case in cases(subject):
        loss = case.build()
        same = tensors.rows(case.batch(1), [0, 0, 0, 0])
        tries = [(f"batch {seed}", case.batch(seed=seed), 1.0) for seed in range(3)]
        tries += [("features x100", case.batch(seed=3), 100.0), ("features x0.001", case.batch(seed=4), 1e-3), ("identical samples", same, 1.0)]
        tries += [("identical samples x100", same, 100.0), ("16 samples", case.batch(16, 5), 1.0), ("one sample", case.batch(1, 6), 1.0)]
        for place, batch, scale in tries:
            for name, value in loss(case.features(batch, scale), batch).items():
                expect_finite(value, name, f"{case.label}, {place}")
                if name in stated:
                    low, high = stated[name]
                    seen = value.item()
                    inside = low - BOUND * max(1.0, abs(low)) <= seen <= high + BOUND * max(1.0, abs(high))
                    expect(inside, f"{name} from {low:g} to {high:g}", f"{seen:g}", f"{case.label}, {place}")
    missing = [name for name in terms_of(subject) if name not in stated]
    if missing:
        raise Skipped(f"no bound stated for {', '.join(missing)}")


def padding(subject: Subject) -> None:
    """Neither the number of padded frames nor what stands in them changes a term."""
    for case in cases(subject):
        batch = case.batch()
        before, after = (values(case.build(), case, each) for each in (batch, tensors.padded(batch, case.inputs)))
        for name, value in before.items():
            expect_close(after[name], value, EXACT, f"the same {name} with padding", case.label)


def batch_of_one(subject: Subject) -> None:
    """A batch of one is legal: finite terms that carry finite gradients."""
    for case in cases(subject):
        loss = case.build()
        for seed in range(3):
            _backward(loss, case, case.batch(1, seed), case.label)


def empty_modality(subject: Subject) -> None:
    """A sample without a real frame of a modality leaves every term and every gradient finite."""
    for case in cases(subject):
        for modality in case.inputs.modalities:
            _backward(case.build(), case, tensors.without(case.batch(), modality), f"{case.label}, no {modality}")


def _backward(loss: AlignmentLoss, case: Case, batch: Batch, place: str) -> Representation:
    """Terms and gradients of a batch, all finite."""
    representation = case.features(batch)
    found = loss(representation, batch)
    _expect_terms(found, terms_of(case.subject), case)
    loss.zero_grad()
    total_of(found).backward()
    for need in needs_of(case.subject):
        for leaf in leaves(representation, need):
            if leaf.grad is not None:
                expect_finite(leaf.grad, f"gradient with respect to {need}", place)
    for name, parameter in tensors.trainable(loss):
        if parameter.grad is not None:
            expect_finite(parameter.grad, f"gradient of {name}", place)
    return representation


def gradients(subject: Subject) -> None:
    """Over three epochs every trainable parameter of the loss, and at least one field that it needs, gets a finite gradient that is not zero."""
    read = needs_of(subject) or {"fused", "prediction"}
    for case in cases(subject):
        loss, reached, fields = case.build(), set(), set()
        for epoch in (1, 2, 3):
            if epoch > 1:
                loss.on_epoch_start(epoch)
            for step in range(2):
                representation = _backward(loss, case, case.batch(6, seed=10 * epoch + step), case.label)
                fields |= {need for need in read for leaf in leaves(representation, need) if leaf.grad is not None and leaf.grad.any()}
                with torch.no_grad():
                    for name, parameter in tensors.trainable(loss):
                        if parameter.grad is not None:
                            reached |= {name} if parameter.grad.any() else set()
                            tensors.step(parameter)
            loss.on_epoch_end(epoch)
        expect(fields, f"a gradient with respect to one of {', '.join(sorted(read))}", "none", case.label)
        lost = [name for name, _ in tensors.trainable(loss) if name not in reached]
        expect(not lost, "a gradient for every trainable parameter", f"none for {', '.join(lost)}", case.label)


def seed(subject: Subject) -> None:
    """One seed gives the same initial weights and, in training mode, the same terms."""
    for case in cases(subject):
        first, second = case.build(), case.build()
        lost = tensors.differing(state_of(first), state_of(second))
        expect(not lost, "the same initial state from the same seed", f"another {', '.join(lost)}", case.label)
        left, right = values(first, case, case.batch()), values(second, case, case.batch())
        for name, value in left.items():
            expect_close(right[name], value, 0.0, f"the same {name} from the same seed", case.label)


def evaluation(subject: Subject) -> None:
    """Nothing but training changes the loss's memory: a forward pass in evaluation mode leaves its state and the batch alone."""
    for case in cases(subject):
        loss, batch = case.build(), case.batch(unimodal=case.inputs.task == "regression")
        given = tensors.copied(batch)
        values(loss, case, batch)
        before = state_of(loss)
        values(loss.eval(), case, batch)
        changed = tensors.differing(before, state_of(loss))
        expect(not changed, "the same state after a forward pass in evaluation mode", f"another {', '.join(changed)}", case.label)
        expect(tensors.same_batch(given, batch), "a batch that a forward pass leaves alone", "other values", case.label)


def state(subject: Subject) -> None:
    """After two epochs parameters and buffers go through a file (weights_only) into a fresh instance, whose third epoch gives the same terms."""
    for case in cases(subject):
        loss = case.build()
        for epoch in (1, 2):
            if epoch > 1:
                loss.on_epoch_start(epoch)
            for step in range(2):
                values(loss, case, case.batch(seed=10 * epoch + step))
            loss.on_epoch_end(epoch)
        fresh = case.build(seed=1)
        tensors.load_state(fresh, tensors.through_a_file(loss), case.label)
        for each in (loss, fresh):
            each.on_epoch_start(3)
        for step in range(2):
            left, right = (values(each, case, case.batch(seed=step)) for each in (loss, fresh))
            for name, value in left.items():
                expect_close(right[name], value, 0.0, f"the same {name} from the loaded state", case.label)


def float64(subject: Subject) -> None:
    """In float64 the terms are what float32 gives."""
    for case in cases(subject):
        batch = case.batch()
        single = values(case.build(), case, batch)
        double = values(case.build().double(), _double(case), tensors.moved(batch, dtype=torch.float64))
        for name, value in single.items():
            expect_close(value, double[name], DOUBLE, f"the same {name} in float64", case.label)


def _double(case: Case) -> Case:
    """The case with its own model, where it has one, in float64."""
    found = Case(case.subject, case.inputs, case.sequences, case.model)
    if found.own is not None:
        found.own.double()
    return found


def bf16(subject: Subject) -> None:
    """Under bf16 autocast, on features in bf16, the terms are about what float32 gives for the same numbers, with finite gradients."""
    for case in cases(subject):
        batch, loss = case.batch(), case.build()
        half = case.features(batch, dtype=torch.bfloat16)
        seed_everything(3, "conformance")
        single = case.build()(cut(half, dtype=torch.float32), batch)
        seed_everything(3, "conformance")
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(half, batch)
        for name, value in single.items():
            expect_close(found[name], value, BF16, f"about the same {name} under bf16", case.label)
        total_of(found).backward()
        for need in needs_of(subject):
            for leaf in leaves(half, need):
                if leaf.grad is not None:
                    expect_finite(leaf.grad, f"gradient with respect to {need} under bf16", case.label)


def gpu(subject: Subject) -> None:
    """A GPU gives what the CPU gives, up to 0.001. Dropout draws otherwise there: the loss is compared in evaluation mode."""
    with tensors.gpu() as device:
        for case in cases(subject):
            batch = case.batch()
            features = case.features(batch)
            cpu = case.build().eval()(features, batch)
            cuda = case.build().eval().to(device)(on(features, device), tensors.moved(batch, device))
            for name, value in cpu.items():
                expect_close(cuda[name], value, GPU, f"the {name} of the CPU", case.label)


def on(representation: Representation, device: str) -> Representation:
    """The representation on another device."""

    def sequences(found: Any) -> Any:
        return None if found is None else {name: type(each)(each.values.to(device), each.mask.to(device)) for name, each in found.items()}

    unimodal = representation.unimodal_predictions
    return Representation(
        representation.prediction.to(device),
        representation.fused.to(device),
        sequences(representation.encoded),
        sequences(representation.common),
        sequences(representation.unique),
        None if unimodal is None else {name: value.to(device) for name, value in unimodal.items()},
        {name: value.to(device) for name, value in representation.extra.items()},
    )
