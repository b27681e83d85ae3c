"""What every tracker must keep to: mmbench's own conformance kit."""

import pytest

from mmbench.testing import conformance_tests


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """Nobody's own server is written to."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


test_conformance = conformance_tests("mmbench-trackers")
