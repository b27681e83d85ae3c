"""Entry module: the executor. Imports no submitit."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """The executor."""
    yield Component(
        "executor",
        "slurm",
        "mmbench_slurm.executor:SlurmExecutor",
        "runs in array jobs of Slurm",
        config="mmbench_slurm.config:SlurmConfig",
        extras=("submitit",),
    )
