"""`example_bytes`: raw text to features without anything to download: an embedding for each byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.interfaces import FeatureExtractor
from mmbench_example.config import ExampleBytesConfig


class ExampleBytes(FeatureExtractor):
    """UTF-8 bytes (B, T) -> embeddings (B, T, width). Not pretrained: random with a fixed seed, the same in every process."""

    vocabulary = 256

    def __init__(self, config: ExampleBytesConfig):
        super().__init__(config)
        self.width, self.max_tokens = config.width, config.max_tokens
        table = torch.randn(self.vocabulary, config.width, generator=torch.Generator().manual_seed(0))
        self.embedding = nn.Parameter(table, requires_grad=config.finetune)

    def digest(self) -> str:
        """Of the table and of the length, which together say what the features are."""
        table = hashlib.sha256(self.embedding.detach().cpu().numpy().tobytes())
        return f"bytes {table.hexdigest()}, {self.max_tokens}"

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A text -> its first bytes (T,), T <= `max_tokens`."""
        return torch.tensor(list(str(path_or_text).encode()[: self.max_tokens]), dtype=torch.long)

    def forward(self, raw: Sequence) -> Sequence:
        """Ids (B, T) with their mask -> features (B, T, width), zero where the mask is False."""
        values = nn.functional.embedding(raw.values.masked_fill(~raw.mask, 0), self.embedding)
        return Sequence(values * raw.mask.unsqueeze(-1), raw.mask)
