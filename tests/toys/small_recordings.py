"""Videos of a second, and small random networks in the formats of the Hugging Face hub: for tests that extract features."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

WORDS = ["the", "film", "was", "good", "bad", "awful", "and", "not", "really", "great"]
RATE, FPS = 16000, 10


def write_video(path: Path, seconds: float, number: int) -> None:
    """A square that moves over grey, with a tone."""
    import av

    with av.open(str(path), "w") as container:
        pictures, sound = container.add_stream("mpeg4", rate=FPS), container.add_stream("aac", rate=RATE)
        pictures.width = pictures.height = 48
        pictures.pix_fmt = "yuv420p"
        for i in range(round(seconds * FPS)):
            image = np.full((48, 48, 3), 90, np.uint8)
            image[4 + 2 * i % 30 :][:12, 2 * number : 2 * number + 12] = (250, 20 * number, 0)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        samples = np.sin(2 * np.pi * (200 + 40 * number) * np.arange(round(seconds * RATE)) / RATE) / 3
        for start in range(0, len(samples), 1024):
            block = av.AudioFrame.from_ndarray(samples[None, start : start + 1024].astype(np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(sound.encode(block))
        container.mux(sound.encode())


def build_networks(base: Path) -> None:
    import torch
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import (
        BertConfig,
        BertModel,
        PreTrainedTokenizerFast,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )  # fmt: skip

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *WORDS])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(base / "bert")
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **sizes)).save_pretrained(base / "bert")
    ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes), add_pooling_layer=False).save_pretrained(base / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(base / "vit")
    letters = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *sorted(set("".join(WORDS).upper()))])}
    (base / "vocab.json").write_text(json.dumps(letters))
    Wav2Vec2CTCTokenizer(str(base / "vocab.json")).save_pretrained(base / "ctc")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(base / "ctc")
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (20, 10), "conv_stride": (20, 8), "num_conv_pos_embedding_groups": 2}
    config = Wav2Vec2Config(vocab_size=len(letters), num_conv_pos_embeddings=4, pad_token_id=0, **sizes, **convolutions)
    Wav2Vec2ForCTC(config).save_pretrained(base / "ctc")
