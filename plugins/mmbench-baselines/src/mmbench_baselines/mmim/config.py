"""MMIM's hyperparameters and components. Imports no torch."""

from __future__ import annotations

import math
from typing import Literal

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Positive, Rate, option

PAPER = "Han et al., Improving Multimodal Fusion with Hierarchical Mutual Information Maximization (2021)"


class MMIMConfig(ComponentConfig):
    """The backbone (paper, sections 3.2 and 3.3)."""

    hidden: Count = option(16, "width of the LSTM of a modality that is not text", "released code (CMU-MOSI)")
    subnet_width: Count = option(16, "width of the vector of a modality that is not text", "released code (CMU-MOSI)")
    text_width: Count = option(128, "width of the text vector; the layer that makes it stands for the encoder that the original fine-tunes")
    fusion_width: Count = option(128, "width of the fused features Z", "released code")
    dropout: Rate = option(0.1, "dropout of the joined vectors before the fusion", "released code")
    text_pooling: Literal["mean", "first"] = option(
        "mean", "the utterance's text vector: the mean of its real frames, or the first one (the CLS of a BERT that is fine-tuned, as in the paper)"
    )


class MutualInformationConfig(ComponentConfig):
    """Paper, sections 3.4 and 3.5."""

    memory: Count = option(32, "samples of earlier batches that a batch's entropy includes", "released code (one batch)")
    noise: Positive = option(0.01, "variance of the noise with which the standardised features count as measured: no covariance is singular")


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="mmim",
        target="mmbench_baselines.mmim.model:MMIM",
        config="mmbench_baselines.mmim.config:MMIMConfig",
        summary="text vector and LSTMs, joined and fused by an MLP",
        paper=f"{PAPER}, sections 3.2 and 3.3",
        provides=frozenset({"encoded"}),
        min_modalities=2,
    ),
    Component(
        kind="loss",
        name="mutual_information",
        target="mmbench_baselines.mmim.losses:MutualInformation",
        config="mmbench_baselines.mmim.config:MutualInformationConfig",
        summary="the fused features predict each modality's; a lower bound of the information that text has on each other modality",
        paper=f"{PAPER}, sections 3.4 and 3.5; Barber and Agakov, The IM Algorithm (2003)",
        needs=frozenset({"encoded"}),
        terms=("cpc", "ba", "estimator"),
        min_modalities=2,
        bounds={"cpc": (0.0, math.inf), "ba": (-math.inf, math.inf), "estimator": (-math.inf, math.inf)},
    ),
)
