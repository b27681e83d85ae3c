"""A sweep over two axes as a heat map (DecAlign, Figure 5; SLaD, Figure 4). The axes are found in the runs' own configs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmbench.component import Metric
from mmbench.errors import ConfigError, DataError, MmbenchError
from mmbench.results.figures.canvas import INK, RED, footer, headline, panels, plain, style, wrapped
from mmbench.results.figures.configurations import about, configurations
from mmbench.results.runs import RunRecord, intact
from mmbench.results.tables import TOLERANCE, Column, cell, column, known_metrics
from mmbench.strict_yaml import load

SAME = ("name", "row", "seeds")
"""Keys that differ between any two configurations or runs, and are no setting."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """Keys of the config that move together, and the position of each configuration among their values."""

    keys: tuple[str, ...]
    values: tuple[str, ...]
    positions: Mapping[str, int]

    @property
    def label(self) -> str:
        """What the keys have in common: their first words, or their last."""
        return common(self.keys)


def settings(record: RunRecord) -> Settings:
    """Every value of a run's ``config.yaml`` by its dotted key; components of a list by their names.

    Raises:
        DataError: where the file is missing or damaged.
    """
    try:
        path = intact(record, "config.yaml")
        value = load(path)
    except MmbenchError as error:
        raise DataError(f"{error}; a heat map needs the config of each run") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: is not a config")
    flat: Settings = {}
    for key, inner in value.items():
        if key not in SAME:
            flatten(key, inner, flat)
    return flat


def flatten(key: str, value: Any, flat: Settings) -> None:
    """Put every leaf of a value under its dotted key."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            flatten(f"{key}.{name}", inner, flat)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        names = [
            str(item.get("name", position)).rpartition("/")[2] if isinstance(item, dict) else str(position) for position, item in enumerate(value)
        ]
        for position, (name, inner) in enumerate(zip(names, value, strict=True)):
            flatten(f"{key}.{name}" if names.count(name) == 1 else f"{key}.{name}[{position}]", inner, flat)
    else:
        flat[key] = value


def axes_of(found: Mapping[str, Settings]) -> list[Axis]:
    """The axes along which configurations differ; keys that split them in the same way are one axis.

    Values are ordered as numbers where all are, else as text.
    """
    axes: dict[tuple[int, ...], tuple[list[str], list[Any]]] = {}
    names = list(found)
    for key in dict.fromkeys(key for flat in found.values() for key in flat):
        values = [found[name].get(key) for name in names]
        distinct = list({text(value): value for value in values}.values())
        if len(distinct) < 2:
            continue
        numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in distinct)
        distinct.sort(key=(lambda value: value) if numeric else text)
        order = [text(value) for value in distinct]
        split = tuple(order.index(text(value)) for value in values)
        first: dict[int, int] = {}
        pattern = tuple(first.setdefault(position, len(first)) for position in split)
        if pattern not in axes:
            axes[pattern] = ([], [split, order])
        axes[pattern][0].append(key)
    return [Axis(tuple(keys), tuple(order), dict(zip(names, split, strict=True))) for keys, (split, order) in axes.values()]


def text(value: Any) -> str:
    """A value as an axis shows it."""
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def common(keys: Sequence[str]) -> str:
    """A name for keys that move together: what they begin with, or what they all end in."""
    parts = [key.removesuffix(".value").split(".") for key in keys]
    if len(parts) == 1:
        return ".".join(parts[0]).removeprefix("losses.").removeprefix("model.")
    first = [words[0] for words in zip(*parts, strict=False) if len(set(words)) == 1 and all(words[0] == p[parts[0].index(words[0])] for p in parts)]
    if len(first) > 1:
        return ".".join(first).removeprefix("losses.").removeprefix("model.")
    last = {part[-1] for part in parts}
    return last.pop() if len(last) == 1 else ", ".join(".".join(part) for part in parts)


