"""The same targets guided by coverage: ``python tests/reliability/fuzz_with_atheris.py "pickles, by grammar" -max_total_time=120``.

atheris (``pip install atheris``; Linux, for some versions of Python alone) is no dependency of this project. Without a name it lists the targets;
what stands behind the name goes to libFuzzer. An input that fails is written to ``crash-*`` and shown as the example that it makes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
with atheris.instrument_imports(include=["mmbench"]):
    from reliability import fuzz_targets_beyond  # noqa: F401  (joins the table)
    from reliability.fuzz_targets import TARGETS

from hypothesis import given, settings

from reliability.test_fuzzing import ALL, tried


def main(arguments: list[str]) -> None:
    """Fuzz one target until libFuzzer ends."""
    if not arguments or arguments[0] not in TARGETS:
        sys.exit("\n".join(["name a target:", *TARGETS]))
    target = TARGETS[arguments[0]]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MMBENCH_CACHE"] = str(Path(folder) / "cache")

        def once(value: object) -> None:
            tried(target, value, Path(folder) / "scratch")

        test = settings(database=None, deadline=None, suppress_health_check=ALL)(given(target.feed())(once))
        atheris.Setup([sys.argv[0], *arguments[1:]], test.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
