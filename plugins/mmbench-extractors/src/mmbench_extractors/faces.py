"""Faces with OpenCV's own cascades, and `opencv-face`: where the largest face of each image is, and its histogram of oriented gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import ConfigError
from mmbench.installing import how_to_install
from mmbench.media import VIDEO, read_frames
from mmbench_extractors.options_vision import OpenCVFaceConfig
from mmbench_extractors.prepared import PreparedFeatures

CASCADE = "haarcascade_frontalface_default.xml"
SIDE = 640
"""Larger images are made smaller, to this longer side, before faces are looked for. Our choice: a speaker's face stays far above 24 pixels."""
STEP, NEIGHBOURS = 1.1, 5
"""How the search window grows, and how many finds make a face."""
FACE = 64
"""Side of the grey face that the gradients are of."""


class Face(NamedTuple):
    """A square in an image, in pixels: its upper left corner and its side."""

    x: int
    y: int
    side: int


class FaceFinder:
    """Finds the largest face of an image. `component` is named in errors. ConfigError: no OpenCV that brings its cascades."""

    def __init__(self, component: str, min_face: float):
        self.cv2 = import_cv2(component)
        self.release: str = self.cv2.__version__  # which faces it finds is its own affair
        self.cv2.setNumThreads(1)  # clips are worked on side by side, each by a process of its own
        self.min_face = min_face
        self.cascade = self.cv2.CascadeClassifier(str(Path(self.cv2.data.haarcascades) / CASCADE))
        if self.cascade.empty():
            raise ConfigError(f"{component}: OpenCV's file {CASCADE} cannot be read; install opencv-python-headless anew")

    def find(self, image: np.ndarray) -> Face | None:
        """The largest face of an image (H, W, 3) uint8 RGB, or None. Of equal ones that with most finds, then the upper left."""
        scale = min(1.0, SIDE / max(image.shape[:2]))
        grey = self.cv2.equalizeHist(_resized(self.cv2, self.cv2.cvtColor(image, self.cv2.COLOR_RGB2GRAY), scale))
        least = max(1, round(self.min_face * min(grey.shape)))
        boxes, finds = self.cascade.detectMultiScale2(grey, scaleFactor=STEP, minNeighbors=NEIGHBOURS, minSize=(least, least))
        found = [(-int(side), -int(count), int(y), int(x)) for (x, y, side, _), count in zip(boxes, finds, strict=True)]
        if not found:
            return None
        side, _, y, x = min(found)
        return self._inside(Face(round(x / scale), round(y / scale), round(-side / scale)), image)

    @staticmethod
    def _inside(face: Face, image: np.ndarray) -> Face:
        """Rounding may carry a face one pixel over the edge."""
        height, width = image.shape[:2]
        side = min(face.side, height, width)
        return Face(min(face.x, width - side), min(face.y, height - side), side)


def crop(image: np.ndarray, face: Face, margin: float) -> np.ndarray:
    """The square around a face, `margin` of its side wider on each side; moved and made smaller as the image's edges ask for."""
    height, width = image.shape[:2]
    side = min(round(face.side * (1 + 2 * margin)), height, width)
    x = min(max(0, face.x + (face.side - side) // 2), width - side)
    y = min(max(0, face.y + (face.side - side) // 2), height - side)
    return np.ascontiguousarray(image[y : y + side, x : x + side])


class OpenCVFace(PreparedFeatures):
    """Per image 1, the centre and the size of the largest face relative to the image, and its gradients; zeros where there is no face.

    Gradients: of the face in grey, 64 x 64; nine orientations in cells of `cell` pixels, in blocks of 2 x 2 cells, a cell apart, with the norm L2-Hys
    (Dalal & Triggs 2005).
    """

    component = "opencv-face"
    suffixes = VIDEO
    PLACE = 5

    def __init__(self, config: OpenCVFaceConfig):
        super().__init__(config)
        self.config = config
        self.finder = FaceFinder(self.component, config.min_face)
        cell = config.cell
        self.gradients = self.finder.cv2.HOGDescriptor((FACE, FACE), (2 * cell, 2 * cell), (cell, cell), (cell, cell), 9)
        self.width = self.PLACE + int(self.gradients.getDescriptorSize())
        self.frame_rate = config.fps

    def facts(self) -> dict[str, Any]:
        """All options, and the release that finds faces."""
        return {**self.config.model_dump(), "release": self.finder.release}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A video as (T, width) float32: T images at `fps`."""
        rows = [self._features(image) for image in read_frames(Path(path_or_text), self.config.fps)]
        return torch.from_numpy(np.stack(rows))  # (T, width)

    def _features(self, image: np.ndarray) -> np.ndarray:
        found = np.zeros(self.width, np.float32)
        face = self.finder.find(image)
        if face is not None:
            height, width = image.shape[:2]
            centre = (face.x + face.side / 2) / width, (face.y + face.side / 2) / height
            found[: self.PLACE] = 1, *centre, face.side / width, face.side / height
            found[self.PLACE :] = self.gradients.compute(self._grey(image, face)).ravel()
        return found

    def _grey(self, image: np.ndarray, face: Face) -> np.ndarray:
        cv2 = self.finder.cv2
        cut = cv2.cvtColor(crop(image, face, margin=0.0), cv2.COLOR_RGB2GRAY)
        grey: np.ndarray = cv2.resize(cut, (FACE, FACE), interpolation=cv2.INTER_AREA)
        return grey


def import_cv2(component: str) -> Any:
    """OpenCV, or a ConfigError that says how to get one that brings its cascades."""
    try:
        import cv2
    except (ImportError, OSError) as error:
        raise ConfigError(f"{component}: OpenCV cannot be imported ({error}): {how_to_install('mmbench-extractors[faces]')}") from error
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
        raise ConfigError(
            f"{component}: OpenCV {cv2.__version__} brings no cascades to find faces, as none does from 5 on: uninstall it and other packages of "
            f"OpenCV that share its folder (opencv-python, opencv-contrib-python), then {how_to_install('mmbench-extractors[faces]')}"
        )
    return cv2


def _resized(cv2: Any, grey: np.ndarray, scale: float) -> Any:
    return grey if scale == 1.0 else cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
