"""Every component keeps the contracts of the core."""

from mmbench.testing import conformance_tests

test_conformance = conformance_tests("mmbench-baselines")
