"""The executor without a Slurm: what it reads of Slurm's words, how runs are packed, and a job under submitit alone."""

import json
import os
import re
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import submitit

from mmbench.component import RunOutcome, RunRequest
from mmbench.errors import ConfigError
from mmbench.executors import LocalExecutor, Queued
from mmbench.worker import stated
from mmbench_slurm.config import SlurmConfig
from mmbench_slurm.executor import SlurmExecutor
from mmbench_slurm.job import Job
from mmbench_slurm.scheduler import Scheduler, SilentError, arrays
from mmbench_slurm.submission import asked, need_sense, packs, submit
from one_node_slurm import wait_for
from slurm_runs import LONG, epochs, locally, predictions, requests


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs of Slurm that say what a test wants: ``slurm(squeue="echo '7|RUNNING|None|mmbench'")``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def say(**programs: str) -> None:
        for name in ("squeue", "sbatch", "srun", "scancel", "scontrol", "sacct"):
            path = folder / name
            path.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n{programs.get(name, "exit 1")}\n')
            path.chmod(0o755)

    return say


def runs(folder: Path, count: int) -> list[RunRequest]:
    found = [RunRequest(folder / "trial" / "linear-0" / f"seed-{seed}", f"linear seed {seed}", "cpu", 2) for seed in range(count)]
    for run in found:
        run.folder.mkdir(parents=True)
    return found


def test_states_of_jobs(slurm) -> None:
    """One call for all; jobs that ended before they began stand together; jobs of others are not taken for ours."""
    slurm(
        squeue="printf '%s\\n' '7_3|RUNNING|None|mmbench' '7_[0,4-6%2]|CANCELLED|None|mmbench' '9|PENDING|BadConstraints|mmbench' '8|RUNNING|None|x'"
    )
    scheduler = Scheduler()
    found = scheduler.states(["7_0", "7_3", "8", "9"])
    assert found.keys() == {"7_0", "7_3", "7_4", "7_5", "7_6", "9"}
    assert (found["7_5"].ended, found["7_3"].ended, found["9"].stuck, found["7_3"].stuck) == (True, False, True, False)
    assert scheduler.calls == 1
    slurm(squeue="echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert scheduler.states(["7"]) == {}
    slurm(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SilentError, match="Unable to contact"):
        scheduler.states(["7"])


def test_a_machine_of_no_cluster_is_told_of_at_once(slurm, tmp_path) -> None:
    slurm(scontrol="echo 'scontrol: fatal: Could not establish a configuration source' >&2; exit 1")
    with pytest.raises(ConfigError, match="start it where jobs are submitted"):
        list(SlurmExecutor(SlurmConfig()).submit(runs(tmp_path, 1)))


@pytest.mark.parametrize(
    ("device", "options", "error"),
    [
        ("cuda", {}, r"^executor.gpus = 0: .*--device cuda"),
        ("cpu", {"time": 2}, r"^executor.time = 2: no time is left"),
        ("cuda", {"sbatch": {"gres": "gpu:1"}}, None),
        ("cuda", {"sbatch": {"gres": "shard:1"}}, None),
        ("cuda", {"sbatch": {"exclusive": True}}, None),
        ("cuda", {"sbatch": {"exclusive": False}}, r"^executor.gpus = 0: "),
        ("cpu", {"time": 2, "stop_before": 20}, None),
    ],
    ids=["no-gpu", "no-time", "gres", "shard", "node", "no-node", "time"],
)
def test_jobs_in_which_no_run_could_come_forward_are_refused(tmp_path, device, options, error) -> None:
    several = [replace(run, device=device) for run in runs(tmp_path, 1)]
    with pytest.raises(ConfigError, match=error) if error else nullcontext():
        need_sense(several, SlurmConfig(**options))


def test_what_is_told_of_jobs(tmp_path) -> None:
    assert arrays(["12_0"]) == "job 12_0"
    assert arrays(["12_0", "12_1"]) == "2 jobs of array 12"
    assert arrays(["12_0", "13_0", "14_0"]) == "3 jobs of arrays 12, 13 and 14"
    several = [[run] for run in runs(tmp_path, 2)]
    assert asked(several, SlurmConfig()) == ", each with 2 cores and no GPU for 240 minutes"
    assert asked(several[:1], SlurmConfig(gpus=1, cpus=1)) == ", with 1 core and 1 GPU for 240 minutes"
    assert asked(several[:1], SlurmConfig(sbatch={"gres": "gpu:1"}, at_once=2)) == ", with 4 cores for 240 minutes"


def test_packs(tmp_path) -> None:
    """Runs of one experiment share jobs, those of two do not."""
    several = [*runs(tmp_path / "a", 5), *runs(tmp_path / "b", 1)]
    assert [len(pack) for pack in packs(several, SlurmConfig(runs_per_job=2))] == [2, 2, 1, 1]


def test_what_sbatch_is_told(slurm, tmp_path) -> None:
    """Cores and memory are those of the runs that go on at once; srun is told the cores again; false leaves an option out."""
    slurm(sbatch="echo Submitted batch job 7")
    config = SlurmConfig(
        partition="gpu",
        time=30,
        memory=1.5,
        gpus=2,
        runs_per_job=4,
        at_once=3,
        jobs=5,
        sbatch={"constraint": "a100", "requeue": False},
        setup=("module load x",),
    )
    assert submit(list(packs(runs(tmp_path, 8), config)), config) == ["7_0", "7_1"]
    (script,) = (tmp_path / "trial" / "slurm").glob("7_submission.sh")
    text = script.read_text()
    for line in ("partition=gpu", "time=30", "cpus-per-task=6", "mem=4608M", "gpus-per-node=2", "array=0-1%2", "constraint=a100", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in text
    assert "--cpus-per-task=6 " in text.partition("srun")[2]
    assert "--requeue" not in text
    assert "wckey" not in text
    assert "module load x" in text
    submit([[replace(run, processes=4)] for run in runs(tmp_path / "several", 1)], SlurmConfig(gpus=4))
    assert "#SBATCH --cpus-per-task=8\n" in (tmp_path / "several" / "trial" / "slurm" / "7_submission.sh").read_text()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("sbatch: error: Batch job submission failed: Invalid qos specification", r"^executor.qos = x: "),
        ("sbatch: error: Memory specification can not be satisfied", r"^executor.memory: "),
        ("sbatch: unrecognized option '--constrain=a'", r"^executor.sbatch = "),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified", r"^executor.account: "),
        ("sbatch: error: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", r"^executor.account: "),
        ("sbatch: unrecognized option '--foo=1'\nTry 'sbatch --help' for more information", r"^executor.sbatch = .*--foo=1"),
        ("sbatch: error: Batch job submission failed: Invalid node name specified", r"^executor.sbatch = .*; sinfo -N lists them"),
        ("sbatch: error: Invalid generic resource (gres) specification", r"^executor.sbatch = "),
        ("sbatch: error: something new", r"^executor slurm: sbatch: error: something new$"),
    ],
    ids=["qos", "memory", "option", "account", "policy", "help", "node", "gres", "unknown"],
)
def test_refusals_name_the_option(slurm, tmp_path, capfd, said, error) -> None:
    slurm(sbatch=f'echo "{said}" >&2; exit 1')
    with pytest.raises(ConfigError, match=error):
        submit([runs(tmp_path, 1)], SlurmConfig(qos="x"))
    assert capfd.readouterr().err == ""