@style()
def heatmap(records: Sequence[RunRecord], metric: str, metrics: Mapping[str, Metric] | None = None) -> Figure:
    """Test means over seeds on the grid of a sweep over two axes, darker being better; the best cell is outlined.

    A cell with a failed or missing seed says how many are done and is never best; one that was not run is empty.

    Raises:
        ConfigError: where not exactly two axes differ, naming what differs; for runs on different data, or a metric that the runs have not.
        DataError: for a missing or damaged ``config.yaml``.
    """
    chosen = configurations(records)
    title, simulated = about(chosen)
    metrics = known_metrics(records) if metrics is None else metrics
    known = dict.fromkeys(key for runs in chosen.values() for run in runs for key in run.metrics.get("test", {}))
    if metric not in known:
        raise ConfigError(f"no run has a test score {metric!r}; there are {', '.join(known) or 'none'}")
    axes = axes_of({name: settings(runs[0]) for name, runs in chosen.items()})
    if len(axes) != 2:
        raise ConfigError(f"a heat map needs configurations that differ along two axes, not {len(axes)}: {differences(axes)}; choose with --rows")
    down, across = axes
    shape = (len(down.values), len(across.values))
    shown = column(metric, metrics)
    means, texts, best = np.full(shape, np.nan), np.full(shape, "", object), np.full(shape, False)
    for name, runs in chosen.items():
        place = (down.positions[name], across.positions[name])
        done = [run for run in runs if run.status == "done"]
        found = cell([run.metrics["test"].get(metric, math.nan) for run in done])
        means[place] = found.mean
        texts[place] = written(shown, found.mean, found.sd) + (f"\n{len(done)}/{len(runs)}" if len(done) < len(runs) else "")
        best[place] = len(done) == len(runs)
    return drawn(means, texts, best, down, across, shown, (title, simulated))


def differences(axes: Sequence[Axis]) -> str:
    """The axes with their values, as far as one can read them."""
    values = [[plain(value, 20) for value in axis.values[:6]] + ["..."] * (len(axis.values) > 6) for axis in axes[:6]]
    told = [f"{plain(axis.label, 60)} ({', '.join(own)})" for axis, own in zip(axes, values, strict=False)]
    more = [f"and {len(axes) - 6} more"] if len(axes) > 6 else []
    return "; ".join(told + more) or "all of them have the same settings"


def written(shown: Column, mean: float, sd: float) -> str:
    """Mean, and below it the deviation over seeds."""
    return shown.text(mean) + ("" if math.isnan(sd) else f"\n±{shown.text(sd)}")


def drawn(means: np.ndarray, texts: np.ndarray, competes: np.ndarray, down: Axis, across: Axis, shown: Column, heading: tuple[str, bool]) -> Figure:
    """The grid (R, C) of means with their texts; those that compete can be best."""
    rows, columns = means.shape
    figure, (axes,) = panels(1, 1, (max(3.2, min(7.2, 1.9 + 0.72 * columns)), max(1.9, 1.1 + 0.46 * rows)))
    higher = shown.higher_is_better is not False
    colours = colormaps["Blues" if higher else "Blues_r"].with_extremes(bad="#f2f2f2")
    image = axes.imshow(means * (100 if shown.percent else 1), cmap=colours, aspect="auto")
    finite = means[np.isfinite(means)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    for (row, place), value in np.ndenumerate(means):
        shade = (value - low) / (high - low) if high > low else 0.0
        dark = not math.isnan(value) and (shade if higher else 1 - shade) > 0.6
        axes.text(place, row, str(texts[row, place]) or "not run", ha="center", va="center", fontsize=6.5, color="white" if dark else INK)
    ranked = np.where(competes & np.isfinite(means), means if higher else -means, -np.inf)
    if shown.higher_is_better is not None and np.isfinite(ranked).any():
        for row, place in np.argwhere(ranked >= ranked.max() - TOLERANCE):
            axes.add_patch(Rectangle((place - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=2, zorder=3))
    axes.set_xticks(range(columns), [plain(value, 14) for value in across.values])
    axes.set_yticks(range(rows), [plain(value, 14) for value in down.values])
    axes.tick_params(length=0)
    axes.set_xlabel(wrapped(across.label, 60))
    axes.set_ylabel(wrapped(down.label, 34))
    for edge in axes.spines.values():
        edge.set_visible(False)
    direction = {True: " ↑ (higher is better)", False: " ↓ (lower is better)", None: ""}[shown.higher_is_better]
    bar = figure.colorbar(image, ax=axes, pad=0.02, label=plain(shown.key, 40) + (", %" if shown.percent else "") + direction)
    if not higher:
        bar.ax.invert_yaxis()
    headline(figure, *heading)
    footer(figure, ["Test, mean ± sample deviation over seeds; outlined: best."])
    return figure
