"""The processes of one run beside its worker: started by it, watched by it, and gone when it is.

The worker is the first rank: it alone claims the run, writes, and is known to the executor. It starts the others as ``python -m mmbench.worker FOLDER
--rank R --port P``; they meet at a store that it keeps on this machine. A user's own ``torchrun --nproc-per-node 2 -m mmbench.worker FOLDER`` starts
them all, and the store is then torchrun's. `mmbench.training.ranks` says what they do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmbench.errors import MmbenchError, RunError

PARTED = 76
"""How a process ends that has lost the others: it is not the cause."""
GRACE = 30.0
"""Seconds that the worker has to notice by itself that another process has gone; waiting for a GPU, it may not."""
LEAVE = 5.0
"""Seconds that the other processes have to end, or to say why they did, once the worker has left."""
REASON = "mmbench.reason"
ORDERLY = (None, 0, PARTED, 130)


def torchrun() -> tuple[int, int] | None:
    """Rank and number of processes, where torchrun has started this one."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if "TORCHELASTIC_RUN_ID" in os.environ else None


class Companions:
    """The others of the `size` processes of a run, from ``with`` to its end. `lost` is called with the reason where one has gone and the worker does
    not get to know it: it is to end the process."""

    def __init__(self, folder: Path, device: str, size: int, lost: Callable[[str], None]):
        self.folder, self.device, self.size, self.lost = folder, device, size, lost
        self.processes: list[subprocess.Popen[bytes]] = []
        self.socket: socket.socket | None = None
        self.store: Any = None
        self._left = threading.Event()

    def __enter__(self) -> Companions:
        if self.size > 1 and torchrun() is None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name may lead nowhere
            self.socket = socket.create_server(("127.0.0.1", 0))
            for rank in range(1, self.size):
                command = [sys.executable, "-m", "mmbench.worker", str(self.folder), "--device", self.device, "--parent", str(os.getpid())]
                command += ["--rank", str(rank), "--port", str(self.socket.getsockname()[1])]
                self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
            threading.Thread(target=self._watch, name="companions", daemon=True).start()
        return self

    def join(self) -> Any:
        """Meet the others; returns what this process does among them. RunError: they are not as many as the config says, or have no GPU each."""
        from mmbench.training.environment import choose_device
        from mmbench.training.join import join, open_store
        from mmbench.training.ranks import Alone

        if torchrun() is None and self.size == 1:
            return Alone(choose_device(self.device))
        port = self.socket.getsockname()[1] if self.socket else 0
        self.store = open_store(0, self.size, port, self.socket.detach() if self.socket else None)
        return join(0, self.size, self.device, self.store, self._check)

    def _check(self) -> None:
        """RunError: one has gone before all were there."""
        if reason := self._reason():
            raise RunError(reason)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """End the others. RunError: why one of them has failed, where that is why the worker has."""
        self._left.set()
        try:
            parted = self.store is not None and type(error).__name__ == "PartedError"
            if isinstance(error, Exception) and (parted or not isinstance(error, MmbenchError)):
                deadline = time.monotonic() + (LEAVE if parted else 0)
                while not (reason := self._reason()) and time.monotonic() < deadline:
                    time.sleep(0.05)
                if reason:
                    raise RunError(reason) from error
        finally:
            self._end()

    def _end(self) -> None:
        deadline = time.monotonic() + LEAVE
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.poll() is None:  # it holds nothing that would be lost
                process.kill()
                process.wait()
        if self.socket is not None:
            self.socket.close()

    def _reason(self) -> str:
        """Why one of the others has ended other than together with the rest; nothing where none has."""
        if self.store is not None and self.store.check([REASON]):
            return str(self.store.get(REASON).decode())
        return self._ended()

    def _ended(self) -> str:
        """`_reason`, as the processes alone tell it."""
        for number, process in enumerate(self.processes, 2):
            if (code := process.poll()) not in ORDERLY:
                ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return f"process {number} of {self.size} {ending}; see {self.folder / 'log.txt'}"
        return ""

    def _watch(self) -> None:
        while not self._left.wait(0.5):
            if (ended := self._ended()) and not self._left.wait(GRACE):  # without the store, which is locked while the worker waits in it
                self.lost(ended)
                return
