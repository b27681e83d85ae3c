"""One small data set for each way in which the core's formats store one: what the tests of reading, import, export and training go over.

`FIXTURES`: by ``<format>`` or ``<format>:<variant>``, a function that writes the data set into an empty folder and returns its path, the name of its
manifest or the path of one written beside it, and the protocol (None: the manifest's first). `mine` registers a function.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import strict_yaml

from .raw_samples import make_rows, write_table
from .samples import SIZES, WIDTHS, make_content, make_manifest

Written = tuple[Path, str, str | None]
FIXTURES: dict[str, Callable[[Path], Written]] = {}


def mine(name: str) -> Callable[[Callable[[Path], Written]], Callable[[Path], Written]]:
    def register(function: Callable[[Path], Written]) -> Callable[[Path], Written]:
        assert name not in FIXTURES
        FIXTURES[name] = function
        return function

    return register


def write_pickle(path: Path, content: Any, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_manifest(folder: Path, content: dict[str, Any], **changes: Any) -> str:
    """A manifest called tiny whose published splits are the ids of `content`."""
    path = folder / "tiny.yaml"
    path.write_text(strict_yaml.dump(make_manifest(content, **changes)))
    return str(path)


@mine("mmsa")
def mmsa(folder: Path) -> Written:
    """Unaligned, with stated lengths and token ids."""
    content = make_content()
    return write_pickle(folder / "unaligned.pkl", content), write_manifest(folder, content), None


@mine("mmsa:aligned")
def mmsa_aligned(folder: Path) -> Written:
    """Aligned: audio and vision are real between CLS and SEP, as the attention mask says; float64 token ids."""
    content = make_content(aligned=True)
    for part in content.values():
        part["text_bert"] = part["text_bert"].astype(np.float64)
        part["text"] = part["text"].astype(np.float64)
    return write_pickle(folder / "aligned.pkl", content), write_manifest(folder, content), None


@mine("mmsa:sims")
def mmsa_sims(folder: Path) -> Written:
    """Labels of single modalities, of which one has gaps; float64; -inf in the audio; no lengths of vision."""
    content = make_content(seed=3)
    rng = np.random.default_rng(4)
    for part in content.values():
        count = len(part["id"])
        part["regression_labels"] = np.linspace(-1, 1, count)
        for letter in "TAV":
            part[f"regression_labels_{letter}"] = rng.uniform(-1, 1, count)
        part["audio"] = part["audio"].astype(np.float64)
        part["audio"][0, 0, 0] = -np.inf
        part["vision"][1, 0] = np.nan
        del part["vision_lengths"], part["classification_labels"]
    content["train"]["regression_labels_A"][2] = np.nan
    changes = {"label_range": [-1.0, 1.0], "unimodal_labels": True, "prototypes": 3}
    return write_pickle(folder / "sims.pkl", content), write_manifest(folder, content, **changes), None


@mine("mmsa:classes")
def mmsa_classes(folder: Path) -> Written:
    """Class indices alone, one vector for each modality and clip, no transcripts."""
    content = make_content(seed=5)
    for part in content.values():
        for key in ("regression_labels", "raw_text", "text_bert", "annotations", "audio_lengths", "vision_lengths"):
            del part[key]
        for name in ("text", "audio", "vision"):
            part[name] = part[name][:, :1]
    changes = {"task": "classification", "classes": ["low", "middle", "high"], "label_range": None, "prototypes": 3, "metrics": ["wacc", "waf1"]}
    changes["labels"] = {"values": [0.0, 1.0, 2.0], "counts": [1, 1, 1]}
    return write_pickle(folder / "classes.pkl", content, protocol=2), write_manifest(folder, content, **changes), None


def mult_content(aligned: bool, seed: int = 6) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """What MulT's files hold, padded at the front: (video_clip, start, end) in bytes, float64, labels (N, 1, 1); and the number of words."""
    rng = np.random.default_rng(seed)
    longest = {"text": 7, "audio": 7 if aligned else 11, "vision": 7 if aligned else 9}
    content, lengths = {}, {}
    for split, count in SIZES.items():
        lengths[split] = [7, *(int(n) for n in rng.integers(3, 7, count - 1))]
        part: dict[str, Any] = {}
        for name, steps in longest.items():
            values = rng.normal(size=(count, steps, WIDTHS[name]))
            for row, words in enumerate(lengths[split]):
                values[row, : steps - words] = 0
            part[name] = values
        part["labels"] = rng.uniform(-3, 3, (count, 1, 1))
        part["id"] = np.array([(f"{split}_{i // 3}_{i % 3 + 1}", f"{i}.5", f"{i + 1}.25") for i in range(count)], dtype="S20")
        content[split] = part
    return content, lengths


@mine("mult")
def mult(folder: Path) -> Written:
    """Aligned, as Python 2 wrote it; -inf in the audio."""
    content, _ = mult_content(aligned=True)
    content["train"]["audio"][0, -1, 0] = -np.inf
    published = {split: {"id": [row[0].decode() for row in part["id"]]} for split, part in content.items()}
    return write_pickle(folder / "mosi_data.pkl", content, protocol=2), write_manifest(folder, published), None


