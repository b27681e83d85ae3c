"""Its hyperparameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from mmbench import ComponentConfig


class OptunaConfig(ComponentConfig):
    """How Optuna searches."""

    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe",
        description="tpe: where better trials are denser than others; random: anywhere; grid: each combination of values and integers once",
        json_schema_extra={"source": "tpe: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011"},
    )
    startup_trials: PositiveInt = Field(
        10, description="tpe: trials that are done before it looks at them; those before are random", json_schema_extra={"source": "Optuna's default"}
    )
    seed: NonNegativeInt = Field(0, description="of the sampler's random numbers")
