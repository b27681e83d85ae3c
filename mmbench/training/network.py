"""Everything of a run that has parameters: model, adapters and losses, built from a resolved config under seeds of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.adapters import Adapters
from mmbench.batch import Batch, Representation
from mmbench.component import FitContext, InputSpec
from mmbench.config import Weight
from mmbench.data.dataset import CONTEXT
from mmbench.errors import ConfigError, RunError
from mmbench.interfaces import AlignmentLoss, FeatureExtractor, FusionModel
from mmbench.plugins import one_line
from mmbench.resolve import Choice, Resolved
from mmbench.training.encoders import Encoders, encoded_spec
from mmbench.training.ranks import Alone
from mmbench.training.seeds import seed_everything

MODEL = "model"


class Network(nn.Module):
    """A fusion model with its losses, and the adapters between them. Losses and adapters take part in training alone."""

    losses: Mapping[str, AlignmentLoss]
    encoders: Mapping[str, FeatureExtractor]

    def __init__(self, resolved: Resolved, inputs: InputSpec, seed: int, encoders: Encoders | None = None, ranks: Alone | None = None):
        super().__init__()
        self.ranks = ranks or Alone()
        trained = {modality: encoder for modality, encoder in (encoders or {}).items() if encoder.finetune}
        self.encoders = nn.ModuleDict(trained)  # type: ignore[assignment]
        inputs = _encoded_inputs(inputs, trained)
        seed_everything(seed, "initialisation")
        self.model: FusionModel = _build(resolved.model, inputs)
        spec = self.model.spec
        self.adapters: Adapters | None = None
        if resolved.fit.adapters:
            seed_everything(seed, "adapters")
            self.adapters = Adapters(spec, resolved.fit.adapters, resolved.experiment.adapters)
            spec = self.adapters.spec
        built = {}
        for choice in resolved.losses:
            seed_everything(seed, "loss", choice.entry.key)
            built[choice.entry.component.name] = _build(choice, spec)
        self.losses = nn.ModuleDict(built)  # type: ignore[assignment]
        self.weights: dict[str, Mapping[str, Weight]] = {choice.entry.component.name: choice.weights for choice in resolved.losses}

    def forward(self, batch: Batch) -> Representation:
        """What the model makes of a batch, after the encoders that are trained with it."""
        if self.encoders:
            encoded = {name: self.ranks.encode(self._encoder(name), raw) if self._encoder(name) else raw for name, raw in batch.inputs.items()}
            batch = dataclasses.replace(batch, inputs=encoded)
        representation: Representation = self.model(batch)
        return representation

    def _encoder(self, name: str) -> Any:
        modality = name.removesuffix(CONTEXT)
        return self.encoders[modality] if modality in self.encoders else None  # noqa: SIM401  (a ModuleDict has no get)

    def terms(self, representation: Representation, batch: Batch, epoch: int, scales: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The weighted terms of all losses by ``loss.term``; a term of weight zero is neither asked for nor used.

        `scales`: the epoch's weights as tensors () by ``loss.term``, so that a CUDA graph can read them anew.
        RunError: a loss returns other terms than its component declares.
        """
        if self.adapters is not None:
            representation = self.adapters(representation)
        found = {}
        for name, loss in self.losses.items():
            weights = {term: weight_at(weight, epoch) for term, weight in self.weights[name].items()}
            loss.active = frozenset(term for term, weight in weights.items() if weight)
            if loss.active:
                returned = loss(representation, batch)
                _compare_terms(name, returned, weights, loss.active)
                terms = {term: value for term, value in returned.items() if term in loss.active}
                found.update({f"{name}.{term}": (scales[f"{name}.{term}"] if scales else weights[term]) * value for term, value in terms.items()})
        return found

    def diagnostics(self) -> dict[str, Tensor]:
        """What the losses want logged beside their terms, by ``loss.value``."""
        return {f"{name}.{key}": value.detach() for name, loss in self.losses.items() if loss.active for key, value in loss.diagnostics.items()}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The trainable parameters by group name; each parameter stands in one group. A group that a component names may be empty."""
        groups: dict[str, list[nn.Parameter]] = {}
        seen: set[int] = set()

        def add(name: str, parameters: Any) -> None:
            fresh = [p for p in parameters if p.requires_grad and id(p) not in seen]
            seen.update(id(p) for p in fresh)
            if fresh:
                groups.setdefault(name, []).extend(fresh)

        modules: list[tuple[FusionModel | AlignmentLoss, str]] = [(self.model, MODEL)]
        modules += [(loss, f"losses.{name}") for name, loss in self.losses.items()]
        for module, default in modules:
            for name, parameters in module.parameter_groups().items():
                groups.setdefault(name, [])  # known by name even where it is empty, as that of a modality that is not in use
                add(name, parameters)
            add(default, module.parameters())
        if self.adapters is not None:
            add("adapters", self.adapters.parameters())
        for name, encoder in self.encoders.items():
            add(f"encoders.{name}", encoder.parameters())
        return groups

    def on_fit_start(self, context: FitContext) -> None:
        """Pass the training targets to those that want them."""
        self.model.on_fit_start(context)
        for loss in self.losses.values():
            loss.on_fit_start(context)


def _encoded_inputs(inputs: InputSpec, encoders: Encoders) -> InputSpec:
    """The specification as the model sees it, behind the encoders."""
    modalities, contexts = (
        {name: encoded_spec(encoders[name], spec) if name in encoders else spec for name, spec in specs.items()}
        for specs in (inputs.modalities, inputs.contexts)
    )
    return dataclasses.replace(inputs, modalities=modalities, contexts=contexts)


def weight_at(weight: Weight, epoch: int) -> float:
    """The weight in an epoch (1, 2, ...): it grows linearly over the warm-up, and is full in its last epoch."""
    value, warmup = weight
    return value * min(1.0, epoch / warmup) if warmup else value


def _compare_terms(name: str, returned: Mapping[str, Tensor], declared: Iterable[str], active: Iterable[str]) -> None:
    """A term that is not returned, or that nothing weights, would be left out of training without a word."""
    if [term for term in returned if term not in declared] or [term for term in active if term not in returned]:
        raise RunError(
            f"loss {name!r} returned {', '.join(map(repr, returned)) or 'no term'}; its component declares {', '.join(map(repr, declared))}. "
            "`terms` of its record and of its class name what forward returns"
        )


def task_loss(name: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Mean loss of a batch: ``l1``, ``mse`` (B,) or ``cross_entropy`` (B, classes)."""
    prediction = prediction.float()
    if name == "cross_entropy":
        return nn.functional.cross_entropy(prediction, target)
    return nn.functional.l1_loss(prediction, target) if name == "l1" else nn.functional.mse_loss(prediction, target)


def _build(choice: Choice, spec: Any) -> Any:
    component = choice.entry.component
    cls = choice.entry.load()
    try:
        return cls(spec, choice.config)
    except (ValueError, TypeError, RuntimeError, torch.OutOfMemoryError) as error:
        raise ConfigError(f"{component.kind} {component.name!r} cannot be built with this config and data: {one_line(error)}") from error
