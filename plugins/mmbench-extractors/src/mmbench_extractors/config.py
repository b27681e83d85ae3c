"""Options of the extractors. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmbench import ComponentConfig

OUR_CHOICE = "our choice"


def option(default: Any, description: str, source: str = OUR_CHOICE, **limits: Any) -> Any:
    """A field with its default, what it does, and where the default comes from."""
    return Field(default, description=description, json_schema_extra={"source": source}, **limits)


class EncoderConfig(ComponentConfig):
    """What both extractors share."""

    model: str = option(
        ...,
        "name on the Hugging Face hub, or a local folder with config.json, the weights and the tokenizer or preprocessor_config.json",
        "no default",
        min_length=1,
    )
    finetune: bool = option(False, "train the encoder; without it its weights are frozen and it stays in evaluation mode, so features can be cached")
    freeze_layers: int = option(
        0, "with `finetune`: the embeddings (audio: all before the first layer) and the first n layers stay frozen; 0: none", ge=0
    )
    gradient_checkpointing: bool = option(False, "with `finetune`: compute activations again in the backward pass, for less memory and more time")


class HFTextConfig(EncoderConfig):
    """A text encoder."""

    output: Literal["tokens", "cls"] = option(
        "tokens", "`tokens`: the last hidden state of each token; `cls`: the first token's, a sequence of length one"
    )
    max_tokens: int = option(96, "raw text is cut to this many tokens, special ones included", "MMML (Wu et al. 2024), English; 64 for CH-SIMS", ge=2)


class HFAudioConfig(EncoderConfig):
    """A speech encoder."""

    freeze_convolutions: bool = option(
        True, "with `finetune`: keep the convolution stack that reads the waveform frozen", "MMML (Wu et al. 2024), which SLaD builds on"
    )
    augment: bool = option(
        False, "with `finetune`: the encoder's own SpecAugment masking in training; draws from NumPy's generator and waits for the device"
    )
