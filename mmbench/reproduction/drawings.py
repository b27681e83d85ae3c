"""The figures of a target, drawn of its runs. One that cannot be drawn is a note with its reason; it stops nothing else."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmbench.errors import ConfigError, DataError, MmbenchError
from mmbench.files import file_digest
from mmbench.reproduction.blocks import Block, build_blocks
from mmbench.reproduction.plan import Work
from mmbench.reproduction.target import DrawingConfig
from mmbench.results.embeddings import Embeddings, embeddings_path, modality_gap, read_embeddings
from mmbench.results.runs import RunRecord

Embed = Callable[[RunRecord], None]
"""Writes the embeddings of a run beside it; a MmbenchError says why it could not."""


@dataclass
class Drawn:
    """The files that were written, and what is to be said."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def draw(work: Work, place: Path, embed: Embed) -> Drawn:
    """Draw the figures of a target as ``<place>[-<name>].svg`` and ``.png``. Embeddings that are not there are made with `embed`."""
    found = Drawn()
    for drawing in work.target.config.figures:
        path = place.with_name(f"{place.name}-{drawing.name}" if drawing.name else place.name)
        try:
            _DRAWERS[drawing.kind](work, drawing, path, embed, found)
        except MmbenchError as error:
            reason = "; ".join(str(error).splitlines())
            found.notes.append(f"{path.name} was not drawn: {reason}")
    return found


def _runs(work: Work, drawing: DrawingConfig) -> dict[str, list[RunRecord]]:
    """The finished runs of each row that is drawn; a row without any is left out. ConfigError: there is none."""
    group = next((group for group in work.target.groups if group.dataset == drawing.dataset), None)
    if group is None:
        raise ConfigError(f"there are no columns of {drawing.dataset!r}")
    rows = {name: work.records(work.places[name, group.place]) for name in drawing.rows or work.rows}
    done = {name: [record for record in records if record.status == "done"] for name, records in rows.items()}
    done = {name: records for name, records in done.items() if records}
    if not done:
        states = dict.fromkeys(work.places[name, group.place].state or "not run" for name in rows)
        raise ConfigError(f"no run on {drawing.dataset} is there ({', '.join(states)})")
    return done


def _confusion(work: Work, drawing: DrawingConfig, path: Path, embed: Embed, found: Drawn) -> None:
    from mmbench.results.figures import confusion, save

    found.files += save(confusion(_runs(work, drawing)), path)


def _per_class(work: Work, drawing: DrawingConfig, path: Path, embed: Embed, found: Drawn) -> None:
    from mmbench.results.figures import per_class, save

    found.files += save(per_class(_runs(work, drawing)), path)


def _heatmap(work: Work, drawing: DrawingConfig, path: Path, embed: Embed, found: Drawn) -> None:
    from mmbench.results.figures import heatmap, save

    found.files += save(heatmap([record for records in _runs(work, drawing).values() for record in records], drawing.metric), path)


def _bubble(work: Work, drawing: DrawingConfig, path: Path, embed: Embed, found: Drawn) -> None:
    from mmbench.results.figures import bubble, save

    for block in build_blocks(work):
        points = list(_points(block)) if all(_scored(block)) else []
        if points:
            axes = ("Acc-2 (%)", "F1 (%)", "1 / MAE")
            figure = bubble(points, axes, block.title.partition("; ")[0], block.simulated)
            found.files += save(figure, path.with_name(f"{path.name}-{block.group.dataset}"))


def _scored(block: Block) -> tuple[int, ...]:
    """Positions, from one, of the columns of binary accuracy, F1 and MAE; 0 for one that is not there."""
    keys = [columns[0].key for columns in block.columns]
    return tuple(next((i + 1 for i, key in enumerate(keys) if key.startswith(kind)), 0) for kind in ("acc2", "f1", "mae"))