def test_a_full_queue_is_tried_again(slurm, tmp_path) -> None:
    slurm(sbatch="echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1")
    with pytest.raises(SilentError):
        submit([runs(tmp_path, 1)], SlurmConfig())


def test_no_slurm_is_one_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sbatch is not on this machine's PATH"):
        next(SlurmExecutor(SlurmConfig()).submit(runs(tmp_path, 1)))


@pytest.mark.parametrize(
    ("squeue", "sacct", "status", "reason"),
    [
        (
            "echo '7|OUT_OF_MEMORY|OutOfMemory|mmbench'",
            "exit 1",
            "failed",
            r"^slurm job 7 ended: OUT_OF_MEMORY \(OutOfMemory\); slurmstepd: error: 7 had more than it asked for; see .*/7_0_log.out",
        ),
        ("echo '7|FAILED|JobLaunchFailure|mmbench'; rm -f $LOG", "exit 1", "failed", r"; it has left no log in .*/trial/slurm: is that folder on"),
        (
            "echo '7|FAILED|NonZeroExitCode|mmbench'; echo 'srun: error: n1: task 0: Exited with exit code 2' > $LOG",
            "exit 1",
            "failed",
            r"; srun: error: n1: .* code 2; see ",
        ),
        ("echo '7|NODE_FAIL|None|mmbench'", "exit 1", "interrupted", r"^slurm job 7 ended: NODE_FAIL$"),
        ("exit 0", "exit 1", "interrupted", r"^slurm job 7 is not known any more$"),
        ("exit 0", "echo '7|CANCELLED by 0|0:0'", "interrupted", r"^slurm job 7 ended: CANCELLED \(exit code 0:0\)$"),
    ],
    ids=["memory", "launch", "closing", "node", "vanished", "accounted"],
)
def test_a_job_without_a_result(slurm, tmp_path, monkeypatch, squeue, sacct, status, reason) -> None:
    """Nothing is waited for for ever: the run has the reason that Slurm gives, in its folder too where it has failed."""
    slurm(sbatch="echo Submitted batch job 7", squeue=squeue, sacct=sacct, scontrol="echo 'MaxArraySize = 1001'")
    (run,) = runs(tmp_path, 1)
    log = tmp_path / "trial" / "slurm" / "7_0_log.out"
    log.parent.mkdir()
    log.write_text("slurmstepd: error: 7 had more than it asked for\nsrun: error: node1: task 0: Exited with exit code 2\n\n")
    monkeypatch.setenv("LOG", str(log))
    (outcome,) = SlurmExecutor(SlurmConfig(lag=0.1, poll=0.1)).submit([run])
    assert outcome.status == status
    assert re.search(reason, outcome.reason)
    assert stated(run.folder)[0] == ("failed" if status == "failed" else "")
    assert Queued.read(run.folder) is None


