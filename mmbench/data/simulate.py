"""Simulated data in the shape of any data set, from a model whose factors are known.

Each sample has a label y, drawn as often as in the real training split, and a common factor c: the standardised label, or the class as an
indicator vector. Each modality m shows

    z_m = c_m + s_m e_m,    c_m = c, or, with probability p_m, the factor of another label (the modality contradicts the whole)
    x_m(t) = h(t) W_m z_m + sum_j g_j(t) u_mj v_mj + e(t)

where h is 1 on one stretch of the sample and 0 on the rest, u_m are factors of its own (half of them the video's) with envelopes g_j, and e is noise.
Only integers from PCG64 and sums, products and square roots are used, so that the bytes are the same on every machine and NumPy version.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.content import without_ends
from mmbench.data.manifest import SPLITS, Layout, Manifest
from mmbench.data.store import Column, Store, column, open_or_build, open_store, store_folder, write_store
from mmbench.errors import DataError
from mmbench.files import in_bytes

VERSION = 1
SEED = 2024
LEAST = 12
"""Fewest samples of a simulated set."""
_LARGEST = 10**11
"""Bytes of features that are still made; ten times the largest data set. Many more would be refused for want of memory, and later."""


@dataclass(frozen=True)
class Strength:
    """How clearly a modality shows the label: `conflict` is p_m, `noise` is s_m."""

    conflict: float
    noise: float


STRENGTHS = {"text": Strength(0.1, 0.7), "audio": Strength(0.3, 1.5), "vision": Strength(0.25, 1.4)}
_OTHER = Strength(0.3, 1.5)
_UNIQUE = 3
_SIGNAL, _NUISANCE = 1.0, 0.6
_SEPARATION = 1.5  # of classes
_CLS, _SEP, _CHARGED, _NEUTRAL = 101, 102, 1000, 2000


def simulate(manifest: Manifest, samples: int | None = None, seed: int = SEED, layout: str | None = None, folder: Path | None = None) -> Store:
    """Simulated data as a store, in `folder` or in the cache; built once. `samples`: over all splits; default: the data set's own sizes.

    `layout`: aligned or unaligned, default the manifest's first. DataError: too few samples, too many, or a layout that the manifest lacks.
    """
    if not manifest.layouts or manifest.labels is None:
        raise DataError(f"the manifest of {manifest.name} states no layouts and labels, which simulated data are drawn from")
    name = layout or next(iter(manifest.layouts))
    if name not in manifest.layouts:
        raise DataError(f"{manifest.name} has no {name} layout; it has {', '.join(manifest.layouts)}")
    sizes = _sizes(manifest, samples)
    what = {"simulation": VERSION, "name": manifest.name, "sizes": sizes, "seed": seed, "layout": name}
    if manifest.part:
        what |= {"protocol": manifest.protocol, "part": manifest.part}
    shapes = {key: [shape.length, shape.width] for key, shape in manifest.layouts[name].shapes.items()}  # type: ignore[index]
    if samples is not None and samples * sum(4 * length * width for length, width in shapes.values()) > _LARGEST:
        raise DataError(f"data.samples: {samples} samples are more than {in_bytes(_LARGEST)} of simulated data; take fewer")
    labels = manifest.labels.model_dump(include={"values", "counts"})
    model = {"shapes": shapes, "labels": labels, "classes": len(manifest.classes), "unimodal": manifest.unimodal_labels}
    digest = hashlib.sha256(repr((what, model)).encode()).hexdigest()
    target = folder if folder is not None else store_folder(digest, [manifest.name])
    taken = folder is not None and folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    if folder is not None and taken and _digest_of(folder) != digest:
        raise DataError(f"{folder}: exists and holds something else; name a new folder")

    def build(temporary: Path) -> None:
        simulation = _Simulation(manifest, manifest.layouts[name], sizes, seed)  # type: ignore[index]
        write_store(temporary, simulation.columns, lambda: simulation.document({**what, "digest": digest}, name))

    return open_or_build(target, build)


def load_factors(store: Store | Path) -> dict[str, dict[str, np.ndarray]]:
    """The true factors by split: ``label`` (N,), and for each modality ``shown_<m>`` (N, C), ``unique_<m>`` (N, 3), ``conflict_<m>`` (N,).

    DataError: not a store of simulated data.
    """
    opened = store if isinstance(store, Store) else open_store(store)
    if opened is None or not opened.document["simulated"]:
        raise DataError(f"{store if isinstance(store, Path) else store.folder}: is not a whole store of simulated data, so it has no true factors")
    return {split: opened.under(f"{split}/factors") for split in SPLITS}


def load_patterns(store: Store, manifest: Manifest) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The patterns that simulated features were written with, by modality: W (C, D) of what is shown and v (3, D) of the unique factors.

    DataError: not simulated, or by other rules than this version's.
    """
    simulation = store.document.get("simulation") or {}
    if not store.document["simulated"] or simulation.get("simulation") != VERSION:
        raise DataError(f"{store.folder}: is no store of data that this version simulates, so its patterns are not known")
    return _Simulation(manifest, manifest.layouts[store.document["layout"]], {}, simulation["seed"]).patterns


