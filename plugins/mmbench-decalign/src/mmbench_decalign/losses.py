"""DecAlign's losses, each usable with any backbone and any number of modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batch import Batch, Representation, Sequence
from mmbench.interfaces import AlignmentLoss, FieldSpec, RepresentationSpec
from mmbench.layers import Dropout, at_least_float32, without_autocast
from mmbench_decalign.config import DecouplingConfig, HomogeneityConfig, PrototypeTransportConfig, SupervisedContrastiveConfig
from mmbench_decalign.cosine import MaskedCosine
from mmbench_decalign.mixture import Mixture, fit_mixture, initial_mixture, merge
from mmbench_decalign.moments import mmd, moment_distance
from mmbench_decalign.pooling import pooled
from mmbench_decalign.transport import gaussian_cost, joint_cost, multi_marginal_plan, mutual_information, refuse_too_large


class Decoupling(AlignmentLoss):
    """L_dec = Σ_m mean_n cos(F_uni^m, F_com^m), each flattened over the sample's real frames; `squared`: of cos². Source: Eq. 1.

    Range: [-M, M], or [0, M]. Where one of the two is a vector and the other a sequence, both are pooled first.
    """

    terms: ClassVar[tuple[str, ...]] = ("decoupling",)

    def __init__(self, spec: RepresentationSpec, config: DecouplingConfig):
        super().__init__(spec, config)
        self.squared = config.form == "squared"
        unique, common = _field(spec, "unique", "decoupling"), _field(spec, "common", "decoupling")
        for m in unique:
            if unique[m].width != common[m].width:
                raise ValueError(f"decoupling: unique has width {unique[m].width} and common {common[m].width} for '{m}'; a cosine needs one width")
        self.pool = {m: unique[m].sequence != common[m].sequence for m in unique}

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        assert representation.unique is not None
        assert representation.common is not None
        with without_autocast(representation.fused):
            cosines = [self._cosine(m, representation.unique[m], representation.common[m]) for m in self.pool]
            cosine = torch.stack(cosines)  # (M, B)
            return {"decoupling": (cosine.square() if self.squared else cosine).mean(1).sum()}

    def _cosine(self, modality: str, unique: Sequence, common: Sequence) -> Tensor:
        if self.pool[modality]:
            first, second = pooled({"a": unique, "b": common}, "ab")
            return F.cosine_similarity(first, second, dim=-1)  # (B,)
        cosine: Tensor = MaskedCosine.apply(at_least_float32(unique.values), at_least_float32(common.values), unique.mask & common.mask)
        return cosine


class PrototypeTransport(AlignmentLoss):
    """L_hete: prototypes of the pooled unique features, transported onto each other. Source: Eq. 2-9.

    `transport` = Σ_k T*(k) C(k). `prototype` = mean over i≠j of 1/N Σ_n Σ_k w_i^n(k) ‖x_i^n - μ_j^k‖² (Eq. 9 prints one pair).
    Both are 0 for a batch of one. The value of `transport` has no entropy term. With `gradient: envelope` its gradient in C is T*, which is the exact
    gradient of min_T ⟨T, C⟩ + λ Σ T log T at fixed marginals.
    Diagnostics: `cost_over_epsilon` (mean C/λ; far below one the plan aligns little) and `plan_mutual_information` (nats).
    """

    terms: ClassVar[tuple[str, ...]] = ("transport", "prototype")
    weights: Tensor  # the running prototypes of `fit: ema`
    means: Tensor
    covariances: Tensor
    started: Tensor

    def __init__(self, spec: RepresentationSpec, config: PrototypeTransportConfig):
        super().__init__(spec, config)
        self.config = config
        unique = _field(spec, "unique", "prototype_transport")
        self.modalities = _several(unique, "prototype_transport")
        self.num_prototypes = config.num_prototypes or spec.inputs.prototypes
        refuse_too_large(self.num_prototypes, len(self.modalities), config.iterations if config.gradient == "unrolled" else 0)
        if config.fit == "ema":
            count, width = len(self.modalities), unique[self.modalities[0]].width
            full = (width,) if config.covariance == "full" else ()
            self.register_buffer("weights", torch.full((count, self.num_prototypes), 1.0 / self.num_prototypes))
            self.register_buffer("means", torch.zeros(count, self.num_prototypes, width))
            self.register_buffer("covariances", torch.ones(count, self.num_prototypes, width, *full))
            self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        assert representation.unique is not None
        self.diagnostics = {}
        with without_autocast(representation.fused):
            features = pooled(representation.unique, self.modalities)  # (M, B, d)
            if features.shape[1] == 1:
                return {term: features.sum() * 0.0 for term in self.terms if term in self.active}
            x = features.double()  # a component may hold one sample: its variance is then the floor, next to squares of any size
            mixture = self._mixture(x)
            posterior = mixture.posterior(x)  # (M, B, K)
            if self.config.em_gradient == "last":
                posterior = posterior.detach()
            result = {}
            if "transport" in self.active:
                result["transport"] = self._transport(mixture, posterior)
            if "prototype" in self.active:
                result["prototype"] = prototype_distance(x, posterior, mixture.means) / (x.shape[-1] if self.config.reduction == "mean" else 1)
            return {term: value.to(features.dtype) for term, value in result.items()}

    def _mixture(self, x: Tensor) -> Mixture:
        config = self.config
        start = initial_mixture(x, self.num_prototypes, config.covariance, config.variance_floor)
        if config.fit == "batch":
            return fit_mixture(x, start, config.em_steps, config.variance_floor, config.shrinkage, config.em_gradient)
        started = self.started.clone()  # the buffer changes before the backward pass
        running = Mixture(self.weights.to(x.dtype), self.means.to(x.dtype), self.covariances.to(x.dtype))
        start = Mixture(
            torch.where(started, running.weights, start.weights),
            torch.where(started, running.means, start.means),
            torch.where(started, running.covariances, start.covariances),
        )
        fitted = fit_mixture(x, start, config.em_steps, config.variance_floor, config.shrinkage, config.em_gradient)
        mixture = merge(running, fitted, momentum=config.ema_momentum * started.to(x.dtype))
        if self.training:
            self._keep(mixture.detach())
        return mixture

    def _keep(self, mixture: Mixture) -> None:
        self.weights.copy_(mixture.weights)
        self.means.copy_(mixture.means)
        self.covariances.copy_(mixture.covariances)
        self.started.fill_(True)

    def _transport(self, mixture: Mixture, posterior: Tensor) -> Tensor:
        config = self.config
        cost = joint_cost(gaussian_cost(mixture, config.reduction), len(self.modalities))  # (K, ..., K)
        nu = posterior.mean(1)  # (M, K)
        epsilon: Tensor | float = config.epsilon
        if config.epsilon_relative:
            epsilon = config.epsilon * cost.detach().mean().clamp(min=torch.finfo(cost.dtype).tiny)
        with torch.set_grad_enabled(torch.is_grad_enabled() and config.gradient == "unrolled"):
            plan = multi_marginal_plan(cost, nu.unbind(), epsilon, config.iterations, config.tolerance)
        with torch.no_grad():
            self.diagnostics["cost_over_epsilon"] = cost.detach().mean() / epsilon
            self.diagnostics["plan_mutual_information"] = mutual_information(plan.detach(), nu.detach().unbind())
        return (plan * cost).sum()


def prototype_distance(x: Tensor, posterior: Tensor, means: Tensor) -> Tensor:
    """Mean over the ordered pairs i≠j of 1/N Σ_n Σ_k w_i^n(k) ‖x_i^n - μ_j^k‖²: x (M, N, d), w (M, N, K), μ (M, K, d) -> scalar. Source: Eq. 9."""
    modalities, samples, _ = x.shape
    square = means.square().sum(-1)  # (M, K)
    own = (modalities - 1) * (posterior.sum(-1) * x.square().sum(-1)).sum()  # Σ w ‖x‖², once for each other modality
    other = (posterior.sum(1) * (square.sum(0) - square)).sum()  # Σ_{j≠i} w ‖μ_j‖²
    product = ((posterior.mT @ x) * (means.sum(0) - means)).sum()  # Σ_{j≠i} w x·μ_j
    return (own + other - 2 * product) / (samples * modalities * (modalities - 1))


class Homogeneity(AlignmentLoss):
    """L_homo: the pooled common features of all modalities get one distribution. Source: Eq. 10-12, B.6.

    The probabilistic distribution encoder (`pde`), which this loss owns, maps each modality's vectors by an MLP d→d→pde_dim with ReLU first.
    `moments` = 1/(M(M-1)) Σ_{i<j} (‖μ_i-μ_j‖² + ‖Σ_i-Σ_j‖²_F + ‖Γ_i-Γ_j‖²), μ mean, Σ covariance over N, Γ mean cube of the standardised features.
    `mmd` = 2/(M(M-1)) Σ_{i<j} E k(x, x') + E k(y, y') - 2 E k(x, y), k Gaussian. Both compare samples of a batch; a batch of one is legal.
    """

    terms: ClassVar[tuple[str, ...]] = ("moments", "mmd")

    def __init__(self, spec: RepresentationSpec, config: HomogeneityConfig):
        super().__init__(spec, config)
        self.config = config
        common = _field(spec, "common", "homogeneity")
        self.modalities = _several(common, "homogeneity")
        width = common[self.modalities[0]].width
        self.encoders = nn.ModuleDict()
        if config.pde:
            for m in self.modalities:
                layers = (nn.Linear(width, width), nn.ReLU(), Dropout(config.pde_dropout), nn.Linear(width, config.pde_dim or width))
                self.encoders[m] = nn.Sequential(*layers)

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        assert representation.common is not None
        with without_autocast(representation.fused):
            z = pooled(representation.common, self.modalities)  # (M, B, d)
            if self.config.pde:
                z = torch.stack([encode(x) for encode, x in zip(self.encoders.values(), z, strict=True)])  # (M, B, pde_dim)
            result = {}
            if "moments" in self.active:
                result["moments"] = moment_distance(z, self.config.reduction)
            if "mmd" in self.active:
                result["mmd"] = mmd(z, self.config.bandwidth, self.config.estimator)
            return result


class SupervisedContrastive(AlignmentLoss):
    """-1/|A| Σ_{i∈A} 1/|P(i)| Σ_{p∈P(i)} log exp(z_i·z_p/τ) / Σ_{a≠i} exp(z_i·z_a/τ) on the normalised fused features z.

    P(i): the other samples of the class of i; A: the samples that have one. Without any, the loss is 0. Classes: the index, or for regression
    the label clipped to the data set's range and rounded (half to even). Source: 'CT' of the paper's Table 2; Khosla et al. 2020, Eq. 2.
    """

    terms: ClassVar[tuple[str, ...]] = ("contrastive",)

    def __init__(self, spec: RepresentationSpec, config: SupervisedContrastiveConfig):
        super().__init__(spec, config)
        self.temperature = config.temperature
        self.regression = spec.inputs.task == "regression"
        self.label_range = spec.inputs.label_range

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        with without_autocast(representation.fused):
            fused = at_least_float32(representation.fused)
            if len(fused) == 1:
                return {"contrastive": fused.sum() * 0.0}
            label = batch.target
            if self.regression:
                label = (label.clamp(*self.label_range) if self.label_range else label).round()
            z = F.normalize(fused, dim=-1)  # (B, F)
            self_pair = torch.eye(len(z), dtype=torch.bool, device=z.device)
            log_probability = (z @ z.T / self.temperature).masked_fill(self_pair, -torch.inf).log_softmax(-1)  # (B, B)
            positive = (label.unsqueeze(1) == label) & ~self_pair
            count = positive.sum(1)  # (B,)
            anchor = torch.where(positive, log_probability, 0.0).sum(1) / count.clamp(min=1)
            return {"contrastive": -anchor.sum() / (count > 0).sum().clamp(min=1)}


def _field(spec: RepresentationSpec, name: str, loss: str) -> Mapping[str, FieldSpec]:
    field = getattr(spec, name)
    if not field:
        raise ValueError(f"{loss} needs '{name}', which this model does not return: use a model or an adapter that does")
    return field


def _several(field: Mapping[str, FieldSpec], loss: str) -> tuple[str, ...]:
    if len(field) < 2:
        raise ValueError(f"{loss} compares modalities and needs two or more, but there is only {list(field)}")
    if len({entry.width for entry in field.values()}) > 1:
        raise ValueError(f"{loss} needs one width for all modalities, got { ({m: entry.width for m, entry in field.items()}) }")
    return tuple(field)
