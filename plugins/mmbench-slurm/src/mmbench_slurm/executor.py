"""The executor: hands runs to Slurm and waits for what their folders say. Slurm is asked only whether the jobs of runs without a result go on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from mmbench.claims import owner_of
from mmbench.component import Report, RunOutcome, RunRequest
from mmbench.executors import LocalExecutor, Queued, Watch
from mmbench.worker import stated
from mmbench_slurm.config import SlurmConfig
from mmbench_slurm.scheduler import Scheduler, SilentError, State, array, arrays, last_line, told
from mmbench_slurm.submission import Pack, asked, need_sense, need_slurm, packs, place, submit, warn

EXECUTOR = "slurm"
PAUSE = 0.2
LOOK, SHARE = 1.0, 20.0
"""Seconds between two looks at the folders; more where a look takes long, so that looking takes no more than a part in so many of the time."""
FIRST, SLOWER = 2.0, 1.5
"""Seconds to the first question to the scheduler, and by how much the next one is further away, up to `poll`."""
PATIENCE = 120.0
"""Seconds that a job which was cancelled is waited for: more than Slurm's KillWait (30) and the time of its epilog."""
_END, _LONGEST = 4096, 300
"""Bytes of the end of a job's log in which its last line is looked for, and characters of it that are told."""
FAULTS = {"FAILED", "COMPLETED", "OUT_OF_MEMORY"}
"""Ends of a job for which its runs have failed: they would end like that again. What else ends a job is no fault of theirs."""


