"""Hyperparameters of LMF. Defaults are the widely used ones for CMU-MOSI. Imports no torch."""

from __future__ import annotations

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Rate, option

MMSA = "MMSA's settings (MOSI)"


class LMFConfig(ComponentConfig):
    """The backbone `lmf`."""

    hidden: Count | dict[str, Count] = option(
        {"text": 128, "audio": 16, "vision": 128},
        "width of each modality's network: one value, or one per modality (16 for a modality that is not named)",
        MMSA,
    )
    text_width: Count = option(64, "width of the text vector", MMSA)
    dropout: Rate = option(0.3, "dropout inside the networks of the modalities", MMSA)
    rank: Count = option(3, "number of rank-one factors r of the fusion tensor", MMSA)


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="lmf",
        target="mmbench_baselines.lmf.model:LMF",
        config="mmbench_baselines.lmf.config:LMFConfig",
        summary="the outer product's linear layer as a product of low-rank factors",
        paper="Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency (2018): Efficient Low-rank Multimodal Fusion with Modality-Specific Factors",
        provides=frozenset({"encoded"}),
        min_modalities=2,
    ),
)
