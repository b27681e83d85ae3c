"""Models on slices of samples of like length: what the whole batch gives, in its order, values and gradients."""

import pytest

torch = pytest.importorskip("torch")

from mmbench.batch import Sequence  # noqa: E402
from mmbench.layers import attention, by_length, ragged  # noqa: E402


class Reader(torch.nn.Module):
    """Attention from the first sequence to all frames of all, then the masked mean of it. Remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4, dtype=torch.float64)
        self.seen = []

    def forward(self, sequences):
        self.seen.append([tuple(x.values.shape[:2]) for x in sequences])
        frames = self.linear(torch.cat([x.values for x in sequences], 1))
        mask = torch.cat([x.mask for x in sequences], 1)
        allowed = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        attended = attention(self.linear(sequences[0].values)[:, None], frames[:, None], frames[:, None], allowed, 0.0)
        return Sequence(attended.squeeze(1), sequences[0].mask).mean()


def sequence(lengths, frames, seed=0):
    values = torch.randn(len(lengths), frames, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Sequence(values.requires_grad_(), torch.arange(frames) < torch.tensor(lengths)[:, None])


def holes(x):
    mask = x.mask.clone()
    mask[:, 1::3] = False
    return Sequence(x.values, mask)


CASES = {
    "ragged": [sequence((2, 9, 1, 8, 3), 9), sequence((3, 12, 2, 11, 1), 12, 1)],
    "holes": [holes(sequence((2, 9, 1, 8, 3), 9)), sequence((3, 12, 2, 11, 1), 12, 1)],
    "one sample": [sequence((4,), 6), sequence((2,), 3, 1)],
    "an empty sequence": [sequence((5, 1, 9, 2), 9), sequence((0, 0, 0, 0), 7, 1)],
    "empty samples": [sequence((0, 9, 0, 2), 9), sequence((0, 7, 3, 0), 7, 1)],
    "equal lengths": [sequence((6, 6, 6), 6), sequence((6, 6, 6), 6, 1)],
    "one frame": [sequence((1, 1, 0), 1), sequence((1, 8, 2), 8, 1)],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("overhead", [0.0, 10.0])
def test_values_and_gradients_are_those_of_the_whole_batch(case, overhead, monkeypatch):
    monkeypatch.setattr(ragged, "OVERHEAD", overhead)
    reader, sequences = Reader(), CASES[case]
    found, expected = by_length(reader, sequences), reader(sequences)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    leaves = [*reader.parameters(), *(x.values for x in sequences)]
    for one, other in zip(*(torch.autograd.grad((x * weight).sum(), leaves) for x in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_each_slice_is_cut_after_its_longest_samples(monkeypatch):
    monkeypatch.setattr(ragged, "OVERHEAD", 10.0)
    reader = Reader()
    by_length(reader, CASES["ragged"])
    assert reader.seen == [[(2, 9), (2, 12)], [(3, 3), (3, 3)]]


def test_one_piece_where_a_slice_costs_more_than_padding():
    reader = Reader()
    by_length(reader, CASES["ragged"])
    assert reader.seen == [[(5, 9), (5, 12)]]