class SlurmExecutor:
    """Jobs of Slurm. Those of an earlier command that still wait or go on are waited for, not handed over again."""

    def __init__(self, config: SlurmConfig, report: Report | None = None):
        self.config = config
        self.report = report
        self.scheduler = Scheduler()
        self._stops = 0

    def stop(self) -> None:
        """Cancel the jobs, whose runs stop after their step, or with `detach` leave them; the second call waits for nothing."""
        self._stops += 1

    def submit(self, runs: Iterable[RunRequest]) -> Iterator[RunOutcome]:
        """Hand over the runs, and wait for their results.

        Raises ConfigError where Slurm refuses them, or is not there.
        """
        self._watch = Watch(runs, self.report)
        if self._watch.left:
            need_slurm()  # before anything is asked, since an answer would be waited for
            need_sense(self._watch.left.values(), self.config)
        self._jobs: dict[str, Pack] = {}
        self._states: dict[str, State] = {}
        self._asked: set[str] = set()
        self._ended: dict[str, float] = {}
        self._told: set[str] = set()
        self._waiting: list[list[Pack]] | None = None
        self._silent = ""
        self._every, self._next = FIRST, 0.0
        next_look, noted = 0.0, self._notes()
        cancelled = 0.0
        while True:
            now = time.monotonic()
            if now >= next_look:
                yield from self._look()
                next_look = time.monotonic() + max(LOOK, SHARE * (time.monotonic() - now))
            if not self._watch.left or self._stops > 1 or (self._stops and self.config.detach):
                break
            if self._stops and not cancelled:
                cancelled, self._every, self._next, self._waiting = now, FIRST, now, []
                self._cancel()
            if now >= self._next:
                yield from self._ask(noted)
            if cancelled and (not self._jobs or now - cancelled > PATIENCE):
                break
            time.sleep(PAUSE)
        yield from self._leave()

    def _notes(self) -> dict[str, Pack]:
        """The jobs that earlier commands have handed runs to, by the notes in the runs' folders."""
        found: dict[str, Pack] = {}
        for run in self._watch.left.values():
            note = Queued.read(run.folder)
            if note is not None and note.executor == EXECUTOR:
                found.setdefault(note.job, []).append(run)
        return found

    def _look(self) -> Iterator[RunOutcome]:
        for outcome in self._watch.look():
            Queued.remove(outcome.request.folder)  # written after the run had ended, of one that ended at once
            yield outcome
        left = self._watch.left
        self._jobs = {job: pack for job, several in self._jobs.items() if (pack := [run for run in several if run.folder in left])}

    def _ask(self, noted: dict[str, Pack]) -> Iterator[RunOutcome]:
        """One question to Slurm for all jobs, and what follows from it."""
        try:
            if self._waiting is None:
                self._states = self.scheduler.states(noted) if noted else {}
                yield from self._divide(noted)
            elif self._jobs:
                self._states, self._asked = self.scheduler.states(self._jobs), set(self._jobs)
            while self._waiting and not self._stops:
                self._hand_over(self._waiting[0])
                self._waiting.pop(0)
            if self._silent:
                warn("the scheduler answers again")
                self._silent = ""
        except SilentError as error:
            if not self._silent:
                self._silent = str(error)
                warn(f"no answer ({self._silent}); asked again until there is one. Results are taken from the run folders meanwhile")
        else:
            yield from self._verdicts()
        self._next = time.monotonic() + self._every
        self._every = min(self.config.poll, SLOWER * self._every)

    def _divide(self, noted: dict[str, Pack]) -> Iterator[RunOutcome]:
        """Runs whose jobs wait or go on are waited for, those that other processes execute are left to them, the others are handed over."""
        for job, pack in noted.items():
            if job in self._states and not self._states[job].ended:
                self._jobs[job] = pack
        attached = {run.folder for pack in self._jobs.values() for run in pack}
        if attached:
            warn(f"{_runs(len(attached))} of an earlier command in {arrays(self._jobs)}; waited for")
        others: Pack = []
        for run in list(self._watch.left.values()):
            if run.folder in attached:
                continue
            if busy := self._busy(run):
                yield busy
            else:
                others.append(run)
        most = self.scheduler.most() if others else 1
        self._waiting = []
        for _, several in groupby(packs(others, self.config), lambda pack: place(pack[0])):
            jobs = list(several)
            self._waiting += [jobs[i : i + most] for i in range(0, len(jobs), most)]

    def _hand_over(self, several: list[Pack]) -> None:
        jobs = dict(zip(submit(several, self.config), several, strict=True))
        self._jobs |= jobs
        for job, pack in jobs.items():
            for run in pack:
                Queued.write(run.folder, EXECUTOR, job)
        end = f"{'leaves' if self.config.detach else 'cancels'} {'it' if len(jobs) == 1 else 'them'}"
        warn(f"{_runs(sum(map(len, several)))} in {arrays(jobs)}{asked(several, self.config)}; logs in {place(several[0][0])}; Ctrl-C {end}")

    def _verdicts(self) -> Iterator[RunOutcome]:
        """Runs whose jobs have ended, and whose results have not come since."""
        now = time.monotonic()
        stuck = {job: state for job, state in self._states.items() if job in self._jobs and state.stuck and job not in self._told}
        if stuck:
            self._told |= stuck.keys()
            warn(f"waits until somebody helps: {told(stuck)}; scontrol show job {next(iter(stuck))}")
        gone = []
        for job in self._asked & self._jobs.keys():
            state = self._states.get(job)
            if state is not None and not state.ended:
                self._ended.pop(job, None)  # it was requeued
            elif now - self._ended.setdefault(job, now) >= self.config.lag or self._stops:
                gone.append(job)
        if not gone:
            return
        yield from self._look()
        forgotten = [job for job in gone if job not in self._states]
        states = (self.scheduler.account(forgotten) if forgotten else {}) | self._states
        for job in gone:
            for run in self._jobs.pop(job, []):
                yield self._verdict(run, job, states.get(job))

    def _verdict(self, run: RunRequest, job: str, state: State | None) -> RunOutcome:
        del self._watch.left[run.folder]
        Queued.remove(run.folder, job)
        if busy := self._busy(run):
            self._watch.left.pop(run.folder, None)
            return busy
        ended = f"slurm job {job} " + (f"ended: {state.name}{f' ({state.reason})' if state.reason else ''}" if state else "is not known any more")
        status, reason = stated(run.folder)
        if status == "interrupted" or state is None or state.name not in FAULTS:
            return RunOutcome(run, "interrupted", "; ".join(filter(None, [ended, reason])))
        return LocalExecutor().fail(run, f"{ended}; {_told_by_log(place(run) / f'{job}_0_log.out')}; --rerun failed goes on", resumable=True)

    def _busy(self, run: RunRequest) -> RunOutcome | None:
        owner = owner_of(run.folder)
        if owner is None or owner.state() == "gone":
            return None
        self._watch.left.pop(run.folder, None)
        return RunOutcome(run, "busy", f"{owner} executes it")

    def _cancel(self) -> None:
        if not self._jobs:
            return
        warn(f"cancelling {arrays(self._jobs)}; Ctrl-C again does not wait for {'it' if len(self._jobs) == 1 else 'them'}")
        try:
            self.scheduler.cancel(self._jobs)
        except SilentError as error:
            warn(f"not cancelled ({error}): scancel {' '.join(dict.fromkeys(map(array, self._jobs)))}")
            self._stops += 1

    def _leave(self) -> Iterator[RunOutcome]:
        if self.config.detach and self._stops == 1:
            if self._jobs:
                warn(f"{arrays(self._jobs)} left to go on; the same command waits for what is left")
            return
        for run in list(self._watch.left.values()):
            yield RunOutcome(run, "interrupted", "stopped on request")


def _told_by_log(log: Path) -> str:
    """What the log of a job ends with, and where it is; where there is none, why that may be."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END))
            text = file.read().decode(errors="replace")
    except OSError:
        return f"it has left no log in {log.parent}: is that folder on a file system that the nodes share?"
    return f"{last_line(text)[:_LONGEST]}; see {log}" if text.strip() else f"see {log}"


def _runs(number: int) -> str:
    return f"{number} run{'s' * (number != 1)}"
