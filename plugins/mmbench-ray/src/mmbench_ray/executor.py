"""The executor: the command's side of runs on Ray. What a run comes to, and its epochs, are read from its folder alone."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a benchmark does not phone home

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmbench.component import Report, RunOutcome, RunRequest
from mmbench.errors import ConfigError, RunError, printable
from mmbench.executors import Queued, Watch
from mmbench.plugins import catalogue, one_line
from mmbench.worker import FINAL
from mmbench_ray.config import RayConfig
from mmbench_ray.node import ENVIRONMENT, SEEN, versions, written
from mmbench_ray.supervisor import CHUNK, INSTALL, Supervisor

NAME = "ray"
NAMESPACE = "mmbench"
"""Where the cluster knows the actors of all commands by name."""
LOOK = 0.5
"""Seconds between two looks at the runs; several times as long as a look takes, where that is more."""
ANSWER = 60.0
"""Seconds after which an actor that does not answer is asked again; it may be started on another node meanwhile."""
OBJECTS = 80 << 20
"""Bytes of the store of objects of a cluster of our own, Ray's least: nothing goes through it."""
GIB = 1 << 30
CONNECT = 10.0
"""Seconds in which the head of a cluster accepts a connection."""
PLACE = re.compile(r"(?:ray://)?(?P<host>[^:/]+):(?P<port>\d+)")
UNSEEN = "it has ended on a node, and its result is not seen here; is its folder shared?"


