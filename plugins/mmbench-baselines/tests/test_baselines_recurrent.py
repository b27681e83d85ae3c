"""The LSTM against torch's own, one unpadded sample at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.batch import Sequence
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
