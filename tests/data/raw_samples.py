"""Small raw folders: label.csv with recordings of tones, and a manifest that fits them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import strict_yaml
from mmbench.config import DataConfig

from .samples import make_manifest

COLUMNS = ("video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V", "annotation", "mode")
SIZES = {"train": 6, "valid": 3, "test": 3}


def make_rows() -> list[dict[str, str]]:
    """Twelve clips, three of each video, as a user's table has them: padded clip ids, a comma in a text, labels between -3 and 3."""
    rows = []
    for i, mode in enumerate(mode for mode, size in SIZES.items() for _ in range(size)):
        row = {"video_id": f"vid_{i // 3}", "clip_id": f"{i % 3 + 9:04d}", "text": f"word {i}, and more", "label": f"{i / 2 - 3:g}"}
        own = {"label_T": "0.5", "label_A": f"{-i / 12:g}", "label_V": "1"}
        rows.append({**row, **own, "annotation": ("Negative", "Neutral", "Positive")[i % 3], "mode": mode})
    return rows


def write_table(folder: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS, encoding: str = "utf-8") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "label.csv", "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def tone(frequency: float, seconds: float, rate: int) -> np.ndarray:
    """(n,) float32"""
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_sound(path: Path, samples: np.ndarray, rate: int = 16000) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)


def write_sounds(folder: Path, rows: list[dict[str, str]], rate: int = 16000, suffix: str = ".wav", place: str = "Raw") -> None:
    """A tone for each row; the i-th is 200 + 50 i Hz and 0.2 + 0.05 i seconds."""
    for i, row in enumerate(rows):
        write_sound(folder / place / row["video_id"] / f"{row['clip_id']}{suffix}", tone(200 + 50 * i, 0.2 + 0.05 * i, rate), rate)


def make_config(folder: Path, rows: list[dict[str, str]], manifest: dict[str, Any] | None = None, **options: Any) -> DataConfig:
    """A config for the raw folder, and a manifest whose published splits are those of the rows."""
    content = {split: {"id": [f"{row['video_id']}$_${row['clip_id']}" for row in rows if row["mode"] == split]} for split in SIZES}
    path = folder.parent / "raw.yaml"
    path.write_text(strict_yaml.dump(make_manifest(content, **(manifest or {}))))
    return DataConfig(**{"name": str(path), "path": str(folder), "seconds": 0.5, "modalities": ("text", "audio"), **options})
