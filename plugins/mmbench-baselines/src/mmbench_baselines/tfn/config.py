"""Hyperparameters of TFN. Defaults are the widely used ones for CMU-MOSI. Imports no torch."""

from __future__ import annotations

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Rate, option

MMSA = "MMSA's settings (MOSI)"


class TFNConfig(ComponentConfig):
    """The backbone `tfn`."""

    hidden: Count | dict[str, Count] = option(
        {"text": 128, "audio": 32, "vision": 128},
        "width of each modality's network: one value, or one per modality (32 for a modality that is not named)",
        MMSA,
    )
    text_width: Count = option(32, "width of the text vector", MMSA)
    fusion_width: Count = option(64, "width of the two layers on the outer product", MMSA)
    dropout: Rate = option(0.3, "dropout inside the networks of the modalities", MMSA)
    fusion_dropout: Rate = option(0.5, "dropout of the outer product", MMSA)


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="tfn",
        target="mmbench_baselines.tfn.model:TFN",
        config="mmbench_baselines.tfn.config:TFNConfig",
        summary="outer product of all modalities' vectors, each with a one before it",
        paper="Zadeh, Chen, Poria, Cambria, Morency (2017): Tensor Fusion Network for Multimodal Sentiment Analysis",
        provides=frozenset({"encoded"}),
        min_modalities=2,
        small={"hidden": 8, "text_width": 4, "fusion_width": 8},
    ),
)
