"""What a plugin declares (`Component`), what a component is told about the data (`InputSpec`), and runs. Imports no torch.

The torch side of the contracts (`FusionModel`, `AlignmentLoss`, `FeatureExtractor`) is in `mmbench.interfaces`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mmbench.data.manifest import Manifest

API = 1
"""Major version of the plugin API. A plugin that declares another major is refused by name."""

Task = Literal["regression", "classification"]
TASKS: tuple[Task, ...] = ("regression", "classification")
KINDS = ("model", "loss", "metric", "extractor", "aligner", "dataset-format", "executor", "tracker", "tuner")
FIELDS = ("encoded", "common", "unique", "unimodal_predictions")
"""The fields of a `Representation` that a loss may need and that an adapter can add."""


@dataclass(frozen=True)
class Component:
    """One thing that a user can name: a model, a loss, a metric, an extractor, an aligner, a data set's format, an executor, a
    tracker or a tuner.

    It is a record, not an object: `target` and `config` are ``"package.module:Name"`` strings (or ``"package.module:MAPPING[key]"``) that are
    imported on first use.
    """

    kind: str
    name: str
    target: str
    summary: str
    config: str | None = None
    """The pydantic class of its hyperparameters, in a module that imports no torch."""
    paper: str = ""
    needs: frozenset[str] = frozenset()
    """Fields of the representation that a loss reads (an ``extra`` field is written ``extra.<key>`` and is never adapted), or the kind of
    input that an extractor's `forward` reads: ``tokens``, ``waveform``, ``frames`` (images), or ``features`` where `prepare` does all the work.
    Encoders inside the training loop read tokens or a waveform; the others serve ``mmbench extract``."""
    provides: frozenset[str] = frozenset()
    """Fields of the representation that a model fills; ``tokens`` for an extractor that gives token ids instead of features. A config class may
    narrow either with a method ``needs()`` or ``provides()``."""
    terms: tuple[str, ...] = ()
    """Names of a loss's terms, each of which can be weighted on its own."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By term of a loss: the least and the greatest value it can take, whatever its hyperparameters, with up to three modalities; `math.inf`
    where there is no limit."""
    tasks: tuple[Task, ...] = TASKS
    min_modalities: int = 1
    modalities: tuple[str, ...] = ()
    """What an extractor extracts: ``text``, ``audio``, ``vision``; none named: any."""
    extras: tuple[str, ...] = ()
    """Importable packages that it needs beyond its distribution's own requirements."""
    install: str = ""
    """What pip installs to bring the `extras`, such as ``"mmbench-mine[faces]"``; default: the extras' own names."""
    floor: bool = False
    """A model that every table shows, trained as `training` says, whatever the experiment's own training is."""
    training: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters of a small instance, which the conformance kit builds where it is given no others."""
    api: int = API

    def how_to_install(self, package: str) -> str:
        """The command that brings one of the `extras`."""
        from mmbench.installing import pip_of_extras

        return (pip_of_extras(self.install) or f"pip install '{self.install}'") if self.install else f"pip install {package}"


@dataclass(frozen=True)
class ModalitySpec:
    """One modality as a model receives it: `size` is the width of the features, or the vocabulary of the tokens; `length` the longest sample."""

    kind: Literal["features", "tokens", "waveform"]
    size: int
    length: int


@dataclass(frozen=True)
class InputSpec:
    """What a model knows of the data before it sees a batch."""

    modalities: Mapping[str, ModalitySpec]
    task: Task
    classes: tuple[str, ...] = ()
    label_range: tuple[float, float] | None = None
    prototypes: int = 1
    """Number of categories of the data set (7 on MOSI and MOSEI, 3 on SIMS, the classes elsewhere)."""
    train_size: int = 0
    contexts: Mapping[str, ModalitySpec] = field(default_factory=dict)
    """By modality: its previous utterances, which a batch brings as ``<modality>_context``. Empty unless ``data.context`` asks for them."""

    @property
    def outputs(self) -> int:
        """Number of values a model predicts for a sample: the classes, or 1."""
        return len(self.classes) if self.task == "classification" else 1


@dataclass(frozen=True)
class FieldSpec:
    """Width of one modality's entry in a representation, and whether it is a sequence (else one vector, a sequence of length one)."""

    width: int
    sequence: bool


