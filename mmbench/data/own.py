"""A manifest for a user's own data: what their ``label.csv`` and their files say, and nothing more."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmbench import strict_yaml
from mmbench.data import raw
from mmbench.data.audio import PLACES, SUFFIXES, find_recordings, has_recordings
from mmbench.data.formats.folder import PLACES as FEATURE_PLACES
from mmbench.data.formats.folder import may_have
from mmbench.data.ids import fingerprint
from mmbench.data.manifest import SPLITS, Manifest, list_manifests, load_manifest
from mmbench.errors import ConfigError, DataError, printable
from mmbench.files import write
from mmbench.media import VIDEO

FILE = "dataset.yaml"
_SUITES = {(-3.0, 3.0): "mosi", (-1.0, 1.0): "sims"}  # label range: the data set whose metrics and prototypes are taken
_HEADER = """\
# Written by `mmbench data new`; change what does not fit. Use it with data.name: {path}
# The splits are fixed from here on: a label.csv with other samples is refused, unless data.splits is own.
"""


def write_manifest(folder: Path, name: str | None = None) -> tuple[Path, Manifest]:
    """Write ``dataset.yaml`` into a folder with ``label.csv``. ConfigError: it is there already, or the name cannot be one; DataError: the table."""
    path = folder / FILE
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file' if folder.exists() else 'there is no such folder'}; name the folder that holds {raw.LABELS}")
    if not (folder / raw.LABELS).is_file():
        raise DataError(f"{folder}: has no {raw.LABELS}; it needs the columns video_id, clip_id, text, mode, and label or annotation")
    if path.exists():
        raise ConfigError(f"{path}: is there already and is not written over; remove it first if it is to be made anew")
    name = _name(folder, name)
    header, rows = raw.table(folder / raw.LABELS)
    raw.require(folder / raw.LABELS, header, "label", "annotation")
    values = {"name": name, "title": name, **_labels(header, [row for _, row in rows]), "modalities": _modalities(folder, [row for _, row in rows])}
    table = raw.read(folder, Manifest.model_validate(values))
    ids = {split: table.samples[split]["ids"] for split in SPLITS}
    twice = [name for name, count in Counter(name for names in ids.values() for name in names).items() if count > 1]
    if twice:
        raise DataError(f"{folder / raw.LABELS}: clips that stand there more than once: {len(twice)}, first {twice[0]}; keep one row of each")
    values["splits"] = {split: {"size": len(names), "fingerprint": fingerprint(names)} for split, names in ids.items()}
    values["samples"] = fingerprint([each for names in ids.values() for each in names])
    if any("/unimodal/" in key for key in table.columns):
        values["unimodal_labels"] = True
    manifest = Manifest.model_validate(values)
    try:
        write(path, _HEADER.format(path=printable(str(path))) + strict_yaml.dump(values))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path, manifest


def unmatched(folder: Path, manifest: Manifest) -> list[str]:
    """What does not belong together, a line each: clips without a recording, recordings without a row, recordings where none are looked for."""
    if not has_recordings(folder):
        paths = [path for place in ("*", "*/*") for path in sorted(folder.glob(place)) if path.suffix.lower() in SUFFIXES]
        if not paths:
            return []
        found = f"{len(paths)}, first {paths[0].relative_to(folder)}"
        step = f"move them to {PLACES[0]}/<video_id>/<clip_id>, remove {FILE}, and make it anew"
        return [f"recordings that lie where none are looked for: {found}; {step}"]
    clips = raw.read(folder, manifest).clips
    _, missing = find_recordings(folder, clips)
    named = {clip for split in SPLITS for clip in clips[split]}
    there = [path for place in PLACES for path in sorted((folder / place).glob("*/*")) if path.suffix.lower() in SUFFIXES]
    extra = [str(path.relative_to(folder)) for path in there if f"{path.parent.name}/{path.stem}" not in named]
    lines = []
    if missing:
        first, why = next(iter(missing.items()))
        lines.append(f"clips without a recording: {len(missing)} of {len(named)}; first {first}: {why}")
    if extra:
        lines.append(f"recordings without a row in {raw.LABELS}, which are not used: {len(extra)}, first {extra[0]}")
    return lines


def _name(folder: Path, name: str | None) -> str:
    chosen = name if name is not None else re.sub(r"[^a-z0-9_-]+", "_", folder.resolve().name.lower()).strip("_-")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", chosen):
        raise ConfigError(f"{chosen!r} cannot be the name of a data set: letters, digits, - and _ make one. Give another with --name")
    if chosen in list_manifests():
        raise ConfigError(f"{chosen} is the name of a known data set. Give another with --name")
    return chosen


def _labels(header: Sequence[str], rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Task, labels, metrics and prototypes. Numbers in ``label`` are regression, unless they are an index of the names in ``annotation``.

    The metrics are those of CMU-MOSI for labels in [-3, 3], of CH-SIMS for [-1, 1], of IEMOCAP for classes. Their prototypes, and 7 elsewhere, and
    the range of other labels (the nearest whole numbers) are our choice.
    """
    labels = [row["label"].strip() for row in rows] if "label" in header else []
    names = [row["annotation"].strip() for row in rows] if "annotation" in header else []
    numbers = [_number(label) for label in labels]
    if any(value is not None for value in numbers):
        classes = _indexed(numbers, names)
    else:
        classes = [*{name.casefold(): name for name in sorted((names if any(names) else labels), reverse=True) if name}.values()][::-1]
        if len(classes) < 2:
            raise DataError(f"{raw.LABELS}: neither its column label nor annotation has numbers, or names of classes")
    if classes:
        return {"task": "classification", "classes": classes, "prototypes": len(classes), "metrics": [*load_manifest("iemocap").metrics]}
    values = [value for value in numbers if value is not None]  # what is no number is refused, with its line, when the rows are read
    low, high = min(values), max(values)
    for (least, greatest), known in sorted(_SUITES.items(), reverse=True):
        if least <= low and high <= greatest:
            manifest = load_manifest(known)
            limits = [least, greatest]
            return {"task": "regression", "label_range": limits, "prototypes": manifest.prototypes, "metrics": [*manifest.metrics]}
    limits = [float(math.floor(low)), float(math.ceil(high))]
    return {"task": "regression", "label_range": limits, "prototypes": 7, "metrics": ["mae", "corr"]}


