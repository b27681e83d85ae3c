"""Adapters make what a model lacks, from `encoded`, without letting padding, batch mates or a loss's shrinking of its inputs in."""

import pytest

torch = pytest.importorskip("torch")

from mmbench.adapters import Adapters, Normalize  # noqa: E402
from mmbench.batch import Representation, Sequence  # noqa: E402
from mmbench.component import FieldSpec, InputSpec, ModalitySpec, RepresentationSpec  # noqa: E402

FIELDS = ("common", "unique", "unimodal_predictions")


def spec(task: str = "regression", widths=(6, 4)) -> RepresentationSpec:
    modalities = {name: ModalitySpec("features", 3, 5) for name in ("text", "audio")}
    inputs = InputSpec(modalities, task, ("a", "b", "c") if task == "classification" else (), train_size=8)
    return RepresentationSpec(inputs, 10, {name: FieldSpec(width, True) for name, width in zip(modalities, widths, strict=True)})


def representation(widths=(6, 4), batch: int = 5, seed: int = 0) -> Representation:
    generator = torch.Generator().manual_seed(seed)
    encoded = {}
    for name, width in zip(("text", "audio"), widths, strict=True):
        mask = torch.arange(5) < torch.randint(1, 6, (batch, 1), generator=generator)
        encoded[name] = Sequence((torch.randn(batch, 5, width, generator=generator) * mask.unsqueeze(-1)).requires_grad_(), mask)
    return Representation(torch.zeros(batch), torch.zeros(batch, 10), encoded)


def test_fields_have_the_declared_shapes() -> None:
    adapters = Adapters(spec(), FIELDS)
    found = adapters(representation())
    for field in ("common", "unique"):
        declared = getattr(adapters.spec, field)
        for name, sequence in getattr(found, field).items():
            assert sequence.values.shape == (5, 5, declared[name].width) == (5, 5, 6)
    assert {name: tuple(value.shape) for name, value in found.unimodal_predictions.items()} == {"text": (5,), "audio": (5,)}
    classified = Adapters(spec("classification"), ("unimodal_predictions",))(representation())
    assert classified.unimodal_predictions["text"].shape == (5, 3)


def test_projections_are_orthogonal_and_frozen_and_heads_are_trained() -> None:
    adapters = Adapters(spec(), FIELDS)
    assert set(adapters.projections) == {"audio"}
    weight = adapters.projections["audio"].weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(4))
    trained = {part["field"]: part["kind"] for part in adapters.describe()}
    assert trained == {"projections": "frozen", "common": "trained", "unique": "trained", "unimodal": "trained"}
    assert {part["kind"] for part in Adapters(spec(), FIELDS, "frozen").describe()} == {"frozen"}
    assert {part["kind"] for part in Adapters(spec(), FIELDS, "trained").describe()} == {"trained"}
    counted = sum(part["parameters"] for part in adapters.describe())
    assert counted == sum(p.numel() for p in adapters.parameters()) == 4 * 6 + 42 + 2 * 42 + 7 + 5


