"""One page about a data set: what it holds, how that compares with what is published, and what predictors without a model reach on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.config import DataConfig
from mmbench.data.audio import has_recordings
from mmbench.data.dataset import Dataset
from mmbench.data.ids import fingerprint, video_of
from mmbench.data.load import assemble, open_source, setting, split_problems
from mmbench.data.manifest import Manifest, load_manifest
from mmbench.data.overlaps import overlaps
from mmbench.data.statistics import floors, frames
from mmbench.data.store import check_values
from mmbench.errors import DataError, printable


def examine(config: DataConfig, root: Path | None = None) -> tuple[Dataset, list[str]]:
    """The data set with every modality that can be used (unless `config` names some), and how its splits differ from the published ones.

    Of a raw folder the text stays as it is, and the recordings are decoded, if it holds any.
    """
    source = open_source(config, root)
    check_values(source.store)
    tokens, waveforms = (frozenset({"text"}), frozenset({"audio"})) if source.raw else (frozenset[str](), frozenset[str]())
    if config.modalities is None:
        available = source.available()
        if source.raw:
            held = {"text": True, "audio": has_recordings(source.path)}
            available = [name for name in source.manifest.modalities if held.get(name)]
        if not available:
            raise DataError(f"{source.path}: no modality can be used: {'; '.join(f'{k}: {v}' for k, v in source.store.document['problems'].items())}")
        config = config.model_copy(update={"modalities": tuple(available)})
    return assemble(source, config, tokens, waveforms), split_problems(source)


def facts(dataset: Dataset, manifest: Manifest | None = None, problems: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that the page says, ready for JSON. With `manifest` real data are compared with what it states as published."""
    record = dataset.record
    published = None if record["simulated"] else manifest
    layout = published.layouts.get(record["layout"]) if published else None
    statistics = {name: frames({split: part.inputs[name] for split, part in dataset.splits.items()}) for name in dataset.modalities}
    modalities = {}
    for name, part in statistics.items():
        shape = layout.shapes.get(name) if layout else None
        modalities[name] = {
            **record["modalities"][name],
            **{key: value for key, value in asdict(part).items() if key not in ("means", "mean", "longest")},
            "replaced": record["replaced"].get(name, 0),
            "published": {"length": shape.length, "width": shape.width} if shape else None,
        }
    return {
        **{key: record[key] for key in ("name", "title", "simulated", "source", "sha256", "known_digest", "layout", "split_status", "fingerprint")},
        "task": dataset.task,
        "classes": list(dataset.classes),
        "label_range": dataset.label_range,
        "protocol": manifest.protocol if manifest else "",
        "part": manifest.part if manifest else "",
        "splits": {
            name: {"samples": len(split), "videos": len({video_of(key) for key in split.ids}), "fingerprint": record["splits"][name]["fingerprint"]}
            for name, split in dataset.splits.items()
        },
        "published_splits": _published_splits(dataset, published),
        "problems": list(problems),
        "shared": overlaps(dataset, manifest.ids_per_split if manifest else False),
        "modalities": modalities,
        "context": record["context"],
        "unusable": record["unusable"],
        "labels": _labels(dataset, published),
        "labels_published_of": _published_with(published),
        "floors": [asdict(floor) for floor in floors(dataset, statistics)],
        "ignored_keys": record["ignored_keys"],
        "warnings": record["warnings"],
    }


def _published_splits(dataset: Dataset, manifest: Manifest | None) -> dict[str, dict[str, Any]]:
    """By published split: its size and fingerprint, the data's size, and whether they are the same."""
    found: dict[str, dict[str, Any]] = {}
    for key, split in (manifest.splits if manifest else {}).items():
        ids = [name for part in key.split("+") for name in dataset.splits[part].ids]
        same = len(ids) == split.size and (split.fingerprint is None or fingerprint(ids) == split.fingerprint)
        found[key] = {"samples": split.size, "fingerprint": split.fingerprint, "held": len(ids), "same": same}
    return found


def _labels(dataset: Dataset, manifest: Manifest | None) -> list[dict[str, Any]]:
    """How often each class occurs, or each label rounded to a whole number (to a fifth where the range is short).

    `published`: of training, and of validation where only both together are published; `held`: what the data have of the same.
    """
    targets = {name: np.asarray(split.target) for name, split in dataset.splits.items()}
    known = manifest.labels if manifest and manifest.labels and manifest.labels.published else None
    values = np.repeat(np.array(known.values, np.float32), known.counts) if known else None  # as many labels as training has
    levels: list[tuple[str, Callable[[np.ndarray], np.ndarray]]]
    if dataset.classes:
        levels = [(label, partial(np.equal, i)) for i, label in enumerate(dataset.classes)]
    else:
        low, high = dataset.label_range or (-1.0, 1.0)
        step = 1.0 if high - low >= 4 else 0.2
        levels = [(f"{level * step:g}", partial(_rounds_to, level, step)) for level in range(round(low / step), round(high / step) + 1)]
        levels += [("below 0", partial(np.greater, 0)), ("exactly 0", partial(np.equal, 0)), ("above 0", partial(np.less, 0))]
    basis = _published_with(manifest).split("+")
    rows = []
    for label, chosen in levels:
        counts = {name: int(np.count_nonzero(chosen(y))) for name, y in targets.items()}
        expected = None if values is None else int(np.count_nonzero(chosen(values)))
        rows.append({"label": label, **counts, "published": expected, "held": sum(counts[name] for name in basis)})
    return rows


def _published_with(manifest: Manifest | None) -> str:
    """The published split that training belongs to: ``train``, or ``train+valid`` where only both together are published."""
    return next((key for key in (manifest.splits if manifest else {}) if "train" in key.split("+")), "train")


