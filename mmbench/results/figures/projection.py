"""Features of the test samples in the plane by t-SNE: coloured by sentiment or class (SLaD, Figure 5), and as pairs of two modalities
with the gap between them (DecAlign, Figure 4 e-h).

t-SNE is scikit-learn's with a fixed seed, PCA initialisation and perplexity min(30, (N - 1) / 3). Distances between groups and the sizes of
groups mean little in such a picture; the modality gap is computed on the features themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbench.errors import ConfigError, DataError
from mmbench.installing import how_to_install
from mmbench.results.figures.canvas import COLOURS, FAINT, INK, MARKERS, footer, headline, panels, plain, style, wrapped

SEED = 20260
MOST, LEAST = 1000, 5
"""Points of a panel: more are thinned out, fewer have no neighbourhoods."""
PANELS = 12


def embedded(features: np.ndarray, name: str) -> np.ndarray:
    """The t-SNE (N, 2) of features (N, D).

    Raises:
        DataError: for values that are not finite, or features that are all equal.
    """
    if not np.isfinite(features).all():
        raise DataError(f"{name}: features hold NaN or infinite values; the run cannot be drawn")
    if np.ptp(features, axis=0).max() == 0:
        raise DataError(f"{name}: the features of all samples are equal, so that t-SNE has nothing to show")
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ConfigError(f"t-SNE needs scikit-learn, which is not installed: {how_to_install('mmbench[report]')}") from None
    if features.shape[1] == 1:
        features = np.hstack([features, np.zeros_like(features)])  # PCA needs two columns to begin with
    perplexity = min(30.0, (len(features) - 1) / 3)
    with warnings.catch_warnings(), threadpool_limits(1):  # one thread: the sums have one order, and busy machines are not waited for
        warnings.simplefilter("ignore")
        return TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(features.astype(np.float64))  # (N, 2)


def subset(size: int, most: int) -> np.ndarray:
    """Which samples are drawn: all, or a random but fixed choice of `most`, in their order."""
    return np.arange(size) if size <= most else np.sort(np.random.default_rng(SEED).choice(size, most, replace=False))


def table(name: str, features: np.ndarray) -> np.ndarray:
    """Features as (N, D) numbers of at least five samples, or a `DataError`."""
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[1] < 1 or not np.issubdtype(features.dtype, np.number):
        raise DataError(f"{name}: features have the shape {features.shape} and type {features.dtype}, but must be numbers (samples, width)")
    if len(features) < LEAST:
        raise DataError(f"{name}: t-SNE needs at least {LEAST} samples, and there are {len(features)}")
    return features.astype(np.float64)


def checked(count: int) -> None:
    """Refuse no panel, and more than a page holds."""
    if not 1 <= count <= PANELS:
        raise ConfigError(f"a figure has 1 to {PANELS} panels, not {count}; choose some with --rows")


@style()
def tsne(
    panels_by_name: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str] = (), title: str = "", simulated: bool = False
) -> Figure:
    """Features (N, D) of each panel in the plane, coloured by their labels (N,): integers are classes (`classes` names them), floats intensities.

    Raises:
        ConfigError: where scikit-learn is missing, or for too many panels.
        DataError: for features that cannot be drawn.
    """
    checked(len(panels_by_name))
    labels = {name: np.asarray(label) for name, (_, label) in panels_by_name.items()}
    classified = bool(classes) or all(np.issubdtype(label.dtype, np.integer) for label in labels.values())
    figure, axes = panels(len(panels_by_name), 3, (2.4, 2.3))
    limit = max((float(np.abs(label).max()) for label in labels.values() if len(label)), default=1.0) or 1.0
    used: set[int] = set()
    fewer: dict[str, list[str]] = {}
    for place, (name, (features, _)) in zip(axes, panels_by_name.items(), strict=True):
        label = labels[name]
        features = table(name, features)
        if label.shape != features.shape[:1] or not np.isfinite(label).all():
            raise DataError(f"{name}: {len(features)} samples need as many finite labels, not {label.shape}")
        kept = subset(len(features), MOST)
        points = embedded(features[kept], name)
        if len(kept) < len(features):
            fewer.setdefault(f"{len(kept)} of {len(features)} samples", []).append(name)
        if classified:
            used |= by_class(place, points, label[kept].astype(int))
        else:
            image = by_intensity(place, points, label[kept], limit)
        framed(place, name)
    if classified:
        names = {index: plain(classes[index], 24) if 0 <= index < len(classes) else str(index) for index in sorted(used)}
        handles = [Line2D([], [], linestyle="", marker=marker(index), color=colour(index), markersize=4) for index in names]
        footer(figure, thinned(fewer), handles, list(names.values()), 8)
    else:
        figure.colorbar(image, ax=axes, label="true sentiment", fraction=0.03, pad=0.01, aspect=30)
        handles = [Line2D([], [], linestyle="", marker=shape, color="#808080", markersize=4) for shape in SIGNS.values()]
        footer(figure, thinned(fewer), handles, list(SIGNS))
    headline(figure, title, simulated)
    return figure


def thinned(fewer: Mapping[str, Sequence[str]]) -> list[str]:
    """What is not drawn of which panels."""
    return [f"Drawn at random, the same on every machine: {what} ({', '.join(plain(name, 30) for name in names)})." for what, names in fewer.items()]


SIGNS = {"negative": "v", "neutral (0)": "o", "positive": "^"}


def marker(index: int) -> str:
    """The marker of a class."""
    return MARKERS[index % len(MARKERS)]


def colour(index: int) -> str:
    """The colour of a class."""
    return COLOURS[index % len(COLOURS)]


def by_class(axes: Axes, points: np.ndarray, labels: np.ndarray) -> set[int]:
    """Points (N, 2), each class with its marker and colour; the classes that occur."""
    found = {int(label) for label in np.unique(labels)}
    for index in sorted(found):
        own = points[labels == index]
        axes.scatter(own[:, 0], own[:, 1], s=9, marker=marker(index), c=colour(index), linewidths=0.2, edgecolors="white", alpha=0.85)
    return found


def by_intensity(axes: Axes, points: np.ndarray, labels: np.ndarray, limit: float):  # type: ignore[no-untyped-def]
    """Points (N, 2) coloured from -limit to limit, markers by sign; returns what a colour bar is made of."""
    image = None
    for shape, own in zip(SIGNS.values(), (labels < 0, labels == 0, labels > 0), strict=True):
        x, y = points[own].T
        image = axes.scatter(
            x, y, s=10, marker=shape, c=labels[own], cmap="PuOr_r", vmin=-limit, vmax=limit, linewidths=0.25, edgecolors="#606060", alpha=0.9
        )
    return image


def framed(axes: Axes, name: str) -> None:
    """A panel without ticks, since the axes of a t-SNE have no unit."""
    axes.set_title(wrapped(name, 34))
    axes.set_xticks([])
    axes.set_yticks([])
    for edge in axes.spines.values():
        edge.set_visible(True)
        edge.set_color(FAINT)


def gap(first: np.ndarray, second: np.ndarray) -> float:
    """Distance between the centroids of two modalities' L2-normalised features (N, D): ||mean_i a_i/|a_i| - mean_i b_i/|b_i|||_2.

    From 0 to 2. Source: Liang et al., Mind the gap, 2022, section 2.
    """
    from mmbench.results.embeddings import modality_gap

    return float(modality_gap(first, second))


@style()
def pairs(
    panels_by_name: Mapping[str, tuple[np.ndarray, np.ndarray]],
    names: tuple[str, str] = ("text", "vision"),
    title: str = "",
    simulated: bool = False,
) -> Figure:
    """Two modalities' features (N, D) of the same samples in one t-SNE, a line joining each pair; the title has the modality gap of the features.

    Raises:
        ConfigError: where scikit-learn is missing, or for too many panels.
        DataError: for features that cannot be drawn, or that do not pair.
    """
    checked(len(panels_by_name))
    figure, axes = panels(len(panels_by_name), 3, (2.4, 2.4))
    fewer: dict[str, list[str]] = {}
    for place, (name, (one, other)) in zip(axes, panels_by_name.items(), strict=True):
        first, second = table(name, one), table(name, other)
        if first.shape != second.shape:
            raise DataError(f"{name}: {names[0]} features {first.shape} and {names[1]} features {second.shape} are no pairs of one width")
        kept = subset(len(first), MOST // 2)
        points = embedded(np.concatenate([first[kept], second[kept]]), name)  # (2 K, 2)
        left, right = points[: len(kept)], points[len(kept) :]
        place.add_collection(LineCollection(list(np.stack([left, right], 1)), colors="#b0b0b0", linewidths=0.3, alpha=0.6, zorder=1))
        place.scatter(left[:, 0], left[:, 1], s=8, marker="o", c=COLOURS[0], linewidths=0, alpha=0.85, zorder=2)
        place.scatter(right[:, 0], right[:, 1], s=9, marker="^", c=COLOURS[1], linewidths=0, alpha=0.85, zorder=2)
        framed(place, name)
        place.set_title(f"{wrapped(name, 34)}\nmodality gap {gap(first, second):.3f}", color=INK)
        if len(kept) < len(first):
            fewer.setdefault(f"{len(kept)} of {len(first)} pairs", []).append(name)
    handles = [Line2D([], [], linestyle="", marker=shape, color=tint, markersize=4) for shape, tint in (("o", COLOURS[0]), ("^", COLOURS[1]))]
    headline(figure, title, simulated)
    what = "Modality gap: distance of the centroids of the L2-normalised features, before t-SNE (Liang et al., 2022)."
    footer(figure, [what, *thinned(fewer)], handles, names)
    return figure
