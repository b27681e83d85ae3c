"""`hf-text-tokens`, and the spans of `hf-text`: ids and characters of a Hugging Face tokenizer."""

from __future__ import annotations

import shutil

import pytest
import torch

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench_extractors.config import HFTextConfig
from mmbench_extractors.options_text import HFTokensConfig
from mmbench_extractors.text import HFText
from mmbench_extractors.tokens import HFTextTokens

TEXT = "The film was GREAT, not boring!"


@pytest.fixture
def tokens_only(text_folder, tmp_path):
    """The folder of a tokenizer, without a network."""

    def make(family):
        folder = tmp_path / family
        shutil.copytree(text_folder(family), folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        if not (folder / "config.json").exists():
            shutil.copy(f"{text_folder(family)}/config.json", folder)
        return str(folder)

    return make


def build(folder, **options):
    return HFTextTokens(HFTokensConfig(model=folder, **options))


def test_ids_are_those_of_the_tokenizer_and_need_no_weights(tokens_only):
    extractor = build(tokens_only("bert"), max_tokens=6)
    words = extractor.tokenizer.get_vocab()
    found = extractor.prepare(TEXT)
    assert found.tolist() == [words[token] for token in ("[CLS]", "the", "film", "was", "great", "[SEP]")]
    assert found.dtype == torch.long
    assert extractor.vocabulary == max(words.values()) + 1
    assert extractor.prepare("").tolist() == [words["[CLS]"], words["[SEP]"]]
    raw = Sequence(found[None], torch.ones(1, 6, dtype=torch.bool))
    assert extractor(raw) is raw


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_spans_are_the_characters_of_each_token(text_folder, family):
    ids = build(text_folder(family), max_tokens=64)
    states = HFText(HFTextConfig(model=text_folder(family), max_tokens=64))
    spans = ids.spans(TEXT)
    assert spans == states.spans(TEXT)
    assert len(spans) == len(ids.prepare(TEXT)) == len(states.prepare(TEXT))
    assert spans[0] == spans[-1] == (0, 0)
    words = [TEXT[start:end].strip() for start, end in spans[1:-1]]
    assert "".join(words) == TEXT.replace(" ", "")
    if family == "bert":
        assert words[:5] == ["The", "film", "was", "GREAT", ","]
    short = build(text_folder(family), max_tokens=4)
    assert len(short.spans(TEXT)) == len(short.prepare(TEXT)) == 4


def test_one_vector_for_all_has_no_spans_and_neither_has_a_slow_tokenizer(text_folder):
    assert HFText(HFTextConfig(model=text_folder("bert"), output="cls", max_tokens=8)).spans(TEXT) is None
    extractor = build(text_folder("bert"))

    class Slow:
        is_fast = False

    extractor.tokenizer = Slow()
    assert extractor.spans(TEXT) is None


def test_a_tokenizer_without_special_tokens_keeps_one_for_an_empty_text(text_folder):
    from tokenizers import processors

    extractor = build(text_folder("bert"))
    extractor.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    assert len(extractor.prepare("the film")) == len(extractor.spans("the film")) == 2
    assert extractor.prepare("").tolist() == [extractor.tokenizer.pad_token_id]
    assert extractor.spans("") == [(0, 0)]


def test_the_digest_covers_the_tokenizer_and_the_length(text_folder, tokens_only):
    digests = {build(text_folder("bert")).digest(), build(text_folder("bert"), max_tokens=7).digest(), build(text_folder("roberta")).digest()}
    assert len(digests) == 3
    assert build(tokens_only("bert")).digest() in digests


def test_what_has_no_tokenizer_is_one_error(audio_folder, tmp_path):
    with pytest.raises(ConfigError, match="hf-text-tokens: model"):
        build(audio_folder("wavlm"))
    with pytest.raises(ConfigError, match="no such folder"):
        build(str(tmp_path / "gone"))
