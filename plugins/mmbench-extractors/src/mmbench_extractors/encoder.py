"""What pretrained encoders share: loading, what is trained, evaluation mode while frozen, the digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from mmbench.errors import ConfigError
from mmbench.interfaces import FeatureExtractor
from mmbench_extractors.attention import never_wait, quick_dropout
from mmbench_extractors.loading import Source, load_network

NO_FEATURE = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")
"""Entries of a model's config that say nothing about its features."""


class PretrainedEncoder(FeatureExtractor):
    """A pretrained network behind the extractor contract. A subclass says what it reads and where its layers are.

    Frozen (`finetune: false`): no parameter asks for a gradient and `train()` leaves the network in evaluation mode, so that the features
    of a sample never change. Raises `ConfigError` where the network cannot be had or is of another kind.
    """

    component: str
    reads: str
    """Name of the network's input: what tells a text encoder from a speech encoder."""
    tower: str | None = None
    """Where a model of several modalities has a config for this one."""
    config: Any

    def __init__(self, config: Any, **overrides: Any):
        super().__init__(config)
        self.config = config
        self.source = Source(self.component, config.model)
        self.encoder, self._identity = load_network(self.source, self.tower, **overrides)
        self._digest: tuple[Any, str] | None = None
        self._check_kind()
        never_wait(self.encoder)
        quick_dropout(self.encoder)
        self._choose_trained()

    def front(self) -> Iterable[nn.Module]:
        """Everything before the first layer."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in front")

    def layers(self) -> nn.ModuleList | None:
        """The layers, first to last; None where the network's cannot be told apart."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in layers")

    def options(self) -> dict[str, Any]:
        """The options, and facts of the preprocessing, that change features."""
        raise NotImplementedError(f"{type(self).__name__} is abstract in options")

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """As usual with `finetune`; else the network stays in evaluation mode: no dropout, no dropped layers, no masking."""
        super().train(mode)
        if not self.finetune:
            self.encoder.eval()
        return self

    def digest(self) -> str:
        """SHA-256 of the weights (names, types, shapes, bytes), the network's config and the options that change features.

        Computed again only where a weight has been written since: each reading of BERT-base's takes 0.3 s.
        """
        written = tuple((value.data_ptr(), value._version) for value in self.encoder.state_dict().values())
        if self._digest is None or self._digest[0] != written:
            self._digest = (written, self._compute_digest())
        return self._digest[1]

    def _compute_digest(self) -> str:
        config = {name: value for name, value in self._identity.items() if name not in NO_FEATURE}
        facts = {"component": self.component, "network": config, "options": self.options()}
        found = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, value in sorted(self.encoder.state_dict().items()):
            if name.endswith("masked_spec_embed"):  # used by SpecAugment alone
                continue
            found.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    def _check_kind(self) -> None:
        config = self.encoder.config
        reads = "encoder-decoder" if config.is_encoder_decoder else self.encoder.main_input_name
        if reads == self.reads and not hasattr(config, "hidden_size"):
            raise ConfigError(
                f"{self.component}: model {self.config.model!r} is a {config.model_type!r} network without one hidden size, as those of several "
                "encoders and of convolutions are; take a single encoder of transformer layers"
            )
        if reads != self.reads:
            other = {"input_ids": "hf-text", "input_values": "hf-audio", "pixel_values": "hf-vision"}.get(reads)
            hint = f"; use {other}" if other and other != self.component else ""
            raise ConfigError(
                f"{self.component}: model {self.config.model!r} is a {config.model_type!r} network, which reads {reads}, not {self.reads}{hint}"
            )

    def _choose_trained(self) -> None:
        self.encoder.requires_grad_(self.finetune)
        count = self.config.freeze_layers
        if count:
            layers = self.layers()
            if layers is None or count > len(layers):
                known = "cannot be told apart" if layers is None else f"number {len(layers)}"
                raise ConfigError(f"{self.component}: freeze_layers: {count}: the layers of {self.config.model!r} {known}")
            for module in [*self.front(), *layers[:count]]:
                module.requires_grad_(False)
        if self.finetune and self.config.gradient_checkpointing:
            if not self.encoder.supports_gradient_checkpointing:
                raise ConfigError(f"{self.component}: gradient_checkpointing: {self.encoder.config.model_type!r} networks do not support it")
            enable = getattr(self.encoder, "activation_checkpointing_enable", None) or self.encoder.gradient_checkpointing_enable  # name before 5.x
            enable({"use_reentrant": False})
        self.train(self.training)
