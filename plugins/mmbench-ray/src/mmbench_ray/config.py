"""The options of the executor. Imports no ray."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from mmbench import ComponentConfig


class RayConfig(ComponentConfig):
    """Where the runs go, and what each of them reserves."""

    address: str | None = Field(
        None,
        min_length=1,
        description="the cluster: `auto` (this machine belongs to it), `host:6379` or `ray://host:10001`; default: one is started on this machine, "
        "and ends with the command",
    )
    gpus: float | None = Field(
        None, gt=0, le=1, description="part of a GPU that a run reserves; default: a whole one for each of its processes, where the cluster has any"
    )
    jobs_per_device: PositiveInt | None = Field(None, description="runs at once on each GPU: N is the same as gpus of 1/N; on CPU it says nothing")
    cpus: PositiveFloat | None = Field(None, description="CPU cores that a run reserves; default: its `training.threads`, times `training.processes`")
    memory: PositiveFloat | None = Field(None, description="GiB of memory that a run reserves; default: none, as Ray has it")
    jobs: PositiveInt | None = Field(None, description="runs at once in the whole cluster; default: as many as there is room for")
    retries: NonNegativeInt = Field(3, description="how many times a run is handed out again whose node or process was lost")
    timeout: PositiveFloat | None = Field(
        None, description="seconds after which a run is stopped; it is failed, and --rerun failed goes on from its last checkpoint"
    )

    @field_validator("jobs_per_device")
    @classmethod
    def _one_of_both(cls, value: int | None, others: ValidationInfo) -> int | None:
        if value is not None and others.data.get("gpus") is not None:
            raise ValueError("and gpus say the same; give one of them")
        return value

    @property
    def part(self) -> float | None:
        """The part of a GPU that a run is to have, where the config says so. Rounded down to what Ray counts, so that N of them fit."""
        return self.gpus if self.jobs_per_device is None else int(_COUNTED / self.jobs_per_device) / _COUNTED


_COUNTED = 10_000
"""Ray counts resources in parts of this size."""
