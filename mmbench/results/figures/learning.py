"""Learning curves: every term of the loss, the score on validation that chooses the epoch, and the gradients' norms in the encoded features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mmbench.errors import DataError
from mmbench.metrics import METRICS, metric_of
from mmbench.results.figures.canvas import INK, Look, footer, headline, look, panels, plain, says, style, wrapped
from mmbench.results.figures.configurations import configurations, heading
from mmbench.results.figures.epochs import GRADIENT, TASK, mean_over, read_epochs, series, terms_of
from mmbench.results.runs import RunRecord

MOST = 12
"""Panels of a figure."""
MANY = 4
"""Configurations, above which the seeds' lines are faint and only the panels of validation have dots."""
EXPLAINED = "Thin: one seed; bold: mean of all seeds, as far as every seed ran; dots: the epoch that was chosen on validation."


@dataclass(frozen=True)
class Logged:
    """A configuration's runs that have a readable log: the record of each and its epochs."""

    name: str
    look: Look
    runs: Sequence[tuple[RunRecord, dict[int, dict[str, float]]]]

    @property
    def logs(self) -> set[str]:
        """Everything that any of its epochs has."""
        return {key for _, epochs in self.runs for entry in epochs.values() for key in entry}


@style()
def curves(records: Sequence[RunRecord]) -> Figure:
    """Learning curves from the runs' ``epochs.jsonl``: a panel for each term, a thin line a seed, the mean over all seeds bold.

    A dot marks the epoch that was chosen on validation. Runs without a readable log are named below the panels.

    Raises:
        DataError: where no run has a readable log.
    """
    chosen = configurations(records, floors=all(record.floor for record in records))
    logged, problems = read(chosen)
    if not logged:
        raise DataError("; ".join(problems) or "no run has a log of epochs")
    wanted, left_out = what(logged)
    figure, axes = panels(len(wanted), 3, (2.4, 1.75))
    for place, key in zip(axes, wanted, strict=True):
        if key == GRADIENT:
            gradients(place, logged[0])
        else:
            panel(place, key, logged)
    title, simulated = heading([run for c in logged for run, _ in c.runs])
    seeds = "" if len(logged) > 1 else f": {plain(logged[0].name, 60)}, {len(logged[0].runs)} seed{'s' * (len(logged[0].runs) > 1)}"
    headline(figure, title + seeds, simulated)
    missing = [f"Not shown: {', '.join(left_out)}"] if left_out else []
    several = logged if len(logged) > 1 else []
    handles = [Line2D([], [], color=c.look.colour, linestyle=c.look.line, marker=c.look.marker, markersize=3, linewidth=1.8) for c in several]
    footer(figure, [EXPLAINED, *missing, *problems], handles, [c.name for c in several])
    return figure


def read(chosen: dict[str, list[RunRecord]]) -> tuple[list[Logged], list[str]]:
    """The configurations that have a readable log, and why others have none."""
    logged: list[Logged] = []
    problems: list[str] = []
    for name, runs in chosen.items():
        found = []
        for run in runs:
            try:
                found.append((run, read_epochs(run)))
            except DataError as error:  # noqa: PERF203
                if run.status != "pending":
                    problems.append(str(error))
        if found:
            logged.append(Logged(name, look(len(logged)), found))
    return logged, problems


def what(logged: Sequence[Logged]) -> tuple[list[str], list[str]]:
    """The keys of the panels, and those for which there is no room: losses, the score that selects, gradients."""
    terms = list(dict.fromkeys(f"train.{term}" for c in logged for run, epochs in c.runs for term in terms_of(run, epochs)))
    selects = list(dict.fromkeys(f"valid.{selected(run)}" for c in logged for run, _ in c.runs))
    norms = [key for key in (key.replace("train.", f"train.{GRADIENT}", 1) for key in terms) if any(key in c.logs for c in logged)]
    if len(logged) == 1:
        norms = [GRADIENT] if norms else []
    first = selects + terms
    if len(first) + len(norms[:1]) > MOST:
        kept = first[: MOST - len(norms[:1])] + norms[:1]
    else:
        kept = (first + norms)[:MOST]
    return kept, [caption(key) for key in first + norms if key not in kept]


