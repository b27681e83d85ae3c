"""How the time of a step grows: with the length of sequences, the batch, the categories K, the modalities M and the size of the data set.

    python benchmarks/growth.py

Beside each column of times stands the exponent that fits its last three points, t ~ x^e, and that of the counted products at the same sizes: a step
whose time grows faster than its products (and than its elementwise work, which has the same sizes) does something needless.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from measure import SMALLEST, Budget, child, memory, options, record, recorded, repeat, shipped_configs, timed

LENGTHS = (50, 125, 250, 500)
BATCHES = (8, 32, 128)
LOSS_BATCHES = (*BATCHES, 512)
CATEGORIES = (3, 7, 15, 30, 50)
MODALITIES = (2, 3, 4)
SIZES = (1000, 10_000, 100_000, 1_000_000)
NAMES = ("text", "audio", "vision", "gaze")
WIDTHS = {"text": 768, "audio": 5, "vision": 20}
NARROW = {"text": 8, "audio": 4, "vision": 4}


@click.command()
@click.argument("configs", nargs=-1)
@click.option("--seconds", default=0.1, show_default=True, help="Time for each point, at least two steps.")
@click.option("--minutes", default=2.0, show_default=True, help="After so many no other table, or method, is begun.")
@click.option("--child", "request", hidden=True)
@options()
def main(configs: tuple[str, ...], seconds: float, minutes: float, request: str | None, threads: int, out: Path, quick: bool) -> None:
    """Measure CONFIGS (default: one per method), every loss, and a small model on data sets of growing size."""
    if request is not None:
        click.echo(json.dumps(answer(json.loads(request))))
        return
    lengths, batches, sizes = ((4, 8), (2, 4), (100,)) if quick else (LENGTHS, BATCHES, SIZES)
    loss_points = {"K": (3, 4), "batch": (2, 4), "M": (2, 3)} if quick else {"K": CATEGORIES, "batch": LOSS_BATCHES, "M": MODALITIES}
    common = {"seconds": 0.0 if quick else seconds, "threads": threads}
    budget, settings = Budget(minutes), {"seconds": seconds, "configs": list(configs)}
    earlier = recorded(out, "growth", **settings)
    rows: dict[str, Any] = earlier["rows"] if earlier and earlier["threads"] == threads else {"columns": [], "data": []}
    columns, data = rows["columns"], rows["data"]
    done = {(column["what"], column["against"]) for column in columns}
    models = configs or ([SMALLEST] if quick else by_weight(shipped_configs("mosi")))
    kinds = [("length", lengths)] if quick else [("length", lengths), ("batch", batches)]
    cases = [(config, against, points) for config in models for against, points in kinds]
    left = [case for case in cases if case[:2] not in done]
    if not any(column["what"].startswith("loss ") for column in columns):
        columns += child(__file__, {"what": "losses", "points": loss_points, **common}, threads, quick)["columns"]
        for column in columns:
            show(column)
        record(out, "growth", threads, quick, rows, whole=False, **settings)
    if not data:
        with tempfile.TemporaryDirectory() as folder:
            manifest = narrow_manifest(Path(folder))
            for size in sizes:
                data.append(
                    {"samples": size} | attempt({"what": "size", "manifest": str(manifest), "samples": size, **common}, threads, quick, folder)
                )
                click.echo(f"{data[-1]}")
        record(out, "growth", threads, quick, rows, whole=not left, **settings)
    while left and not budget.over():
        config, against, points = left.pop(0)
        found = attempt({"what": "model", "config": config, "against": against, "points": points, **common}, threads, quick)
        columns.append({"what": config, "against": against, "points": points, **found})
        show(columns[-1])
        record(out, "growth", threads, quick, rows, whole=not left, **settings)
    if left:
        click.echo(f"{len(left)} of {len(cases)} columns of models are left for another call: the {minutes:g} minutes are over")


def by_weight(configs: Sequence[str]) -> list[str]:
    """The configs of attention first, in which length counts most."""
    return sorted(configs, key=lambda config: not config.startswith(("decalign", "mult", "slad")))


def attempt(request: dict[str, Any], threads: int, quick: bool, cache: str | None = None) -> dict[str, Any]:
    """A child's answer, or the problem that it ended with: a size that does not fit into memory is a result, too."""
    try:
        return child(__file__, request, threads, quick, cache)
    except RuntimeError as error:
        return {"problem": str(error).splitlines()[-1]}


