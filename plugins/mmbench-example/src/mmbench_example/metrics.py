"""`example_near`: how many predictions are within half a point of the label. Imports no torch."""

from __future__ import annotations

import numpy as np

from mmbench import Metric


def near(prediction: np.ndarray, target: np.ndarray) -> float:
    """Share of samples with |p - y| <= 0.5: (N,), (N,) -> a number in [0, 1]; NaN without samples."""
    return float(np.mean(np.abs(prediction - target) <= 0.5)) if target.size else float("nan")


NEAR = Metric("example_near", near, higher_is_better=True, range=(0.0, 1.0), tasks=("regression",), summary="share of predictions within 0.5")