def test_a_scaled_input_is_not_a_smaller_loss() -> None:
    """The end normalises: features that shrink a thousandfold come out (nearly) as they were."""
    adapters = Adapters(spec(widths=(6, 6)), ("common",))
    torch.nn.init.zeros_(adapters.common.bias)
    whole = representation((6, 6))
    small = Representation(whole.prediction, whole.fused, {name: Sequence(s.values * 0.1, s.mask) for name, s in whole.encoded.items()})
    for name in ("text", "audio"):
        torch.testing.assert_close(adapters(whole).common[name].values, adapters(small).common[name].values, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_matter(training: bool) -> None:
    whole = representation()
    padded = {
        name: Sequence(torch.cat([s.values, torch.zeros(5, 3, s.values.shape[2])], 1), torch.cat([s.mask, torch.zeros(5, 3, dtype=torch.bool)], 1))
        for name, s in whole.encoded.items()
    }
    torch.manual_seed(0)
    first = Adapters(spec(), FIELDS).train(training)(whole)
    torch.manual_seed(0)
    second = Adapters(spec(), FIELDS).train(training)(Representation(whole.prediction, whole.fused, padded))
    for field in ("common", "unique"):
        for name in ("text", "audio"):
            torch.testing.assert_close(getattr(first, field)[name].mean(), getattr(second, field)[name].mean())
            assert not getattr(second, field)[name].values[:, 5:].any()


def test_normalize_agrees_with_batch_norm_on_real_frames_and_survives_one() -> None:
    values, mask = torch.randn(4, 6, 3), torch.rand(4, 6) > 0.4
    ours, oracle = Normalize(3), torch.nn.BatchNorm1d(3, affine=False)
    found = ours(values, mask)
    torch.testing.assert_close(found[mask], oracle(values[mask]))
    torch.testing.assert_close(ours.running_mean, oracle.running_mean)
    one = torch.zeros(1, 2, 3)
    out = ours(one, torch.tensor([[True, False]]))
    torch.testing.assert_close(out[0, 0], -ours.running_mean * torch.rsqrt(ours.running_var + ours.eps))
    ours.eval()
    torch.testing.assert_close(ours(values, mask)[mask], oracle.eval()(values[mask]), atol=0.2, rtol=0.2)


def test_a_gradient_reaches_encoded() -> None:
    whole = representation()
    found = Adapters(spec(), FIELDS)(whole)
    total = (
        sum(s.values.pow(3).sum() for field in (found.common, found.unique) for s in field.values()) + sum(found.unimodal_predictions.values()).sum()
    )
    total.backward()
    for sequence in whole.encoded.values():
        assert sequence.values.grad.abs().sum() > 0


def test_one_sample_is_normalised_by_the_running_statistics() -> None:
    """By itself it would have the mean zero, so that a loss on pooled features would see nothing of it."""
    values, mask = torch.randn(1, 5, 3), torch.tensor([[True, True, True, True, False]])
    ours = Normalize(3)
    found = ours(values, mask)
    torch.testing.assert_close(found[mask], values[mask] / (1 + ours.eps) ** 0.5)  # as they stood before: mean 0, variance 1
    oracle = torch.nn.BatchNorm1d(3, affine=False)
    oracle(values[mask])
    torch.testing.assert_close(ours.running_mean, oracle.running_mean)
    empty_mate = ours(torch.cat([values, torch.randn(1, 5, 3)]), torch.cat([mask, torch.zeros(1, 5, dtype=torch.bool)]))
    assert empty_mate[0, :4].mean(0).abs().min() > 1e-3  # a batch mate without a real frame does not make it several
    assert not empty_mate[1].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_and_a_modality_without_a_real_frame(dtype: torch.dtype) -> None:
    whole = representation()
    empty = Sequence(whole.encoded["audio"].values, torch.zeros_like(whole.encoded["audio"].mask))
    adapters = Adapters(spec(), FIELDS)
    if dtype is torch.float64:
        adapters = adapters.double()
        whole.encoded = {"text": Sequence(whole.encoded["text"].values.double(), whole.encoded["text"].mask), "audio": empty}
        whole.encoded["audio"] = Sequence(empty.values.double(), empty.mask)
    else:
        whole.encoded = {"text": whole.encoded["text"], "audio": empty}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        found = adapters(whole)
    expected = torch.float64 if dtype is torch.float64 else torch.float32
    for field in (found.common, found.unique):
        assert {s.values.dtype for s in field.values()} == {expected}
        assert not field["audio"].values.any()
        assert all(torch.isfinite(s.values).all() for s in field.values())
    assert all(torch.isfinite(value).all() for value in found.unimodal_predictions.values())
    assert adapters.common_norms["text"].running_mean.abs().sum() > 0
    assert torch.isfinite(adapters.common_norms["audio"].running_var).all()


def test_gradients_in_float64_agree_with_differences() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    values = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    layer = Normalize(2).double()
    assert torch.autograd.gradcheck(lambda x: layer(x, mask), (values,))


@pytest.mark.parametrize("kind", ["auto", "frozen", "trained"])
def test_what_each_kind_trains(kind: str) -> None:
    """One step moves the trained parts alone; every kind starts from the same weights."""
    built = {}
    for name in (kind, "auto"):
        torch.manual_seed(3)
        built[name] = Adapters(spec(), FIELDS, name)
    adapters = built[kind]
    before = {name: value.clone() for name, value in adapters.named_parameters()}
    assert all(torch.equal(value, built["auto"].get_parameter(name)) for name, value in before.items())
    found = adapters(representation())
    loss = sum(s.values.pow(3).sum() for field in (found.common, found.unique) for s in field.values()) + sum(
        value.sum() for value in found.unimodal_predictions.values()
    )
    loss.backward()
    with torch.no_grad():
        for parameter in adapters.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    moved = {name.split(".")[0] for name, value in adapters.named_parameters() if not torch.equal(value, before[name])}
    heads = {"common", "unique", "unimodal"}
    assert moved == {"auto": heads, "frozen": set(), "trained": {*heads, "projections"}}[kind]
    assert adapters.common_norms["text"].running_mean.abs().sum() > 0  # of frozen heads, too
