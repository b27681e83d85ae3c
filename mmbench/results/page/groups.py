"""Which runs get a page of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mmbench.results.runs import RunRecord
from mmbench.results.tables import identity_of


@dataclass(frozen=True)
class Chosen:
    """The runs with a page of their own, by their number in the page, and how many were left out."""

    runs: tuple[RunRecord, ...]
    left_out: int

    def number(self, record: RunRecord) -> int | None:
        """The number of a run's page, if it has one."""
        return self._numbers.get(str(record.folder))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {str(run.folder): index for index, run in enumerate(self.runs)}


def chosen_runs(records: Sequence[RunRecord], most: int) -> Chosen:
    """Methods first, then runs that are not done, then floors, each floor once though several experiments have it; no more than `most`."""
    floors = {record.label for record in records if record.floor}
    seen: set[tuple[object, ...]] = set()
    ranked: dict[int, list[RunRecord]] = {0: [], 1: [], 2: []}
    for record in records:
        if record.label in floors:
            key = (record.label, record.seed, identity_of(record))
            if key in seen and record.status == "done":
                continue
            seen.add(key)
            ranked[2].append(record)
        else:
            ranked[0 if record.status == "done" else 1].append(record)
    every = [*ranked[0], *ranked[1], *ranked[2]]
    return Chosen(tuple(every[:most]), max(0, len(every) - most))