def test_few_questions(slurm, tmp_path) -> None:
    """However many runs and jobs there are: one question for all, less often as time goes by."""
    slurm(
        sbatch="echo Submitted batch job 7",
        squeue="echo '7_0|RUNNING|None|mmbench'; echo '7_1|RUNNING|None|mmbench'",
        scontrol="echo 'MaxArraySize = 1001'",
    )
    executor = SlurmExecutor(SlurmConfig(detach=True, runs_per_job=100))
    several = runs(tmp_path, 200)
    questions = executor.submit(several)
    timer = threading.Timer(6, executor.stop)
    timer.start()
    assert list(questions) == []
    calls = (tmp_path / "calls").read_text().splitlines()
    programs = [line.split()[0] for line in calls]
    assert programs[:3] == ["scontrol", "sbatch", "squeue"]
    assert programs[3:] in ([], ["squeue"]), "after 2 and 5 seconds"
    assert calls[2].count("--jobs=7 ") == 1
    assert {note.job for run in several if (note := Queued.read(run.folder))} == {"7_0", "7_1"}


def test_a_job_goes_on_where_it_was_stopped(tmp_path) -> None:
    """submitit alone, on this machine: its signal stops the run after a step, and the job's next turn ends it with the bytes of a run left alone."""
    (run,) = requests(tmp_path / "there", **LONG)
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=10)
    job = executor.submit(Job(SlurmConfig()), [run])
    wait_for(lambda: epochs(run) >= 3, "three epochs")
    (process,) = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
    os.kill(int(process), signal.SIGUSR2)
    job.result()
    assert job.stdout().count("Starting with") == 2
    assert stated(run.folder)[0] == "done"
    (here,) = requests(tmp_path / "here", **LONG)
    locally([here])
    assert predictions(run) == predictions(here)


def test_a_run_that_never_ends_an_epoch_is_failed(tmp_path) -> None:
    """Where a job's whole time was not enough for an epoch, the next one's would not be either."""

    class Executor:
        stopping = False

        def stop(self) -> None:
            self.stopping = True

        def fail(self, run, reason, **more) -> None:
            failed.append((run, reason, more))

    (run,) = runs(tmp_path, 1)
    for advanced, expected in ((True, 0), (False, 1)):
        failed: list = []
        job = Job(SlurmConfig(time=1))
        job._started, job._executor, job._advanced = time.monotonic() - 60, Executor(), advanced
        job._work = threading.Thread(target=lambda: None)
        job._work.start()
        job._outcomes = [RunOutcome(run, "interrupted", "stopped on request")]
        again = job.checkpoint([run])
        assert again.args == ([run],)
        assert len(failed) == expected


@pytest.mark.parametrize("alive", [False, True])
def test_what_a_dead_node_left_is_taken_over(tmp_path, monkeypatch, alive) -> None:
    """A job's next turn waits until the claim of another machine is old enough; one that is still touched is left alone."""
    monkeypatch.setattr("mmbench.claims.SILENT", 2.0)
    monkeypatch.setattr("mmbench_slurm.job.PAUSE", 0.1)
    (run,) = runs(tmp_path, 1)
    (run.folder / "claim").mkdir()
    file = run.folder / "claim" / "token.json"
    file.write_text(json.dumps({"host": "elsewhere", "boot": "b", "space": "s", "pid": 7, "born": "1", "since": "2026-01-01"}))
    if alive:
        threading.Timer(0.5, os.utime, [file]).start()
    job = Job(SlurmConfig())
    job._executor = LocalExecutor()
    job._inherit(run)
    assert file.is_file() == alive


def test_stopped_twice_waits_for_nothing(slurm, tmp_path) -> None:
    slurm(sbatch="echo Submitted batch job 7", squeue="echo '7|RUNNING|None|mmbench'", scontrol="echo 'MaxArraySize = 1001'", scancel="exit 0")
    (run,) = runs(tmp_path, 1)
    executor = SlurmExecutor(SlurmConfig(poll=0.1))
    timers = [threading.Timer(seconds, executor.stop) for seconds in (1.5, 3)]
    for timer in timers:
        timer.start()
    (outcome,) = executor.submit([run])
    assert (outcome.request, outcome.status) == (run, "interrupted")
    assert "scancel 7\n" in (tmp_path / "calls").read_text()
