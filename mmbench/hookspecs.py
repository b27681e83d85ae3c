"""What a plugin may provide. A plugin is a distribution with an entry point in the group ``mmbench`` whose module implements these hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mmbench.component import Component

hookspec = pluggy.HookspecMarker("mmbench")
hookimpl = pluggy.HookimplMarker("mmbench")


@hookspec
def mmbench_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Yield the `Component` records of the plugin. The module must import neither torch nor anything else that is slow."""
