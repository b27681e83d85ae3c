"""Small random models in local folders, as `save_pretrained` leaves them, that the tests share."""

from __future__ import annotations

from functools import cache

import numpy as np
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


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory):
    """By family: the folder of an image encoder of width 16 with two layers, on images of 32 x 32 in patches of 8 x 8."""

    @cache
    def make(family: str) -> str:
        from transformers import AutoConfig, AutoModel, CLIPImageProcessor, ViTImageProcessor

        torch.manual_seed(3)
        folder = tmp_path_factory.mktemp(family)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        images = {"image_size": 32, "patch_size": 8}
        if family in ("clip", "siglip"):
            text = sizes | {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
            config = AutoConfig.for_model(
                family, text_config=text, vision_config=sizes | images, **({"projection_dim": 8} if family == "clip" else {})
            )
            processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        else:
            config = AutoConfig.for_model(family, **sizes, **images)
            processor = ViTImageProcessor(size={"height": 32, "width": 32})
        model = AutoModel.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" in name:  # else the last norm could be left out, or put on twice, and nobody would see it
                torch.nn.init.normal_(parameter, 1.0, 0.3)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def draw_face():
    """An image (size, size, 3) with a face of ellipses whose eyes are `2 * 0.36 * radius` apart; its cascade finds it."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

    def draw(size: int = 240, x: int = 120, y: int = 120, radius: int = 70, mouth: float = 0.09) -> np.ndarray:
        image = np.full((size, size, 3), 90, np.uint8)
        parts = [
            (0, -0.1, 1.0, 1.3, 40), (0, 0.05, 0.85, 1.15, 200),  # hair, face
            *[
                part
                for side in (-1, 1)
                for part in (
                    (side * 0.36, -0.2, 0.28, 0.16, 110), (side * 0.36, -0.38, 0.28, 0.06, 50),  # socket, brow
                    (side * 0.36, -0.17, 0.17, 0.08, 235), (side * 0.36, -0.17, 0.08, 0.08, 20), (side * 0.5, 0.25, 0.2, 0.2, 215),  # eye, cheek
                )
            ],
            (0, 0.1, 0.1, 0.3, 225), (0, 0.36, 0.16, 0.06, 130), (0, 0.66, 0.36, mouth, 90), (0, 0.85, 0.3, 0.05, 180),  # nose, mouth, chin
        ]  # fmt: skip
        for right, down, width, height, grey in parts:
            centre, axes = (int(x + right * radius), int(y + down * radius)), (max(1, int(width * radius)), max(1, int(height * radius)))
            cv2.ellipse(image, centre, axes, 0, 0, 360, (grey, grey, grey), -1)
        return cv2.GaussianBlur(image, (0, 0), radius / 40)

    return draw


@pytest.fixture(scope="session")
def write_video():
    """Images (H, W, 3) as a video without loss: what is read are the bytes that were written."""
    av = pytest.importorskip("av", reason="PyAV is not installed")

    def write(path, images, fps: int):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=fps)
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = "bgr0"
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            container.mux(stream.encode())
        return path

    return write


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
