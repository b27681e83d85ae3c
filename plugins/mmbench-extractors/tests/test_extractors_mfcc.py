"""`torchaudio-mfcc`: every block against a slow float64 reference, and frames that depend on their own clip alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mmbench.batch import Sequence
from mmbench_extractors.options_audio import MfccConfig

pytest.importorskip("torchaudio", reason="torchaudio is not installed", exc_type=(ImportError, OSError))

from mmbench_extractors.mfcc import TorchaudioMfcc

RATE, FLOOR = 16_000, 1e-6
BLOCKS = ("mfcc", "delta", "delta2", "logmel", "pitch", "energy")


def build(*blocks, **options):
    return TorchaudioMfcc(MfccConfig(blocks=blocks or BLOCKS, **options))


def alone(extractor, samples):
    """(T', width) of one clip."""
    wave = torch.from_numpy(np.asarray(samples, np.float32))
    return extractor(Sequence(wave[None], torch.ones(1, len(wave), dtype=torch.bool))).values[0].numpy()


def voice(seconds=0.3, pitch=150.0, seed=0):
    """Harmonics that rise a little, with changing loudness and some noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.05 * np.sin(2 * np.pi * 3 * time))) / RATE
    sound = sum(np.sin(k * phase + k) / k for k in range(1, 9))
    return (0.1 * (0.6 + 0.4 * np.sin(2 * np.pi * 5 * time)) * sound + 0.002 * np.random.default_rng(seed).normal(size=len(time))).astype(np.float32)


# The reference: loops over frames, bands and lags, in float64 -----------------------------------------------------------------------


def at(x, start, length):
    """`length` samples from `start` on, zeros outside the clip."""
    return np.array([x[i] if 0 <= i < len(x) else 0.0 for i in range(start, start + length)], np.float64)


def reference(samples, config):
    x = samples.astype(np.float64)
    hop, window = round(config.hop * RATE), round(config.window * RATE)
    size = 2 ** math.ceil(math.log2(window))
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / window) for n in range(window)])
    bands = filters(size, config)
    logmel, energy, pitch = [], [], []
    for i in range(math.ceil(len(x) / hop)):
        start = i * hop - (size - hop) // 2 + (size - window) // 2
        frame = at(x, start, window)
        logmel.append(np.log(bands @ np.abs(np.fft.rfft(frame * hann, size)) ** 2 + FLOOR))
        energy.append([math.log(np.mean(frame**2) + FLOOR)])
        pitch.append(pitch_of(x, i * hop - (window - hop) // 2, window, config))
    logmel = np.array(logmel)
    mfcc = scipy.fft.dct(logmel, type=2, norm="ortho", axis=1)[:, : config.n_mfcc]
    delta = differences(mfcc)
    last, reach = len(pitch) - 1, config.pitch_smoothing // 2
    smooth = [[np.median([pitch[min(max(i + j, 0), last)] for j in range(-reach, reach + 1)])] for i in range(last + 1)]
    return {"mfcc": mfcc, "delta": delta, "delta2": differences(delta), "logmel": logmel, "pitch": np.array(smooth), "energy": np.array(energy)}


def filters(size, config):
    """Triangles between points that are evenly spaced in mel = 2595 log10(1 + f / 700)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (config.f_min, config.f_max))
    points = [700 * (10 ** ((low + (high - low) * m / (config.n_mels + 1)) / 2595) - 1) for m in range(config.n_mels + 2)]
    found = np.zeros((config.n_mels, size // 2 + 1))
    for m in range(config.n_mels):
        for k in range(size // 2 + 1):
            f = k * RATE / size
            found[m, k] = max(0.0, min((f - points[m]) / (points[m + 1] - points[m]), (points[m + 2] - f) / (points[m + 2] - points[m + 1])))
    return found


def differences(c):
    last = len(c) - 1
    return np.array([sum(n * (c[min(t + n, last)] - c[max(t - n, 0)]) for n in (1, 2)) / 10 for t in range(last + 1)])


def pitch_of(x, start, window, config):
    first, last = RATE // config.pitch_max, math.ceil(RATE / config.pitch_min) + 1
    here = at(x, start, window)
    phi = {}
    for lag in range(first - 1, last + 1):
        later = at(x, start + lag, window)
        phi[lag] = np.sum(here * later) / math.sqrt(np.sum(here**2) * np.sum(later**2) + 1e-14)
    best = max(phi[lag] for lag in range(first, last))
    for lag in range(first, last):
        if phi[lag] >= phi[lag - 1] and phi[lag] >= phi[lag + 1] and phi[lag] >= 0.9 * best:
            return RATE / lag if best >= config.voicing else 0.0
    return 0.0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": 0.032, "hop": 0.016, "n_mfcc": 20, "n_mels": 26, "f_min": 0.0, "f_max": 4000.0},
        {"window": 0.02, "hop": 0.0125, "pitch_min": 100, "pitch_max": 300, "pitch_smoothing": 1, "voicing": 0.2},
    ],
)
def test_every_block_is_that_of_the_reference(options):
    config = MfccConfig(blocks=BLOCKS, **options)
    samples = np.concatenate([voice(0.15), np.zeros(1500, np.float32), voice(0.1051, 220)])
    expected = reference(samples, config)
    found, start = alone(TorchaudioMfcc(config), samples), 0
    for block in BLOCKS:
        width = expected[block].shape[1]
        np.testing.assert_allclose(found[:, start : start + width], expected[block], atol=3e-3, rtol=2e-4, err_msg=block)
        start += width
    assert start == found.shape[1] == TorchaudioMfcc(config).width
    assert 0 < (expected["pitch"] > 0).mean() <= 1


@pytest.mark.parametrize("pitch", [60, 100, 150, 220, 350])
def test_the_pitch_of_a_voice_whose_loudness_changes(pitch):
    found = alone(build("pitch"), voice(1.0, pitch))[:, 0]
    truth = pitch * (1 + 0.05 * np.sin(2 * np.pi * 3 * (np.arange(100) + 0.5) / 100))
    assert np.mean(np.abs(found / truth - 1) > 0.05) <= 0.02


@pytest.mark.parametrize(("weak", "pitch"), [(0.75, 200.0), (0.55, 100.0)])
def test_every_other_pulse_makes_a_period_where_it_is_much_weaker(weak, pitch):
    """Pulses 80 samples apart, 1 and `weak` in turn: a lag of 80 has 2 weak / (1 + weak²) of the correlation of 160, so 0.96, then 0.84."""
    samples = np.zeros(RATE // 2)
    samples[::160], samples[80::160] = 1.0, weak
    found = alone(build("pitch"), np.convolve(samples, np.hanning(9), "same"))[5:-5, 0]
    np.testing.assert_allclose(found, pitch, rtol=0.02)


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert np.mean(alone(build("pitch"), noise) > 0) < 0.1
    assert not alone(build("pitch"), np.zeros(RATE)).any()
    assert np.isfinite(alone(build(), np.zeros(RATE))).all()


def test_frames_stand_at_their_time():
    """A click at 0.205 s, in the middle of frame 20, is loudest there, in all blocks alike, and frame_rate says so."""
    extractor = build("energy", "logmel")
    assert extractor.frame_rate == 100.0
    samples = np.zeros(RATE, np.float32)
    samples[3280] = 1.0
    found = alone(extractor, samples)
    heard = np.flatnonzero(found[:, 0] > math.log(2 * FLOOR))
    assert heard.mean() == 20.0
    assert found[:, 1:].mean(1).argmax() == 20
    assert build(hop=0.02).frame_rate == 50.0


def test_blocks_stand_in_the_order_that_is_asked_for():
    samples = voice()
    whole = alone(build("energy", "mfcc", "pitch"), samples)
    assert whole.shape == (30, 15)
    for block, place in {"energy": slice(0, 1), "mfcc": slice(1, 14), "pitch": slice(14, 15)}.items():
        np.testing.assert_array_equal(whole[:, place], alone(build(block), samples))


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 4000), min_size=1, max_size=4), extra=st.integers(0, 2000))
def test_a_clip_depends_on_neither_batch_mates_nor_padding(lengths, extra):
    extractor = build()
    longest = max(1, max(lengths) + extra)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    waves = torch.from_numpy(np.stack([np.resize(voice(0.25, 100 + 40 * i, i), longest) for i in range(len(lengths))]))
    found = extractor(Sequence(waves.masked_fill(~mask, float("nan")), mask))
    assert not found.values[~found.mask].any()
    for row, length in enumerate(lengths):
        expected = alone(extractor, waves[row, :length].numpy() if length else np.zeros(1))
        assert found.mask[row].sum() == len(expected) == max(1, math.ceil(length / 160))
        np.testing.assert_allclose(found.values[row][found.mask[row]].numpy(), expected, atol=1e-3, rtol=1e-4)


def test_it_sits_in_the_training_loop_frozen():
    extractor = build().train()
    waves = torch.from_numpy(np.stack([voice(), voice(pitch=200)]))
    raw = Sequence(waves, torch.ones_like(waves, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        half = extractor(raw).values
    assert torch.equal(half, extractor(raw).values)
    assert not list(extractor.parameters())


def test_the_digest_covers_the_options():
    digests = {build().digest(), build("mfcc").digest(), build(n_mels=41).digest(), build(voicing=0.5).digest()}
    assert len(digests) == 4
    assert build().digest() in digests


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"blocks": ("mfcc", "mfcc")}, "twice"),
        ({"blocks": ()}, "at least 1"),
        ({"hop": 0.03}, "hop must not be longer"),
        ({"hop": 1e-6}, "a sample or more"),
        ({"n_mfcc": 41}, "larger than n_mels"),
        ({"f_min": 5000.0, "f_max": 4000.0}, "below f_max"),
        ({"pitch_min": 300}, "octave"),
        ({"pitch_smoothing": 4}, "odd"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, problem):
    with pytest.raises(ValidationError, match=problem):
        MfccConfig(**options)
