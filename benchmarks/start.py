"""How long a run takes to its first batch on data of CMU-MOSEI's size, what it keeps in memory, and what batching an epoch costs.

    python benchmarks/start.py                             # a mapped store of simulated data, 4.5 GB of disk for a while
    python benchmarks/start.py --pickle --samples 8000     # a file in MMSA's layout, which is read, converted and kept beside its store

A run is planned and started twice on aligned data of CMU-MOSEI's size, audio and vision standardised: the first start makes the store (simulates it,
or converts a file of random numbers in the layout of MMSA's aligned_50.pkl), the second maps it. Everything is in a temporary folder and removed.
A process ends at its first batch, or after it has passed over all batches once.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from measure import child, memory, options, record, repeat, spread, timed

SIZES = {"train": 16326, "valid": 1871, "test": 4659}
WIDTHS = {"text": 768, "audio": 74, "vision": 35}
FRAMES = 50
CONFIG = "lmf_mosei"
WORKERS = (0, 2, 4)


@click.command()
@click.option("--samples", default=sum(SIZES.values()), show_default=True, help="Samples of all splits.")
@click.option("--pickle", "as_file", is_flag=True, help="Write a file and convert it; else the store is simulated.")
@click.option("--child", "request", hidden=True)
@options()
def main(samples: int, as_file: bool, request: str | None, threads: int, out: Path, quick: bool) -> None:
    """Measure start-up, memory and batching."""
    if request is not None:
        click.echo(json.dumps(answer(json.loads(request))))
        return
    samples = 60 if quick else samples
    rows: dict[str, Any] = {"samples": samples, "source": "a pickle" if as_file else "simulated"}
    help_command = [sys.executable, "-m", "mmbench", "--help"]
    rows["help_s"] = round(min(repeat(lambda: subprocess.run(help_command, capture_output=True, check=True), 0, 1 if quick else 5)), 3)
    imports = [child(__file__, {"what": "torch"}, threads, quick) for _ in range(1 if quick else 3)]
    rows["import_torch_s"] = min(found["seconds"] for found in imports)
    rows["torch_mb"] = min(found["rss"] for found in imports)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "aligned_50.pkl"
        if as_file:
            write_data(path, samples)
            data = [f"data.path={path}", "data.splits=own"]
        else:
            data = ["data.simulated=true", "data.features=aligned", f"data.samples={samples}"]
        rows["data_mb"] = round(samples * FRAMES * sum(WIDTHS.values()) * 4 / 2**20, 1)
        cache = f"{folder}/cache"
        for name in ("first",) if quick else ("first", "second"):
            planned = child(__file__, {"what": "plan", "data": data, "out": f"{folder}/{name}", "threads": threads}, threads, quick, cache)
            run = {"what": "worker", "folder": planned.pop("folder"), "started": time.time()}
            rows[name] = {"plan": planned, "worker": child(__file__, {**run, "whole": False}, threads, quick, cache)}
        if not quick:
            rows["pass"] = child(__file__, {**run, "started": time.time(), "whole": True}, threads, cache=cache)
        rows["loaders"] = child(__file__, {"what": "loaders", "samples": 60 if quick else None, "quick": quick}, threads, quick)
    for name, value in rows.items():
        click.echo(f"{name:16} {value}")
    record(out, "start", threads, quick, rows, config=CONFIG)


def write_data(path: Path, samples: int) -> None:
    """Random features, labels and masks in MMSA's layout."""
    generator = np.random.default_rng(1)
    total, content = sum(SIZES.values()), {}
    for split, whole in SIZES.items():
        count = max(8, samples * whole // total)
        block = {name: generator.standard_normal((min(count, 1000), FRAMES, width), np.float32) for name, width in WIDTHS.items()}
        features = {name: np.resize(part, (count, FRAMES, part.shape[2])) for name, part in block.items()}
        lengths = generator.integers(8, FRAMES + 1, count)
        real = np.arange(FRAMES) < lengths[:, None]
        for part in features.values():
            part[~real] = 0.0
        tokens = np.where(real, generator.integers(1000, 3000, real.shape), 0)
        labels = generator.uniform(-3, 3, count).astype(np.float32)
        content[split] = {
            "id": np.array([f"{split}{i // 10}$_${i % 10}" for i in range(count)]),
            "raw_text": np.array(["simulated"] * count),
            **features,
            "text_bert": np.stack([tokens, real.astype(np.int64), np.zeros_like(tokens)], axis=1),
            "regression_labels": labels,
            "classification_labels": np.sign(labels) + 1,
            "annotations": np.array(["Neutral"] * count),
        }
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=4)


