"""Which classes, or which intensities, are told apart: confusion matrices (DecAlign, Figure 3) and bars per class (Figure 4 a-d)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from mmbench.errors import ConfigError, DataError
from mmbench.results.figures.canvas import GREY, INK, WIDTH, footer, headline, look, panels, plain, style, wrapped
from mmbench.results.figures.configurations import about, finished, seeds_text
from mmbench.results.figures.counts import Scale, accuracies, by_seed, f1_scores, recalls, scale_of
from mmbench.results.runs import RunRecord

MOST = 12
"""Panels of a figure, and configurations beside each other in one."""
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo", "**", "OO", "||", "+x")


def counted(configurations: Mapping[str, Sequence[RunRecord]]) -> tuple[Scale, dict[str, np.ndarray], str, bool]:
    """The common scale, counts (S, C, C) of each configuration, title of the data and whether they are simulated.

    Raises:
        ConfigError: for runs on different data, or where none is done.
        DataError: for damaged predictions.
    """
    done = finished(configurations)
    if len(done) > MOST:
        raise ConfigError(f"{len(done)} configurations are too many for one figure, which has room for {MOST}; choose some with --rows")
    title, simulated = about(done)
    scales = {scale_of(run.data) for runs in done.values() for run in runs}
    if len(scales) > 1:
        raise ConfigError("these runs are scored on different scales, which one figure cannot show; choose with --rows")
    try:
        return scales.pop(), {name: by_seed(runs) for name, runs in done.items()}, title, simulated
    except DataError as error:
        raise DataError(f"{error}. Leave its configuration out with --rows, or make the run anew: mmbench run CONFIG --seeds N --rerun all") from None


@style()
def confusion(configurations: Mapping[str, Sequence[RunRecord]]) -> Figure:
    """A confusion matrix for each configuration: test counts summed over its finished seeds, colours the share of each row.

    Regression is counted by intensity, rounded as `acc7` does (CH-SIMS: in the bins of `acc5_sims`). The title has the mean accuracy over seeds.

    Raises:
        ConfigError: for runs on different data, more than twelve configurations, or where none is done.
        DataError: for damaged predictions.
    """
    scale, counts, title, simulated = counted(configurations)
    size = len(scale.names)
    figure, axes = panels(len(counts), 3, (2.4, 2.3) if len(counts) > 2 else (3.4, 3.1))
    font = min(7.0, (44 if len(counts) > 2 else 62) / size)
    for place, (name, found) in zip(axes, counts.items(), strict=True):
        total = found.sum(0)  # (C, C)
        rows = total.sum(1, keepdims=True)
        share = np.divide(total, rows, out=np.zeros(total.shape), where=rows > 0)
        image = place.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row in range(size):
            for column in range(size):
                colour = "white" if share[row, column] > 0.55 else INK
                place.text(column, row, str(total[row, column]), ha="center", va="center", color=colour, fontsize=font)
        partial = seeds_text(configurations[name])
        place.set_title(f"{wrapped(name, 34)}\n{scale.accuracy} {spread(accuracies(found))}" + (f", {partial}" if partial else ""))
        turned = max(map(len, scale.names)) > 4
        place.set_xticks(range(size), [plain(label, 14) for label in scale.names], rotation=45 if turned else 0, ha="right" if turned else "center")
        place.set_yticks(range(size), [plain(label, 14) for label in scale.names])
        place.tick_params(length=0)
        place.set_xlabel("predicted", labelpad=1)
        place.set_ylabel("true", labelpad=1)
        for edge in place.spines.values():
            edge.set_visible(False)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.03, pad=0.01, aspect=30)
    headline(figure, title, simulated)
    footer(figure, [f"Test samples by {scale.what}; counts are summed over seeds."])
    return figure


def spread(scores: np.ndarray) -> str:
    """Mean and sample standard deviation of shares, as percentages."""
    return f"{100 * scores.mean():.1f}" + (f" ± {100 * scores.std(ddof=1):.1f} %" if len(scores) > 1 else " %")


@style()
def per_class(configurations: Mapping[str, Sequence[RunRecord]], score: Literal["f1", "recall"] = "f1") -> Figure:
    """Bars of F1 or recall for each class or rounded intensity: a group a class, a bar a configuration, mean ± sample deviation over seeds.

    Raises:
        ConfigError: for runs on different data, more than twelve configurations, or where none is done.
        DataError: for damaged predictions.
    """
    scale, counts, title, simulated = counted(configurations)
    scores = {name: (f1_scores if score == "f1" else recalls)(found) for name, found in counts.items()}
    size, many = len(scale.names), len(scores)
    figure, (axes,) = panels(1, 1, (WIDTH, 2.4))
    bars, labels = [], []
    width = 0.84 / many
    for position, (name, values) in enumerate(scores.items()):
        middle = np.arange(size) + (position - (many - 1) / 2) * width
        means = 100 * values.mean(0)
        deviation = 100 * values.std(0, ddof=1) if len(values) > 1 else None
        partial = seeds_text(configurations[name])
        label = plain(name, 40) + (f" ({partial})" if partial else "")
        error = {"linewidth": 0.7, "ecolor": INK}
        group = axes.bar(middle, means, width * 0.94, yerr=deviation, color=look(position).colour, hatch=HATCHES[position], error_kw=error)
        for bar in group:
            bar.set(edgecolor="white", linewidth=0.3)
        bars.append(group.patches[0])
        labels.append(label)
    samples = [np.unique(found.sum(2), axis=0) for found in counts.values()]
    same = np.unique(np.concatenate(samples), axis=0)
    numbers = [f"\nn = {count}" for count in same[0]] if len(same) == 1 else [""] * size
    axes.set_xticks(range(size), [plain(label, 16) + number for label, number in zip(scale.names, numbers, strict=True)])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, size - 0.4)
    axes.set_ylim(0, min(100, axes.get_ylim()[1]))
    axes.set_ylabel("F1 (%)" if score == "f1" else "recall (%)")
    axes.grid(True, axis="y")
    axes.spines["bottom"].set_color(GREY)
    headline(figure, title, simulated)
    how = "n: test samples. " if len(same) == 1 else "The configurations have different test samples. "
    what = f"{scale.what[:1].upper()}{scale.what[1:]}. {how}Bars: mean over seeds; lines: sample standard deviation."
    footer(figure, [what], bars, labels, 3 if max(map(len, labels)) > 18 else 4)
    return figure
