"""The executor with a real Slurm of one node: arrays, preemption, outages of the scheduler, the node and the command that waits."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mmbench.claims import owner_of
from mmbench.errors import ConfigError
from mmbench.executors import Queued
from mmbench.results.runs import find_runs
from mmbench.results.status import status_lines
from mmbench_slurm.config import SlurmConfig
from mmbench_slurm.executor import SlurmExecutor
from one_node_slurm import Slurm, unavailable, wait_for
from slurm_runs import LONG, config, epochs, locally, predictions, requests


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := unavailable():
        pytest.skip(reason)
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in slurm.environment.items():
            patch.setenv(name, value)
        try:
            yield slurm.start()
        finally:
            slurm.stop()


class Driver:
    """An executor that waits for runs in a thread."""

    def __init__(self, runs, **options):
        self.executor = SlurmExecutor(SlurmConfig(**{"time": 10, "lag": 3, "poll": 3, **options}))
        self.outcomes = []
        self._thread = threading.Thread(target=lambda: self.outcomes.extend(self.executor.submit(runs)), daemon=True)
        self._thread.start()

    def end(self):
        """The outcomes by seed, as ``(status, reason)``."""
        self._thread.join(180)
        assert not self._thread.is_alive(), f"the executor waits for ever: {vars(self.executor)}"
        return {outcome.request.folder.name: (outcome.status, outcome.reason) for outcome in self.outcomes}


def has_begun(run):
    wait_for(lambda: epochs(run) >= 3, f"three epochs of {run.folder}")


def command(run_config, out, *more):
    line = [
        sys.executable,
        "-m",
        "mmbench",
        "run",
        str(run_config),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--executor",
        "slurm",
        "--set",
        "executor.time=10",
    ]
    return subprocess.Popen([*line, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def test_arrays(slurm, tmp_path, capfd) -> None:
    """Three runs are two arrays, where an array has two jobs at most; one that fails is one failed run; the numbers are those of this machine."""
    runs = requests(tmp_path / "there", "constant", (1, 2, 3))
    path = runs[1].folder / "config.yaml"
    path.write_text(path.read_text().replace("samples: 60", "samples: 50"))
    found = Driver(runs).end()
    assert found["seed-1"][0] == found["seed-3"][0] == "done"
    assert found["seed-2"][0] == "failed"
    assert "have changed since this run was planned" in found["seed-2"][1]
    assert capfd.readouterr().err.count("Ctrl-C cancels") == 2
    (here,) = requests(tmp_path / "here", "constant", (3,))
    locally([here])
    assert predictions(here) == predictions(runs[2])
    assert not any(Queued.read(run.folder) for run in runs)


def test_preempted_and_requeued(slurm, tmp_path) -> None:
    """A run that is preempted, and requeued by hand, ends with the bytes of one that was left alone; the other run of its job is executed too."""
    runs = [*requests(tmp_path / "there", **LONG), *requests(tmp_path / "there", "constant", (2,))]
    driver = Driver(runs, runs_per_job=2, cpus=4)
    has_begun(runs[0])
    job = Queued.read(runs[0].folder).job
    slurm.ask("sbatch", "-p", "urgent", "-c4", "-t1", "-o/dev/null", "--wrap", "sleep 1")
    wait_for(lambda: f"{job} PENDING" in slurm.jobs(), "the preempted job's turn to wait")
    assert owner_of(runs[0].folder) is None, "it stopped by itself"
    stopped = epochs(runs[0])
    (record,) = find_runs(runs[0].folder)
    assert (record.status, f"slurm job {job}" in record.owner) == ("queued", True)
    wait_for(lambda: epochs(runs[0]) > stopped, "its next turn")
    slurm.ask("scontrol", "requeue", job)
    assert {status for status, _ in driver.end().values()} == {"done"}
    log = (tmp_path / "there/runs/trial/slurm" / f"{job}_0_log.out").read_text()
    assert log.count("Starting with") == 3
    assert log.count(f"Requeued job {job}") == 1, "by the job; the second time by hand"
    (here,) = requests(tmp_path / "here", **LONG)
    locally([here])
    assert epochs(runs[0]) == epochs(here) == LONG["epochs"]
    assert predictions(runs[0]) == predictions(here)


def test_outages(slurm, tmp_path, capfd) -> None:
    """The command is killed, then the scheduler; the folders tell the state all the same. A second command waits for the scheduler and for the same
    job, which somebody cancels."""
    first = command(config(tmp_path, **LONG), tmp_path / "runs", "--set", "training.epochs=100000")
    (run,) = requests(tmp_path, **{**LONG, "epochs": 100000})
    has_begun(run)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    job = Queued.read(run.folder).job
    slurm.kill_daemon("slurmctld")
    assert "running 1" in "\n".join(status_lines(find_runs(run.folder)))
    driver = Driver([run])
    wait_for(lambda: "no answer" in capfd.readouterr().err, "word of the outage", 120)
    slurm.start_daemon("slurmctld")
    wait_for(lambda: "of an earlier command" in capfd.readouterr().err, "the second command's job")
    assert f"{job} RUNNING" in slurm.jobs(), "the job goes on"
    assert {line.partition("_")[0] for line in slurm.jobs()} == {job.partition("_")[0]}, "and no other was handed over"
    assert slurm.ask("scancel", job) == ""
    status, reason = driver.end()["seed-1"]
    assert (status, f"slurm job {job} ended: CANCELLED" in reason) == ("interrupted", True)
    (record,) = find_runs(run.folder)
    assert record.status == "interrupted"


def test_interrupted(slurm, tmp_path) -> None:
    """Ctrl-C cancels the jobs; the runs stop after their step and can be gone on with."""
    process = command(config(tmp_path, **LONG), tmp_path / "runs", "--set", "training.epochs=100000")
    (run,) = requests(tmp_path, **{**LONG, "epochs": 100000})
    has_begun(run)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "cancelling" in out
    assert not slurm.jobs()
    assert owner_of(run.folder) is None
    assert (run.folder / "last.pt").is_file()


def test_a_node_that_dies(slurm, tmp_path) -> None:
    """The job of a node that does not answer is requeued by Slurm, and has its result in the end."""
    (run,) = requests(tmp_path, **LONG)
    driver = Driver([run])
    has_begun(run)
    job = Queued.read(run.folder).job
    slurm.kill_daemon("slurmd")
    wait_for(lambda: f"{job} RUNNING" not in slurm.jobs(), "the node's death", 90)
    slurm.start_daemon("slurmd")
    assert driver.end()["seed-1"][0] == "done"
    slurm.wait_ready()


def test_refused(slurm, tmp_path) -> None:
    """What Slurm does not take is one error that names the option."""
    (run,) = requests(tmp_path, "constant")
    with pytest.raises(ConfigError, match=r"^executor.partition = nope: .*nvalid partition.*; sinfo lists them$"):
        list(SlurmExecutor(SlurmConfig(partition="nope")).submit([run]))
    with pytest.raises(ConfigError, match=r"^executor.time = 600: "):
        list(SlurmExecutor(SlurmConfig(time=600)).submit([run]))
    assert Queued.read(run.folder) is None
