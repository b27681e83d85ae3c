"""The pickle of the MMSA toolkit: a dict for each of train, valid and test. Other spellings of it, `CH-SIMS v2` among them, are read as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmbench.data import pickles
from mmbench.data.manifest import SPLITS, Manifest

LABELS = {"regression_labels", "classification_labels"}


class MmsaFormat:
    """`mmbench.data.content` describes the schema; what the file holds is that schema already."""

    version = 1

    def recognises(self, path: Path) -> bool:
        """A pickled dict of splits with labels under the names that MMSA gives them."""
        content = pickles.peek(path)
        parts = [content.get(name) for name in SPLITS] if isinstance(content, dict) else []
        return any(isinstance(part, dict) and LABELS & part.keys() for part in parts)

    def sources(self, path: Path) -> list[Path]:
        """The file."""
        return [path]

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """The content of the file."""
        content: Mapping[str, Any] = pickles.load(path)
        return content
