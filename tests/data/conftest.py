"""Fixtures of the data tests: a cache of their own, a small file, and a writer of such files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmbench import strict_yaml
from mmbench.config import DataConfig

from .samples import make_content, make_manifest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MMBENCH_DATA", raising=False)


@pytest.fixture
def content() -> dict[str, Any]:
    return make_content()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., DataConfig]:
    """Writes a pickle and a manifest (of `published`, else of the content itself), and returns the config that names both."""

    def write(
        content: Any, published: dict[str, Any] | None = None, manifest: dict[str, Any] | None = None, name: str = "file.pkl", **options: Any
    ) -> DataConfig:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content, protocol=4))
        description = tmp_path / "tiny.yaml"
        description.write_text(strict_yaml.dump(make_manifest(published or content, **(manifest or {}))))
        return DataConfig(name=str(description), path=str(path), **options)

    return write
