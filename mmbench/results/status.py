"""The state of runs in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from mmbench.progress import in_words, last_epoch, planned, told_of
from mmbench.results.runs import RunRecord

MANY = 20
"""Configurations from which on a line with all counts comes first."""
PLAIN = {"done", "pending", "queued"}
ORDER = ("done", "running", "queued", "pending", "interrupted", "failed", "damaged", "incompatible")


def status_lines(records: Iterable[RunRecord], every: bool = False) -> list[str]:
    """A line for each configuration: name, part of a protocol, label, and its seeds by state; indented lines for the reasons of what is not done,
    and for warnings.

    Where there are many, the counts of all come first, and those of which nothing else can be said than that all of their runs are done, pending or
    queued have a line together at the end, unless `every` one is asked for.
    """
    configurations: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        configurations[(record.experiment, record.label)].append(record)
    lines, left_out = [], Counter[str]()
    if len(configurations) > MANY:
        counts = Counter(run.status for runs in configurations.values() for run in runs)
        told = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])
        lines.append(f"{sum(counts.values())} runs of {len(configurations)} configurations: {told}")
    for (experiment, label), runs in sorted(configurations.items(), key=_place):
        if len(configurations) > MANY and not every and (state := _plain(runs)):
            left_out[state] += 1
            continue
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
            reason = "; ".join(filter(None, (run.reason, _progress(run), run.owner)))
            if reason:
                reasons[(run.status, reason)].append(run)
            for warning in run.warnings:
                reasons["warning", warning].append(run)
        for (status, reason), those in reasons.items():
            seeds = [run.seed for run in those if run.seed is not None]
            which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} " if seeds else ""
            lines.append(f"    {which}{status}: {reason}")
    if left_out:
        told = ", ".join(f"{left_out[status]} {status}" for status in ORDER if left_out[status])
        lines.append(f"whole configurations that are not listed: {told}; --all lists them")
    return lines


def _plain(runs: Sequence[RunRecord]) -> str:
    """The state of a configuration of which nothing else is to be said; nothing where there is something."""
    states = {run.status for run in runs}
    plain = len(states) == 1 and states <= PLAIN and not any(run.reason or run.warnings for run in runs)
    return states.pop() if plain else ""


def _progress(run: RunRecord) -> str:
    """How far a run is that goes on; nothing before its first epoch has ended."""
    last = last_epoch(run.folder) if run.status == "running" else None
    return "" if last is None else in_words(told_of(last, planned(run.folder)))


def _part(runs: Sequence[RunRecord]) -> str:
    return next((run.part for run in runs if run.part), "")


def _place(configuration: tuple[tuple[str, str], Sequence[RunRecord]]) -> tuple[object, ...]:
    """The parts of one configuration stand together, in their protocol's order."""
    (experiment, label), runs = configuration
    run = max(runs, key=lambda run: len(run.data.get("parts", ())))
    parts = list(run.data.get("parts", ()))
    return experiment, f"{run.model}-{run.family}" if run.part else label, parts.index(run.part) if run.part in parts else len(parts), run.part, label
