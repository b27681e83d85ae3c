"""The actor that owns the tasks of a command's runs, on the cluster: it goes on when the command is gone, and a later command finds it again.

All that it is told is plain text, and all that it tells; what a run has come to stands in the run's folder.
"""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections import defaultdict, deque
from functools import cache, partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmbench.claims import clock, owner_of, take_over
from mmbench.executors import Queued
from mmbench.plugins import one_line
from mmbench.worker import FINAL, stated
from mmbench_ray.node import Order, execute, release

LOOK = 0.5
"""Seconds between two looks at the tasks."""
PAUSE = 5.0
"""Seconds between two looks at the runs that other processes execute."""
ANSWER = 60.0
"""Seconds that a node has to say which processes of its own are gone; it may start a process for that."""
LINGER = 30.0
"""Seconds after the last question to which an actor stays that has nothing left to do."""
CHUNK = 50_000
"""Characters of one argument. Ray keeps arguments below 100 kB with the actor, which then can be started again when the command is gone."""
INSTALL = "install mmbench, mmbench-ray and the plugins on all nodes"


class Supervisor:
    """`work` is a JSON text, in pieces: the runs under ``orders``, and what `node.execute` reads.

    Started again on another node, when its own is lost, it has the same runs; those that are done or failed by then are not handed out again.
    """

    def __init__(self, *work: str):
        self._work: dict[str, Any] = json.loads("".join(work))
        self._token = os.urandom(8).hex()
        self._waiting: deque[Order] = deque(self._work.pop("orders"))
        self._tasks: dict[Any, Order] = {}
        self._held: dict[str, Order] = {}
        self._owners: dict[str, str] = {}
        self._lost: defaultdict[str, int] = defaultdict(int)
        self._stop: dict[str, int] = {}
        self._told: list[tuple[str, str, str]] = []
        self._asked = self._looked = time.monotonic()
        threading.Thread(target=self._live, daemon=True).start()

    def look(self, token: str, since: int) -> tuple[str, list[tuple[str, str, str]]]:
        """What has come after the first `since` items: folder, status and reason of runs that have ended; ``note`` for what is only told of; ``left``
        for a run that was stopped before it was started. They are counted anew for another token than that of the actor's start."""
        self._asked = time.monotonic()
        return self._token, self._told[since if token == self._token else 0 :]

    def stop(self, folders: list[str], level: int) -> None:
        """Stop these runs after their step; with level 2 at once."""
        self._stop.update(dict.fromkeys(folders, level))

    def _live(self) -> None:
        try:
            self._carry_out()
        except Exception:  # of this actor; without it those who wait would do so for ever
            traceback.print_exc()
            raise
        finally:
            while time.monotonic() < self._asked + LINGER:
                time.sleep(LOOK)
            ray.kill(ray.get_runtime_context().current_actor)

    def _carry_out(self) -> None:
        cancelled: dict[str, int] = {}
        while self._waiting or self._tasks or self._held:
            for task, order in self._tasks.items():
                level = self._stop.get(order["folder"], 0)
                if level > cancelled.get(order["folder"], 0):
                    cancelled[order["folder"]] = level
                    ray.cancel(task, force=level > 1)
            self._hand_out()
            self._look_again()
            if not self._tasks:
                time.sleep(LOOK)
                continue
            for task in ray.wait(list(self._tasks), timeout=LOOK)[0]:
                self._hear(self._tasks.pop(task), task)

    def _hand_out(self) -> None:
        """Start what may be started."""
        while self._waiting and len(self._tasks) < (self._work["jobs"] or len(self._tasks) + 1):
            order = self._waiting.popleft()
            folder = Path(order["folder"])
            status, reason = stated(folder)
            if status in FINAL:
                self._end(order, status, reason)
            elif self._stop.get(order["folder"]):
                self._end(order, "left")
            elif (owner := owner_of(folder)) and owner.state() != "gone":  # of another machine: silent ones too
                self._hold(order)
            else:
                resources = {"num_cpus": order["cpus"], "num_gpus": order["gpus"], "memory": self._work["memory"]}
                task = ray.remote(execute).options(**resources, max_retries=0, name=order["label"]).remote(order, self._work)
                self._tasks[task] = order

    def _hear(self, order: Order, task: Any) -> None:
        """A task has ended, or is lost."""
        try:
            status, reason = ray.get(task)
        except TaskCancelledError:
            self._end(order, stated(Path(order["folder"]))[0] or "left", "stopped on request")
        except RayTaskError as error:  # none of `execute`'s own: the code is not there, or another
            self._end(order, "refused", f"a node cannot execute runs ({one_line(error)[:300]}); {INSTALL}")
        except RayError as error:
            self._again(order, f"its node or process was lost ({type(error).__name__})")
        else:
            if status == "busy":
                self._hold(order)
            elif status == "interrupted" and not self._stop.get(order["folder"]):  # its machine is taken away, say
                self._again(order, reason)
            else:
                self._end(order, status, reason)

    def _again(self, order: Order, why: str) -> None:
        """Hand a run out again that has ended by no fault of its own, as often as the config says."""
        self._lost[order["folder"]] += 1
        lost, retries = self._lost[order["folder"]], self._work["retries"]
        if self._stop.get(order["folder"]):
            self._end(order, "interrupted", "stopped on request")
        elif lost > retries:
            self._end(order, "interrupted", f"{why}, {lost} times (executor.retries is {retries}); the same command goes on from its last checkpoint")
        else:
            self._told.append((order["folder"], "note", f"{why}; it is handed out again ({lost} of {retries})"))
            self._waiting.append(order)

    def _hold(self, order: Order) -> None:
        """Wait for the process that has the claim of a run. It may be of the node that was lost."""
        self._held[order["folder"]] = order
        owner = owner_of(Path(order["folder"]))
        if owner is not None and self._owners.get(order["folder"]) != owner.token:  # said once
            self._owners[order["folder"]] = owner.token
            self._told.append((order["folder"], "note", f"waits for {owner}, until that has ended or its node is lost and silent for ten minutes"))

    def _look_again(self) -> None:
        """Which of the runs that others execute are free: their processes are gone, or silent for long on a node that is dead as Ray knows it."""
        if not self._held or time.monotonic() < self._looked + PAUSE:
            return
        self._looked = time.monotonic()
        now = cache(partial(clock, Path(next(iter(self._held)))))  # asked once, for a server is
        living, dead = hosts()
        ask: defaultdict[str, list[str]] = defaultdict(list)
        for name in list(self._held):
            owner = owner_of(Path(name))
            state = owner.state(now) if owner else "gone"
            if self._stop.get(name):
                self._end(self._held.pop(name), "busy" if state == "alive" else "left")
            elif owner is None or state == "gone" or (state == "silent" and owner.host in dead and take_over(Path(name))):
                self._waiting.append(self._held.pop(name))
            elif state == "silent":
                self._end(self._held.pop(name), "busy", f"{owner} executes it")
            elif owner.host in living:
                ask[living[owner.host]].append(name)
        for node, names in ask.items():
            strategy = NodeAffinitySchedulingStrategy(node, soft=False)
            try:
                task = ray.remote(release).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(names)
                free = ray.get(task, timeout=ANSWER)
            except RayError:
                continue  # it is asked again
            for name in free:
                self._waiting.append(self._held.pop(name))

    def _end(self, order: Order, status: str, reason: str = "") -> None:
        if status not in FINAL:
            Queued.remove(Path(order["folder"]), self._work["job"])
        self._told.append((order["folder"], status, reason))
        if status == "refused":  # so would be all others: nothing is handed out any more
            self._stop.update(dict.fromkeys((other["folder"] for other in (*self._waiting, *self._tasks.values(), *self._held.values())), 1))


def hosts() -> tuple[dict[str, str], set[str]]:
    """The machines of the cluster: by name the id of a living node on each, and the names of those whose nodes are all dead."""
    nodes = ray.nodes()
    living = {str(node["NodeManagerHostname"]): str(node["NodeID"]) for node in nodes if node["Alive"]}
    return living, {str(node["NodeManagerHostname"]) for node in nodes} - set(living)
