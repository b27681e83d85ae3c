"""The experiment schema. What a config may say, its defaults, and where each component's own hyperparameters go."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from mmbench.component_config import StrictModel

NUMBERS = 1
"""Raised when the same config and seed are meant to come to other numbers from then on, as with another random stream. It stands in every run's
record and checkpoint, and from 2 on in fingerprints: older runs stay readable, none goes on under other rules, and a table that mixes them says so.
Runs of before it was counted have 0."""


class Section(StrictModel):
    """A part of an experiment."""


class StandardizeConfig(Section):
    """Percentile clipping, then z-scores; statistics of the training split over real frames only."""

    percentiles: tuple[float, float] | None = Field(None, description="clip each column to these percentiles first, for example [0.5, 99.5]")
    modalities: tuple[str, ...] | None = Field(None, description="the modalities it applies to; default: all with features")


class DataConfig(Section):
    """Which data, which part of them, and what is done to them before training."""

    name: str = Field(description="a data set's manifest, by name or path")
    path: str | None = Field(None, description="a file or folder; default: looked for under --data-root")
    format: str | None = Field(None, description="a dataset-format, as `mmbench list` shows it; default: told by the content")
    protocol: str | None = Field(None, description="one of the manifest's protocols, for example 4way_5fold; default: its first")
    part: str | None = Field(None, description="one part of a protocol that has several (a fold, a binary task); default: all, averaged in tables")
    features: Literal["aligned", "unaligned"] | None = Field(None, description="which layout of the features, where a folder holds several")
    simulated: bool = Field(False, description="use simulated data in the data set's shape")
    samples: PositiveInt | None = Field(None, description="total size of simulated data; default: the data set's own")
    modalities: tuple[str, ...] | None = Field(None, description="those in use, as [text, audio]; default: all that the manifest names")
    splits: Literal["published", "own"] = Field("published", description="own: accept a split that differs from the published one, and mark it")
    standardize: StandardizeConfig | None = Field(None, description="z-score the features with training statistics")
    max_length: dict[str, PositiveInt] | None = Field(
        None, description="cut sequences of a modality after this many frames (raw text: the encoder's max_tokens)"
    )
    seconds: PositiveFloat = Field(6.0, description="length of a waveform read from raw media: cut, or padded with zeros at its end")
    context: dict[str, PositiveInt] = Field(
        default_factory=dict, description="by modality: how many previous utterances of the same video each sample brings as <modality>_context"
    )

    @field_validator("modalities")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("must name at least one modality, each once")
        return value


class Named(BaseModel):
    """A component by name, with its hyperparameters beside the name; these are checked against the component's own config class."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    name: str = Field(description="the component, as `mmbench list` shows it")


class ModelConfig(Named):
    """The fusion model."""

    encoders: dict[str, Named] = Field(default_factory=dict, description="by modality: an extractor that is trained or run inside the loop")


class ExecutorConfig(Named):
    """What carries the runs out. It changes where they go and nothing that they come to."""

    name: str = Field("local", description="the executor, as `mmbench list executor` shows it")


class LossConfig(Named):
    """One alignment loss with its weight."""

    weight: Any = Field(1.0, description="a number, {value, warmup: epochs}, or one of these per term")


Decay = Annotated[float, Field(ge=0, lt=1)]


class GroupConfig(Section):
    """Values of one parameter group that differ from the optimizer's."""

    lr: PositiveFloat | None = Field(None, description="learning rate of the group")
    weight_decay: NonNegativeFloat | None = Field(None, description="weight decay of the group")


class OptimizerConfig(Section):
    """Adam (weight decay as an L2 term) or AdamW (decoupled)."""

    name: Literal["adam", "adamw"] = Field("adam", description="adam or adamw")
    lr: PositiveFloat = Field(1e-3, description="learning rate")
    weight_decay: NonNegativeFloat = Field(0.0, description="weight decay")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="decay of the running moments")
    groups: dict[str, GroupConfig] = Field(default_factory=dict, description="by group name: model, losses.<name>, encoders.<modality>, ...")


class PlateauConfig(Section):
    """Multiply the learning rate by `factor` after `patience` epochs without a better selection metric."""

    name: Literal["plateau"]
    patience: NonNegativeInt = Field(5, description="epochs without improvement that are tolerated")
    factor: float = Field(0.1, gt=0, lt=1, description="what the learning rate is multiplied by")


class WarmupCosineConfig(Section):
    """Linear warm-up, then a cosine to zero, step by step."""

    name: Literal["warmup_cosine"]
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of all steps that warm up")


