"""`openface-csv`: what OpenFace's FeatureExtraction wrote about a video, one row per image.

Columns as OpenFace 2 writes them (its wiki, Output Format); names have leading blanks, and a column face_id may stand among the first.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import DataError
from mmbench_extractors.options_vision import GROUPS, OpenFaceCSVConfig
from mmbench_extractors.prepared import PreparedFeatures

_REGRESSED = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
_CLASSIFIED = (*_REGRESSED[:-1], "28", "45")
COLUMNS: dict[str, list[str]] = {
    "gaze": [*(f"gaze_{eye}_{axis}" for eye in "01" for axis in "xyz"), "gaze_angle_x", "gaze_angle_y"],
    "eye_landmarks": [f"eye_lmk_{axis}_{i}" for axis in "xyXYZ" for i in range(56)],
    "pose": [f"pose_{name}" for name in ("Tx", "Ty", "Tz", "Rx", "Ry", "Rz")],
    "landmarks": [f"{axis}_{i}" for axis in "xyXYZ" for i in range(68)],
    "pdm": ["p_scale", *(f"p_{name}" for name in ("rx", "ry", "rz", "tx", "ty")), *(f"p_{i}" for i in range(34))],
    "action_units": [*(f"AU{unit}_r" for unit in _REGRESSED), *(f"AU{unit}_c" for unit in _CLASSIFIED)],
}
"""By group: its columns in the order of the file."""
_FLAGS = {
    "gaze": "-gaze", "eye_landmarks": "-gaze", "pose": "-pose", "landmarks": "-2Dfp -3Dfp", "pdm": "-pdmparams", "action_units": "-aus",
}  # fmt: skip
_ROUNDED = 1e-3
"""By how many seconds rounding puts two timestamps nearer to each other, or further apart, than they are."""
_COMMON = (10.0, 12.0, 15.0, 20.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0)
"""Images per second of most videos."""
_DRIFT = 0.005
"""How far the rate that the timestamps give may be from `fps`: 29.97 passes for 30, 29 does not."""


class OpenFaceCSV(PreparedFeatures):
    """Rows of images without a face (`success` 0) are zeros, and so are single values that are not finite."""

    component = "openface-csv"
    suffixes = (".csv",)

    def __init__(self, config: OpenFaceCSVConfig):
        super().__init__(config)
        self.config = config
        self.names = [name for group in GROUPS if group in config.columns for name in COLUMNS[group]]
        self.width = len(self.names)
        self.frame_rate = config.fps

    def facts(self) -> dict[str, Any]:
        """All options but the folder."""
        return {"columns": self.names, "fps": self.config.fps, "resample": self.config.resample}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A file as (T, width) float32. DataError: it is not OpenFace's, lacks columns, is damaged, or is of another rate."""
        path = Path(path_or_text)
        found = _table(path, ["timestamp", "success", *self.names])
        times, success, values = found[:, 0], found[:, 1], found[:, 2:]
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)  # (T, width)
        values = np.where((success > 0)[:, None] & np.isfinite(values), values, np.float32(0))
        return torch.from_numpy(values[self._rows(path, times)])

    def _rows(self, path: Path, times: np.ndarray) -> np.ndarray:
        """Which row each frame is."""
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise DataError(
                f"{path}: the timestamps do not ascend from row to row; take the output of FeatureExtraction, which follows one face, on a video"
            )
        if len(times) == 1:
            return np.zeros(1, np.int64)
        rate = (len(times) - 1) / (times[-1] - times[0])
        if self.config.resample:
            shown = np.arange(0, times[-1] - times[0] + 1 / rate - _ROUNDED, 1 / self.config.fps)  # the last image is shown as long as others
            return np.searchsorted(times - times[0], shown + _ROUNDED, side="right") - 1
        step = np.diff(times)
        if step.max() - step.min() > 0.5 / rate:
            row = int(step.argmax())
            raise DataError(
                f"{path}: the step from one timestamp to the next changes (rows {row + 1} and {row + 2}: {step[row]:g}, elsewhere {step.min():g} s); "
                "set resample: true, or run FeatureExtraction on a video with a constant rate"
            )
        rounding = 2 * _ROUNDED * rate**2 / (len(times) - 1)  # what it does to the rate
        if abs(rate - self.config.fps) > max(_DRIFT * rate, rounding):
            common = min(_COMMON, key=lambda known: abs(known - rate))
            rate = common if abs(common - rate) <= rounding else rate
            raise DataError(
                f"{path}: {rate:.5g} images per second by its timestamps, not {self.config.fps:g}; set fps: {rate:.5g}, or resample: true"
            )
        return np.arange(len(times))


def _table(path: Path, wanted: list[str]) -> np.ndarray:
    """The wanted columns: (T, columns) float64, T >= 1."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            _check_header(path, header, wanted)
            places = [header.index(name) for name in wanted]
            rows = [_row(path, number, cells, len(header), places) for number, cells in enumerate(lines, 2) if cells]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV file of OpenFace: {error}") from None
    if not rows:
        raise DataError(f"{path}: has a header and no rows; OpenFace read no image of the video: run FeatureExtraction anew")
    return np.stack(rows)


def _check_header(path: Path, header: list[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in header]
    if not header or missing[:2] == wanted[:2]:
        raise DataError(f"{path}: is no CSV file of OpenFace: its first line is {', '.join(header)[:100]!r}, without timestamp and success")
    if missing:
        flags = [_FLAGS[group] for group in GROUPS if set(missing) & set(COLUMNS[group])]
        hint = (
            f"run FeatureExtraction with {' '.join(dict.fromkeys(flags))}, or leave the group out of columns"
            if flags
            else "run FeatureExtraction anew"
        )
        raise DataError(f"{path}: the column {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''} is missing; {hint}")
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise DataError(f"{path}: the column {twice[0]} stands there twice")


def _row(path: Path, number: int, cells: list[str], width: int, places: list[int]) -> np.ndarray:
    if len(cells) != width:
        raise DataError(f"{path}: line {number} has {len(cells)} cells, not {width}; the file is cut short or damaged: run FeatureExtraction anew")
    try:
        return np.array([float(cells[place].replace("(ind)", "")) for place in places])  # Windows writes -nan(ind)
    except ValueError as error:
        raise DataError(f"{path}: line {number}: {error}") from None