@mine("mult:noalign")
def mult_noalign(folder: Path) -> Written:
    """Unaligned, with ids of text that name the video alone."""
    content, _ = mult_content(aligned=False)
    published = {}
    for split, part in content.items():
        part["id"] = np.array([(f"{split}{i // 3}", f"{i}.5", f"{i + 1}.25") for i in range(len(part["labels"]))])
        published[split] = {"id": [f"{split}{i // 3}[{i % 3 + 1}]" for i in range(len(part["labels"]))]}
    return write_pickle(folder / "mosei_senti_data_noalign.pkl", content), write_manifest(folder, published), None


def misa_table() -> np.ndarray:
    """Vectors of twelve words, (12, 4) float32."""
    return np.random.default_rng(8).normal(size=(12, WIDTHS["text"])).astype(np.float32)


def misa_samples() -> dict[str, list[Any]]:
    """What the three pickles of MISA hold: ((word ids, visual, acoustic, words), label, segment), with a NaN in the sound of one."""
    rng = np.random.default_rng(7)
    samples: dict[str, list[Any]] = {}
    for split, count in SIZES.items():
        samples[split] = []
        for i in range(count):
            words = rng.integers(0, 12, rng.integers(2, 7))
            features = [rng.normal(size=(len(words), WIDTHS[name])) for name in ("vision", "audio")]
            segment = f"{split}_x[{i}]"
            samples[split].append(
                ((words, *features, [f"word{n}" for n in words]), rng.uniform(-3, 3, (1, 1)), segment if i % 2 else segment.encode())
            )
    samples["train"][0][0][2][0, 0] = np.nan
    return samples


def torch_zip(path: Path, table: np.ndarray) -> None:
    """What torch.save writes for ``(table, {"<unk>": 0})``, made by hand, so that no torch is needed."""
    shape = b"".join(b"K" + bytes([n]) for n in table.shape) + b"t"
    stride = b"".join(b"K" + bytes([n]) for n in [*table.shape[1:], 1]) + b"t"
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuM" + table.size.to_bytes(2, "little") + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(" + shape + b"(" + stride + b"\x89ccollections\nOrderedDict\n)RtR"
    words = b"ccollections\ndefaultdict\nccreate_dataset\nreturn_unk\n\x85RX\x05\x00\x00\x00<unk>K\x00s"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + tensor + words + b"\x86.")
        archive.writestr("archive/data/0", table.astype("<f4").tobytes())


@mine("misa")
def misa(folder: Path) -> Written:
    """A folder, numbered from 0 where the published splits count from 1; segments in text and in bytes."""
    (folder / "MISA").mkdir()
    samples = misa_samples()
    for split, name in {"train": "train.pkl", "valid": "dev.pkl", "test": "test.pkl"}.items():
        write_pickle(folder / "MISA" / name, samples[split])
    torch_zip(folder / "MISA" / "embedding_and_mapping.pt", misa_table())
    published = {split: {"id": [f"{split}_x[{i + 1}]" for i in range(count)]} for split, count in SIZES.items()}
    return folder / "MISA", write_manifest(folder, published), None


FEATURES = {"text": 4, "audio": 3, "vision": 2}


def folder_features() -> list[dict[str, np.ndarray]]:
    """The features of the clips of `raw_samples.make_rows`: sequences, of vision one vector (D,); some float64."""
    rng = np.random.default_rng(9)
    features = []
    for i in range(12):
        values = {name: rng.normal(size=(int(rng.integers(1, 6)), width)) for name, width in FEATURES.items()}
        features.append({**values, "text": values["text"].astype(np.float32), "vision": values["vision"][0] if i % 2 else values["vision"][:1]})
    return features


def write_folder(folder: Path, place: str = "modalities") -> Written:
    """A plain folder; `place`: .npy by modality, .npz by modality, or one .npz for each clip, below the folder or below its ``features``."""
    rows = make_rows()
    write_table(folder / "Own", rows)
    base = folder / "Own" / place.rpartition("/")[0]
    for row, features in zip(rows, folder_features(), strict=True):
        clip = f"{row['video_id']}/{row['clip_id']}"
        if place.endswith("clips"):
            (base / row["video_id"]).mkdir(parents=True, exist_ok=True)
            np.savez(base / f"{clip}.npz", **features)
            continue
        for name, values in features.items():
            (base / name / row["video_id"]).mkdir(parents=True, exist_ok=True)
            (np.savez if place.endswith("npz") else np.save)(base / name / clip, values)
    published = {split: {"id": [f"{row['video_id']}$_${row['clip_id']}" for row in rows if row["mode"] == split]} for split in SIZES}
    return folder / "Own", write_manifest(folder, published), None


FIXTURES["folder"] = write_folder


@mine("mult:iemocap")
def mult_iemocap(folder: Path) -> Written:
    """Four binary labels for each sample, one-hot, and no ids."""
    content, _ = mult_content(aligned=True, seed=10)
    for part in content.values():
        part["labels"] = np.eye(2)[np.random.default_rng(len(part["labels"])).integers(0, 2, (len(part["labels"]), 4))]
        del part["id"]
    return write_pickle(folder / "iemocap_data.pkl", content), "iemocap", "mult_4binary"
