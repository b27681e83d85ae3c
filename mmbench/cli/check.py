"""``mmbench check``: the plan of a config, without training. Imports no torch, unless ``--build`` asks for the modules."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.complete import complete
from mmbench.cli.options import execution, execution_options, experiment_options
from mmbench.cli.terminal import columns, hushed, json_text, say, say_whole
from mmbench.errors import DataError

if TYPE_CHECKING:
    from mmbench.resolve import Resolved
    from mmbench.runner import Plan
    from mmbench.tuning.search import Search


KINDS = ("model", "encoder", "loss", "training", "selection", "metrics")
MOST_ROWS = 24
"""A plan of more rows is shown as counts."""


@click.command()
@click.argument("config", shell_complete=complete("configs"))
@experiment_options
@execution_options
@click.option("--build", is_flag=True, help="Also build the modules, count parameters, and run two samples forward and backward.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, for scripts.")
def command(
    config: str,
    overrides: tuple[str, ...],
    seeds: str | None,
    device: str,
    out: Path,
    data_root: Path | None,
    executor: str | None,
    jobs: int | None,
    jobs_per_device: int | None,
    timeout: float | None,
    build: bool,
    as_json: bool,
) -> None:
    """Validate CONFIG and print what it would do: data, components, adapters, refusals, executor, runs. Nothing is trained or written to --out."""
    from mmbench.resolve import load, read

    if build:
        from mmbench.cli.execute import need_torch

        need_torch()
    overrides = execution(overrides, executor, jobs=jobs, jobs_per_device=jobs_per_device, timeout=timeout)
    search = None
    if "tune" in read(config, overrides, seeds).value:
        from mmbench.tuning.search import load_search

        search = load_search(config, overrides, seeds)
    cells = list(search.first) if search else load(config, overrides, seeds)
    with hushed(as_json):
        plan, problems = _tell(config, cells, out, data_root, device, build, search)
    if as_json:
        say_whole(json_text(_document(config, cells, plan, problems)))
    if all(cell.fit.refusals for cell in cells):
        sys.exit(2)


def _tell(
    config: str, cells: list[Resolved], out: Path, data_root: Path | None, device: str, build: bool, search: Search | None
) -> tuple[Plan | None, list[str]]:
    """Print what would be done, of a search its first trial. Returns the plan, if there can be one, and what is in its way."""
    from mmbench.runner import make_plan

    rows = _apart(cells)
    runnable = [cell for cell in cells if not cell.fit.refusals]
    first = (runnable or cells)[0]
    refused = len(rows) - len(_apart(runnable))
    sweep = f", a sweep of {len(rows)} cells" + f", of which {refused} are refused" * bool(refused)
    say(f"config      {config}: valid" + sweep * (len(rows) > 1))
    for line in search.lines() if search else ():
        say(line)
    for line in _components(_apart(runnable or cells), runnable or cells):
        say(line)
    if first.document.value.get("executor"):
        given = first.executor.config.model_dump(mode="json", exclude_unset=True)
        options = "".join(f", {key} {value}" for key, value in given.items())
        say(f"executor    {first.executor.entry.key} {first.executor.entry.version}{options}")
    refusals = [f"{cell.experiment.row}: {refusal}".removeprefix(": ") for cell in cells for refusal in cell.fit.refusals]
    problems = [*dict.fromkeys(refusals), *dict.fromkeys(missing for cell in cells for missing in cell.missing)]
    dataset = None
    try:
        dataset = _data(first, [cell for cell in runnable or cells if cell.manifest.part and cell.experiment.row == first.experiment.row], data_root)
    except DataError as error:
        problems.append(f"the data are missing or cannot be used: {error}")
    blocked = bool(first.missing) or dataset is None or not runnable
    plan = None if blocked else make_plan(cells, out, data_root, device)
    if search and plan is not None:
        say(f"runs        {out / cells[0].experiment.name}: {search.config.trials} trials; then the best in {out / search.name}_tuned")
    elif plan is not None:
        _runs(plan, len(cells) > 1)
    if build and not blocked:
        for cell in _apart(runnable):
            _build(cell, dataset if cell is first else None, data_root)
    for problem in problems:
        say(f"cannot run  {problem}")
    say("This experiment cannot be run yet." if blocked else "This experiment can be run.")
    return plan, problems


def _document(config: str, cells: list[Resolved], plan: Plan | None, problems: list[str]) -> dict[str, Any]:
    """The same for scripts: what takes part, the runs with their states, and the problems."""
    from mmbench.runner import run_status

    used = [choice for cell in cells for choice in (cell.model, *cell.encoders.values(), *cell.losses)]
    components = {
        choice.entry.key: {"kind": choice.entry.component.kind, "name": choice.entry.key, "version": choice.entry.version} for choice in used
    }
    runs = [
        {"name": row.name, "floor": row.floor, "part": row.resolved.manifest.part, "seed": seed, "folder": str(folder), "state": run_status(folder)}
        for row, seed, folder in (plan.runs() if plan else ())
    ]
    return {
        "config": config,
        "can_run": plan is not None,
        "problems": problems,
        "components": list(components.values()),
        "adapters": sorted({field for cell in cells for field in cell.fit.adapters}),
        "data": [{"name": dataset.name, **dataset.record} for dataset in plan.datasets] if plan else [],
        "runs": runs,
    }


def _apart(cells: list[Resolved]) -> list[Resolved]:
    """One cell for each row of the table: the first of its parts, where the protocol has several."""
    return list({cell.experiment.row: cell for cell in reversed(cells)}.values())[::-1]


def _components(rows: list[Resolved], cells: list[Resolved]) -> Iterator[str]:
    """What takes part, each line once, however many cells of a sweep or parts of a protocol share it."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for kind, line in _lines(cell):
            found.setdefault(kind, {})[line] = None
    for kind in KINDS:
        yield from (f"{kind:<11} {line}" for line in found.get(kind, ()))
        if kind == "loss":
            yield from _adapters(rows)


