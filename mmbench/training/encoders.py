"""Encoders inside the loop: raw text and waveforms become what a model can read, before the first epoch where the encoder is frozen."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from mmbench.batch import Sequence as BatchSequence
from mmbench.component import ModalitySpec
from mmbench.data.context import join_context, previous_utterances
from mmbench.data.dataset import CONTEXT, Dataset, Modality, Split
from mmbench.data.store import column, open_or_build, write_store
from mmbench.errors import ConfigError, DataError, MmbenchError
from mmbench.files import cache_folder
from mmbench.interfaces import FeatureExtractor
from mmbench.plugins import one_line
from mmbench.resolve import Resolved
from mmbench.training.slices import in_slices
from mmbench.training.tensors import TensorSplit, extent

Encoders = Mapping[str, FeatureExtractor]
BATCH = 32


def build_encoders(resolved: Resolved) -> dict[str, FeatureExtractor]:
    """The encoders of a config by modality. Raises `ConfigError` where weights cannot be had."""
    built = {}
    for modality, choice in resolved.encoders.items():
        cls = choice.entry.load()
        try:
            built[modality] = cls(choice.config)
        except MmbenchError:
            raise
        except Exception as error:
            raise ConfigError(f"model.encoders.{modality}: {choice.entry.key} cannot be built: {one_line(error)[:300]}") from error
    return built


def prepare(dataset: Dataset, names: Sequence[str], encoders: Encoders, device: torch.device, most: int | None = None) -> Dataset:
    """The named splits with text tokenised and with the features of frozen encoders in place of what these read.

    Features are kept in the cache by the content they come from and the encoder's digest. `most` takes the first samples only, without the cache.
    Raises `DataError` for token ids that an encoder does not know, and for features that are not finite.
    """
    splits = {}
    for name in names:
        split = dataset.splits[name] if most is None else _first(dataset.splits[name], most)
        for modality, encoder in encoders.items():
            inputs = dict(split.inputs)
            if inputs[modality].kind == "tokens" and not inputs[modality].values.shape[1]:
                inputs.update(_tokenise(split, modality, encoder))
            for key in (modality, modality + CONTEXT):
                if key in inputs:
                    place = f"{dataset.name} {name}: {key}"
                    _check_vocabulary(inputs[key], encoder, place)
                    if not encoder.finetune:
                        inputs[key] = _frozen(encoder, inputs[key], device, place, cached=most is None)
            split = dataclasses.replace(split, inputs=inputs)
        splits[name] = split
    return dataclasses.replace(dataset, splits=splits)


def encode(encoder: FeatureExtractor, raw: BatchSequence) -> BatchSequence:
    """Features of a batch. A sample without real input (a video's first utterance has no context) has no real frame, whatever the encoder keeps."""
    features = in_slices(encoder, raw)
    mask = features.mask & raw.mask.any(1, keepdim=True)
    return BatchSequence(features.values * mask.unsqueeze(-1), mask)


def encoded_spec(encoder: FeatureExtractor, raw: ModalitySpec) -> ModalitySpec:
    """What a trained encoder makes of a modality: its width, and the length that comes of the longest input."""
    dtype = torch.int64 if raw.kind == "tokens" else torch.float32
    mask = torch.ones(1, raw.length, dtype=torch.bool)
    training = encoder.training
    with torch.no_grad():
        length = encoder.eval()(BatchSequence(torch.zeros(1, raw.length, dtype=dtype), mask)).values.shape[1]
    encoder.train(training)
    return ModalitySpec("features", encoder.width, length)


def _first(split: Split, most: int) -> Split:
    inputs = {name: Modality(part.values[:most], part.mask[:most]) for name, part in split.inputs.items()}
    unimodal = {name: target[:most] for name, target in split.unimodal_targets.items()}
    return Split(split.ids[:most], inputs, split.target[:most], unimodal, split.transcripts[:most], split.context)


def _tokenise(split: Split, modality: str, encoder: FeatureExtractor) -> dict[str, Modality]:
    """Token ids of the transcripts, and of their context where the split has one."""
    ids = [encoder.prepare(text).numpy() for text in split.transcripts]
    length = max(len(sample) for sample in ids)
    mask = np.arange(length) < np.array([len(sample) for sample in ids])[:, None]
    values = np.zeros(mask.shape, np.int64)
    values[mask] = np.concatenate(ids)
    found = {modality: Modality(values, mask)}
    context = split.inputs.get(modality + CONTEXT)
    if context is not None:
        found[modality + CONTEXT] = join_context(found[modality], previous_utterances(split.ids, split.context[modality]))
    return found


def _check_vocabulary(modality: Modality, encoder: FeatureExtractor, place: str) -> None:
    if modality.kind != "tokens" or encoder.vocabulary is None:
        return
    largest = int(modality.values.max(initial=0))
    if largest >= encoder.vocabulary or int(modality.values.min(initial=0)) < 0:
        raise DataError(
            f"{place}: token ids up to {largest} do not fit the encoder's vocabulary of {encoder.vocabulary}; "
            "they were made for another model: choose that one, or a file without text_bert, whose words are tokenised anew"
        )


def _frozen(encoder: FeatureExtractor, modality: Modality, device: torch.device, place: str, cached: bool) -> Modality:
    """Features of every sample, computed once: (N, T) raw -> (N, T', width)."""
    if not cached:
        return _encode(encoder, modality, device, place)
    content = hashlib.sha256(encoder.digest().encode())
    for array in (modality.values, modality.mask):
        content.update(f"{array.dtype}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).data)

    def build(folder: Path) -> None:
        features = _encode(encoder, modality, device, place)
        write_store(folder, {"values": column(features.values), "mask": column(features.mask)}, dict)

    store = open_or_build(cache_folder() / "features" / content.hexdigest()[:32], build)
    return Modality(store.arrays["values"], store.arrays["mask"])


@torch.no_grad()
def _encode(encoder: FeatureExtractor, modality: Modality, device: torch.device, place: str) -> Modality:
    encoder.to(device).eval()
    count = len(modality.values)
    split = TensorSplit(Split(tuple(map(str, range(count))), {"raw": modality}, np.zeros(count, np.float32)), device)
    order = torch.from_numpy(
        np.argsort(-extent(modality.mask), kind="stable")
    )  # longest first: least padding, and memory that runs out does so at once
    parts = [encode(encoder, batch.inputs["raw"]) for batch in split.batches(BATCH, order)]
    length = max(part.values.shape[1] for part in parts)
    values = np.zeros((count, length, encoder.width), np.float32)
    mask = np.zeros((count, length), bool)
    for rows, part in zip(order.split(BATCH), parts, strict=True):
        values[rows.numpy(), : part.values.shape[1]] = part.values.float().cpu().numpy()
        mask[rows.numpy(), : part.mask.shape[1]] = part.mask.cpu().numpy()
    bad = np.array([not np.isfinite(sample).all() for sample in values])
    if bad.any():
        raise DataError(
            f"{place}: the encoder gives NaN or infinite features for {bad.sum()} of {count} samples, first of all number {bad.argmax() + 1}"
        )
    return Modality(values, mask)
