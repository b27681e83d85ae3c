"""Entry module: the executor. Imports no ray."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """One executor."""
    yield Component(
        "executor",
        "ray",
        "mmbench_ray.executor:RayExecutor",
        "runs as tasks of Ray, on a cluster or on this machine",
        config="mmbench_ray.config:RayConfig",
        extras=("ray",),
    )
