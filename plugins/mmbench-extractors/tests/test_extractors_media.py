"""Sound and pictures of videos: the right samples and images at the right times, and one clear error for what cannot be read."""

from __future__ import annotations

import math
import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench import media
from mmbench.errors import DataError
from mmbench.media import VIDEO, read_audio, read_frames

av = pytest.importorskip("av", reason="videos need PyAV (the extra video)")

RATE = 16_000
CODECS = {".webm": ("libvpx-vp9", "libopus", 48_000), ".flv": ("flv", "aac", 44_100), ".mkv": ("mpeg4", "pcm_s16le", RATE)}
LEVELS = 12  # of brightness between two frames, far above what a codec loses


def tone(seconds, rate, frequency=440):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path, count=20, fps=10, sound=True, pictures=True, times=None, size=(64, 48), right=None, **options):
    """A video whose i-th image has the brightness 12 i, shown from times[i] (in hundredths of a second) or at `fps`, and its sound: a tone."""
    video_codec, audio_codec, rate = CODECS.get(path.suffix, ("mpeg4", "aac", 44_100))
    with av.open(str(path), "w", **options) as container:
        if pictures:
            stream = container.add_stream(video_codec, rate=fps)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 100) if times else Fraction(1, fps)
        channel = container.add_stream(audio_codec, rate=rate, layout="stereo") if sound else None
        for i in range(count if pictures else 0):
            image = np.full((size[1], size[0], 3), LEVELS * i, np.uint8)
            image[: size[1] // 2, : size[0] // 2] = 255  # the upper left corner
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (times[i], Fraction(1, 100)) if times else (i, Fraction(1, fps))
            container.mux(stream.encode(frame))
        if pictures:
            container.mux(stream.encode())
        if channel:
            left = tone(count / fps, rate)
            both = np.stack([left, left if right is None else right[: len(left)]])
            if audio_codec.startswith("pcm"):
                packed = (both.T.reshape(1, -1) * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(packed, layout="stereo", format="s16")
            else:
                frame = av.AudioFrame.from_ndarray(both, layout="stereo", format="fltp")
            frame.sample_rate = rate
            container.mux(channel.encode(frame))
            container.mux(channel.encode())
    return path


def shown(path, fps):
    """Which image of the video each of the images read is."""
    return [round(float(image[-4:, -4:].mean()) / LEVELS) for image in read_frames(path, fps)]


@pytest.mark.parametrize("suffix", VIDEO)
def test_sound_and_pictures_of_each_container(tmp_path, suffix):
    path = write(tmp_path / f"clip{suffix}")
    samples, rate = read_audio(path)
    assert samples.dtype == np.float32
    assert len(samples) / rate == pytest.approx(2.0, abs=0.06)  # codecs fill their last block
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * rate / len(samples) == pytest.approx(440, abs=1)
    assert np.abs(samples[rate // 2 : rate]).max() == pytest.approx(0.5, abs=0.05)
    images = list(read_frames(path, 10))
    assert {(image.shape, image.dtype.name) for image in images} == {((48, 64, 3), "uint8")}
    assert shown(path, 10) == list(range(20))
    assert float(images[0][:10, :10].mean()) > 240  # the bright corner is up and left
    assert float(images[0][-10:, :10].mean()) < 10


def test_channels_are_averaged_and_the_start_can_be_had_alone(tmp_path):
    left, right = tone(2, RATE), tone(2, RATE, 1000)
    path = write(tmp_path / "clip.mkv", right=right)
    samples, rate = read_audio(path)
    assert rate == RATE
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-4)  # 16 bits
    start, _ = read_audio(path, 0.5)
    assert len(start) == RATE // 2 + 1
    np.testing.assert_array_equal(start, samples[: len(start)])


@pytest.mark.parametrize("fps", [3, 7.5, 10, 20, 29.97])
def test_an_image_is_the_one_that_is_shown_at_its_time(tmp_path, fps):
    path = write(tmp_path / "clip.mp4")
    expected = [math.floor(Fraction(str(10)) * i / Fraction(str(fps))) for i in range(math.ceil(2 * fps))]
    assert shown(path, fps) == [i for i in expected if i < 20]


def test_images_that_are_shown_for_different_times(tmp_path):
    path = write(tmp_path / "clip.mkv", count=5, times=[50, 60, 100, 104, 140], sound=False)  # from the first: 0, 0.1, 0.5, 0.54, 0.9 s
    assert shown(path, 10)[:10] == [0, 1, 1, 1, 1, 2, 3, 3, 3, 4]
    assert shown(path, 5)[:5] == [0, 1, 1, 3, 3]


def test_times_that_a_container_rounds_show_no_image_twice(tmp_path):
    path = write(tmp_path / "clip.mkv", fps=30, sound=False)  # the third image at 0.067 s, not 0.0667
    assert shown(path, 30) == list(range(20))


def test_there_is_one_image_at_least(tmp_path):
    path = write(tmp_path / "clip.avi", count=1)
    assert shown(path, 0.001) == [0]
    assert shown(path, 20) == [0, 0]


def test_one_image_is_held_at_a_time(tmp_path):
    path = write(tmp_path / "clip.mp4")
    images = read_frames(path, 10)
    assert next(images).shape == (48, 64, 3)
    path.unlink()  # it is open
    assert len(list(images)) == 19
    images.close()


@pytest.mark.parametrize(("turns", "matrix"), [(0, (1, 0, 0, 1)), (3, (0, 1, -1, 0)), (2, (-1, 0, 0, -1)), (1, (0, -1, 1, 0))])
def test_pictures_of_a_turned_phone_are_upright(tmp_path, turns, matrix):
    """The header of a track in an .mp4 has a matrix of 16.16 numbers: a picture's right and down in those of the screen."""
    path = write(tmp_path / "clip.mp4", count=2, sound=False)
    expected = next(read_frames(path, 10))
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    for place, value in enumerate((a, b, 0, c, d, 0)):
        content[start + 4 * place : start + 4 * place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    if not hasattr(av.VideoFrame, "rotation"):
        pytest.skip(f"PyAV {av.__version__} does not say how a frame is turned")
    np.testing.assert_array_equal(next(read_frames(path, 10)), np.rot90(expected, turns))


def test_reading_twice_gives_the_same(tmp_path):
    path = write(tmp_path / "clip.mp4")
    first, second = (np.stack(list(read_frames(path, 10))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(read_audio(path)[0], read_audio(path)[0])


def error_of(path, pictures):
    with pytest.raises(DataError) as caught:
        list(read_frames(path, 10)) if pictures else read_audio(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text


@pytest.mark.parametrize("pictures", [True, False])
def test_what_cannot_be_read_is_named(tmp_path, pictures):
    assert "cannot be read: No such file" in error_of(tmp_path / "gone.mp4", pictures)
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "the file is empty" in error_of(tmp_path / "empty.mp4", pictures)
    (tmp_path / "text.mp4").write_text("this is no video at all, but a text")
    assert "cannot be decoded" in error_of(tmp_path / "text.mp4", pictures)
    (tmp_path / "folder.mp4").mkdir()
    assert "cannot be read: Is a directory" in error_of(tmp_path / "folder.mp4", pictures)
    path = write(tmp_path / "half.mkv", sound=pictures is False, pictures=pictures)
    assert ("has no pictures" if not pictures else "has no sound") in error_of(path, not pictures)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("part", [0.3, 0.95])
def test_a_file_that_is_cut_short_is_refused(tmp_path, suffix, part):
    path = write(tmp_path / f"clip{suffix}", **({"options": {"movflags": "faststart"}} if suffix == ".mp4" else {}))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    for pictures in (True, False):
        assert "is cut short" in error_of(path, pictures)
    path.write_bytes(content + b"\0\0")
    assert shown(path, 10) == list(range(20))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    places=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=30), suffix=st.sampled_from([".mp4", ".mkv", ".avi"])
)
def test_damaged_files_are_read_or_refused(tmp_path_factory, places, suffix):
    path = _whole(tmp_path_factory, suffix)
    content = bytearray(path.read_bytes())
    for place, value in places:
        content[int(place * len(content))] = value
    damaged = path.with_name(f"damaged{suffix}")
    damaged.write_bytes(content)
    assert _outcome(read_audio, damaged)
    assert _outcome(lambda path: list(read_frames(path, 2)), damaged)


def _outcome(read, path):
    """Whether something was read, or the error names the file; another error passes through."""
    try:
        return len(read(path)[0]) > 0
    except DataError as error:
        return str(error).startswith(f"{path}: ")


_files = {}


def _whole(tmp_path_factory, suffix):
    if suffix not in _files:
        _files[suffix] = write(tmp_path_factory.mktemp("whole") / f"clip{suffix}", count=5)
    return _files[suffix]


def test_what_a_file_says_of_its_size_is_bounded(tmp_path, monkeypatch):
    late = write(tmp_path / "late.mkv", count=2, sound=False, times=[0, 7 * 3600 * 100])
    assert "has an image at 25200 s, and videos of up to 21600 s are read" in error_of(late, True)
    path = write(tmp_path / "clip.mp4")
    sound = tmp_path / "sound.wav"
    sound.write_bytes(_wav(tone(1, RATE), RATE))
    whole = len(read_audio(path)[0])
    monkeypatch.setattr(media, "MOST_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(media, "MOST_SAMPLES", RATE - 1)
    assert "has images of 64 x 48, larger than are read" in error_of(path, True)
    assert "has more than 15999 samples" in error_of(path, False)
    assert "says that it has 16000 samples of 1 channels, more than are read" in error_of(sound, False)
    monkeypatch.setattr(media, "MOST_PIXELS", 64 * 48)
    monkeypatch.setattr(media, "MOST_SAMPLES", 2 * whole + RATE)
    assert shown(path, 10) == list(range(20))
    assert len(read_audio(path)[0]) == whole
    assert len(read_audio(sound)[0]) == RATE
    for rate in (999, 2_000_000_000):
        sound.write_bytes(_wav(tone(1, RATE), rate))
        assert f"says that it has {rate} samples per second, as no sound has" in error_of(sound, False)


def _wav(samples, rate):
    """16 bits, one channel, with any rate in its head."""
    data = (samples * 32767).astype("<i2").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16, b"data", len(data)
    )
    return head + data


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    for read in (read_audio, lambda path: next(read_frames(path, 1))):
        with pytest.raises(DataError, match=r"videos need PyAV.*pip install '"):
            read(path)