def _digest_of(folder: Path) -> str | None:
    store = open_store(folder)
    return store.document.get("simulation", {}).get("digest") if store else None


def _sizes(manifest: Manifest, samples: int | None) -> dict[str, int]:
    full = manifest.split_sizes()
    if samples is None:
        return dict(full)
    if samples < LEAST:
        raise DataError(f"data.samples: {samples} is too few to simulate three splits; at least {LEAST}")
    total = sum(full.values())
    sizes = {split: max(3, (2 * samples * full[split] + total) // (2 * total)) for split in ("valid", "test")}
    return {"train": samples - sum(sizes.values()), **sizes}


class _Stream:
    """Random numbers from PCG64's integers alone."""

    def __init__(self, *purpose: object):
        words = np.frombuffer(hashlib.sha256("|".join(map(str, purpose)).encode()).digest(), "<u4")
        self.bits = np.random.PCG64(np.random.SeedSequence([int(word) for word in words]))

    def raw(self, count: int) -> np.ndarray:
        return self.bits.random_raw(count) if count else np.zeros(0, np.uint64)

    def normal(self, *shape: int) -> np.ndarray:
        """Nearly normal: four 16-bit uniforms added, mean 0, variance 1. float32."""
        raw, low = self.raw(math.prod(shape)), np.uint64(0xFFFF)
        total = raw & low
        for shift in (16, 32, 48):
            total += (raw >> np.uint64(shift)) & low
        spread = math.sqrt(4 * (65536.0**2 - 1) / 12)
        return ((total.astype(np.int32) - 131070).astype(np.float32) * np.float32(1 / spread)).reshape(shape)

    def uniform(self, *shape: int) -> np.ndarray:
        return ((self.raw(math.prod(shape)) >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def integers(self, below: int, *shape: int) -> np.ndarray:
        high = self.raw(math.prod(shape)) >> np.uint64(32)
        return ((high * np.uint64(below)) >> np.uint64(32)).astype(np.int64).reshape(shape)


class _Simulation:
    """All splits: `columns` for the store, whose blocks of features are drawn as they are written."""

    def __init__(self, manifest: Manifest, layout: Layout, sizes: Mapping[str, int], seed: int):
        self.manifest, self.layout, self.seed = manifest, layout, seed
        self.columns: dict[str, Column] = {}
        self.samples: dict[str, dict[str, list[str]]] = {}
        assert manifest.labels is not None
        self.labels = np.array(manifest.labels.values)
        self.ends = np.cumsum(manifest.labels.counts)
        self.factors = _factors_of_labels(manifest)  # (labels, C)
        self.patterns = {name: self._patterns(name) for name in manifest.modalities}
        self.videos = 0
        for split, size in sizes.items():
            self._split(split, size)

    def document(self, simulation: Mapping[str, Any], layout: str) -> dict[str, Any]:
        strengths = {name: vars(STRENGTHS.get(name, _OTHER)) for name in self.manifest.modalities}
        return {
            "reader": {"name": "simulation", "version": VERSION},
            "simulated": True,
            "simulation": {**simulation, "strengths": strengths},
            "layout": layout,
            "splits": self.samples,
            "problems": {} if self._has_tokens() else {"tokens": "simulated text of length 1 has no tokens"},
            "replaced": {},
            "notices": [],
            "ignored_keys": [],
        }

    def _stream(self, *purpose: object) -> _Stream:
        part = (self.manifest.protocol, self.manifest.part) if self.manifest.part else ()  # each fold has samples of its own
        return _Stream(VERSION, self.manifest.name, self.seed, *part, *purpose)

    def _has_tokens(self) -> bool:
        return "text" in self.layout.shapes and self.layout.shapes["text"].length > 2

    def _patterns(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """W (C, D) and v (3, D)."""
        stream, width = self._stream("patterns", name), self.layout.shapes[name].width
        common = self.factors.shape[1]
        return _SIGNAL * stream.normal(common, width), _NUISANCE * stream.normal(_UNIQUE, width)

    def _split(self, split: str, size: int) -> None:
        stream = self._stream(split, "samples")
        video = self._videos(stream, size)
        label = self._labels(stream, size)
        first = np.flatnonzero(np.diff(video, prepend=-1))
        clip = np.arange(size) - np.repeat(first, np.diff([*first, size])) + 1
        ids = [f"sim{v:05d}/{c}" for v, c in zip(video + self.videos + 1, clip, strict=True)]
        self.videos += int(video[-1]) + 1
        masks = self._masks(stream, size)
        value = self.labels[label]
        classes = self.manifest.task == "classification"
        self.columns[f"{split}/target"] = column(value.astype(np.int64 if classes else np.float32))
        self.columns[f"{split}/factors/label"] = column(value.astype(np.float64))
        shown = {name: self._modality(split, name, label, video, masks[name]) for name in self.manifest.modalities}
        words = self._tokens(split, shown["text"], masks["text"]) if self._has_tokens() else []
        self.samples[split] = {"ids": ids, "transcripts": words}

    def _videos(self, stream: _Stream, size: int) -> np.ndarray:
        """Number of the video of each sample, (N,), ascending: 3 to 17 clips each, fewer in small splits."""
        lengths = np.minimum(3 + stream.integers(15, size), max(1, size // 4))
        return np.searchsorted(np.cumsum(lengths), np.arange(size), side="right")

    def _labels(self, stream: _Stream, size: int) -> np.ndarray:
        """Index of each sample's label value, (N,)."""
        return np.searchsorted(self.ends, stream.integers(int(self.ends[-1]), size), side="right")

    def _masks(self, stream: _Stream, size: int) -> dict[str, np.ndarray]:
        duration = (stream.uniform(size) + stream.uniform(size)) / 2
        lengths = {name: shape.length for name, shape in self.layout.shapes.items()}
        masks = {}
        for name, longest in lengths.items():
            least = min(3, longest)
            jitter = 1 if name == "text" else 0.6 + 0.4 * stream.uniform(size)
            frames = least + (duration * jitter * (longest - least + 1)).astype(np.int64)
            masks[name] = np.arange(longest) < frames[:, None]
        if "text" in masks and set(lengths.values()) == {lengths["text"]} and lengths["text"] > 2:
            masks.update({name: without_ends(masks["text"]) for name in masks if name != "text"})  # one length for all: word-aligned
        return masks

    def _modality(self, split: str, name: str, label: np.ndarray, video: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Adds the columns of one modality; returns z (N, C)."""
        stream, size = self._stream(split, name), len(label)
        strength = STRENGTHS.get(name, _OTHER)
        conflict = stream.uniform(size) < strength.conflict
        own = np.where(conflict, self._labels(stream, size), label)
        shown = self.factors[own] + strength.noise * stream.normal(size, self.factors.shape[1])
        unique = math.sqrt(0.5) * (stream.normal(int(video[-1]) + 1, _UNIQUE)[video] + stream.normal(size, _UNIQUE))
        frames = mask.sum(axis=1)
        stretch = np.maximum(1, (frames * (0.4 + 0.6 * stream.uniform(size))).astype(np.int64))
        start = (stream.uniform(size) * (frames - stretch + 1)).astype(np.int64)
        shape = (*mask.shape, self.layout.shapes[name].width)
        rows = partial(self._rows, self._stream(split, name, "frames"), name, mask, shown, unique, start, start + stretch)
        self.columns[f"{split}/features/{name}"] = Column(shape, np.dtype("<f4"), rows)
        self.columns[f"{split}/features_mask/{name}"] = column(mask)
        self.columns[f"{split}/factors/shown_{name}"] = column(shown)
        self.columns[f"{split}/factors/unique_{name}"] = column(unique)
        self.columns[f"{split}/factors/conflict_{name}"] = column(conflict)
        if self.manifest.unimodal_labels:
            self.columns[f"{split}/unimodal/{name}"] = column(self.labels[own])
        return shown

    def _rows(
        self,
        stream: _Stream,
        name: str,
        mask: np.ndarray,
        shown: np.ndarray,
        unique: np.ndarray,
        begin: np.ndarray,
        end: np.ndarray,
        start: int,
        stop: int,
    ) -> np.ndarray:
        """x (n, T, D), zero outside the mask."""
        common, nuisance = self.patterns[name]
        real = mask[start:stop]
        sample = start + np.nonzero(real)[0]  # (F,)
        position = (np.cumsum(real, axis=1) - 1)[real]
        frames = real.sum(axis=1)[sample - start]
        through = (position + 0.5) / frames  # from 0 to 1
        on = (position >= begin[sample]) & (position < end[sample])
        x = stream.normal(len(sample), common.shape[1])  # (F, D)
        for k, pattern in enumerate(common):
            x += (shown[sample, k] * on).astype(np.float32)[:, None] * pattern
        for j, envelope in enumerate((1.0, 2 * through - 1, 1 - 2 * np.abs(2 * through - 1))):
            x += (unique[sample, j] * envelope).astype(np.float32)[:, None] * nuisance[j]
        block = np.zeros((*real.shape, common.shape[1]), np.float32)
        block[real] = x
        return block

    def _tokens(self, split: str, shown: np.ndarray, mask: np.ndarray) -> list[str]:
        """Adds token ids, of which about a third are charged with what the text shows; returns transcripts made of them."""
        stream = self._stream(split, "tokens")
        size, longest = mask.shape
        if self.manifest.task == "classification":
            level = shown.argmax(axis=1)
        else:
            level = np.clip((2 * (shown[:, 0] + 3)).astype(np.int64), 0, 11)
        charged = _CHARGED + 40 * level[:, None] + stream.integers(40, size, longest)
        tokens = np.where(stream.uniform(size, longest) < 0.3, charged, _NEUTRAL + stream.integers(1000, size, longest))
        tokens[:, 0] = _CLS
        tokens[np.arange(size), mask.sum(axis=1) - 1] = _SEP
        tokens = np.where(mask, tokens, 0)
        self.columns[f"{split}/tokens/text"] = column(tokens)
        self.columns[f"{split}/tokens_mask/text"] = column(mask)
        return [" ".join(f"w{token}" for token in row if token >= _CHARGED) for row in tokens.tolist()]


def _factors_of_labels(manifest: Manifest) -> np.ndarray:
    """The common factor of each label value: (values, 1) standardised labels, or (classes, classes) scaled indicators."""
    assert manifest.labels is not None
    values, counts = manifest.labels.values, manifest.labels.counts
    total = sum(counts)
    if manifest.task == "classification":
        return _SEPARATION * np.eye(len(values))
    mean = math.fsum(v * n for v, n in zip(values, counts, strict=True)) / total
    std = math.sqrt(math.fsum((v - mean) ** 2 * n for v, n in zip(values, counts, strict=True)) / total)
    return (np.array(values)[:, None] - mean) / std
