"""`hf-vision`: the images of a video to one vector each, by a pretrained image encoder (ViT, DINOv2, the image side of CLIP)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench.media import VIDEO, read_frames
from mmbench_extractors.encoder import PretrainedEncoder
from mmbench_extractors.faces import FaceFinder, crop
from mmbench_extractors.loading import explain, import_transformers
from mmbench_extractors.options_vision import HFVisionConfig

CHUNK = 32
"""Images that the encoder sees at once."""
UNNAMED = ("image_processor_type", "processor_class", "feature_extractor_type", "auto_map", "backend")
"""Entries of preprocessor_config.json that do not say what is done to an image."""


class HFVision(PretrainedEncoder):
    """Any Hugging Face encoder that cuts an image into patches, always frozen; `width` is its hidden size.

    Images are preprocessed as its preprocessor_config.json says, with Pillow: so they come out the same whether or not torchvision is installed.
    """

    component = "hf-vision"
    reads = "pixel_values"
    tower = "vision_config"
    suffixes = VIDEO
    config: HFVisionConfig

    def __init__(self, config: HFVisionConfig):
        super().__init__(config)
        # both words for "with Pillow": transformers before 5 knows the first, later ones the second
        self.processor = self.source.load(import_transformers().AutoImageProcessor, use_fast=False, backend="pil")
        self.finder = FaceFinder(self.component, config.min_face) if config.face_crop == "opencv" else None
        self.width: int = self.encoder.config.hidden_size
        self.frame_rate = config.fps
        self.last_norm = self._probe()

    def options(self) -> dict[str, Any]:
        """The output, which images are taken, and what is done to them."""
        faces = {"margin", "no_face", "min_face"} if self.finder is None else set()
        finder = {} if self.finder is None else {"opencv": self.finder.release}
        steps = {name: value for name, value in self.processor.to_dict().items() if name not in UNNAMED and not name.startswith("_")}
        return {**self.config.model_dump(exclude={"model", *faces}), "preprocessing": steps, **finder}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A video as (T, C, H, W) float32: T images at `fps`, preprocessed. An image without a face, with `no_face: zeros`, is nothing but zeros."""
        images = [self._seen(image) for image in read_frames(Path(path_or_text), self.config.fps)]
        if len({image.shape for image in images}) > 1:
            raise ConfigError(
                f"hf-vision: model {self.config.model!r}: its preprocessing gives whole images and faces different shapes; set no_face: zeros"
            )
        return torch.stack(images)

    def forward(self, raw: Sequence) -> Sequence:
        """Images (B, T, C, H, W) with their mask -> (B, T, width); zero where the mask is False. What stands there is not even looked at."""
        values = torch.zeros(*raw.mask.shape, self.width, dtype=self.encoder.dtype, device=raw.values.device)  # (B, T, width)
        for rows in raw.mask.nonzero().split(CHUNK):  # so that memory does not grow with the clip
            images = raw.values[rows[:, 0], rows[:, 1]].to(self.encoder.dtype)  # (N, C, H, W)
            values[rows[:, 0], rows[:, 1]] = self._vectors(images).to(self.encoder.dtype)
        return Sequence(values, raw.mask)

    def _choose_trained(self) -> None:
        self.encoder.requires_grad_(False)
        self.train(self.training)

    def _seen(self, image: np.ndarray) -> Tensor:
        """What the encoder sees of an image (H, W, 3): (C, H', W')."""
        if self.finder is None:
            return self._pixels(image)
        face = self.finder.find(image)
        if face is not None:
            return self._pixels(crop(image, face, self.config.margin))
        if self.config.no_face == "whole":
            return self._pixels(image)
        side = min(image.shape[:2])
        return torch.zeros_like(self._pixels(image[:side, :side]))

    def _pixels(self, image: np.ndarray) -> Tensor:
        found: Tensor = self.processor(image, return_tensors="pt", input_data_format="channels_last")["pixel_values"][0]
        return found.float()

    def _vectors(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, width)."""
        states = self.encoder(pixel_values=images).last_hidden_state  # (N, tokens, width); the patches come last
        chosen = states[:, 0] if self.config.output == "cls" else states[:, -self._patches(images) :]
        if self.last_norm is not None:
            chosen = self.last_norm(chosen)
        vectors = chosen if self.config.output == "cls" else chosen.mean(1)
        if self.finder is not None and self.config.no_face == "zeros":
            vectors = vectors * images.flatten(1).any(1, keepdim=True)
        return vectors

    def _patches(self, images: Tensor) -> int:
        size = self.encoder.config.patch_size
        height, width = (size, size) if isinstance(size, int) else size
        return (images.shape[2] // height) * (images.shape[3] // width)

    @torch.no_grad()
    def _probe(self) -> nn.Module | None:
        """The norm that the encoder leaves to its pooling (CLIP), or None. ConfigError: it does not give a state for each patch of its images."""
        name = f"hf-vision: model {self.config.model!r}"
        images = self._pixels(np.tile(np.arange(64, dtype=np.uint8)[:, None], (48, 1, 3)))[None]
        try:
            found = self.encoder(pixel_values=images)
            first = found.last_hidden_state.shape[1] - self._patches(images)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{name}: cannot read the images that its preprocessor_config.json makes, {tuple(images.shape[1:])}: {explain(error)}"
            ) from error
        if found.last_hidden_state.ndim != 3 or first < (self.config.output == "cls"):
            wanted = "the first token of which output: cls takes" if first == 0 else "which this component reads"
            raise ConfigError(f"{name}: a {self.encoder.config.model_type!r} network gives no states of patches, {wanted}; take ViT, DINOv2 or CLIP")
        norm = next((module for name, module in self.encoder.named_modules() if name.endswith("post_layernorm")), None)
        pooled = getattr(found, "pooler_output", None)
        left = norm is not None and pooled is not None and torch.allclose(norm(found.last_hidden_state[:, 0]), pooled, atol=1e-5)
        return norm if left else None
