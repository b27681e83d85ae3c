"""Whether containers out of a file come to an end: in a file of a hundred bytes, ten lists that repeat one another hold more than any memory."""

from __future__ import annotations

from typing import Any

import numpy as np

DEEPEST = 64
"""Containers in each other. Data have five."""
MOST, REPEATED = 1 << 22, 64
"""Items that a value may have when it is written down, and beyond that how many times those that are there."""
_CONTAINERS = (list, tuple, dict, np.ndarray)


def endless(value: Any) -> str:
    """What is wrong with containers that hold themselves, or each other so often or so deep that a look at all items has no end; else nothing."""
    known: dict[int, tuple[int, int]] = {}  # by identity: the items when it is written down (0: it is being looked at), and how deep they are
    stack, there = [value], 0
    while stack:
        here, key = stack[-1], id(stack[-1])
        if known.get(key, (0, 0))[0]:
            stack.pop()
            continue
        items = _items(here)
        inner = [item for item in items if isinstance(item, _CONTAINERS)]
        if key not in known:
            known[key] = 0, 0
            if any(known.get(id(item)) == (0, 0) for item in inner):
                return "a container that holds itself"
            stack += [item for item in inner if id(item) not in known]
            continue
        stack.pop()
        own = 1 + len(items)
        size, depth = own + sum(known[id(item)][0] for item in inner), 1 + max((known[id(item)][1] for item in inner), default=0)
        known[key], there = (size, depth), there + own
        if depth > DEEPEST:
            return "containers that are nested too deeply"
        if size > MOST and size > REPEATED * there:
            return "containers that repeat one another without end"
    return ""


def _items(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.ravel() if value.dtype.hasobject else ()
    return value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
