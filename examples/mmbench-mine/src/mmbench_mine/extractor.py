import torch

from mmbench.batch import Sequence
from mmbench.interfaces import FeatureExtractor


class Words(FeatureExtractor):
    """A transcript -> (T, 3): letters, capitals and vowels of each of its words."""

    width = 3

    def __init__(self, config):
        super().__init__(config)
        self.most = config.most

    def digest(self):
        return f"words 1, {self.most}"  # another number for other features: the cache trusts it

    def prepare(self, path_or_text):
        words = str(path_or_text).split()[: self.most] or [""]
        rows = [(len(word), sum(map(str.isupper, word)), sum(letter in "aeiou" for letter in word.lower())) for word in words]
        return torch.tensor(rows, dtype=torch.float32)

    def forward(self, raw):
        return Sequence(raw.values.masked_fill(~raw.mask.unsqueeze(-1), 0.0), raw.mask)  # what stands in padding changes nothing
