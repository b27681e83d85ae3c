"""Runs are handed to Slurm: packed into jobs, those into arrays, each array one call of sbatch, by submitit."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmbench.component import RunRequest
from mmbench.errors import ConfigError
from mmbench_slurm.config import SlurmConfig
from mmbench_slurm.scheduler import NAME, STARTING, SilentError, last_line

Pack = list[RunRequest]
"""The runs of one job."""
FOLDER = "slurm"
"""Of an experiment: scripts, pickles and logs of its jobs."""
LATER = re.compile(
    "Unable to contact|timed out|Connection refused|temporarily|Zero Bytes|MaxSubmit|MaxJobCount|No route|Communication|Network is",
    re.IGNORECASE,
)
"""What sbatch says where the same call may succeed later."""
KEYS = (
    ("account", "account", "sacctmgr show associations user=$USER lists yours"),
    ("partition", "partition", "sinfo lists them"),
    ("qos", "qos", "sacctmgr show qos lists them"),
    ("time limit", "time", "sinfo -o '%P %l' lists the longest"),
    ("feature", "sbatch", "sinfo -o '%N %f' lists the nodes' features"),
    ("gres", "gpus", "sinfo -o '%N %G' lists the nodes' GPUs"),
    ("memory", "memory", "it is per run; sinfo -o '%N %m' lists the nodes' MB"),
    ("processor|cpu", "cpus", "it is per run, times executor.at_once; sinfo -o '%N %c' lists the nodes' cores"),
    ("node name", "sbatch", "sinfo -N lists them"),
    ("node configuration", "cpus, executor.memory or executor.gpus", "sinfo -o '%N %c %m %G' lists what nodes have"),
    ("option", "sbatch", "sbatch --help lists the options"),
)
"""By what sbatch complains of: the option that says it, and where to look for what is there."""
GPUS = re.compile("gpu|gres|tres|exclusive", re.IGNORECASE)
"""What may give a job GPUs: parts of them (MPS, shards) are a gres, too, and who has a node alone has all of it."""
NEVER = 1 << 30
"""Times that submitit lets a job reach its time limit before it gives up: one that comes forward goes on, and `Job` ends one that does not."""


def packs(runs: Sequence[RunRequest], config: SlurmConfig) -> Iterator[Pack]:
    """The runs of each job, of one experiment each, since its folder holds what is known of the job."""
    by_experiment: dict[Path, list[RunRequest]] = {}
    for run in runs:
        by_experiment.setdefault(place(run), []).append(run)
    for several in by_experiment.values():
        yield from (several[i : i + config.runs_per_job] for i in range(0, len(several), config.runs_per_job))


def place(run: RunRequest) -> Path:
    """Where what belongs to the jobs of a run's experiment is kept: scripts, pickles, logs."""
    return run.folder.absolute().parent.parent / FOLDER


def need_slurm() -> None:
    """ConfigError where this machine submits no jobs."""
    if not shutil.which("sbatch"):
        raise ConfigError("executor slurm: sbatch is not on this machine's PATH; start it where jobs are submitted, or use --executor local")


def need_sense(runs: Iterable[RunRequest], config: SlurmConfig) -> None:
    """ConfigError where Slurm would take jobs in which no run can come forward: without the GPU that it is to be on, or without time."""
    run = next((run for run in runs if run.device.startswith("cuda")), None)
    if run is not None and not _has_gpus(config):
        raise ConfigError(f"executor.gpus = 0: no job has a GPU, which --device {run.device} asks for; --set executor.gpus=1")
    if 60 * config.time <= STARTING + config.stop_before:
        raise ConfigError(
            f"executor.time = {config.time}: no time is left to train in, since a job is asked to stop {config.stop_before} s before its end "
            f"(executor.stop_before), and may take {STARTING:.0f} s to start; raise it, or take less for executor.stop_before"
        )


def asked(several: Sequence[Pack], config: SlurmConfig) -> str:
    """What a job is to have, for the user: ``, each with 2 cores and no GPU``."""
    gpus = f"{config.gpus} GPU{'s' * (config.gpus > 1)}" if config.gpus else "no GPU"
    cores = _cores(several, config)
    what = f"{cores} core{'s' * (cores > 1)}" + (f" and {gpus}" if config.gpus or not _has_gpus(config) else "")
    return f",{' each' * (len(several) > 1)} with {what} for {config.time} minutes"


def _has_gpus(config: SlurmConfig) -> bool:
    """Whether jobs ask for GPUs, in one of the ways that sbatch knows, its environment among them."""
    others = [f"{key} {value}" for key, value in config.sbatch.items() if value is not False]
    return bool(config.gpus) or any(map(GPUS.search, [*others, *(name for name in os.environ if name.startswith("SBATCH_"))]))


def _cores(several: Sequence[Pack], config: SlurmConfig) -> int:
    return (config.cpus or max(run.threads * run.processes for pack in several for run in pack)) * config.at_once


def submit(several: Sequence[Pack], config: SlurmConfig) -> list[str]:
    """Hand over one array of jobs, all of one experiment. Returns their ids, in order.

    Raises ConfigError where Slurm refuses them, SilentError where it does not answer or takes no more for now.
    """
    import submitit

    from mmbench_slurm.job import Job

    made = submitit.SlurmExecutor(place(several[0][0]), max_num_timeout=NEVER)
    made.update_parameters(**_parameters(several, config))
    moved = [[replace(run, folder=run.folder.absolute()) for run in pack] for pack in several]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # submitit prints what it raises
            return [job.job_id for job in made.map_array(Job(config), moved)]
    except submitit.core.utils.FailedJobError as error:
        raise _refusal(str(error), config) from None
    except OSError as error:
        raise ConfigError(f"executor slurm: {error}") from None


def _parameters(several: Sequence[Pack], config: SlurmConfig) -> dict[str, Any]:
    """The options of an array, as submitit calls them."""
    cores = _cores(several, config)
    return {
        "job_name": NAME,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "time": config.time,
        "cpus_per_task": cores,
        "mem": None if config.memory is None else f"{round(config.memory * config.at_once * 1024)}M",
        "gpus_per_node": config.gpus or None,
        "array_parallelism": config.jobs or len(several),
        "signal_delay_s": config.stop_before,
        "setup": list(config.setup),
        "stderr_to_stdout": True,
        "wckey": None,
        "additional_parameters": {key: value for key, value in {"requeue": True, **config.sbatch}.items() if value is not False},
        "srun_args": [f"--cpus-per-task={cores}"],  # since Slurm 22.05, srun does not take it from sbatch, and would bind all to one core
    }


def _refusal(said: str, config: SlurmConfig) -> Exception:
    line = last_line(said)
    if not said.strip() or LATER.search(said):  # nothing: it was ended, as by Ctrl-C
        return SilentError(line)
    for pattern, key, step in KEYS:
        if re.search(pattern, line, re.IGNORECASE):
            key = "sbatch" if key == "gpus" and not config.gpus else key
            value = getattr(config, key, None)
            return ConfigError(f"executor.{key}{'' if value is None else f' = {value}'}: {line}; {step}")
    return ConfigError(f"executor slurm: {line}")


def warn(line: str) -> None:
    """A line for the user beside the runs' own."""
    print(f"slurm: {line}", file=sys.stderr, flush=True)