class RayExecutor:
    """Hands the runs to an actor of the cluster, or finds the one that has them, and watches their folders. `report` hears of each finished epoch."""

    def __init__(self, config: RayConfig | None = None, report: Report | None = None):
        self.config = config or RayConfig()  # type: ignore[call-arg]
        self.report = report
        self.stopping = 0

    def submit(self, runs: Iterable[RunRequest]) -> Iterator[RunOutcome]:
        """Execute the runs; outcomes come as runs end.

        Raises:
            ConfigError: no such cluster, or none of its nodes has what a run is to have.
            RunError: a node has other versions, or does not see the folders of the runs. The runs are stopped; nothing is lost.
        """
        watch = Watch(runs, self.report)
        yield from watch.look()
        if not watch.left or self.stopping:
            return
        connect(self.config.address)
        if self.stopping:
            return
        handed = self._found(watch.left.values())
        if found := sum(len(one.runs) for one in handed):
            _tell(f"{found} run{'s' * (found > 1)} of an earlier command; waited for")
        new = [run for run in watch.left.values() if not any(run.folder in one.runs for one in handed)]
        if new:
            handed.append(self._hand_out(new))
            where = "this machine, no longer than this command" if self.config.address is None else "the cluster, even if this command is killed"
            _tell(f"{len(new)} run{'s' * (len(new) > 1)} on {where}; Ctrl-C stops after a step")
        results: dict[Path, RunOutcome] = {}
        while any(one.runs for one in handed):
            began = time.monotonic()
            results |= {outcome.request.folder: outcome for outcome in watch.look()}
            for one in handed:
                yield from one.look(self.stopping, results)
            time.sleep(max(LOOK, 4 * (time.monotonic() - began)))

    def stop(self) -> None:
        """Ask the runs to stop after their step; the second call ends them at once."""
        self.stopping += 1  # heard of at the next look: nothing is asked of Ray in a signal's handler

    def _found(self, runs: Iterable[RunRequest]) -> list[Handed]:
        """Those that carry out some of the runs already, for an earlier command."""
        jobs: defaultdict[str, list[RunRequest]] = defaultdict(list)
        for run in runs:
            note = Queued.read(run.folder)
            if note is not None and note.executor == NAME:
                jobs[note.job].append(run)
        found = []
        for job, theirs in jobs.items():
            with suppress(ValueError, RayError):  # gone, and what it had is handed out anew
                found.append(Handed(job, ray.get_actor(job, NAMESPACE), theirs))
        return found

    def _hand_out(self, runs: list[RunRequest]) -> Handed:
        """Start an actor that carries out these runs."""
        name = f"mmbench-{secrets.token_hex(4)}"
        orders = [self._order(run) for run in runs]
        memory = int((self.config.memory or 0) * GIB)
        work: dict[str, Any] = {
            "job": name,
            "shared": self.config.address is not None,
            "versions": versions(sorted({plugin.distribution for plugin in catalogue().plugins})),
            "environment": {key: value for key, value in os.environ.items() if key.startswith(ENVIRONMENT)},
            "timeout": self.config.timeout,
            "memory": memory or None,
            "jobs": self.config.jobs,
            "retries": self.config.retries,
        }
        self._room(orders, memory)
        if work["shared"]:  # our own cluster ends with this process, and nobody would take its notes away
            for run in runs:
                Queued.write(run.folder, NAME, name)
        text = json.dumps({**work, "orders": orders})
        chunks = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
        near = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # where this command is, or the cluster's head
        options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "num_cpus": 0, "max_restarts": -1, "max_concurrency": 2}
        return Handed(name, ray.remote(Supervisor).options(**options, scheduling_strategy=near).remote(*chunks), runs)

    def _order(self, run: RunRequest) -> dict[str, Any]:
        """One run as the cluster is told of it: a device, and what it reserves."""
        if run.device.startswith("cuda:"):
            raise ConfigError(f"--device {run.device} names a GPU of one machine, and Ray chooses among all; use --device cuda")
        wanted = run.device == "cuda" or (run.device == "auto" and (self.config.gpus or ray.cluster_resources().get("GPU")))
        if wanted and run.processes > 1 and self.config.part:
            raise ConfigError(
                f"executor.{'jobs_per_device' if self.config.jobs_per_device else 'gpus'}: a run of {run.processes} processes takes "
                "as many whole GPUs; leave it out"
            )
        gpus = (self.config.part or float(run.processes)) if wanted else 0.0
        cpus = self.config.cpus or float(run.threads * run.processes)
        told = {"folder": str(run.folder.resolve()), "written": written(run.folder), "label": run.label}
        told |= {"threads": run.threads, "processes": run.processes}
        return {**told, "device": "cuda" if wanted else "cpu", "cpus": cpus, "gpus": gpus}

    def _room(self, orders: list[dict[str, Any]], memory: int) -> None:
        """ConfigError: no node will ever have room for one of the runs."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for cpus, gpus in {(order["cpus"], order["gpus"]) for order in orders}:
            wanted = {"CPU": cpus, "GPU": gpus, "memory": float(memory)}
            if not any(all(node.get(what, 0.0) >= amount for what, amount in wanted.items()) for node in nodes):
                asked = f"cpus {cpus:g}, gpus {gpus:g}, memory {memory / GIB:g} GiB"
                have = "; ".join(f"{n.get('CPU', 0):g}, {n.get('GPU', 0):g}, {n.get('memory', 0) / GIB:.3g} GiB" for n in nodes[:5])
                raise ConfigError(f"executor: a run is to have {asked}, and no node of the Ray cluster has so much (they have: {have})")


class Handed:
    """The runs that one actor carries out, by folder."""

    def __init__(self, job: str, actor: Any, runs: list[RunRequest]):
        self.runs = {run.folder: run for run in runs}
        self._job, self._actor = job, actor
        self._names = {str(run.folder.resolve()): run for run in runs}
        self._token, self._since, self._stopped = "", 0, 0
        self._final: dict[Path, float] = {}

    def look(self, stopping: int, results: dict[Path, RunOutcome]) -> Iterator[RunOutcome]:
        """The runs that have ended. `results`: what their folders say, and nothing is done or failed but by that.

        A result stands before its task has ended, which still looks at the folder; until then nobody is to start the run anew.
        """
        if not self.runs:
            return
        try:
            if stopping > self._stopped:
                ray.get(self._actor.stop.remote([str(folder.resolve()) for folder in self.runs], min(stopping, 2)), timeout=ANSWER)
                self._stopped = stopping
            token, told = ray.get(self._actor.look.remote(self._token, self._since), timeout=ANSWER)
        except RayActorError as error:
            if getattr(error, "preempted", False) or type(error).__name__ == "ActorUnavailableError":
                return  # it is being started on another node
            yield from self._gone(error, results)
            return
        except RayError:
            return  # no answer in time: it is asked again
        self._since = self._since + len(told) if token == self._token else len(told)
        if token != self._token:
            self._token, self._stopped = token, 0
        for name, status, reason in told:
            if (run := self._names.get(name)) is None or run.folder not in self.runs:
                continue
            if status == "refused":
                raise RunError(f"{reason}. The runs are stopped, and the same command goes on")
            if status == "note":
                _tell(f"{run.label}: {reason}")
            elif status in FINAL:
                self._final[run.folder] = time.monotonic()
            elif self.runs.pop(run.folder) and (run.folder in results or status != "left"):
                yield results.get(run.folder) or RunOutcome(run, status, reason)
            elif not stopping:  # another command has stopped it before it began: it is handed out anew
                yield RunOutcome(run, "busy", "another command has stopped it")
        for folder, since in self._final.items():
            if folder in self.runs and (folder in results or time.monotonic() > since + 2 * SEEN):
                run = self.runs.pop(folder)
                yield results.get(folder) or RunOutcome(run, "interrupted", UNSEEN)

    def _gone(self, error: RayActorError, results: dict[Path, RunOutcome]) -> Iterator[RunOutcome]:
        """The actor is there no more, whoever ended it."""
        why = one_line(error)
        if "ModuleNotFoundError" in why or "ImportError" in why:
            raise RunError(f"a node of the Ray cluster cannot execute runs ({why[:300]}); {INSTALL}")
        why = f"what carried it out on Ray is gone ({type(error).__name__}); the same command goes on"
        for run in self.runs.values():
            Queued.remove(run.folder, self._job)
            yield results.get(run.folder) or RunOutcome(run, "interrupted", why)
        self.runs.clear()


def _tell(line: str) -> None:
    """A line for the user beside the runs' own."""
    print(printable(f"ray: {line}"), file=sys.stderr, flush=True)


def _step(address: str | None) -> str:
    """What to do where no cluster answers."""
    if address is None:
        return ""
    if address == "auto":
        return "; ray start --head makes this machine one, and without executor.address Ray is started for this command alone"
    return "; ray status on its head says whether it is there" + (
        "; one with a token (ray start has one where ~/.ray/auth_token is) wants export RAY_AUTH_MODE=token here"
        * ("RAY_AUTH_MODE" not in os.environ)
    )


def connect(address: str | None) -> None:
    """Connect this process with a cluster, or start one, which ends with this process. ConfigError: it cannot be reached."""
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address is not None and (place := PLACE.fullmatch(address)):
            socket.create_connection((place["host"], int(place["port"])), CONNECT).close()  # Ray itself would try for minutes
        if address is None:
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECTS, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "starting Ray on this machine failed" if address is None else f"no Ray cluster answers at {address!r}"
        raise ConfigError(f"executor.address: {where}: {one_line(error)[:400]}{_step(address)}") from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray's would end this process without stopping the runs
