"""What the hyperparameters of all baselines are declared with. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Value = TypeVar("Value", int, float)

OUR_CHOICE = "our choice"


def option(default: Any, description: str, source: str = OUR_CHOICE, **limits: Any) -> Any:
    """A field with its default, what it does, and where the default comes from."""
    return Field(default, description=description, json_schema_extra={"source": source}, **limits)


def per_modality(option: str, value: Value | Mapping[str, Value], fallback: Value, modalities: tuple[str, ...]) -> dict[str, Value]:
    """One value per modality from an option that is one value for all, or a mapping. ValueError: the mapping has a name that cannot be meant."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(modalities, value)
    known = {"text", "audio", "vision", *modalities}
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"{option} names unknown modalities {unknown}; known are {sorted(known)}")
    return {m: value.get(m, fallback) for m in modalities}
