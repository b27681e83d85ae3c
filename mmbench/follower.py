"""A process of a run beside its worker: it takes every step with it, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.companions import PARTED, REASON
from mmbench.errors import MmbenchError
from mmbench.plugins import catalogue
from mmbench.resolve import Resolved, load
from mmbench.runner import open_data, planned_fingerprint


def follow(folder: Path, device: str, rank: int, port: int, stop: Callable[[], bool], why: Callable[[Exception | SystemExit], str]) -> int:
    """Take part in the run; the exit status. What goes wrong here, the worker hears and writes down: `why` puts it in a line."""
    from mmbench.training.join import open_store
    from mmbench.training.loop import Interrupted
    from mmbench.training.ranks import PartedError

    (resolved,) = load(folder / "config.yaml")
    size = resolved.experiment.training.processes
    store = open_store(rank, size, port)
    try:
        _follow(resolved, folder, device, rank, store, stop)
    except Interrupted:
        return 130
    except PartedError:
        return PARTED
    except (Exception, SystemExit) as error:
        reason = why(error) if isinstance(error, MmbenchError) else f"process {rank + 1} of {size}: {why(error)}"
        store.compare_set(REASON, "", reason)
        return 1
    return 0


def _follow(resolved: Resolved, folder: Path, device_name: str, rank: int, store: Any, stop: Callable[[], bool]) -> None:
    """What the worker does, but for all that a run leaves."""
    from mmbench.metrics import evaluate
    from mmbench.training.encoders import build_encoders, prepare
    from mmbench.training.join import join
    from mmbench.training.loop import Protocol, fit, predict
    from mmbench.training.network import Network
    from mmbench.training.seeds import make_deterministic
    from mmbench.training.tensors import TensorSplit

    training, seed = resolved.experiment.training, resolved.experiment.seeds[0]
    make_deterministic(training.threads, training.deterministic)
    ranks = join(rank, training.processes, device_name, store)
    dataset = open_data(resolved)
    fingerprint = planned_fingerprint(resolved, dataset, folder)
    metrics = {name: catalogue().find("metric", name).load() for name in resolved.to_dict()["metrics"]}
    encoders = build_encoders(resolved)
    learning = prepare(dataset, ("train", "valid"), encoders, ranks.device)
    network = Network(resolved, learning.input_spec(), seed, encoders, ranks).to(ranks.device)
    higher = resolved.select != "loss" and metrics[resolved.select].higher_is_better

    def score(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
        return dict(evaluate(tuple(metrics), prediction, target, dataset.classes, metrics))

    protocol = Protocol(training, resolved.task_loss, resolved.select, higher, score, seed, folder, fingerprint, stop)
    valid = TensorSplit(learning.splits["valid"], ranks.device)
    fit(network, TensorSplit(learning.splits["train"], ranks.device), valid, protocol)
    for split in (valid, TensorSplit(prepare(dataset, ("test",), encoders, ranks.device).splits["test"], ranks.device)):
        predict(network, split, training)
    ranks.leave()
