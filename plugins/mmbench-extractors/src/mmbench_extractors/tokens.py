"""`hf-text-tokens`: a transcript to the ids of a Hugging Face tokenizer, and what `hf-text` shares with it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmbench.batch import Sequence
from mmbench.interfaces import FeatureExtractor
from mmbench_extractors.loading import Source, import_transformers
from mmbench_extractors.options_text import HFTokensConfig

PROBE = "I've SEEN the café, naïve: 3.5 % off! 今天天气很好。"
"""What tells two tokenizers of one vocabulary apart: case, accents, digits, punctuation, Chinese."""


class HFTextTokens(FeatureExtractor):
    """The tokenizer of a pretrained text encoder alone: for stores whose text an encoder inside the training loop reads.

    `vocabulary` is one more than its largest id. It serves ``mmbench extract``, which calls `prepare` alone.
    """

    component = "hf-text-tokens"
    width = 1

    def __init__(self, config: HFTokensConfig):
        super().__init__(config)
        self.config = config
        self.tokenizer = load_tokenizer(Source(self.component, config.model))
        self.vocabulary: int = max(self.tokenizer.get_vocab().values()) + 1

    def digest(self) -> str:
        """SHA-256 of what the tokenizer does, and of the length."""
        return hashlib.sha256(f"{self.component} {tokenizer_facts(self.tokenizer)} {self.config.max_tokens}".encode()).hexdigest()

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A text as token ids (T,), special tokens included, 1 <= T <= `max_tokens`."""
        return ids_of(self.tokenizer, str(path_or_text), self.config.max_tokens)

    def spans(self, text: str) -> list[tuple[int, int]] | None:
        """The characters of each token, (0, 0) for a special one; None where the tokenizer does not tell."""
        return spans_of(self.tokenizer, text, self.config.max_tokens)

    def forward(self, raw: Sequence) -> Sequence:
        """Ids (B, T) come back as they are: they are what is stored."""
        return raw


def load_tokenizer(source: Source) -> Any:
    """The tokenizer of a model. ConfigError: it cannot be had."""
    return source.load(import_transformers().AutoTokenizer, _check_tokenizer)


def ids_of(tokenizer: Any, text: str, most: int) -> Tensor:
    """Token ids (T,), T <= `most`, special ones included; a padding id where a tokenizer without special ones finds nothing."""
    found = tokenizer(text, truncation=True, max_length=most)["input_ids"]
    return torch.tensor(found or [tokenizer.pad_token_id or 0], dtype=torch.long)


def spans_of(tokenizer: Any, text: str, most: int) -> list[tuple[int, int]] | None:
    """The characters [start, end) of each of those tokens; None where the tokenizer is a slow one, which does not know."""
    if not tokenizer.is_fast:
        return None
    found = tokenizer(text, truncation=True, max_length=most, return_offsets_mapping=True)["offset_mapping"]
    return [(int(start), int(end)) for start, end in found] or [(0, 0)]


def tokenizer_facts(tokenizer: Any) -> list[Any]:
    """What identifies a tokenizer: its vocabulary, and what it makes of a probe."""
    vocabulary = "\n".join(f"{number} {token}" for token, number in sorted(tokenizer.get_vocab().items()))
    return [hashlib.sha256(vocabulary.encode()).hexdigest(), tokenizer(PROBE)["input_ids"]]


def _check_tokenizer(tokenizer: Any) -> None:
    """transformers makes up an empty tokenizer where a folder holds none."""
    if set(tokenizer(PROBE)["input_ids"]) <= set(tokenizer.all_special_ids):
        raise ValueError("no tokenizer: every word is unknown to the one that it makes up")
