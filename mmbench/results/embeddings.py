"""What `mmbench embed` and `mmbench diagnose` wrote beside a run, and measures of how far apart two modalities are. NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.data.array_files import DAMAGE, check_archive
from mmbench.errors import DataError
from mmbench.files import load_json, parse_json, write
from mmbench.results.runs import RunRecord

FIELDS = ("encoded", "common", "unique")
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Embeddings:
    """What a trained network makes of each sample of a split; sequences are means over their real frames.

    `target` (N,), `prediction` (N,) or (N, classes), `fused` (N, F); `encoded`, `common`, `unique`: (N, D) by modality, `common` and `unique`
    empty where neither the model nor an adapter of the run has them. `about`: experiment, label, name, seed, split, title, fingerprints, and
    whether the data are simulated.
    """

    ids: tuple[str, ...]
    target: np.ndarray
    prediction: np.ndarray
    fused: np.ndarray
    encoded: Mapping[str, np.ndarray] = field(default_factory=dict)
    common: Mapping[str, np.ndarray] = field(default_factory=dict)
    unique: Mapping[str, np.ndarray] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the data are made up. Unknown counts as made up."""
        return bool(self.about.get("simulated", True))

    def modalities(self, name: str) -> Mapping[str, np.ndarray]:
        """One of ``encoded``, ``common`` and ``unique`` by modality."""
        return {"encoded": self.encoded, "common": self.common, "unique": self.unique}[name]


def embeddings_path(record: RunRecord, split: str = "test") -> Path:
    """Where `mmbench embed` writes: ``<configuration folder>/embeddings/seed-<n>.<split>.npz``, never inside the run folder."""
    return record.folder.parent / "embeddings" / f"{record.folder.name}.{split}.npz"


def diagnostics_path(record: RunRecord) -> Path:
    """Where `mmbench diagnose` writes: ``<configuration folder>/diagnostics/seed-<n>.json``, never inside the run folder."""
    return record.folder.parent / "diagnostics" / f"{record.folder.name}.json"


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write the file atomically, with equal bytes for equal content. Floats are float32. OSError: where it cannot be written."""
    arrays = {"ids": np.array(embeddings.ids, dtype=np.str_), "target": embeddings.target}
    floats = {"prediction": embeddings.prediction, "fused": embeddings.fused}
    for name in FIELDS:
        floats |= {f"{name}/{modality}": values for modality, values in embeddings.modalities(name).items()}
    arrays |= {name: values.astype(np.float32) for name, values in floats.items()}
    about = np.array(json.dumps(dict(embeddings.about), sort_keys=True, ensure_ascii=False))
    write(path, lambda file: np.savez_compressed(file, **arrays, about=about))  # type: ignore[arg-type]


def read_embeddings(path: Path) -> Embeddings:
    """The embeddings in a file of `mmbench embed`.

    Raises:
        DataError: where it is missing, damaged, of another kind, or has arrays that do not belong together; says which.
    """
    try:
        check_archive(path)
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path}: there are no embeddings; make them with mmbench embed RUN") from None
    except DAMAGE as error:
        raise DataError(f"{path}: is no readable file of embeddings ({error}); make it again with mmbench embed RUN") from None
    missing = [name for name in ("ids", "target", "prediction", "fused", "about") if name not in arrays]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}, so it is no file of mmbench embed")
    try:
        about = parse_json(str(arrays.pop("about")[()]))
    except (ValueError, RecursionError, IndexError):
        about = None
    if not isinstance(about, dict):
        raise DataError(f"{path}: about is no JSON object")
    ids = arrays.pop("ids")
    if ids.ndim != 1 or ids.dtype.kind != "U":
        raise DataError(f"{path}: ids are not a list of texts")
    for name, array in arrays.items():
        _check(path, name, array, len(ids))
    by_field = {name: {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")} for name in FIELDS}
    return Embeddings(tuple(map(str, ids)), arrays["target"], arrays["prediction"], arrays["fused"], **by_field, about=about)


def _check(path: Path, name: str, array: np.ndarray, count: int) -> None:
    dimensions = {"target": (1,), "prediction": (1, 2)}.get(name, (2,))
    if array.dtype.kind not in "fiu" or array.ndim not in dimensions or len(array) != count:
        raise DataError(f"{path}: {name} is {array.dtype} {array.shape}, which does not belong to {count} samples")
    if not np.isfinite(array).all():
        raise DataError(f"{path}: {name} has values that are not finite")


def read_diagnostics(path: Path) -> dict[str, Any]:
    """The JSON document of `mmbench diagnose`. DataError: missing, damaged, or of another schema."""
    try:
        document = load_json(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there are no diagnostics; make them with mmbench diagnose RUN") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); make it again with mmbench diagnose RUN") from None
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION or not isinstance(document.get("about"), dict):
        raise DataError(f"{path}: is no document of mmbench diagnose with schema_version {SCHEMA_VERSION}; make it again")
    return document


# How far apart two modalities are -----------------------------------------------------------------------------------------------------


def modality_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two modalities' centres on the unit sphere: ``|| mean_i a_i / |a_i| - mean_i b_i / |b_i| ||``, from 0 to 2.

    `a` (N, D), `b` (M, D): the rows need not be pairs. A zero row stays zero. NaN without rows.
    Source: Liang et al., "Mind the Gap" (NeurIPS 2022), section 4.1. ValueError: other widths.
    """
    a, b = _two(a, b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a gap needs features of one width, not {a.shape[1]} and {b.shape[1]}")
    if not len(a) or not len(b):
        return float("nan")
    return float(np.linalg.norm(_unit(a).mean(0) - _unit(b).mean(0)))


def paired_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of the two modalities of one sample on the unit sphere: ``mean_i || a_i / |a_i| - b_i / |b_i| ||``, from 0 to 2.

    `a`, `b` (N, D), row i of both being one sample. It bounds the gap from above: equal centres do not make equal pairs.
    A zero row stays zero. NaN without rows. ValueError: other shapes.
    """
    a, b = _two(a, b)
    if a.shape != b.shape:
        raise ValueError(f"pairs need arrays of one shape, not {a.shape} and {b.shape}")
    return float(np.linalg.norm(_unit(a) - _unit(b), axis=1).mean()) if len(a) else float("nan")


def cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment, ``||B'A||_F^2 / (||A'A||_F ||B'B||_F)`` with centred columns: from 0 to 1, 1 for equal up to rotation.

    `a` (N, D), `b` (N, E), row i of both being one sample. It has the bias of small N: of independent features it is above 0 (near
    sqrt(D E) / N for white ones). NaN where one is constant, or without rows.
    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited" (ICML 2019), section 3. ValueError: other numbers of rows.
    """
    a, b = _two(a, b)
    if len(a) != len(b):
        raise ValueError(f"CKA needs as many rows in both, not {len(a)} and {len(b)}")
    if not len(a):
        return float("nan")
    a, b = _centred(a), _centred(b)
    scale = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(b.T @ a) ** 2 / scale) if scale > 0 else float("nan")


def _two(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"features are (samples, width), not {a.shape} and {b.shape}")
    return a, b


def _unit(rows: np.ndarray) -> np.ndarray:
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    rows = rows / np.where(largest > 0, largest, 1)  # first, so that squares neither overflow nor vanish
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _centred(columns: np.ndarray) -> np.ndarray:
    """Columns around zero, the whole scaled to a largest entry of 1; rounding errors of constant columns are zero."""
    centred = columns - columns.mean(0)
    centred[:, np.ptp(columns, axis=0) == 0] = 0
    largest = np.abs(centred).max(initial=0)
    return centred / largest if largest > 0 else centred
