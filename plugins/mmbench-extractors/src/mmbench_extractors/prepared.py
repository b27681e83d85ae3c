"""What extractors share whose `prepare` does all the work: the digest of their options, and a `forward` that hands on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from mmbench.batch import Sequence
from mmbench.interfaces import FeatureExtractor


class PreparedFeatures(FeatureExtractor):
    """`prepare` gives features (T, width) already. A subclass names itself and raises `version` with the rules by which it computes them."""

    component: str
    version: int = 1

    def facts(self) -> dict[str, Any]:
        """The options, and the digests of files, that change features."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in facts")

    def digest(self) -> str:
        """SHA-256 of the component, its version and `facts`."""
        facts = {"component": self.component, "version": self.version, "facts": self.facts()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def forward(self, raw: Sequence) -> Sequence:
        """Features (B, T, width) as they came; zero where the mask is False."""
        return Sequence(raw.values.masked_fill(~raw.mask.unsqueeze(-1), 0.0), raw.mask)
