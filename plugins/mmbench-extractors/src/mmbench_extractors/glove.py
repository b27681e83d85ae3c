"""`glove`: the words of a transcript to vectors of a file that the user names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import ConfigError
from mmbench_extractors.options_text import GloveConfig
from mmbench_extractors.prepared import PreparedFeatures
from mmbench_extractors.vectors import WordVectors

EDGES = re.compile(r"^[\W_]+|[\W_]+$")
CONTRACTION = re.compile(r"(?<=\w)(?=(?:n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))$)", re.IGNORECASE)
"""Where the Penn Treebank, whose words GloVe knows, cuts ``don't`` and ``it's`` in two."""


class Glove(PreparedFeatures):
    """GloVe, or any vectors in its format: a vector for each word, of zeros for an unknown one. Words are what white space separates.

    Each is looked up as it stands, then without the punctuation around it, then as the two parts of a contraction (a frame each). A transcript
    without a word has one frame of zeros. The file is read once; its words and numbers are kept in mmbench's cache folder.
    """

    component = "glove"

    def __init__(self, config: GloveConfig):
        super().__init__(config)
        self.config = config
        path = Path(config.vectors).expanduser()
        if not path.is_file():
            raise ConfigError(f"glove: vectors: {config.vectors!r}: no such file; name the file of vectors, such as glove.840B.300d.txt")
        self.words = WordVectors(path)
        self.width = self.words.width

    def facts(self) -> dict[str, Any]:
        """The vectors, and whether words are made small."""
        return {"vectors": self.words.digest, "lower": self.config.lower}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A transcript as (T, width) float32."""
        rows = [row for _, _, row in self._frames(str(path_or_text))]
        found = np.zeros((len(rows), self.width), np.float32)
        for frame, row in enumerate(rows):
            if row is not None:
                found[frame] = self.words.vectors[row]
        return torch.from_numpy(found)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The characters of each word, without the punctuation around it where it is known without."""
        return [(start, end) for start, end, _ in self._frames(text)]

    def _frames(self, text: str) -> list[tuple[int, int, int | None]]:
        """First character, last and row in the file of each frame."""
        found = [frame for match in re.finditer(r"\S+", text) for frame in self._word(text, *match.span())]
        return found or [(0, 0, None)]

    def _word(self, text: str, start: int, end: int) -> list[tuple[int, int, int | None]]:
        row = self._find(text[start:end])
        bare = EDGES.sub("", text[start:end])
        if row is not None or not bare:
            return [(start, end, row)]
        start += text[start:end].index(bare)
        end = start + len(bare)
        row, cut = self._find(bare), CONTRACTION.search(bare)
        if row is not None or cut is None:
            return [(start, end, row)]
        middle = start + cut.start()
        return [(start, middle, self._find(text[start:middle])), (middle, end, self._find(text[middle:end]))]

    def _find(self, word: str) -> int | None:
        return self.words.find((word.lower() if self.config.lower else word).replace("\u2019", "'"))
