"""From a config's `data` section to a `Dataset`: find the file, convert it once, check it, choose modalities, apply transforms."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.config import DataConfig
from mmbench.data import mmsa
from mmbench.data.dataset import Dataset, Modality, Split
from mmbench.data.ids import fingerprint
from mmbench.data.manifest import SPLITS, Manifest, load_manifest
from mmbench.data.simulate import simulate
from mmbench.data.store import DOCUMENT, Store, file_digests, open_or_build, open_store, store_folder, write_store
from mmbench.data.transforms import cut, standardize
from mmbench.errors import DataError


def load_dataset(config: DataConfig, root: Path | None = None, tokens: frozenset[str] = frozenset()) -> Dataset:
    """The data that a config asks for, checked; arrays are mapped from the store and read-only unless a transform made them.

    `root`: the folder that --data-root names; default: MMBENCH_DATA. `tokens`: modalities wanted as token ids (N, T) int64 instead of features.
    DataError: not found, damaged, not the published splits, or without a modality that is asked for.
    """
    source = open_source(config, root)
    problems = split_problems(source)
    if problems and config.splits == "published":
        raise DataError(f"{source.path}: {'; '.join(problems)}. --set data.splits=own accepts it, and marks every result")
    return assemble(source, config, tokens)


@dataclass(frozen=True)
class Source:
    """An open data set before any choice: its manifest, its store, and where it came from (`path`: the file, or the folder of a store)."""

    manifest: Manifest
    store: Store
    path: Path
    digest: str
    known: bool

    @property
    def simulated(self) -> bool:
        """Whether the values were made up."""
        return bool(self.store.document["simulated"])

    def ids(self, split: str) -> list[str]:
        """Canonical ids of a split, in the order of its rows."""
        return list(self.store.document["splits"][split]["ids"])

    def available(self) -> list[str]:
        """Modalities with features that can be used."""
        return [
            name for name in self.manifest.modalities if name not in self.store.document["problems"] and f"train/features/{name}" in self.store.arrays
        ]


def open_source(config: DataConfig, root: Path | None = None) -> Source:
    """The store of what `config` names, converted or simulated first where needed; duplicate ids are refused here."""
    manifest = load_manifest(config.name)
    if config.simulated:
        if config.path is not None:
            raise DataError("data.path and data.simulated exclude each other: simulated data are made, not read")
        store = simulate(manifest, config.samples, layout=config.features)
        return Source(manifest, store, store.folder, store.document["simulation"]["digest"], False)
    if config.samples is not None:
        raise DataError("data.samples scales simulated data; real data are always used whole. Add --set data.simulated=true or remove it")
    path = locate(config, root)
    if path.is_dir():
        source = _written_store(manifest, path)
    else:
        digests = file_digests(path)
        key = [manifest.name, manifest.task, manifest.classes, manifest.label_range, manifest.modalities, "mmsa", mmsa.VERSION]
        store = open_or_build(store_folder(digests["sha256"], key), lambda folder: _convert(path, manifest, folder))
        known = digests["sha256"] in {digest for layout in manifest.layouts.values() for digest in layout.sha256} or digests["sha1"] in manifest.sha1
        source = Source(manifest, store, path, digests["sha256"], known)
    _refuse_duplicates(source)
    return source


def _convert(path: Path, manifest: Manifest, folder: Path) -> None:
    file = mmsa.read(path, manifest)
    write_store(folder, file.columns, file.document)


def _written_store(manifest: Manifest, folder: Path) -> Source:
    store = open_store(folder)
    if store is None:
        raise DataError(f"{folder}: the data written there are damaged or of another version; make them again with mmbench data simulate")
    simulation = store.document.get("simulation", {})
    if simulation.get("name") != manifest.name:
        raise DataError(f"{folder}: holds simulated {simulation.get('name')}, not {manifest.name}")
    return Source(manifest, store, folder, simulation["digest"], False)


# finding the file


def locate(config: DataConfig, root: Path | None = None) -> Path:
    """The file (or the folder of simulated data) that `config` means: `path`, or a name from the manifest under `root`, MMBENCH_DATA or ``data``.

    DataError: nothing there, or several layouts and no `features` that chooses; the message lists where it looked and how to get the data.
    """
    manifest = load_manifest(config.name)
    environment = os.environ.get("MMBENCH_DATA")
    base = root if root is not None else Path(environment or "data")
    if config.path is None:
        return _in_folder(base, manifest, config)
    path = Path(config.path).expanduser()
    tried = [path] if path.is_absolute() else [path, base / path]
    for candidate in tried:
        if candidate.is_file() or (candidate / DOCUMENT).is_file():
            return candidate
        if candidate.is_dir():
            return _in_folder(candidate, manifest, config)
    raise DataError(f"data.path: there is no {' and no '.join(map(str, tried))}. {_how_to_get(manifest)}")


def _in_folder(folder: Path, manifest: Manifest, config: DataConfig) -> Path:
    if config.features is not None and config.features not in manifest.layouts:
        raise DataError(f"data.features: {manifest.name} has no {config.features} layout; it has {', '.join(manifest.layouts)}")
    looked: list[str] = []
    found: dict[str, Path] = {}
    for layout, published in manifest.layouts.items():
        if config.features in (None, layout):
            looked += published.files
            path = next((path for name in published.files if (path := _matching(folder, Path(name).parts))), None)
            if path is not None:
                found[layout] = path
    if len(found) > 1:
        listed = " and ".join(f"{path} ({layout})" for layout, path in found.items())
        raise DataError(f"there are {listed}: choose with --set data.features={next(iter(found))}")
    if not found:
        state = "" if folder.is_dir() else ", which does not exist"
        where = "--data-root FOLDER, MMBENCH_DATA or data.path says where the files are"
        raise DataError(f"{manifest.title} was not found. Looked in {folder}{state} for: {', '.join(looked)}; {where}. {_how_to_get(manifest)}")
    return next(iter(found.values()))


def _matching(folder: Path, parts: Sequence[str]) -> Path | None:
    """The file below `folder` with these path parts, whatever their case; the exact case is preferred."""
    if not parts:
        return folder if folder.is_file() else None
    if not folder.is_dir():
        return None
    names = sorted((entry.name for entry in folder.iterdir() if entry.name.lower() == parts[0].lower()), key=lambda name: (name != parts[0], name))
    return next((path for name in names if (path := _matching(folder / name, parts[1:]))), None)


def _how_to_get(manifest: Manifest) -> str:
    return f"To get it: {manifest.source}. For a trial without data: --set data.simulated=true"


# checks


def _refuse_duplicates(source: Source) -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        repeated = []
        for name in source.ids(split):
            if name in seen:
                repeated.append((name, seen[name]))
            else:
                seen[name] = split
        if repeated:
            name, other = repeated[0]
            where = f"twice in {split}" if other == split else f"in {other} and in {split}"
            raise DataError(f"{source.path}: {len(repeated)} samples of {split} stand there more than once; first {name}, {where}")


def split_problems(source: Source) -> list[str]:
    """How the splits differ from the published ones, one line for each; empty if they do not, or if the data are simulated."""
    if source.simulated:
        return []
    problems = []
    for key, published in source.manifest.splits.items():
        ids = [name for split in key.split("+") for name in source.ids(split)]
        if fingerprint(ids) == published.fingerprint:
            continue
        difference = len(ids) - published.size
        what = f"{abs(difference)} samples are {'missing' if difference < 0 else 'extra'}, at least" if difference else "as many, but not the same"
        problems.append(f"split {key} is not the published one: {len(ids)} samples, {published.size} are published ({what})")
    if problems and fingerprint([name for split in SPLITS for name in source.ids(split)]) == source.manifest.samples:
        problems.append("all samples together are the published ones, so they were divided differently")
    return problems


# the Dataset


def assemble(source: Source, config: DataConfig, tokens: frozenset[str] = frozenset()) -> Dataset:
    """The `Dataset` of an open source, without the check of its splits."""
    manifest, document = source.manifest, source.store.document
    names = config.modalities if config.modalities is not None else manifest.modalities
    _check_modalities(source, names, tokens)
    splits = {split: _split(source.store, split, names, tokens) for split in SPLITS}
    warnings = _warnings(source, config, names, tokens)
    if config.max_length:
        splits, more = cut(splits, config.max_length)
        warnings += more
    if config.standardize is not None:
        splits = standardize(splits, config.standardize)
    content = [source.digest, document["reader"], manifest.name, list(names), sorted(tokens)]
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    dataset = Dataset(
        name=manifest.name,
        task=manifest.task,
        metrics=manifest.metrics,
        splits=splits,
        fingerprint=identity,
        classes=manifest.classes,
        label_range=manifest.label_range,
        prototypes=manifest.prototypes,
    )
    return replace(dataset, record=_record(source, config, dataset, warnings))


def _check_modalities(source: Source, names: Sequence[str], tokens: frozenset[str]) -> None:
    problems, available = source.store.document["problems"], source.available()
    usable = [name for name in source.manifest.modalities if name in available or (name == "text" and name in tokens and "tokens" not in problems)]
    for name in names:
        if name not in source.manifest.modalities:
            raise DataError(f"data.modalities: {source.manifest.name} has no {name}; it has {', '.join(source.manifest.modalities)}")
    if unknown := tokens - {"text"}:
        raise DataError(f"only text has token ids, not {', '.join(sorted(unknown))}")
    if "text" in tokens and "text" in names and "tokens" in problems:
        raise DataError(f"{source.path}: has no token ids to use: {problems['tokens']}. Use a model that takes text features")
    lacking = [name for name in names if name not in usable]
    if lacking:
        rest = [name for name in names if name in usable] or usable
        step = f"Use --set data.modalities=[{','.join(rest)}]" if rest else "No modality of it can be used"
        raise DataError(f"{source.path}: {'; '.join(f'{name} cannot be used: {problems[name]}' for name in lacking)}. {step}")


def _split(store: Store, split: str, names: Sequence[str], tokens: frozenset[str]) -> Split:
    kinds = {name: "tokens" if name in tokens else "features" for name in names}
    inputs = {name: Modality(store.arrays[f"{split}/{kind}/{name}"], store.arrays[f"{split}/{kind}_mask/{name}"]) for name, kind in kinds.items()}
    samples = store.document["splits"][split]
    unimodal = {name: array for name, array in store.under(f"{split}/unimodal").items() if name in names}
    return Split(tuple(samples["ids"]), inputs, store.arrays[f"{split}/target"], unimodal, tuple(samples["transcripts"]))


def _warnings(source: Source, config: DataConfig, names: Sequence[str], tokens: frozenset[str]) -> list[str]:
    document, warnings = source.store.document, []
    shown = {"tokens" if name in tokens else name: f"{name} tokens" if name in tokens else name for name in names}
    if source.simulated:
        warnings.append("the data are SIMULATED: scores say nothing about the real data set")
    elif not source.known:
        warnings.append(f"the file is no known copy of {source.manifest.title} (sha256 {source.digest[:16]}...): {_unlike(source, names)}")
    warnings += [f"{shown[notice['modality']]}: {notice['text']}" for notice in document["notices"] if notice["modality"] in shown]
    if config.features is not None and config.features != document["layout"]:
        warnings.append(f"data.features says {config.features}, but the file looks {document['layout']}")
    if config.splits == "own":
        warnings += split_problems(source)
    return warnings


def _unlike(source: Source, names: Sequence[str]) -> str:
    """How the widths differ from the manifest's."""
    layout = source.manifest.layouts.get(source.store.document["layout"], next(iter(source.manifest.layouts.values())))
    widths = {name: source.store.arrays[f"train/features/{name}"].shape[2] for name in names if f"train/features/{name}" in source.store.arrays}
    other = [f"{name} is {width} wide, not {layout.shapes[name].width}" for name, width in widths.items() if width != layout.shapes[name].width]
    return ", ".join(other) or "its widths are the usual ones"


