"""From a config's `data` section to a `Dataset`: find the file, convert it once, check it, choose modalities, apply transforms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.config import DataConfig
from mmbench.data import content, raw, redivide, stored
from mmbench.data.audio import open_waveforms
from mmbench.data.context import join_context, previous_utterances
from mmbench.data.dataset import CONTEXT, Dataset, Modality, Split
from mmbench.data.find import locate
from mmbench.data.formats import blaming, find_format
from mmbench.data.formats.folder import FolderFormat
from mmbench.data.ids import fingerprint
from mmbench.data.manifest import SPLITS, Division, Manifest, load_manifest
from mmbench.data.protocol import divide
from mmbench.data.simulate import simulate
from mmbench.data.store import DOCUMENT, FORMAT, Store, file_digests, folder_digest, format_of, open_or_build, open_store, store_folder, write_store
from mmbench.data.transforms import cut, standardize
from mmbench.errors import DataError

_NOTHING: frozenset[str] = frozenset()


def load_dataset(config: DataConfig, root: Path | None = None, tokens: frozenset[str] = _NOTHING, waveforms: frozenset[str] = _NOTHING) -> Dataset:
    """The data that a config asks for, checked; arrays are mapped from the store and read-only unless a transform made them.

    `root`: the folder that --data-root names; default: MMBENCH_DATA. `tokens`: modalities wanted as token ids (N, T) int64 instead of features;
    T is 0 where the data hold transcripts alone, which are then to be tokenised. `waveforms`: modalities wanted as waveforms (N, T) float32.
    DataError: not found, damaged, not the published splits, or without a modality that is asked for.
    """
    source = open_source(config, root, bool(waveforms))
    problems = split_problems(source)
    if problems and config.splits == "published":
        raise DataError(f"{source.path}: {'; '.join(problems)}. --set data.splits=own accepts it, and marks every result")
    return assemble(source, config, tokens, waveforms)


@dataclass(frozen=True)
class Source:
    """An open data set before any choice: its manifest, its store, and where it came from (`path`: the file, or the folder)."""

    manifest: Manifest
    store: Store
    path: Path
    digest: str
    known: bool

    @property
    def simulated(self) -> bool:
        """Whether the values were made up."""
        return bool(self.store.document["simulated"])

    @property
    def raw(self) -> bool:
        """Whether it is a raw folder: transcripts and recordings, no features."""
        return bool(self.store.document["layout"] == "raw")

    @property
    def extraction(self) -> Mapping[str, Any]:
        """With which extractors ``mmbench extract`` made the features; empty if it did not."""
        return self.store.document.get("origin", {}).get("extraction", {})  # type: ignore[no-any-return]

    @property
    def tokenised(self) -> bool:
        """Whether the text has token ids; else there are at most transcripts."""
        return any(f"{split}/tokens/text" in self.store.arrays for split in SPLITS)

    def ids(self, split: str) -> list[str]:
        """Canonical ids of a split, in the order of its rows."""
        return list(self.store.document["splits"][split]["ids"])

    def available(self) -> list[str]:
        """Modalities with features that can be used."""
        return [
            name for name in self.manifest.modalities if name not in self.store.document["problems"] and f"train/features/{name}" in self.store.arrays
        ]


def open_source(config: DataConfig, root: Path | None = None, waveforms: bool = False) -> Source:
    """The store of what `config` names, converted or simulated first where needed; duplicate ids are refused here.

    `waveforms`: a raw folder is preferred to files of features. Its recordings are not read yet.
    """
    manifest = load_manifest(config.name, config.protocol, config.part)
    if config.simulated:
        if config.path is not None:
            raise DataError("data.path and data.simulated exclude each other: simulated data are made, not read")
        store = simulate(manifest, config.samples, layout=config.features)
        return Source(manifest, store, store.folder, store.document["simulation"]["digest"], False)
    if manifest.parts and not manifest.part:
        raise DataError(f"{manifest.name} {manifest.protocol} has several parts: choose one with data.part: {', '.join(manifest.parts)}")
    if config.samples is not None:
        raise DataError("data.samples scales simulated data; real data are always used whole. Add --set data.simulated=true or remove it")
    path = locate(config, root, waveforms)
    if (path / DOCUMENT).is_file():
        source = _written_store(manifest, config.name, path)
    elif (path / raw.LABELS).is_file() and config.format is None and (waveforms or _is_table(config.path) or not FolderFormat().recognises(path)):
        digest = file_digests(path / raw.LABELS)["sha256"]
        store = open_or_build(_folder(digest, manifest, ["raw", raw.VERSION]), lambda folder: _write(raw.read(path, manifest), folder))
        source = Source(manifest, store, path, digest, False)
    else:
        source = _converted(manifest, path, config.format)
    _refuse_duplicates(source)
    return source


def _is_table(path: str | None) -> bool:
    return path is not None and Path(path).name == raw.LABELS


def _converted(manifest: Manifest, path: Path, name: str | None) -> Source:
    """The store of a file or folder in one of the known formats."""
    digest, known = None, False
    if path.is_file():
        digests = file_digests(path)
        digest = digests["sha256"]
        published = {sha256 for layout in manifest.layouts.values() for sha256 in layout.sha256}
        known = digest in published or digests["sha1"] in manifest.sha1
    entry, reader = find_format(path, digest, name)
    with blaming(entry, path):
        sources = reader.sources(path)
    if not sources or (digest is None and path in sources):
        raise DataError(f"{path}: the format {entry.component.name} finds none of its files {'in this folder' if digest is None else 'there'}")
    if digest is None or sources != [path]:
        digest, known = folder_digest(sources), False
    identity = {"name": entry.component.name, "version": reader.version}

    def build(folder: Path) -> None:
        with blaming(entry, path):
            read = reader.read(path, manifest)
        with blaming(entry, path, OSError):  # values may be read as they are written; OSError: of the cache
            _write(content.Content(path, manifest, divide(path, manifest, read), identity), folder)

    store = open_or_build(_folder(digest, manifest, [entry.key, reader.version, content.VERSION]), build)
    return Source(manifest, store, path, digest, known)


def _folder(digest: str, manifest: Manifest, reader: list[Any]) -> Path:
    """Where the store is: by the bytes of the source, and by all that decides how they are read."""
    known: list[Any] = [manifest.name, manifest.protocol, manifest.part, manifest.task, manifest.classes, manifest.label_range, manifest.modalities]
    known.append([part.fingerprint for part in manifest.splits.values()])  # which may decide how clips are numbered
    return store_folder(digest, [*known, _rules(manifest), *reader])


def _rules(manifest: Manifest) -> dict[str, Any]:
    """How the manifest divides and labels what its sources hold."""
    return manifest.model_dump(mode="json", include={*Division.model_fields})


def _write(file: content.Content | raw.RawFolder, folder: Path) -> None:
    write_store(folder, file.columns, file.document)


def _written_store(manifest: Manifest, name: str, folder: Path) -> Source:
    """A store that was simulated, imported or extracted into a folder of the user's; its document names the data set, and where it came from."""
    store = open_store(folder)
    if store is None:
        version = format_of(folder)
        if version not in (None, FORMAT):
            raise DataError(f"{folder}: is a store of format {version}; this version reads {FORMAT}: make the data again as they were made")
        raise DataError(f"{folder}: the data written there are damaged; make them again as they were made")
    try:
        stored.check(store)
    except ValueError as error:
        raise DataError(f"{folder}: the data written there are damaged ({error}); make them again as they were made") from None
    origin = store.document.get("simulation") or store.origin
    if origin.get("name") != manifest.name:
        what = "simulated " if store.document.get("simulated") else ""
        raise DataError(f"{folder}: holds {what}{origin.get('name')}, not {manifest.name}")
    held, wanted = (origin.get("protocol", manifest.protocol), origin.get("part", manifest.part)), (manifest.protocol, manifest.part)
    if held != wanted:
        return _under_another_protocol(manifest, load_manifest(name, held[0] or None, held[1] or None), store, folder)
    targets = [store.arrays[f"{split}/target"] for split in SPLITS]
    if manifest.classes and any(target.dtype.kind != "i" or int(target.max()) >= len(manifest.classes) for target in targets):
        raise DataError(f"{folder}: holds other classes than {', '.join(manifest.classes)}; make the data again under this protocol")
    return Source(manifest, store, folder, origin["digest"], bool(origin.get("known")))


