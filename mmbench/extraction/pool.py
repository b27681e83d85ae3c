"""Processes that work off tasks: each gets one at a time, so that one that dies costs one task."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from mmbench.errors import DataError
from mmbench.extraction.worker import Answer, Stage, Task, main

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_MOST_DEATHS = 10
"""So many processes that die one after the other, without a task that ends, are no matter of the clips."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    log: Path
    task: Task | None = None


def work(stages: Sequence[Stage], tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, str]]:
    """Carry out the tasks with `jobs` processes of one thread each; yields each with why it failed, or ``""``, as it ends.

    A process that dies is a failure of its task, and another one is started. DataError: a full disk, or what no other clip could mend.
    """
    waiting, workers, deaths = deque(tasks), list[_Worker](), 0
    with tempfile.TemporaryDirectory(prefix="mmbench-extract-") as logs:
        try:
            while waiting or any(worker.task for worker in workers):
                idle = [worker for worker in workers if worker.task is None]
                while waiting and (idle or len(workers) < jobs):
                    worker = idle.pop() if idle else _start(stages, Path(logs))
                    if worker not in workers:
                        workers.append(worker)
                    worker.task = waiting.popleft()
                    with contextlib.suppress(OSError):  # it has died since: what waits below hears of it
                        worker.connection.send(worker.task)
                busy = {worker.connection: worker for worker in workers if worker.task}
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]
                    task, worker.task = worker.task, None
                    assert task is not None
                    try:
                        answer = worker.connection.recv()
                        deaths = 0
                    except (EOFError, OSError):
                        answer = Answer(_death(worker))
                        workers.remove(worker)
                        deaths += 1
                    if answer.fatal or deaths >= _MOST_DEATHS:
                        more = "" if answer.fatal else f"; {deaths} processes died one after the other, the last one on {task.clip}"
                        raise DataError(f"{answer.reason}{more}")
                    yield task, answer.reason
        finally:
            _stop(workers)


def _start(stages: Sequence[Stage], logs: Path) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    handle, log = tempfile.mkstemp(dir=logs)
    os.close(handle)
    process = context.Process(target=main, args=(there, stages, log), daemon=True)
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read when torch is imported, which a new process does anew
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # an interrupt is this process's, from the other's first moment on
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    there.close()
    return _Worker(process, here, Path(log))


def _death(worker: _Worker) -> str:
    """Why a process died, as far as one can know."""
    worker.process.join(10)
    code = worker.process.exitcode
    worker.connection.close()
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL), as a system does whose memory runs out; try fewer --jobs"
    how = f"died ({signal.Signals(-code).name})" if code is not None and code < 0 else f"ended with exit status {code}"
    said = worker.log.read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "")
    return f"its process {how}" + f": {last:.200}" * bool(last)


def _stop(workers: Sequence[_Worker]) -> None:
    """End idle processes by closing their pipes, busy ones at once: what they are writing has no final name yet."""
    for worker in workers:
        worker.connection.close()
        if worker.task is not None:
            worker.process.kill()
    for worker in workers:
        worker.process.join(10)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
