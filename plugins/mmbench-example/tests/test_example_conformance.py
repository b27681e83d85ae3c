"""What every component of a plugin must keep to: mmbench's own conformance kit."""

import numpy as np

from mmbench.testing import conformance_tests


def slow_near(prediction: np.ndarray, target: np.ndarray) -> float:
    hits = [abs(float(p) - float(y)) <= 0.5 for p, y in zip(prediction, target, strict=True)]
    return sum(hits) / len(hits)


test_conformance = conformance_tests("mmbench-example", references={"example_near": slow_near})
