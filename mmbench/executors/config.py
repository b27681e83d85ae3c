"""The local executor's options."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from mmbench.component_config import ComponentConfig


class LocalConfig(ComponentConfig):
    """Runs in processes on this machine."""

    jobs: PositiveInt | None = Field(
        None, description="runs at once; default: `jobs_per_device` for each GPU, or one per `training.threads` cores (times `training.processes`)"
    )
    jobs_per_device: PositiveInt = Field(1, description="runs at once on each GPU, for models too small to fill one; on CPU it says nothing")
    timeout: PositiveFloat | None = Field(
        None, description="seconds after which a run is stopped; it is failed, and --rerun failed goes on from its last checkpoint"
    )
