"""`hf-audio`: a 16 kHz waveform to the frames of a pretrained speech encoder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench.media import AUDIO, VIDEO
from mmbench_extractors.config import HFAudioConfig
from mmbench_extractors.encoder import PretrainedEncoder
from mmbench_extractors.loading import import_transformers
from mmbench_extractors.options_audio import RATE
from mmbench_extractors.waveform import read_waveform


class HFAudio(PretrainedEncoder):
    """Data2Vec-audio, HuBERT, wav2vec 2.0 or WavLM; `width` is the width of its frames, `window` the samples that its first frame sees.

    Whether the waveform is normalised, and whether attention leaves out the padding, is what the model's preprocessor_config.json says:
    encoders with a group norm over time were trained without an attention mask. LayerDrop is off always (a dropped layer gets no gradient,
    and which one is drawn step by step), SpecAugment unless `augment`.
    """

    component = "hf-audio"
    reads = "input_values"
    suffixes = (*AUDIO, *VIDEO)
    config: HFAudioConfig

    def __init__(self, config: HFAudioConfig):
        # WavLM hands torch a boolean and a float mask at once
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
        super().__init__(config, layerdrop=0.0, apply_spec_augment=config.augment and config.finetune)
        network = self.encoder.config
        preprocessor = self.source.load(import_transformers().AutoFeatureExtractor)
        if preprocessor.sampling_rate != RATE:
            raise ConfigError(f"hf-audio: model {config.model!r} reads {preprocessor.sampling_rate} Hz; waveforms here are {RATE} Hz")
        self.normalised: bool = preprocessor.do_normalize
        self.masked: bool = preprocessor.return_attention_mask
        self.width: int = network.output_hidden_size if getattr(network, "add_adapter", False) else network.hidden_size
        shrinks = network.adapter_stride**network.num_adapter_layers if getattr(network, "add_adapter", False) else 1
        self.frame_rate = RATE / (math.prod(network.conv_stride) * shrinks)
        self.window = 1
        for kernel, stride in zip(reversed(network.conv_kernel), reversed(network.conv_stride), strict=True):
            self.window = (self.window - 1) * stride + kernel

    def _check_kind(self) -> None:
        super()._check_kind()
        if not hasattr(self.encoder, "_get_feat_extract_output_lengths"):
            raise ConfigError(f"hf-audio: model {self.config.model!r} is a {self.encoder.config.model_type!r} network, which reads no waveform")

    def _choose_trained(self) -> None:
        if getattr(self.encoder, "masked_spec_embed", None) is not None and not self.encoder.config.apply_spec_augment:
            self.encoder.masked_spec_embed = None  # only SpecAugment reads it
        super()._choose_trained()
        if self.config.freeze_convolutions:
            self.encoder.feature_extractor.requires_grad_(False)

    def front(self) -> Iterable[nn.Module]:
        """The convolution stack, the projection, the positions, and the norm where it comes before the layers."""
        encoder = self.encoder.encoder
        norm = [] if getattr(self.encoder.config, "do_stable_layer_norm", False) else [encoder.layer_norm]
        return [self.encoder.feature_extractor, self.encoder.feature_projection, encoder.pos_conv_embed, *norm]

    def layers(self) -> nn.ModuleList:
        """The transformer blocks."""
        found: nn.ModuleList = self.encoder.encoder.layers
        return found

    def options(self) -> dict[str, Any]:
        """How waveforms are preprocessed."""
        return {"normalised": self.normalised, "masked": self.masked}

    def train(self, mode: bool = True) -> HFAudio:
        """As usual with `finetune`; a convolution stack whose weights are frozen stays out of the graph."""
        super().train(mode)
        stack = self.encoder.feature_extractor
        if not any(parameter.requires_grad for parameter in stack.parameters()):
            stack.eval()  # in training mode it asks for a gradient of the waveform
        return self

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """The sound of a file or a video as a waveform (T,): float32, mono, 16 kHz."""
        return read_waveform(Path(path_or_text))

    def forward(self, raw: Sequence) -> Sequence:
        """Waveforms (B, T) at 16 kHz, right-padded, with their mask -> frames (B, T', width); zero where the mask is False.

        The real frames are those of the model's own output-length rule for the real samples; a sample with too few for a frame, or none,
        keeps one. The input's length is never changed, since several of these encoders change their features with it: pad every batch
        to one number of seconds. What stands in masked positions changes nothing.
        """
        short = max(0, self.window - raw.mask.shape[1])
        mask = nn.functional.pad(raw.mask, (0, short))  # (B, T)
        waveform = nn.functional.pad(raw.values.to(self.encoder.dtype), (0, short)).masked_fill(~mask, 0.0)
        lengths = mask.sum(1)
        if self.normalised:
            waveform = _normalise(waveform, mask, lengths)
        lengths = lengths.clamp(min=self.window)
        attended = _first(lengths, mask.shape[1]).long() if self.masked else None
        states = self.encoder(input_values=waveform, attention_mask=attended).last_hidden_state  # (B, T', width)
        real = _first(self.encoder._get_feat_extract_output_lengths(lengths), states.shape[1])
        return Sequence(states.to(self.encoder.dtype).masked_fill(~real.unsqueeze(-1), 0.0), real)


def _first(counts: Tensor, size: int) -> Tensor:
    """(B,) -> (B, size) bool, True on the first `counts` entries of each row."""
    return torch.arange(size, device=counts.device) < counts.unsqueeze(1)


def _normalise(waveform: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over the real samples: (x - μ) / √(σ² + 1e-7); padding is 0 (wav2vec 2.0's preprocessing)."""
    count = lengths.clamp(min=1).unsqueeze(1)
    centred = (waveform - waveform.sum(1, keepdim=True) / count).masked_fill(~mask, 0.0)
    return centred * (centred.square().sum(1, keepdim=True) / count + 1e-7).rsqrt()
