"""What a job executes on its node: some runs, with the local executor. When the job has to go, they stop after their step and it is requeued.

The protocol is submitit's, with two things of ours:

* Slurm preempts with SIGTERM (SIGUSR2 comes before the time limit alone, unless the cluster sets ``PreemptParameters=send_user_signal``). submitit
  passes over SIGTERM, since a process that is killed at the end of GraceTime is requeued by Slurm. A process that ends before that is not: Slurm
  (22.05) calls its job COMPLETED. So on SIGTERM the runs are stopped, and the job is requeued as for SIGUSR2, unless it was cancelled.
* SIGUSR2 may reach every process of the job (``proctrack/linuxproc``, ``proctrack/pgid``), and would kill a worker, which knows no such signal. So
  the workers are started from a thread that blocks it, and inherit that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any

from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission

from mmbench.claims import clock, owner_of, take_over
from mmbench.component import RunOutcome, RunRequest
from mmbench.executors import LocalConfig, LocalExecutor
from mmbench_slurm.config import SlurmConfig
from mmbench_slurm.scheduler import STARTING, Scheduler, SilentError

PAUSE = 5.0
"""Seconds between two looks at a claim that may be of a dead node."""


class Job:
    """Called on the node, with its runs; submitit calls `checkpoint` when the job has to go."""

    def __init__(self, config: SlurmConfig):
        self.config = config

    def __call__(self, runs: Sequence[RunRequest]) -> None:
        """Execute the runs. Those that are done, and those that others execute, are passed over."""
        self._started = time.monotonic()
        self._executor = LocalExecutor(LocalConfig(jobs=self.config.at_once, timeout=self.config.timeout), self._hear)  # type: ignore[call-arg]
        self._advanced = False
        self._outcomes: list[RunOutcome] = []
        self._work = threading.Thread(target=self._execute, args=(runs,), daemon=True)
        user = JobEnvironment._usr_sig()
        self._requeue = signal.getsignal(user)  # submitit's, which calls `checkpoint`
        self._work.start()
        signal.signal(signal.SIGTERM, self._terminated)
        while self._work.is_alive():  # in pieces, so that handlers have their turn
            self._work.join(1)

    def checkpoint(self, runs: Sequence[RunRequest]) -> DelayedSubmission:
        """Stop the runs after their step; what the job is to go on with. One that has not come as far as an epoch in the job's whole time is failed,
        since it never would."""
        self._stop()
        if not self._advanced and time.monotonic() - self._started > 60 * self.config.time - self.config.stop_before - STARTING:
            for outcome in self._outcomes:
                if outcome.status == "interrupted":
                    why = (
                        f"no epoch ended in a job's {self.config.time} minutes less the {self.config.stop_before} s for stopping; raise executor.time"
                    )
                    self._executor.fail(outcome.request, why, resumable=True)
        return DelayedSubmission(Job(self.config), runs)

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}  # what goes on in a process stays there

    def _execute(self, runs: Sequence[RunRequest]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [JobEnvironment._usr_sig()])
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")):
            for run in runs:
                self._inherit(run)
        for outcome in self._executor.submit(runs):
            print(f"{outcome.request.label}: {outcome.status} {outcome.reason}".rstrip(), flush=True)
            self._outcomes.append(outcome)
            self._advanced |= outcome.status != "interrupted"

    def _inherit(self, run: RunRequest) -> None:
        """Take over a run from an earlier turn of the job whose node has died: once it has shown no sign of life for as long as claims ask for. One
        that shows another sign is alive, and is left to it."""
        first = owner = owner_of(run.folder)
        while owner is not None and owner == first and owner.state(partial(clock, run.folder)) == "alive" and not self._executor.stopping:
            time.sleep(PAUSE)
            owner = owner_of(run.folder)
        if owner is not None and owner == first and (taken := take_over(run.folder)):
            print(f"{run.label}: taken over from {taken}", flush=True)

    def _hear(self, run: RunRequest, told: Any) -> None:
        self._advanced = True

    def _stop(self) -> None:
        if not self._executor.stopping:  # a second call would kill them
            self._executor.stop()
        self._work.join()

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        if self._executor.stopping:
            return  # Slurm says it twice
        self._stop()
        job = JobEnvironment().job_id
        try:
            state = Scheduler().states([job]).get(job)  # of the jobs of its array
        except SilentError:
            return
        if state is not None and state.name == "RUNNING" and callable(self._requeue):  # not cancelled, and not requeued already
            self._requeue(JobEnvironment._usr_sig(), frame)
