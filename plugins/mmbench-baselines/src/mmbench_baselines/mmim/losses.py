"""MMIM's loss, usable with any backbone. Sequences are pooled first: the masked mean of their real frames.

Differs from the widely used implementation in these points. The estimator learns in the same step as the network, from features that are held
constant, and the network from an estimator that is held constant (there, epochs of either alternate). Its density keeps the normalisation, so that
`ba` is a bound in nats; the means are unbounded, since features of other backbones are, and the log-variances bounded. Entropies are those of
the features themselves, with the classes' shares as weights (there, of a projection, with equal weights). Nothing is selected by test scores.

The bound is that of features standardised over the batch (a map that can be undone leaves the information as it is) that are measured with a
little noise, in the likelihood and in the entropy alike. Otherwise a network can satisfy it by shrinking its features: where the covariances
alone were regularised, the bound went to 18 nats on CMU-MOSI while the features went to zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.batch import Batch, Representation
from mmbench.interfaces import AlignmentLoss, RepresentationSpec
from mmbench.layers import masked_mean, without_autocast
from mmbench_baselines.mmim.config import MutualInformationConfig

LEAST_NORM = 1e-6  # features of zero have the similarity zero with any
LEAST_VARIANCE = 1e-6  # a feature that varies by much less counts as constant
MOST_LOG_VARIANCE = 10.0


class MutualInformation(AlignmentLoss):
    """`cpc` = Σ_m -mean_i log exp s(Z_i, h_i^m) / Σ_j exp s(Z_i, h_j^m), s: cosine of G_m(Z) and h, G_m linear. Source: section 3.5.

    `ba` = -Σ_m [mean_i log q(y_i^m | h_i^x) + H(y^m)] over the modalities m but x, which is text, or the first where there is no text: minus
    Barber and Agakov's lower bound of I(h^x; h^m), in nats. `estimator` = -Σ_m mean_i log q(y_i^m | h_i^x). Source: section 3.4.
    y^m: h^m with mean zero and variance one over the batch, plus Gaussian noise of variance `noise`, by its expectation in closed form.
    q is a Gaussian with a diagonal covariance, both from MLPs on h^x. `ba` moves the features alone, `estimator` the MLPs alone.
    H: entropy of a mixture of one Gaussian per class, above zero and not, or per class of the data, from the batch and, held constant, the
    `memory` latest samples before it. Z: `fused`, h: `encoded`. A batch of one gives a `cpc` of 0 and moves no feature by `ba`.
    Only a forward pass in training mode changes the memory. Parameter group `mi_estimator`: the MLPs.
    """

    terms: ClassVar[tuple[str, ...]] = ("cpc", "ba", "estimator")
    memories: Mapping[str, Memory]

    def __init__(self, spec: RepresentationSpec, config: MutualInformationConfig):
        super().__init__(spec, config)
        if len(spec.encoded) < 2:
            raise ValueError(f"mutual_information needs 'encoded' of two or more modalities, and this model returns {list(spec.encoded)}")
        widths = {m: field.width for m, field in spec.encoded.items()}
        self.anchor = "text" if "text" in widths else next(iter(widths))
        others = [m for m in widths if m != self.anchor]
        self.noise = config.noise
        self.classes = len(spec.inputs.classes) if spec.inputs.task == "classification" else 2
        self.regression = spec.inputs.task == "regression"
        self.predictors = nn.ModuleDict({m: nn.Linear(spec.fused, width) for m, width in widths.items()})
        self.estimators = nn.ModuleDict({m: GaussianEstimator(widths[self.anchor], widths[m], config.noise) for m in others})
        self.memories = nn.ModuleDict({m: Memory(widths[m], config.memory) for m in others})  # type: ignore[assignment]

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """The MLPs of q."""
        return {"mi_estimator": self.estimators.parameters()}

    def forward(self, representation: Representation, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        with without_autocast(representation.fused):
            h = {m: masked_mean(x) for m, x in representation.encoded.items()}  # (B, d_m)
            if "cpc" in self.active:
                terms["cpc"] = self._cpc(representation.fused.to(h[self.anchor].dtype), h)
            if self.active & {"ba", "estimator"}:
                terms.update(self._information(h, batch.target))
        return {term: value for term, value in terms.items() if term in self.active}

    def _cpc(self, fused: Tensor, h: Mapping[str, Tensor]) -> Tensor:
        same = torch.arange(len(fused), device=fused.device)
        losses = []
        for m, predictor in self.predictors.items():
            predicted, real = (F.normalize(x, dim=-1, eps=LEAST_NORM) for x in (predictor(fused), h[m]))
            losses.append(F.cross_entropy(predicted @ real.T, same))  # (B, B): row i has Z_i
        return torch.stack(losses).sum()

    def _information(self, h: Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        classes = (target > 0).long() if self.regression else target  # (B,)
        x = h[self.anchor]
        bounds, likelihoods = [], []
        for m, q in self.estimators.items():
            memory = self.memories[m]
            y = standardized(h[m])  # (B, d)
            constant = {name: p.detach() for name, p in q.named_parameters()}
            likelihood = torch.func.functional_call(q, constant, (x, y))
            # A place of the memory that is still free is no member of any class.
            members = torch.cat([F.one_hot(classes, self.classes), F.one_hot(memory.classes, self.classes) * memory.filled.unsqueeze(1)])
            bounds.append(likelihood + mixture_entropy(torch.cat([y, memory.values.to(y.dtype)]), members, self.noise))
            likelihoods.append(q(x.detach(), y.detach()))
            if self.training:
                memory.store(y.detach(), classes)
        return {"ba": -torch.stack(bounds).sum(), "estimator": -torch.stack(likelihoods).sum()}


class GaussianEstimator(nn.Module):
    """mean_i E_ε log N(y_i + ε; μ(x_i), diag exp λ(x_i)), ε ~ N(0, `noise` I): (B, d_x), (B, d_y) -> ().

    μ and λ: MLPs with one hidden layer; |λ| stays below 10. E_ε (y + ε - μ)² = (y - μ)² + noise.
    """

    def __init__(self, inputs: int, outputs: int, noise: float):
        super().__init__()
        self.noise = noise
        self.mean = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))
        self.log_variance = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        log_variance = MOST_LOG_VARIANCE * torch.tanh(self.log_variance(x) / MOST_LOG_VARIANCE)  # (B, d_y)
        squares = ((y - self.mean(x)).square() + self.noise) * torch.exp(-log_variance)
        return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(-1).mean()


class Memory(nn.Module):
    """The latest samples of one modality with their classes, in a ring."""

    values: Tensor  # (size, d)
    classes: Tensor  # (size,)
    filled: Tensor  # (size,) bool
    place: Tensor  # () where the next sample goes

    def __init__(self, width: int, size: int):
        super().__init__()
        self.register_buffer("values", torch.zeros(size, width))
        self.register_buffer("classes", torch.zeros(size, dtype=torch.long))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def store(self, values: Tensor, classes: Tensor) -> None:
        """Put the last samples of a batch in place of the oldest: (B, d), (B,)."""
        size = len(self.values)
        values, classes = values[-size:], classes[-size:]
        index = (self.place + torch.arange(len(values), device=values.device)) % size
        self.values.index_copy_(0, index, values.to(self.values.dtype))
        self.classes.index_copy_(0, index, classes)
        self.filled.index_fill_(0, index, True)
        self.place.add_(len(values)).remainder_(size)


def standardized(x: Tensor) -> Tensor:
    """Mean zero and variance one in each feature over the batch: (B, d) -> (B, d). A batch of one gives zeros."""
    centred = x - x.mean(0)
    return centred * torch.rsqrt(centred.square().mean(0) + LEAST_VARIANCE)


def mixture_entropy(samples: Tensor, members: Tensor, noise: float) -> Tensor:
    """Σ_c π_c (½ log det 2πe (S_c + noise I) - log π_c): samples (n, d), members (n, C) of zeros and ones -> (), in nats.

    It bounds the entropy of the mixture from above. π_c: the class's share of the members. S_c: covariance over its n_c members. No member at
    all gives 0. With fewer samples than features, the determinant is that of the samples' Gram matrix: the other eigenvalues are the noise.
    Source: paper, section 3.4; Huber et al., On Entropy Approximation for Gaussian Mixture Random Vectors (2008).
    """
    n, d = samples.shape
    y, weight = samples.double(), members.double().T  # a class may hold one sample, next to squares of any size; (C, n)
    count = weight.sum(1)
    divisor = count.clamp(min=1.0)
    mean = weight @ y / divisor.unsqueeze(1)  # (C, d)
    centred = (y - mean.unsqueeze(1)) * (weight / divisor.unsqueeze(1)).sqrt().unsqueeze(-1)  # (C, n, d)
    square = centred @ centred.mT if n < d else centred.mT @ centred  # (C, k, k)
    k = min(n, d)
    factor = torch.linalg.cholesky_ex(square + noise * torch.eye(k, dtype=y.dtype, device=y.device)).L  # unchecked: a check waits for the device
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + (d - k) * math.log(noise)  # (C,)
    share = count / count.sum().clamp(min=1.0)  # (C,)
    entropy = share * 0.5 * (d * math.log(2 * math.pi * math.e) + log_det) - torch.xlogy(share, share)
    return entropy.sum().to(samples.dtype)
