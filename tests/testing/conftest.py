"""The catalogue of the plugin that breaks the contracts, and what the kit says of a check."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mmbench.plugins import GROUP, build
from mmbench.testing import conformance_tests

KIT = Path(__file__).parent / "kit"


class Distribution:
    def __init__(self, name: str):
        self.name, self.version = name, "1.0"


@pytest.fixture(scope="session")
def broken():
    """The catalogue of the core and of distributions whose components, or whose entry modules, break the contracts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(KIT))
        points = [
            ("mmbench", "mmbench.builtin"),
            ("kit", "kit_plugin"),
            ("heavy", "kit_heavy"),
            ("absent", "kit_absent"),
            ("empty", "kit_rest"),
            ("details", "kit_details_plugin"),
        ]
        yield build(EntryPoint(name, module, GROUP)._for(Distribution(name)) for name, module in points)


@pytest.fixture(scope="session")
def verdict(broken):
    """What pytest would say of one check, and why: ``verdict("kit", "model:good:fields")``. The tests of a distribution are made once."""
    made = {}

    def of(distribution: str, key: str, **options):
        name = distribution, str(options)
        if name not in made:
            made[name] = conformance_tests(distribution, catalogue=broken, **options)
        (mark,) = made[name].pytestmark
        case = next(case for case in mark.args[1] if case.key == key)
        try:
            made[name](case)
        except pytest.skip.Exception as error:
            return "skipped", str(error)
        except pytest.xfail.Exception as error:
            return "expected", str(error)
        except pytest.fail.Exception as error:
            return "failed", str(error)
        return "passed", ""

    return of
