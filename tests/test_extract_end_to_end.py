"""From videos with sound and a table of transcripts to a trained model, through the command line; the networks are small and random."""

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import cli
from mmbench.config import DataConfig
from mmbench.data.ids import fingerprint
from mmbench.data.load import load_dataset
from mmbench.strict_yaml import dump
from small_recordings import WORDS, build_networks, write_video

for _module in ("torch", "torchaudio", "transformers", "mmbench_extractors", "soundfile", "av"):
    if find_spec(_module) is None:
        pytest.skip(f"needs {_module}", allow_module_level=True)

pytestmark = pytest.mark.torch
SECONDS = [0.4 + 0.1 * i for i in range(12)]
MODES = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of twelve videos, its manifest, four networks, and a config."""
    base = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for i, (seconds, mode) in enumerate(zip(SECONDS, MODES, strict=True)):
        text = " ".join(rng.choice(WORDS, 1 + i % 5))
        rows.append({"video_id": f"video{i // 3}", "clip_id": f"{i % 3:04d}", "text": text.capitalize() + ".", "label": i / 2 - 3, "mode": mode})
        path = base / "raw" / "Raw" / f"video{i // 3}" / f"{i % 3:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, seconds, i)
    with open(base / "raw" / "label.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    ids = {mode: [f"{row['video_id']}/{int(row['clip_id'])}" for row in rows if row["mode"] == mode] for mode in dict.fromkeys(MODES)}
    (base / "clips.yaml").write_text(dump(manifest(ids)))
    (base / "networks").mkdir()
    build_networks(base / "networks")
    config = {
        "data": {"name": "clips.yaml", "path": "raw"},
        "text": {"name": "hf-text", "model": "networks/bert"},
        "tokens": {"name": "hf-text-tokens", "model": "networks/bert"},
        "audio": {"name": "torchaudio-mfcc"},
        "vision": {"name": "hf-vision", "model": "networks/vit", "fps": 5.0},
        "aligner": {"name": "ctc", "model": "networks/ctc"},
    }
    (base / "extract.yaml").write_text(dump(config))
    return base


def manifest(ids) -> dict:
    shapes = {name: {"length": 50, "width": 16} for name in ("text", "audio", "vision")}
    return {
        "name": "clips",
        "title": "Clips",
        "task": "regression",
        "label_range": [-3.0, 3.0],
        "prototypes": 7,
        "modalities": ["text", "audio", "vision"],
        "metrics": ["mae", "corr"],
        "layouts": {name: {"files": [f"{name}.pkl"], "shapes": shapes} for name in ("aligned", "unaligned")},
        "splits": {mode: {"size": len(names), "fingerprint": fingerprint(names)} for mode, names in ids.items()},
        "samples": fingerprint([name for names in ids.values() for name in names]),
        "labels": {"values": [-1.0, 0.0, 1.0], "counts": [2, 1, 3]},
        "licence": "none",
        "source": "https://example.org/clips",
        "citation": "none",
    }


def features(cache) -> dict[str, int]:
    """The results in a cache, with the time of their writing."""
    return {str(path): path.stat().st_mtime_ns for path in cache.glob("extracted/*/*.npy") if not path.name.startswith(".")}


@pytest.fixture
def here(folder, monkeypatch):
    """Runs the command inside this process, which has imported torch already; its extractors run in processes of their own all the same."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MMBENCH_DATA", raising=False)

    def call(*arguments: str, cache: str = "cache", code: int = 0):
        monkeypatch.setenv("MMBENCH_CACHE", str(folder / cache))
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
        return done

    return call


def started(folder, cache, *arguments: str) -> subprocess.Popen[str]:
    """The command as a process, in a session of its own."""
    environment = {**os.environ, "MMBENCH_CACHE": str(folder / cache), "HF_HUB_OFFLINE": "1"}
    environment.pop("MMBENCH_DATA", None)
    command, pipe = [sys.executable, "-m", "mmbench", *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=folder, env=environment, start_new_session=True)


def table(text) -> dict[str, list[str]]:
    """By extractor: how many clips are new, cached and failed."""
    return {line.split()[0]: line.split()[1:4] for line in text.splitlines()[1:6]}


