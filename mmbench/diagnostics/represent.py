"""What a network makes of every sample of a split, batch by batch: predictions, and masked means of its features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch

from mmbench.batch import Sequence
from mmbench.diagnostics.opening import OpenRun
from mmbench.results.embeddings import FIELDS, Embeddings
from mmbench.training.network import Network
from mmbench.training.step import autocast
from mmbench.training.tensors import TensorSplit


def represent(run: OpenRun, split: str = "test", network: Network | None = None) -> Embeddings:
    """The embeddings of a split by the run's network, or by another of the same run (`run.untrained()`).

    Where a loss of the run was given `common` or `unique` by an adapter, those of the adapter are taken. RunError: a feature is not finite.
    """
    network = run.network if network is None else network
    rows = collect(network.eval(), run.splits[split], run)
    fields = {name: {modality: rows[name, modality] for key, modality in rows if key == name} for name in FIELDS}
    target = run.splits[split].target.cpu().numpy()
    return Embeddings(run.splits[split].ids, target, rows["prediction", ""], rows["fused", ""], **fields, about=about(run) | {"split": split})


@torch.no_grad()
def collect(
    network: Network, split: TensorSplit, run: OpenRun, pool: Callable[[Sequence], torch.Tensor] = Sequence.mean
) -> dict[tuple[str, str], np.ndarray]:
    """Arrays (N, ...) by field and modality, float32. `pool` makes a vector for each sample (B, F) of a sequence, whatever its length."""
    parts: dict[tuple[str, str], list[torch.Tensor]] = defaultdict(list)
    for batch in split.batches(max(run.training.batch_size, 128)):  # as the loop predicts
        with autocast(run.training, split.device):
            representation = network(batch)
            if network.adapters is not None:
                representation = network.adapters(representation)
            found = {("prediction", ""): representation.prediction, ("fused", ""): representation.fused}
            for name in FIELDS:
                sequences = getattr(representation, name) or {}
                found |= {(name, modality): pool(sequence) for modality, sequence in sequences.items()}
        for key, values in found.items():
            parts[key].append(values.float().cpu())
    return {key: torch.cat(values).numpy() for key, values in parts.items()}


def about(run: OpenRun) -> dict[str, object]:
    """Which run, data and versions something was made from."""
    record = run.record
    return {
        "experiment": record.experiment,
        "label": record.label,
        "name": record.title,
        "model": record.model,
        "losses": [dict(loss) for loss in record.losses],
        "seed": run.seed,
        "simulated": run.simulated,
        "dataset": run.dataset.name,
        "title": str(run.dataset.record["title"]),
        "task": run.dataset.task,
        "classes": list(run.dataset.classes),
        "modalities": list(run.dataset.modalities),
        **{key: record.data[key] for key in ("protocol", "part") if record.data.get(key)},
        "adapted": list(run.resolved.fit.adapters),
        "fingerprint": record.fingerprint,
        "data_fingerprint": run.dataset.fingerprint,
        "split_fingerprints": {name: split["fingerprint"] for name, split in run.dataset.record["splits"].items()},
        "checkpoint": run.checkpoint,
        "device": str(run.device),
        "difference": run.difference,
        "mmbench": metadata.version("mmbench"),
        "notes": list(run.notes),
    }
