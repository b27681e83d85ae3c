"""Texts in one row without padding: the states and gradients of the padded batch, whatever stands in it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmbench.batch import Sequence
from mmbench_extractors import attention as module
from mmbench_extractors.attention import Dropout, attention, packed_attention
from mmbench_extractors.audio import HFAudio
from mmbench_extractors.config import HFAudioConfig, HFTextConfig
from mmbench_extractors.packing import Packed, can_pack
from mmbench_extractors.text import HFText

FAMILIES = ("bert", "roberta")


@pytest.fixture
def build(text_folder, no_wait):
    def make(family, **options):
        found = HFText(HFTextConfig(**{"model": text_folder(family), "max_tokens": 32, "finetune": True} | options))
        return found.double()

    return make


def batch(lengths, width=None):
    """Token ids of texts of these lengths, with other ids behind each."""
    width = width or max(lengths)
    ids = torch.randint(4, 20, (len(lengths), width), generator=torch.Generator().manual_seed(len(lengths)))
    return Sequence(ids, torch.arange(width) < torch.tensor(lengths)[:, None], tuple(lengths))


def gradients(extractor, raw):
    """The states, and the gradients of a sum that weighs each entry of each text in its own way."""
    extractor.zero_grad()
    values = extractor(raw).values
    weight = torch.randn(values.shape[1:], generator=torch.Generator().manual_seed(1), dtype=values.dtype)
    (values * weight).sum().backward()
    return values.detach(), {name: p.grad for name, p in extractor.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("lengths", [(7, 2, 7, 12, 0, 3, 2), (5,), (4, 4, 4), (0, 1)])
@pytest.mark.parametrize(
    ("family", "options"),
    [("bert", {}), ("roberta", {}), ("bert", {"output": "cls"}), ("roberta", {"freeze_layers": 1, "gradient_checkpointing": True})],
)
def test_states_and_gradients_are_those_of_the_padded_batch(build, family, options, lengths):
    extractor = build(family, **options).train()
    assert extractor.packs
    for child in extractor.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
    raw = batch(lengths, max(lengths) + 2)
    tokens = []
    extractor.encoder.get_input_embeddings().register_forward_hook(lambda *call: tokens.append(call[2].shape[:-1].numel()))
    values, found = gradients(extractor, raw)
    expected_values, expected = gradients(extractor, Sequence(raw.values, raw.mask))
    torch.testing.assert_close(values, expected_values, atol=1e-12, rtol=1e-10)
    assert set(found) == set(expected)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-11, rtol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    assert tokens == [sum(lengths), raw.values.numel()]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_without_a_token_gives_zeros(build, family):
    raw = Sequence(torch.full((2, 1), 5), torch.zeros(2, 1, dtype=torch.bool), (0, 0))
    assert not build(family)(raw).values.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_draws_dropout_for_each_text_and_evaluation_none(build, family, no_wait):
    extractor, raw = build(family).train(), batch((6, 6, 6))
    raw.values.copy_(raw.values[:1].expand(3, -1))
    with no_wait():
        first = extractor(raw).values
        first.square().sum().backward()
    assert not torch.allclose(first[0], first[1])
    assert not torch.allclose(first, extractor(raw).values)
    extractor.eval()
    values = extractor(raw).values
    torch.testing.assert_close(values[0], values[2])
    assert torch.equal(values, extractor(raw).values)


def test_half_precision_is_close_to_single(build):
    extractor, raw = build("bert").float().eval(), batch((7, 2, 12))
    expected = extractor(raw).values
    with torch.autocast("cpu", torch.bfloat16):
        found = extractor(raw).values
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
    assert not torch.equal(found, expected)


def test_a_network_that_mixes_texts_is_not_packed(text_folder, build, monkeypatch):
    assert not HFText(HFTextConfig(model=text_folder("deberta"), max_tokens=32)).packs
    network = build("bert").float().encoder
    assert can_pack(network, 0)
    assert not can_pack(network, 1)  # as if its positions began elsewhere
    monkeypatch.setattr(module, "packed_attention", lambda q, k, v, groups, *rest: attention(q, k, v, None, *rest).transpose(1, 2))
    assert not can_pack(network, 0)  # as if each text saw the others
    monkeypatch.undo()
    for layer in network.encoder.layer:
        layer.attention.self.is_causal = True
    assert not can_pack(network, 0)
    other = copy.copy(network)
    other.forward = None
    assert not can_pack(other, 0)


def test_texts_of_one_length_stand_together():
    packed = Packed.of((2, 0, 3, 2), 4)
    assert packed.groups == ((2, 2), (1, 3))
    assert packed.index.tolist() == [0, 1, 12, 13, 8, 9, 10]
    assert packed.places.tolist() == [0, 1, 0, 1, 0, 1, 2]


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_attention_is_torchs(monkeypatch, rate):
    monkeypatch.setattr(module, "dropout", lambda x, rate: x)
    query, key, value = (torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 6, 6))
    for mask in (None, (torch.arange(6) < torch.tensor([[6], [2]]))[:, None, None, :]):
        found = attention(query, key, value, mask, rate, 0.7)
        expected = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.7)
        torch.testing.assert_close(found, expected)
        weight = torch.randn_like(expected)
        for left, right in zip(*(torch.autograd.grad((x * weight).sum(), (query, key, value)) for x in (found, expected)), strict=True):
            torch.testing.assert_close(left, right)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_packed_attention_is_that_of_each_text(monkeypatch, rate):
    monkeypatch.setattr(module, "dropout", lambda x, rate: x)
    query, key, value = (torch.randn(1, 3, 9, 4, dtype=torch.float64) for _ in range(3))
    found = packed_attention(query, key, value, ((3, 2), (1, 3)), rate, 0.5)
    for rows in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 9)):
        weights = (query[0, :, rows] @ key[0, :, rows].mT * 0.5).softmax(-1)
        torch.testing.assert_close(found[0, rows], (weights @ value[0, :, rows]).transpose(0, 1))


def test_dropout_of_every_network_is_the_quick_one(text_folder, audio_folder):
    for extractor in (
        HFText(HFTextConfig(model=text_folder("bert"), max_tokens=32, finetune=True)),
        HFText(HFTextConfig(model=text_folder("deberta"), max_tokens=32, finetune=True)),
        HFAudio(HFAudioConfig(model=audio_folder("wavlm"), finetune=True)),
    ):
        rates = {type(child): child.p for child in extractor.modules() if isinstance(child, nn.Dropout)}
        assert rates == {Dropout: 0.1}
    layer = Dropout(0.3).train()
    zeros = (layer(torch.ones(500, 501)) == 0).float().mean().item()
    assert zeros == pytest.approx(0.3, abs=0.006)
    assert torch.equal(layer.eval()(torch.ones(5)), torch.ones(5))
