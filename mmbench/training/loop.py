"""The training protocol of one run, to be read top to bottom. It holds the training and validation splits and nothing else."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmbench.batch import Batch
from mmbench.component import FitContext
from mmbench.config import TrainingConfig
from mmbench.errors import RunError
from mmbench.training.capture import CapturedStep
from mmbench.training.checkpoint import Checkpoints
from mmbench.training.finite import Finite, advice, named
from mmbench.training.network import Network, task_loss
from mmbench.training.optim import Schedule, build_optimizer
from mmbench.training.seeds import in_buckets, order, seed_everything
from mmbench.training.step import Step, autocast
from mmbench.training.tensors import TensorSplit

Score = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]


class Interrupted(Exception):  # noqa: N818  (it is a request, not an error)
    """The run was asked to stop; the last checkpoint stands."""


@dataclass
class Protocol:
    """What the loop needs beside the network and the data. `score` gives the metrics of predictions, `higher_is_better` is the selection's."""

    training: TrainingConfig
    task_loss: str
    select: str
    higher_is_better: bool
    score: Score
    seed: int
    folder: Path
    fingerprint: str
    stop_requested: Callable[[], bool] = lambda: False
    on_epoch: Callable[[list[dict[str, Any]]], None] = lambda history: None
    on_start: Callable[[list[dict[str, Any]]], None] = lambda history: None
    """Told of the epochs of earlier attempts, before the first that is trained."""
    on_saved: Callable[[list[dict[str, Any]]], None] = lambda history: None
    """Told of the epochs that no later attempt will repeat. Those before a failure are left to the caller."""


