"""A small raw folder for the toy extractors, and a manifest that fits it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mmbench import strict_yaml
from mmbench.data.ids import canonical_id, fingerprint

SIZES = {"train": 6, "valid": 3, "test": 3}
TEXTS = ("so good", "bad - film", "a film, good!", "ok", "", "it was fine")


def make_rows(texts: tuple[str, ...] = TEXTS) -> list[dict[str, str]]:
    """Twelve clips, three of each video, in the order test, train, valid, with the clip ids padded."""
    rows = []
    modes = [mode for mode in ("test", "train", "valid") for _ in range(SIZES[mode])]
    for i, mode in enumerate(modes):
        row = {"video_id": f"vid_{i // 3}", "clip_id": f"{i % 3 + 9:04d}", "text": texts[i % len(texts)], "label": f"{i / 2 - 3:g}", "mode": mode}
        rows.append({**row, "label_T": f"{i / 12:g}"})
    return rows


def write_raw(folder: Path, rows: list[dict[str, str]]) -> Path:
    """``label.csv``, and for the i-th clip a sound of i + 1 bytes (i, i + 1, ...) and a picture of three."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "label.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for i, row in enumerate(rows):
        path = folder / "Raw" / row["video_id"] / row["clip_id"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".snd").write_bytes(sound(i))
        path.with_suffix(".bin").write_bytes(bytes([i, 1, 2]))
    return folder


def write_words(folder: Path, rows: list[dict[str, str]]) -> None:
    """``words.csv``: each word lasts 0.2 s."""
    lines = ["video_id,clip_id,word,start,end"]
    for row in rows:
        words = [word for word in row["text"].split() if word != "-"]
        lines += [f'{row["video_id"]},{row["clip_id"]},"{word}",{0.2 * i:.1f},{0.2 * i + 0.2:.1f}' for i, word in enumerate(words)]
    (folder / "words.csv").write_text("\n".join(lines) + "\n")


def sound(i: int) -> bytes:
    """The sound of the i-th clip."""
    return bytes(range(i, 2 * i + 1))


def write_manifest(path: Path, rows: list[dict[str, str]], **changes: Any) -> Path:
    """A manifest whose published splits are those of the rows."""
    ids = {split: [canonical_id(f"{row['video_id']}$_${row['clip_id']}") for row in rows if row["mode"] == split] for split in SIZES}
    shapes = {name: {"length": 5, "width": 2} for name in ("text", "audio", "vision")}
    manifest = {
        "name": "tiny",
        "title": "Tiny",
        "task": "regression",
        "label_range": [-3.0, 3.0],
        "prototypes": 7,
        "modalities": ["text", "audio", "vision"],
        "metrics": ["mae", "corr"],
        "layouts": {name: {"files": [f"{name}.pkl"], "shapes": shapes} for name in ("unaligned", "aligned")},
        "splits": {split: {"size": len(names), "fingerprint": fingerprint(names)} for split, names in ids.items()},
        "samples": fingerprint([name for names in ids.values() for name in names]),
        "labels": {"values": [-1.0, 0.0, 1.0], "counts": [2, 1, 3]},
        "licence": "none",
        "source": "https://example.org/tiny",
        "citation": "none",
    }
    path.write_text(strict_yaml.dump({**manifest, **changes}))
    return path
