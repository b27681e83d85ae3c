"""``mmbench check``: the plan of a config, without training. Imports no torch, unless ``--build`` asks for the modules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.options import experiment_options
from mmbench.errors import DataError

if TYPE_CHECKING:
    from mmbench.resolve import Resolved


@click.command()
@click.argument("config")
@experiment_options
@click.option("--build", is_flag=True, help="Also build the modules, count parameters, and run two samples forward and backward.")
def command(config: str, overrides: tuple[str, ...], seeds: str | None, device: str, out: Path, data_root: Path | None, build: bool) -> None:
    """Validate CONFIG and print what it would do: data, components, adapters, refusals, runs. Nothing is trained or written to --out."""
    from mmbench.resolve import load

    resolved = load(config, overrides, seeds)
    problems = [*resolved.fit.refusals, *resolved.missing]
    click.echo(f"config      {config}: valid")
    _components(resolved)
    try:
        dataset = _data(resolved, data_root)
    except DataError as error:
        dataset = None
        click.echo(f"data        {str(error).splitlines()[0]}")
        problems += ["the data are missing or cannot be used:\n  " + "\n  ".join(str(error).splitlines())]
    if not resolved.fit.refusals and not resolved.missing and dataset is not None:
        _runs(resolved, out, data_root, device)
        if build:
            _build(resolved, dataset)
    for problem in problems:
        click.echo(f"cannot run  {problem}")
    click.echo("This experiment cannot be run yet." if problems else "This experiment can be run.")
    if resolved.fit.refusals:
        sys.exit(2)


def _components(resolved: Resolved) -> None:
    from mmbench.metrics import METRICS

    click.echo(f"model       {resolved.model.entry.key} {resolved.model.entry.version}: {resolved.model.entry.component.summary}")
    for modality, section in resolved.experiment.model.encoders.items():
        found = resolved.encoders.get(modality)
        click.echo(f"encoder     {modality}: {found.entry.key + ' ' + found.entry.version if found else section.name + ' (not installed)'}")
    for loss in resolved.losses:
        weights = ", ".join(f"{term} {value:g}" + f" (warm-up {warmup} epochs)" * bool(warmup) for term, (value, warmup) in loss.weights.items())
        click.echo(f"loss        {loss.entry.key} {loss.entry.version}: weights {weights}")
    adapters = ", ".join(resolved.fit.adapters) or "none needed"
    click.echo(f"adapters    {adapters} (adapters: {resolved.experiment.adapters})")
    training = resolved.experiment.training
    optimizer = training.optimizer
    click.echo(
        f"training    {resolved.task_loss} loss, {optimizer.name} lr {optimizer.lr:g}, batch {training.batch_size} x {training.accumulation}, "
        f"at most {training.epochs} epochs, {training.precision}, {training.threads} thread(s)"
    )
    direction = "" if resolved.select not in METRICS else " (higher is better)" if METRICS[resolved.select].higher_is_better else " (lower is better)"
    click.echo(f"selection   validation {resolved.select}{direction}")
    click.echo(f"metrics     {', '.join(resolved.experiment.metrics or resolved.manifest.metrics)}")


def _data(resolved: Resolved, data_root: Path | None) -> Any:
    from mmbench.data.load import load_dataset

    dataset = load_dataset(resolved.experiment.data, data_root)
    record = dataset.record
    source = "SIMULATED" if record.get("simulated") else record.get("source")
    click.echo(f"data        {resolved.manifest.title}: {source}")
    click.echo(f"            {', '.join(f'{name} {len(split)}' for name, split in dataset.splits.items())}; splits {resolved.experiment.data.splits}")
    for name, spec in dataset.input_spec().modalities.items():
        click.echo(
            f"            {name}: {spec.kind}, {'width' if spec.kind == 'features' else 'vocabulary at least'} {spec.size}, longest {spec.length}"
        )
    for warning in record.get("warnings", ()):
        click.echo(f"            warning: {warning}")
    return dataset


def _runs(resolved: Resolved, out: Path, data_root: Path | None, device: str) -> None:
    from mmbench.runner import make_plan, run_status

    plan = make_plan(resolved, out, data_root, device)
    for row in plan.rows:
        states = {seed: run_status(folder) or "to do" for other, seed, folder in plan.runs() if other is row}
        click.echo(f"runs        {row.folder}{'  (floor)' * row.floor}")
        click.echo("            " + ", ".join(f"seed {seed}: {state}" for seed, state in states.items()))


def _build(resolved: Resolved, dataset: Any) -> None:
    """Build everything on the CPU and take one backward pass of two training samples through it."""
    import torch

    from mmbench.component import FitContext
    from mmbench.training.network import Network, task_loss
    from mmbench.training.tensors import TensorSplit

    network = Network(resolved, dataset.input_spec(), resolved.experiment.seeds[0])
    train = TensorSplit(dataset.splits["train"], torch.device("cpu"))
    network.on_fit_start(FitContext(train.size, train.target, resolved.experiment.training.epochs))
    for name, parameters in network.groups().items():
        click.echo(f"parameters  {name}: {sum(p.numel() for p in parameters):,}")
    if network.adapters is not None:
        for part in network.adapters.describe():
            click.echo(f"adapter     {part['field']}: {part['kind']}, {part['parameters']:,} parameters")
    network.train()
    batch = train.batch(torch.arange(min(2, train.size)))
    representation = network(batch)
    terms = {"task": task_loss(resolved.task_loss, representation.prediction, batch.target), **network.terms(representation, batch, 10**6)}
    total = torch.stack(list(terms.values())).sum()
    if total.requires_grad:
        total.backward()
    click.echo("two samples " + ", ".join(f"{name} {value.item():.4g}" for name, value in terms.items()))
