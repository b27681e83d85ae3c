"""Methods beside each other: bubbles of two scores and a third (DecAlign, Figure 1), and a forest plot of differences with their intervals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from mmbench.errors import ConfigError, DataError
from mmbench.metrics import METRICS, metric_of
from mmbench.results.figures.canvas import COLOURS, GREY, INK, WIDTH, footer, headline, panels, plain, says, style

if TYPE_CHECKING:
    from mmbench.results.comparison import Comparison

SMALLEST, LARGEST = 40.0, 520.0
"""Areas of bubbles in square points."""
NEAR = ((1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0), (1.0, 0.5), (-1.0, 0.5), (1.0, -0.5))
"""Where a label may stand beside its bubble, in order of preference."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """One bubble: two scores as they are shown, and what its area stands for. `published`: copied from a paper, drawn hollow."""

    name: str
    x: float
    y: float
    size: float
    published: bool = False


@style()
def bubble(
    points: Sequence[Point],
    axes: tuple[str, str, str] = ("Acc-2 (%)", "F1 (%)", "1 / MAE"),
    title: str = "",
    simulated: bool = False,
    notes: Sequence[str] = (),
) -> Figure:
    """Bubbles: x and y are two scores, the area grows with a third. Published numbers are hollow, measured ones filled.

    `axes` names x, y and the area. A point with a score that is no number is named below, where `notes` on published numbers stand too.

    Raises:
        DataError: where no point has all three scores.
    """
    shown = [point for point in points if all(map(math.isfinite, (point.x, point.y, point.size)))]
    if not shown:
        raise DataError("no method has all three scores of a bubble; choose others with --metric")
    figure, (place,) = panels(1, 1, (5.4, 3.9))
    sizes = np.array([point.size for point in shown])
    low, high = sizes.min(), sizes.max()
    areas = np.full(len(shown), (SMALLEST + LARGEST) / 2) if high == low else SMALLEST + (sizes - low) / (high - low) * (LARGEST - SMALLEST)
    for area, point in sorted(zip(areas, shown, strict=True), key=lambda pair: -pair[0]):
        tint = GREY if point.published else COLOURS[0]
        face = "none" if point.published else f"{tint}99"
        place.scatter([point.x], [point.y], s=[area], facecolors=face, edgecolors=tint, linewidths=1.1, zorder=3)
    place.set_xlabel(plain(axes[0], 60))
    place.set_ylabel(plain(axes[1], 60))
    place.grid(True)
    place.margins(0.16)
    kinds = {"measured here": (False, f"{COLOURS[0]}99", COLOURS[0]), "published": (True, "none", GREY)}
    kinds = {label: kind for label, kind in kinds.items() if any(point.published is kind[0] for point in shown)}
    handles = [Line2D([], [], linestyle="", marker="o", markersize=6, markerfacecolor=face, markeredgecolor=edge) for _, face, edge in kinds.values()]
    headline(figure, title, simulated)
    lost = [point.name for point in points if point not in shown]
    missing = [f"Without all three scores, not shown: {', '.join(lost)}."] if lost else []
    small = [line for note in notes for line in textwrap.wrap(note, 100)]
    footer(figure, [f"Area: {plain(axes[2], 60)}, from {low:.3g} to {high:.3g}.", *missing, *small], handles, list(kinds))
    figure.draw_without_rendering()  # labels are placed in points, which need the final axes
    labelled(figure, place, shown, areas)
    return figure


def labelled(figure: Figure, axes: Axes, points: Sequence[Point], areas: np.ndarray) -> None:
    """Names beside the bubbles, each where it covers no other label and as little of bubbles as can be."""
    per_point = 72 / figure.dpi
    middles = axes.transData.transform([(point.x, point.y) for point in points]) * per_point  # (P, 2) points
    radii = np.sqrt(areas / math.pi)
    left, bottom, right, top = (float(edge) * per_point for edge in axes.bbox.extents)
    frame: Box = (left, bottom, right, top)
    bubbles = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(middles, radii, strict=True)]
    taken: list[Box] = []
    size = 6.5
    for index in np.argsort(-middles[:, 1], kind="stable"):
        name = plain(points[index].name, 32)
        width, height = 4 + (TextPath((0, 0), name, size=size).get_extents().width if name else 0), 1.4 * size
        best: tuple[float, float, Box] | None = None
        for distance in (1.0, 6.0, 12.0, 20.0, 30.0, 42.0, 56.0):
            for dx, dy in NEAR:
                reach = radii[index] * (0.75 if dx and dy else 1.0) + distance
                x, y = middles[index][0] + dx * reach + (dx - 1) * width / 2, middles[index][1] + dy * reach + (dy - 1) * height / 2
                box = (x, y, x + width, y + height)
                others = [bubble for other, bubble in enumerate(bubbles) if other != index]
                outside = width * height - overlap(box, frame)
                covered = 300 * sum(overlap(box, other) > 0 for other in taken)
                cost = covered + sum(overlap(box, other) for other in others) + 10 * outside + distance / 2
                if best is None or cost < best[0] - 1e-9:
                    best = (cost, distance, box)
        assert best is not None
        _, distance, box = best
        taken.append(box)
        offset = ((box[0] + box[2]) / 2 - middles[index][0], (box[1] + box[3]) / 2 - middles[index][1])
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 1, "shrinkB": 0} if distance > 1 else None
        place = (points[index].x, points[index].y)
        axes.annotate(name, place, offset, textcoords="offset points", fontsize=size, color=INK, zorder=5, ha="center", va="center", arrowprops=line)


def overlap(first: Box, second: Box) -> float:
    """Common area of two boxes."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    up = min(first[3], second[3]) - max(first[1], second[1])
    return max(across, 0.0) * max(up, 0.0)


