"""`mediapipe`: blendshapes, landmarks and pose of the face in each image, by MediaPipe's face landmarker.

MediaPipe (Lugaresi et al. 2019), its Tasks API; blendshapes in its order, the neutral one first. Each image is looked at alone: tracking from one
image to the next would let features depend on `fps` and on where a clip begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import ConfigError
from mmbench.installing import how_to_install
from mmbench.media import VIDEO, read_frames
from mmbench_extractors.options_vision import MediaPipeConfig
from mmbench_extractors.prepared import PreparedFeatures

SHAPES = {"blendshapes": (52,), "landmarks": (478, 3), "pose": (4, 4)}
"""By block: what MediaPipe gives of one face. Features are its values row by row, the blocks in this order."""

Detector = Callable[[np.ndarray], Any]
"""From an image (H, W, 3) uint8 RGB to MediaPipe's FaceLandmarkerResult."""


class MediaPipeFace(PreparedFeatures):
    """Zeros where no face is found; of several faces the one that MediaPipe finds first."""

    component = "mediapipe"
    suffixes = VIDEO

    def __init__(self, config: MediaPipeConfig):
        super().__init__(config)
        self.config = config
        self.blocks = [block for block in SHAPES if block in config.blocks]
        self.width = sum(int(np.prod(SHAPES[block])) for block in self.blocks)
        self.frame_rate = config.fps
        path = Path(config.model).expanduser()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"mediapipe: model {config.model!r}: cannot be read: {error.strerror or error}. It is the path of face_landmarker.task, a file "
                "that mediapipe does not bring: download it once, from the page of the face landmarker in MediaPipe's documentation"
            ) from None
        self.model_digest = hashlib.sha256(content).hexdigest()
        self.detector = detector(config, content)

    def facts(self) -> dict[str, Any]:
        """The options, the digest of the model's file, and the release that runs it."""
        own = {"blocks": self.blocks, "model": self.model_digest, "release": _release()}
        return self.config.model_dump(exclude={"model", "blocks"}) | own

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A video as (T, width) float32: T images at `fps`."""
        rows = [features(self.detector(image), self.blocks) for image in read_frames(Path(path_or_text), self.config.fps)]
        return torch.from_numpy(np.stack(rows))  # (T, width)


def _release() -> str | None:
    try:
        return metadata.version("mediapipe")
    except metadata.PackageNotFoundError:
        return None


def features(result: Any, blocks: Iterable[str]) -> np.ndarray:
    """The first face of a FaceLandmarkerResult as one row of features; zeros without a face. ConfigError: other shapes than MediaPipe documents."""
    found = []
    for block in blocks:
        values = _block(result, block) if result.face_landmarks else np.zeros(SHAPES[block])
        if values.shape != SHAPES[block]:
            raise ConfigError(
                f"mediapipe: its {block} are of shape {values.shape}, not {SHAPES[block]}; is the model another one than face_landmarker.task?"
            )
        found.append(np.where(np.isfinite(values), values, 0.0).ravel())
    return np.concatenate(found).astype(np.float32)


def _block(result: Any, block: str) -> np.ndarray:
    if block == "landmarks":
        return np.array([(point.x, point.y, point.z) for point in result.face_landmarks[0]], float)
    faces = result.face_blendshapes if block == "blendshapes" else result.facial_transformation_matrixes
    if not faces:
        return np.zeros(0)
    return np.array([shape.score for shape in faces[0]] if block == "blendshapes" else faces[0], float)


def detector(config: MediaPipeConfig, content: bytes) -> Detector:
    """MediaPipe's face landmarker with the model of which `content` is the file. ConfigError: it cannot be imported, or the file is no such model."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except (ImportError, OSError) as error:
        raise ConfigError(f"mediapipe: MediaPipe cannot be imported ({error}): {how_to_install('mmbench-extractors[mediapipe]')}") from error
    try:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=content),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=1,
            min_face_detection_confidence=config.confidence,
            min_face_presence_confidence=config.confidence,
            output_face_blendshapes="blendshapes" in config.blocks,
            output_facial_transformation_matrixes="pose" in config.blocks,
        )
        landmarker = vision.FaceLandmarker.create_from_options(options)
    except Exception as error:  # a wrong file reaches it as FileNotFoundError, RuntimeError or ValueError
        raise ConfigError(
            f"mediapipe: model {config.model!r}: is no model of the face landmarker, or is damaged ({str(error)[:200]}); take the file "
            "face_landmarker.task, or download it anew"
        ) from error
    return lambda image: landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
