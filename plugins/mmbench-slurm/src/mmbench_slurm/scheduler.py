"""Slurm, asked through its commands: what has become of jobs, and their end. One call for all jobs, however many there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mmbench.errors import ConfigError

NAME = "mmbench"
"""How jobs are called, which tells them from others that have got their numbers in another life of the cluster."""
STARTING = 60.0
"""Seconds that a job may take to come to its runs."""
ANSWER = 120.0
"""Seconds that a command of Slurm is waited for; its own patience with a controller is less, unless the cluster says otherwise."""
ENDED = frozenset(
    {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "REVOKED"},
)
"""States of a job that has ended; whatever else squeue says, it waits or goes on. One that is preempted may be requeued yet."""
FOR_EVER = re.compile("Held|held|BadConstraints|PartitionNodeLimit|PartitionTimeLimit|InvalidQOS|InvalidAccount|TimeLimit$|NeverSatisfied")
"""Why a job waits, where waiting alone does not help."""
CLOSING = re.compile("^Try [\"']|^srun: error: .*: Exited with|Terminating StepId|^srun: Terminating")
"""Lines after the one that says what is wrong."""
_UNKNOWN = "Invalid job id specified"


class SilentError(Exception):
    """The scheduler does not answer; what its command says."""


@dataclass(frozen=True)
class State:
    """What Slurm says of a job: ``PENDING``, ``RUNNING``, ``CANCELLED``, ..., and why it waits or has failed."""

    name: str
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether the job has ended, and will not go on by itself."""
        return self.name in ENDED

    @property
    def stuck(self) -> bool:
        """Whether the job waits for somebody to do something."""
        return self.name == "PENDING" and FOR_EVER.search(self.reason) is not None


class Scheduler:
    """`calls`: how many questions it has been asked."""

    def __init__(self) -> None:
        self.calls = 0

    def states(self, jobs: Iterable[str]) -> dict[str, State]:
        """The jobs that the controller knows; it forgets one some minutes after its end (MinJobAge). SilentError: it does not answer."""
        known = self._ask(["squeue", "--noheader", "--array", "--states=all", f"--jobs={_numbers(jobs)}", "--format=%i|%T|%r|%j"])
        found: dict[str, State] = {}
        for line in known.splitlines():
            job, state, reason, name = line.split("|", 3)
            if name == NAME:
                found |= dict.fromkeys(_several(job), State(state, "" if reason == "None" else reason))
        return found

    def account(self, jobs: Iterable[str]) -> dict[str, State]:
        """What the accounting knows of jobs that the controller has forgotten; nothing where the cluster keeps none."""
        if not shutil.which("sacct"):
            return {}
        try:
            known = self._ask(["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={_numbers(jobs)}", "--format=JobID,State,ExitCode"])
        except SilentError:
            return {}
        rows = [line.split("|") for line in known.splitlines()]
        return {row[0]: State(row[1].partition(" ")[0], f"exit code {row[2]}") for row in rows if len(row) == 3}

    def cancel(self, jobs: Iterable[str]) -> None:
        """End jobs: SIGTERM, and after the cluster's KillWait SIGKILL. SilentError: it does not answer."""
        self._ask(["scancel", *jobs])

    def most(self) -> int:
        """How many jobs an array may have. SilentError: it does not answer. ConfigError: this machine belongs to no cluster."""
        try:
            said = self._ask(["scontrol", "show", "config"])
        except SilentError as error:
            if "configuration source" in str(error):
                raise ConfigError(f"executor slurm: {error}; start it where jobs are submitted, or use --executor local") from None
            raise
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", said)
        return int(found[1]) if found else 1

    def _ask(self, command: list[str]) -> str:
        self.calls += 1
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SilentError(str(error)) from None
        if done.returncode and _UNKNOWN not in done.stderr:
            raise SilentError(f"{command[0]}: {last_line(done.stderr)}")
        return done.stdout


def last_line(text: str) -> str:
    """The last line of an error, where Slurm's commands say what it is about; nothing of how they end, unless that is all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ([line for line in lines if not CLOSING.search(line)] or lines or ["no answer"])[-1]


def array(job: str) -> str:
    """The number that the jobs of one array share."""
    return job.partition("_")[0]


def arrays(jobs: Iterable[str]) -> str:
    """Jobs by the arrays that they are of: ``job 12_0``, ``3 jobs of array 12``, ``5 jobs of arrays 12 and 13``."""
    several = list(jobs)
    if len(several) == 1:
        return f"job {several[0]}"
    *first, last = dict.fromkeys(map(array, several))
    return f"{len(several)} jobs of array{'s' * bool(first)} {', '.join(first)}{' and ' * bool(first)}{last}"


def _several(job: str) -> Iterator[str]:
    """The jobs that one line of squeue is about: jobs that ended before they began stay together, as ``12_[0,4-7%8]``."""
    number, _, tasks = job.partition("_")
    if not tasks.startswith("["):
        yield job
        return
    for part in tasks.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        yield from (f"{number}_{task}" for task in range(int(first), int(last or first) + 1))


def _numbers(jobs: Iterable[str]) -> str:
    """Arrays by their numbers alone, since a command has limits, and arrays have thousands of jobs."""
    return ",".join(dict.fromkeys(map(array, jobs)))


def told(states: Mapping[str, State]) -> str:
    """Jobs with their reasons, the first of them by name: ``12_1 (JobHeldUser), 12_2 (JobHeldUser) and 5 more``."""
    shown = [f"{job} ({state.reason})" for job, state in states.items()]
    return ", ".join(shown[:2]) + f" and {len(shown) - 2} more" * (len(shown) > 2)