@dataclass
class Progress:
    """The part of the state that is plain values; it goes into each checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best: float = math.nan
    history: list[dict[str, Any]] = field(default_factory=list)
    compile: str = ""
    """What became of `training.compile`."""


def fit(network: Network, train: TensorSplit, valid: TensorSplit, protocol: Protocol) -> Progress:
    """Train until the last epoch or early stopping; the chosen weights are then in ``best.pt``. Resumes from ``last.pt`` where it stands.

    Raises `RunError` where a loss goes non-finite or no epoch can be chosen, `Interrupted` on request (after the step).
    """
    training = protocol.training
    context = FitContext(train.size, train.target.clone(), training.epochs)  # theirs to spoil
    network.on_fit_start(context)
    groups = network.groups()
    optimizer = build_optimizer(training.optimizer, groups) if any(groups.values()) else None
    steps_per_epoch = math.ceil(math.ceil(train.size / training.batch_size) / training.accumulation)
    schedule = Schedule(training.scheduler, optimizer, steps_per_epoch * training.epochs) if optimizer else None
    ranks = network.ranks
    checkpoints = Checkpoints(protocol.folder, protocol.fingerprint, network, optimizer, schedule, ranks.first)
    progress = Progress(**checkpoints.resume(train.device))
    ranks.begin(network, progress.epoch)
    parts = network, optimizer, schedule, training, protocol.task_loss, train.size
    step = CapturedStep(*parts, device=train.device) if training.compile and optimizer else Step(*parts)
    finite = Finite(network, optimizer, train, training)
    protocol.on_start(progress.history)

    while progress.epoch < training.epochs and not _stopped_early(progress, training):
        epoch = progress.epoch + 1
        started = time.perf_counter()
        seed_everything(protocol.seed, "dropout", epoch)
        ranks.epoch(protocol.seed, epoch)
        sums = _train_epoch(network, step, train, protocol, epoch)
        progress.compile = step.note()
        finite.check(sums, progress.history, epoch)
        ranks.settle(network, sums)
        try:
            prediction, target = predict(network, valid, training)
        except RunError as error:
            raise RunError(f"epoch {epoch}, validation: {error}") from None
        scores = dict(protocol.score(prediction, target))
        with torch.no_grad():
            scores["loss"] = task_loss(protocol.task_loss, torch.from_numpy(prediction), torch.from_numpy(target)).item()
        value = scores[protocol.select]
        improved = math.isfinite(value) and (
            math.isnan(progress.best) or (value > progress.best if protocol.higher_is_better else value < progress.best)
        )
        if improved:
            progress.best, progress.best_epoch = value, epoch
        progress.epoch = epoch
        lr = schedule.rate if schedule else 0.0
        progress.history.append(
            {"epoch": epoch, "train": sums, "valid": scores, "best": improved, "lr": lr, "seconds": round(time.perf_counter() - started, 3)}
        )
        if schedule is not None:
            schedule.after_epoch(improved)
        saved = checkpoints.epoch_end(vars(progress), improved)
        protocol.on_epoch(progress.history)
        if saved:
            protocol.on_saved(progress.history)
    checkpoints.write(vars(progress))
    protocol.on_saved(progress.history)
    if not progress.best_epoch:
        raise RunError(
            f"the selection metric {protocol.select!r} was finite in no epoch ({_why_undefined(valid, progress, protocol.select)}); choose another"
        )
    if ranks.first:
        checkpoints.load_best(train.device, progress.best_epoch)
    ranks.copy(network)
    return progress


def _stopped_early(progress: Progress, training: TrainingConfig) -> bool:
    return training.early_stopping is not None and progress.epoch - progress.best_epoch >= training.early_stopping


def _why_undefined(valid: TensorSplit, progress: Progress, select: str) -> str:
    """Why a metric has no value in any epoch, as far as labels and scores tell."""
    labels = valid.target.unique()
    if len(labels) == 1:
        return f"the {valid.size} validation sample{'s are all' if valid.size > 1 else ' is'} labelled {labels.item():g}"
    return f"{progress.history[-1]['valid'][select]} in the last; constant predictions have no correlation"


def _train_epoch(network: Network, step: Step, train: TensorSplit, protocol: Protocol, epoch: int) -> dict[str, float]:
    """One pass over the training split. Sums stay on the device until its end: nothing inside waits for the device."""
    training = protocol.training
    network.train()
    with step.begin(epoch):
        for loss in network.losses.values():
            loss.on_epoch_start(epoch)
        samples = order(protocol.seed, epoch, train.size)
        if training.buckets is not None:
            samples = in_buckets(samples, train.lengths, training.batch_size, training.buckets, protocol.seed, epoch)
        batches = train.batches(training.batch_size, samples, fixed=step.fixed)
        per_step = training.batch_size * training.accumulation
        for first in range(0, train.size, per_step):
            size = min(per_step, train.size - first)  # of this step; the last one of an epoch may be smaller
            step(itertools.islice(batches, training.accumulation), size)
            if network.ranks.any(protocol.stop_requested()):
                raise Interrupted
        for loss in network.losses.values():
            loss.on_epoch_end(epoch)
        return step.totals()


@torch.no_grad()
def predict(network: Network, split: TensorSplit, training: TrainingConfig) -> tuple[np.ndarray, np.ndarray]:
    """Finite predictions (N,) or (N, classes) and targets (N,) of a whole split, in its own order. RunError: one is not, or an input."""
    network.eval()
    predictions, targets = [], []
    batch: Batch
    for batch in split.batches(max(training.batch_size, 128)):
        with autocast(training, split.device):
            predictions.append(network(batch).prediction.float())
        targets.append(batch.target)
    prediction, target = network.ranks.share(torch.cat(predictions).cpu().numpy()), torch.cat(targets).cpu().numpy()
    bad = ~np.isfinite(prediction).reshape(len(prediction), -1).all(1)
    if bad.any():
        raise RunError(f"the prediction for {named(split.ids, bad)} is not finite; {advice(split, training)}")
    if not split.finite:  # gates and tangents make numbers of infinities
        raise RunError(f"a feature is not finite, and the predictions are; {advice(split, training)}")
    return prediction, target