def _points(block: Block):  # type: ignore[no-untyped-def]
    """A bubble for each measured and each published row; no published ones beside scores on simulated data."""
    from mmbench.results.figures import Point

    acc, f1, mae = (index - 1 for index in _scored(block))
    for line in block.lines:
        if line.kind != "method":
            continue
        some = any(record.status != "done" for record in line.records)
        for published in (False,) if block.simulated else (False, True):
            cells = [(line.published if published else line.measured)[index][0] for index in (acc, f1, mae)]
            x, y, error = (math.nan if cell is None else cell.value if published else cell.mean for cell in cells)  # type: ignore[union-attr]
            if not any(map(math.isnan, (x, y, error))) and error > 0:
                yield Point(line.name + f" ({line.state} seeds)" * (some and not published), 100 * x, 100 * y, 1 / error, published)


def _features(record: RunRecord, embed: Embed) -> Embeddings:
    """The embeddings of a run on test, made where they are missing, damaged or of other weights; no clock is asked."""
    path, weights = embeddings_path(record), record.folder / "best.pt"
    try:
        found = read_embeddings(path)
        if weights.is_file() and found.about.get("checkpoint") != file_digest(weights):
            raise DataError(f"{path}: is of other weights")
    except DataError:
        embed(record)
        return read_embeddings(path)
    return found


def _field(found: Embeddings, name: str) -> np.ndarray:
    """``fused``, or one modality of a field: ``common/text``."""
    kind, _, modality = name.partition("/")
    values: np.ndarray | None = found.fused if kind == "fused" else found.modalities(kind).get(modality)
    if values is None:
        raise DataError(f"the run has no {name}")
    return values


def _tsne(work: Work, drawing: DrawingConfig, path: Path, embed: Embed, found: Drawn) -> None:
    from mmbench.results.figures import save, tsne

    panels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    about: Mapping[str, object] = {}
    for name, records in _runs(work, drawing).items():
        features = _features(records[0], embed)
        about = features.about
        several = len(drawing.rows or work.rows) > 1
        for each in drawing.fields:
            panels[f"{name}: {each}" if several else each] = (_field(features, each), np.sign(features.target).astype(float))
    found.files += save(tsne(panels, title=str(about.get("title", "")), simulated=bool(about.get("simulated", True))), path)


def _pairs(work: Work, drawing: DrawingConfig, path: Path, embed: Embed, found: Drawn) -> None:
    from mmbench.results.figures import pairs, save

    first, second = drawing.fields
    panels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    about: Mapping[str, object] = {}
    for name, records in _runs(work, drawing).items():
        features = _features(records[0], embed)
        about = features.about
        panels[name] = (_field(features, first), _field(features, second))
    names = (first.rpartition("/")[2], second.rpartition("/")[2])
    title = f"{about.get('title', '')}; {first.partition('/')[0]} features"
    found.files += save(pairs(panels, names, title, bool(about.get("simulated", True))), path)
    gaps = ", ".join(f"{name} {modality_gap(*panel):.3f}" for name, panel in panels.items())
    found.notes.append(f"{path.name}: gap between the centres of {first} and {second} on the unit sphere (test, first seed): {gaps}")


_DRAWERS = {"bubble": _bubble, "confusion": _confusion, "per_class": _per_class, "heatmap": _heatmap, "tsne": _tsne, "pairs": _pairs}


def embedder(device: str, data_root: Path | None, say: Callable[[str], None]) -> Embed:
    """Makes embeddings with ``mmbench embed``, in a process of its own; `say` is told of each."""

    def embed(record: RunRecord) -> None:
        say(f"features of {record.folder}")
        command = [sys.executable, "-m", "mmbench", "embed", str(record.folder), "--device", device]
        done = subprocess.run([*command, *(["--data-root", str(data_root)] if data_root else [])], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(
                "; ".join(done.stderr.strip().splitlines()[-3:]).replace("error: ", "") or f"mmbench embed ended with {done.returncode}"
            )

    return embed


def no_embedder(record: RunRecord) -> None:
    """Makes none, for ``--no-run``."""
    raise ConfigError(f"it needs the features of {record.folder}, which mmbench embed makes; --no-run makes none")
