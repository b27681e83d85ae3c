"""Features as one .npy file for each utterance, in one folder for each modality: what the formats of conversations have in common. Is no format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import strict_yaml
from mmbench.data.array_files import ArrayFile, open_array
from mmbench.errors import ConfigError, DataError
from mmbench.files import check_name

CHOICE = "features.yaml"
"""A file beside the feature folders that says which is which: ``text: deberta-large-4-UTT``, a line for each modality."""

# Looked for in this order, since "hubert" contains "bert".
_WORDS = {
    "audio": (
        "audio",
        "wav2vec",
        "hubert",
        "wavlm",
        "whisper",
        "vggish",
        "opensmile",
        "egemaps",
        "is09",
        "is10",
        "is13",
        "compare",
        "covarep",
        "mfcc",
    ),
    "text": ("text", "bert", "gpt", "llama", "electra", "xlnet", "glove", "baichuan", "vicuna", "bloom"),
    "vision": ("vision", "visual", "video", "face", "manet", "clip", "resnet", "senet", "densenet", "dino", "emonet", "msceleb"),
}
MODALITIES = tuple(_WORDS)


def feature_folders(folder: Path) -> dict[str, Path]:
    """The folder of features of each modality, in `folder` or in its ``features``.

    By ``features.yaml`` where there is one, else by their names (``wav2vec-large-c-UTT`` is audio); folders without a known name are left alone.
    DataError: two folders for one modality, or a ``features.yaml`` that names no folder.
    """
    places = [place for place in (folder, folder / "features") if place.is_dir()]
    for place in places:
        if (place / CHOICE).is_file():
            return _chosen(place / CHOICE)
    found: dict[str, list[Path]] = {}
    for path in sorted(path for place in places for path in place.iterdir() if path.is_dir()):
        modality = next((name for name, words in _WORDS.items() if any(word in path.name.lower() for word in words)), None)
        if modality and next(path.rglob("*.npy"), None):
            found.setdefault(modality, []).append(path)
    for modality, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise DataError(
                f"{folder}: has several folders of {modality} features: {names}. Choose in {places[-1] / CHOICE}: {modality}: {paths[0].name}"
            )
    return {modality: paths[0] for modality, paths in found.items()}


def _chosen(path: Path) -> dict[str, Path]:
    try:
        content = strict_yaml.load(path)
    except ConfigError as error:
        raise DataError(str(error)) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: must be a mapping of modalities to the names of folders")
    for modality, name in content.items():
        if modality not in MODALITIES or not isinstance(name, str) or not (path.parent / name).is_dir():
            raise DataError(f"{path}: {modality}: {name}: must be one of {', '.join(MODALITIES)}, and the name of a folder beside this file")
    return {modality: path.parent / name for modality, name in content.items()}


def read_utterances(folder: Path, names: Sequence[str], spare: float = 0.0) -> tuple[list[Any], list[str]]:
    """The arrays (T_i, D) of the files with these names in `folder`, and which of them have none.

    Up to a share `spare` may lack a file; these have no frames. DataError: more, or a file that is no such array.
    """
    try:
        for part in {part for name in names for part in str(name).split("/")}:
            check_name(part)
    except ValueError as error:
        raise DataError(f"{folder}: an utterance's name {error}") from None
    missing = [name for name in names if not (folder / f"{name}.npy").is_file()]
    present = set(names).difference(missing)
    if len(missing) > spare * len(names):
        first = ", ".join(f"{name}.npy" for name in missing[:3])
        raise DataError(f"{folder}: {len(missing)} of {len(names)} utterances have no file there, first {first}")
    files = {name: _opened(folder / f"{name}.npy") for name in sorted(present)}
    nothing = np.zeros((0, next(iter(files.values())).shape[1] if files else 1), np.float32)
    return [files.get(name, nothing) for name in names], missing


def _opened(path: Path) -> ArrayFile:
    try:
        return open_array(path)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as an array: {error}") from None


def layout_of(features: Iterable[Sequence[Any]]) -> str:
    """``aligned`` where every utterance is one vector in all of the lists of arrays (T_i, D)."""
    return "aligned" if all(array.shape[0] <= 1 for arrays in features for array in arrays) else "unaligned"
