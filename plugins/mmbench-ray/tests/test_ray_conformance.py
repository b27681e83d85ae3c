"""What every executor must keep to: mmbench's own conformance kit, on a cluster of its own."""

import pytest

from mmbench.testing import conformance_tests

pytest.importorskip("ray", reason="needs ray, which has no wheels for this Python")
pytest.importorskip("torch")

test_conformance = conformance_tests("mmbench-ray")