def _lines(resolved: Resolved) -> Iterator[tuple[str, str]]:
    from mmbench.metrics import METRICS

    yield "model", f"{resolved.model.entry.key} {resolved.model.entry.version}: {resolved.model.entry.component.summary}"
    for modality, section in resolved.experiment.model.encoders.items():
        found = resolved.encoders.get(modality)
        yield (
            "encoder",
            f"{modality}: " + (f"{found.entry.key} {found.entry.version}: {found.config}" if found else f"{section.name} (not installed)"),
        )
    for loss in resolved.losses:
        weights = ", ".join(f"{term} {value:g}" + f" (warm-up {warmup} epochs)" * bool(warmup) for term, (value, warmup) in loss.weights.items())
        yield "loss", f"{loss.entry.key} {loss.entry.version}: weights {weights}"
    training = resolved.experiment.training
    optimizer = training.optimizer
    yield (
        "training",
        f"{resolved.task_loss} loss, {optimizer.name} lr {optimizer.lr:g}, batch {training.batch_size} x {training.accumulation}, "
        f"at most {training.epochs} epochs, {training.precision}, {training.threads} thread(s)"
        + (f", samples of like length within {training.buckets} batches" if training.buckets else "")
        + ", CUDA graphs on a GPU" * training.compile,
    )
    direction = "" if resolved.select not in METRICS else " (higher is better)" if METRICS[resolved.select].higher_is_better else " (lower is better)"
    yield "selection", f"validation {resolved.select}{direction}"
    yield "metrics", ", ".join(resolved.experiment.metrics or resolved.manifest.metrics)


