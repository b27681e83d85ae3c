"""What a plugin's author runs on her own plugin. ``mmbench test`` runs the same checks from the command line.

A plugin's whole conformance test file::

    from mmbench.testing import conformance_tests

    test_conformance = conformance_tests("mmbench-mine", configs={"model:mine": {"width": 8}})

`make_inputs` and `make_batch` are small data for an author's own tests. Importing this package imports neither torch nor pytest.
"""

from __future__ import annotations

from mmbench.testing.factories import make_batch, make_inputs
from mmbench.testing.run import conformance_tests

__all__ = ["conformance_tests", "make_batch", "make_inputs"]
