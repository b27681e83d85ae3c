"""Checks of executors. Imports no torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mmbench.component import RunOutcome, RunRequest
from mmbench.testing.checks import Subject, expect


def outcomes(subject: Subject) -> None:
    """Each run has one outcome; one that cannot be executed has failed, with a reason of one line, and stops no other."""
    executor = subject.entry.load()(subject.config())
    expect(list(executor.submit([])) == [], "no outcome where there is no run", "some")
    with tempfile.TemporaryDirectory() as folder:
        requests = []
        for name in ("first", "second"):
            (Path(folder) / name).mkdir()  # without a config: nothing that a worker could execute
            requests.append(RunRequest(Path(folder) / name, name, "cpu", 1))
        found = list(executor.submit(requests))
    expect(all(isinstance(outcome, RunOutcome) for outcome in found), "outcomes", [type(outcome).__name__ for outcome in found])
    labels = sorted(outcome.request.label for outcome in found)
    expect(labels == ["first", "second"], "one outcome for each run", labels)
    for outcome in found:
        expect(outcome.status == "failed", "a failed run where its folder holds nothing", outcome.status)
        expect(outcome.reason and "\n" not in outcome.reason, "a reason of one line", repr(outcome.reason))
