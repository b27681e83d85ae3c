"""Faults are repeated here: a few times by default, as often as ``docs/reliability.md`` says with ``MMBENCH_RELIABILITY=long``.

Each try is counted. With ``MMBENCH_TALLY=FILE`` the counts are appended there, a JSON line a try; ``python benchmarks/faults.py`` sets both
and makes the page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[None]:
    """What is damaged, flooded and interrupted here is no cache of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def times():
    """How often to try: ``times(3, 100)`` is 3 by default, 100 in the long form."""
    long = os.environ.get("MMBENCH_RELIABILITY") == "long"
    return lambda few, many: many if long else few


@pytest.fixture
def tally(request):
    """``tally(fault, survived)`` counts a try of a fault, named in a few words, or, with `tries`, so many at once."""

    def count(fault: str, survived: bool, tries: int = 1) -> None:
        if target := os.environ.get("MMBENCH_TALLY"):
            line = json.dumps({"file": Path(request.node.path).name, "fault": fault, "survived": bool(survived), "tries": tries}) + "\n"
            with open(target, "a", encoding="utf-8") as file:
                file.write(line)
        assert survived, f"lost: {fault}"

    return count
