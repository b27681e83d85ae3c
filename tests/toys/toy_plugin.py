"""A plugin for tests: one small model and losses with every need."""

from __future__ import annotations

from mmbench import Component, ComponentConfig, hookimpl


class ToyModelConfig(ComponentConfig):
    width: int = 6
    dropout: float = 0.0
    explode_at_step: int | None = None


class ToyLossConfig(ComponentConfig):
    scale: float = 1.0


class ToyExtractorConfig(ComponentConfig):
    width: int = 4
    finetune: bool = False


@hookimpl
def mmbench_components():
    model = {"config": "toy_plugin:ToyModelConfig", "provides": frozenset({"encoded"})}
    loss = {"config": "toy_plugin:ToyLossConfig"}
    yield Component("model", "toy", "toy_parts:ToyModel", "per-modality linear layers, concatenated", **model)
    yield Component(
        "loss",
        "pull",
        "toy_parts:Pull",
        "pulls common together, pushes unique apart",
        needs=frozenset({"common", "unique"}),
        terms=("near", "far"),
        min_modalities=2,
        **loss,
    )
    yield Component("loss", "unimodal", "toy_parts:Unimodal", "each modality predicts alone", needs=frozenset({"unimodal_predictions"}), **loss)
    yield Component("loss", "size", "toy_parts:Size", "smaller features", needs=frozenset({"encoded"}), **loss)
    extractor = {"config": "toy_plugin:ToyExtractorConfig"}
    yield Component("extractor", "letters", "toy_parts:Letters", "an embedding for each letter", needs=frozenset({"tokens"}), **extractor)
    yield Component("extractor", "waves", "toy_parts:Waves", "a filter bank", needs=frozenset({"waveform"}), **extractor)