def _adapters(cells: list[Resolved]) -> Iterator[str]:
    """Which fields adapters will add, and how; in a sweep with the cells that need them."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        groups.setdefault((", ".join(cell.fit.adapters), cell.experiment.adapters), []).append(cell.experiment.row)
    for (fields, kind), rows in groups.items():
        where = f" in {len(rows)} cells" * (len(cells) > 1) + f": {'; '.join(rows)}" * bool(fields and len(cells) > 1)
        text = f"{fields or 'none needed'} (adapters: {kind}){where}"
        yield textwrap.fill(text, columns(140), initial_indent="adapters    ", subsequent_indent=" " * 12)


def _data(resolved: Resolved, parts: list[Resolved], data_root: Path | None) -> Any:
    """Show the data; of a protocol with parts the sizes of each. Returns the data set of the first."""
    from mmbench.runner import open_data

    dataset = open_data(resolved, data_root)
    record, manifest = dataset.record, resolved.manifest
    source = "SIMULATED" if record.get("simulated") else record.get("source")
    say(f"data        {resolved.protocol.get('protocol_title') if len(parts) > 1 else manifest.title}: {source}")
    if manifest.protocol:
        which = f", part {manifest.part} of {len(manifest.parts)}" if len(parts) == 1 else f", {len(parts)} parts, averaged in tables" * bool(parts)
        say(f"            protocol {manifest.protocol}{which}")
    found = {part.manifest.part: open_data(part, data_root) for part in parts} if len(parts) > 1 else {"": dataset}
    for part, each in found.items():
        sizes = ", ".join(f"{name} {len(split)}" for name, split in each.splits.items())
        say(f"            {part}{': ' * bool(part)}{sizes}; splits {resolved.experiment.data.splits}")
    inputs = dataset.input_spec()
    for name, spec in [*inputs.modalities.items(), *((f"{name}_context", spec) for name, spec in inputs.contexts.items())]:
        size = {"features": f", width {spec.size}", "tokens": f", ids below {spec.size}", "waveform": ""}[spec.kind]
        say(f"            {name}: {spec.kind}{size}, " + (f"longest {spec.length}" if spec.length else "raw text"))
    for warning in dict.fromkeys(warning for each in found.values() for warning in each.record.get("warnings", ())):
        say(f"            warning: {warning}")
    return dataset


def _runs(plan: Plan, several: bool) -> None:
    from mmbench.runner import run_status

    rows = list({(row.name, row.floor): row for row in plan.rows}.values()) if plan.parts else list(plan.rows)
    if len(rows) > MOST_ROWS:
        counts = Counter(run_status(folder) or "to do" for _, _, folder in plan.runs())
        refused = sum(bool(row.refusal) for row in rows)
        floors = sum(row.floor for row in rows)
        say(f"runs        {plan.folder}: {len(rows) - refused - floors} configurations and {floors} floors")
        for line in plan.parts:
            say(f"            {line}")
        say("            " + ", ".join(f"{count} runs {state}" for state, count in counts.items()))
        return
    if plan.parts:
        _runs_by_part(plan)
        return
    for row in plan.rows:
        states = {seed: run_status(folder) or "to do" for other, seed, folder in plan.runs() if other is row}
        shown = f"{row.name}: " if several and not row.floor else ""
        say(f"runs        {shown}{row.folder}{'  (floor)' * row.floor}")
        say("            " + (", ".join(f"seed {seed}: {state}" for seed, state in states.items()) or f"incompatible: {row.refusal}"))


def _runs_by_part(plan: Plan) -> None:
    """A line for each configuration, its parts together."""
    from mmbench.runner import run_status

    say(f"runs        {plan.folder}: {'; '.join(plan.parts)}")
    counts: dict[tuple[str, bool], Counter[str]] = {(row.name, row.floor): Counter() for row in plan.rows}
    for row, _, folder in plan.runs():
        counts[row.name, row.floor][run_status(folder) or "to do"] += 1
    refused = {(row.name, row.floor): f"incompatible: {row.refusal}" for row in plan.rows if row.refusal}
    for (name, floor), states in counts.items():
        shown = ", ".join(f"{count} {state}" for state, count in states.items())
        say(f"            {name}{' (floor)' * floor}: {shown or refused[name, floor]}")


def _build(resolved: Resolved, dataset: Any, data_root: Path | None) -> None:
    """Build everything on the CPU and take one backward pass of two training samples through it."""
    import torch

    from mmbench.component import FitContext
    from mmbench.runner import open_data
    from mmbench.training.encoders import build_encoders, prepare
    from mmbench.training.network import Network, task_loss
    from mmbench.training.seeds import seed_everything
    from mmbench.training.step import gradient_norms
    from mmbench.training.tensors import TensorSplit

    dataset = open_data(resolved, data_root) if dataset is None else dataset
    encoders = build_encoders(resolved)
    two = prepare(dataset, ("train",), encoders, torch.device("cpu"), most=2)
    network = Network(resolved, two.input_spec(), resolved.experiment.seeds[0], encoders)
    train = TensorSplit(two.splits["train"], torch.device("cpu"))
    network.on_fit_start(FitContext(train.size, train.target, resolved.experiment.training.epochs))
    if resolved.experiment.row:
        say(f"cell        {resolved.experiment.row}")
    for name, parameters in network.groups().items():
        say(f"parameters  {name}: {sum(p.numel() for p in parameters):,}")
    if network.adapters is not None:
        for part in network.adapters.describe():
            say(f"adapter     {part['field']}: {part['kind']}, {part['parameters']:,} parameters")
    network.train()
    seed_everything(resolved.experiment.seeds[0], "dropout", 1)
    batch = train.batch(torch.arange(train.size))
    representation = network(batch)
    terms = {"task": task_loss(resolved.task_loss, representation.prediction, batch.target), **network.terms(representation, batch, 10**6)}
    norms = gradient_norms(terms, representation)
    total = torch.stack(list(terms.values())).sum()
    if total.requires_grad:
        total.backward()
    say("two samples " + ", ".join(f"{name} {value.item():.4g}" for name, value in terms.items()))
    if norms:
        say("gradients   at encoded: " + ", ".join(f"{name.removeprefix('gradient.')} {value.item():.4g}" for name, value in norms.items()))
    for name, module in network.adapters.named_children() if network.adapters is not None else ():
        parameters = [p for p in module.parameters() if p.requires_grad]
        if parameters and all(p.grad is None for p in parameters):
            say(f"warning     adapter {name}: no loss here trains it, so that it stays as random as it starts")
