"""Documents come back as they were written, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbench.files import DIGEST, read_json, write_json, write_sealed

VALUES = {
    "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 123456789.12345679],
    "integers": [0, -1, 2**53 + 1, 10**23, -(2**63)],
    "texts": ["ü", "\u2028", "\x7f", "\U0001f600", "half a pair: \udcff"],
    "keys": {"é": 1, "b": {"z": None, "a": True}, "": []},
}


@pytest.mark.parametrize("name", VALUES)
def test_a_sealed_document_is_believed(tmp_path: Path, name: str) -> None:
    write_sealed(tmp_path / "a.json", {name: VALUES[name]})
    found = read_json(tmp_path / "a.json")
    assert found.pop(DIGEST)
    assert found == {name: VALUES[name]}
    write_json(tmp_path / "b.json", {name: VALUES[name]})
    assert read_json(tmp_path / "b.json") == {name: VALUES[name]}


def test_integers_that_are_read_as_floats_are_sealed_so(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", {"count": 10**30, "least": -(10**30), "lost": float("nan")})
    found = read_json(tmp_path / "a.json")
    assert found.pop(DIGEST)
    assert found == {"count": 1e30, "least": -1e30, "lost": None}
