"""mmbench: a benchmark toolkit for multimodal sentiment and emotion. This module imports nothing heavy."""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs as much as all else that is imported before an interrupt can be caught

__version__ = "0.1.0"
__all__ = ["API", "Component", "ComponentConfig", "Metric", "hookimpl"]

if TYPE_CHECKING:
    from typing import Any

    from mmbench.component import API, Component, Metric
    from mmbench.component_config import ComponentConfig
    from mmbench.hookspecs import hookimpl

_HOMES = {
    "API": "component",
    "Component": "component",
    "Metric": "component",
    "ComponentConfig": "component_config",
    "hookimpl": "hookspecs",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"mmbench.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mmbench' has no attribute {name!r}")
