"""Options of the extractors of vision, and of those that read what OpenFace and COVAREP wrote. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from mmbench import ComponentConfig
from mmbench_extractors.config import OUR_CHOICE, option

Blocks = Literal["blendshapes", "landmarks", "pose"]
Groups = Literal["gaze", "eye_landmarks", "pose", "landmarks", "pdm", "action_units"]
GROUPS: tuple[Groups, ...] = ("gaze", "eye_landmarks", "pose", "landmarks", "pdm", "action_units")
COVAREP_WIDTH = 74


def _fps(default: float) -> Any:
    return option(default, "images per second; image i is the one shown i / fps seconds after the first", gt=0, le=240)


def _min_face() -> Any:
    return option(0.15, "least side of a face, as a part of the image's shorter side; smaller finds are taken for chance", gt=0, le=1)


def _unique(names: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names one thing twice")
    return names


class HFVisionConfig(ComponentConfig):
    """An image encoder on the images of a video."""

    model: str = option(
        ...,
        "name on the Hugging Face hub, or a local folder with config.json, the weights and preprocessor_config.json; of CLIP the image side is taken",
        "no default",
        min_length=1,
    )
    fps: float = _fps(2.0)
    output: Literal["cls", "mean"] = option(
        "cls", "`cls`: the state of the first token; `mean`: the mean over the patches; either after the encoder's last norm"
    )
    face_crop: Literal["none", "opencv"] = option("none", "`opencv`: the encoder sees the square around the largest face that opencv-face finds")
    margin: float = option(0.3, "with `face_crop`: what is added to the face on each side, as a part of its own side", ge=0, le=3)
    no_face: Literal["whole", "zeros"] = option("whole", "with `face_crop`: an image without a face is seen whole, or its features are zeros")
    min_face: float = _min_face()


class OpenCVFaceConfig(ComponentConfig):
    """The largest face of each image: where it is, and a histogram of oriented gradients."""

    fps: float = _fps(10.0)
    cell: Literal[8, 16] = option(
        8,
        "pixels of a cell's side, on the face scaled to 64 x 64: 8 gives 1764 gradients, 16 gives 324",
        "Dalal & Triggs (2005); the sizes are our choice",
    )
    min_face: float = _min_face()


class MediaPipeConfig(ComponentConfig):
    """MediaPipe's face landmarker."""

    model: str = option(
        ...,
        "path of the file face_landmarker.task, which Google offers for download beside MediaPipe's documentation; the package does not bring it",
        "no default",
        min_length=1,
    )
    fps: float = _fps(10.0)
    blocks: tuple[Blocks, ...] = option(
        ("blendshapes", "pose"),
        "what the features are made of: 52 blendshapes; 478 landmarks (x, y, z relative to the image); pose: the 4 x 4 matrix that puts the standard "
        "face where the face is",
        min_length=1,
    )
    confidence: float = option(0.5, "least confidence of a face", "MediaPipe's default", ge=0, le=1)

    _blocks = field_validator("blocks")(_unique)


class _Folder(ComponentConfig):
    folder: str | None = Field(
        None,
        description="where <video>/<clip> lies with the ending of the tool: absolute, or seen from the raw folder; without it beside the recordings",
        json_schema_extra={"source": OUR_CHOICE},
        min_length=1,
    )


class OpenFaceCSVConfig(_Folder):
    """What OpenFace's FeatureExtraction wrote."""

    columns: tuple[Groups, ...] = option(
        GROUPS,
        "groups of columns: gaze (8), eye_landmarks (280), pose (6), landmarks (340), pdm (40), action_units (35); in the order of the file",
        "CH-SIMS (Yu et al. 2020), whose 709 features are all of them",
        min_length=1,
    )
    fps: float = option(30.0, "images per second of the videos that OpenFace read; a file whose timestamps say otherwise is refused", gt=0, le=240)
    resample: bool = option(False, "take, from files of any rate, the row of the image shown at i / fps, for data sets whose videos differ")

    _columns = field_validator("columns")(_unique)


class COVAREPMatConfig(_Folder):
    """What COVAREP's COVAREP_feature_extraction wrote."""

    columns: tuple[int, ...] | None = Field(
        None,
        description="numbers of the columns to take, counted from 0; without it all 74. The CMU-MOSI features of MulT and MISA are [1, 3, 6, 25, 60]",
        json_schema_extra={"source": OUR_CHOICE},
        min_length=1,
    )
    fps: float = option(
        100.0, "rows per second: 1 / the sample_rate that COVAREP was given; the file does not say", "COVAREP's default, 10 ms", gt=0, le=10_000
    )

    @field_validator("columns")
    @classmethod
    def _columns(cls, columns: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if columns is not None and not all(0 <= number < COVAREP_WIDTH for number in columns):
            raise ValueError(f"columns are numbered from 0 to {COVAREP_WIDTH - 1}")
        return None if columns is None else _unique(columns)
