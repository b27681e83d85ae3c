"""One training step of other people's implementations beside ours: same sizes, dropout, batch, rows and threads, taken in turn.

    python benchmarks/peers.py --mmsa FOLDER_WITH_MMSA --only tfn --only mult --steps 20

Nothing of theirs is part of this project: give the folders of your own copies, which are imported as they are. Data are simulated. "ragged": as each
code gets them in practice, ours with the real lengths, theirs padded; "full": every sequence has the full length, so that nothing is trimmed.
A step is forward, loss, backward, clipping and the optimizer, without batching. Times are medians of steps taken in turn in one process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click

Step = Callable[[int], None]
LENGTHS = ("ragged", "full")
WARM = 2


@dataclass(frozen=True)
class Case:
    """A method of theirs and the config of ours with the same sizes. `note`: what still differs."""

    peer: str
    method: str
    config: str
    layout: str
    batch: int = 32
    overrides: tuple[str, ...] = ()
    note: str = ""


MULT_NOTE = "their convolutions drop 4 frames of each sequence and they have no positions; ours keep every frame"
DECALIGN_NOTE = "without the supervised contrastive loss on either side; theirs attends to padding and has no positions"
DECALIGN_ALPHA, DECALIGN_BETA, DECALIGN_CLIP = 0.05, 0.07, 0.6  # of its config for CMU-MOSI
FEATURES = ("model.encoders={}", "losses.supervised_contrastive=null")
CASES = {
    "tfn": Case("mmsa", "tfn", "tfn_mosi", "unaligned", note="theirs gets audio and vision averaged over time beforehand"),
    "lmf": Case("mmsa", "lmf", "lmf_mosi", "unaligned", note="theirs gets audio and vision averaged over time beforehand"),
    "mult": Case("mmsa", "mult", "mult_mosi", "aligned", note=MULT_NOTE),
    "mult_unaligned": Case("mmsa", "mult", "mult_mosi", "unaligned", batch=8, note=MULT_NOTE),
    "decalign": Case("decalign", "decalign", "decalign_official_mosi", "aligned", overrides=FEATURES, note=DECALIGN_NOTE),
}


@click.command()
@click.option("--mmsa", type=click.Path(path_type=Path), help="Folder that holds the package MMSA (its src folder, or a site-packages).")
@click.option("--decalign", type=click.Path(path_type=Path), help="Checkout of DecAlign's released code (of 2026-05 or later).")
@click.option("--only", "names", multiple=True, type=click.Choice(list(CASES)), help="Cases to run; all whose peer is given, without it.")
@click.option("--lengths", "lengths", multiple=True, type=click.Choice(LENGTHS), default=LENGTHS, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--steps", default=15, show_default=True, help="Timed steps of each, after two that are not.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Peak memory too, of a fresh process for each side.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the list of results to this file.")
@click.option("--measure", type=click.Choice(["peer", "ours"]), hidden=True)
def main(
    mmsa: Path | None,
    decalign: Path | None,
    names: tuple[str, ...],
    lengths: tuple[str, ...],
    threads: int,
    steps: int,
    memory: bool,
    out: Path | None,
    measure: str | None,
) -> None:
    """Time the steps of peers, whose folders are given, beside ours."""
    import torch

    torch.set_num_threads(threads)
    folders = {"mmsa": mmsa, "decalign": decalign}
    given = [name for name, case in CASES.items() if folders[case.peer] is not None]
    for name in names:
        if name not in given:
            raise click.UsageError(f"{name} needs --{CASES[name].peer}")
    if not given:
        raise click.UsageError("give the folder of at least one peer: --mmsa, --decalign")
    if measure:
        click.echo(json.dumps(_memory(CASES[names[0]], lengths[0], folders, measure)))
        return
    results = []
    for name in names or given:
        for length in lengths:
            result = _compare(name, length, folders, threads, steps)
            if memory:
                for side in ("peer", "ours"):
                    result[side].update(_in_fresh_process(name, length, folders, threads, side))
            results.append(result)
            click.echo(_line(name, result))
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _line(name: str, result: dict[str, Any]) -> str:
    def part(side: dict[str, Any]) -> str:
        memory = f", {side['peak_mb']:.0f} MB (step {side['step_mb']:.0f})" if "peak_mb" in side else ""
        return f"{side['median_ms']:.1f} ms ({side['min_ms']:.1f}-{side['max_ms']:.1f}){memory}"

    return f"{name:15} {result['shape']['lengths']:7} theirs {part(result['peer']):45} ours {part(result['ours']):45} ratio {result['ratio']:.2f}"


def _compare(name: str, lengths: str, folders: dict[str, Path | None], threads: int, steps: int) -> dict[str, Any]:
    case = CASES[name]
    data = Data(case, lengths)
    sides = {"peer": _peer(case, data, folders), "ours": _ours(case, data)}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(steps + WARM):
        for side, step in sides.items():
            started = time.perf_counter()
            step(number)
            if number >= WARM:
                times[side].append(1000 * (time.perf_counter() - started))
    found = {side: {"median_ms": round(statistics.median(t), 2), "min_ms": round(min(t), 2), "max_ms": round(max(t), 2)} for side, t in times.items()}
    ratio = found["peer"]["median_ms"] / found["ours"]["median_ms"]
    peer = {"name": case.peer, "version": _version(case, folders), **found["peer"]}
    shape = {"lengths": lengths, **data.shape}
    return {
        "method": case.method,
        "shape": shape,
        "batch": case.batch,
        "threads": threads,
        "note": case.note,
        "peer": peer,
        "ours": found["ours"],
    } | {"ratio": round(ratio, 3)}


def _in_fresh_process(name: str, lengths: str, folders: dict[str, Path | None], threads: int, side: str) -> dict[str, float]:
    given = [part for peer, folder in folders.items() if folder is not None for part in (f"--{peer}", str(folder))]
    command = [sys.executable, __file__, *given, "--only", name, "--lengths", lengths, "--threads", str(threads), "--measure", side]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise click.ClickException(f"the memory of {name}, {side}, could not be measured:\n{run.stderr.strip()}")
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def _memory(case: Case, lengths: str, folders: dict[str, Path | None], side: str) -> dict[str, float]:
    """Peak resident memory of this process during three steps, and what of it the steps added, in MiB."""
    data = Data(case, lengths, 3 * case.batch)
    step = _peer(case, data, folders) if side == "peer" else _ours(case, data)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: of reading the data
    before = _status("VmRSS")
    for number in range(3):
        step(number)
    peak = _status("VmHWM")
    return {"peak_mb": round(peak, 1), "step_mb": round(peak - before, 1)}


def _status(field: str) -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


class Data:
    """The training split of simulated data: as arrays for theirs, as batches for ours, with the same rows."""

    def __init__(self, case: Case, lengths: str, samples: int = 0):
        import dataclasses

        import numpy as np
        import torch

        from mmbench.data.dataset import Modality
        from mmbench.resolve import load
        from mmbench.runner import open_data
        from mmbench.training.tensors import TensorSplit

        overrides = ("data.simulated=true", f"data.features={case.layout}", f"training.batch_size={case.batch}", "training.accumulation=1")
        (self.resolved,) = load(case.config, (*overrides, *case.overrides))
        dataset = open_data(self.resolved)
        split = dataset.splits["train"]
        if lengths == "full":
            random = np.random.default_rng(1)
            inputs = {}
            for name, part in split.inputs.items():
                shape = part.values.shape
                drawn = random.standard_normal(shape, np.float32) if part.kind == "features" else random.integers(1000, 20000, shape)
                inputs[name] = Modality(drawn, np.ones_like(part.mask))
            split = dataclasses.replace(split, inputs=inputs)
        self.dataset = dataclasses.replace(dataset, splits={**dataset.splits, "train": split})
        self.split = split
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(1))
        self.rows = [rows for rows in order[: samples or None].split(case.batch) if len(rows) == case.batch]
        tensors = TensorSplit(split, torch.device("cpu"))
        self.batches = [tensors.batch(rows) for rows in self.rows]

    @property
    def shape(self) -> dict[str, list[int]]:
        """Padded length and width by modality."""
        return {name: list(part.values.shape[1:]) for name, part in self.split.inputs.items()}

    def padded(self, number: int) -> dict[str, Any]:
        """The rows of a batch with their padding, and the targets (B, 1)."""
        import torch

        rows = self.rows[number % len(self.rows)].numpy()
        found = {name: torch.from_numpy(part.values[rows]) for name, part in self.split.inputs.items()}
        return {**found, "target": torch.from_numpy(self.split.target[rows]).view(-1, 1), "index": torch.from_numpy(rows)}


def _ours(case: Case, data: Data) -> Step:
    import torch

    from mmbench.component import FitContext
    from mmbench.training.loop import autocast
    from mmbench.training.network import Network, task_loss
    from mmbench.training.optim import Schedule, build_optimizer

    training = data.resolved.experiment.training
    network = Network(data.resolved, data.dataset.input_spec(), 1)
    size = len(data.split)
    network.on_fit_start(FitContext(size, torch.from_numpy(data.split.target), training.epochs))
    optimizer = build_optimizer(training.optimizer, network.groups())
    schedule = Schedule(training.scheduler, optimizer, 1000)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    network.train()

    def step(number: int) -> None:
        batch = data.batches[number % len(data.batches)]
        with autocast(training, torch.device("cpu")):
            representation = network(batch)
            terms = {"task": task_loss(data.resolved.task_loss, representation.prediction, batch.target)}
            terms.update(network.terms(representation, batch, 1))
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        if training.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, training.clip_norm)
        if training.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, training.clip_value)
        schedule.before_step()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _peer(case: Case, data: Data, folders: dict[str, Path | None]) -> Step:
    folder = folders[case.peer]
    assert folder is not None
    return {"mmsa": _mmsa, "decalign": _decalign}[case.peer](case, data, folder)


def _version(case: Case, folders: dict[str, Path | None]) -> str:
    folder = folders[case.peer]
    assert folder is not None
    found = sorted(folder.glob(f"{case.peer.upper()}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").split("-")[1] if found else "unknown"


# MMSA


class Settings(dict[str, Any]):
    """A peer's settings, read as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _mmsa(case: Case, data: Data, folder: Path) -> Step:
    import torch

    settings = _mmsa_settings(case, folder)
    _import_bare("MMSA", folder)
    from MMSA.models.AMIO import AMIO

    settings.feature_dims[:] = [data.split.inputs[name].values.shape[-1] for name in ("text", "audio", "vision")]
    torch.manual_seed(1)
    model = AMIO(settings).train()
    parameters = list(model.parameters())
    if case.method == "tfn":
        optimizer = torch.optim.Adam(parameters[2:], lr=settings.learning_rate)
    elif case.method == "lmf":
        groups = [{"params": parameters[:3], "lr": settings.factor_lr}, {"params": parameters[5:], "lr": settings.learning_rate}]
        optimizer = torch.optim.Adam(groups, weight_decay=settings.weight_decay)
    else:
        optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
    criterion = torch.nn.L1Loss()
    batches = [data.padded(number) for number in range(len(data.rows))]
    if settings.get("need_normalized"):  # there, done when the file is read
        batches = [{**batch, **{name: batch[name].mean(1, keepdim=True) for name in ("audio", "vision")}} for batch in batches]

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        optimizer.zero_grad()
        loss = criterion(model(batch["text"], batch["audio"], batch["vision"])["M"], batch["target"])
        loss.backward()
        if settings.get("grad_clip", -1.0) != -1.0:
            torch.nn.utils.clip_grad_value_([p for p in model.parameters() if p.requires_grad], settings.grad_clip)
        loss.item()
        optimizer.step()

    return step


