"""What every executor must keep to: mmbench's own conformance kit, with jobs that are executed as they are handed over."""

import pytest

from mmbench.executors import LocalExecutor
from mmbench.testing import conformance_tests
from mmbench_slurm.scheduler import Scheduler, State


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """Nobody's own cluster is given jobs."""

    def submit(several, config):
        for runs in several:
            list(LocalExecutor().submit(runs))
        return [f"7_{i}" for i in range(len(several))]

    monkeypatch.setattr("mmbench_slurm.executor.submit", submit)
    monkeypatch.setattr(Scheduler, "most", lambda self: 1000)
    monkeypatch.setattr(Scheduler, "states", lambda self, jobs: dict.fromkeys(jobs, State("COMPLETED")))


test_conformance = conformance_tests("mmbench-slurm")
