"""Entry module: declares SLaD's backbone and its losses. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mmbench import Component, hookimpl

PAPER = "SLaD: Sub-modal Label-aware Disentanglement for Multimodal Sentiment Analysis (under review, 2025)"


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """The backbone `slad` and four losses, each usable with any backbone. The losses compare sentiment intensities: regression only."""
    yield Component(
        kind="model",
        name="slad",
        target="mmbench_slad.model:SLaD",
        config="mmbench_slad.config:SLaDConfig",
        summary="invariant and specific heads per modality, two stacks of parallel cross-attention, pseudo-labels",
        paper=f"{PAPER}, sections 3.2-3.5",
        provides=frozenset({"encoded", "common", "unique", "unimodal_predictions"}),
        min_modalities=2,
        small={"width": 12, "heads": 2, "layers": 1},
    )
    yield Component(
        kind="loss",
        name="unimodal_regression",
        target="mmbench_slad.losses:UnimodalRegression",
        config="mmbench_slad.config:UnimodalRegressionConfig",
        summary="L1 of each modality's own prediction (regression only)",
        paper=f"{PAPER}, section 3.3 and L_cls of Eq. 22",
        needs=frozenset({"unimodal_predictions"}),
        terms=("unimodal",),
        bounds={"unimodal": (0.0, math.inf)},
        tasks=("regression",),
    )
    yield Component(
        kind="loss",
        name="slad_contrastive",
        target="mmbench_slad.losses:SladContrastive",
        config="mmbench_slad.config:SladContrastiveConfig",
        summary="invariant features of a sample attract across modalities, hard negatives repel; weighted by label similarity (regression only)",
        paper=f"{PAPER}, Eq. 7-16",
        needs=frozenset({"common", "unimodal_predictions"}),
        terms=("contrastive",),
        bounds={"contrastive": (0.0, math.inf)},
        tasks=("regression",),
        min_modalities=2,
    )
    yield Component(
        kind="loss",
        name="slad_repulsive",
        target="mmbench_slad.losses:SladRepulsive",
        config="mmbench_slad.config:SladRepulsiveConfig",
        summary="hinge on the most similar specific features of two modalities, weighted by label similarity (regression only)",
        paper=f"{PAPER}, Eq. 7-12, 17 and 18",
        needs=frozenset({"unique", "unimodal_predictions"}),
        terms=("repulsive",),
        bounds={"repulsive": (0.0, math.inf)},
        tasks=("regression",),
        min_modalities=2,
    )
    yield Component(
        kind="loss",
        name="slad_multilabel",
        target="mmbench_slad.losses:SladMultilabel",
        config="mmbench_slad.config:SladMultilabelConfig",
        summary="samples whose sets of sub-modal labels overlap attract across modalities, by how much they overlap (regression only)",
        paper=f"{PAPER}, Eq. 13 and 19-21",
        needs=frozenset({"common", "unimodal_predictions"}),
        terms=("multilabel",),
        bounds={"multilabel": (0.0, math.inf)},
        tasks=("regression",),
        min_modalities=2,
    )
