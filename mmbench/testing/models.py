"""Checks of fusion models. Each is made for every task, and for one, two and three modalities as far as the component allows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmbench.batch import Batch, Representation, Sequence
from mmbench.component import FIELDS, FieldSpec, InputSpec
from mmbench.interfaces import FusionModel
from mmbench.testing import tensors
from mmbench.testing.checks import Failed, Skipped, Subject, expect
from mmbench.testing.factories import MODALITIES, fit_context, make_batch, make_inputs
from mmbench.testing.tensors import expect_close, expect_finite, state_of
from mmbench.training.seeds import seed_everything

EXACT, DOUBLE, BF16, GPU = 1e-5, 1e-3, 0.1, 1e-3
"""Tolerances: of what should be equal in float32, of float32 against float64, of bf16 against float32, of the GPU against the CPU."""


@dataclass(frozen=True)
class Case:
    """A model for one task and one set of modalities."""

    subject: Subject
    inputs: InputSpec

    @property
    def label(self) -> str:
        vectors = all(spec.length == 1 for spec in self.inputs.modalities.values())
        return f"{self.inputs.task}, {'+'.join(self.inputs.modalities)}{', vectors' if vectors else ''}"

    def build(self, seed: int = 0) -> FusionModel:
        """The model with the weights of a seed, told of the training targets, in training mode."""
        seed_everything(seed, "conformance")
        model: Any = self.subject.entry.load()
        if not (isinstance(model, type) and issubclass(model, FusionModel)):
            raise Failed(f"expected a subclass of mmbench.interfaces.FusionModel at {self.subject.component.target}; seen {model!r}")
        built = model(self.inputs, self.subject.config())
        built.on_fit_start(fit_context(self.inputs))
        return built

    def batch(self, size: int = 4, seed: int = 0) -> Batch:
        return make_batch(self.inputs, size, seed)


def cases(subject: Subject) -> Iterator[Case]:
    """One case for each task and number of modalities. A model whose component says ``needs={"tokens"}`` gets the text as token ids."""
    tokens = {"text"} if "tokens" in subject.component.needs else set()
    for task, names in itertools.product(subject.component.tasks, tensors.subsets(subject.component.min_modalities)):
        yield Case(subject, make_inputs(names, task, tokens=tokens))


def outputs(representation: Representation) -> dict[str, Tensor]:
    """What a model returns as flat tensors: sequences by their masked means, since padding may differ."""
    found = {"prediction": representation.prediction, "fused": representation.fused, **{f"extra.{k}": v for k, v in representation.extra.items()}}
    for field in ("encoded", "common", "unique"):
        for name, sequence in (getattr(representation, field) or {}).items():
            clean = sequence.values.masked_fill(~sequence.mask.unsqueeze(-1), 0.0)
            found[f"{field}.{name}"] = Sequence(clean, sequence.mask).mean()
    found.update({f"unimodal_predictions.{name}": value for name, value in (representation.unimodal_predictions or {}).items()})
    return found


@torch.no_grad()
def evaluated(model: FusionModel, batch: Batch) -> dict[str, Tensor]:
    """The outputs in evaluation mode."""
    return outputs(model.eval()(batch))


def fields(subject: Subject) -> None:
    """The model returns the fields that its component declares, in the shapes that its spec declares."""
    for case in cases(subject):
        model, batch = case.build(), case.batch()
        spec, representation = model.spec, model(batch)
        config = subject.config()
        declared = config.provides() if hasattr(config, "provides") else subject.component.provides
        filled = {field for field in FIELDS if getattr(spec, field)} | {f"extra.{key}" for key in spec.extra}
        expect(declared == filled, f"a spec with the declared fields {sorted(declared)}", sorted(filled), case.label)
        returned = {field for field in FIELDS if getattr(representation, field)} | {f"extra.{key}" for key in representation.extra}
        expect(returned == filled, f"the fields of the spec, {sorted(filled)}", sorted(returned), case.label)
        size = len(batch.index)
        shape = (size,) if case.inputs.task == "regression" else (size, case.inputs.outputs)
        expect(representation.prediction.shape == shape, f"a prediction of shape {shape}", tuple(representation.prediction.shape), case.label)
        fused = (size, spec.fused)
        expect(representation.fused.shape == fused, f"fused of shape {fused}", tuple(representation.fused.shape), case.label)
        for field in ("encoded", "common", "unique"):
            _expect_sequences(field, getattr(spec, field) or {}, getattr(representation, field) or {}, case)
        for field in ("common", "unique"):
            widths = {entry.width for entry in (getattr(spec, field) or {}).values()}
            expect(len(widths) <= 1, f"one width of {field} for all modalities", sorted(widths), case.label)
        unimodal = representation.unimodal_predictions or {}
        names = set(spec.unimodal_predictions or ())
        expect(set(unimodal) == names, f"unimodal predictions of {sorted(names)}", sorted(unimodal), case.label)
        for name, value in unimodal.items():
            expect(value.shape == shape, f"a unimodal prediction of shape {shape}", tuple(value.shape), f"{case.label}, {name}")
        for name, value in outputs(representation).items():
            expect_finite(value, name, case.label)


def _expect_sequences(field: str, declared: Mapping[str, FieldSpec], found: Mapping[str, Sequence], case: Case) -> None:
    expect(set(declared) <= set(case.inputs.modalities), f"{field} of modalities of the data", sorted(declared), case.label)
    expect(set(found) == set(declared), f"{field} of {sorted(declared)}", sorted(found), case.label)
    for name, entry in declared.items():
        values, mask = found[name].values, found[name].mask
        place = f"{case.label}, {field}.{name}"
        expect(values.ndim == 3 and values.shape[2] == entry.width, f"values (B, T, {entry.width})", tuple(values.shape), place)
        expect(values.is_floating_point(), "float values", values.dtype, place)
        expect(mask.shape == values.shape[:2] and mask.dtype == torch.bool, "a bool mask (B, T)", f"{mask.dtype} {tuple(mask.shape)}", place)
        expect(entry.sequence or values.shape[1] == 1, "one vector a sample, as the spec says", f"{values.shape[1]} frames", place)


def modalities(subject: Subject) -> None:
    """The model runs with every set of modalities that is large enough, as sequences and as vectors."""
    least = subject.component.min_modalities
    tokens = {"text"} if "tokens" in subject.component.needs else set()
    sets = [names for count in range(least, 4) for names in itertools.combinations(MODALITIES, count) if tokens <= set(names)]
    for task, names, sequences in itertools.product(subject.component.tasks, sets, (True, False)):
        case = Case(subject, make_inputs(names, task, sequences=sequences, tokens=tokens))
        try:
            found = case.build()(case.batch())
        except Exception as error:
            raise Failed(f"expected that it runs; seen {type(error).__name__}: {' '.join(str(error).split())} ({case.label})") from error
        expect_finite(found.prediction, "prediction", case.label)


def padding(subject: Subject) -> None:
    """Neither the number of padded frames nor what stands in them changes a sample's output."""
    for case in cases(subject):
        model, batch = case.build(), case.batch()
        before, after = evaluated(model, batch), evaluated(model, tensors.padded(batch, case.inputs))
        for name, value in before.items():
            expect_close(after[name], value, EXACT, f"the same {name} with padding", case.label)


