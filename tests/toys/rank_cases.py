"""What is trained on one process and on two, for comparison. Executed, it is the second of the two."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmbench.data.dataset import Dataset, Modality, Split
from mmbench.plugins import Entry, catalogue
from mmbench.resolve import Resolved, resolve
from mmbench.strict_yaml import Document
from mmbench.training.encoders import build_encoders
from mmbench.training.join import join, open_store
from mmbench.training.loop import Interrupted, Protocol, fit, predict
from mmbench.training.network import Network
from mmbench.training.ranks import Alone
from mmbench.training.seeds import make_deterministic
from mmbench.training.tensors import TensorSplit

SIZES = {"train": 11, "valid": 5, "test": 1}
TRAINING = {"epochs": 1, "batch_size": 5, "optimizer": {"lr": 1e-3}}  # batches of 5, 5 and 1: the second process has no row of the last
MODALITIES = ["text", "audio"]
TINY = {"width": 8, "heads": 2, "layers": 1, "hidden": 4, "rank": 2, "feed_forward": 8, "text_width": 8, "fusion_width": 8, "subnet_width": 8}
VARIANTS: dict[str, dict[str, Any]] = {
    "accumulation and a limit on the norm": {"training": {"accumulation": 2, "clip_norm": 0.1}},
    "a limit on values": {"training": {"clip_value": 1e-3, "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1}}},
    "samples of one text's length": {"training": {"buckets": 2}},
    "one frame a text": {"text": {"output": "cls"}},
    "frozen layers": {"text": {"freeze_layers": 1}},
    "checkpointed layers": {"text": {"gradient_checkpointing": True}},
    "slices": {"slices": True, "training": {"batch_size": 9}},
    "no encoder of sound": {"audio": {"finetune": False}},
}


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every loss that is installed, every model, and ways to train."""
    for entry in catalogue().of_kind("loss"):
        yield f"loss {entry.component.name}", {"losses": [{"name": entry.key, "weight": 0.3}]}
    for entry in catalogue().of_kind("model"):
        if not entry.component.floor:
            yield f"model {entry.component.name}", {"model": _tiny(entry)}
    yield from VARIANTS.items()


def _tiny(entry: Entry) -> dict[str, Any]:
    """A model in a small form."""
    return {"name": entry.key, **{name: size for name, size in TINY.items() if name in entry.load_config().model_fields}}


def data() -> Dataset:
    """Token ids of very different lengths, waveforms and features, in float64."""
    generator = np.random.default_rng(0)
    splits = {}
    for name, size in SIZES.items():
        lengths = generator.integers(3, 60, size)
        tokens = np.arange(60) < lengths[:, None]
        ids = np.where(tokens, generator.integers(4, 14, tokens.shape), 0)
        sound = np.arange(1600) < generator.integers(700, 1600, size)[:, None]
        inputs = {
            "text": Modality(ids, tokens),
            "audio": Modality(generator.normal(size=sound.shape) * sound, sound),
        }
        splits[name] = Split(tuple(f"{name}{i}/0" for i in range(size)), inputs, generator.uniform(-3, 3, size))
    return Dataset("mosi", "regression", ("mae",), splits, "data", label_range=(-3.0, 3.0), prototypes=3)


def resolved(case: dict[str, Any], models: Path, processes: int) -> Resolved:
    encoders = {
        "text": {"name": "hf-text", "model": str(models / "bert"), "finetune": True, **case.get("text", {})},
        "audio": {"name": "hf-audio", "model": str(models / "data2vec"), "finetune": True, **case.get("audio", {})},
    }
    value = {
        "name": "ranks",
        "data": {"name": "mosi", "modalities": MODALITIES},
        "model": {**case.get("model", _tiny(catalogue().find("model", "lf_dnn"))), "encoders": encoders},
        "losses": case.get("losses", []),
        "training": {**TRAINING, **case.get("training", {}), "processes": processes},
    }
    found = resolve(Document(value, {}), catalogue())
    assert not found.fit.refusals
    return found


_BUILT: dict[str, dict[str, Any]] = {}


def _encoders(resolved: Resolved) -> dict[str, Any]:
    """Each choice of encoders is read once."""
    key = str({modality: choice.config for modality, choice in resolved.encoders.items()})
    if key not in _BUILT:
        _BUILT[key] = build_encoders(resolved)
    return copy.deepcopy(_BUILT[key])


class Trained:
    """A run that can be stopped after some steps of this process, and gone on with."""

    def __init__(self, case: dict[str, Any], ranks: Alone, folder: Path, models: Path, processes: int):
        self.case, self.ranks, self.folder = case, ranks, folder
        self.resolved = resolved(case, models, processes)
        folder.mkdir(parents=True, exist_ok=True)

    def fit(self, stop_after: int | None = None) -> dict[str, Any]:
        """What a run comes to: of each epoch, of the weights and buffers, and of the predictions. `Interrupted` where a process stops."""
        encoders = _encoders(self.resolved)
        if "slices" in self.case:
            encoders["text"].packs = False
        dataset = data()
        if not encoders["audio"].finetune:  # as features that are cached
            for split in dataset.splits.values():
                part = split.inputs["audio"]
                split.inputs["audio"] = Modality(np.repeat(part.values[:, ::40, None], encoders["audio"].width, 2), part.mask[:, ::40])
        network = Network(self.resolved, dataset.input_spec(), 1, encoders, self.ranks).double()
        calls = iter(range(1, 1000))

        def score(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
            return {"mae": float(np.abs(prediction - target).mean())}

        training = self.resolved.experiment.training
        stop = (lambda: next(calls) == stop_after) if stop_after else (lambda: False)
        protocol = Protocol(training, "l1", "mae", False, score, 1, self.folder, "fingerprint", stop)
        train, valid = (TensorSplit(dataset.splits[name], torch.device("cpu")) for name in ("train", "valid"))
        progress = fit(network, train, valid, protocol)
        history = [{"train": entry["train"], "valid": entry["valid"]} for entry in copy.deepcopy(progress.history)]
        prediction = torch.from_numpy(predict(network, valid, training)[0])
        held = torch.load(self.folder / "last.pt", weights_only=True)["optimizer"]["state"] if self.ranks.first else {}
        moments = {number: state["exp_avg"] for number, state in held.items()}
        return {"history": history, "prediction": prediction, "moments": moments, "weights": copy.deepcopy(network.state_dict())}


def together(rank: int, ranks: Alone, folder: Path, models: Path) -> dict[str, dict[str, Any]]:
    """All cases on two processes, each of which calls this."""
    found = {name: Trained(case, ranks, folder / str(number), models, 2).fit() for number, (name, case) in enumerate(cases())}
    whole = {"training": {"epochs": 3}}
    stopped = Trained(whole, ranks, folder / "stopped", models, 2)
    try:
        stopped.fit(8 if rank else None)  # asked of the second process alone, in the third epoch
    except Interrupted:
        found["gone on with"] = stopped.fit()
    found["in one go"] = Trained(whole, ranks, folder / "whole", models, 2).fit()
    return found


if __name__ == "__main__":
    port, folder, models = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    make_deterministic(1)
    ranks = join(1, 2, "cpu", open_store(1, 2, port))
    together(1, ranks, folder, models)
    ranks.leave()
