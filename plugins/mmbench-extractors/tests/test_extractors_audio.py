"""`hf-audio`: the model's own frames on waveforms of one padded length, and the reading of files."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.batch import Sequence
from mmbench.errors import ConfigError, DataError
from mmbench_extractors.audio import HFAudio
from mmbench_extractors.config import HFAudioConfig

FAMILIES = ("wav2vec2", "hubert", "hubert-stable", "wavlm", "data2vec")
SAMPLES = 1600
LENGTHS = (1600, 950, 377)


def build(folder, **options):
    return HFAudio(HFAudioConfig(model=folder, **options))


def speech(lengths=LENGTHS, samples=SAMPLES, filler=0.0):
    """Tones with a constant offset, each of its own pitch, loudness and length."""
    time = torch.arange(samples) / 16_000
    rows = [0.1 * (row + 1) * torch.sin(2 * math.pi * 300 * (row + 1) * time) + 0.2 for row in range(len(lengths))]
    mask = torch.arange(samples) < torch.tensor(lengths)[:, None]
    return Sequence(torch.stack(rows).masked_fill(~mask, filler), mask)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_depends_on_neither_batch_mates_nor_what_stands_behind_it(audio_folder, family):
    extractor = build(audio_folder(family))
    together = extractor(speech())
    assert torch.equal(together.values, extractor(speech(filler=float("nan"))).values)
    for row in range(len(LENGTHS)):
        raw = speech()
        alone = extractor(Sequence(raw.values[row : row + 1], raw.mask[row : row + 1]))
        assert torch.equal(alone.mask[0], together.mask[row])
        torch.testing.assert_close(alone.values[0], together.values[row], atol=1e-5, rtol=1e-4)
    assert not together.values[~together.mask].any()
    assert extractor.width == together.values.shape[2]
    assert extractor.frame_rate == 800.0  # strides of 5, 2 and 2 samples


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_transformers_itself(audio_folder, family):
    from transformers import AutoFeatureExtractor, AutoModel

    folder = audio_folder(family)
    raw = speech()
    preprocessor = AutoFeatureExtractor.from_pretrained(folder)
    waves = [wave[:length].numpy() for wave, length in zip(raw.values, LENGTHS, strict=True)]
    options = {"sampling_rate": 16_000, "padding": "max_length", "max_length": SAMPLES, "return_tensors": "pt"}
    inputs = preprocessor(waves, **options, return_attention_mask=True)  # without, transformers normalises over the padding too
    assert preprocessor.return_attention_mask is (family not in ("wav2vec2", "hubert"))
    if not preprocessor.return_attention_mask:
        del inputs["attention_mask"]
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    found = build(folder)(raw)
    torch.testing.assert_close(found.values[found.mask], expected[found.mask], atol=1e-5, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, SAMPLES), min_size=1, max_size=4))
def test_the_frames_of_a_sample_are_counted_as_without_padding(audio_folder, lengths):
    extractor = _shared(audio_folder)
    mask = extractor(speech(lengths)).mask
    for row, length in enumerate(lengths):
        frames = extractor.encoder.feature_extractor(torch.randn(1, max(length, extractor.window))).shape[-1]
        assert mask[row].tolist() == [True] * frames + [False] * (mask.shape[1] - frames)


_built = {}


def _shared(audio_folder):
    return _built.setdefault("data2vec", build(audio_folder("data2vec")))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_without_a_frame_keeps_one(audio_folder, family):
    extractor = build(audio_folder(family), finetune=True, freeze_convolutions=False)
    for samples in (SAMPLES, extractor.window - 5):  # the second: not one frame in the whole batch
        found = extractor(speech((0, extractor.window - 10), samples))
        assert found.mask.sum(1).tolist() == [1, 1]
        assert found.values.isfinite().all()
        found.values.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in extractor.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_no_step_waits_for_the_device(audio_folder, family, no_wait):
    extractor = build(audio_folder(family), finetune=True).train()
    for raw in (speech((SAMPLES, SAMPLES)), speech()):
        with no_wait():
            extractor(raw).values.square().sum().backward()


@pytest.mark.parametrize("family", FAMILIES)
def test_convolutions_stay_frozen_unless_asked(audio_folder, family):
    for freeze in (True, False):
        extractor = build(audio_folder(family), finetune=True, freeze_convolutions=freeze).train()
        extractor(speech()).values.square().sum().backward()
        for name, parameter in extractor.named_parameters():
            frozen = freeze and ".feature_extractor." in name
            assert parameter.requires_grad is not frozen, name
            assert (parameter.grad is None) is frozen, name


@pytest.mark.parametrize("family", FAMILIES)
def test_training_drops_no_layer_and_masks_only_on_request(audio_folder, family):
    """The test models have LayerDrop 0.5 and SpecAugment on, and here no dropout: with both off, training computes what evaluation does."""
    quiet = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"), 0.0)
    folder = audio_folder(family, **quiet)
    extractor = build(folder, finetune=True)
    expected = extractor.eval()(speech()).values
    for _ in range(5):
        torch.testing.assert_close(extractor.train()(speech()).values, expected, atol=1e-6, rtol=1e-5)
    np.random.seed(0)
    augmented = build(folder, finetune=True, augment=True)
    assert torch.equal(augmented.eval()(speech()).values, expected)
    assert not torch.allclose(augmented.train()(speech()).values, expected, atol=1e-3)
    assert augmented.digest() == extractor.digest()


def test_normalisation_makes_loudness_and_offset_vanish(audio_folder):
    extractor = build(audio_folder("data2vec"))
    raw = speech()
    louder = Sequence((raw.values * 3 + 0.7).masked_fill(~raw.mask, 0), raw.mask)
    torch.testing.assert_close(extractor(louder).values, extractor(raw).values, atol=1e-3, rtol=1e-3)
    extractor.normalised = False
    assert not torch.allclose(extractor(louder).values, extractor(raw).values, atol=1e-2)


def test_older_checkpoints_load(audio_folder, tmp_path):
    """The names of weight norm before parametrisations, in a pickle of tensors, beside weights of a head that nobody asked for."""
    folder = audio_folder("hubert")
    expected = build(folder)(speech()).values
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(f"{folder}/{name}", tmp_path)
    from safetensors.torch import load_file

    state = load_file(f"{folder}/model.safetensors")
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {next((key.replace(new, old) for new, old in names.items() if new in key), key): value for key, value in state.items()}
    assert len(renamed.keys() - state.keys()) == 2
    torch.save({**renamed, "lm_head.weight": torch.zeros(3, 16)}, tmp_path / "pytorch_model.bin")
    assert torch.equal(build(str(tmp_path))(speech()).values, expected)


def test_prepare_reads_mono_at_16_khz(audio_folder, tmp_path):
    pytest.importorskip("torchaudio", reason="torchaudio is not installed", exc_type=(ImportError, OSError))
    extractor = _shared(audio_folder)
    for rate in (8_000, 16_000, 44_100):
        time = np.arange(rate) / rate
        tone = 0.5 * np.sin(2 * np.pi * 440 * time)
        soundfile.write(tmp_path / f"{rate}.wav", np.stack([tone, 0.5 * tone], 1), rate)
        found = extractor.prepare(tmp_path / f"{rate}.wav")
        assert found.shape == (16_000,)
        assert found.dtype == torch.float32
        assert int(torch.fft.rfft(found).abs().argmax()) == 440
        middle = found[4_000:12_000]
        assert float(middle.square().mean().sqrt()) == pytest.approx(0.75 * 0.5 / math.sqrt(2), rel=0.02)


def test_files_that_cannot_be_read_are_named(audio_folder, tmp_path):
    extractor = _shared(audio_folder)
    with pytest.raises(DataError, match=r"gone\.wav"):
        extractor.prepare(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(DataError, match=r"text\.wav"):
        extractor.prepare(str(tmp_path / "text.wav"))
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(DataError, match="not finite"):
        extractor.prepare(tmp_path / "nan.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8_000)
    with pytest.raises(DataError, match=r"empty\.wav: holds no samples"):
        extractor.prepare(tmp_path / "empty.wav")


class _Broken:
    """An import of torchaudio that fails as it does beside a torch of another build."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith("torchaudio"):
            raise OSError("libc10_cuda.so: cannot open shared object file")


