"""The aligner: against a slow search of the best path in float64 over the same emissions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("torchaudio")

from mmbench.errors import ConfigError, DataError
from mmbench_extractors.ctc import CTCAligner
from mmbench_extractors.options_aligner import CTCConfig

LETTERS = "ETAONIHSRDLUMWCFGYPBVKJXQZ'"
STRIDE, WINDOW = 20, 40


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory) -> str:
    """A random CTC model with upper-case letters, as `save_pretrained` leaves it."""
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("recogniser")
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_dim=(8, 8, 8),
        conv_kernel=(10, 3, 3), conv_stride=(5, 2, 2), num_conv_pos_embedding_groups=4, num_conv_pos_embeddings=4, pad_token_id=0,
    )  # fmt: skip
    network = Wav2Vec2ForCTC(config)
    with torch.no_grad():
        network.lm_head.weight *= 20  # emissions that differ from frame to frame
    network.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def aligner(recogniser):
    return CTCAligner(CTCConfig(model=recogniser))


@pytest.fixture
def recording(tmp_path):
    def write(samples: int, seed: int = 0):
        import soundfile

        path = tmp_path / "clip.wav"
        rng = np.random.default_rng(seed)
        soundfile.write(path, np.clip(0.2 * rng.normal(size=samples), -1, 1), 16000, subtype="FLOAT")
        return path

    return write


def best_path(emissions: np.ndarray, targets: list[int], blank: int = 0) -> list[int]:
    """For each frame the position in `targets` (-1: blank) on the most probable path (Graves et al. 2006, with max in place of the sum)."""
    states = [blank]
    for target in targets:
        states += [target, blank]
    frames = len(emissions)
    score = np.full((frames, len(states)), -np.inf)
    back = np.zeros((frames, len(states)), int)
    score[0, 0], score[0, 1] = emissions[0, blank], emissions[0, states[1]]
    for t in range(1, frames):
        for s, symbol in enumerate(states):
            sources = [s, s - 1] if s else [s]
            if s > 1 and symbol not in (blank, states[s - 2]):
                sources.append(s - 2)
            back[t, s] = max(sources, key=lambda source: score[t - 1, source])
            score[t, s] = score[t - 1, back[t, s]] + emissions[t, symbol]
    state = max((len(states) - 1, len(states) - 2), key=lambda s: score[-1, s])
    path = [state]
    for t in range(frames - 1, 0, -1):
        state = back[t, state]
        path.append(state)
    return [(s - 1) // 2 if s % 2 else -1 for s in reversed(path)]


@pytest.mark.parametrize(("words", "seed"), [(["good", "film"], 0), (["Don't", "it", "was", "ALL", "bad,"], 1), (["oo"], 2)])
def test_times_are_those_of_the_best_path(aligner, recording, words, seed) -> None:
    path = recording(3000, seed)
    times = aligner.align("v/1", path, words)
    import soundfile

    waveform = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    emissions = aligner.emissions(waveform).double().numpy()
    vocabulary = {letter: i + 5 for i, letter in enumerate(LETTERS)}
    targets, owner = [], []
    for i, word in enumerate(words):
        spelled = [vocabulary[letter] for letter in word.upper() if letter in vocabulary]
        targets += ([4] if i else []) + spelled
        owner += ([-1] if i else []) + [i] * len(spelled)
    path_words = [owner[position] if position >= 0 else -1 for position in best_path(emissions, targets)]
    for i in range(len(words)):
        own = [t for t, word in enumerate(path_words) if word == i]
        np.testing.assert_allclose(times[i], [own[0] * STRIDE / 16000, (own[-1] + 1) * STRIDE / 16000])
    assert len(emissions) == (3000 - WINDOW) // STRIDE + 1


def test_emissions_are_those_of_the_models_own_preprocessing(aligner, recogniser, recording) -> None:
    import soundfile
    from transformers import AutoFeatureExtractor, AutoModelForCTC

    samples = soundfile.read(recording(2000, 7), dtype="float32")[0] + 0.3
    inputs = AutoFeatureExtractor.from_pretrained(recogniser)(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModelForCTC.from_pretrained(recogniser).eval()(**inputs).logits[0].log_softmax(-1)
    torch.testing.assert_close(aligner.emissions(torch.from_numpy(samples)), expected, atol=1e-4, rtol=1e-4)


def test_words_without_a_known_letter_share_the_time_between_their_neighbours(aligner, recording) -> None:
    path = recording(4000, 4)
    times = aligner.align("v/1", path, ["42", "good", "7", "—9", "film", "!?1"])
    np.testing.assert_allclose(times[[1, 4]], aligner.align("v/1", path, ["good", "film"]))
    np.testing.assert_allclose(times[0], [0, times[1, 0]])
    middle = (times[1, 1] + times[4, 0]) / 2
    np.testing.assert_allclose(times[2:4], [[times[1, 1], middle], [middle, times[4, 0]]])
    np.testing.assert_allclose(times[5], [times[4, 1], 4000 / 16000])
    np.testing.assert_allclose(aligner.align("v/1", path, ["1", "2"]), [[0, 0.125], [0.125, 0.25]])


def test_a_transcript_that_is_too_long_is_refused_for_the_clip(aligner, recording) -> None:
    # (200 - 40) / 20 + 1 = 9 frames; g o | o d needs 5, "good" 5 with the blank between its two o
    path = recording(200)
    assert aligner.align("v/1", path, ["good"]).shape == (1, 2)
    with pytest.raises(DataError, match=r"10 letters.* needs 11 frames.*0\.01 s has 9"):
        aligner.align("v/1", path, ["good", "movie"])


def test_a_clip_shorter_than_the_first_frame_has_one(aligner, recording) -> None:
    assert aligner.align("v/1", recording(10), ["a"])[0, 1] <= 10 / 16000


def test_the_digest_is_of_weights_and_letters(aligner, recogniser) -> None:
    other = CTCAligner(CTCConfig(model=recogniser))
    assert other.digest() == aligner.digest()
    with torch.no_grad():
        other.network.lm_head.bias += 1
    assert other.digest() != aligner.digest()


def test_models_that_cannot_align_are_refused(tmp_path, audio_folder, text_folder) -> None:
    with pytest.raises(ConfigError, match=r"ctc.*weights are missing.*lm_head"):
        CTCAligner(CTCConfig(model=audio_folder("wav2vec2")))
    with pytest.raises(ConfigError, match="reads no waveform"):
        CTCAligner(CTCConfig(model=text_folder("bert")))
    with pytest.raises(ConfigError, match="no such folder"):
        CTCAligner(CTCConfig(model=str(tmp_path / "none")))