def selected(run: RunRecord) -> str:
    """The entry that chooses the epoch: the record's, else the loss on validation."""
    return str(run.selection.get("metric") or "loss")


def panel(axes: Axes, key: str, logged: Sequence[Logged]) -> None:
    """One quantity: a thin line a seed, the mean bold, the chosen epochs as dots."""
    log = key.startswith(f"train.{GRADIENT}")
    shown = False
    for configuration in logged:
        lines = [(run, *series(epochs, key)) for run, epochs in configuration.runs if any(key in entry for entry in epochs.values())]
        lines = [(run, steps, np.where(values > 0, values, np.nan) if log else values) for run, steps, values in lines]
        draw(
            axes,
            lines,
            configuration.look,
            thin=0.6 if len(logged) == 1 else 0.35 if len(logged) <= MANY else 0.15,
            dots=len(logged) <= MANY or key.startswith("valid."),
        )
        shown = shown or any(np.isfinite(values).any() for _, _, values in lines)
    finish(axes, key, shown, log)


def draw(axes: Axes, lines: Sequence[tuple[RunRecord, np.ndarray, np.ndarray]], how: Look, thin: float, dots: bool) -> None:
    """The lines of one configuration's seeds and their mean."""
    if not lines:
        return
    many = len(lines) > 1
    for run, steps, values in lines:
        axes.plot(steps, values, color=how.colour, linewidth=0.6 if many else 1.6, alpha=thin if many else 1, linestyle="-" if many else how.line)
        if len(steps) == 1:
            axes.plot(steps, values, color=how.colour, marker="_", markersize=6)
        at = np.flatnonzero(steps == run.selection.get("epoch")) if dots else np.array([], int)
        axes.plot(steps[at], values[at], how.marker, color=how.colour, markersize=3, markeredgecolor="white", markeredgewidth=0.4, zorder=4)
    if many:
        steps, values = mean_over((steps, values) for _, steps, values in lines)
        axes.plot(steps, values, color=how.colour, linewidth=1.8, linestyle=how.line, zorder=3)


def gradients(axes: Axes, configuration: Logged) -> None:
    """The gradients' norms of all terms of one configuration in one panel, so that they can be compared."""
    terms = list(dict.fromkeys(term for run, epochs in configuration.runs for term in terms_of(run, epochs)))
    low, high = np.inf, 0.0
    for position, term in enumerate(terms):
        key = f"train.{GRADIENT}{term}"
        lines = [series(epochs, key) for _, epochs in configuration.runs if any(key in entry for entry in epochs.values())]
        if not lines:
            continue
        steps, values = mean_over(lines)
        values = np.where(values > 0, values, np.nan)
        if np.isfinite(values).any():
            how = look(position)
            axes.plot(steps, values, color=how.colour, linestyle=how.line, linewidth=1.2, label=plain(term.rpartition(".")[2], 24))
            low, high = min(low, np.nanmin(values)), max(high, np.nanmax(values))
    finish(axes, GRADIENT, high > 0, True)
    if high > 0:
        axes.set_ylim(top=high * max(high / low, 2.0) ** 0.6)  # room for the legend
        axes.legend(fontsize=5.5, ncols=2, loc="upper center", handlelength=1.8, columnspacing=0.8, labelspacing=0.2, borderaxespad=0.2)


def finish(axes: Axes, key: str, shown: bool, log: bool) -> None:
    """Title, grid and scales of a panel; one without a finite number says so."""
    axes.set_title(wrapped(caption(key), 34), color=INK)
    axes.set_xlabel("epoch", labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.grid(True)
    if not shown:
        says(axes, "no finite value above zero" if log else "no finite value")
    elif log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def caption(key: str) -> str:
    """What a panel shows, in words."""
    if key == GRADIENT:
        return "gradient norms, mean over seeds"
    part, _, name = key.partition(".")
    if part == "valid":
        metric = metric_of(name, METRICS)
        arrow = "" if metric is None else " ↑" if metric.higher_is_better else " ↓"
        return f"validation {name}{arrow or ' ↓' * (name == 'loss')}"
    loss, _, term = name.removeprefix(GRADIENT).partition(".")
    what = "train task loss" if name == TASK else loss if loss == term or not term else f"{loss}.{term}"
    return f"gradient of {what.removeprefix('train ')}" if name.startswith(GRADIENT) else what
