"""The layers that methods share: against torch's own, sample by sample."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mmbench.batch import Sequence  # noqa: E402
from mmbench.layers import TemporalProjection, adaptive_average, context_key_values, dropout  # noqa: E402


@given(frames=st.integers(1, 12), positions=st.integers(1, 12), holes=st.lists(st.booleans(), min_size=12, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_adaptive_average_equals_torchs_on_the_real_frames(frames, positions, holes, seed):
    """Each sample as if it were alone and unpadded, wherever its real frames and positions lie."""
    generator = torch.Generator().manual_seed(seed)
    mask, place = torch.zeros(2, 12, dtype=torch.bool), torch.zeros(2, 12, dtype=torch.bool)
    mask[0, torch.randperm(12, generator=generator)[:frames]] = True
    place[0, torch.randperm(12, generator=generator)[:positions]] = True
    mask[1], place[1] = torch.tensor(holes), torch.tensor(holes)
    values = torch.randn(2, 12, 3, generator=generator)
    pooled = adaptive_average(Sequence(values, mask), place)
    expected = torch.nn.functional.adaptive_avg_pool1d(values[0][mask[0]].T[None], positions)[0].T
    torch.testing.assert_close(pooled.values[0][place[0]], expected)
    assert torch.equal(pooled.values[1][place[1]], values[1][place[1]])  # equal masks: every frame stays what it is
    assert torch.equal(pooled.mask, place)
    assert (pooled.values[~pooled.mask] == 0).all()


def test_convolution_without_padding_keeps_whole_windows():
    projection = TemporalProjection(2, 3, 3, "none")
    values = torch.randn(3, 6, 2)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]]).bool()
    result = projection(Sequence(values, mask))
    assert result.mask.tolist() == [[True] * 3 + [False] * 3, [False] * 2 + [True] + [False] * 3, [False] * 5 + [True]]
    weight = projection.convolution.weight.detach()
    windows = [values[0, t : t + 3] for t in range(3)]
    windows += [torch.cat([values[1, 2:4], torch.zeros(1, 2)]), torch.cat([values[2, 5:], torch.zeros(2, 2)])]
    expected = np.stack([np.einsum("oik,ki->o", weight.numpy(), window.numpy()) for window in windows])
    np.testing.assert_allclose(result.values[result.mask].detach().numpy(), expected, atol=1e-5)


def test_convolution_of_equal_length_equals_torchs():
    projection = TemporalProjection(2, 3, 5, "same")
    values = torch.randn(2, 7, 2)
    reference = torch.nn.Conv1d(2, 3, 5, padding="same", bias=False)
    reference.load_state_dict(projection.convolution.state_dict())
    result = projection(Sequence(values, torch.ones(2, 7, dtype=torch.bool)))
    torch.testing.assert_close(result.values, reference(values.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_has_its_rate_and_its_mean(rate, dtype):
    factor = dropout(torch.ones(1000, 1001, dtype=dtype), rate).float()
    assert factor.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate), rel=1e-2 if dtype is torch.bfloat16 else 1e-4)]
    assert (factor == 0).float().mean().item() == pytest.approx(rate, abs=0.003)  # six standard deviations
    assert abs(np.corrcoef(factor[:-1].flatten(), factor[1:].flatten())[0, 1]) < 0.006
    assert abs(np.corrcoef(factor[:, :-1].flatten(), factor[:, 1:].flatten())[0, 1]) < 0.006


def test_dropout_repeats_with_its_seed_and_is_off_at_zero():
    x = torch.randn(5, 7)
    assert dropout(x, 0.0) is x
    torch.manual_seed(3)
    first = dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.3))


def test_keys_and_values_made_at_once_equal_those_of_each_block():
    blocks = [(torch.nn.Linear(8, 16).double(), torch.nn.LayerNorm(8).double()) for _ in range(3)]
    context = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    for _, norm in blocks:
        for parameter in norm.parameters():
            torch.nn.init.normal_(parameter)
    found = torch.stack(context_key_values(context, blocks))
    expected = torch.stack([linear(norm(context)) for linear, norm in blocks])
    torch.testing.assert_close(found, expected)
    leaves = [context, *(parameter for pair in blocks for module in pair for parameter in module.parameters())]
    direction = torch.randn_like(found)
    for one, other in zip(torch.autograd.grad(found, leaves, direction), torch.autograd.grad(expected, leaves, direction), strict=True):
        torch.testing.assert_close(one, other)