def _mmsa_settings(case: Case, folder: Path) -> Settings:
    path = folder / "MMSA" / "config" / "config_regression.json"
    if not path.is_file():
        raise click.UsageError(f"--mmsa {folder}: there is no {path.relative_to(folder)} in it; give the folder that holds the package MMSA")
    known = json.loads(path.read_text(encoding="utf-8"))
    method = known[case.method]
    data = known["datasetCommonParams"]["mosi"][case.layout]
    common = {"model_name": case.method, "dataset_name": "mosi", "train_mode": "regression", "device": "cpu"}
    aligned = {"need_data_aligned": case.layout == "aligned"}
    return Settings({**common, **data, **method["commonParams"], **method["datasetParams"]["mosi"], **aligned})


def _import_bare(name: str, folder: Path) -> None:
    """Make the modules of a package importable without its own ``__init__``, which may want what a model does not need."""
    if name not in sys.modules:
        module = ModuleType(name)
        module.__path__ = [str(folder / name)]
        sys.modules[name] = module
        sys.path.insert(0, str(folder))


# DecAlign


def _decalign(case: Case, data: Data, folder: Path) -> Step:
    import torch

    if not (folder / "models" / "model.py").is_file():
        raise click.UsageError(f"--decalign {folder}: there is no models/model.py in it; give the folder of the checkout")
    _import_bare("models", folder)
    from models.model import DecAlign

    training = data.resolved.experiment.training
    torch.manual_seed(1)
    model = DecAlign(_decalign_settings(data)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=training.optimizer.lr, weight_decay=training.optimizer.weight_decay)
    criterion = torch.nn.MSELoss()
    batches = [data.padded(number) for number in range(len(data.rows))]

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        model.zero_grad()
        outputs = model(batch["text"], batch["audio"], batch["vision"])
        loss = criterion(outputs["output_logit"].view(-1), batch["target"].view(-1))
        loss = loss + outputs["dec_loss"] + DECALIGN_ALPHA * outputs["hete_loss"] + DECALIGN_BETA * outputs["homo_loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), DECALIGN_CLIP)
        optimizer.step()
        loss.item()

    return step


def _decalign_settings(data: Data) -> Settings:
    """Their names for the sizes and rates of our config, which holds theirs."""
    ours: Any = data.resolved.model.config
    (transport,) = (choice.config for choice in data.resolved.losses if choice.entry.component.name == "prototype_transport")
    rates = ours.attention_dropout
    widths = [data.split.inputs[name].values.shape[-1] for name in ("text", "audio", "vision")]
    return Settings(
        {
            "dataset_name": "mosi",
            "train_mode": "regression",
            "use_bert": False,
            "feature_dims": widths,
            "dst_feature_dim_nheads": [ours.width, ours.heads],
            "nlevels": ours.layers,
            "attn_dropout": rates["text"],
            "attn_dropout_a": rates["audio"],
            "attn_dropout_v": rates["vision"],
            "relu_dropout": ours.relu_dropout,
            "embed_dropout": ours.embed_dropout,
            "res_dropout": ours.residual_dropout,
            "output_dropout": ours.output_dropout,
            "text_dropout": ours.text_dropout,
            "attn_mask": True,
            "num_prototypes": transport.num_prototypes,
            **{f"conv1d_kernel_size_{m}": ours.kernel_size for m in "lav"},
            "pde_dim": ours.width,
        }
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else two processes on one machine slow each other beyond their share
    main()