def test_videos_become_a_data_set_that_a_model_trains_on(folder, here) -> None:
    done = here("extract", "extract.yaml", "--data-root", "root", "--jobs", "1", "--export", "clips.pkl")
    assert table(done.stdout) == {name: ["12", "0", "0"] for name in ("text", "tokens", "audio", "vision", "aligner")}
    document = json.loads((folder / "root" / "clips" / "aligned" / "store.json").read_text())
    assert document["layout"] == "aligned"
    assert document["origin"]["extraction"]["extractors"]["vision"]["name"] == "mmbench-extractors/hf-vision"
    with open(folder / "raw" / "label.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(folder / "clips.pkl", "rb") as file:
        unaligned = pickle.load(file)  # what the command has written
    with open(folder / "clips_aligned.pkl", "rb") as file:
        aligned = pickle.load(file)
    for split in ("train", "valid", "test"):
        own = [(seconds, row) for seconds, row in zip(SECONDS, rows, strict=True) if row["mode"] == split]
        words = [len(row["text"].split()) for _, row in own]
        part = unaligned[split]
        assert part["text_bert"][:, 1].sum(1).tolist() == [count + 3 for count in words]  # [CLS], words, the full stop, [SEP]
        np.testing.assert_allclose(part["audio_lengths"], [100 * seconds for seconds, _ in own], atol=14)  # AAC works in blocks of 1024 samples
        np.testing.assert_allclose(part["vision_lengths"], [5 * seconds for seconds, _ in own], atol=1)
        assert part["regression_labels"].tolist() == [float(row["label"]) for _, row in own]
        for name in ("text", "audio", "vision"):
            values = aligned[split][name]
            assert values.shape[1] == max(words)
            assert [int((row != 0).any(-1).sum()) for row in values] == words, name
    assert "aligned" in here("data", "check", "root/clips/aligned", "--as", "clips.yaml").stdout
    (folder / "train.yaml").write_text(
        "data: {name: clips.yaml, features: unaligned}\nmodel: {name: linear}\ntraining: {epochs: 2, batch_size: 4}\nseeds: [1]\n"
    )
    running = started(folder, "cache", "run", "train.yaml", "--data-root", "root", "--device", "cpu")
    _, err = running.communicate()
    assert running.returncode == 0, err
    assert "Traceback" not in err
    results = [json.loads(path.read_text()) for path in folder.glob("runs/train/linear-*/seed-1/result.json")]
    assert [(result["status"], result["data"]["split_status"], result["data"]["layout"]) for result in results] == [
        ("done", "published", "unaligned")
    ]


def test_killed_half_way_and_started_again_gives_the_same_bytes(folder, here) -> None:
    if not (folder / "root" / "clips").is_dir():
        here("extract", "extract.yaml", "--data-root", "root", "--jobs", "1")
    killed = started(folder, "second", "extract", "extract.yaml", "--out", "again", "--jobs", "1")
    deadline = time.monotonic() + 300
    while len(features(folder / "second")) < 30:  # of text and audio, and of vision in part
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(killed.pid, signal.SIGKILL)  # its processes too, whatever they are writing
    killed.communicate()
    kept, total = features(folder / "second"), len(features(folder / "cache"))
    assert 30 <= len(kept) < total
    assert not (folder / "again").exists()
    done = here("extract", "extract.yaml", "--out", "again", "--jobs", "1", cache="second")
    counts = table(done.stdout)
    assert counts["text"] == counts["audio"] == ["0", "12", "0"]
    assert [int(new) + int(cached) for new, cached, _ in counts.values()] == [12] * 5
    found = features(folder / "second")
    assert len(found) == total
    assert {name: found[name] for name in kept} == kept  # and none of them was written again
    for layout in ("unaligned", "aligned"):
        names = [path.name for path in (folder / "root" / "clips" / layout).iterdir()]
        assert sorted(names) == ["arrays.safetensors", "store.json"]
        for name in names:
            assert (folder / "again" / "clips" / layout / name).read_bytes() == (folder / "root" / "clips" / layout / name).read_bytes(), name


def test_another_extractor_runs_alone_and_a_broken_video_is_a_failure(folder, here) -> None:
    pytest.importorskip("opensmile", reason="the extra opensmile cannot be imported", exc_type=(ImportError, OSError))
    other = ["extract", "extract.yaml", "--jobs", "1", "--set", "audio.name=opensmile", "--out"]
    if not (folder / "root" / "clips").is_dir():
        here("extract", "extract.yaml", "--data-root", "root", "--jobs", "1")
    cached = {name: ["0", "12", "0"] for name in ("text", "tokens", "vision", "aligner")}
    assert table(here(*other, "smile").stdout) == {**cached, "audio": ["12", "0", "0"]}
    dataset = load_dataset(DataConfig(name=str(folder / "clips.yaml"), path=str(folder / "smile" / "clips" / "unaligned"), features="unaligned"))
    for mode in dict.fromkeys(MODES):
        audio = dataset.splits[mode].inputs["audio"]
        assert audio.values.shape[2] == 25  # low-level descriptors of eGeMAPS, each 10 ms
        own = [seconds for seconds, each in zip(SECONDS, MODES, strict=True) if each == mode]
        np.testing.assert_allclose(audio.mask.sum(1), [100 * seconds for seconds in own], atol=14)
    path = folder / "raw" / "Raw" / "video1" / "0001.mp4"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        done = here(*other, "broken", code=1)
    finally:
        path.write_bytes(whole)
    assert [path.name for path in (folder / "broken" / "clips").iterdir()] == ["failures.csv"]
    with open(folder / "broken" / "clips" / "failures.csv", newline="") as file:
        failures = list(csv.DictReader(file))
    assert [(row["split"], row["clip"], row["modality"]) for row in failures] == [
        ("train", "video1/0001", name) for name in ("audio", "vision", "aligner")
    ]
    assert all("is cut short" in row["reason"] for row in failures)
    assert "1 of 12 clips failed" in done.stderr
    assert table(done.stdout) == {
        **{name: ["0", "12", "0"] for name in ("text", "tokens")},
        **{name: ["0", "11", "1"] for name in ("audio", "vision", "aligner")},
    }
