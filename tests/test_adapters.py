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
