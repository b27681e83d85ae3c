"""The per-sample predictions of a run, ``predictions.csv.gz``: what every score can be computed from again.

Columns are ``split,id,target,prediction``, or for classification ``split,id,target,score_0..score_{C-1}``. Numbers are float32 written with nine
significant digits, which float32 survives exactly; equal input gives equal bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import IO

import numpy as np

from mmbench.errors import DataError
from mmbench.files import in_bytes, is_bomb, write

NAME = "predictions.csv.gz"
LARGEST = float(np.finfo(np.float32).max) * (1 + 2**-26)
"""The largest float32 may be a little larger in nine digits."""

SplitPredictions = tuple[tuple[str, ...], np.ndarray, np.ndarray]
"""Ids, targets (N,) and predictions (N,) or (N, C) of one split."""


def write_predictions(path: Path, splits: Mapping[str, tuple[Sequence[str], np.ndarray, np.ndarray]]) -> None:
    """Write ids, targets (N,) and predictions, (N,) or scores (N, C), of each split, atomically and with equal bytes for equal input.

    Raises:
        ValueError: for splits of different widths, or arrays that do not belong to their ids.
    """
    parts = {name: (tuple(ids), np.asarray(target), np.asarray(prediction, np.float32)) for name, (ids, target, prediction) in splits.items()}
    widths = {prediction.shape[1:] for _, _, prediction in parts.values()}
    if len(widths) != 1 or len(next(iter(widths))) > 1:
        raise ValueError(f"predictions must all be (N,) or all (N, classes), not {sorted(map(str, widths))}")
    (width,) = widths
    header = [f"score_{index}" for index in range(width[0])] if width else ["prediction"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["split", "id", "target", *header])
    for name, (ids, target, prediction) in parts.items():
        if not len(ids) == len(target) == len(prediction) or target.ndim != 1:
            raise ValueError(f"split {name!r}: {len(ids)} ids, targets {target.shape} and predictions {prediction.shape} do not belong together")
        target = target if np.issubdtype(target.dtype, np.integer) else target.astype(np.float32)
        for sample, truth, row in zip(ids, target.tolist(), prediction.reshape(len(ids), -1).tolist(), strict=True):
            table.writerow([name, sample, f"{truth:.9g}", *(f"{value:.9g}" for value in row)])
    content = text.getvalue().encode()

    def compressed(file: IO[bytes]) -> None:
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as archive:
            archive.write(content)

    write(path, compressed)


def _unpacked(path: Path) -> str:
    """The text in a file of gzip. ValueError: it unpacks to more than predictions can be, or is none. OSError, EOFError, zlib.error: damaged."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    packed, blocks, size = path.stat().st_size, [], 0
    with gzip.open(path) as file:
        while block := file.read(1 << 20):
            size += len(block)
            if is_bomb(size, packed):
                raise ValueError(f"its {in_bytes(packed)} unpack to more than {in_bytes(size)}")
            blocks.append(block)
    return b"".join(blocks).decode()


def _plain(text: str) -> dict[str, SplitPredictions] | None:
    """What `read_predictions` gives, column by column: several times as fast, for texts without quotes and mistakes; nothing for any other."""
    if '"' in text or "\r" in text or "\0" in text:
        return None
    first, _, rest = text.partition("\n")
    head = first.split(",")
    classes = len(head) - 3
    if head[:3] != ["split", "id", "target"] or (head[3:] != ["prediction"] and head[3:] != [f"score_{index}" for index in range(classes)]):
        return None
    rest = "\n" + rest.removesuffix("\n")
    fields = rest.replace("\n", ",\n")[1:].split(",")  # a line break begins every field of the first column, and no other
    names, ids = fields[:: len(head)], fields[1 :: len(head)]
    if classes < 1 or len(names) * len(head) != len(fields) or rest.count("\n") != len(names) or not all(name.startswith("\n") for name in names):
        return None
    try:
        table = np.array([list(map(float, fields[column :: len(head)])) for column in range(2, len(head))]).T  # (N, 1 + columns)
    except ValueError:
        return None
    regression, truth = head[3] == "prediction", table[:, 0]
    if not np.all(np.abs(truth) <= LARGEST if regression else np.isin(truth, np.arange(classes))):  # NaN is neither
        return None
    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    places: dict[str, list[slice]] = {}
    for name, block in groupby(range(len(names)), names.__getitem__):
        own = list(block)
        places.setdefault(name[1:], []).append(slice(own[0], own[-1] + 1))
    splits: dict[str, SplitPredictions] = {}
    for name, blocks in places.items():
        rows = np.concatenate([table[block] for block in blocks])
        target = rows[:, 0] if regression else rows[:, 0].astype(np.int64)
        splits[name] = tuple(chain(*(ids[block] for block in blocks))), target, rows[:, 1] if regression else rows[:, 1:]
    return splits


def read_predictions(path: Path) -> dict[str, SplitPredictions]:
    """Ids, targets (N,) and predictions of each split, in float32, with class indices as int64.

    Raises:
        DataError: where the file is missing, damaged or not of this format; names the line.
    """
    try:
        text = _unpacked(path)
        if (plain := _plain(text)) is not None:
            return plain
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except FileNotFoundError:
        raise DataError(f"{path}: there are no stored predictions") from None
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        raise DataError(f"{path}: stored predictions are damaged ({error}); run this seed again") from None
    scores = [f"score_{index}" for index in range(len(rows[0]) - 3)] if rows else []
    if not rows or rows[0] not in (["split", "id", "target", "prediction"], ["split", "id", "target", *scores]) or len(rows[0]) < 4:
        raise DataError(f"{path}: line 1: expected the columns split,id,target,prediction or split,id,target,score_0,...; run this seed again")
    regression = rows[0][3] == "prediction"
    found: dict[str, tuple[list[str], list[list[float]]]] = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            numbers = [float(value) for value in row[2:]]
        except ValueError:
            numbers = []
        if len(row) != len(rows[0]) or not numbers or not math.isfinite(numbers[0]):
            raise DataError(f"{path}: line {number}: expected {len(rows[0])} columns, with numbers from the third on; run this seed again")
        if abs(numbers[0]) > LARGEST if regression else numbers[0] not in range(len(scores)):
            among = "" if regression else f" of the {len(scores)} classes"
            raise DataError(f"{path}: line {number}: the target {row[2]!r:.50} is none{among}; run this seed again")
        ids, values = found.setdefault(row[0], ([], []))
        ids.append(row[1])
        values.append(numbers)
    splits: dict[str, SplitPredictions] = {}
    for name, (ids, values) in found.items():
        with np.errstate(over="ignore"):
            table = np.array(values, np.float64).astype(np.float32)  # (N, 1 + columns)
        target = table[:, 0] if regression else table[:, 0].astype(np.int64)
        splits[name] = (tuple(ids), target, table[:, 1] if regression else table[:, 1:])
    return splits
