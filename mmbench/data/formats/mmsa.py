"""The pickle of the MMSA toolkit and of all that descends from it: a dict for each of train, valid and test.

Its spellings in the wild: MOSI and MOSEI (aligned_50.pkl, unaligned_50.pkl), CH-SIMS (unaligned_39.pkl), CH-SIMS v2 (unaligned.pkl,
sims_unaligned.pkl, SimsLargeV6.pkl, CHSims_aligned2.pkl, ch-simsv2s.pkl) and what MMSA-FET writes. They differ in the name of the validation split,
in the names of labels and transcripts, in types, and in which keys there are. Sources: the loaders of github.com/thuiar/MMSA, /MMSA-FET, /ch-sims-v2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmbench.data import pickles
from mmbench.data.manifest import Manifest

LABELS = {"regression_labels", "regression_labels_M", "classification_labels"}
_SPLITS = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}
_KEYS = {"regression_labels": "regression_labels_M", "raw_text": "text_raw"}
"""Other names of keys, which count where the usual one is missing."""


class MmsaFormat:
    """`mmbench.data.content` describes the schema; what the file holds is that schema, but for a few names."""

    version = 1

    def recognises(self, path: Path) -> bool:
        """A pickled dict of splits with labels under the names that MMSA gives them."""
        content = pickles.peek(path)
        parts = [content.get(name) for names in _SPLITS.values() for name in names] if isinstance(content, dict) else []
        return any(isinstance(part, dict) and LABELS & part.keys() for part in parts)

    def sources(self, path: Path) -> list[Path]:
        """The file."""
        return [path]

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """The content of the file under the usual names. Further splits, such as train_mix of CH-SIMS v2, stay and are listed as not read."""
        content = pickles.load(path)
        if not isinstance(content, dict):
            return content  # type: ignore[no-any-return]  # the checks of the schema say what it is
        for split, names in _SPLITS.items():
            name = next((name for name in names if isinstance(content.get(name), dict)), split)
            if name in content:
                content[split] = _renamed(content[name]) if isinstance(content[name], dict) else content[name]
            if name != split:
                del content[name]
        return content


def _renamed(part: Mapping[str, Any]) -> dict[str, Any]:
    other = {name: usual for usual, name in _KEYS.items() if part.get(usual) is None}
    return {other.get(key, key): value for key, value in part.items() if value is not None}
