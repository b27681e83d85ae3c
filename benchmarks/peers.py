"""One training step of other people's implementations beside ours: same sizes, dropout, batch, rows and threads, taken in turn.

    python benchmarks/peers.py --mmsa FOLDER_WITH_MMSA --decalign CHECKOUT --only tfn --only mult --steps 20

Nothing of theirs is part of this project: give the folders of your own copies, which are imported as they are. Data are simulated. "ragged": as
each code gets them in practice, ours with the real lengths, theirs padded; "short": the same with the lengths of CMU-MOSI's text, 15.5 of 50
tokens on average (assumed); "full": every sequence has the full length, so that nothing is trimmed. A step is forward, losses, backward, clipping
and the optimizer, without batching; neither accumulates gradients. Times are medians of steps taken in turn in one process, memory what the steps add
to a fresh process; where the machine has other work, trust the ratio of processor time (with one thread). A result is written as soon as it is there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from measure import commit

if TYPE_CHECKING:
    from peer_steps import Step

LENGTHS = ("ragged", "short", "full")
WARM = 2
HOLDS = {"mmsa": "MMSA/config/config_regression.json", "decalign": "models/model.py"}
MEAN_SHORT = 15.5 / 50
FEW = 300  # samples, of which the training split gets 58 %


@dataclass(frozen=True)
class Case:
    """A method of theirs and the config of ours with the same sizes. `note`: what still differs."""

    peer: str
    method: str
    config: str
    layout: str
    batch: int = 32
    overrides: tuple[str, ...] = ()
    bert: bool = False
    note: str = ""


MEANS_NOTE = "theirs gets audio and vision averaged over time beforehand"
MULT_NOTE = "their convolutions drop 4 frames of each sequence and they have no positions; ours keep every frame"
DECALIGN_NOTE = "without the supervised contrastive loss on either side; theirs attends to padding and has no positions"
NO_CONTRAST = "losses.supervised_contrastive=null"
CASES = {
    "tfn": Case("mmsa", "tfn", "tfn_mosi", "unaligned", note=MEANS_NOTE),
    "lmf": Case("mmsa", "lmf", "lmf_mosi", "unaligned", note=MEANS_NOTE),
    "mult": Case("mmsa", "mult", "mult_mosi", "aligned", note=MULT_NOTE),
    "mult_unaligned": Case("mmsa", "mult", "mult_mosi", "unaligned", batch=8, note=MULT_NOTE),
    "decalign": Case("decalign", "decalign", "decalign_official_mosi", "aligned", overrides=("model.encoders={}", NO_CONTRAST), note=DECALIGN_NOTE),
    "misa_bert": Case("mmsa", "misa", "misa_bert_mosi", "aligned", bert=True),
    "self_mm_bert": Case("mmsa", "self_mm", "self_mm_bert_mosi", "unaligned", bert=True),
    "decalign_bert": Case("decalign", "decalign", "decalign_official_mosi", "aligned", overrides=(NO_CONTRAST,), bert=True, note=DECALIGN_NOTE),
}


@click.command()
@click.option(
    "--mmsa", type=click.Path(path_type=Path), help="Folder that holds the package MMSA (a checkout's src, an environment's site-packages)."
)
@click.option("--decalign", type=click.Path(path_type=Path), help="Checkout of DecAlign's released code (of 2026-05 or later).")
@click.option("--bert", type=click.Path(path_type=Path), help="Folder with a saved bert-base and its tokenizer, for the cases that fine-tune one.")
@click.option("--only", "names", multiple=True, type=click.Choice(list(CASES)), help="Cases to run; without it, all for which everything is given.")
@click.option("--lengths", "lengths", multiple=True, type=click.Choice(LENGTHS), default=("ragged", "full"), show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of ours; theirs knows fp32 alone.")
@click.option("--steps", default=15, show_default=True, help="Timed steps of each, after two that are not.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Peak memory too, of a fresh process for each side.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the list of results to this file; results of other cases in it stay.")
@click.option("--measure", type=click.Choice(["peer", "ours"]), hidden=True)
def main(names: tuple[str, ...], lengths: tuple[str, ...], steps: int, memory: bool, out: Path | None, measure: str | None, **options: Any) -> None:
    """Time the steps of peers, whose folders are given, beside ours."""
    import torch

    torch.set_num_threads(options["threads"])
    missing = {name: [part for part in (case.peer, *["bert"] * case.bert) if options[part] is None] for name, case in CASES.items()}
    for name in names:
        if missing[name]:
            raise click.UsageError(f"{name} needs " + " and ".join(f"--{part} FOLDER" for part in missing[name]))
    chosen = names or tuple(name for name in CASES if not missing[name])
    if not chosen:
        raise click.UsageError("give the folder of at least one peer: --mmsa, --decalign")
    for peer in dict.fromkeys(CASES[name].peer for name in chosen):
        if not (options[peer] / HOLDS[peer]).is_file():
            raise click.UsageError(f"--{peer} {options[peer]}: there is no {HOLDS[peer]} in it; give the folder of your copy that holds it")
    if measure:
        click.echo(json.dumps(_memory(Run(chosen[0], lengths[0], options), measure)))
        return
    for name in chosen:
        for length in lengths:
            run = Run(name, length, options)
            result = _compare(run, steps)
            if memory:
                for side in ("peer", "ours"):
                    result[side].update(_in_fresh_process(run, side))
            click.echo(_line(name, result))
            if out is not None:
                _keep(out, result)


@dataclass(frozen=True)
class Run:
    """A case, under one kind of lengths. `options`: the folders, threads and precision of the command line."""

    name: str
    lengths: str
    options: dict[str, Any]

    @property
    def case(self) -> Case:
        """What is compared."""
        return CASES[self.name]

    @property
    def folder(self) -> Path:
        """The peer's own."""
        folder: Path = self.options[self.case.peer]
        return folder

    @property
    def bert(self) -> Path | None:
        """Where this case fine-tunes one."""
        return self.options["bert"].resolve() if self.case.bert else None