def _indexed(numbers: Sequence[float | None], names: Sequence[str]) -> list[str]:
    """The names in the order of their indices 0, 1, ...; none where the numbers are no indices of the names."""
    pairs = sorted({(number, name) for number, name in zip(numbers, names, strict=False) if number is not None})
    indices = [number for number, _ in pairs] == [*range(len(pairs))]
    return [name for _, name in pairs] if len(pairs) > 1 and indices and len({name for _, name in pairs if name}) == len(pairs) else []


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", ".") if raw.decimal_comma(text) else text.replace("_", "?"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _modalities(folder: Path, rows: Sequence[dict[str, str]]) -> list[str]:
    """Each of which there are features; with recordings, or without any features: text where there are transcripts, and what the recordings have.

    Transcripts beside features of other modalities are none of their kind: a model that takes features could not use them.
    """
    videos = any(path.suffix.lower() in VIDEO for place in PLACES for path in (folder / place).glob("*/*"))
    recorded = {"text": any(row.get("text", "").strip() for row in rows), "audio": has_recordings(folder), "vision": videos}
    features = {
        name: any(True for place in FEATURE_PLACES for _ in (folder / place / name).glob("*/*.np[yz]"))
        or any(may_have(path, name) for place in FEATURE_PLACES for path in (folder / place).glob("*/*.npz"))
        for name in recorded
    }
    raw_too = recorded["audio"] or not any(features.values())
    found = [name for name, there in features.items() if there or (raw_too and recorded[name])]
    if not found:
        raise DataError(f"{folder}: has neither transcripts, nor recordings in {' or '.join(PLACES)}, nor files of features")
    return found
