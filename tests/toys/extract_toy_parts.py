"""The modules of the plugin for extraction."""

from __future__ import annotations

import os
import signal
import time

import torch

from mmbench.batch import Sequence
from mmbench.errors import DataError
from mmbench.interfaces import FeatureExtractor
from mmbench.media import MissingLibraryError


class Sound(FeatureExtractor):
    """(T, 2): each byte of the file and its square, times `scale`. Some contents make trouble."""

    suffixes = (".snd", ".mp4")
    width = 2
    frame_rate = 10.0

    def __init__(self, config):
        super().__init__(config)
        self.config = config

    def digest(self):
        return f"sound {self.config.scale}"

    def prepare(self, path_or_text):
        content = path_or_text.read_bytes()
        assert torch.get_num_threads() == 1
        time.sleep(float(os.environ.get("EXTRACT_TOYS_WAIT", "0")))
        if content.startswith(b"SEGV"):
            print("a native library has something to say", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if content.startswith(b"NO READER"):
            raise MissingLibraryError("videos need a reader: pip install reader")
        if content.startswith(b"BROKEN"):
            raise DataError(f"{path_or_text}: is damaged")
        return torch.tensor(list(content), dtype=torch.float32)

    def forward(self, raw: Sequence) -> Sequence:
        values = torch.stack([raw.values, raw.values**2], -1) * self.config.scale
        values = values.masked_fill(raw.values.unsqueeze(-1) == 255, float("nan"))
        return Sequence(values, raw.mask)


class Vector(FeatureExtractor):
    """(1, 3): the first three bytes of the file."""

    suffixes = (".bin", ".mp4")
    width = 3

    def digest(self):
        return "vector"

    def prepare(self, path_or_text):
        return torch.tensor([list(path_or_text.read_bytes()[:3])], dtype=torch.float32)

    def forward(self, raw: Sequence) -> Sequence:
        return raw


class Letters(FeatureExtractor):
    """(T + 2, 2): the code of each letter and its position, between two special tokens."""

    width = 2

    def __init__(self, config):
        super().__init__(config)
        self.config = config

    def digest(self):
        return f"letters {self.config.most}"

    def prepare(self, path_or_text):
        return torch.tensor([-1, *map(ord, path_or_text[: self.config.most]), -1])

    def spans(self, text):
        return [(0, 0), *((i, i + 1) for i in range(min(len(text), self.config.most))), (0, 0)] if self.config.spans else None

    def forward(self, raw: Sequence) -> Sequence:
        place = torch.arange(raw.values.shape[1]).expand(raw.values.shape)
        return Sequence(torch.stack([raw.values.float(), place.float()], -1), raw.mask)


class Ids(FeatureExtractor):
    """The code of each letter."""

    width = 1
    vocabulary = 256

    def digest(self):
        return "ids"

    def prepare(self, path_or_text):
        return torch.tensor([1, *map(ord, path_or_text), 2])

    def forward(self, raw: Sequence) -> Sequence:
        return Sequence(raw.values.unsqueeze(-1).float(), raw.mask)
