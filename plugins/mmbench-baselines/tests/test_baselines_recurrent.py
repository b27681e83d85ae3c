"""The LSTM against torch's own, one unpadded sample at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.batch import Sequence
from mmbench_baselines.packed import lstm, pack
from mmbench_baselines.recurrent import LSTM, compact


@given(rows=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4), bidirectional=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_each_sample_is_read_as_if_it_were_alone(rows, bidirectional, seed):
    torch.manual_seed(seed)
    lstm = LSTM(3, 4, bidirectional).double()
    reference = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=bidirectional).double()
    weights = dict(lstm.forwards.state_dict())
    if bidirectional:
        weights |= {f"{name}_reverse": value for name, value in lstm.backwards.state_dict().items()}
    reference.load_state_dict(weights)
    mask, values = torch.tensor(rows), torch.randn(len(rows), 7, 3, dtype=torch.float64)
    states, last = lstm(Sequence(values, mask))
    for i, row in enumerate(mask):
        count = int(row.sum())
        if not count:
            assert (last[i] == 0).all()
            assert not states.mask[i].any()
            continue
        expected, (hidden, _) = reference(values[i][row].unsqueeze(0))
        torch.testing.assert_close(states.values[i][states.mask[i]], expected[0])
        torch.testing.assert_close(last[i], hidden[:, 0].flatten())
        assert states.mask[i].tolist() == [True] * count + [False] * (7 - count)


def test_compact_keeps_the_order():
    values = torch.arange(5.0).reshape(1, 5, 1)
    moved = compact(Sequence(values, torch.tensor([[False, True, False, True, True]])))
    assert moved.values.flatten().tolist() == [1.0, 3.0, 4.0, 0.0, 0.0]
    assert moved.mask.tolist() == [[True, True, True, False, False]]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_gradient_reaches_real_frames_only(bidirectional):
    values = torch.randn(2, 4, 3, requires_grad=True)
    mask = torch.tensor([[True, True, False, False], [True, False, True, True]])
    LSTM(3, 4, bidirectional)(Sequence(values, mask))[1].sum().backward()
    assert torch.equal(values.grad.abs().sum(-1) > 0, mask)


def test_padding_may_be_anything_and_half_precision_works():
    lstm, values, mask = LSTM(3, 4, bidirectional=True), torch.randn(2, 4, 3), torch.tensor([[True, True, False, False], [True, False, True, True]])
    expected = lstm(Sequence(values, mask))[1]
    dirty = values.masked_fill(~mask.unsqueeze(-1), float("nan"))
    torch.testing.assert_close(lstm(Sequence(dirty, mask))[1], expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(lstm(Sequence(values.bfloat16(), mask))[1], expected, atol=0.02, rtol=0.02)


def test_compact_leaves_frames_that_start_at_the_first_and_clears_what_is_not_real():
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, float("nan")]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    moved = compact(Sequence(values, mask))
    assert moved.values.squeeze(-1).tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]
    assert torch.equal(moved.mask, mask)


def _both_ways(lstm, values, mask):
    """All states, the last ones twice, and all gradients: from all frames by torch's LSTM, and from packed frames."""
    results = []
    for lstm.wide in (False, True):
        lstm.zero_grad()
        x = values.clone().requires_grad_()
        states, last = lstm(Sequence(x, mask))
        alone = lstm.last(Sequence(x, mask))
        (states.values.cos().sum() + last.square().sum() + alone.sin().sum()).backward()
        results.append([states.values, states.mask, last, alone, x.grad, *(p.grad for p in lstm.parameters())])
    return results


@given(
    rows=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4),
    whole=st.booleans(),
    bidirectional=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_packed_frames_give_the_states_and_gradients_of_all_frames(rows, whole, bidirectional, seed):
    torch.manual_seed(seed)
    mask = torch.tensor(rows) | whole
    lstm = LSTM(3, 4, bidirectional).double()
    for padded, packed in zip(*_both_ways(lstm, torch.randn(*mask.shape, 3, dtype=torch.float64), mask), strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-12, atol=1e-12)


def test_packed_frames_may_stand_beside_any_padding_in_any_precision():
    lstm = LSTM(3, 4, bidirectional=True)
    lstm.wide = True
    values, mask = torch.randn(3, 4, 3), torch.tensor([[True, True, False, False], [False, False, False, False], [True, False, True, True]])
    expected = lstm.last(Sequence(values, mask))
    assert (expected[1] == 0).all()
    dirty = values.masked_fill(~mask.unsqueeze(-1), float("nan"))
    torch.testing.assert_close(lstm.last(Sequence(dirty, mask)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = lstm.last(Sequence(values.bfloat16(), mask))
    torch.testing.assert_close(half, expected, atol=0.02, rtol=0.02)
    half.sum().backward()
    assert all(p.grad.isfinite().all() for p in lstm.parameters())


def test_packed_frames_are_for_wide_layers():
    assert LSTM(768, 128).wide
    assert not LSTM(74, 74, bidirectional=True).wide


def test_packing_puts_the_longest_sample_first():
    packing = pack(torch.tensor([[False, True, False], [False, False, False], [True, True, True]]))
    assert packing.counts == [2, 1, 1]
    assert packing.frames.tolist() == [6, 1, 7, 8]
    assert packing.starts.tolist() == [6, 0, 7, 8]
    assert packing.last[[0, 2]].tolist() == [1, 3]
    assert pack(torch.tensor([[True, True, True]]), reverse=True).frames.tolist() == [2, 1, 0]


def test_the_gradient_of_packed_frames_is_right_and_can_be_asked_for_twice():
    x, weight, recurrent, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 2), (12, 2), (12, 3), (12,)))
    assert torch.autograd.gradcheck(lambda *args: lstm(args[0], [3, 2, 1], *args[1:]), (x, weight, recurrent, bias))
    loss = lstm(x.detach(), [3, 2, 1], weight, recurrent, bias).square().sum()  # of an input that needs no gradient
    first, second = (torch.autograd.grad(loss, (weight, recurrent, bias), retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