def _under_another_protocol(manifest: Manifest, held: Manifest, store: Store, folder: Path) -> Source:
    """What was imported or extracted under one protocol, divided as another says; kept in the cache."""
    origin = store.document["origin"]
    reader = {**store.document["reader"], "divided_before": [held.protocol, held.part]}

    def build(target: Path) -> None:
        built = content.Content(folder, manifest, divide(folder, manifest, redivide.schema(folder, store, held, manifest)), reader)
        write_store(target, built.columns, lambda: {**built.document(), "replaced": store.document["replaced"], "origin": origin})

    made = open_or_build(_folder(origin["digest"], manifest, [*sorted(map(str, reader.items())), content.VERSION]), build)
    return Source(manifest, made, folder, origin["digest"], bool(origin.get("known")))


# checks


def _refuse_duplicates(source: Source) -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        seen = {} if source.manifest.ids_per_split else seen
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
    """How the splits differ from the published ones, one line for each; empty if they do not, if none are published, or if the data are simulated."""
    if source.simulated:
        return []
    problems = []
    for key, published in source.manifest.splits.items():
        ids = [name for split in key.split("+") for name in source.ids(split)]
        difference = len(ids) - published.size
        known = {published.fingerprint, *([published.counted] if source.store.document.get("counted") else [])}
        if fingerprint(ids) in known or (published.fingerprint is None and not difference):
            continue
        what = f"{abs(difference)} samples are {'missing' if difference < 0 else 'extra'}, at least" if difference else "as many, but not the same"
        problems.append(f"split {key} is not the published one: {len(ids)} samples, {published.size} are published ({what})")
    if problems and fingerprint([name for split in SPLITS for name in source.ids(split)]) == source.manifest.samples:
        problems.append("all samples together are the published ones, so they were divided differently")
    return problems