def batch_of_one(subject: Subject) -> None:
    """A batch of one is legal in training and in evaluation, and gives what the sample gives among others."""
    for case in cases(subject):
        model, batch = case.build(), case.batch()
        together = evaluated(model, batch)
        for sample in range(len(batch.index)):
            alone = tensors.rows(batch, [sample])
            for name, value in evaluated(model, alone).items():
                if not name.startswith("extra."):  # which a model may reduce over the batch
                    expect_close(value, together[name][sample : sample + 1], EXACT, f"the same {name} for a sample alone", case.label)
        for sample in (0, 1):  # last: what is normalised by running statistics changes in training
            for name, value in outputs(model.train()(tensors.rows(batch, [sample]))).items():
                expect_finite(value, f"{name} of a batch of one in training", case.label)


def empty_modality(subject: Subject) -> None:
    """A sample without a real frame of a modality gets a finite output and finite gradients, and does not change the others."""
    for case in cases(subject):
        model, batch = case.build(), case.batch()
        for modality in case.inputs.modalities:
            whole = evaluated(model, batch)  # again each time: the training step below may change running statistics
            place = f"{case.label}, no {modality}"
            gone = tensors.without(batch, modality)
            for name, value in evaluated(model, gone).items():
                expect_finite(value, name, place)
                if not name.startswith("extra."):
                    expect_close(value[1:], whole[name][1:], EXACT, f"the same {name} of the other samples", place)
            model.zero_grad()
            total = _mixed(model.train()(gone))
            if total.requires_grad:
                total.backward()
            for name, parameter in tensors.trainable(model):
                if parameter.grad is not None:
                    expect_finite(parameter.grad, f"gradient of {name}", place)


def _mixed(representation: Representation) -> Tensor:
    """A scalar of everything that a model returns, each number with a weight of its own (the sum of normalised features has no gradient)."""
    generator = torch.Generator().manual_seed(5)
    values = [value for value in outputs(representation).values() if value.is_floating_point()]
    return torch.stack([(value * torch.randn(value.shape, generator=generator).to(value)).sum() for value in values]).sum()


