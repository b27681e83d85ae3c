"""The diagnostics of one run as a document: what `mmbench diagnose` writes beside the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from mmbench.batch import Sequence
from mmbench.data.load import open_source
from mmbench.data.simulate import load_factors, load_patterns
from mmbench.diagnostics.alter import Altered, Change, Frames, missing, noisy, statistics_of, without
from mmbench.diagnostics.measure import calibration, separation, similarity
from mmbench.diagnostics.opening import OpenRun
from mmbench.diagnostics.probes import SPLITS, Factors, through_time
from mmbench.diagnostics.represent import about, collect, represent
from mmbench.results.embeddings import FIELDS, SCHEMA_VERSION
from mmbench.training.loop import predict
from mmbench.training.network import Network

RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DRAWS = 3


def diagnose(run: OpenRun, fill: str = "mean", draws: int = DRAWS, data_root: Path | None = None) -> dict[str, Any]:
    """Modality ablation, robustness, gap and CKA, calibration, and on simulated data probes of the true factors; JSON-ready.

    `fill`: what stands in for a dropped modality's frames, ``mean`` or ``zeros``. `draws` of missing frames and of noise; 0: no robustness.
    """
    trained, untrained = represent(run), run.untrained()
    before = represent(run, network=untrained)
    frames = statistics_of(run.splits["train"])
    scores = run.score(trained.prediction, trained.target)
    return {
        "schema_version": SCHEMA_VERSION,
        "about": {**about(run), "options": {"fill": fill, "draws": draws}},
        "scores": scores,
        "ablation": list(ablation(run, frames, fill, scores)),
        "robustness": list(robustness(run, frames, draws, scores)) if draws else [],
        **similarity(trained),
        "separation": separation(trained),
        "untrained": {**similarity(before), "separation": separation(before)},
        **calibration(trained.prediction, trained.target, run.dataset.classes, run.dataset.label_range),
        "probes": probes(run, untrained, data_root) if run.simulated else None,
    }


def altered_scores(run: OpenRun, change: Change) -> dict[str, float]:
    """Test scores where each batch is changed first."""
    return run.score(*predict(run.network, Altered(run.splits["test"], change), run.training))


def ablation(run: OpenRun, frames: Mapping[str, Frames], fill: str, scores: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Scores without each modality, and with each alone; first those with all."""
    names = run.dataset.modalities
    yield {"dropped": [], "scores": dict(scores)}
    for count in dict.fromkeys((1, len(names) - 1)):
        groups = list(combinations(names, count)) if 0 < count < len(names) else []
        for dropped in groups if count == 1 else groups[::-1]:  # the first modality first, dropped or alone
            yield {"dropped": list(dropped), "scores": altered_scores(run, without(dropped, frames, fill))}


def robustness(run: OpenRun, frames: Mapping[str, Frames], draws: int, scores: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Scores by kind, modality and rate: mean over the draws, and their sample standard deviation."""
    names, test = run.dataset.modalities, run.splits["test"]
    lengths = {name: mask.shape[1] for name, (_, mask) in test.inputs.items()}
    for kind in ("missing", "noise"):
        noted = [name for name in names if kind == "missing" or name in frames]  # ids and waveforms take no noise
        groups = {"all": tuple(noted), **{name: (name,) for name in noted}} if len(noted) > 1 else {name: (name,) for name in noted}
        for group, chosen in groups.items():
            yield {"kind": kind, "modality": group, "rate": 0.0, "scores": dict(scores), "sd": dict.fromkeys(scores, 0.0), "draws": 1}
            for rate in RATES:
                changes = (
                    missing(chosen, rate, draw, lengths, test.size) if kind == "missing" else noisy(chosen, rate, draw, frames)
                    for draw in range(draws)
                )
                found = [altered_scores(run, change) for change in changes]
                mean = {key: fmean(score[key] for score in found) for key in scores}
                sd = {key: _spread([score[key] for score in found]) for key in scores}
                yield {"kind": kind, "modality": group, "rate": rate, "scores": mean, "sd": sd, "draws": draws}


def _spread(values: list[float]) -> float:
    """Sample standard deviation; NaN of one value, or where one is NaN, as the correlation of a constant is."""
    return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def probes(run: OpenRun, untrained: Network, data_root: Path | None) -> dict[str, Any]:
    """What linear probes read of the true factors in the trained and in the untrained network, and what there is to read."""
    data = run.resolved.experiment.data
    source = open_source(data, data_root)
    modalities = run.dataset.modalities
    factors = Factors(load_factors(source.store), modalities, len(run.dataset.classes))
    shown = tuple(name for name in modalities if run.dataset.splits["train"].inputs[name].kind == "features")
    patterns = load_patterns(source.store, run.resolved.manifest)
    return {
        "trained": _read(run, run.network, factors),
        "untrained": _read(run, untrained, factors),
        "references": factors.references(source.store.arrays, patterns, shown),
    }


def _read(run: OpenRun, network: Network, factors: Factors) -> dict[str, Any]:
    rows = {split: collect(network.eval(), run.splits[split], run, _through_time) for split in SPLITS}
    found: dict[str, Any] = {}
    for field in FIELDS:
        own = [modality for key, modality in rows["test"] if key == field]
        if own:
            found[field] = {name: factors.read({split: rows[split][field, name] for split in SPLITS}, name) for name in own}
    fused = {split: rows[split]["fused", ""] for split in SPLITS}
    found["fused"] = {name: factors.read(fused, name) for name in factors.modalities}
    return found


def _through_time(sequence: Sequence) -> torch.Tensor:
    return torch.from_numpy(through_time(sequence.values.float().cpu().numpy(), sequence.mask.cpu().numpy()))
