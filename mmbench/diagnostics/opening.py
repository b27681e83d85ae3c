"""A finished run, opened again: its config, its data, its network with the chosen weights. Nothing in the run's folder is written or touched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmbench.component import FitContext, InputSpec, Metric
from mmbench.config import TrainingConfig
from mmbench.data.dataset import Dataset
from mmbench.errors import ConfigError, DataError, RunError
from mmbench.metrics import evaluate
from mmbench.plugins import catalogue
from mmbench.reopen import check_data, resolve_again
from mmbench.resolve import Resolved
from mmbench.results.predictions import NAME, read_predictions
from mmbench.results.runs import RunRecord, intact, read_run
from mmbench.runner import open_data
from mmbench.training.checkpoint import load_checkpoint
from mmbench.training.encoders import build_encoders, prepare
from mmbench.training.loop import predict
from mmbench.training.network import Network
from mmbench.training.seeds import make_deterministic
from mmbench.training.tensors import TensorSplit

TOLERANCE = 1e-4
"""Largest distance of a prediction made again from the stored one, on the kind of device that the run was made on."""
ELSEWHERE = 0.05
"""The same on another kind of device, whose sums are rounded otherwise (bfloat16 the most)."""
CHECKPOINT = "best.pt"


@dataclass
class OpenRun:
    """A finished run with its data and its network, in evaluation mode, on one device.

    `splits`: train, valid and test as the network reads them, behind frozen encoders. `difference`: the largest distance between the test
    predictions made again and the stored ones. `checkpoint`: sha256 of ``best.pt``. `notes`: what a reader of results should know.
    """

    record: RunRecord
    resolved: Resolved
    dataset: Dataset
    network: Network
    splits: Mapping[str, TensorSplit]
    inputs: InputSpec
    device: torch.device
    metrics: Mapping[str, Metric]
    checkpoint: str
    difference: float
    notes: tuple[str, ...]

    @property
    def training(self) -> TrainingConfig:
        """The protocol, which says how a forward pass is done."""
        return self.resolved.experiment.training

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.resolved.experiment.seeds[0]

    @property
    def simulated(self) -> bool:
        """Whether the data are made up."""
        return bool(self.dataset.record["simulated"])

    def score(self, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Every metric of the run's suite, for diagnostics alone."""
        return dict(evaluate(tuple(self.metrics), prediction, target, self.dataset.classes, self.metrics))

    def untrained(self) -> Network:
        """The network as it was before the first step: the same seed, the same initial weights."""
        return _network(self.resolved, self.inputs, self.splits["train"], self.device)


def open_run(
    folder: Path | str,
    device: torch.device | str = "cpu",
    data_root: Path | None = None,
    overrides: Sequence[str] = (),
    record: RunRecord | None = None,
) -> OpenRun:
    """Open the finished run in `folder` read-only, and check that its weights still predict what it stored.

    `overrides`: ``data.path=...`` alone, where the data have moved; `data_root` is where they are looked for by name when they are no longer
    where the run found them. Sets torch's thread count and deterministic kernels as the run had them.

    Raises:
        ConfigError: the run is not done; a plugin is missing; another key is overridden.
        DataError: the data or splits are not the run's, ``best.pt`` is missing or damaged, or it predicts something else.
    """
    folder, device = Path(folder), torch.device(device)
    record = read_run(folder) if record is None else record
    if record.status != "done":
        reason = f": {record.reason}" if record.reason else ""
        raise ConfigError(f"{folder}: the run is {record.status}{reason}; only a finished run can be opened (mmbench run finishes it)")
    if not (folder / CHECKPOINT).is_file():
        raise DataError(
            f"{folder / CHECKPOINT}: there is no such file, so the trained network is lost; run this seed anew (--rerun all, or mmbench rerun)"
        )
    intact(record, "config.yaml")
    resolved = resolve_again(folder, overrides, data_root)
    make_deterministic(resolved.experiment.training.threads)
    dataset = open_data(resolved, data_root)
    check_data(record, dataset)
    encoders = build_encoders(resolved)
    prepared = prepare(dataset, ("train", "valid"), encoders, device)  # what the network was built for, as in training
    splits = {name: TensorSplit(split, device) for name, split in prepared.splits.items()}
    splits["test"] = TensorSplit(prepare(dataset, ("test",), encoders, device).splits["test"], device)
    inputs = prepared.input_spec()
    network = _network(resolved, inputs, splits["train"], device)
    try:
        load_checkpoint(folder / CHECKPOINT, record.fingerprint, network, device=device)
    except RunError as error:
        what = str(error).partition(";")[0]
        raise DataError(f"{what}; is it this run's, and of these versions of the plugins? If so, run this seed anew with --rerun all") from error
    network.eval()
    difference = _distance(folder, network, splits["test"], resolved.experiment.training)
    notes = _check_predictions(record, device, difference)
    names = resolved.to_dict()["metrics"]
    metrics = {name: catalogue().find("metric", name).load() for name in names}
    digest = hashlib.sha256((folder / CHECKPOINT).read_bytes()).hexdigest()
    return OpenRun(record, resolved, dataset, network, splits, inputs, device, metrics, digest, difference, notes)


def device_named(name: str) -> torch.device:
    """``auto`` (the GPU where there is one), ``cpu``, ``cuda`` or ``cuda:n``. ConfigError: there is no such GPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"the device {name!r} was asked for, and torch {torch.__version__} sees {torch.cuda.device_count()} GPUs; use --device cpu")
    return device


def _network(resolved: Resolved, inputs: InputSpec, train: TensorSplit, device: torch.device) -> Network:
    network = Network(resolved, inputs, resolved.experiment.seeds[0], build_encoders(resolved)).to(device)
    network.on_fit_start(FitContext(train.size, train.target.clone(), resolved.experiment.training.epochs))
    return network.eval()


def _distance(folder: Path, network: Network, test: TensorSplit, training: TrainingConfig) -> float:
    stored = read_predictions(folder / NAME)
    if "test" not in stored:
        raise DataError(f"{folder / NAME}: has no predictions of the test split; run this seed anew")
    ids, _, before = stored["test"]
    prediction, _ = predict(network, test, training)
    if ids != test.ids or before.shape != prediction.shape:
        raise DataError(f"{folder / NAME}: its test samples are not those of the data, or in another order; run this seed anew")
    return float(np.abs(prediction.astype(np.float64) - before).max(initial=0))


def _check_predictions(record: RunRecord, device: torch.device, difference: float) -> tuple[str, ...]:
    before = str(record.environment.get("device", "cpu"))
    same = before.partition(":")[0] == device.type
    if not difference <= (TOLERANCE if same else ELSEWHERE):
        raise DataError(
            f"{record.folder}: {CHECKPOINT} does not predict what the run stored: test predictions differ by up to {difference:.3g} "
            f"(on {device.type}; the run was made on {before}). Other versions of plugins or encoders can do that; run this seed anew"
        )
    return () if same else (f"opened on {device.type}, made on {before}: test predictions differ by up to {difference:.1e}",)
