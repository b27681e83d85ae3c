"""What the line of work on emotions in conversations has: a pickled tuple of dicts by dialogue, in which features are files or stand themselves.

* IEMOCAP_features_raw_4way.pkl and _6way.pkl: (ids, labels, speakers, sentences, training dialogues, test dialogues), beside folders with one .npy
  for each utterance, such as ``wav2vec-large-c-UTT``; with a list of validation dialogues in CMUMOSI_features_raw_2way.pkl.
  The source is the folder, or the pickle in it where the folder has several.
* IEMOCAP_features.pkl: (ids, speakers, labels, text, audio, visual, sentences, training dialogues, test dialogues).

Sources: the loaders of GCNet (Lian et al., TPAMI 2023), DialogueRNN (Majumder et al., AAAI 2019) and MMGCN (Hu et al., ACL 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data import pickles
from mmbench.data.arrays import as_array, as_items, as_text
from mmbench.data.formats.utterances import CHOICE, feature_folders, layout_of, read_utterances
from mmbench.data.manifest import Manifest
from mmbench.errors import DataError

CLASSES = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
"""Of IEMOCAP in these files; those with four classes have the first four, where happy and excited are one."""

# By the number of items and the place of the first list of dialogues.
_LAYOUTS: dict[tuple[int, int], tuple[str, ...]] = {
    (6, 4): ("id", "labels", "speakers", "raw_text", "train", "test"),
    (7, 4): ("id", "labels", "speakers", "raw_text", "train", "valid", "test"),
    (9, 7): ("id", "speakers", "labels", "text", "audio", "vision", "raw_text", "train", "test"),
}
_FEATURES = ("text", "audio", "vision")
_SPLITS = ("train", "valid", "test")


class ConversationsFormat:
    """Reads a pickle by dialogue, and the features beside it."""

    version = 1

    def recognises(self, path: Path) -> bool:
        """One of these pickles, or a folder with one."""
        return bool(_pickles(path)) if path.is_dir() else _known(path) is not None

    def sources(self, path: Path) -> list[Path]:
        """The pickles, and all files of features."""
        if path.is_file() and "text" in (_known(path) or ()):
            return [path]
        folder = path if path.is_dir() else path.parent
        files = [file for place in feature_folders(folder).values() for file in place.glob("*.npy")]
        choice = [place / CHOICE for place in (folder, folder / "features") if (place / CHOICE).is_file()]
        return [*(_pickles(path) if path.is_dir() else [path]), *choice, *files]

    def read(self, path: Path, manifest: Manifest) -> Mapping[str, Any]:
        """The splits by the file's lists of dialogues. DataError: no such pickle, or dialogues that do not fit together."""
        file = _choose(path, manifest) if path.is_dir() else path
        layout = _known(file)
        if layout is None:
            pickles.load(file)  # says what is damaged
            raise DataError(f"{file}: is no pickle by dialogue: a tuple of {' or of '.join(', '.join(names) for names in _LAYOUTS.values())}")
        dialogues = Dialogues(file, dict(zip(layout, pickles.peek(file), strict=True)))
        content: dict[str, Any] = {}
        for split in _SPLITS:
            if split in layout:
                content[split] = dialogues.samples(dialogues.listed(split), _FEATURES if "text" in layout else ())
        _name_labels(content, manifest)
        if "text" in layout:
            return content
        folders = feature_folders(file.parent)
        if not folders:
            raise DataError(f"{file.parent}: no folder with one .npy for each utterance; folders of other names need a {CHOICE}")
        for part in content.values():
            names = [as_text(name) for name in part["id"]]
            part |= {modality: read_utterances(folder, names)[0] for modality, folder in folders.items()}
        return {**content, "layout": layout_of([part[modality] for part in content.values() for modality in folders])}


