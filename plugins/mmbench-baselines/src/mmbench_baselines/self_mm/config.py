"""Self-MM's hyperparameters and components. Imports no torch."""

from __future__ import annotations

import math
from typing import Literal

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Rate, option

PAPER = "Yu et al., Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning (2021)"
RELEASED = "released code (CMU-MOSI)"


class SelfMMConfig(ComponentConfig):
    """The backbone (paper, 'Overall Architecture'). A mapping is by modality, and one that it does not name gets 16."""

    hidden: Count | dict[str, Count] = option(
        {"audio": 16, "vision": 32}, "width of the LSTM of a modality that is not text; 16 for one that is not named", RELEASED
    )
    subnet_width: Count | dict[str, Count] = option(
        {"audio": 16, "vision": 32}, "width of a modality's vector after its LSTM; 16 for one that is not named", RELEASED
    )
    unimodal_width: Count | dict[str, Count] = option(
        {"text": 32, "audio": 16, "vision": 32}, "width of a modality's features F_m; 16 for one that is not named", RELEASED
    )
    fusion_width: Count = option(128, "width of the fused features F", RELEASED)
    dropout: Rate = option(0.1, "dropout of the vectors before the fusion and before each modality's features")
    text_pooling: Literal["mean", "first"] = option(
        "mean", "the utterance's text vector: the mean of its real frames, or the first one (the CLS of a BERT that is fine-tuned, as in the paper)"
    )


class SelfSupervisedLabelsConfig(ComponentConfig):
    """Paper, 'ULGM': nothing to choose."""


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="self_mm",
        target="mmbench_baselines.self_mm.model:SelfMM",
        config="mmbench_baselines.self_mm.config:SelfMMConfig",
        summary="text vector and LSTMs, late fusion, and a prediction of each modality",
        paper=f"{PAPER}, 'Overall Architecture'",
        provides=frozenset({"encoded", "unimodal_predictions"}),
        min_modalities=2,
    ),
    Component(
        kind="loss",
        name="self_supervised_labels",
        target="mmbench_baselines.self_mm.losses:SelfSupervisedLabels",
        config="mmbench_baselines.self_mm.config:SelfSupervisedLabelsConfig",
        summary="L1 of each modality's prediction against a label that its distances to the class centres generate (regression only)",
        paper=f"{PAPER}, 'ULGM', 'Optimization Objectives' and Algorithm 1",
        needs=frozenset({"encoded", "unimodal_predictions"}),
        terms=("unimodal",),
        tasks=("regression",),
        min_modalities=2,
        bounds={"unimodal": (0.0, math.inf)},
    ),
)
