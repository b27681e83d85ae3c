"""Runs on this machine, some at once, each in a process of its own: a crash of one is nothing to the others."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from mmbench.claims import ClaimedError, claim, owner_of
from mmbench.component import Report, RunOutcome, RunRequest
from mmbench.executors.attend import attend, in_time, kill
from mmbench.executors.config import LocalConfig
from mmbench.files import no_room, parse_json, read_json, write_sealed
from mmbench.plugins import one_line
from mmbench.privacy import shared
from mmbench.worker import BUSY, EXIT, FINAL, SCHEMA_VERSION, UNWRITTEN, stated

ORDERLY = BUSY, UNWRITTEN, EXIT["interrupted"]
"""What the worker ends with only after it has released its claim. A component that ends the process may choose any of them."""


def gpus() -> list[str]:
    """The identifiers of the GPUs that a process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU"))]


MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}
"""glibc keeps freed memory up to these sizes (the first is its largest). By default it gives the tensors of each step back to the system, and the
next step waits for fresh pages."""


def process_environment(threads: int, jobs: int) -> dict[str, str]:
    """What a run of so many threads is told before it imports torch, where `jobs` of them go on at once; what the user has said stands.

    Threads that wait for others spin, by default of OpenMP, and take the core of another run. With several runs they sleep; a run alone keeps the
    default, which is faster then.
    """
    found = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    if jobs > 1 and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & set(os.environ):
        found["OMP_WAIT_POLICY"] = "PASSIVE"
    if not any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        found |= MEMORY
    return found


