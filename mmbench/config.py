"""The experiment schema."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class Section(BaseModel):
    """A part of an experiment: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class StandardizeConfig(Section):
    """Percentile clipping, then z-scores; statistics of the training split over real frames only."""

    percentiles: tuple[float, float] | None = Field(None, description="clip each column to these percentiles first, for example [0.5, 99.5]")
    modalities: tuple[str, ...] | None = Field(None, description="the modalities it applies to; default: all with features")


class DataConfig(Section):
    """Which data, which part of them, and what is done to them before training."""

    name: str = Field(description="a data set's manifest, by name or path")
    path: str | None = Field(None, description="a file or folder; default: looked for under --data-root")
    features: Literal["aligned", "unaligned"] | None = Field(None, description="which layout of the features, where a folder holds several")
    simulated: bool = Field(False, description="use simulated data in the data set's shape")
    samples: PositiveInt | None = Field(None, description="total size of simulated data; default: the data set's own")
    modalities: tuple[str, ...] | None = Field(None, description="default: all that the manifest names")
    splits: Literal["published", "own"] = Field("published", description="own: accept a split that differs from the published one, and mark it")
    standardize: StandardizeConfig | None = Field(None, description="z-score the features with training statistics")
    max_length: dict[str, PositiveInt] | None = Field(None, description="cut sequences of a modality after this many frames")
