"""What every tuner must keep to: mmbench's own conformance kit, once with each sampler."""

from mmbench.testing import conformance_tests

test_conformance = conformance_tests("mmbench-optuna")
test_conformance_random = conformance_tests("mmbench-optuna", configs={"tuner:optuna": {"sampler": "random", "seed": 3}})
test_conformance_grid = conformance_tests("mmbench-optuna", configs={"tuner:optuna": {"sampler": "grid"}})
