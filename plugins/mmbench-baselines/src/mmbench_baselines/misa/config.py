"""MISA's hyperparameters and components. Imports no torch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Rate, option

PAPER = "Hazarika et al., MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis (2020)"


class MISAConfig(ComponentConfig):
    """The backbone (paper, section 3)."""

    width: Count = option(128, "width of the utterance vectors, of the invariant and of the specific ones; a multiple of the heads", "released code")
    hidden: Count | None = option(None, "width of the LSTMs of modalities that are not text; null: each as wide as its features", "released code")
    heads: Count = option(2, "attention heads of the fusion layer", "released code")
    feed_forward: Count = option(2048, "hidden width of the fusion layer's feed-forward part", "released code")
    dropout: Rate = option(0.5, "dropout in the prediction head", "released code")
    fusion_dropout: Rate = option(0.1, "dropout in the fusion layer", "released code")
    text_pooling: Literal["mean", "first"] = option(
        "mean",
        "the utterance's text vector: the mean of its real frames, or the first one (CLS of a BERT)",
        "released code (mean of the states of BERT)",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> MISAConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class DifferenceConfig(ComponentConfig):
    """Paper, "Difference Loss": nothing to choose."""


class CMDConfig(ComponentConfig):
    """Paper, "Similarity Loss"."""

    moments: Count = option(5, "how many central moments are compared (K)", "paper, 'Similarity Loss'")


class ReconstructionConfig(ComponentConfig):
    """Paper, "Reconstruction Loss": nothing to choose."""


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="misa",
        target="mmbench_baselines.misa.model:MISA",
        config="mmbench_baselines.misa.config:MISAConfig",
        summary="utterance vectors split into invariant and specific ones, fused by one self-attention layer",
        paper=f"{PAPER}, section 3",
        provides=frozenset({"encoded", "common", "unique"}),
        min_modalities=2,
    ),
    Component(
        kind="loss",
        name="misa_difference",
        target="mmbench_baselines.misa.losses:Difference",
        config="mmbench_baselines.misa.config:DifferenceConfig",
        summary="specific features orthogonal to the invariant ones of their modality and to the specific ones of the others",
        paper=f"{PAPER}, 'Difference Loss'",
        needs=frozenset({"common", "unique"}),
        terms=("difference",),
        bounds={"difference": (0.0, math.inf)},
    ),
    Component(
        kind="loss",
        name="cmd",
        target="mmbench_baselines.misa.losses:CentralMomentDiscrepancy",
        config="mmbench_baselines.misa.config:CMDConfig",
        summary="equal mean and central moments of the invariant features of each two modalities",
        paper=f"{PAPER}, 'Similarity Loss'; Zellinger et al., Central Moment Discrepancy (2017)",
        needs=frozenset({"common"}),
        terms=("cmd",),
        min_modalities=2,
        bounds={"cmd": (0.0, math.inf)},
    ),
    Component(
        kind="loss",
        name="reconstruction",
        target="mmbench_baselines.misa.losses:Reconstruction",
        config="mmbench_baselines.misa.config:ReconstructionConfig",
        summary="each modality's features from its invariant and specific ones, by a linear decoder of the loss",
        paper=f"{PAPER}, 'Reconstruction Loss'",
        needs=frozenset({"encoded", "common", "unique"}),
        terms=("reconstruction",),
        bounds={"reconstruction": (0.0, math.inf)},
    ),
)