def gradients(subject: Subject) -> None:
    """Every trainable parameter gets a finite gradient that is not zero, in one of four steps."""
    for case in cases(subject):
        model = case.build()
        if not any(True for _ in tensors.trainable(model)):
            raise Skipped("nothing to train")
        reached: set[str] = set()
        for step in range(4):
            if all(name in reached for name, _ in tensors.trainable(model)):
                break
            model.zero_grad()
            _mixed(model.train()(case.batch(6, seed=step))).backward()
            with torch.no_grad():
                for name, parameter in tensors.trainable(model):
                    if parameter.grad is not None:
                        expect_finite(parameter.grad, f"gradient of {name}", case.label)
                        if parameter.grad.any():
                            reached.add(name)
                        tensors.step(parameter)
        lost = [name for name, _ in tensors.trainable(model) if name not in reached]
        expect(not lost, "a gradient for every trainable parameter", f"none for {', '.join(lost)}", case.label)


def seed(subject: Subject) -> None:
    """One seed gives the same initial weights and, in training mode, the same output."""
    for case in cases(subject):
        first, second = case.build(), case.build()
        lost = tensors.differing(state_of(first), state_of(second))
        expect(not lost, "the same initial state from the same seed", f"another {', '.join(lost)}", case.label)
        found = []
        for model in (first, second):
            seed_everything(1, "conformance")
            found.append(outputs(model.train()(case.batch())))
        for name, value in found[0].items():
            expect_close(found[1][name], value, 0.0, f"the same {name} in training mode from the same seed", case.label)


def evaluation(subject: Subject) -> None:
    """A forward pass in evaluation mode changes neither the model's state nor the batch, and gives the same again."""
    for case in cases(subject):
        model, batch = case.build(), case.batch()
        given = tensors.copied(batch)
        model.train()(batch)
        before = state_of(model)
        first, second = evaluated(model, batch), evaluated(model, batch)
        changed = tensors.differing(before, state_of(model))
        expect(not changed, "the same state after a forward pass in evaluation mode", f"another {', '.join(changed)}", case.label)
        expect(tensors.same_batch(given, batch), "a batch that a forward pass leaves alone", "other values", case.label)
        for name, value in first.items():
            expect_close(second[name], value, 0.0, f"the same {name} in evaluation mode", case.label)


def state(subject: Subject) -> None:
    """The state goes through a file (weights_only) into a fresh instance, which then gives the same outputs."""
    for case in cases(subject):
        model = case.build()
        for step in range(2):
            model.train()(case.batch(seed=step))
        fresh = case.build(seed=1)
        tensors.load_state(fresh, tensors.through_a_file(model), case.label)
        before, after = evaluated(model, case.batch(seed=2)), evaluated(fresh, case.batch(seed=2))
        for name, value in before.items():
            expect_close(after[name], value, 0.0, f"the same {name} from the loaded state", case.label)


def float64(subject: Subject) -> None:
    """In float64 the model gives float64, and what float32 gives."""
    for case in cases(subject):
        model, batch = case.build(), case.batch()
        single = evaluated(model, batch)
        double = evaluated(model.double(), tensors.moved(batch, dtype=torch.float64))
        expect(double["prediction"].dtype == torch.float64, "a prediction in float64", double["prediction"].dtype, case.label)
        for name, value in single.items():
            expect_close(value, double[name], DOUBLE, f"the same {name} in float64", case.label)


def bf16(subject: Subject) -> None:
    """Under bf16 autocast the model runs forward and backward, and gives about what float32 gives."""
    for case in cases(subject):
        model, batch = case.build(), case.batch()
        single = evaluated(model, batch)
        with torch.autocast("cpu", torch.bfloat16):
            half = evaluated(model, batch)
        with torch.autocast("cpu", torch.bfloat16):  # anew: older releases of torch keep the weights of a context as they were cast without gradient
            total = _mixed(model.train()(batch))
        for name, value in single.items():
            expect_close(half[name], value, BF16, f"about the same {name} under bf16", case.label)
        if total.requires_grad:
            total.backward()
        for name, parameter in tensors.trainable(model):
            if parameter.grad is not None:
                expect_finite(parameter.grad, f"gradient of {name} under bf16", case.label)


def gpu(subject: Subject) -> None:
    """A GPU gives what the CPU gives, up to 0.001."""
    with tensors.gpu() as device:
        for case in cases(subject):
            model, batch = case.build(), case.batch()
            cpu = evaluated(model, batch)
            cuda = evaluated(model.to(device), tensors.moved(batch, device))
            for name, value in cpu.items():
                expect_close(cuda[name], value, GPU, f"the {name} of the CPU", case.label)
