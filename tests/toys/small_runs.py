"""Small experiments with every registered model and loss, executed by the worker in this process. Also a script that prints digests of them:

python tests/toys/small_runs.py FOLDER [--threads N] [--device DEVICE] [--every K] [--strict]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmbench import runner, worker
from mmbench.data.dataset import Dataset
from mmbench.files import write
from mmbench.plugins import Entry, catalogue
from mmbench.resolve import Resolved, resolve
from mmbench.strict_yaml import Document, dump

MODALITIES = ("text", "audio", "vision")
DATA = {"regression": "mosi", "classification": "iemocap"}
SMALL = {
    **dict.fromkeys(("width", "hidden", "text_width", "fusion_width", "subnet_width", "unimodal_width", "feed_forward"), 8),
    "layers": 1,
    "heads": 2,
    "rank": 2,
}
"""Values for hyperparameters of these names, where a component has them."""
VOLATILE = {"started", "seconds", "seconds_total", "seconds_evaluation", "peak_memory_mb", "environment", "files", "digest"}
"""What a result says of the machine and the time, and its digests of files that do; each file is compared by itself."""
LOCAL = {"log.txt", "run.lock"}


def section(entry: Entry) -> dict[str, Any]:
    """A component as a config names it, small."""
    return {"name": entry.key, **{key: value for key, value in SMALL.items() if key in entry.load_config().model_fields}}


def configured(model: Entry, loss: Entry | None = None, task: str = "regression", **sections: Any) -> Resolved:
    """The experiment of a model, with or without a loss. `sections`: others of the config; `weight`: the loss's."""
    weight = {"weight": sections.pop("weight")} if "weight" in sections else {}
    data = {"name": DATA[task], "modalities": list(MODALITIES), "simulated": True, "samples": 40, **sections.pop("data", {})}
    training = {"epochs": 3, "batch_size": 8, "optimizer": {"lr": 0.01}, **sections.pop("training", {})}
    value = {"name": "small", "data": data, "model": section(model), "losses": [section(loss) | weight] if loss else [], "training": training}
    return resolve(Document({**value, "seeds": [1], **sections}, {}), catalogue())


@functools.cache
def pairs(task: str = "regression") -> dict[str, tuple[Entry, Entry | None]]:
    """Every model for the task by itself, and every loss with the model that needs the fewest adapters for it."""
    models = [entry for entry in catalogue().of_kind("model") if task in entry.component.tasks]
    found: dict[str, tuple[Entry, Entry | None]] = {entry.component.name: (entry, None) for entry in models}
    for loss in catalogue().of_kind("loss"):
        tried = [(configured(model, loss, task).fit, model) for model in models if not model.component.floor]
        fits = [(len(fit.adapters), i) for i, (fit, _) in enumerate(tried) if not fit.refusals]
        if fits:
            model = tried[min(fits)[1]][1]
            found[f"{model.component.name}+{loss.component.name}"] = model, loss
    return found


def execute(resolved: Resolved, folder: Path, dataset: Dataset | None = None, device: str = "cpu") -> dict[str, Any]:
    """The result of a run that the worker makes here, under `folder`. `dataset`: these data instead of the config's."""
    import torch

    opened = runner.open_data
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    data = dataset or opened(resolved)
    place = run_folder(resolved, data, folder)
    write(place / "config.yaml", dump(resolved.to_dict()))
    try:
        runner.open_data = lambda *given: data
        with contextlib.redirect_stdout(io.StringIO()):
            worker.main([str(place), "--device", device])
    finally:
        runner.open_data = opened
        torch.set_deterministic_debug_mode("default")
        torch.set_num_threads(threads)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    result: dict[str, Any] = json.loads((place / "result.json").read_text())
    return result


def run_folder(resolved: Resolved, dataset: Dataset, folder: Path) -> Path:
    """Where `execute` puts a run."""
    (seed,) = resolved.experiment.seeds
    return folder / f"{resolved.model.entry.component.name}-{resolved.fingerprint(dataset.fingerprint)}" / f"seed-{seed}"


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file of a run, without what it says of the machine and the time."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in LOCAL]
    return {path.name: hashlib.sha256(content(path)).hexdigest()[:16] for path in files}


def content(path: Path) -> bytes:
    """The bytes of a run's file; of records of times, without these."""
    if path.name == "result.json":
        result = json.loads(path.read_text())
        result.get("data", {}).pop("source", None)  # where the data lie
        return json.dumps({key: value for key, value in result.items() if key not in VOLATILE}).encode()
    if path.name == "epochs.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return json.dumps([{key: value for key, value in line.items() if key not in VOLATILE} for line in lines]).encode()
    return path.read_bytes()


def everything(folder: Path, device: str = "cpu", every: int = 1, **training: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """Every model and every loss, or each `every`-th of them, trained; by label, the digests of what they leave, or why one is refused."""
    for label, (model, loss) in list(pairs().items())[::every]:
        resolved = configured(model, loss, training=training)
        result = execute(resolved, folder / label, device=device)
        if result["reason"].startswith("training.deterministic: "):
            yield label, {"reason": result["reason"]}
            continue
        assert result["status"] == "done", f"{label}: {result['reason']}"
        (made,) = (folder / label).glob("*/seed-1")
        yield label, digests(made)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--strict", action="store_true")
    given = parser.parse_args()
    asked = {"threads": given.threads, "deterministic": given.strict}
    json.dump(dict(everything(given.folder, given.device, given.every, **asked)), sys.stdout)