# the Dataset


def assemble(source: Source, config: DataConfig, tokens: frozenset[str] = _NOTHING, waveforms: frozenset[str] = _NOTHING) -> Dataset:
    """The `Dataset` of an open source, without the check of its splits."""
    manifest = source.manifest
    names = config.modalities if config.modalities is not None else manifest.modalities
    _check_modalities(source, names, tokens, waveforms)
    sound = open_waveforms(source.path, source.store.document["clips"], config.seconds) if waveforms & set(names) else None
    splits = {split: _split(source, sound, split, names, tokens) for split in SPLITS}
    warnings = _warnings(source, config, names, tokens)
    if config.max_length:
        splits, more = cut(splits, config.max_length)
        warnings += more
    if config.standardize is not None:
        keys = {name: [source.store.folder.name, *_content(source, [name], _NOTHING, None)] for name in names}
        splits = standardize(splits, config.standardize, keys)
    identity = hashlib.sha256(json.dumps(_content(source, names, tokens, sound), sort_keys=True).encode()).hexdigest()
    if config.context:
        splits = _with_context(splits, config, identity)
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
    return replace(dataset, record=_record(source, sound, config, dataset, warnings))


def _content(source: Source, names: Sequence[str], tokens: frozenset[str], sound: Store | None) -> list[Any]:
    """What decides the values of these modalities, before transforms."""
    manifest = source.manifest
    content = [source.digest, source.store.document["reader"], manifest.name, list(names), sorted(tokens)]
    if sound is not None:
        content.append(sound.document["waveforms"])
    if manifest.protocol:  # one file divided or labelled in several ways is several data sets
        content.append([manifest.protocol, manifest.part, _rules(manifest)])
    return content


