"""Declares the components. Imports no torch: `target` and `config` are imported on first use."""

import math

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components():
    yield Component(
        kind="loss",
        name="mine_agreement",
        target="mmbench_mine.loss:Agreement",
        summary="common features of the modalities of a sample lie close together",
        paper="none: an example",
        needs=frozenset({"common"}),  # where a model has none, an adapter makes them from `encoded`
        terms=("agreement",),
        bounds={"agreement": (0, math.inf)},
        min_modalities=2,
    )
    yield Component(
        kind="model",
        name="mine",
        target="mmbench_mine.model:Mine",
        config="mmbench_mine.config:MineConfig",
        summary="a layer for each modality, then one for all",
        paper="Author et al. (2026)",
        provides=frozenset({"encoded"}),
    )
    yield Component(
        kind="extractor",
        name="mine_words",
        target="mmbench_mine.extractor:Words",
        config="mmbench_mine.config:WordsConfig",
        summary="length, capitals and vowels of each word of a transcript",
        paper="none: an example",
        needs=frozenset({"features"}),  # `prepare` does all the work
        modalities=("text",),
    )
    yield Component(
        kind="metric",
        name="mine_sign",
        target="mmbench_mine.metric:SIGN",
        summary="share of samples whose prediction has the sign of the label",
        tasks=("regression",),
    )
