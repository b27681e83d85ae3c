"""A real Slurm of one node under a folder, on loopback: munged, slurmctld and slurmd of their own, beside any other of the machine.

Also a program, to try things by hand: ``python one_node_slurm.py FOLDER`` starts one, says how it is reached, and ends it with Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = "slurm-wlm", "munge"
PROGRAMS = "munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol"
PATIENCE = 120.0
CONFIG = """
ClusterName=mmbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=ALL
MaxArraySize=2
KillWait=5
SlurmdTimeout=10
ReturnToService=2
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={slurmd} CPUs=4 RealMemory=4000
PartitionName=main Nodes=node1 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 MaxTime=300
PartitionName=urgent Nodes=node1 PriorityTier=10 PreemptMode=OFF
"""


def unavailable() -> str:
    """Why no Slurm can be started here, with what to do about it; nothing where it can. Installs it where a CI says so."""
    missing = [name for name in PROGRAMS if not _program(name)]
    if missing and os.environ.get("CI") == "true" and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "-q", *command], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, check=False)
        missing = [name for name in PROGRAMS if not _program(name)]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    return "" if os.geteuid() == 0 else "needs root, whose jobs slurmd starts"


class Slurm:
    """The daemons, and how they are talked to. `environment`: what a process needs to reach them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        ports = dict(zip(("slurmctld", "slurmd"), _free_ports(2), strict=True))
        (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=socket.gethostname().partition(".")[0], **ports).lstrip())

    def start(self) -> Slurm:
        """Start everything, and wait until the node is ready."""
        self.start_daemon("munged")
        wait_for(lambda: (self.folder / "munge.socket").exists(), "munged's socket")
        self.start_daemon("slurmctld")
        self.start_daemon("slurmd")
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until the node can take jobs."""
        wait_for(lambda: self.ask("sinfo", "-h", "-p", "main", "-o", "%t").strip() in ("idle", "mix", "alloc"), "the node")

    def start_daemon(self, name: str) -> None:
        """Start one of the daemons."""
        place = self.folder
        munged = ["--foreground", "--force", f"--socket={place}/munge.socket", f"--key-file={place}/munge.key", f"--pid-file={place}/munged.pid"]
        options = {"munged": [*munged, f"--log-file={place}/munged.log", f"--seed-file={place}/munged.seed"]}
        command = [_program(name), *options.get(name, ["-D"]), *(["-N", "node1"] if name == "slurmd" else [])]
        with open(place / f"{name}.out", "ab") as out:
            self._daemons[name] = subprocess.Popen(command, env=self._all(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def kill_daemon(self, name: str) -> None:
        """End one of the daemons at once."""
        process = self._daemons.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Cancel what is there and end all daemons."""
        self.ask("scancel", "--user=root")
        for name in ("slurmd", "slurmctld", "munged"):
            if process := self._daemons.pop(name, None):
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints, errors included."""
        done = subprocess.run(command, env=self._all(), capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def jobs(self) -> list[str]:
        """Jobs that have not ended, each as ``<id> <state>``."""
        return self.ask("squeue", "-h", "-r", "-o", "%i %T").splitlines()

    def _all(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until something holds. TimeoutError: it did not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") or ""


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports


if __name__ == "__main__":
    slurm = Slurm(Path(sys.argv[1]).resolve())
    try:
        slurm.start()
        print(f"export SLURM_CONF={slurm.environment['SLURM_CONF']}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        slurm.stop()
