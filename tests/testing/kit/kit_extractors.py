"""Extractors that keep every contract, and ones that break one each."""

from __future__ import annotations

import re
import secrets
import wave

import numpy as np
import pytest
import torch
from torch import nn

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench.interfaces import FeatureExtractor


class Good(FeatureExtractor):
    """An embedding for each letter, and a linear layer."""

    vocabulary = 50

    def __init__(self, config):
        super().__init__(config)
        if config.finetune is None:
            raise ConfigError("the weights could not be had")
        self.width = 6
        self.table = nn.Embedding(self.vocabulary, self.width)
        self.layer = nn.Linear(self.width, self.width)
        self.requires_grad_(self.finetune)

    def digest(self):
        return f"{self.table.weight.sum().item()} {self.layer.weight.sum().item()}"

    def prepare(self, path_or_text):
        return torch.tensor([ord(letter) % self.vocabulary for letter in path_or_text])

    def spans(self, text):
        return [(i, i + 1) for i in range(len(text))]

    def change(self, values, mask):
        return values

    def forward(self, raw):
        values = self.change(self.layer(self.table(raw.values.masked_fill(~raw.mask, 0))), raw.mask)
        return Sequence(values.masked_fill(~raw.mask.unsqueeze(-1), 0.0), raw.mask)


class Waves(Good):
    """Ten samples make a frame; a sample too short for one keeps it."""

    vocabulary = 10
    suffixes = (".wav",)

    def prepare(self, path_or_text):
        with wave.open(str(path_or_text)) as file:
            return torch.frombuffer(bytearray(file.readframes(file.getnframes())), dtype=torch.int16) / 32768

    def forward(self, raw):
        frames = (raw.values * raw.mask).unfold(1, 10, 10)  # (B, T / 10, 10)
        lengths = (raw.mask.sum(1) // 10).clamp(min=1)
        mask = torch.arange(frames.shape[1], device=raw.mask.device) < lengths.unsqueeze(1)
        values = self.layer(frames @ self.table.weight)
        return Sequence(values.masked_fill(~mask.unsqueeze(-1), 0.0), mask)


class Images(Good):
    """Width 6: mean and spread of each colour."""

    suffixes = (".csv", ".avi")

    def prepare(self, path_or_text):
        av = pytest.importorskip("av")
        with av.open(str(path_or_text)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255  # (T, C, H, W)

    def forward(self, raw):
        values = raw.values.masked_fill(~raw.mask[:, :, None, None, None], 0.0).flatten(3)
        values = self.layer(torch.cat([values.mean(3), values.std(3)], 2) @ self.table.weight[:6])
        return Sequence(values.masked_fill(~raw.mask.unsqueeze(-1), 0.0), raw.mask)


class Ready(FeatureExtractor):
    """Features that `prepare` computes: six of each word, its letters, times a factor."""

    width = 6

    def __init__(self, config):
        super().__init__(config)
        self.config = config

    def digest(self):
        return f"ready {self.config.factor}"

    def prepare(self, path_or_text):
        return torch.tensor([[ord(letter) * self.config.factor for letter in f"{word:6.6}"] for word in path_or_text.split()])

    def spans(self, text):
        return [match.span() for match in re.finditer(r"\S+", text)]

    def forward(self, raw):
        return Sequence(raw.values.masked_fill(~raw.mask.unsqueeze(-1), 0.0), raw.mask)


class Ids(Good):
    """What gives token ids itself."""

    def forward(self, raw):
        raise AssertionError("nothing reads it")


class Table(Ready):
    """Reads what the kit cannot make."""

    suffixes = (".csv",)


class ShortSpans(Good):
    def spans(self, text):
        return [(0, 1)]


class NoExtractor(nn.Module):
    def __init__(self, config):
        super().__init__()


class WrongWidth(Good):
    def __init__(self, config):
        super().__init__(config)
        self.width += 1


class DirtyPadding(Good):
    def forward(self, raw):
        return Sequence(self.layer(self.table(raw.values.masked_fill(~raw.mask, 0))), raw.mask)


class ReadsPadding(Good):
    def forward(self, raw):
        found = super().forward(raw)
        seen = self.table(raw.values).mean(1, keepdim=True) * found.mask.unsqueeze(-1)
        return Sequence(found.values + seen, found.mask)


class ComparesSamples(Good):
    def change(self, values, mask):
        return values - values.mean(0)


class DividesByZero(Good):
    def forward(self, raw):
        found = super().forward(raw)
        return Sequence(found.values / found.mask.sum(1)[:, None, None], found.mask)


class LargeIds(Good):
    def prepare(self, path_or_text):
        return torch.tensor([ord(letter) for letter in path_or_text])


class Thawed(Good):
    def __init__(self, config):
        super().__init__(config)
        self.layer.requires_grad_(True)


class Drops(Good):
    def change(self, values, mask):
        return nn.functional.dropout(values, 0.5, self.training)


class Dead(Good):
    def __init__(self, config):
        super().__init__(config)
        self.unused = nn.Parameter(torch.zeros(2), requires_grad=self.finetune)


class OneDigest(Good):
    def digest(self):
        return "the same"


class NewDigest(Good):
    def digest(self):
        return secrets.token_hex()


class LosesState(Good):
    def state_dict(self, *args, **kwargs):
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "layer.bias" not in name}


class LosesDigits(Good):
    def change(self, values, mask):
        return (values + 1000.0) - 1000.0


class LeftBehind(Good):
    moved = False

    def to(self, *args, **kwargs):
        self.moved = True
        return super().to(*args, **kwargs)

    def change(self, values, mask):
        return values + float(self.moved)


def _local():
    class Hidden(Good):
        pass

    return Hidden


Local = _local()
