"""Pretrained encoders inside the loop, from raw text and recordings to a table, through the command line; the models are small and random."""

import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

for _module in ("torch", "mmbench_decalign", "mmbench_extractors", "mmbench_slad", "torchaudio"):
    if find_spec(_module) is None:
        pytest.skip(f"needs {_module}", allow_module_level=True)

from small_models import WORDS, save_models  # noqa: E402

SIZES = {"train": 10, "valid": 4, "test": 5}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """The folders of a BERT and a Data2Vec of width 16."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("bert", "data2vec")}
    save_models(**folders)
    return {name: str(folder) for name, folder in folders.items()}


@pytest.fixture
def mmbench(tmp_path):
    """Runs the command without a network, in an empty folder."""
    environment = {**os.environ, "MMBENCH_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}

    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mmbench", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return call


def options(**values: object) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={json.dumps(value)}")]


@pytest.fixture
def pickled(tmp_path) -> list[str]:
    """A small file with token ids, and the options that read it."""
    rng = np.random.default_rng(0)
    content = {}
    for number, (split, size) in enumerate(SIZES.items()):
        attention = np.arange(8) < rng.integers(3, 9, size)[:, None]
        ids = np.where(attention, rng.integers(4, 4 + len(WORDS), attention.shape), 0)
        content[split] = {
            "id": np.array([f"v{number}_{i // 3}$_${i % 3}" for i in range(size)]),
            "raw_text": np.array(["good film"] * size, dtype=object),
            "text_bert": np.stack([ids, attention, np.zeros_like(ids)], 1).astype(np.float64),  # as some files have it
            "text": (rng.normal(size=(size, 8, 6)) * attention[..., None]).astype(np.float32),
            "audio": rng.normal(size=(size, 5, 3)).astype(np.float32),
            "audio_lengths": [5] * size,
            "regression_labels": np.linspace(-3, 3, size, dtype=np.float32),
        }
    (tmp_path / "small.pkl").write_bytes(pickle.dumps(content))
    return options(data__path="small.pkl", data__splits="own", data__features="unaligned", data__modalities=["text", "audio"], training__epochs=2)


def test_token_ids_of_a_pickle_feed_a_trained_encoder(mmbench, models, tmp_path, pickled) -> None:
    settings = [*pickled, *options(model__layers=1, model__encoders__text__model=models["bert"])]
    done = mmbench("run", "decalign_official_mosi", *settings, "--seeds", "1")
    assert "decalign_official_mosi" in done.stdout
    (path,) = tmp_path.glob("runs/decalign_official_mosi/decalign-*/seed-1/result.json")
    result = json.loads(path.read_text())
    assert result["status"] == "done"
    assert "extractor mmbench-extractors/hf-text" in result["environment"]["components"]
    assert len(result["encoders"]["text"]) >= 12
    checked = mmbench("check", "decalign_official_mosi", *settings, "--build").stdout
    assert "parameters  encoders.text: " in checked
    assert "text: tokens" in checked


def test_raw_text_and_recordings_with_context(mmbench, models, tmp_path) -> None:
    import soundfile

    rng = np.random.default_rng(0)
    rows = ["video_id,clip_id,text,label,annotation,mode"]
    for split, size in SIZES.items():
        for i in range(size):
            video, clip = f"{split}{i // 3}", f"{i % 3:04d}"
            rows.append(f"{video},{clip},{' '.join(rng.choice(WORDS, rng.integers(1, 6)))},{np.linspace(-3, 3, size)[i]},x,{split}")
            path = tmp_path / "raw" / "Raw" / video / f"{clip}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            time = np.arange(int(8000 * rng.uniform(0.2, 1.2))) / 8000
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * rng.uniform(100, 800) * time), 8000)
    (tmp_path / "raw" / "label.csv").write_text("\n".join(rows) + "\n")
    settings = options(
        data__path="raw", data__splits="own", data__seconds=1, training__epochs=2, model__layers=1, model__width=24,
        model__encoders__text__model=models["bert"], model__encoders__audio__model=models["data2vec"],
    )  # fmt: skip
    checked = mmbench("check", "slad_mosi", *settings, "--build").stdout
    assert "text: tokens, ids below 1, raw text" in checked
    assert "audio_context: waveform" in checked
    assert "parameters  encoders.audio: " in checked
    mmbench("run", "slad_mosi", *settings, "--seeds", "1")
    (path,) = tmp_path.glob("runs/slad_mosi/slad-*/seed-1/result.json")
    assert json.loads(path.read_text())["status"] == "done"
    floors = {json.loads(path.read_text())["status"] for path in tmp_path.glob("runs/slad_mosi/linear-*/seed-1/result.json")}
    assert floors == {"done"}
    assert list((tmp_path / "cache" / "features").iterdir()), "the floor's frozen features are cached"


def test_weights_that_cannot_be_had_are_one_error_for_all_runs(mmbench, tmp_path, pickled) -> None:
    done = mmbench("run", "decalign_official_mosi", *pickled, *options(model__encoders__text__model="no/such-model"), code=2)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert "no/such-model" in errors[0]
    assert "set `model` to its folder" in errors[0]
    assert not list(tmp_path.glob("runs/*/*/*/result.json"))


def test_check_says_what_is_missing_without_data(mmbench) -> None:
    done = mmbench("check", "slad_mosei")
    assert "encoder     audio: mmbench-extractors/hf-audio" in done.stdout
    assert "CMU-MOSEI was not found" in done.stdout
    assert "This experiment cannot be run yet." in done.stdout