def import_torch() -> dict[str, float]:
    """Seconds and memory of ``import torch`` alone."""
    started = time.perf_counter()
    import torch  # noqa: F401

    return {"seconds": round(time.perf_counter() - started, 3), **memory()}


def plan(data: list[str], out: str, threads: int) -> dict[str, Any]:
    """What ``mmbench run`` does before it starts a run: no torch, but the data are opened, at first simulated or converted."""
    started = time.perf_counter()
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    overrides = (*data, "data.standardize.modalities=[audio, vision]", f"training.threads={threads}", "training.batch_size=32")
    planned = make_plan(load(CONFIG, overrides, "1"), Path(out), None, "cpu")
    prepare(planned, None)
    seconds = round(time.perf_counter() - started, 3)
    return {"seconds": seconds, "folder": str(next(folder for row, _, folder in planned.runs() if not row.floor)), **memory()}


class _Enough(BaseException):
    """The first batch is there, or the last."""


def worker(folder: str, started: float, whole: bool) -> dict[str, Any]:
    """Start a run as an executor does, up to its first batch, or over all batches of an epoch without computing anything."""
    begun = time.time()
    import torch  # noqa: F401

    imported = time.time()
    from mmbench import worker as process
    from mmbench.training.network import Network
    from mmbench.training.tensors import TensorSplit

    found: dict[str, Any] = {}

    def first(network: Network, batch: Any) -> None:
        found.update(torch_s=round(imported - begun, 3), rest_s=round(time.time() - imported, 3), interpreter_s=round(begun - started, 3), **memory())
        raise _Enough

    def every(self: TensorSplit, size: int, *arguments: Any, **named: Any) -> Any:
        seconds = timed(lambda: [None for _ in batches(self, size, *arguments, **named)])
        found.update(seconds=round(seconds, 3), batches=-(-self.size // size), **memory())
        raise _Enough

    batches = TensorSplit.batches
    if whole:
        TensorSplit.batches = every  # type: ignore[method-assign]
    else:
        Network.forward = first  # type: ignore[method-assign, assignment]
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        process.main([folder, "--device", "cpu"])
    except _Enough:
        return found
    finally:
        sys.stdout = stdout
    raise RuntimeError((Path(folder) / "result.json").read_text())


def loaders(samples: int | None, quick: bool) -> dict[str, Any]:
    """Seconds of passing over the training batches of CMU-MOSI (unaligned, batches of 32) once: ours, and torch's DataLoader with workers."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from mmbench.config import DataConfig
    from mmbench.data.load import load_dataset
    from mmbench.training.seeds import order
    from mmbench.training.tensors import TensorSplit

    data = load_dataset(DataConfig(name="mosi", simulated=True, features="unaligned", samples=samples))
    split = data.splits["train"]

    class Samples(Dataset[dict[str, torch.Tensor]]):
        """One dictionary of tensors a sample, as the field's toolkits have it."""

        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            found = {name: torch.tensor(part.values[index]) for name, part in split.inputs.items()}
            return {**found, "label": torch.tensor(split.target[index])}

    ours = TensorSplit(split, torch.device("cpu"))
    seconds = 0.0 if quick else 3.0
    found = {"ours": spread(repeat(lambda: [None for _ in ours.batches(32, order(1, 1, ours.size))], seconds, most=20))}
    for workers in WORKERS[: 2 if quick else None]:
        loader = DataLoader(Samples(), batch_size=32, shuffle=True, num_workers=min(workers, len(os.sched_getaffinity(0)) * 4))
        found[f"{workers} workers"] = spread(repeat(lambda loader=loader: [None for _ in loader], seconds, least=1 if quick else 3, most=20))  # type: ignore[misc]
    return found


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {"torch": import_torch, "plan": plan, "worker": worker, "loaders": loaders}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a child process is asked for."""
    return CHILDREN[request.pop("what")](**request)


if __name__ == "__main__":
    main()