class Dialogues:
    """Lists of utterances by dialogue: `items` by what they are, of one file."""

    def __init__(self, path: Path, items: Mapping[str, Any]):
        self.path, self.items = path, items

    def listed(self, split: str) -> list[Any]:
        """The dialogues of a split. DataError: not a list of dialogues that the file has."""
        names = [_key(name) for name in as_items(self.items[split])]
        if missing := [name for name in names if name not in self.items["id"]]:
            raise DataError(f"{self.path}: {len(missing)} dialogues of {split} have no utterances, first {missing[0]!r}")
        return names

    def samples(self, names: list[Any], features: tuple[str, ...]) -> dict[str, Any]:
        """Their utterances, one after the other. DataError: a dialogue with fewer labels, sentences or features than ids."""
        part: dict[str, list[Any]] = {key: [] for key in ("id", "labels", "raw_text", *features)}
        for name in names:
            sizes = {}
            for key, found in part.items():
                values = self._of(key, name)
                found += values
                sizes[key] = len(values)
            if len(set(sizes.values())) > 1:
                raise DataError(f"{self.path}: dialogue {name!r} has unlike numbers of {', '.join(f'{key} {size}' for key, size in sizes.items())}")
        labels = part.pop("labels")
        return {**part, "classification_labels": labels, **{key: self._vectors(key, part[key]) for key in features}}

    def _of(self, key: str, name: Any) -> list[Any]:
        if name not in self.items[key]:
            raise DataError(f"{self.path}: dialogue {name!r} has no {key}")
        values = self.items[key][name]
        if not isinstance(values, (list, tuple, np.ndarray)):
            raise DataError(f"{self.path}: {key} of dialogue {name!r} is a {type(values).__name__}, not a list")
        return list(values)

    def _vectors(self, key: str, values: list[Any]) -> Any:
        """(N, D)"""
        try:
            return as_array([as_array(value) for value in values])
        except ValueError as error:
            raise DataError(f"{self.path}: {key}: {error}") from None


def tuple_layout(content: Any, layouts: Mapping[tuple[int, int], tuple[str, ...]]) -> tuple[str, ...] | None:
    """Which of the layouts a pickled tuple has, by its length and by which items are dicts by dialogue and which are lists of dialogues."""
    if not isinstance(content, (tuple, list)):
        return None
    layout = layouts.get((len(content), next((i for i, item in enumerate(content) if not isinstance(item, dict)), 0)), ())
    lists = [isinstance(item, (list, tuple, np.ndarray)) for item in content]
    return layout if layout and lists == [name in _SPLITS for name in layout] else None


def _known(path: Path) -> tuple[str, ...] | None:
    return tuple_layout(pickles.peek(path), _LAYOUTS)


def _pickles(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.pkl") if _known(path))


def _choose(folder: Path, manifest: Manifest) -> Path:
    """The only pickle of a folder; of several the one with the manifest's number of classes, else the one with the most."""
    paths = _pickles(folder)
    if not paths:
        raise DataError(f"{folder}: has no pickle by dialogue")
    counts = {path: _classes(path) for path in paths} if len(paths) > 1 else {paths[0]: 0}
    wanted = [path for path, count in counts.items() if count == len(manifest.classes)] or [
        path for path, count in counts.items() if count == max(counts.values())
    ]
    if len(wanted) > 1:
        raise DataError(f"{folder}: has {' and '.join(path.name for path in wanted)}; name one in data.path")
    return wanted[0]


def _classes(path: Path) -> int:
    """One more than the highest class index."""
    content = pickles.peek(path)
    labels = content[(tuple_layout(content, _LAYOUTS) or ()).index("labels")]
    try:
        return 1 + max((int(label) for values in labels.values() for label in values), default=-1)
    except (TypeError, ValueError):
        raise DataError(f"{path}: has labels that are not class indices") from None


def _key(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def _name_labels(content: Mapping[str, dict[str, Any]], manifest: Manifest) -> None:
    """Indices become IEMOCAP's names where these are the manifest's; labels of regression get their own key."""
    for part in content.values():
        if manifest.task == "regression":
            part["regression_labels"] = part.pop("classification_labels")
        elif {*CLASSES[:4]} <= {*manifest.classes, *manifest.source_classes}:
            part["classification_labels"] = [_name(label) for label in part["classification_labels"]]


def _name(label: Any) -> str:
    try:
        index = int(label)
    except (TypeError, ValueError):
        return str(label)
    return CLASSES[index] if 0 <= index < len(CLASSES) else str(index)