def _record(source: Source, config: DataConfig, dataset: Dataset, warnings: list[str]) -> Mapping[str, Any]:
    document, manifest = source.store.document, source.manifest
    status = "simulated" if source.simulated else "own" if split_problems(source) else "published"
    modalities = {}
    for name, spec in dataset.input_spec().modalities.items():
        frames = np.concatenate([np.asarray(split.inputs[name].mask).sum(axis=1) for split in dataset.splits.values()])
        modalities[name] = {"kind": spec.kind, "size": spec.size, "length": spec.length, "mean_frames": round(float(frames.mean()), 2)}
    chosen = config.model_dump(mode="json", include={"standardize", "max_length"})
    return {
        "name": manifest.name,
        "title": manifest.title,
        "simulated": source.simulated,
        "simulation": document.get("simulation"),
        "source": str(source.path),
        "sha256": None if source.simulated else source.digest,
        "known_digest": source.known,
        "reader": document["reader"],
        "layout": document["layout"],
        "modalities": modalities,
        "splits": {name: {"size": len(split), "fingerprint": fingerprint(split.ids)} for name, split in dataset.splits.items()},
        "split_status": status,
        "transforms": {key: value for key, value in chosen.items() if value is not None},
        "ignored_keys": document["ignored_keys"],
        "unusable": document["problems"],
        "replaced": {name: count for name, count in document["replaced"].items() if name in modalities},
        "fingerprint": dataset.fingerprint,
        "warnings": warnings,
    }
