"""The state of runs in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from mmbench.results.runs import RunRecord

MANY = 20
"""Configurations from which on a line with all counts comes first."""
ORDER = ("done", "running", "queued", "pending", "interrupted", "failed", "damaged", "incompatible")


def status_lines(records: Iterable[RunRecord]) -> list[str]:
    """A line for each configuration: name, part of a protocol, label, and its seeds by state; indented lines for the reasons of what is not done,
    and for warnings. Where there are many, the counts of all come first."""
    configurations: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        configurations[(record.experiment, record.label)].append(record)
    lines = []
    if len(configurations) > MANY:
        counts = Counter(run.status for runs in configurations.values() for run in runs)
        told = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])
        lines.append(f"{sum(counts.values())} runs of {len(configurations)} configurations: {told}")
    for (experiment, label), runs in sorted(configurations.items(), key=_place):
        name = next((run.name for run in runs if run.name), "")
        states = []
        for status in ORDER:
            seeds = [run.seed for run in runs if run.status == status]
            if seeds:
                states.append(status + "".join(f" {seed}" for seed in seeds if seed is not None))
        path = f"{experiment}/{label}"
        who = ", ".join(filter(None, (name, _part(runs))))
        lines.append(f"{f'{who} ({path})' if who else path}: {', '.join(states)}")
        reasons: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
        for run in runs:
            reason = "; ".join(filter(None, (run.reason, run.owner)))
            if reason:
                reasons[(run.status, reason)].append(run)
            for warning in run.warnings:
                reasons["warning", warning].append(run)
        for (status, reason), those in reasons.items():
            seeds = [run.seed for run in those if run.seed is not None]
            which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} " if seeds else ""
            lines.append(f"    {which}{status}: {reason}")
    return lines


def _part(runs: Sequence[RunRecord]) -> str:
    return next((run.part for run in runs if run.part), "")


def _place(configuration: tuple[tuple[str, str], Sequence[RunRecord]]) -> tuple[object, ...]:
    """The parts of one configuration stand together, in their protocol's order."""
    (experiment, label), runs = configuration
    run = max(runs, key=lambda run: len(run.data.get("parts", ())))
    parts = list(run.data.get("parts", ()))
    return experiment, f"{run.model}-{run.family}" if run.part else label, parts.index(run.part) if run.part in parts else len(parts), run.part, label
