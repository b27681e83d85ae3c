import numpy as np

from mmbench import Metric


def sign(prediction, target):
    """(N,), (N,) -> a number in [0, 1]; NaN without samples."""
    return float(np.mean((prediction > 0) == (target > 0))) if target.size else float("nan")


SIGN = Metric("mine_sign", sign, higher_is_better=True, range=(0.0, 1.0), tasks=("regression",), summary="share of right signs")
