"""What a search has found: the best configuration as a file, and a summary. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbench.claims import ClaimedError, claim
from mmbench.component import Trial
from mmbench.errors import printable
from mmbench.files import read_json, write, write_sealed, writing
from mmbench.plugins import one_line
from mmbench.privacy import portable, shared, told_path
from mmbench.runner import Plan
from mmbench.strict_yaml import dump
from mmbench.sweep import shown
from mmbench.tuning.search import Search, span
from mmbench.tuning.study import Study

FILE = "best.yaml"


def write_best(study: Study, position: int) -> Path:
    """Write the config of the best trial, for the seeds of the experiment itself, as ``best.yaml`` in the folder of the search."""
    search, trials = study.search, study.trials()
    best = trials[position]
    (first, *_) = search.cells(best.values, "best")
    content: dict[str, Any] = {
        **first.document.value,
        "name": f"{search.name}_tuned",
        "row": f"{search.name}, tuned ({len(trials)} trial{'s' * (len(trials) > 1)})",
    }
    content |= {"seeds": search.document.value.get("seeds")}
    for key in ("executor", *(["seeds"] if content["seeds"] is None else [])):
        content.pop(key, None)
    if len(search.first) > 1:
        content["data"] = {key: value for key, value in content["data"].items() if key != "part"}  # all of them, as the search had them
    content = portable(content)
    if content["data"].get("path"):
        content["data"]["path"] = told_path(content["data"]["path"])
    seeds = ", ".join(map(str, search.config.seeds))
    tuner = ", ".join(f"{key} {value}" for key, value in search.choice.config.model_dump(mode="json").items())
    lines = [
        f"Trial {position + 1} of {len(trials)} of the search in {study.folder.name}, by {search.choice.entry.key} ({tuner}):",
        f"validation {first.select} {best.value!r}, the best of all; seeds of the trials: {seeds}. No test score took part in the choice.",
        *(f"{key}: {shown(value)} of {span(search.space[key])}" for key, value in best.values.items()),
    ]
    path = study.folder / FILE
    with writing(path, "choose another folder with --out"):
        write(path, "".join(f"# {printable(shared(line))}\n" for line in lines) + dump(content))
    return path


def rename(plan: Plan) -> None:
    """Give runs of the plan that are done its names for them: a search that went on without finding better has made more trials since."""
    for row, _, folder in plan.runs():
        path = folder / "result.json"
        result = read_json(path)
        if result.get("status") != "done" or result.get("name") == row.name:
            continue
        try:
            with writing(folder, "choose another folder with --out"), claim(folder):
                write_sealed(path, {**result, "name": row.name})
        except ClaimedError:
            continue  # by a command that is about to see that it is done


def trial_line(number: int, trial: Trial, search: Search) -> str:
    """One trial that has ended, in a line."""
    metric = search.first[0].select
    outcome = f"valid {metric} {trial.value:.4g}" if trial.value is not None else f"{trial.status}: {trial.reason}"
    return f"{search.row(number, trial.values)}  {outcome}"


def summary(study: Study, position: int) -> list[str]:
    """Counts of trials, the best of them, and for each key what it was, what it may be, and how much it matters."""
    trials, search = study.trials(), study.search
    counts = Counter(trial.status for trial in trials)
    best = trials[position]
    weights, untold = _importances(search, trials)
    rows = [("key", "best", "searched", "importance" if weights else "")]
    rows += [(key, shown(best.values[key]), span(each), f"{weights[key]:.2f}" if key in weights else "") for key, each in search.space.items()]
    return [
        f"{len(trials)} trials: {', '.join(f'{count} {status}' for status, count in counts.items())}",
        f"best: trial {position + 1}, validation {search.first[0].select} {best.value:.4g}",
        *_columns(rows),
        *untold,
    ]


def _importances(search: Search, trials: Sequence[Trial]) -> tuple[Mapping[str, float], list[str]]:
    """What the tuner says, or a line that says why it does not: after all the trials, nothing is lost with it."""
    try:
        return search.tuner.importances(trials), []
    except Exception as error:
        return {}, [f"no importances: tuner {search.choice.entry.key!r} failed: {one_line(error)[:300]}"]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
