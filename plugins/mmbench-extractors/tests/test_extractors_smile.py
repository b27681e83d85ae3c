"""`opensmile`: what the package gives, for files and videos, finite always; and a clear error without it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile
import torch

from mmbench.batch import Sequence
from mmbench.errors import ConfigError, DataError
from mmbench_extractors.options_audio import OpensmileConfig
from mmbench_extractors.smile import Opensmile

RATE = 16_000


@pytest.fixture
def opensmile():
    return pytest.importorskip("opensmile", reason="opensmile is not installed (the extra opensmile)", exc_type=(ImportError, OSError))


def voice(seconds=1.0):
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * sum(np.sin(2 * np.pi * 200 * k * time) / k for k in range(1, 8))).astype(np.float32)


def build(**options):
    return Opensmile(OpensmileConfig(**options))


@pytest.mark.parametrize(
    ("options", "width", "frames", "rate"),
    [
        ({}, 25, 96, 100.0),
        ({"level": "functionals"}, 88, 1, None),
        ({"feature_set": "GeMAPSv01b"}, 18, 96, 100.0),
        ({"feature_set": "ComParE_2016"}, 65, 96, 100.0),
        ({"feature_set": "ComParE_2016", "level": "functionals"}, 6373, 1, None),
        ({"feature_set": "emobase"}, 26, 98, 100.0),
    ],
)
def test_the_sizes_that_opensmile_states(opensmile, tmp_path, options, width, frames, rate):
    extractor = build(**options)
    soundfile.write(tmp_path / "a.wav", voice(), RATE)
    found = extractor.prepare(tmp_path / "a.wav")
    assert found.dtype == torch.float32
    assert tuple(found.shape) == (frames, width)
    assert (extractor.width, extractor.frame_rate) == (width, rate)
    assert found.isfinite().all()


def test_values_are_those_of_the_package_on_the_file_itself(opensmile, tmp_path):
    stereo = np.stack([voice(), voice() * 0.5], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 22_050, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", stereo.mean(1), 22_050, subtype="FLOAT")
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    expected = smile.process_file(str(tmp_path / "mono.wav"))
    found = build().prepare(tmp_path / "a.wav").numpy()
    np.testing.assert_allclose(found, expected.to_numpy(), rtol=1e-4, atol=1e-4)
    pitch = list(expected.columns).index("F0semitoneFrom27.5Hz_sma3nz")
    hertz = 200 * 22_050 / RATE  # the tones are read faster than they were made
    assert np.median(found[:, pitch]) == pytest.approx(12 * np.log2(hertz / 27.5), abs=0.3)


def test_a_clip_shorter_than_a_window_is_one_frame_of_zeros(opensmile, tmp_path):
    soundfile.write(tmp_path / "short.wav", voice(0.02), RATE)
    for level, width in (("lld", 25), ("functionals", 88)):
        assert torch.equal(build(level=level).prepare(tmp_path / "short.wav"), torch.zeros(1, width))


def test_files_that_cannot_be_used_are_named(opensmile, tmp_path):
    extractor = build()
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"nan\.wav: holds samples that are not finite"):
        extractor.prepare(tmp_path / "nan.wav")
    with pytest.raises(DataError, match=r"gone\.wav: cannot be read"):
        extractor.prepare(tmp_path / "gone.wav")


def test_forward_hands_on_and_the_digest_covers_the_options(opensmile):
    extractor = build()
    values = torch.randn(2, 3, 25)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert torch.equal(extractor(Sequence(values, mask)).values, values * mask[:, :, None])
    assert len({build().digest(), build(level="functionals").digest(), build(feature_set="emobase").digest()}) == 3
    assert build().digest() == extractor.digest()


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ConfigError, match=r"opensmile cannot be imported.*pip install opensmile"):
        build()
