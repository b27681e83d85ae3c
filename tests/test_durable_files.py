"""What is written is on the disk before it has its name: a killed process does not show that, a machine that loses its power does."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.data.store import ARRAYS, DOCUMENT, column, open_or_build, write_store
from mmbench.files import write, write_sealed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the name of an open file is asked of /proc")
NAMES = ("best.pt", "result.json", DOCUMENT, ARRAYS)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced (a file by its final name, or a ``folder``) and what is renamed (``to NAME``), in their order."""
    taken: list[str] = []
    fsync = os.fsync

    def synced(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        taken.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else next(name for name in NAMES if name in path.name))
        fsync(handle)

    def noting(rename: Any) -> Any:
        def renamed(source: Any, target: Any, **options: Any) -> None:
            taken.append(f"to {Path(target).name}")
            rename(source, target, **options)

        return renamed

    monkeypatch.setattr(os, "fsync", synced)
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    return taken


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path: Path, steps: list[str]) -> None:
    write(tmp_path / "best.pt", lambda file: file.write(b"weights"))
    write_sealed(tmp_path / "result.json", {"status": "done"})
    assert steps == ["best.pt", "to best.pt", "folder", "result.json", "to result.json", "folder"]


def test_a_store_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mmbench.data.store._remember", lambda *_: None)
    open_or_build(tmp_path / "store", lambda folder: write_store(folder, {"train/target": column(np.zeros(4))}, dict))
    steps.remove("to old")  # whatever was there
    assert steps == [ARRAYS, DOCUMENT, f"to {DOCUMENT}", "folder", "to store", "folder"]
