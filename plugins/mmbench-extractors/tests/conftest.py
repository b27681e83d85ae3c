"""Small random models in local folders, as `save_pretrained` leaves them, that the tests share."""

from __future__ import annotations

from functools import cache

import pytest
import torch

WORDS = tuple("the film was good bad awful i loved hated it and plot acting really not never great boring".split())  # noqa: SIM905


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    """By family: the folder of a text encoder of width 16 with three layers and its tokenizer."""

    @cache
    def make(family: str) -> str:
        from transformers import AutoModel

        torch.manual_seed(1)
        folder = tmp_path_factory.mktemp(family)
        tokenizer = _wordpiece() if family != "roberta" else _bpe()
        tokenizer.save_pretrained(folder)
        AutoModel.from_config(_text_config(family, tokenizer)).save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def audio_folder(tmp_path_factory):
    """By family: the folder of a speech encoder of width 16 with two layers, its convolutions of stride 20 seeing 40 samples."""

    @cache
    def make(family: str, **changes: object) -> str:
        from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

        torch.manual_seed(2)
        folder = tmp_path_factory.mktemp(family)
        grouped = family in ("wav2vec2", "hubert")  # a group norm over time: trained without an attention mask
        name = {"hubert-stable": "hubert", "data2vec": "data2vec-audio"}.get(family, family)
        options = {
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": (8, 8, 8),
            "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2), "num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 4,
            "layerdrop": 0.5, "mask_time_prob": 0.3, "mask_time_length": 2,
        }  # fmt: skip
        if name != "data2vec-audio":
            options |= {"feat_extract_norm": "group" if grouped else "layer", "do_stable_layer_norm": family == "hubert-stable"}
        model = AutoModel.from_config(AutoConfig.for_model(name, **options | changes))
        model.save_pretrained(folder)
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=not grouped).save_pretrained(folder)
        return str(folder)

    return make


def _text_config(family, tokenizer):
    from transformers import AutoConfig

    sizes = {
        "vocab_size": len(tokenizer) + 3, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
        "pad_token_id": tokenizer.pad_token_id, "max_position_embeddings": 64 if family != "roberta" else 66,
    }  # fmt: skip
    if family == "deberta":
        relative = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
        return AutoConfig.for_model("deberta-v2", **sizes, **relative, share_att_key=True, norm_rel_ebd="layer_norm", type_vocab_size=0)
    return AutoConfig.for_model(family, **sizes)


def _wordpiece():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {token: number for number, token in enumerate([*special, *WORDS, "##s", "!"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64
    )


def _bpe():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special, alphabet = ["<s>", "<pad>", "</s>", "<unk>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


class NoWait(torch.utils._python_dispatch.TorchDispatchMode):
    """Fails on every operation whose result, or whose shape, a program has to wait for on a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_consecutive", "_unique2"), f"waits in {name}"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def no_wait():
    import transformers

    if not hasattr(transformers, "AttentionMaskInterface"):
        pytest.skip(f"transformers {transformers.__version__} looks into every mask itself and lets nobody replace that")
    return NoWait