@style()
def intervals(comparisons: Sequence[Comparison], title: str = "", simulated: bool = False) -> Figure:
    """A forest plot: a panel a metric, a row a comparison, the difference of means with its interval, and the line of no difference.

    Filled and coloured: significant after Holm's correction. A comparison that could not be tested is hollow, and the reason stands below.

    Raises:
        ConfigError: where there is nothing to compare.
    """
    if not comparisons:
        raise ConfigError("there is nothing to compare: a figure of intervals needs at least two configurations on the same data")
    metrics = list(dict.fromkeys(c.metric for c in comparisons))
    longest = max(sum(c.metric == metric for c in comparisons) for metric in metrics)
    columns = 1 if len(metrics) == 1 else 2
    baselines = {c.second for c in comparisons}
    baseline = baselines.pop() if len(baselines) == 1 else ""
    height = 0.24 if baseline else 0.34
    figure, places = panels(len(metrics), columns, (WIDTH / columns if columns > 1 else 6.4, 0.75 + height * longest))
    for place, metric in zip(places, metrics, strict=True):
        forest(place, [c for c in comparisons if c.metric == metric], baseline, narrow=columns > 1)
    kinds = (("^", BETTER, BETTER), ("v", WORSE, WORSE), ("o", GREY, "white"))
    handles = [Line2D([], [], marker=shape, color=tint, markerfacecolor=fill, linewidth=1, markersize=4.5) for shape, tint, fill in kinds]
    share = f"p < {1 - comparisons[0].level:.2g}"
    labels = [f"better, {share} (Holm)", f"worse, {share} (Holm)", "not significant, or not tested"]
    level = {f"{100 * c.level:g} %" for c in comparisons}
    against = f"Difference of mean scores to {plain(baseline, 60)}" if baseline else "Difference of mean scores"
    headline(figure, title or against, simulated)
    over = "test videos alone (one seed says nothing of other seeds)" if all(len(c.seeds) < 2 for c in comparisons) else "seeds and test videos"
    how = f"{', '.join(sorted(level))} t intervals over {over}"
    reasons = dict.fromkeys(f"{plain(c.first, 40)} and {plain(c.second, 40)}: {c.reason}" for c in comparisons if c.reason)
    footer(figure, [f"{against}; {how}; p corrected (Holm) for all comparisons that were made together.", *reasons], handles, labels, 3)
    return figure


BETTER, WORSE = COLOURS[0], COLOURS[1]


def forest(axes: Axes, rows: Sequence[Comparison], baseline: str, narrow: bool) -> None:
    """The comparisons in one metric, the first at the top."""
    known = metric_of(rows[0].metric, METRICS)
    percent = known is not None and tuple(known.range) == (0, 1)
    factor = 100 if percent else 1
    for position, row in enumerate(rows):
        middle, low, high = (factor * value for value in (row.difference, row.low, row.high))
        tint, shape = (GREY, "o") if not row.significant or not row.better else (BETTER, "^") if row.better == row.first else (WORSE, "v")
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [position, position], color=tint, linewidth=1.2, solid_capstyle="butt")
        fill = "white" if tint == GREY else tint
        if math.isfinite(middle):
            axes.plot([middle], [position], shape, color=tint, markerfacecolor=fill, markersize=4.5)
        axes.text(1.01, position, written(row, factor, narrow), transform=axes.get_yaxis_transform(), va="center", fontsize=6, color=INK)
    if not any(math.isfinite(row.difference) for row in rows):
        says(axes, "no difference is a number")
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    size = 22 if narrow else 34
    names = [plain(row.first, size) if baseline else f"{plain(row.first, size)}\n- {plain(row.second, size)}" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    arrow = {True: "higher is better", False: "lower is better", None: ""}[rows[0].higher_is_better]
    axes.set_xlabel(f"Δ {plain(rows[0].metric, 30)}" + (", percentage points" if percent else "") + (f" ({arrow})" if arrow else ""))


def written(row: Comparison, factor: float, narrow: bool) -> str:
    """A difference with its interval and p value as text."""
    digits = 1 if factor == 100 else 3
    middle, low, high = (round(factor * value, digits) + 0.0 for value in (row.difference, row.low, row.high))  # no "-0.000"
    within = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if math.isfinite(low) and math.isfinite(high) else " (no interval)"
    p = row.p_holm
    chance = "" if math.isnan(p) or narrow else f"  p {p:.3f}" if p >= 0.001 else "  p < 0.001"
    return f"{middle:+.{digits}f}{within}{chance}" if math.isfinite(middle) else "n/a"
