"""The executor's options. What Slurm calls a task of an array is a job here: it has an id (``1234_7``), a state and an end of its own."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mmbench import ComponentConfig


class SlurmConfig(ComponentConfig):
    """Array jobs of Slurm."""

    partition: str | None = Field(None, description="the partition; default: the cluster's")
    account: str | None = Field(None, description="the account that pays; default: the user's")
    qos: str | None = Field(None, description="the quality of service; default: the account's")
    time: PositiveInt = Field(240, description="minutes of one job; a run that takes longer goes on in the job's next turn, from its last checkpoint")
    cpus: PositiveInt | None = Field(None, description="cores for each run; default: `training.threads`, times `training.processes`")
    memory: PositiveFloat | None = Field(None, description="GB for each run; default: the cluster's")
    gpus: NonNegativeInt = Field(0, description="GPUs of one job, which its runs share")
    runs_per_job: PositiveInt = Field(1, description="runs that one job executes, for runs that are short beside the time a job takes to start")
    at_once: PositiveInt = Field(1, description="how many of a job's runs go on at once")
    jobs: PositiveInt | None = Field(None, description="jobs of an array that may run at once; default: as many as the cluster lets")
    timeout: PositiveFloat | None = Field(
        None, description="seconds after which a run is stopped; it is failed, and --rerun failed goes on from its last checkpoint"
    )
    stop_before: PositiveInt = Field(90, description="seconds before the end of a job's time at which its runs are asked to stop after their step")
    sbatch: dict[str, str | int | bool] = Field(
        default_factory=dict,
        description="others of sbatch by their long names, such as {constraint: a100, exclusive: true}; false leaves one out",
    )
    setup: tuple[str, ...] = Field(
        (), description="lines of shell that a job executes first, such as `module load cuda`; after `set -e` a line that fails ends the job"
    )
    detach: bool = Field(False, description="whether Ctrl-C leaves the jobs alone instead of cancelling them; the same command waits for them again")
    poll: PositiveFloat = Field(60.0, description="most seconds between two questions to the scheduler, which is asked for all jobs at once")
    lag: NonNegativeFloat = Field(
        60.0,
        description="seconds after a job's end for which its files may not be seen here yet, as on NFS; then a run without a result is given up",
    )
