"""One page about a data set: what it holds, whether it is the published one, and what was mended while reading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmbench.config import DataConfig
from mmbench.data.audio import has_recordings
from mmbench.data.dataset import Dataset, Modality, Split
from mmbench.data.ids import video_of
from mmbench.data.load import assemble, open_source, split_problems
from mmbench.errors import DataError


def examine(config: DataConfig, root: Path | None = None) -> tuple[Dataset, list[str]]:
    """The data set with every modality that can be used (unless `config` names some), and how its splits differ from the published ones.

    Of a raw folder the text stays as it is, and the recordings are decoded, if it holds any.
    """
    source = open_source(config, root)
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


def describe(data: Dataset | DataConfig) -> str:
    """The page, as text."""
    dataset = data if isinstance(data, Dataset) else examine(data)[0]
    record = dataset.record
    kind = f"classes {', '.join(dataset.classes)}" if dataset.label_range is None else "labels in [{:g}, {:g}]".format(*dataset.label_range)
    lines = [f"{record['title']} ({dataset.name}): {dataset.task}, {kind}" + ("   SIMULATED" if record["simulated"] else "")]
    known = "a known copy" if record["known_digest"] else "not a known copy"
    digest = "none: simulated data" if record["simulated"] else f"{record['sha256']} ({known})"
    lines += [f"source       {record['source']}", f"sha256       {digest}", f"layout       {record['layout']}", f"fingerprint  {dataset.fingerprint}"]
    lines += ["", *_table(["split", "samples", "videos", "ids"], _split_rows(dataset))]
    lines += [f"splits: {record['split_status']}"]
    header = ["modality", "kind", "size", "longest", "mean frames", "zero frames", "values replaced"]
    lines += ["", *_table(header, [_modality_row(dataset, name) for name in dataset.modalities])]
    for name, part in record["context"].items():
        lines += [f"context of {name}: up to {part['utterances']} previous utterances, longest {part['length']}, mean {part['mean_frames']} frames"]
    lines += [f"not usable: {name}: {reason}" for name, reason in record["unusable"].items()]
    lines += ["", *_table(["label", *dataset.splits], _label_rows(dataset))]
    if record["ignored_keys"]:
        lines += ["", f"keys that are not read: {', '.join(record['ignored_keys'])}"]
    lines += ["", *(f"warning: {text}" for text in record["warnings"])] if record["warnings"] else []
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    texts = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(map(len, cells)) for cells in zip(*texts, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]


def _split_rows(dataset: Dataset) -> list[list[object]]:
    prints = dataset.record["splits"]
    return [[name, len(split), len({video_of(key) for key in split.ids}), prints[name]["fingerprint"]] for name, split in dataset.splits.items()]


def _modality_row(dataset: Dataset, name: str) -> list[object]:
    spec = dataset.record["modalities"][name]
    zero = sum(_zero_frames(split.inputs[name]) for split in dataset.splits.values())
    kind = "raw text" if spec["kind"] == "tokens" and not spec["length"] else spec["kind"]
    return [name, kind, spec["size"], spec["length"], spec["mean_frames"], zero, dataset.record["replaced"].get(name, 0)]


def _zero_frames(part: Modality) -> int:
    """Real frames of which every value is zero."""
    if part.kind == "tokens":
        return 0
    blocks = (slice(start, start + 256) for start in range(0, len(part.values), 256))
    present = ((np.asarray(part.values[rows]) != 0, part.mask[rows]) for rows in blocks)
    return sum(int((~(values.any(axis=2) if values.ndim == 3 else values) & mask).sum()) for values, mask in present)


def _label_rows(dataset: Dataset) -> list[list[object]]:
    """How often each class occurs, or each label rounded to a whole number (to a fifth where the range is short)."""
    if dataset.classes:
        return [[label, *(int((split.target == i).sum()) for split in dataset.splits.values())] for i, label in enumerate(dataset.classes)]
    low, high = dataset.label_range or (-1.0, 1.0)
    step = 1.0 if high - low >= 4 else 0.2
    counts: Mapping[str, np.ndarray] = {name: _bins(split, step) for name, split in dataset.splits.items()}
    levels = np.arange(round(low / step), round(high / step) + 1)
    rows: list[list[object]] = [[f"{level * step:g}", *(int((bins == level).sum()) for bins in counts.values())] for level in levels]
    for text, sign in (("below 0", -1), ("exactly 0", 0), ("above 0", 1)):
        rows.append([text, *(int((np.sign(split.target) == sign).sum()) for split in dataset.splits.values())])
    return rows


def _bins(split: Split, step: float) -> np.ndarray:
    return np.rint(np.asarray(split.target, dtype=np.float64) / step).astype(int)