def test_a_torchaudio_that_does_not_fit_is_explained(audio_folder, tmp_path, monkeypatch):
    extractor = _shared(audio_folder)
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8_000)
    soundfile.write(tmp_path / "b.wav", np.zeros(1_600), 16_000)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Broken(), *sys.meta_path])
    with pytest.raises(ConfigError, match=r"8000 Hz.*torch and torchaudio are of different builds.*libc10_cuda"):
        extractor.prepare(tmp_path / "a.wav")
    assert extractor.prepare(tmp_path / "b.wav").shape == (1_600,)
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(ConfigError, match=r"torchaudio cannot be loaded.*pip install .*audio") as caught:
        extractor.prepare(tmp_path / "a.wav")
    assert "different builds" not in str(caught.value)


def test_a_spoken_sentence(audio_folder, tmp_path):
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    subprocess.run(["espeak-ng", "-w", tmp_path / "said.wav", "I really loved this film"], check=True)
    extractor = _shared(audio_folder)
    waveform = extractor.prepare(tmp_path / "said.wav")
    found = extractor(Sequence(waveform[None], torch.ones(1, len(waveform), dtype=torch.bool)))
    assert found.values.isfinite().all()
    assert found.mask.sum() == (len(waveform) - extractor.window) // 20 + 1
