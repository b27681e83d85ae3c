"""Piecewise attention against the written-out formula: values and gradients in float64, masks, ragged lengths, dropout."""

import pytest

torch = pytest.importorskip("torch")

from mmbench.layers import attention, fast_attention  # noqa: E402
from mmbench.layers.fast_attention import written_out_attention  # noqa: E402

SHAPES = {"short": (3, 4, 30, 30, 5), "long": (2, 3, 150, 111, 4), "wide": (1, 2, 3, 2051, 2), "one": (1, 1, 1, 1, 1), "query": (3, 2, 1, 9, 4)}


@pytest.fixture(autouse=True, params=[0, fast_attention.KEPT], ids=["weights_again", "weights_kept"])
def in_pieces(monkeypatch, request):
    """Whatever the size, and in several pieces."""
    monkeypatch.setattr(fast_attention, "KEPT", request.param)
    monkeypatch.setattr(fast_attention, "SMALL", 0)
    monkeypatch.setattr(fast_attention, "PIECE", 1 << 14)


def _operands(samples, heads, queries, keys, width, dtype=torch.float64):
    """As models make them: heads cut from (B, L, h·d), keys and values from one tensor."""
    q = torch.randn(samples, queries, heads * width, dtype=dtype)
    both = torch.randn(samples, keys, 2 * heads * width, dtype=dtype).chunk(2, -1)
    return [x.unflatten(-1, (heads, -1)).transpose(1, 2).detach().requires_grad_() for x in (q, *both)]


def _mask(kind, samples, heads, queries, keys):
    if kind == "none":
        return torch.ones(1, 1, 1, 1, dtype=torch.bool)
    if kind == "lengths":  # one sample attends to a single key
        return (torch.arange(keys) < torch.linspace(1, keys, samples).long()[:, None])[:, None, None]
    if kind == "causal":
        return (torch.arange(keys) <= torch.arange(queries)[:, None]).expand(samples, 1, -1, -1)
    mask = torch.rand(samples, heads, queries, keys) < 0.3  # holes, other ones for each head
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("kind", ["none", "lengths", "causal", "holes"])
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients(name, kind):
    samples, heads, queries, keys, _ = SHAPES[name]
    operands, allowed = _operands(*SHAPES[name]), _mask(kind, samples, heads, queries, keys)
    result, expected = attention(*operands, allowed, 0.0), written_out_attention(*operands, allowed, 0.0)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(expected, torch.nn.functional.scaled_dot_product_attention(*operands, attn_mask=allowed))
    weight = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, operands, weight)
    for retain in (True, False):  # as where gradients are looked at before the step
        for left, right in zip(torch.autograd.grad(result, operands, weight, retain_graph=retain), wanted, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_a_mask_of_fewer_dimensions_broadcasts():
    operands, allowed = _operands(2, 3, 20, 20, 4), _mask("causal", 2, 3, 20, 20)
    torch.testing.assert_close(attention(*operands, allowed[0, 0], 0.0), attention(*operands, allowed, 0.0))


def test_training_goes_on_after_inference_mode(monkeypatch):
    """Memory that stays between calls is usable in both modes."""
    monkeypatch.setattr(fast_attention, "_memory", fast_attention._Memory())
    operands, allowed = _operands(2, 3, 20, 20, 4), _mask("lengths", 2, 3, 20, 20)
    with torch.inference_mode():
        expected = attention(*operands, allowed, 0.0)
    result = attention(*operands, allowed, 0.0)
    assert torch.equal(result, expected)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(result.sum(), operands))  # of a sum: an expanded gradient


@pytest.mark.parametrize("kind", ["lengths", "causal"])
def test_dropped_weights_have_their_rate_and_their_gradients(kind):
    """Values that are unit vectors show the dropped weights; with them, value and gradients are those of the formula."""
    samples, heads, size = 3, 4, 96
    (query, key, _), allowed = _operands(samples, heads, size, size, 4), _mask(kind, samples, heads, size, size)
    units = torch.eye(size, dtype=torch.float64).expand(samples, heads, -1, -1)
    torch.manual_seed(3)
    kept = attention(query, key, units, allowed, 0.3).detach()
    weights = written_out_attention(query, key, units, allowed, 0.0)
    factor = (kept / weights.detach())[allowed.expand_as(weights)]
    assert factor.unique().numel() > 1
    torch.testing.assert_close(factor[factor > 0], torch.full_like(factor[factor > 0], 1 / 0.7), rtol=1e-4, atol=0)
    assert (factor == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    value = torch.randn(samples, heads, size, 4, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    result = attention(query, key, value, allowed, 0.3)
    scale = (1 << 16) / ((1 << 16) - round(0.3 * (1 << 16)))
    expected = (weights * (kept > 0) * scale) @ value
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)
    direction = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (query, key, value), direction)
    for retain in (True, False):
        for left, right in zip(torch.autograd.grad(result, (query, key, value), direction, retain_graph=retain), wanted, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


def test_other_calls_drop_other_weights():
    operands = _operands(1, 2, 40, 40, 4)
    allowed = _mask("none", 1, 2, 40, 40)
    torch.manual_seed(1)
    first, second = attention(*operands, allowed, 0.5), attention(*operands, allowed, 0.5)
    torch.manual_seed(1)
    assert torch.equal(first, attention(*operands, allowed, 0.5))
    assert not torch.equal(first, second)


def test_half_precision_is_computed_in_single():
    operands = _operands(2, 2, 30, 20, 4, torch.bfloat16)
    allowed = _mask("lengths", 2, 2, 30, 20)
    with torch.autocast("cpu", torch.bfloat16):
        result = attention(*operands, allowed, 0.0)
    exact = written_out_attention(*(x.float() for x in operands), allowed, 0.0)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result, exact.bfloat16(), rtol=1e-2, atol=1e-3)
    gradients = torch.autograd.grad(result.float().square().sum(), operands)
    for left, right in zip(gradients, torch.autograd.grad(exact.square().sum(), operands), strict=True):
        torch.testing.assert_close(left, right, rtol=5e-2, atol=5e-2)


def test_a_second_derivative_is_refused():
    operands = _operands(2, 2, 9, 9, 4)
    result = attention(*operands, _mask("none", 2, 2, 9, 9), 0.0)
    (gradient,) = torch.autograd.grad(result.square().sum(), operands[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_small_attention_is_the_formula(monkeypatch):
    operands, allowed = _operands(3, 2, 4, 6, 4), _mask("lengths", 3, 2, 4, 6)
    for size in (0, 1 << 17):
        monkeypatch.setattr(fast_attention, "SMALL", size)
        torch.testing.assert_close(attention(*operands, allowed, 0.0), written_out_attention(*operands, allowed, 0.0))
    torch.manual_seed(2)
    dropped = attention(*operands, allowed, 0.5)
    torch.manual_seed(2)
    assert torch.equal(dropped, written_out_attention(*operands, allowed, 0.5))


def test_nothing_is_kept_where_no_gradient_is_asked_for(monkeypatch):
    kept = []
    monkeypatch.setattr(torch.Tensor, "clone", lambda self: kept.append(self.shape) or self * 1)
    operands, allowed = _operands(*SHAPES["short"]), _mask("lengths", *SHAPES["short"][:4])
    attention(*operands, allowed, 0.0)
    assert bool(kept) == (fast_attention.KEPT > 0)
    kept.clear()
    with torch.no_grad():
        attention(*(x * 1 for x in operands), allowed, 0.0)
    assert not kept
