"""`mediapipe`: results as its documentation describes them, and, where it is installed, its own words for files that are no models.

No release of the package holds face_landmarker.task, so no landmark of a real face is computed here.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from types import SimpleNamespace as Record

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mmbench.errors import ConfigError
from mmbench_extractors import landmarks
from mmbench_extractors.landmarks import MediaPipeFace, features
from mmbench_extractors.options_vision import MediaPipeConfig

EVERY = ["blendshapes", "landmarks", "pose"]


def result(faces=1, seed=0, points=478):
    """A FaceLandmarkerResult: lists over faces of landmarks, blendshapes and matrices; and the first face's numbers in one row."""
    random = np.random.default_rng(seed)
    scores, places, matrices = random.random((2, 52)), random.random((2, points, 3)), random.normal(size=(2, 4, 4))
    found = Record(
        face_landmarks=[[Record(x=x, y=y, z=z, visibility=None, presence=None) for x, y, z in face] for face in places[:faces]],
        face_blendshapes=[
            [Record(index=i, score=score, display_name="", category_name=f"shape{i}") for i, score in enumerate(face)] for face in scores[:faces]
        ],
        facial_transformation_matrixes=list(matrices[:faces]),
    )
    return found, np.concatenate([scores[0].ravel(), places[0].ravel(), matrices[0].ravel()]).astype(np.float32)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """An extractor whose landmarker knows an image by the red of its corner; 0: no face."""

    def make(**options):
        model = tmp_path / "face_landmarker.task"
        model.write_bytes(b"model")
        monkeypatch.setattr(landmarks, "detector", lambda config, content: lambda image: result(int(image[0, 0, 0] > 0), int(image[0, 0, 0]))[0])
        return MediaPipeFace(MediaPipeConfig(model=str(model), **options))

    return make


@pytest.mark.parametrize("faces", [1, 2])
def test_features_are_the_blocks_of_the_first_face(faces):
    found, expected = result(faces)
    assert np.array_equal(features(found, EVERY), expected)
    assert np.array_equal(features(found, ["blendshapes"]), expected[:52])
    assert np.array_equal(features(found, ["landmarks"]), expected[52:1486])
    assert np.array_equal(features(found, ["blendshapes", "pose"]), expected[[*range(52), *range(1486, 1502)]])
    assert features(found, EVERY).dtype == np.float32


def test_what_was_not_asked_for_may_be_missing():
    """MediaPipe leaves the lists of outputs that are switched off empty."""
    found, expected = result()
    found.face_blendshapes, found.facial_transformation_matrixes = [], []
    assert np.array_equal(features(found, ["landmarks"]), expected[52:1486])
    for block in ("blendshapes", "pose"):
        with pytest.raises(ConfigError, match=rf"mediapipe: its {block} are of shape \(0,\)"):
            features(found, [block])


def test_an_image_without_a_face_gives_zeros():
    assert not features(result(0)[0], EVERY).any()
    assert features(result(0)[0], EVERY).shape == (1502,)


def test_other_models_and_values_that_are_not_finite():
    with pytest.raises(ConfigError, match=r"landmarks are of shape \(468, 3\), not \(478, 3\)"):
        features(result(points=468)[0], EVERY)
    found, expected = result()
    found.face_blendshapes[0][7].score = float("nan")
    expected[7] = 0
    assert np.array_equal(features(found, EVERY), expected)


def test_each_image_of_a_video_is_a_row(stand_in, write_video, tmp_path):
    images = [np.full((16, 24, 3), red, np.uint8) for red in (9, 9, 0, 0, 60, 60)]
    path = write_video(tmp_path / "clip.mkv", images, fps=4)
    extractor = stand_in(fps=2.0, blocks=("pose", "blendshapes", "landmarks"))
    found = extractor.prepare(path)
    assert found.dtype == torch.float32
    assert found.shape == (3, extractor.width) == (3, 1502)
    assert np.array_equal(found.numpy(), np.stack([result(seed=9)[1], 0 * result()[1], result(seed=60)[1]]))
    assert (extractor.frame_rate, extractor.suffixes[0]) == (2.0, ".mp4")
    assert stand_in().width == 52 + 16


def test_the_digest_covers_options_and_the_model(stand_in, tmp_path):
    changes = [{}, {"fps": 5.0}, {"blocks": ("landmarks",)}, {"confidence": 0.3}]
    assert {name for change in changes for name in change} | {"model"} == set(MediaPipeConfig.model_fields)
    found = {stand_in(**change).digest() for change in changes}
    assert len(found) == len(changes)
    assert stand_in(blocks=("pose", "blendshapes")).digest() == stand_in(blocks=("blendshapes", "pose")).digest()
    assert stand_in().model_digest == hashlib.sha256(b"model").hexdigest()
    other = tmp_path / "other.task"
    other.write_bytes(b"another")
    assert MediaPipeFace(MediaPipeConfig(model=str(other))).digest() not in found


def test_a_missing_model_says_where_it_comes_from(tmp_path):
    for path in (tmp_path / "gone.task", tmp_path):
        with pytest.raises(ConfigError, match=r"mediapipe: model .* cannot be read: .*face_landmarker\.task.*download it once"):
            MediaPipeFace(MediaPipeConfig(model=str(path)))
    with pytest.raises(ValidationError, match="one thing twice"):
        MediaPipeConfig(model="m", blocks=("pose", "pose"))
    with pytest.raises(ValidationError, match="blocks"):
        MediaPipeConfig(model="m", blocks=())


def test_a_machine_without_mediapipe_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    (tmp_path / "face_landmarker.task").write_bytes(b"model")
    with pytest.raises(ConfigError, match=r"MediaPipe cannot be imported.*pip install .*mediapipe"):
        MediaPipeFace(MediaPipeConfig(model=str(tmp_path / "face_landmarker.task")))


PARTS = ("face_detector.tflite", "face_landmarks_detector.tflite", "face_blendshapes.tflite", "geometry_pipeline_metadata_landmarks.binarypb")
"""What a bundle of the face landmarker holds."""


def bundle(path, parts, content):
    with zipfile.ZipFile(path, "w") as archive:
        for name in parts:
            archive.writestr(name, content)
    return path.read_bytes()


@pytest.mark.parametrize("wrong", ["empty", "text", "another bundle", "empty parts", "parts of zeros", "parts that only begin well", "cut short"])
def test_mediapipe_names_a_file_that_is_no_model(tmp_path, wrong):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed", exc_type=ImportError)
    path = tmp_path / "face_landmarker.task"
    whole = bundle(path, PARTS, b"\x1c\0\0\0TFL3" + bytes(4000))
    contents = {
        "empty": b"", "text": b"no model" * 100, "another bundle": bundle(path, ["a.tflite"], b"x"), "empty parts": bundle(path, PARTS, b""),
        "parts of zeros": bundle(path, PARTS, bytes(4000)), "parts that only begin well": whole, "cut short": whole[:-500],
    }  # fmt: skip
    path.write_bytes(contents[wrong])
    with pytest.raises(ConfigError, match=r"mediapipe: model .*face_landmarker\.task.*is no model of the face landmarker, or is damaged \(.+\)"):
        MediaPipeFace(MediaPipeConfig(model=str(path), blocks=tuple(EVERY)))
