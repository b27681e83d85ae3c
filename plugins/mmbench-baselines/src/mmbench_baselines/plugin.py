"""Entry module: the components of all baselines, each declared beside its hyperparameters. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl

METHODS: tuple[tuple[Component, ...], ...] = ()


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """The backbones, and the losses that belong to them."""
    for components in METHODS:
        yield from components