class TrainingConfig(Section):
    """The protocol of one run."""

    task_loss: Literal["l1", "mse", "cross_entropy"] | None = Field(None, description="default: l1, or cross_entropy for classification")
    epochs: PositiveInt = Field(50, description="largest number of epochs")
    batch_size: PositiveInt = Field(32, description="samples of one forward pass")
    accumulation: PositiveInt = Field(1, description="batches of one optimizer step")
    buckets: int | None = Field(
        None,
        ge=2,
        description="batches of samples of like length, sorted within pools of this many batches: less padding, and alignment losses that compare "
        "what is in a batch then compare samples of like length; default: batches at random",
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="the optimizer")
    scheduler: Annotated[PlateauConfig | WarmupCosineConfig, Field(discriminator="name")] | None = Field(None, description="default: constant rate")
    clip_norm: PositiveFloat | None = Field(None, description="largest norm of the gradient, once per step")
    clip_value: PositiveFloat | None = Field(None, description="largest absolute value of a gradient, once per step")
    compile: bool = Field(False, description="on a GPU: capture steps as CUDA graphs, of batches padded to one of four lengths")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: automatic mixed precision")
    select: str | None = Field(None, description="validation metric that chooses the checkpoint, or 'loss'; default: the suite's first")
    early_stopping: PositiveInt | None = Field(None, description="stop after this many epochs without a better selection metric")
    threads: PositiveInt = Field(1, description="CPU threads of one run, of each of its processes")
    processes: PositiveInt = Field(
        1, description="processes of one run, on a GPU each where it is on GPUs: encoders that are fine-tuned are shared out among them"
    )
    deterministic: bool = Field(
        False, description="fail where an operation has no deterministic kernel; default: such an operation is warned of in the log"
    )


Seed = Annotated[int, Field(ge=0, lt=10**18)]
"""As many digits as ``--seeds`` takes, and as every reader of JSON keeps."""


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The same seeds. ValueError: there is none, or one stands twice."""
    if not seeds:
        raise ValueError("must name at least one seed")
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if twice:
        raise ValueError(f"seed {min(twice)} is given twice")
    return seeds


class Experiment(Section):
    """One experiment: data, a model with losses, and a protocol, for some seeds."""

    name: str = Field(description="folder under runs/; default: the config's file name", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    row: str = Field("", max_length=200, description="the name of its row in tables; default: the experiment's")
    data: DataConfig
    model: ModelConfig
    losses: tuple[LossConfig, ...] = Field((), description="alignment losses beside the task loss")
    adapters: Literal["auto", "forbid", "frozen", "trained"] = Field("auto", description="how a field that a loss needs and the model lacks is made")
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    metrics: tuple[str, ...] | None = Field(None, min_length=1, description="default: the data set's suite")
    seeds: tuple[Seed, ...] = Field((1, 2, 3, 4, 5), description="one run each")
    executor: ExecutorConfig = Field(default_factory=ExecutorConfig, description="what carries the runs out; no part of any run's record")

    @field_validator("seeds", mode="after")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return _each_once(value)


class TuneConfig(Named):
    """A search over values of the config, by trials; the hyperparameters of the tuner stand beside its name."""

    trials: PositiveInt = Field(description="how many are made at most, those that fail among them; with a larger number a search goes on")
    seeds: tuple[Seed, ...] = Field((1,), description="a trial's value is the mean over these of its selection metric on validation")
    at_once: PositiveInt | None = Field(
        None,
        description="trials of one round, which are asked for together and then wait for each other; default: as many as executor.jobs has room for",
    )
    space: dict[str, Any] = Field(min_length=1, description="by key of the config: {low, high, log} or {values}")

    @field_validator("seeds")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return _each_once(value)


class RangeConfig(Section):
    """Numbers of a key that a search may try."""

    low: float = Field(description="the least")
    high: float = Field(description="the greatest")
    log: bool = Field(False, description="whether each magnitude is tried alike, as for a learning rate")

    @model_validator(mode="after")
    def _ordered(self) -> RangeConfig:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("low must be greater than 0 where log is true")
        return self


class ValuesConfig(Section):
    """Values of a key that a search may try, of any kind and in no order."""

    values: tuple[Any, ...] = Field(min_length=1, description="each of them once")

    @field_validator("values")
    @classmethod
    def _once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len({json.dumps(each, sort_keys=True) for each in value}) < len(value):
            raise ValueError("must name each value once")
        return value


Weight = tuple[float, int]
"""Final value, and the number of epochs over which it grows to it (0: at once)."""


def parse_weights(raw: Any, terms: tuple[str, ...]) -> dict[str, Weight]:
    """The weight of each term from a number, a ``{value, warmup}``, or a mapping of terms to these. Raises ValueError."""
    if isinstance(raw, dict) and "value" not in raw:
        unknown = [term for term in raw if terms and term not in terms]
        if unknown:
            raise ValueError(f"has no term {unknown[0]!r}; its terms are {', '.join(terms)}")
        given = {term: _weight(item) for term, item in raw.items()}
        return {term: given.get(term, (1.0, 0)) for term in terms}
    weight = _weight(raw)
    return dict.fromkeys(terms, weight)


def _weight(raw: Any) -> Weight:
    value, warmup = raw, 0
    if isinstance(raw, dict):
        if set(raw) - {"value", "warmup"}:
            raise ValueError("a warm-up has the keys 'value' and 'warmup' (epochs) alone")
        value, warmup = raw.get("value"), raw.get("warmup", 0)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
    if not number or isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0:
        raise ValueError("must be a number, {value: number, warmup: epochs}, or a mapping of terms to these")
    return float(value), warmup
