"""Reads a raw folder: ``label.csv`` with transcripts and labels. Its recordings are read by `mmbench.data.audio`, when they are wanted."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.ids import canonical_id
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.data.protocol import divide
from mmbench.data.store import Column, column
from mmbench.errors import DataError, printable
from mmbench.files import check_name

VERSION = 1
"""Version of the rules below; another version is another conversion."""

LABELS = "label.csv"
_NEEDED = ("video_id", "clip_id", "text", "mode")
_UNIMODAL = {"text": "label_T", "audio": "label_A", "vision": "label_V"}
_SEPARATORS = {";": "semicolons", "\t": "tabs"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_READ = {*_NEEDED, "label", "annotation", *_UNIMODAL.values()}
PROBLEMS = {
    "text": "the folder holds raw text: mmbench extract makes features of it, or set model.encoders.text",
    "audio": "the folder holds recordings: mmbench extract makes features of them, or set model.encoders.audio",
    "vision": "raw video is not read here: mmbench extract makes features of it",
}


def read(folder: Path, manifest: Manifest) -> RawFolder:
    """The rows of ``label.csv``. DataError: not such a table; or rows that cannot be used, with the reason and the line of the first ten."""
    path = folder / LABELS
    header, rows = table(path)
    require(path, header, *(("label",) if manifest.task == "regression" else ("annotation", "label")))
    return RawFolder(path, manifest, header, rows)


def require(path: Path, header: Sequence[str], *targets: str) -> None:
    """DataError: a column is missing; one of `targets` is enough."""
    missing = [name for name in _NEEDED if name not in header]
    if not {*targets} & {*header}:
        missing.append(" or ".join(targets))
    if missing:
        raise DataError(f"{path}: the column {', '.join(missing)} is missing; it has {', '.join(header):.300}")


Row = tuple[int, dict[str, str]]
"""Line of the file, and the cells by column."""


def table(path: Path) -> tuple[list[str], list[Row]]:
    """The header and the rows of a ``label.csv``. DataError: it is no such table."""
    rows: list[Row] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = _cells(path, reader)
            _, cells = next(lines, (1, []))
            header = [name.strip() for name in cells]
            between = next((name for mark, name in _SEPARATORS.items() if len(header) == 1 and mark in header[0]), None)
            if between:
                raise DataError(f"{path}: {between} stand between its columns; save it with commas there, and points in decimal numbers")
            twice = sorted(name for name in _READ if header.count(name) > 1)
            if twice:
                raise DataError(f"{path}: the column {', '.join(twice)} stands there twice")
            for line, cells in lines:
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}: line {line} has {len(cells)} cells, not {len(header)}; a text with commas must stand in quotation marks"
                    )
                rows.append((line, dict(zip(header, cells, strict=True))))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: line {_undecodable(path)} is not UTF-8; save it as UTF-8 (CSV UTF-8 among the file types of Excel)") from None
    return header, rows


def _undecodable(path: Path) -> int:
    """The first line that is not UTF-8."""
    with open(path, "rb") as file:
        return next(number for number, line in enumerate(file, 1) if line.decode("utf-8", "replace").encode() != line)


def _cells(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with the line on which each begins."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}: line {line}: {error}") from None
        if cells is None:
            return
        if cells:
            yield line, cells


class RawFolder:
    """`columns` for the store, and its `document()`."""

    def __init__(self, path: Path, manifest: Manifest, header: list[str], rows: list[Row]):
        self.path, self.manifest = path, manifest
        self.columns: dict[str, Column] = {}
        self.notices: list[dict[str, str]] = []
        self.ignored = sorted(name or "(no name)" for name in set(header) - _READ)
        parts: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
        targets: dict[str, list[float]] = {split: [] for split in SPLITS}
        target, problems = self._target_reader(header, rows), []
        for line, row in rows:
            name, split = f"{row['video_id'].strip()}/{row['clip_id'].strip()}", row["mode"].strip()
            try:
                for key in ("video_id", "clip_id"):
                    _check_name(key, row[key].strip())
                if split not in parts:
                    raise ValueError(f"mode {split!r} is none of {', '.join(SPLITS)}")
                _canonical(name)
                targets[split].append(target(row))
                parts[split].append(row)
            except ValueError as error:
                problems.append(f"line {line} ({printable(name):.80}): {error}")
        if problems:
            more = "; ..." if len(problems) > 10 else ""
            raise DataError(f"{path}: {len(problems)} of {len(rows)} rows cannot be used: {'; '.join(problems[:10])}{more}")
        parts, targets = self._divided(parts, targets)
        empty = [split for split in SPLITS if not parts[split]]
        if empty:
            raise DataError(f"{path}: no row has mode {', '.join(empty)}; every split needs samples")
        kind = np.float32 if manifest.task == "regression" else np.int64
        self.columns.update({f"{split}/target": column(np.array(targets[split], kind)) for split in SPLITS})
        self.clips = {split: [f"{row['video_id'].strip()}/{row['clip_id'].strip()}" for row in parts[split]] for split in SPLITS}
        self.samples = {
            split: {"ids": [_canonical(name) for name in self.clips[split]], "transcripts": [row["text"] for row in parts[split]]} for split in SPLITS
        }
        self._unimodal(parts)
        self._empty_texts()

    def document(self) -> dict[str, Any]:
        """What the store's document says; `clips` are the names of the recordings."""
        return {
            "reader": {"name": "raw", "version": VERSION},
            "simulated": False,
            "layout": "raw",
            "splits": self.samples,
            "clips": self.clips,
            "problems": {name: PROBLEMS.get(name, "a raw folder does not hold it") for name in self.manifest.modalities},
            "replaced": {},
            "notices": self.notices,
            "ignored_keys": self.ignored,
        }

    def _divided(self, parts: Mapping[str, list[dict[str, str]]], targets: Mapping[str, list[float]]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The rows and their targets under the manifest's protocol."""
        names, label = self._classes(), "regression_labels" if self.manifest.task == "regression" else "classification_labels"
        content = {
            split: {
                "id": [_canonical(f"{row['video_id'].strip()}/{row['clip_id'].strip()}") for row in rows],
                "rows": rows,
                label: [names[int(target)] for target in targets[split]] if self.manifest.source_classes else targets[split],
            }
            for split, rows in parts.items()
        }
        found = divide(self.path, self.manifest, content)
        empty: dict[str, Any] = {"rows": [], label: []}
        return {split: found.get(split, empty)["rows"] for split in SPLITS}, {split: found.get(split, empty)[label] for split in SPLITS}

    def _classes(self) -> tuple[str, ...]:
        """The classes that the rows may name."""
        return self.manifest.source_classes or self.manifest.classes

    def _target_reader(self, header: list[str], rows: list[Row]) -> Callable[[Mapping[str, str]], float]:
        if self.manifest.task == "regression":
            return lambda row: self._number("label", row["label"])
        classes = {name.casefold(): i for i, name in enumerate(self._classes())}
        named = "annotation" in header and any(row["annotation"].strip() for _, row in rows)
        key = "annotation" if named or "label" not in header else "label"
        return lambda row: _class(key, row[key].strip(), classes)

    def _number(self, key: str, text: str) -> float:
        low, high = self.manifest.label_range or (-math.inf, math.inf)
        try:
            value = float(text.replace("_", "?"))  # Python reads 1_0 as ten
        except ValueError:
            cure = "; write a point, not a comma" if decimal_comma(text) else ""
            raise ValueError(f"{key} {text.strip()!r:.50} is not a number{cure}" if text.strip() else f"{key} is empty") from None
        if math.isnan(value):
            raise ValueError(f"{key} is NaN")
        if not low - 1e-6 <= value <= high + 1e-6:
            raise ValueError(f"{key} {value:g} is outside [{low:g}, {high:g}]")
        return value

    def _unimodal(self, parts: Mapping[str, list[dict[str, str]]]) -> None:
        """Labels of single modalities, as SIMS has them; unusable ones are left out, and that is said. Empty columns count as absent."""
        for name, key in _UNIMODAL.items():
            cells = [row.get(key, "") for split in SPLITS for row in parts[split]]
            if name not in self.manifest.modalities or self.manifest.task != "regression" or not any(cell.strip() for cell in cells):
                continue
            try:
                labels = {split: [self._number(key, row[key]) for row in parts[split]] for split in SPLITS}
            except ValueError as error:
                self.notices.append({"modality": name, "text": f"its own labels are left out: {error}"})
                continue
            self.columns.update({f"{split}/unimodal/{name}": column(np.array(labels[split], np.float32)) for split in SPLITS})

    def _empty_texts(self) -> None:
        empty = [name for part in self.samples.values() for name, text in zip(part["ids"], part["transcripts"], strict=True) if not text.strip()]
        if empty:
            self.notices.append({"modality": "text", "text": f"{len(empty)} transcripts are empty, first {', '.join(empty[:5])}"})


def decimal_comma(text: str) -> bool:
    """Whether a cell is a number as German and French tables have it."""
    return _DECIMAL_COMMA.fullmatch(text.strip()) is not None


def _canonical(clip: str) -> str:
    video, _, name = clip.rpartition("/")
    return canonical_id(f"{video}$_${name}")


def _check_name(key: str, name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None


def _class(key: str, text: str, classes: Mapping[str, int]) -> int:
    if text.casefold() in classes:
        return classes[text.casefold()]
    try:
        value = float(text.replace("_", "?"))
        index = int(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{key} {text!r:.50} is none of {', '.join(classes)}" if text else f"{key} is empty") from None
    if key == "annotation" or value != index or not 0 <= index < len(classes):
        raise ValueError(f"{key} {text!r:.50} is none of {', '.join(classes)}, nor an integer from 0 to {len(classes) - 1}")
    return index
