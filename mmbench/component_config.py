"""Base class of every component's hyperparameters: unknown keys are refused, values are frozen."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Unknown keys are refused, values are frozen and finite. Configs are read in strict mode: true is no number, and nor is a string."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class ComponentConfig(StrictModel):
    """Hyperparameters of one component. Give each field a description and, in ``json_schema_extra={"source": ...}``, where its value comes from.

    A subclass whose declarations depend on its values may define ``needs() -> frozenset[str]`` (losses) or
    ``provides() -> frozenset[str]`` (models), which then replace those of its `Component`.
    """
