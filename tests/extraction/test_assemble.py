"""Arrays of the cache that cannot be read back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from mmbench.errors import DataError
from mmbench.extraction import assemble


def test_only_what_is_damaged_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of work do not go because too many files are open, or memory is short for an instant."""
    path = tmp_path / "clip.npy"
    path.write_bytes(assemble.packed(np.ones((3, 2), np.float32)))

    def short(*_: object, **__: object) -> None:
        raise MemoryError

    def busy(_: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", short)
        with pytest.raises(DataError, match=r"clip\.npy: cannot be read back \(it needs more memory than there is\); try again"):
            assemble.load(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", busy)
        with pytest.raises(DataError, match=r"clip\.npy: cannot be read back \(Too many open files\); try again"):
            assemble.load(path)
    np.testing.assert_array_equal(assemble.load(path), np.ones((3, 2)))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"its checksum is another.*it is removed"):
        assemble.load(path)
    assert not path.exists()