def _line(name: str, result: dict[str, Any]) -> str:
    def part(side: dict[str, Any]) -> str:
        memory = f", {side['peak_mb']:.0f} of {side['process_mb']:.0f} MiB" if "peak_mb" in side else ""
        return f"{side['median_ms']:.1f} ms ({side['min_ms']:.1f}-{side['max_ms']:.1f}; cpu {side['cpu_ms']:.1f}){memory}"

    ratios = f"ratio {result['ratio']:.2f}, of processor time {result['ratio_cpu']:.2f}"
    return f"{name:15} {result['lengths']:7} theirs {part(result['peer']):50} ours {part(result['ours']):50} {ratios}"


def _keep(out: Path, result: dict[str, Any]) -> None:
    def key(entry: dict[str, Any]) -> tuple[Any, ...]:
        return entry["case"], entry["lengths"], entry["threads"], entry["precision"]

    earlier = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else []
    kept = sorted([*(entry for entry in earlier if key(entry) != key(result)), result], key=key)
    out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _compare(run: Run, steps: int) -> dict[str, Any]:
    import peer_steps

    data = Data(run)
    sides = {"peer": _peer(run, data), "ours": _ours(run, data)}
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}  # wall, processor
    for number in range(steps + WARM):
        for side, step in sides.items():
            started = time.perf_counter(), time.process_time()
            step(number)
            if number >= WARM:
                times[side].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    found = {side: _spread([1000 * wall for wall, _ in t], [1000 * processor for _, processor in t]) for side, t in times.items()}
    case = run.case
    return {
        "case": run.name,
        "method": case.method,
        "lengths": run.lengths,
        "shape": f"{data.shape}, {run.lengths}",
        "batch": case.batch,
        "threads": run.options["threads"],
        "precision": run.options["precision"],
        "commit": commit(),
        "note": case.note,
        "peer": {"name": case.peer, "version": peer_steps.version(run.folder, case.peer.upper()), **found["peer"]},
        "ours": found["ours"],
        "ratio": round(found["peer"]["median_ms"] / found["ours"]["median_ms"], 3),
        "ratio_cpu": round(found["peer"]["cpu_ms"] / found["ours"]["cpu_ms"], 3),
    }


def _spread(wall: list[float], processor: list[float]) -> dict[str, Any]:
    spread = {"median_ms": statistics.median(wall), "min_ms": min(wall), "max_ms": max(wall), "cpu_ms": statistics.median(processor)}
    return {name: round(value, 2) for name, value in spread.items()}


def _in_fresh_process(run: Run, side: str) -> dict[str, float]:
    given = [part for name, value in run.options.items() if value is not None for part in (f"--{name}", str(value))]
    command = [sys.executable, __file__, *given, "--only", run.name, "--lengths", run.lengths, "--measure", side]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"the memory of {run.name}, {side}, could not be measured:\n{done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _memory(run: Run, side: str) -> dict[str, float]:
    """What four steps add to this process's resident memory at its peak, and that peak, in MiB."""
    data = Data(run, 4 * run.case.batch)
    step = _peer(run, data) if side == "peer" else _ours(run, data)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: of reading the data and of building the model
    before = _status("VmRSS")
    for number in range(4):
        step(number)
    peak = _status("VmHWM")
    return {"peak_mb": round(peak - before, 1), "process_mb": round(peak, 1)}


def _status(field: str) -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


