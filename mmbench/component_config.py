"""Base class of every component's hyperparameters: unknown keys are refused, values are frozen."""

from __future__ import annotations

import json
import types
import typing
from typing import Any

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Unknown keys are refused, values are frozen and finite. Configs are read in strict mode: true is no number, and nor is a string."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class ComponentConfig(StrictModel):
    """Hyperparameters of one component. Give each field a description and, in ``json_schema_extra={"source": ...}``, where its value comes from.

    A subclass whose declarations depend on its values may define ``needs() -> frozenset[str]`` (losses) or
    ``provides() -> frozenset[str]`` (models), which then replace those of its `Component`.
    """


def type_text(annotation: Any) -> str:
    """A type as a user would write it: ``number | {name: number}``, ``"same" | "none"``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin is typing.Literal:
        return " | ".join(json.dumps(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_text(argument) for argument in arguments)
    if origin is dict:
        return f"{{name: {type_text(arguments[1])}}}"
    if origin in (list, tuple):
        return f"[{', '.join(type_text(argument) for argument in arguments if argument is not ...)}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    return {int: "integer", float: "number", bool: "true | false", str: "text", type(None): "null"}.get(annotation, str(annotation))
