"""Hyperparameters of MulT. Defaults are the official code's. Imports no torch."""

from __future__ import annotations

from pydantic import model_validator

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Rate, option

OFFICIAL = "official code"


class MulTConfig(ComponentConfig):
    """The backbone `mult`."""

    width: Count = option(30, "width d of every modality after the temporal convolution", OFFICIAL)
    heads: Count = option(5, "attention heads; must divide the width", OFFICIAL)
    layers: Count = option(5, "blocks of each cross-modal encoder; each memory encoder has as many, but at least 3", OFFICIAL)
    kernel_size: Count | dict[str, Count] = option(
        1, "kernel of the temporal convolution: one value, or one per modality (1 for a modality that is not named)", OFFICIAL
    )
    causal: bool = option(
        True, "a frame attends to no later one; where lengths differ, the shorter sequence may look ahead by the difference", OFFICIAL
    )
    attention_dropout: Rate | dict[str, Rate] = option(
        {"text": 0.1, "audio": 0.0, "vision": 0.0},
        "dropout of the attention weights, by the modality attended to: one value, or one per modality (0 for a modality that is not named)",
        OFFICIAL,
    )
    memory_dropout: Rate = option(0.1, "dropout of the attention weights in the memory encoders", OFFICIAL)
    relu_dropout: Rate = option(0.1, "dropout after the ReLU of the feed-forward layers", OFFICIAL)
    embed_dropout: Rate = option(0.25, "dropout of the encoders' inputs", OFFICIAL)
    residual_dropout: Rate = option(0.1, "dropout before each residual sum", OFFICIAL)
    output_dropout: Rate = option(0.0, "dropout inside the last residual layer", OFFICIAL)
    text_dropout: Rate = option(0.25, "dropout of the text features before the temporal convolution", OFFICIAL)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> MulTConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="mult",
        target="mmbench_baselines.mult.model:MulT",
        config="mmbench_baselines.mult.config:MulTConfig",
        summary="a transformer from each modality to each other, memory transformers, last steps",
        paper="Tsai, Bai, Liang, Kolter, Morency, Salakhutdinov (2019): Multimodal Transformer for Unaligned Multimodal Language Sequences",
        provides=frozenset({"encoded"}),
        min_modalities=2,
        small={"width": 8, "heads": 2, "layers": 1},
    ),
)