def _rounds_to(level: int, step: float, values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(values.astype(np.float64) / step) == level)


# the page


def describe(data: Dataset | DataConfig | Mapping[str, Any]) -> str:
    """The page, as text: of facts, of a data set without comparison, or of what a config names."""
    if isinstance(data, DataConfig):
        dataset, problems = examine(data)
        data = facts(dataset, load_manifest(data.name, data.protocol, data.part), problems)
    known = facts(data) if isinstance(data, Dataset) else data
    kind = f"classes {', '.join(known['classes'])}" if known["label_range"] is None else "labels in [{:g}, {:g}]".format(*known["label_range"])
    lines = [f"{known['title']} ({known['name']}): {known['task']}, {kind}" + ("   SIMULATED" if known["simulated"] else "")]
    copy = "a known copy" if known["known_digest"] else "not a known copy"
    digest = "none: simulated data" if known["simulated"] else f"{known['sha256']} ({copy})"
    lines += [f"source       {known['source']}", f"sha256       {digest}", f"layout       {known['layout']}", f"fingerprint  {known['fingerprint']}"]
    lines += [f"protocol     {known['protocol']}" + (f", part {known['part']}" if known["part"] else "")] if known["protocol"] else []
    rows = [[name, part["samples"], part["videos"], part["fingerprint"]] for name, part in known["splits"].items()]
    lines += ["", *_table(["split", "samples", "videos", "ids"], rows)]
    status = {"sizes": "of the published sizes"}.get(known["split_status"], known["split_status"])
    lines += [f"splits: {status}{_comparison(known['published_splits'])}", *(f"in two splits: {text}" for text in known["shared"])]
    lines += ["", *_modalities(known)]
    lines += ["", *_label_table(known), "", *_floor_table(known)]
    if known["ignored_keys"]:
        lines += ["", f"keys that are not read: {', '.join(known['ignored_keys'])}"]
    lines += ["", *(f"warning: {text}" for text in known["warnings"])] if known["warnings"] else []
    return "\n".join(map(printable, lines))


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    texts = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(map(len, cells)) for cells in zip(*texts, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]


def _comparison(published: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for name, split in published.items():
        basis = "" if split["fingerprint"] else " in number (no fingerprint is published)"
        other = "other samples" if split["held"] == split["samples"] else f"{split['held']} samples, {split['samples']} are published"
        parts.append(f"{name} {'as published' + basis if split['same'] else other}")
    return f" ({'; '.join(parts)})" if parts else ""


def _modalities(known: Mapping[str, Any]) -> list[str]:
    header = ["modality", "kind", "size", "longest", "mean frames", "zero frames", "values replaced"]
    rows, more = [], []
    for name, part in known["modalities"].items():
        kind = "raw text" if part["kind"] == "tokens" and not part["length"] else part["kind"]
        rows.append([name, kind, part["size"], part["length"], part["mean_frames"], part["zero"], part["replaced"]])
        if kind == "raw text":
            continue
        more.append(f"frames of {name}: {part['total']} real, median {part['median']:g}; samples by length: {_histogram(part['histogram'])}")
        if part["constant"]:
            columns = part["constant"]
            more.append(f"constant in training: {len(columns)} of {part['size']} columns of {name}, first {', '.join(map(str, columns[:5]))}")
        here = {"length": part["length"], "width": part["size"]}
        other = [f"{what} {here[what]}, published {value}" for what, value in (part["published"] or {}).items() if here[what] != value]
        if other:
            more.append(f"not as published: {name}: {'; '.join(other)}")
    for name, part in known["context"].items():
        more.append(f"context of {name}: up to {part['utterances']} previous utterances, longest {part['length']}, mean {part['mean_frames']} frames")
    more += [f"not usable: {name}: {reason}" for name, reason in known["unusable"].items()]
    if known["unusable"].keys() - {"tokens"}:
        more.append(f"so that mmbench check and run want {setting(list(known['modalities']))}")
    return [*_table(header, rows), *more]


def _histogram(ranges: Sequence[tuple[int, int, int]]) -> str:
    return ", ".join(f"{low if low == high else f'{low}-{high}'}: {count}" for low, high, count in ranges)


def _label_table(known: Mapping[str, Any]) -> list[str]:
    rows, splits = known["labels"], list(known["splits"])
    compared = any(row["published"] is not None for row in rows)
    header = ["label", *splits, *([f"{known['labels_published_of']} as published"] if compared else [])]
    cells = [[row["label"], *(row[split] for split in splits), *([_published(row)] if compared else [])] for row in rows]
    return _table(header, cells)


def _published(row: Mapping[str, Any]) -> str:
    return f"{row['published']}" + (f"  differs by {row['held'] - row['published']:+d}" if row["held"] != row["published"] else "")


def _floor_table(known: Mapping[str, Any]) -> list[str]:
    found = known["floors"]
    rows = [[key, *(_score(floor["scores"][key]) for floor in found)] for key in found[0]["scores"]]
    penalties = ", ".join(f"{floor['name'].removeprefix('ridge ')} {floor['penalty']:g}" for floor in found if floor["penalty"])
    return [
        f"floors on {'SIMULATED ' if known['simulated'] else ''}test: reference points without a model, not results",
        *_table(["metric", *(floor["name"] for floor in found)], rows),
        f"constant: the {'most frequent class' if known['classes'] else 'median'} of training; oracle: the best constant for each metric on test",
        *(
            [f"ridge: linear on the mean frame of each sample, fitted on train; penalty for each sample, chosen on valid: {penalties}"]
            if penalties
            else []
        ),
    ]


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
