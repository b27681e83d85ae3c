"""Every component keeps the contracts of the core."""

from mmbench.testing import conformance_tests

test_conformance = conformance_tests(
    "mmbench-baselines",
    configs={
        "model:mult": {"width": 8, "heads": 2, "layers": 1},
        "model:tfn": {"hidden": 8, "text_width": 4, "fusion_width": 8},
    },
)