def _check_modalities(source: Source, names: Sequence[str], tokens: frozenset[str], waveforms: frozenset[str]) -> None:
    problems, known = source.store.document["problems"], source.manifest.modalities
    for name in names:
        if name not in known:
            raise DataError(f"data.modalities: {source.manifest.name} has no {name}; it has {', '.join(known)}")
    if unknown := tokens - {"text"}:
        raise DataError(f"only text has token ids, not {', '.join(sorted(unknown))}")
    if unknown := waveforms - {"audio"}:
        raise DataError(f"only audio has a waveform, not {', '.join(sorted(unknown))}")
    if waveforms & set(names) and not source.raw:
        what = "the data" if source.simulated else f"{source.path}:"
        raise DataError(
            f"{what} hold{'' if source.simulated else 's'} features, not waveforms, so model.encoders.audio has nothing to read. "
            f"Remove it, or name a folder with {raw.LABELS} and recordings in data.path"
        )
    transcripts = not source.tokenised and all(source.store.document["splits"][split]["transcripts"] for split in SPLITS)
    if "text" in tokens and "text" in names and "tokens" in problems and not transcripts:
        raise DataError(f"{source.path}: has no token ids to use: {problems['tokens']}. Use a model that takes text features")
    readable = {"text"} & tokens if transcripts or "tokens" not in problems else set()
    usable = {*source.available(), *readable, *(waveforms if source.raw else ())}
    lacking = [name for name in names if name not in usable]
    if lacking:
        usable |= {"text", "audio"} if source.raw else set()  # with encoders
        rest = [name for name in names if name in usable] or [name for name in known if name in usable]
        step = f". Use {setting(rest)}" if rest else ". No modality of it can be used"
        reasons = "; ".join(f"{name} cannot be used: {problems.get(name, 'it is not there')}" for name in lacking)
        raise DataError(f"{source.path}: {reasons}{step if rest != list(names) else ''}")


def setting(modalities: Sequence[str]) -> str:
    """The option that chooses these, quoted, since a shell would take the brackets for a pattern."""
    return f"--set 'data.modalities=[{','.join(modalities)}]'"


def _split(source: Source, sound: Store | None, split: str, names: Sequence[str], tokens: frozenset[str]) -> Split:
    samples, store = source.store.document["splits"][split], source.store
    inputs = {}
    for name in names:
        kind, arrays = ("tokens" if name in tokens else "features"), store.arrays
        if name in tokens and not source.tokenised:
            inputs[name] = Modality(np.zeros((len(samples["ids"]), 0), np.int64), np.zeros((len(samples["ids"]), 0), bool))
            continue
        if sound is not None and f"{split}/waveform/{name}" in sound.arrays:
            kind, arrays = "waveform", sound.arrays
        inputs[name] = Modality(arrays[f"{split}/{kind}/{name}"], arrays[f"{split}/{kind}_mask/{name}"])
    unimodal = {name: array for name, array in store.under(f"{split}/unimodal").items() if name in names}
    return Split(tuple(samples["ids"]), inputs, store.arrays[f"{split}/target"], unimodal, tuple(samples["transcripts"]))


def _with_context(splits: Mapping[str, Split], config: DataConfig, identity: str) -> dict[str, Split]:
    """The splits with ``<modality>_context`` among their inputs, made of what the transforms left."""
    known = splits["train"].inputs
    for name in config.context:
        if name not in known:
            raise DataError(f"data.context names {name}, which is not among the modalities in use: {', '.join(known)}")
    transforms = config.model_dump(mode="json", include={"standardize", "max_length"})
    result = {}
    for key, split in splits.items():
        contexts = {}
        for name, count in config.context.items():
            content = json.dumps([identity, transforms, key, name, count], sort_keys=True)
            contexts[name + CONTEXT] = join_context(split.inputs[name], previous_utterances(split.ids, count), content)
        result[key] = replace(split, inputs={**split.inputs, **contexts}, context=dict(config.context))
    return result