@dataclass(frozen=True)
class RepresentationSpec:
    """What a model returns, known before its first forward pass. A field that the model does not fill is None (`encoded`: empty)."""

    inputs: InputSpec
    fused: int
    encoded: Mapping[str, FieldSpec]
    common: Mapping[str, FieldSpec] | None = None
    unique: Mapping[str, FieldSpec] | None = None
    unimodal_predictions: tuple[str, ...] | None = None
    extra: frozenset[str] = frozenset()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the data, in their order."""
        return tuple(self.inputs.modalities)


@dataclass(frozen=True)
class FitContext:
    """What a component is told when training starts: `train_targets` is indexed by `Batch.index`."""

    train_size: int
    train_targets: Tensor  # (N,)
    epochs: int


@dataclass(frozen=True)
class Metric:
    """A score of predictions: ``function(prediction, target) -> float`` on float64 arrays.

    Regression: both (N,). Classification: `prediction` (N, classes) scores, `target` (N,) class indices.
    With `per_class` the function returns one value for each class.
    """

    name: str
    function: Callable[[np.ndarray, np.ndarray], Any]
    higher_is_better: bool
    range: tuple[float, float]
    tasks: tuple[Task, ...]
    summary: str = ""
    per_class: bool = False


@dataclass(frozen=True)
class RunRequest:
    """One run that is to be executed: everything else is read from its folder. `device` is ``cpu``, ``cuda`` or ``cuda:n``.

    It takes `processes` GPUs, or `processes` times `threads` cores of one machine; its worker starts the others of its processes itself.
    """

    folder: Path
    label: str
    device: str
    threads: int
    processes: int = 1


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: `status` is ``done``, ``failed``, ``interrupted``, or ``busy`` where another process executes it; `reason` is one line."""

    request: RunRequest
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Range:
    """What a search may set a key to: any number from `low` to `high`, both included; `whole`: integers alone; `log`: each magnitude alike."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __contains__(self, value: Any) -> bool:
        number = isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


@dataclass(frozen=True)
class Values:
    """What a search may set a key to: one of these, in no order. Each is anything that a config can hold."""

    values: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        return any(type(value) is type(each) and value == each for each in self.values)


Space = Mapping[str, Range | Values]
"""What a search may set, by the key of the config."""


@dataclass(frozen=True)
class Trial:
    """One attempt of a search: what it set each key of the space to, and what came of it on validation. No tuner is told of test scores."""

    values: Mapping[str, Any]
    status: Literal["done", "failed", "running"] = "running"
    value: float | None = None
    """The selection metric on validation, of a trial that is done."""
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class TrackedRun:
    """One run as a tracker is told of it. `folder` is ``<out>/<experiment>/<label>/seed-<n>``; no tracker writes into it."""

    folder: Path
    experiment: str
    label: str
    """``<model>-<fingerprint>``: one configuration."""
    name: str
    """The configuration's name in a table."""
    model: str
    seed: int
    config: Mapping[str, Any]
    """Every value in force, nested as in the config file."""
    data: Mapping[str, Any]
    """What is recorded of the data: name, title, fingerprint, whether they are simulated, splits, ..."""
    device: str
    resumed_from: int = 0
    """The last epoch of an earlier attempt that this one goes on from; 0 for a run that starts."""

    @property
    def simulated(self) -> bool:
        """Whether the data are made up; wherever numbers of such a run are shown, they are marked SIMULATED."""
        return bool(self.data.get("simulated"))


