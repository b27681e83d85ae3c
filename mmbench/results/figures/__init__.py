"""Figures of runs as matplotlib `Figure` objects, without pyplot's state: each function draws one kind, `save` writes SVG and PNG, `svg` inlines.

Needs the extra ``report``; importing this package without matplotlib is a `ConfigError` that says how to install it.
"""

from mmbench.results.figures.canvas import save, svg
from mmbench.results.figures.classes import confusion, per_class
from mmbench.results.figures.configurations import configurations
from mmbench.results.figures.learning import curves
from mmbench.results.figures.overview import Point, bubble, intervals
from mmbench.results.figures.projection import pairs, tsne
from mmbench.results.figures.sweeps import heatmap

__all__ = ["Point", "bubble", "configurations", "confusion", "curves", "heatmap", "intervals", "pairs", "per_class", "save", "svg", "tsne"]