def _warnings(source: Source, config: DataConfig, names: Sequence[str], tokens: frozenset[str]) -> list[str]:
    document, warnings = source.store.document, []
    shown = {"tokens" if name in tokens else name: f"{name} tokens" if name in tokens else name for name in names}
    if source.raw:
        shown |= {name: name for name in names}
    if source.simulated:
        warnings.append("the data are SIMULATED: scores say nothing about the real data set")
    elif not source.known and not source.raw and not source.extraction and source.manifest.layouts:  # of a user's own data nothing is known
        warnings.append(f"the file is no known copy of {source.manifest.title} (sha256 {source.digest[:16]}...): {_unlike(source, names)}")
    warnings += [notice["text"] for notice in document["notices"] if not notice["modality"]]
    warnings += [f"{shown[notice['modality']]}: {notice['text']}" for notice in document["notices"] if notice["modality"] in shown]
    if config.features is not None and config.features != document["layout"]:
        warnings.append(f"data.features says {config.features}, but {'the folder is' if source.raw else 'the file looks'} {document['layout']}")
    problems = split_problems(source)
    unnamed = [key for key, published in source.manifest.splits.items() if published.fingerprint is None]
    if unnamed and not problems and not source.simulated:
        warnings.append(f"which samples are {', '.join(unnamed)} is not published: their numbers are the published ones, and no more is known")
    if config.splits == "own":
        warnings += problems
    return warnings


def _unlike(source: Source, names: Sequence[str]) -> str:
    """How the widths differ from the manifest's."""
    layouts = source.manifest.layouts
    layout = layouts.get(source.store.document["layout"], next(iter(layouts.values()), None))
    if layout is None:
        return "the manifest states none"
    widths = {name: source.store.arrays[f"train/features/{name}"].shape[2] for name in names if f"train/features/{name}" in source.store.arrays}
    other = [f"{name} is {width} wide, not {layout.shapes[name].width}" for name, width in widths.items() if width != layout.shapes[name].width]
    return ", ".join(other) or "its widths are the usual ones"


def _record(source: Source, sound: Store | None, config: DataConfig, dataset: Dataset, warnings: list[str]) -> Mapping[str, Any]:
    document, manifest = source.store.document, source.manifest
    status = "simulated" if source.simulated else "own" if split_problems(source) or not manifest.splits else "published"
    if status == "published" and any(split.fingerprint is None for split in manifest.splits.values()):
        status = "sizes"  # as many as published, and which ones nobody published
    spec, modalities, context = dataset.input_spec(), {}, {}
    for name, part in spec.modalities.items():
        modalities[name] = {"kind": part.kind, "size": part.size, "length": part.length, "mean_frames": _mean_frames(dataset, name)}
    for name, part in spec.contexts.items():
        context[name] = {"utterances": config.context[name], "length": part.length, "mean_frames": _mean_frames(dataset, name + CONTEXT)}
    replaced = {**document["replaced"], **({"audio": sound.document["replaced"]} if sound is not None and sound.document["replaced"] else {})}
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
        **({"extraction": dict(source.extraction)} if source.extraction else {}),
        "modalities": modalities,
        "splits": {name: {"size": len(split), "fingerprint": fingerprint(split.ids)} for name, split in dataset.splits.items()},
        "split_status": status,
        "transforms": {key: value for key, value in chosen.items() if value is not None},
        "context": context,
        "waveforms": {"audio": sound.document["waveforms"]} if sound is not None else {},
        "ignored_keys": document["ignored_keys"],
        "unusable": {name: reason for name, reason in document["problems"].items() if name not in modalities},
        "replaced": {name: count for name, count in replaced.items() if name in modalities},
        "fingerprint": dataset.fingerprint,
        "warnings": warnings,
    }


def _mean_frames(dataset: Dataset, name: str) -> float:
    """Real frames of a sample, on average over all splits."""
    frames = sum(int(np.count_nonzero(split.inputs[name].mask)) for split in dataset.splits.values())
    return round(frames / sum(map(len, dataset.splits.values())), 2)
