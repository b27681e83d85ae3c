"""`opencv-face`: faces that are drawn, found where they were drawn, and described as by hand."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import ConfigError, DataError
from mmbench_extractors.faces import Face, FaceFinder, OpenCVFace, crop
from mmbench_extractors.options_vision import OpenCVFaceConfig

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


def build(**options):
    return OpenCVFace(OpenCVFaceConfig(**options))


def plain(height=240, width=240):
    return np.full((height, width, 3), 90, np.uint8)


@pytest.mark.parametrize(("size", "x", "y", "radius"), [(240, 120, 120, 70), (240, 90, 140, 50), (320, 200, 150, 40), (480, 200, 220, 120)])
def test_a_face_is_found_where_it_was_drawn(draw_face, size, x, y, radius):
    face = FaceFinder("test", 0.1).find(draw_face(size, x, y, radius))
    assert abs(face.x + face.side / 2 - x) < 0.15 * radius
    assert abs(face.y + face.side / 2 - y) < 0.2 * radius
    assert 1.8 * radius < face.side < 2.6 * radius


def test_a_face_in_the_dark_is_found(draw_face):
    image = draw_face(240, 90, 140, 50)
    bright, dark = FaceFinder("test", 0.15).find(image), FaceFinder("test", 0.15).find(image // 12)
    assert np.abs(np.subtract(bright, dark)).max() < 10


def test_large_images_are_searched_at_a_smaller_size(draw_face):
    finder = FaceFinder("test", 0.1)
    image = draw_face(240, 110, 130, 50)
    small = finder.find(image)
    large = finder.find(cv2.resize(image, (1920, 1920), interpolation=cv2.INTER_CUBIC))
    for one, other in zip(small, large, strict=True):
        assert abs(8 * one - other) < 8 * 0.06 * small.side


def test_the_largest_face_is_taken_and_small_ones_are_not(draw_face):
    both = np.concatenate([draw_face(200, 100, 100, 35), draw_face(200, 100, 100, 60)], 1)
    assert FaceFinder("test", 0.1).find(both).x > 200
    assert FaceFinder("test", 0.1).find(both[:, ::-1].copy()).x < 200
    assert FaceFinder("test", 0.6).find(draw_face(200, 100, 100, 35)) is None
    assert FaceFinder("test", 0.1).find(plain()) is None


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), margin=st.floats(0, 3), place=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
)
def test_a_crop_is_a_square_within_the_image_around_the_face(height, width, margin, place):
    side = 1 + int(place[2] * (min(height, width) - 1))
    face = Face(int(place[0] * (width - side)), int(place[1] * (height - side)), side)
    rows, columns = np.mgrid[:height, :width]
    found = crop(np.stack([rows, columns, 0 * rows], 2).astype(np.uint8), face, margin)
    wanted = min(round(side * (1 + 2 * margin)), height, width)
    assert found.shape == (wanted, wanted, 3)
    top, left = found[0, 0, :2].astype(int)
    assert top <= face.y
    assert left <= face.x
    assert top + wanted >= face.y + side
    assert left + wanted >= face.x + side
    for start, corner, length in ((top, face.y, height), (left, face.x, width)):  # in the middle, unless an edge is in the way
        assert start in (0, length - wanted) or abs(start + wanted / 2 - corner - side / 2) <= 1


@pytest.mark.parametrize(("cell", "gradients"), [(8, 1764), (16, 324)])
def test_features_are_the_place_and_the_gradients_of_the_face(draw_face, write_video, tmp_path, cell, gradients):
    image = np.concatenate([draw_face(200, 110, 95, 50), plain(200, 60)], 1)
    path = write_video(tmp_path / "clip.mkv", [image, plain(200, 260), image[:, ::-1]], fps=4)
    extractor = build(fps=4.0, cell=cell)
    found = extractor.prepare(path)
    assert found.shape == (3, extractor.width) == (3, 5 + gradients)
    assert found.dtype == torch.float32
    assert not found[1].any()
    x, y, side = FaceFinder("test", 0.15).find(image)
    np.testing.assert_allclose(found[0, :5], [1, (x + side / 2) / 260, (y + side / 2) / 200, side / 260, side / 200], rtol=1e-6)
    assert abs(found[0, 1] - 110 / 260) < 0.05
    assert abs(found[2, 1] - 150 / 260) < 0.05  # mirrored
    grey = cv2.resize(cv2.cvtColor(image[y : y + side, x : x + side], cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    hog = cv2.HOGDescriptor(_winSize=(64, 64), _blockSize=(2 * cell,) * 2, _blockStride=(cell,) * 2, _cellSize=(cell,) * 2, _nbins=9)
    np.testing.assert_allclose(found[0, 5:], hog.compute(grey).ravel(), atol=1e-5)  # older releases of OpenCV repeat themselves up to rounding
    assert (extractor.frame_rate, extractor.suffixes[0]) == (4.0, ".mp4")


def test_gradients_point_where_the_edges_do():
    """Dalal and Triggs by the definition: vertical edges have all their weight at 0 degrees, horizontal ones at 90, blocks have norm one."""
    extractor = build()
    steps = np.tile(np.repeat([40, 200], 4), 8).astype(np.uint8)
    for image, bins in ((np.tile(steps, (64, 1)), {0, 8}), (np.tile(steps[:, None], (1, 64)), {4})):
        found = extractor.gradients.compute(image).reshape(7 * 7, 4, 9)
        assert {int(number) for number in np.nonzero(found.sum((0, 1)) > 1e-3)[0]} == bins
        np.testing.assert_allclose(np.square(found).sum((1, 2)), 1, atol=0.01)


def test_a_clip_gives_the_same_features_again(draw_face, write_video, tmp_path):
    images = [draw_face(240, 110 + 3 * i, 120, 60, mouth=0.03 + 0.02 * i) for i in range(4)]
    path = write_video(tmp_path / "clip.mkv", images, fps=4)
    extractor = build(fps=4.0)
    assert cv2.getNumThreads() == 1
    first = extractor.prepare(path)
    assert torch.equal(build(fps=4.0).prepare(str(path)), first)
    try:
        cv2.setNumThreads(4)
        assert torch.equal(extractor.prepare(path), first)
    finally:
        cv2.setNumThreads(1)
    assert len({tuple(row.tolist()) for row in first}) == 4


def test_the_digest_covers_every_option_and_the_release_that_finds_faces(monkeypatch):
    changes = [{}, {"fps": 5.0}, {"cell": 16}, {"min_face": 0.3}]
    assert {name for change in changes for name in change} == set(OpenCVFaceConfig.model_fields)
    assert len({build(**change).digest() for change in changes}) == len(changes)
    assert build().digest() == build().digest()
    before = build().digest()
    monkeypatch.setattr(cv2, "__version__", "0.0")
    assert build().digest() != before


def test_a_file_without_pictures_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.mp4"):
        build().prepare(tmp_path / "gone.mp4")


def test_an_opencv_without_cascades_is_named(monkeypatch):
    newer = types.SimpleNamespace(__version__="5.0.0", setNumThreads=lambda count: None, data=types.SimpleNamespace(haarcascades="/nowhere/"))
    monkeypatch.setitem(sys.modules, "cv2", newer)
    with pytest.raises(ConfigError, match=r"opencv-face: OpenCV 5\.0\.0 brings no cascades.*pip install "):
        build()
    newer.CascadeClassifier = lambda path: types.SimpleNamespace(empty=lambda: True)
    with pytest.raises(ConfigError, match="cannot be read"):
        build()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match="opencv-face: OpenCV cannot be imported"):
        build()