class LocalExecutor:
    """As many runs at once as `LocalConfig` says. `report` hears of each finished epoch."""

    def __init__(self, config: LocalConfig | None = None, report: Report | None = None):
        self.config = config or LocalConfig()  # type: ignore[call-arg]
        self.report = report
        self.stopping = False
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def submit(self, runs: Iterable[RunRequest]) -> Iterator[RunOutcome]:
        """Execute the runs; outcomes come as runs end. After `stop`, running ones are reported as interrupted and no other is started."""
        waiting = list(runs)
        devices = gpus() if any(run.device in ("auto", "cuda") for run in waiting) else []
        processes = max((run.processes for run in waiting), default=1)
        cores = max((run.threads * run.processes for run in waiting), default=1)
        named = any(run.device.startswith("cuda:") for run in waiting)
        at_most = max(1, len(devices) // processes) if devices else int(named)
        jobs = self.config.jobs or at_most * self.config.jobs_per_device or max(1, len(os.sched_getaffinity(0)) // cores)
        free, at_once = list(range(jobs)), min(jobs, len(waiting)) * processes
        load = [0] * len(devices)  # runs on each GPU
        held: dict[int, list[int]] = {}
        outcomes: queue.Queue[tuple[int, RunOutcome]] = queue.Queue()
        active = 0
        while active or (waiting and not self.stopping):
            while waiting and free and not self.stopping:
                run = waiting.pop(0)
                if (known := _settled(run)) is not None:
                    yield known
                    continue
                slot = free.pop(0)
                environment = process_environment(run.threads, at_once)
                if devices and run.device in ("auto", "cuda"):
                    held[slot] = sorted(sorted(range(len(devices)), key=load.__getitem__)[: run.processes])  # those with the fewest runs
                    environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[gpu] for gpu in held[slot])
                    for gpu in held[slot]:
                        load[gpu] += 1
                threading.Thread(target=self._job, args=(outcomes, slot, run, environment), daemon=True).start()
                active += 1
            try:
                slot, outcome = outcomes.get(timeout=0.1)
            except queue.Empty:
                continue
            active -= 1
            free.append(slot)
            for gpu in held.pop(slot, ()):
                load[gpu] -= 1
            yield outcome

    def stop(self) -> None:
        """Ask the running processes to stop after their step; the second call ends them at once."""
        again, self.stopping = self.stopping, True
        for process in list(self._processes.values()):
            if process.poll() is None:
                kill(process) if again else process.send_signal(signal.SIGINT)

    def _job(self, outcomes: queue.Queue[tuple[int, RunOutcome]], slot: int, run: RunRequest, environment: dict[str, str]) -> None:
        try:
            outcome = self._execute(slot, run, environment)
        except Exception as error:  # of this executor: the other runs go on
            full = no_room(error)
            outcome = self._unwritten(run, f"{full.filename or run.folder}: {full.strerror}") if full else RunOutcome(run, "failed", one_line(error))
        outcomes.put((slot, outcome))

    def _execute(self, slot: int, run: RunRequest, environment: dict[str, str]) -> RunOutcome:
        command = [sys.executable, "-m", "mmbench.worker", str(run.folder), "--device", run.device, "--parent", str(os.getpid())]
        unwritten: list[str] = []
        with open(run.folder / "log.txt", "ab+", buffering=0) as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,  # no pipe, so that a run whose executor is killed can still say what it has to
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # an interrupt reaches it through `stop` alone
            )
            try:
                self._processes[slot] = process
                if self.stopping:
                    process.send_signal(signal.SIGINT)
                late = attend(process, log, lambda line: self._hear(run, line, unwritten), self.config.timeout)
                code = process.wait()
            finally:
                if process.poll() is None:  # an error of this executor
                    kill(process)
                    process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        left = owner_of(run.folder)
        if code in ORDERLY and left is not None and left.pid == process.pid and left.state() == "gone":
            return self.fail(run, f"its process {_ending(code)} in the middle; see {run.folder / 'log.txt'}")  # not by the worker's own return
        if code == UNWRITTEN:
            return self._unwritten(run, unwritten[-1] if unwritten else "its result could not be written")
        return self._outcome(run, code, late)

    def _hear(self, run: RunRequest, line: bytes, unwritten: list[str]) -> bool:
        """Whether a line is of an epoch, for the display, or why no result could be written. Anything else is what a plugin prints."""
        if not line.startswith(b"{"):  # told quickly, of a flood of lines
            return False
        try:
            told = parse_json(line.decode(errors="replace"))
        except ValueError:
            return False
        if isinstance(told, dict) and told.keys() == {"unwritten"}:
            unwritten.append(str(told["unwritten"]))
            return True
        if not isinstance(told, dict) or not told.keys() >= {"epoch", "of"}:
            return False
        if self.report is not None:
            self.report(run, told)
        return True

    def _unwritten(self, run: RunRequest, why: str) -> RunOutcome:
        """No result: the run is as it was after its last checkpoint, and is gone on with when it is asked for again."""
        return RunOutcome(run, "interrupted", f"{why}; when that is mended, the same command goes on")

    def _outcome(self, run: RunRequest, code: int, late: bool = False) -> RunOutcome:
        """What the run's own result says, or, where the process died without one, how it died."""
        if code == BUSY:
            return RunOutcome(run, "busy", "another process executes it")
        status, reason = stated(run.folder)
        if late and not self.stopping and status not in FINAL:
            why = f"stopped after {in_time(self.config.timeout or 0)} (--timeout); --rerun failed goes on from its last checkpoint"
            return self.fail(run, why, resumable=True)
        if status and (code == EXIT.get(status) or (code < 0 and status in FINAL)):  # what is killed, or crashes, as it ends had its result
            return RunOutcome(run, status, reason)
        if self.stopping or code == EXIT["interrupted"]:
            return RunOutcome(run, "interrupted", "stopped on request")
        reason = f"its process {_ending(code)}; see {run.folder / 'log.txt'}"
        return self.fail(run, reason)

    def fail(self, run: RunRequest, reason: str, **more: Any) -> RunOutcome:
        """Put down that a run has failed, unless something final is there already. `more`: other entries of its result, such as ``resumable``."""
        path = run.folder / "result.json"
        try:
            with claim(run.folder):  # which the dead process may have left, and another command taken over
                if stated(run.folder)[0] not in (FINAL if more else EXIT):
                    known = {"schema_version": SCHEMA_VERSION, "label": run.folder.parent.name, **read_json(path)}
                    write_sealed(path, {**known, "status": "failed", "reason": shared(reason), **more})
        except ClaimedError:
            return RunOutcome(run, "busy", "another process executes it")
        return RunOutcome(run, "failed", reason)


def _settled(run: RunRequest) -> RunOutcome | None:
    """What is known of a run without starting it: that another process executes it, or that one has done so since it was planned."""
    owner = owner_of(run.folder)
    if owner is not None and owner.state() != "gone":
        return RunOutcome(run, "busy", f"{owner} executes it")
    status, reason = stated(run.folder)
    if status in FINAL:
        return RunOutcome(run, status, "; ".join(filter(None, [reason, "executed by another command"])))
    return None


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"