def show(column: dict[str, Any]) -> None:
    """One line of a column."""
    times = column.get("problem") or "  ".join(f"{x}: {ms:.1f} ms" for x, ms in zip(column["points"], column["ms"], strict=False))
    fits = "" if "problem" in column else f"  e {column['exponent']}, products {column['products_exponent']}"
    click.echo(f"{column['what']:34} {column['against']:7} {times}{fits}")


def exponent(points: Sequence[float], values: Sequence[float]) -> float | None:
    """Slope of log(value) over log(point) through the last three points, by least squares; None where fewer than two values are above zero."""
    pairs = [(math.log(x), math.log(y)) for x, y in zip(points, values, strict=False) if y > 0][-3:]
    if len(pairs) < 2:
        return None
    x, y = (statistics.mean(column) for column in zip(*pairs, strict=True))
    return round(sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs), 2)


def column(points: Sequence[int], measured: list[tuple[float, float]]) -> dict[str, Any]:
    """Times in ms and GFLOP at the points, and the exponents of both."""
    times, gflop = [ms for ms, _ in measured], [products for _, products in measured]
    found = {"ms": [round(ms, 3) for ms in times], "gflop": [round(products, 4) for products in gflop]}
    return {**found, "exponent": exponent(points, times), "products_exponent": exponent(points, gflop)}


def model(config: str, against: str, points: list[int], seconds: float, threads: int) -> dict[str, Any]:
    """Whole steps of a config on random sequences of full length: 8 samples of growing length, or growing batches of 50 frames."""
    import torch
    from stepping import Stepper, products

    from mmbench.batch import Batch, Sequence
    from mmbench.component import InputSpec, ModalitySpec
    from mmbench.resolve import load

    (resolved,) = load(config, ("data.simulated=true", f"training.threads={threads}"))
    widths = {name: WIDTHS[name] for name in resolved.modalities}
    measured = []
    for point in points:
        length, size = (point, 8) if against == "length" else (50, point)
        inputs = InputSpec({name: ModalitySpec("features", width, length) for name, width in widths.items()}, "regression", (), (-3.0, 3.0), 7, size)
        target = torch.randn(size)
        stepper = Stepper(resolved, inputs, target)
        sequences = {name: Sequence(torch.randn(size, length, width), torch.ones(size, length, dtype=torch.bool)) for name, width in widths.items()}
        batch = Batch(torch.arange(size), sequences, target)
        counted = products(lambda stepper=stepper, batch=batch: stepper(batch))  # type: ignore[misc]
        times = repeat(lambda stepper=stepper, batch=batch: stepper(batch), seconds, least=2)  # type: ignore[misc]
        measured.append((1000 * statistics.median(times), counted))
    return column(points, measured)


def losses(points: dict[str, list[int]], seconds: float, threads: int) -> dict[str, Any]:
    """Every loss of the catalogue alone, forward and backward: K = 7, 32 samples, 3 modalities, 50 frames of width 32, but for what grows.

    A loss whose products do not depend on K has no such column. Losses that read what a model shows to them alone (``extra``) are left out.
    """
    import torch

    from mmbench.errors import MmbenchError
    from mmbench.plugins import catalogue

    torch.set_num_threads(threads)
    columns = []
    entries = [entry for entry in catalogue().of_kind("loss") if not any(need.startswith("extra.") for need in entry.component.needs)]
    for entry in entries:
        for against, own in points.items():
            measured: list[tuple[float, float]] = []
            problem = None
            try:
                for point in own:
                    measured.append(loss_point(entry, seconds, **{against: point}))  # noqa: PERF401  (what is measured before a refusal counts)
            except (MmbenchError, ValueError) as error:
                problem = " ".join(str(error).split())[:300]
            if against == "K" and len({products for _, products in measured}) < 2:
                continue
            found = {"what": f"loss {entry.component.name}", "against": against, "points": own, **column(own, measured)}
            columns.append({**found, "refused": problem} if problem else found)
    return {"columns": columns}


