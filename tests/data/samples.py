"""A small data set in the users' pickle format, and a manifest that fits it."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmbench.data.ids import canonical_id, fingerprint

SIZES = {"train": 12, "valid": 5, "test": 7}
LENGTHS = {"text": 6, "audio": 9, "vision": 8}
WIDTHS = {"text": 4, "audio": 3, "vision": 2}


def frames(count: int, longest: int, least: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths that include the longest."""
    lengths = rng.integers(least, longest + 1, count)
    lengths[0] = longest
    return lengths


def make_content(aligned: bool = False, seed: int = 0) -> dict[str, Any]:
    """What a whole file holds: train, valid and test, unaligned with stated lengths, or aligned with none."""
    rng = np.random.default_rng(seed)
    content: dict[str, Any] = {}
    start = 0
    for split, count in SIZES.items():
        words = frames(count, LENGTHS["text"], 3, rng)
        attention = np.arange(LENGTHS["text"]) < words[:, None]
        tokens = np.where(attention, rng.integers(1000, 2000, attention.shape), 0)
        part: dict[str, Any] = {
            "id": np.array([f"video_{start + i // 3}$_${i % 3:04d}" for i in range(count)]),
            "raw_text": np.array([f"sentence {i}" for i in range(count)], dtype=object),
            "text_bert": np.stack([tokens, attention, np.zeros_like(tokens)], axis=1).astype(np.int64),
            "text": masked(rng.normal(size=(count, LENGTHS["text"], WIDTHS["text"])), attention),
            "regression_labels": np.linspace(-3, 3, count, dtype=np.float32),
            "classification_labels": np.arange(count) % 3,
            "annotations": np.array(["Neutral"] * count),
        }
        for name in ("audio", "vision"):
            if aligned:
                mask = attention.copy()
                mask[:, 0] = False
                mask[np.arange(count), words - 1] = False
                part[name] = masked(rng.normal(size=(*attention.shape, WIDTHS[name])), mask)
            else:
                lengths = frames(count, LENGTHS[name], 1, rng)
                part[name] = masked(rng.normal(size=(count, LENGTHS[name], WIDTHS[name])), np.arange(LENGTHS[name]) < lengths[:, None])
                part[f"{name}_lengths"] = lengths.tolist()
        content[split] = part
        start += 100
    return content


def masked(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (values * mask[..., None]).astype(np.float32)


def make_manifest(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A manifest whose published splits are those of `content`."""
    ids = {split: [canonical_id(str(name)) for name in content[split]["id"]] for split in SIZES}
    shapes = {name: {"length": LENGTHS[name], "width": WIDTHS[name]} for name in LENGTHS}
    manifest = {
        "name": "tiny",
        "title": "Tiny",
        "task": "regression",
        "label_range": [-3.0, 3.0],
        "prototypes": 7,
        "modalities": ["text", "audio", "vision"],
        "metrics": ["mae", "corr"],
        "layouts": {
            "unaligned": {"files": ["Tiny/Processed/unaligned.pkl", "tiny.pkl"], "shapes": shapes},
            "aligned": {"files": ["Tiny/aligned.pkl"], "shapes": shapes},
        },
        "splits": {split: {"size": len(names), "fingerprint": fingerprint(names)} for split, names in ids.items()},
        "samples": fingerprint([name for names in ids.values() for name in names]),
        "labels": {"values": [-1.0, 0.0, 1.0], "counts": [2, 1, 3]},
        "licence": "none",
        "source": "https://example.org/tiny",
        "citation": "none",
    }
    return {**manifest, **changes}
