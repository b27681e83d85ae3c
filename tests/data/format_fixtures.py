"""One small data set for each way in which the core's formats store one: what the tests of reading, import, export and training go over.

`FIXTURES`: by ``<format>`` or ``<format>:<variant>``, a function that writes the data set into an empty folder and returns its path, the name of its
manifest or the path of one written beside it, and the protocol (None: the manifest's first). `mine` registers a function.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import strict_yaml

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