class DatasetFormat(Protocol):
    """How users have a data set: a file or a folder. `version` changes with the rules by which it is read. Imports no torch."""

    version: int

    def recognises(self, path: Path) -> bool:
        """Whether the content is of this format. Never raises; looks no longer than it must."""
        ...

    def sources(self, path: Path) -> list[Path]:
        """The files whose bytes decide what `read` returns."""
        ...

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """The content in the schema that `mmbench.data.content` describes. DataError: damaged, or not what the manifest says."""
        ...


class Aligner(Protocol):
    """When each word of a transcript is said."""

    def align(self, clip: str, path: Path | None, words: list[str]) -> np.ndarray:
        """(W, 2) start and end of each word in seconds from the clip's start. `clip`: ``<video_id>/<clip_id>`` as label.csv spells it; `path`:
        its recording. DataError: it cannot be aligned, and why."""
        ...

    def digest(self) -> str:
        """What identifies the times: every option, file and weight that changes them."""
        ...


Report = Callable[[RunRequest, Mapping[str, Any]], None]
"""Hears of each finished epoch of a run: ``epoch``, ``of`` (how many there are at most), ``metric``, ``value``."""


class Executor(Protocol):
    """Something that carries out runs, each in a process of its own, and reports each as it ends. What it hands elsewhere is executed there by the
    local executor, so that a run is the same everywhere; `mmbench.executors` has what executors share."""

    def __init__(self, config: Any, report: Report | None = None):
        """`config`: its validated hyperparameters."""
        ...

    def submit(self, runs: Iterable[RunRequest]) -> Iterator[RunOutcome]:
        """Execute the runs; a failing run never stops the others. After `stop` it ends soon, and no run is started."""
        ...

    def stop(self) -> None:
        """Ask the runs to stop after their step; the second call ends them at once. Called from a signal's handler, while `submit` goes on."""
        ...


class Tracker(Protocol):
    """Writes down the course of runs elsewhere, one instance for each run. It may raise: it is then switched off for the run, with a warning.

    The calls are `run_start`, `epoch_end` for each epoch in order from the first, `run_end`. Those of a run that was stopped and goes on are the
    same: a tracker that keeps what an earlier attempt has told passes over the epochs that it has. `run_end` may follow `run_start` at once.
    """

    def run_start(self, run: TrackedRun) -> None:
        """Training starts, or goes on."""
        ...

    def epoch_end(self, run: TrackedRun, epoch: int, values: Mapping[str, float]) -> None:
        """What an epoch (1, 2, ...) gave: ``train/<term>``, ``gradient/<term>``, ``valid/<score>``, ``lr``, ``seconds``. Some may be NaN."""
        ...

    def run_end(self, run: TrackedRun, result: Mapping[str, Any]) -> None:
        """The run has ended as its ``result.json`` says: `status` is ``done``, ``failed`` or ``interrupted``, `metrics` has the test scores."""
        ...


class Tuner:
    """Chooses what a search tries next. Nothing is remembered between calls: all that it may go by is its config, the space and the trials, so that
    a search that was killed goes on as if it had not been, and the same search makes the same trials.

    `higher_is_better`: of the trials' values. ValueError: this space is not one that it can search, and why.
    """

    def __init__(self, config: Any, space: Space, higher_is_better: bool):
        self.config, self.space, self.higher_is_better = config, space, higher_is_better

    def ask(self, trials: Sequence[Trial]) -> Mapping[str, Any] | None:
        """A value for each key of the space, after those of `trials`, of which some may be running; None where nothing is left to try."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in ask")

    def importances(self, trials: Sequence[Trial]) -> Mapping[str, float]:
        """The share of each key in what the trials' values differ by; nothing where it cannot be told."""
        return {}

    def keep(self, folder: Path, trials: Sequence[Trial]) -> None:
        """Write what tools of its own read, into the folder of the search. Nothing is ever read back."""