def loss_point(entry: Any, seconds: float, K: int = 7, batch: int = 32, M: int = 3, frames: int = 50, width: int = 32) -> tuple[float, float]:
    """Median milliseconds and GFLOP of one loss, forward and backward."""
    import torch
    from stepping import leaves, products

    from mmbench.batch import Batch, Representation, Sequence
    from mmbench.component import FieldSpec, FitContext, InputSpec, ModalitySpec, RepresentationSpec

    torch.manual_seed(1)
    names = NAMES[:M]
    inputs = InputSpec({name: ModalitySpec("features", width, frames) for name in names}, "regression", (), (-3.0, 3.0), K, batch)
    field = {name: FieldSpec(width, True) for name in names}
    loss = entry.load()(RepresentationSpec(inputs, width, field, field, field, names), entry.load_config()())
    target = torch.rand(batch) * 6 - 3
    loss.active = frozenset(entry.component.terms or (entry.component.name,))
    loss.on_fit_start(FitContext(batch, target, 10))
    loss.on_epoch_start(1)

    def sequences() -> dict[str, Sequence]:
        return {name: Sequence(torch.randn(batch, frames, width), torch.ones(batch, frames, dtype=torch.bool)) for name in names}

    predictions = {name: torch.randn(batch, requires_grad=True) for name in names}
    prediction, fused = torch.randn(batch, requires_grad=True), torch.randn(batch, width, requires_grad=True)
    representation = Representation(prediction, fused, sequences(), sequences(), sequences(), predictions)
    leaves(representation)
    given = Batch(torch.arange(batch), sequences(), target)

    def both() -> None:
        torch.stack([term.float() for term in loss(representation, given).values()]).sum().backward()

    counted = products(both)
    return 1000 * statistics.median(repeat(both, seconds, least=2)), counted


def narrow_manifest(folder: Path) -> Path:
    """CMU-MOSI's manifest with short and narrow sequences, so that a million samples fit on a disk."""
    import yaml

    from mmbench.files import shipped

    content = yaml.safe_load((shipped("datasets_manifest") / "mosi.yaml").read_text(encoding="utf-8"))
    content["layouts"] = {"aligned": {**content["layouts"]["aligned"], "shapes": {n: {"length": 4, "width": w} for n, w in NARROW.items()}}}
    path = folder / "mosi.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def size(manifest: str, samples: int, seconds: float, threads: int) -> dict[str, Any]:
    """Opening simulated data that are there already, memory, and time per batch and per step of a small model."""
    import torch
    from stepping import Stepper

    from mmbench.data.manifest import load_manifest
    from mmbench.data.simulate import simulate
    from mmbench.resolve import load
    from mmbench.runner import open_data
    from mmbench.training.seeds import order
    from mmbench.training.tensors import TensorSplit

    built = timed(lambda: simulate(load_manifest(manifest), samples, layout="aligned"))
    own = ("data.simulated=true", "data.features=aligned", f"data.samples={samples}", f"training.threads={threads}", "training.batch_size=32")
    (resolved,) = load(SMALLEST, (f"data.name={manifest}", *own))
    before = memory()
    opened: list[Any] = []
    seconds_open = timed(lambda: opened.append(open_data(resolved)))
    train = TensorSplit(opened[0].splits["train"], torch.device("cpu"))
    stepper = Stepper(resolved, opened[0].input_spec(), train.target)
    batches = train.batches(32, order(1, 1, train.size))
    batching, stepping = [], []
    for _ in range(min(200, train.size // 32)):
        kept: list[Any] = []
        batching.append(timed(lambda kept=kept: kept.append(next(batches))))  # type: ignore[misc]
        stepping.append(timed(lambda kept=kept: stepper(kept[0])))  # type: ignore[misc]
    after = memory()
    return {
        "data_mb": round(
            sum(part.values.nbytes + part.mask.nbytes for split in opened[0].splits.values() for part in split.inputs.values()) / 2**20, 1
        ),
        "simulated_s": round(built, 2),
        "open_s": round(seconds_open, 3),
        "batch_ms": round(1000 * statistics.median(batching), 3),
        "step_ms": round(1000 * statistics.median(stepping), 3),
        "own_memory_mb": round(after["anon"] - before["anon"], 1),
        "mapped_mb": round(after["file"] - before["file"], 1),
    }


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {"model": model, "losses": losses, "size": size}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a child process is asked for."""
    return CHILDREN[request.pop("what")](**request)


if __name__ == "__main__":
    main()
