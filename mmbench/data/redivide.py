"""Data sets that were imported or extracted under one protocol, read under another: what was extracted once serves all folds and tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.content import UNIMODAL
from mmbench.data.manifest import SPLITS, Manifest
from mmbench.data.store import Store
from mmbench.errors import DataError


def schema(folder: Path, store: Store, held: Manifest, wanted: Manifest) -> dict[str, Any]:
    """What the store holds under `held`, in the schema of `mmbench.data.content`, to be divided as `wanted` says; its arrays are views.

    DataError: the protocol of the store has lost what the other one needs.
    """
    name = f"{held.protocol} {held.part}".strip()
    if reason := _lost(held, wanted):
        raise DataError(f"{folder}: holds {name} of {held.name}, of which {wanted.protocol} cannot be made: {reason}. Import it under that protocol")
    document = store.document
    content: dict[str, Any] = {split: _split(store, held, split) for split in SPLITS}
    for modality in held.modalities:
        if all(f"{split}/features/{modality}" in store.arrays for split in SPLITS):
            _add_features(store, modality, content)
    notices = [(notice["modality"], notice["text"]) for notice in document["notices"]]
    if wanted.test is None:
        notices.append(("", f"the data were divided under the protocol {name}, and training and validation are those of it"))
    missing = [(modality, reason) for modality, reason in document["problems"].items() if modality in held.modalities]
    return {**content, "notices": notices, "missing": missing, "counted": bool(document.get("counted")), "layout": document["layout"]}


def _lost(held: Manifest, wanted: Manifest) -> str:
    """Why data under one protocol cannot be divided under another; empty where they can."""
    rules = {key: getattr(held, key) for key in ("classes", "merge", "drop", "leave_out", "positive")}
    if held.task != wanted.task:
        return f"it is a {held.task} task"
    if (held.merge or held.drop or held.leave_out or held.positive) and rules != {key: getattr(wanted, key) for key in rules}:
        return f"its classes are {', '.join(held.classes)} already"
    if held.test is not None and wanted.test is None:
        return "its samples were divided anew already"
    return ""


def _split(store: Store, held: Manifest, split: str) -> dict[str, Any]:
    samples, arrays = store.document["splits"][split], store.arrays
    target = arrays[f"{split}/target"]
    part: dict[str, Any] = {"id": samples["ids"], "raw_text": samples["transcripts"] or None}
    if held.task == "regression":
        part["regression_labels"] = np.asarray(target)
        part |= {key: np.asarray(arrays[f"{split}/unimodal/{name}"]) for name, key in UNIMODAL.items() if f"{split}/unimodal/{name}" in arrays}
    else:
        part["classification_labels"] = [held.classes[i] for i in target]
    if f"{split}/tokens/text" in arrays and "tokens" not in store.document["problems"]:
        tokens, mask = arrays[f"{split}/tokens/text"], arrays[f"{split}/tokens_mask/text"]
        part["text_bert"] = np.stack([tokens, mask.astype(np.int64), np.zeros_like(tokens)], axis=1)
    return part


def _add_features(store: Store, modality: str, content: dict[str, Any]) -> None:
    """Where real frames come first in every sample, a view (T_i, D) of each; else whole arrays with their masks."""
    masks = {split: np.asarray(store.arrays[f"{split}/features_mask/{modality}"]) for split in SPLITS}
    first = all(np.array_equal(mask, np.arange(mask.shape[1]) < mask.sum(axis=1)[:, None]) for mask in masks.values())
    for split, mask in masks.items():
        values = store.arrays[f"{split}/features/{modality}"]
        if first:
            content[split][modality] = [values[row, :length] for row, length in enumerate(mask.sum(axis=1))]
        else:
            content[split] |= {modality: values, f"{modality}_mask": mask}
