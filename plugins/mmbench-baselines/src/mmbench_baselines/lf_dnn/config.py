"""Hyperparameters of LF-DNN. Defaults are the widely used ones for CMU-MOSI. Imports no torch."""

from __future__ import annotations

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Rate, option

MMSA = "MMSA's settings (MOSI)"


class LFDNNConfig(ComponentConfig):
    """The backbone `lf_dnn`."""

    hidden: Count | dict[str, Count] = option(
        {"text": 128, "audio": 16, "vision": 128},
        "width of each modality's network: one value, or one per modality (16 for a modality that is not named)",
        MMSA,
    )
    text_width: Count = option(256, "width of the text vector", MMSA)
    fusion_width: Count = option(128, "width of the two layers on the concatenation", MMSA)
    dropout: Rate = option(0.2, "dropout inside the networks of the modalities", MMSA)
    fusion_dropout: Rate = option(0.2, "dropout of the concatenation", MMSA)


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="lf_dnn",
        target="mmbench_baselines.lf_dnn.model:LFDNN",
        config="mmbench_baselines.lf_dnn.config:LFDNNConfig",
        summary="late fusion: a network per modality, concatenation, two layers",
        paper="Williams, Comanescu, Radu, Tian (2018): DNN Multimodal Fusion Techniques for Predicting Video Sentiment",
        provides=frozenset({"encoded"}),
    ),
)
