"""Entry module: the tuner. Imports no Optuna."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """The one tuner."""
    yield Component(
        "tuner",
        "optuna",
        "mmbench_optuna.tuner:Optuna",
        "Optuna: TPE, random search, or each combination of a grid",
        config="mmbench_optuna.config:OptunaConfig",
        paper="Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019",
    )