class Data:
    """The training split of simulated data: as padded tensors for theirs, as batches for ours, with the same rows."""

    def __init__(self, run: Run, samples: int | None = None):
        import torch

        from mmbench.resolve import load
        from mmbench.runner import open_data
        from mmbench.training.encoders import build_encoders, prepare
        from mmbench.training.tensors import TensorSplit

        case = run.case
        overrides = [*case.overrides, "data.simulated=true", f"data.features={case.layout}", "training.accumulation=1"]
        overrides += [f"training.batch_size={case.batch}", f"training.precision={run.options['precision']}"]
        overrides += [f"model.encoders.text.model={run.bert}"] if run.bert else []
        overrides += [f"data.samples={FEW}"] if samples else []  # so that the process holds little beside the step
        (self.resolved,) = load(case.config, overrides)
        device = torch.device("cpu")
        self.encoders = build_encoders(self.resolved)
        self.dataset = prepare(open_data(self.resolved), ("train",), self.encoders, device)
        self.split = _with_lengths(self.dataset.splits["train"], run.lengths)
        order = torch.randperm(len(self.split), generator=torch.Generator().manual_seed(1))
        self.rows = [rows for rows in order[:samples].split(case.batch) if len(rows) == case.batch]
        tensors = TensorSplit(self.split, device)
        self.batches = [tensors.batch(rows) for rows in self.rows]

    @property
    def shape(self) -> str:
        """Padded length, and width of features, by modality."""
        return ", ".join(f"{name} {'x'.join(map(str, part.values.shape[1:]))}" for name, part in self.split.inputs.items())

    def padded(self) -> list[dict[str, Any]]:
        """The rows of each batch with their padding, masks as ``<modality>_mask``, targets (B, 1)."""
        import torch

        found = []
        for rows in (rows.numpy() for rows in self.rows):
            batch = {name: torch.from_numpy(part.values[rows]) for name, part in self.split.inputs.items()}
            batch |= {f"{name}_mask": torch.from_numpy(part.mask[rows]) for name, part in self.split.inputs.items()}
            found.append({**batch, "target": torch.from_numpy(self.split.target[rows]).view(-1, 1), "index": torch.from_numpy(rows)})
        return found


def _with_lengths(split: Any, lengths: str) -> Any:
    """The same split with every frame real ("full"), or with lognormal lengths of one share of each modality's longest ("short")."""
    import dataclasses

    import numpy as np

    from mmbench.data.dataset import Modality

    if lengths == "ragged":
        return split
    random = np.random.default_rng(1)
    share = np.clip(random.lognormal(np.log(MEAN_SHORT) - 0.125, 0.5, len(split)), 0.06, 1)  # e^(m + s²/2) is the mean
    inputs = {}
    for name, part in split.inputs.items():
        shape = part.values.shape
        drawn = random.standard_normal(shape, np.float32) if part.kind == "features" else random.integers(1000, 20000, shape)
        mask = np.arange(shape[1]) < np.ceil(share * shape[1])[:, None] if lengths == "short" else np.ones_like(part.mask)
        inputs[name] = Modality(np.where(mask[..., None] if drawn.ndim == 3 else mask, drawn, 0).astype(drawn.dtype), mask)
    return dataclasses.replace(split, inputs=inputs)


def _ours(run: Run, data: Data) -> Step:
    import torch

    from mmbench.component import FitContext
    from mmbench.training.network import Network
    from mmbench.training.optim import Schedule, build_optimizer
    from mmbench.training.step import Step as OurStep

    training, size = data.resolved.experiment.training, len(data.split)
    network = Network(data.resolved, data.dataset.input_spec(), 1, data.encoders)
    network.on_fit_start(FitContext(size, torch.from_numpy(data.split.target), training.epochs))
    optimizer = build_optimizer(training.optimizer, network.groups())
    schedule = Schedule(training.scheduler, optimizer, 1000)
    network.train()
    whole = OurStep(network, optimizer, schedule, training, data.resolved.task_loss, size)
    whole.epoch = 2  # an ordinary one: some losses wait for the second
    for loss in network.losses.values():
        loss.on_epoch_start(whole.epoch)

    def step(number: int) -> None:
        whole([data.batches[number % len(data.batches)]], run.case.batch)

    return step


def _peer(run: Run, data: Data) -> Step:
    import peer_steps
    import torch

    case = run.case
    if case.peer == "mmsa":
        return peer_steps.mmsa(case.method, case.layout, data.padded(), torch.from_numpy(data.split.target), run.bert, run.folder)
    return peer_steps.decalign(_decalign_settings(data), data.resolved.experiment.training, data.padded(), run.bert, run.folder)


def _decalign_settings(data: Data) -> dict[str, Any]:
    """Their names for the sizes and rates of our config, which holds theirs."""
    ours: Any = data.resolved.model.config
    (transport,) = (choice.config for choice in data.resolved.losses if choice.entry.component.name == "prototype_transport")
    widths = {name: part.values.shape[-1] if part.kind == "features" else 768 for name, part in data.split.inputs.items()}
    rates = ours.attention_dropout
    return {
        "feature_dims": [widths[name] for name in ("text", "audio", "vision")],
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
        "num_prototypes": transport.num_prototypes,
        **{f"conv1d_kernel_size_{m}": ours.kernel_size for m in "lav"},
        "pde_dim": ours.width,
    }


if __name__ == "__main__":
    main()
