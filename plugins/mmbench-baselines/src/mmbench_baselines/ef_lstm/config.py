"""Hyperparameters of EF-LSTM. Defaults are the widely used ones for CMU-MOSI. Imports no torch."""

from __future__ import annotations

from mmbench import Component, ComponentConfig
from mmbench_baselines.options import Count, Rate, option

MMSA = "MMSA's settings (MOSI)"


class EFLSTMConfig(ComponentConfig):
    """The backbone `ef_lstm`."""

    width: Count = option(128, "width of the LSTM's states and of the layer on the last one", MMSA)
    layers: Count = option(2, "layers of the LSTM", "our choice on validation; MMSA: 4 on MOSI, with which a run ended at a constant")
    dropout: Rate = option(0.5, "dropout between the layers, of the last state and before the last linear layer", MMSA)


COMPONENTS: tuple[Component, ...] = (
    Component(
        kind="model",
        name="ef_lstm",
        target="mmbench_baselines.ef_lstm.model:EFLSTM",
        config="mmbench_baselines.ef_lstm.config:EFLSTMConfig",
        summary="early fusion: the modalities' features joined at each step, one LSTM",
        paper="Williams, Kleinegesse, Comanescu, Radu (2018): Recognizing Emotions in Video Using Multimodal DNN Feature Fusion",
    ),
)
