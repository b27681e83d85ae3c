"""Entry module: declares the components. Imports no torch, so that `mmbench list` is quick."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """One component of each kind. `target` and `config` are imported on first use."""
    yield Component(
        kind="model",
        name="example_gate",
        target="mmbench_example.model:ExampleGate",
        config="mmbench_example.config:ExampleGateConfig",
        summary="a gate for each modality decides how much of its vector is added to the sum",
        paper="name the paper here, or say that there is none",
        provides=frozenset({"encoded"}),
    )
    yield Component(
        kind="loss",
        name="example_cosine",
        target="mmbench_example.losses:ExampleCosine",
        config="mmbench_example.config:ExampleCosineConfig",
        summary="common features of two modalities of a sample point the same way",
        paper="name the paper here, or say that there is none",
        needs=frozenset({"common"}),  # where a model has none, an adapter makes it from `encoded`
        terms=("cosine",),
        bounds={"cosine": (0.0, 2.0)},
        min_modalities=2,
    )
    yield Component(
        kind="metric",
        name="example_near",
        target="mmbench_example.metrics:NEAR",
        summary="share of samples whose prediction is within half a point of the label",
        tasks=("regression",),
    )
    yield Component(
        kind="extractor",
        name="example_bytes",
        target="mmbench_example.extractor:ExampleBytes",
        config="mmbench_example.config:ExampleBytesConfig",
        summary="an embedding for each byte of a text",
        paper="name the paper here, or say that there is none",
        needs=frozenset({"tokens"}),
    )
