from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli.data import command
from mmbench.data import audio
from mmbench.data.audio import RATE, has_recordings, open_waveforms
from mmbench.data.checks import describe, examine
from mmbench.data.dataset import Dataset
from mmbench.data.load import load_dataset
from mmbench.errors import DataError
from mmbench.installing import how_to_install

from .raw_samples import make_config, make_rows, tone, write_sound, write_sounds, write_table

soundfile = pytest.importorskip("soundfile", reason="writing recordings needs soundfile")
needs_torchaudio = pytest.mark.skipif(importlib.util.find_spec("torchaudio") is None, reason="resampling needs torchaudio")
TEXT, AUDIO = frozenset({"text"}), frozenset({"audio"})
LENGTH = RATE // 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "mine", make_rows())
    write_sounds(tmp_path / "mine", make_rows())
    return tmp_path / "mine"


def load(folder: Path, **options: Any) -> Dataset:
    return load_dataset(make_config(folder, make_rows(), **options), tokens=TEXT, waveforms=AUDIO)


def error_of(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        load(folder)
    return str(error.value)


def frequency(samples: np.ndarray) -> float:
    """Of the strongest component, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 18))
    return float(spectrum.argmax()) * RATE / (1 << 18)


def test_waveforms_are_cut_or_padded_at_their_end(folder: Path) -> None:
    dataset = load(folder)
    spec = dataset.input_spec().modalities["audio"]
    assert (spec.kind, spec.size, spec.length) == ("waveform", 1, LENGTH)
    lengths = []
    for i, (part, row) in enumerate((split.inputs["audio"], row) for split in dataset.splits.values() for row in range(len(split))):
        assert isinstance(part.values, np.memmap)
        assert (part.values.dtype, part.values.shape[1], part.mask.dtype) == (np.float32, LENGTH, bool)
        expected = tone(200 + 50 * i, 0.2 + 0.05 * i, RATE)
        lengths.append(min(len(expected), LENGTH))
        np.testing.assert_array_equal(part.mask[row], np.arange(LENGTH) < lengths[-1])
        np.testing.assert_allclose(part.values[row, : lengths[-1]], expected[:LENGTH], atol=1e-4)  # 16 bits
        assert not part.values[row, lengths[-1] :].any()
    record = dataset.record
    assert record["modalities"]["audio"]["mean_frames"] == round(sum(lengths) / 12, 2)
    assert (record["waveforms"]["audio"]["rate"], record["waveforms"]["audio"]["cut"]) == (RATE, 5)
    assert record["warnings"] == []


@needs_torchaudio
@pytest.mark.parametrize(("rate", "suffix"), [(8000, ".wav"), (22050, ".flac"), (44100, ".FLAC"), (48000, ".mp3")])
def test_a_tone_survives_resampling(folder: Path, rate: int, suffix: str) -> None:
    shutil.rmtree(folder / "Raw")
    write_sounds(folder, make_rows(), rate, suffix)
    dataset = load(folder, seconds=1.0)
    for i in (0, 2, 5):
        part = dataset.splits["train"].inputs["audio"]
        samples = part.values[i, part.mask[i]]
        assert frequency(samples) == pytest.approx(200 + 50 * i, abs=2)
        assert len(samples) == pytest.approx((0.2 + 0.05 * i) * RATE, abs=1 if suffix != ".mp3" else 2500)
        assert np.abs(samples).max() == pytest.approx(0.5, abs=0.06)


@needs_torchaudio
def test_channels_are_averaged_and_the_cut_comes_after_resampling(folder: Path) -> None:
    left, right = tone(300, 3, 44100), tone(1500, 3, 44100)
    path = folder / "Raw" / "vid_0" / "0009.wav"
    write_sound(path, np.stack([left, right], axis=1), 44100)
    short = load(folder).splits["train"].inputs["audio"]
    assert short.mask[0].all()
    write_sound(path, (left + right) / 2, 44100)
    long = load(folder, seconds=2.0).splits["train"].inputs["audio"]
    assert long.mask[0].all()
    np.testing.assert_allclose(short.values[0], long.values[0, :LENGTH], atol=2e-4)  # what follows the cut is seen by the filter


def test_the_other_layout_and_the_order_of_trust(folder: Path) -> None:
    (folder / "Raw").rename(folder / "wav")
    assert load(folder).splits["train"].inputs["audio"].mask[0].sum() == 0.2 * RATE
    write_sound(folder / "Raw" / "vid_0" / "0009.flac", tone(100, 0.1, RATE))
    assert load(folder).splits["train"].inputs["audio"].mask[0].sum() == 0.2 * RATE  # .wav before .flac
    write_sound(folder / "Raw" / "vid_0" / "0009.wav", tone(100, 0.1, RATE))
    assert load(folder).splits["train"].inputs["audio"].mask[0].sum() == 0.1 * RATE  # Raw before wav


def test_recordings_are_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(folder)
    decode = audio.decode_audio
    monkeypatch.setattr(audio, "decode_audio", lambda *_: pytest.fail("decoded again"))
    again = load(folder)
    assert again.fingerprint == first.fingerprint
    load_dataset(make_config(folder, make_rows(), modalities=("text",)), tokens=TEXT)
    monkeypatch.setattr(audio, "decode_audio", decode)
    other = load(folder, seconds=0.25)
    assert other.fingerprint != first.fingerprint
    path = folder / "Raw" / "vid_0" / "0009.wav"
    os.utime(path, (1, 1))
    assert load(folder).fingerprint == first.fingerprint  # the same sound with another time
    write_sound(path, tone(100, 0.1, RATE))
    changed = load(folder)
    assert changed.fingerprint != first.fingerprint
    assert changed.splits["train"].inputs["audio"].mask[0].sum() == 0.1 * RATE


def test_blocks_are_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    rows = audio._Conversion._rows
    monkeypatch.setattr("mmbench.data.store._BLOCK_BYTES", 2 * LENGTH * 4)
    monkeypatch.setattr(audio._Conversion, "_rows", lambda self, split, start, stop: sizes.append(stop - start) or rows(self, split, start, stop))
    load(folder)
    assert max(sizes) == 2
    assert sum(sizes) == 12


def test_all_recordings_that_cannot_be_used_are_in_one_error(folder: Path) -> None:
    raw = folder / "Raw"
    (raw / "vid_0" / "0009.wav").unlink()
    (raw / "vid_0" / "0010.wav").write_bytes(b"")
    (raw / "vid_0" / "0011.wav").write_bytes(b"no sound at all")
    (raw / "vid_1" / "0009.wav").rename(raw / "vid_1" / "0009.txt")
    write_sound(raw / "vid_1" / "0010.wav", np.zeros(0, np.float32))
    (raw / "vid_1" / "0011.wav").unlink()
    (raw / "vid_1" / "0011.wav").mkdir()
    text = error_of(folder)
    assert f"{folder}: 6 of 12 recordings cannot be used" in text
    for expected in (
        "Raw/vid_0/0009: there is no .wav, .flac, .mp3, .ogg, .m4a, .aac, nor a video",
        "Raw/vid_0/0010.wav: the file is empty",
        "Raw/vid_0/0011.wav: cannot be decoded",
        "Raw/vid_1/0009.txt: is of no kind that is read here; it must be .wav, .flac,",
        "Raw/vid_1/0010.wav: holds no samples",
        "Raw/vid_1/0011: there is no .wav",
    ):
        assert expected in text


def test_damaged_recordings_are_collected_too_and_leave_no_store(folder: Path, tmp_path: Path) -> None:
    raw = folder / "Raw" / "vid_1"
    (raw / "0009.wav").write_bytes(b"RIFF")
    noise = np.random.default_rng(0).normal(0, 0.2, RATE).astype(np.float32)
    write_sound(raw / "0010.flac", noise)
    whole = (raw / "0010.flac").read_bytes()
    (raw / "0010.flac").write_bytes(whole[:5000] + bytes(2000) + whole[7000:])
    (raw / "0010.wav").unlink()
    sound = (raw / "0011.wav").read_bytes()
    (raw / "0011.wav").write_bytes(sound[: len(sound) // 2])
    text = error_of(folder)
    assert "3 of 12 recordings cannot be used" in text
    assert "vid_1/0011.wav: is cut short" in text
    assert "vid_1/0009.wav: cannot be decoded" in text
    assert "vid_1/0010.flac: cannot be decoded" in text
    assert not [path for path in (tmp_path / "cache" / "data").iterdir() if "building" in path.name]


def write_video(path: Path, samples: np.ndarray, rate: int, sound: bool = True) -> None:
    """A black video as long as its sound, which is stored as it is."""
    av = pytest.importorskip("av", reason="videos need PyAV")
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono") if sound else None
        for _ in range(max(1, round(10 * len(samples) / rate))):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(pictures.encode())
        if stream:
            frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
            frame.sample_rate = rate
            container.mux(stream.encode(frame))
            container.mux(stream.encode())


def test_the_sound_of_a_video_is_read_where_there_is_no_file_of_sound(folder: Path) -> None:
    raw = folder / "Raw"
    expected = load(folder).splits["train"].inputs["audio"]
    for i in range(2):
        (raw / "vid_0" / f"{9 + i:04d}.wav").unlink()
        write_video(raw / "vid_0" / f"{9 + i:04d}.mkv", tone(200 + 50 * i, 0.2 + 0.05 * i, RATE), RATE)
    write_video(raw / "vid_0" / "0011.mkv", tone(1000, 0.1, RATE), RATE)  # beside its .wav
    found = load(folder).splits["train"].inputs["audio"]
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)  # 16 bits
    (raw / "vid_0" / "0009.mkv").unlink()
    write_video(raw / "vid_0" / "0009.mkv", tone(200, 0.2, RATE), RATE, sound=False)
    assert "1 of 12 recordings cannot be used: Raw/vid_0/0009.mkv: has no sound" in error_of(folder)


def test_a_folder_of_videos_alone_has_recordings(tmp_path: Path) -> None:
    path = tmp_path / "Raw" / "vid" / "1.mp4"
    path.parent.mkdir(parents=True)
    assert not has_recordings(tmp_path)
    path.write_bytes(b"a video")
    assert has_recordings(tmp_path)


def test_pyav_that_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (folder / "Raw" / "vid_0" / "0009.wav").rename(folder / "Raw" / "vid_0" / "0009.mp4")
    text = error_of(folder)
    assert "videos need PyAV" in text
    assert how_to_install("mmbench-extractors[video]") in text


def test_a_wave_of_unknown_size_is_whole(folder: Path) -> None:
    path = folder / "Raw" / "vid_0" / "0009.wav"
    sound = path.read_bytes()
    place = sound.index(b"data") + 4
    path.write_bytes(sound[:4] + b"\xff" * 4 + sound[8:place] + b"\xff" * 4 + sound[place + 4 :])
    assert load(folder).splits["train"].inputs["audio"].mask[0].sum() == 0.2 * RATE


def test_the_first_ten_are_named(folder: Path) -> None:
    shutil.rmtree(folder / "Raw")
    text = error_of(folder)
    assert "12 of 12 recordings" in text
    assert text.count("there is no .wav") == 10
    assert text.endswith("...")


def test_a_wave_of_floats_with_gaps(folder: Path) -> None:
    samples = tone(200, 0.2, RATE)
    samples[5:8] = np.nan
    soundfile.write(folder / "Raw" / "vid_0" / "0009.wav", samples, RATE, subtype="FLOAT")
    dataset = load(folder)
    assert dataset.record["replaced"] == {"audio": 3}
    assert not dataset.splits["train"].inputs["audio"].values[0, 5:8].any()


@pytest.mark.parametrize(("module", "rate", "expected"), [("soundfile", 16000, "recordings need soundfile"), ("torchaudio", 8000, "8000 Hz need")])
def test_a_library_that_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, rate: int, expected: str) -> None:
    write_sounds(folder, make_rows(), rate)
    monkeypatch.setitem(sys.modules, module, None)
    text = error_of(folder)
    assert expected in text
    assert "pip install " in text


def test_recordings_at_16_khz_need_no_torch(folder: Path) -> None:
    config = make_config(folder, make_rows(), context={"text": 2, "audio": 2})
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['torchaudio'] = None\n"
        "from mmbench.config import DataConfig\n"
        "from mmbench.data.load import load_dataset\n"
        f"config = DataConfig.model_validate_json({config.model_dump_json()!r})\n"
        "data = load_dataset(config, tokens=frozenset({'text'}), waveforms=frozenset({'audio'}))\n"
        "print(sorted(data.splits['train'].inputs))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['audio', 'audio_context', 'text', 'text_context']"


def test_importing_imports_no_torch_and_nothing_that_decodes() -> None:
    code = "import sys, mmbench.data.load, mmbench.data.checks; print(sorted({'torch', 'torchaudio', 'soundfile', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_transforms(folder: Path) -> None:
    dataset = load(folder, max_length={"audio": 100})
    assert dataset.splits["train"].inputs["audio"].values.shape == (6, 100)
    with pytest.raises(DataError, match="audio has a waveform, which cannot be standardised"):
        load(folder, standardize={"modalities": ["audio"]})
    assert load(folder, standardize={}).splits["train"].inputs["audio"].values.shape == (6, LENGTH)


def test_the_page(folder: Path) -> None:
    config = make_config(folder, make_rows(), modalities=None, context={"text": 1, "audio": 2})
    dataset, problems = examine(config)
    assert problems == []
    page = describe(dataset)
    assert "not usable: vision: raw video is not read here" in page
    assert "context of audio: up to 2 previous utterances" in page
    assert [line.split()[:3] for line in page.splitlines() if line.startswith(("text ", "audio "))] == [
        ["text", "raw", "text"],
        ["audio", "waveform", "1"],
    ]
    result = CliRunner().invoke(command, ["check", str(folder), "--as", config.name, "--set", "data.seconds=0.5"])
    assert result.exit_code == 0, result.output
    shutil.rmtree(folder / "Raw")
    assert not has_recordings(folder)
    assert examine(make_config(folder, make_rows(), modalities=None))[0].modalities == ("text",)


def test_the_store_alone(folder: Path) -> None:
    clips = {"train": ["vid_0/0009"], "valid": ["vid_0/0010"], "test": ["vid_0/0011"]}
    store = open_waveforms(folder, clips, 0.1)
    assert store.arrays["test/waveform/audio"].shape == (1, 1600)
    assert store.document["waveforms"]["cut"] == 3
