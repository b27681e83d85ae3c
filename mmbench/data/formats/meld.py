"""MELD as users have it: the official csv files with a folder of features for each modality, or the pickle of the conversational line of work.

* A folder with train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv, and beside them (or in ``features``) one folder for each modality, which
  has ``train``, ``dev`` and ``test`` with ``dia0_utt0.npy`` and so on, or all in one as ``train_dia0_utt0.npy``. Without such folders there are
  transcripts alone.
* MELD_features_raw.pkl: (ids, speakers, labels of emotion, text, audio, sentences, training dialogues, test dialogues, labels of sentiment), and
  MELD_features_raw1.pkl with visual features after the audio. Dialogues are numbered through all splits: 0 to 1038 are training, to 1152 validation,
  to 1432 test. The file's own list of training dialogues holds both of the first.

Sources: github.com/declare-lab/MELD; the loaders of DialogueRNN (Majumder et al., AAAI 2019) and MMGCN (Hu et al., ACL 2021).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmbench.data import pickles
from mmbench.data.formats.conversations import Dialogues, tuple_layout
from mmbench.data.formats.utterances import CHOICE, feature_folders, layout_of, read_utterances
from mmbench.data.manifest import Manifest
from mmbench.errors import DataError

CLASSES = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
"""The order of the pickle's indices."""

TABLES = {"train": "train_sent_emo.csv", "valid": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
_FOLDERS = {"train": ("train",), "valid": ("dev", "valid", "val"), "test": ("test",)}
_COLUMNS = ("Utterance", "Emotion", "Dialogue_ID", "Utterance_ID")
_LAYOUTS: dict[tuple[int, int], tuple[str, ...]] = {
    (9, 6): ("id", "speakers", "labels", "text", "audio", "raw_text", "train", "test", "sentiment"),
    (10, 7): ("id", "speakers", "labels", "text", "audio", "vision", "raw_text", "train", "test", "sentiment"),
}
_FIRST = {"train": 0, "valid": 1039, "test": 1153}
"""Number of each split's dialogue 0 in the pickle."""

_SPARE = 0.01
"""Share of a split that may lack a file: dia110_utt7 of validation, among others, was never published as a recording."""


class MeldFormat:
    """Reads the folder or the pickle; ids are ``dia<dialogue>/<utterance>`` of the split."""

    version = 1

    def recognises(self, path: Path) -> bool:
        """A folder with the three csv files, or one of the tuples."""
        if path.is_dir():
            return all((path / name).is_file() for name in TABLES.values())
        return tuple_layout(pickles.peek(path), _LAYOUTS) is not None

    def sources(self, path: Path) -> list[Path]:
        """The pickle; or the csv files and all files of features."""
        if path.is_file():
            return [path]
        choice = [place / CHOICE for place in (path, path / "features") if (place / CHOICE).is_file()]
        files = [file for place in feature_folders(path).values() for file in place.rglob("*.npy")]
        return [*(path / name for name in TABLES.values()), *choice, *files]

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """The splits as published. DataError: a column or file is missing, or a dialogue stands in another split than its number says."""
        return _folder(path) if path.is_dir() else _pickle(path)


def _folder(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = {split: _table(path / name) for split, name in TABLES.items()}
    folders, lacking = feature_folders(path), []
    for split, part in content.items():
        for modality, folder in folders.items():
            place, prefix = _place(folder, split)
            names = [f"{prefix}{name.replace('/', '_utt')}" for name in part["id"]]
            part[modality], missing = read_utterances(place, names, _SPARE)
            lacking += [(modality, f"no file for {len(missing)} utterances of {split}, which have no frames: {', '.join(missing)}")] * bool(missing)
    layout = layout_of([part[modality] for part in content.values() for modality in folders])
    return {**content, "notices": lacking, "layout": layout}


def _place(folder: Path, split: str) -> tuple[Path, str]:
    """Where the files of a split are, and how their names begin. DataError: nowhere."""
    names = _FOLDERS[split]
    for name in names:
        if (folder / name).is_dir():
            return folder / name, ""
    for name in names:
        if next(folder.glob(f"{name}_dia*.npy"), None):
            return folder, f"{name}_"
    raise DataError(f"{folder}: has no folder {' or '.join(names)} with files such as dia0_utt0.npy, and no files such as {names[0]}_dia0_utt0.npy")


def _table(path: Path) -> dict[str, Any]:
    """Ids, transcripts and names of emotions of one csv file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")  # as spreadsheet programs save it
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise DataError(f"{path}: {error}") from None
    header = {name for row in rows[:1] for name in row}
    if missing := [name for name in _COLUMNS if name not in header]:
        raise DataError(f"{path}: the column {', '.join(missing)} is missing" if rows else f"{path}: has no rows")
    part: dict[str, list[str]] = {"id": [], "raw_text": [], "classification_labels": []}
    for number, row in enumerate(rows, 1):
        dialogue, utterance = (row[name] or "" for name in ("Dialogue_ID", "Utterance_ID"))
        if not (dialogue.isdecimal() and utterance.isdecimal() and row["Emotion"]):
            raise DataError(f"{path}: row {number} has Dialogue_ID {dialogue!r}, Utterance_ID {utterance!r} and Emotion {row['Emotion']!r}")
        part["id"].append(f"dia{int(dialogue)}/{int(utterance)}")
        part["raw_text"].append(row["Utterance"] or "")
        part["classification_labels"].append(row["Emotion"].strip())
    return part


def _pickle(path: Path) -> dict[str, Any]:
    layout = tuple_layout(pickles.peek(path), _LAYOUTS)
    if layout is None:
        pickles.load(path)  # says what is damaged
        raise DataError(f"{path}: is no pickle of MELD's dialogues: a tuple of {' or of '.join(', '.join(names) for names in _LAYOUTS.values())}")
    dialogues = Dialogues(path, dict(zip(layout, pickles.peek(path), strict=True)))
    numbers = {split: dialogues.listed(split) for split in ("train", "test")}
    if wrong := [name for split in numbers for name in numbers[split] if not isinstance(name, int) or (name >= _FIRST["test"]) != (split == "test")]:
        raise DataError(f"{path}: dialogue {wrong[0]!r} is in the wrong list; 0 to {_FIRST['test'] - 1} are training and validation, the rest test")
    numbers["valid"] = [name for name in numbers["train"] if name >= _FIRST["valid"]]
    numbers["train"] = [name for name in numbers["train"] if name < _FIRST["valid"]]
    features = tuple(name for name in layout if name in ("text", "audio", "vision"))
    content = {}
    for split, first in _FIRST.items():
        part = dialogues.samples(numbers[split], features)
        counts = [(name - first, len(dialogues.items["labels"][name])) for name in numbers[split]]
        places = [dialogue for dialogue, count in counts for _ in range(count)]
        part["id"] = [f"dia{dialogue}/{_plain(path, name)}" for dialogue, name in zip(places, part["id"], strict=True)]
        part["classification_labels"] = [_emotion(path, label) for label in part["classification_labels"]]
        content[split] = part
    return {**content, "layout": "aligned"}


def _plain(path: Path, utterance: Any) -> int:
    try:
        return int(utterance)
    except (TypeError, ValueError):
        raise DataError(f"{path}: {str(utterance)[:60]!r} is no number of an utterance") from None


def _emotion(path: Path, label: Any) -> str:
    index = _plain(path, label)
    if not 0 <= index < len(CLASSES):
        raise DataError(f"{path}: label {index} is outside [0, {len(CLASSES) - 1}], the indices of {', '.join(CLASSES)}")
    return CLASSES[index]
