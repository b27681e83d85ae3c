"""A BERT and a Data2Vec of width 16 with random weights, saved as `save_pretrained` does."""

from __future__ import annotations

from pathlib import Path

WORDS = ["the", "film", "was", "good", "bad", "awful", "and", "not", "really", "great"]


def save_models(bert: Path, data2vec: Path, dropout: float = 0.1) -> None:
    """`dropout`: the rate of every dropout in them, as their configs have it by default."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import BertConfig, BertModel, Data2VecAudioConfig, Data2VecAudioModel, PreTrainedTokenizerFast, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(bert)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **sizes, **rates)).save_pretrained(bert)
    rates = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), dropout)
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (40, 8), "conv_stride": (40, 8), "num_conv_pos_embedding_groups": 2}
    Data2VecAudioModel(Data2VecAudioConfig(**sizes, **convolutions, conv_pos_kernel_size=3, **rates)).save_pretrained(data2vec)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(data2vec)
