"""Entry module: declares DecAlign's backbone and its losses. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mmbench import Component, hookimpl

PAPER = "DecAlign: Hierarchical Cross-Modal Alignment for Decoupled Multimodal Representation Learning (2025)"


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """The backbone `decalign` and four losses, each usable with any backbone."""
    yield Component(
        kind="model",
        name="decalign",
        target="mmbench_decalign.model:DecAlign",
        config="mmbench_decalign.config:DecAlignConfig",
        summary="temporal convolutions, unique and common encoders, one transformer per modality, concatenation",
        paper=f"{PAPER}, sections 3.1 and 3.4",
        provides=frozenset({"encoded", "common", "unique"}),
        small={"width": 8, "heads": 2, "layers": 2},
    )
    yield Component(
        kind="loss",
        name="decoupling",
        target="mmbench_decalign.losses:Decoupling",
        config="mmbench_decalign.config:DecouplingConfig",
        summary="cosine between unique and common features of each modality",
        paper=f"{PAPER}, Eq. 1",
        needs=frozenset({"common", "unique"}),
        terms=("decoupling",),
        bounds={"decoupling": (-3.0, 3.0)},  # a mean cosine for each modality
    )
    yield Component(
        kind="loss",
        name="prototype_transport",
        target="mmbench_decalign.losses:PrototypeTransport",
        config="mmbench_decalign.config:PrototypeTransportConfig",
        summary="Gaussian mixture per modality, multi-marginal optimal transport between the prototypes, samples to prototypes",
        paper=f"{PAPER}, Eq. 2-9",
        needs=frozenset({"unique"}),
        terms=("transport", "prototype"),
        bounds={"transport": (0.0, math.inf), "prototype": (0.0, math.inf)},
        min_modalities=2,
    )
    yield Component(
        kind="loss",
        name="homogeneity",
        target="mmbench_decalign.losses:Homogeneity",
        config="mmbench_decalign.config:HomogeneityConfig",
        summary="equal mean, covariance and skewness, and a small maximum mean discrepancy, between common features",
        paper=f"{PAPER}, Eq. 10-12 and appendix B.6",
        needs=frozenset({"common"}),
        terms=("moments", "mmd"),
        bounds={"moments": (0.0, math.inf), "mmd": (-1.0, 2.0)},  # biased from 0; unbiased from -2/N
        min_modalities=2,
    )
    yield Component(
        kind="loss",
        name="supervised_contrastive",
        target="mmbench_decalign.losses:SupervisedContrastive",
        config="mmbench_decalign.config:SupervisedContrastiveConfig",
        summary="fused features of one class attract, of different classes repel",
        paper=f"{PAPER}, 'CT' of Table 2; Khosla et al., Supervised Contrastive Learning (2020), Eq. 2",
        terms=("contrastive",),
        bounds={"contrastive": (0.0, math.inf)},
    )
