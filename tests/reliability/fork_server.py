"""Forks a process of mmbench for each order, and kills it as the order says: what is slow to import is imported once, before any fork.

An order is a JSON line on standard input:

    arguments   of ``python -m mmbench.worker``, or after ``"mmbench"`` of the command itself
    log         file to which the process writes; null: a pipe that nobody reads, as when the one who started it has died
    signal      SIGKILL, SIGTERM or SIGINT, sent
    after       so many seconds after the start, or
    step        right before the process takes its n-th step in `folder`: opens a file to write, writes to it, fsyncs, renames, makes, removes
    pause       for `mmbench.training.checkpoint.PAUSE`; null: as it is
    environment variables of the process

The answer is a JSON line: exit code (negative: the signal that ended it), the seconds that it lived, and whether it ended before the signal.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

STEPS = {"open", "opened", "os.fsync", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def main() -> None:
    """Answer orders until there are no more."""
    import torch  # noqa: F401

    import mmbench.cli.data
    import mmbench.cli.run
    import mmbench.data.importing
    import mmbench.metrics
    import mmbench.results.tables
    import mmbench.runner
    import mmbench.training.loop
    import mmbench.worker  # noqa: F401
    from mmbench.plugins import catalogue

    for kind in ("model", "loss", "metric", "dataset-format"):
        for entry in catalogue().of_kind(kind):
            entry.load()
    for line in sys.stdin:
        print(json.dumps(carried_out(json.loads(line))), flush=True)


def carried_out(order: dict[str, Any]) -> dict[str, Any]:
    """The end of one process."""
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = child(order)
        finally:
            os._exit(code)
    ended, late = 0, False
    if order["after"] is not None:
        while not ended and time.monotonic() < started + order["after"]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)
        if not ended:
            os.kill(pid, getattr(signal, order["signal"]))
        late = bool(ended)
    if not ended:
        _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started, "late": late}


def child(order: dict[str, Any]) -> int:
    """The process itself, as its own program would start it."""
    from mmbench import cli, worker
    from mmbench.training import checkpoint

    if order["log"] is None:
        reader, output = os.pipe()
        os.close(reader)
    else:
        output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    if order["log"] is not None:
        os.dup2(output, 2)
    os.environ.update(order["environment"])
    if order["pause"] is not None:
        checkpoint.PAUSE = order["pause"]
    if order["step"] is not None:
        count_steps(order["folder"], order["step"], getattr(signal, order["signal"]))
    try:
        if order["arguments"][0] != "mmbench":
            return worker.main(order["arguments"])
        sys.argv = order["arguments"]
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        return 130
    finally:
        sys.stderr.flush()
    return 0


def count_steps(folder: str, last: int, number: int) -> None:
    """Send this process the signal right before its `last` step in `folder`. An fsync counts wherever it is: it names no file."""
    steps = 0
    fsync, plain_open = os.fsync, open

    def told(handle: int) -> None:
        sys.audit("os.fsync", handle)
        fsync(handle)

    def opened(path: Any, *arguments: Any, **options: Any) -> Any:
        file = plain_open(path, *arguments, **options)
        if file.writable():
            sys.audit("opened", path)
        return file

    def hear(event: str, arguments: Sequence[Any]) -> None:
        nonlocal steps
        if event not in STEPS or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = "" if event == "os.fsync" or isinstance(arguments[0], int) else os.fsdecode(arguments[0])
        if path and os.path.isabs(path) and not path.startswith(folder):  # a relative one is of a folder tree that is being removed
            return
        steps += 1
        if steps == last:
            os.kill(os.getpid(), number)

    os.fsync, builtins.open = told, opened
    sys.addaudithook(hear)


if __name__ == "__main__":
    main()
