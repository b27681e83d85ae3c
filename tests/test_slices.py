"""Encoders on slices of samples of like length: the features of the whole batch, in its order, and nothing that lengths do not say."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmbench.batch import Sequence  # noqa: E402
from mmbench.data.dataset import Modality, Split  # noqa: E402
from mmbench.layers import slice_sizes  # noqa: E402
from mmbench.training.slices import in_slices  # noqa: E402
from mmbench.training.tensors import TensorSplit, extent  # noqa: E402


class Mean(torch.nn.Module):
    """The embedding of each token plus the mean of its text: features that batch mates and padding do not change. Remembers what it was given."""

    packs = False

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(50, 3, dtype=torch.float64, generator=generator))
        self.seen = []

    def forward(self, raw):
        self.seen.append((tuple(raw.values.shape), raw.lengths))
        values = self.weight[raw.values] * raw.mask.unsqueeze(-1)
        mean = values.sum(1, keepdim=True) / raw.mask.sum(1).clamp(min=1)[:, None, None]
        return Sequence((values + mean) * raw.mask.unsqueeze(-1), raw.mask)


def batch(lengths, width):
    ids = torch.randint(0, 50, (len(lengths), width), generator=torch.Generator().manual_seed(1))
    return Sequence(ids, torch.arange(width) < torch.tensor(lengths)[:, None], tuple(lengths))


def least(lengths, overhead):
    """The least cost of all divisions into runs."""
    count = len(lengths)
    costs = []
    for chosen in itertools.product((False, True), repeat=count - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(chosen) if cut), count]
        costs.append(sum((end - start) * lengths[start] + overhead for start, end in itertools.pairwise(edges)))
    return min(costs)


@pytest.mark.parametrize("overhead", [0, 3, 20, 1000])
def test_slices_cost_least(overhead):
    generator = np.random.default_rng(overhead)
    for size in (1, 2, 7, 10):
        lengths = sorted(generator.integers(0, 40, size).tolist(), reverse=True)
        sizes = slice_sizes(lengths, overhead)
        assert sum(sizes) == size
        starts = np.cumsum([0, *sizes[:-1]])
        assert sum(n * lengths[start] + overhead for n, start in zip(sizes, starts, strict=True)) == least(lengths, overhead)


@pytest.mark.parametrize("lengths", [(40, 3, 4, 0, 39, 2, 4), (5,), (6, 6), (30, 0)])
def test_features_and_gradients_are_those_of_the_whole_batch(lengths):
    encoder, raw = Mean(), batch(lengths, max(lengths))
    found = in_slices(encoder, raw)
    computed = sum(rows * width for (rows, width), _ in encoder.seen)
    assert computed <= raw.values.numel()
    expected = encoder(Sequence(raw.values, raw.mask))
    torch.testing.assert_close(found.values, expected.values)
    assert torch.equal(found.mask, expected.mask)
    weight = torch.randn_like(expected.values)
    torch.testing.assert_close(*(torch.autograd.grad((x.values * weight).sum(), encoder.weight) for x in (found, expected)))


def test_slices_are_of_like_length_and_are_told_their_own():
    encoder = Mean()
    in_slices(encoder, batch((40, 3, 39, 2), 40))
    assert encoder.seen == [((2, 40), (40, 39)), ((2, 3), (3, 2))]


def test_one_piece_where_lengths_are_unknown_or_the_encoder_packs():
    encoder, raw = Mean(), batch((40, 3, 39, 2), 40)
    in_slices(encoder, Sequence(raw.values, raw.mask))
    encoder.packs = True
    in_slices(encoder, raw)
    assert encoder.seen == [((4, 40), None), ((4, 40), raw.lengths)]


def test_features_of_one_frame_come_back_in_order():
    class First(Mean):
        def forward(self, raw):
            found = super().forward(raw)
            return Sequence(found.values[:, :1], found.mask[:, :1])

    encoder, raw = First(), batch((2, 40, 3, 0, 39), 40)
    found = in_slices(encoder, raw)
    assert len(encoder.seen) == 2
    expected = encoder(Sequence(raw.values, raw.mask))
    torch.testing.assert_close(found.values, expected.values)
    assert torch.equal(found.mask, expected.mask)


def test_batches_know_the_lengths_of_token_ids_without_holes():
    lengths = np.array([4, 0, 2])
    mask = np.arange(5) < lengths[:, None]
    holes = mask.copy()
    holes[0, 1] = False
    ids = np.ones((3, 5), np.int64)
    inputs = {
        "text": Modality(ids, mask),
        "holes": Modality(ids, holes),
        "audio": Modality(np.ones((3, 5), np.float32), mask),
        "vision": Modality(np.ones((3, 5, 2), np.float32), mask),
    }
    split = TensorSplit(Split(("a", "b", "c"), inputs, np.zeros(3, np.float32)), torch.device("cpu"))
    found = split.batch(torch.tensor([2, 1])).inputs
    assert found["text"].lengths == (2, 0)
    assert found["text"].values.shape == (2, 2)
    assert split.lengths.tolist() == (lengths + extent(holes)).tolist()  # of token ids alone
    assert [found[name].lengths for name in ("holes", "audio", "vision")] == [None] * 3
    assert split.batch(torch.tensor([2, 1]), fixed=True).inputs["text"].lengths is None
