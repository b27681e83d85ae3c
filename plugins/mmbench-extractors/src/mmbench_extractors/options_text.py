"""Options of the text extractors that have no pretrained network. Imports no torch."""

from __future__ import annotations

from mmbench import ComponentConfig
from mmbench_extractors.config import option


class GloveConfig(ComponentConfig):
    """Word vectors of a file that the user has."""

    vectors: str = option(
        ...,
        "the file of vectors, plain or .gz: a word and its numbers on each line, as glove.840B.300d.txt (Stanford) and fastText's .vec have them",
        "no default",
        min_length=1,
    )
    lower: bool = option(True, "look words up in small letters; false for transcripts whose case is right and vectors that know case (840B)")


class HFTokensConfig(ComponentConfig):
    """A tokenizer without its network."""

    model: str = option(..., "name on the Hugging Face hub, or a local folder with the tokenizer's files", "no default", min_length=1)
    max_tokens: int = option(
        96, "a transcript is cut to this many tokens, special ones included", "MMML (Wu et al. 2024), English; 64 for CH-SIMS", ge=2
    )
