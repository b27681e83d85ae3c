"""`openface-csv`: files as FeatureExtraction writes them, and as pandas reads them."""

from __future__ import annotations

import csv

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import DataError
from mmbench_extractors.openface import OpenFaceCSV
from mmbench_extractors.options_vision import GROUPS, OpenFaceCSVConfig

UNITS = "1 2 4 5 6 7 9 10 12 14 15 17 20 23 25 26 45".split()  # noqa: SIM905
HEADER = [
    *["frame", "face_id", "timestamp", "confidence", "success"],
    *["gaze_0_x", "gaze_0_y", "gaze_0_z", "gaze_1_x", "gaze_1_y", "gaze_1_z", "gaze_angle_x", "gaze_angle_y"],
    *[f"eye_lmk_{axis}_{i}" for axis in "xyXYZ" for i in range(56)],
    *["pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"],
    *[f"{axis}_{i}" for axis in "xyXYZ" for i in range(68)],
    *["p_scale", "p_rx", "p_ry", "p_rz", "p_tx", "p_ty"],
    *[f"p_{i}" for i in range(34)],
    *[f"AU{unit:0>2}_r" for unit in UNITS],
    *[f"AU{unit:0>2}_c" for unit in sorted([*UNITS, "28"], key=int)],
]  # the wiki of OpenFace, Output Format
WIDTHS = {"gaze": 8, "eye_landmarks": 280, "pose": 6, "landmarks": 340, "pdm": 40, "action_units": 35}


def rows(count=12, fps=30.0, lost=(3, 7), columns=HEADER):
    random = np.random.default_rng(0)
    for i in range(count):
        found = {name: f"{value:.3f}" for name, value in zip(HEADER, random.normal(size=len(HEADER)) * 100, strict=True)}
        found |= {"frame": str(i + 1), "face_id": "0", "timestamp": f"{i / fps:.3f}", "confidence": "0.98", "success": "01"[i not in lost]}
        yield [found[name] for name in columns]


LINE = [*rows(3)][2]


def write(path, lines, columns=HEADER):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([[name if not i else f" {name}" for i, name in enumerate(columns)], *lines])
    return path


def build(**options):
    return OpenFaceCSV(OpenFaceCSVConfig(**options))


def read(path):
    """By pandas: the table, rows without a face zero."""
    table = pandas.read_csv(path, skipinitialspace=True)
    table.loc[table["success"] == 0, table.columns[5:]] = 0.0
    return table


def test_values_are_those_that_pandas_reads(tmp_path):
    path = write(tmp_path / "clip.csv", rows())
    extractor = build()
    found = extractor.prepare(path).numpy()
    expected = read(path).iloc[:, 5:].to_numpy(np.float32)
    assert found.shape == (12, extractor.width) == (12, 709)  # the width of CH-SIMS
    assert np.array_equal(found, expected)
    assert not found[[3, 7]].any()
    assert found[[0, 1, 2, 4, 5, 6, 8]].all(1).any()
    assert (extractor.frame_rate, extractor.suffixes) == (30.0, (".csv",))


@settings(max_examples=20, deadline=None)
@given(groups=st.lists(st.sampled_from(GROUPS), min_size=1, unique=True))
def test_groups_keep_the_order_of_the_file(tmp_path_factory, groups):
    path = tmp_path_factory.getbasetemp() / "groups.csv"
    if not path.exists():
        write(path, rows(4))
    extractor = build(columns=tuple(groups))
    start, wanted = 5, []
    for group, width in WIDTHS.items():
        wanted += range(start, start + width) if group in groups else []
        start += width
    assert extractor.width == len(wanted)
    assert np.array_equal(extractor.prepare(path).numpy(), read(path).iloc[:, wanted].to_numpy(np.float32))


def test_a_file_of_an_older_release_or_of_one_analysis_is_read(tmp_path):
    """Without face_id (OpenFace 2.0), columns in another order, and none but action units."""
    columns = [*["frame", "timestamp", "confidence", "success"], *HEADER[-35:][::-1]]
    path = write(tmp_path / "clip.csv", rows(columns=columns), columns)
    found = build(columns=("action_units",)).prepare(path).numpy()
    assert np.array_equal(found, read(path)[HEADER[-35:]].to_numpy(np.float32) * [[i not in (3, 7)] for i in range(12)])
    with pytest.raises(
        DataError, match=r"clip\.csv: the column gaze_0_x, gaze_0_y, gaze_0_z, \.\.\. is missing; run FeatureExtraction with -gaze, or"
    ):
        build(columns=("gaze", "action_units")).prepare(path)


def test_values_that_are_not_finite_are_zeros(tmp_path):
    lines = list(rows(3, lost=()))
    for place, text in ((5, "nan"), (6, "-nan"), (7, "-nan(ind)"), (8, "inf"), (9, "-inf"), (10, "1e300")):
        lines[1][place] = text
    found = build(columns=("gaze",)).prepare(write(tmp_path / "clip.csv", lines)).numpy()
    assert not found[1, :6].any()  # the last is too large for single precision
    assert found[1, 6:].all()
    assert found[[0, 2]].all()


@pytest.mark.parametrize("fps", [10.0, 12.0, 23.976, 25.0, 29.97, 30.0, 59.94, 60.0])
@pytest.mark.parametrize("count", [1, 2, 3, 50, 500])
def test_rates_are_told_apart(tmp_path, fps, count):
    columns = [*HEADER[:5], *HEADER[5:13]]
    path = write(tmp_path / "clip.csv", rows(count, fps, columns=columns), columns)
    assert len(build(columns=("gaze",), fps=fps).prepare(path)) == count
    if count >= 3:
        with pytest.raises(DataError, match=r"clip\.csv: [\d.]+ images per second by its timestamps, not 45; set fps: [\d.]+, or resample: true"):
            build(columns=("gaze",), fps=45.0).prepare(path)
    if count == 500:
        with pytest.raises(DataError, match=f" {fps:g} images per second by its timestamps, not {fps * 1.01:g}; set fps: {fps:g}, or"):
            build(columns=("gaze",), fps=fps * 1.01).prepare(path)


@pytest.mark.parametrize(("fps", "wanted"), [(30.0, 30.0), (25.0, 10.0), (12.0, 30.0), (29.97, 30.0), (30.0, 29.97), (23.976, 25.0)])
def test_resampling_takes_the_image_that_is_shown(tmp_path, fps, wanted):
    """Frame i is the row j of the image shown at i / wanted: j / fps <= i / wanted < (j + 1) / fps, up to a millisecond."""
    path = write(tmp_path / "clip.csv", rows(90, fps, lost=()))
    table = read(path)[HEADER[5:13]].to_numpy(np.float32)
    found = build(columns=("gaze",), fps=wanted, resample=True).prepare(path).numpy()
    assert abs(len(found) - 90 / fps * wanted) < 1.05
    numbers = np.array([np.flatnonzero((table == row).all(1))[0] for row in found])
    times = np.arange(len(found)) / wanted
    assert (numbers / fps <= times + 0.0021).all()
    assert (times <= (numbers + 1) / fps + 0.0021).all()
    if fps == wanted:
        assert numbers.tolist() == list(range(90))


def test_the_digest_covers_what_changes_features(tmp_path):
    changes = [{}, {"columns": ("gaze",)}, {"columns": ("gaze", "pose")}, {"fps": 25.0}, {"resample": True}]
    assert len({build(**change).digest() for change in changes}) == len(changes)
    assert build(columns=("pose", "gaze")).digest() == build(columns=("gaze", "pose")).digest()
    assert build(folder=str(tmp_path)).digest() == build().digest()


def damaged():
    good = [",".join(HEADER), *(",".join(line) for line in rows(5))]
    yield "no header", "", "is no CSV file of OpenFace: its first line is ''"
    yield "another table", "video_id,clip_id,text\n1,2,3\n", "its first line is 'video_id, clip_id, text', without timestamp and success"
    yield "no rows", good[0] + "\n", "a header and no rows"
    yield "cut short", "\n".join(good)[:-300], "line 6 has .* cells, not 714; the file is cut short or damaged"
    yield "a word", "\n".join([*good[:3], ",".join([*LINE[:20], "word", *LINE[21:]])]), "line 4: could not convert.*word"
    yield "two faces", "\n".join([good[0], good[1], good[1], good[2], good[2]]), "timestamps do not ascend"
    yield "a gap", "\n".join([*good[:3], ",".join(["9", "0", "0.300", *LINE[3:]])]), "step from one timestamp to the next changes .*0.267"
    yield "a time of nan", "\n".join([*good[:3], ",".join(["9", "0", "nan", *LINE[3:]])]), "timestamps do not ascend"
    yield "a column twice", "\n".join(line.replace("gaze_1_x", "gaze_0_x") for line in good), "gaze_1_x is missing"
    yield "one column too many", good[0] + ",gaze_0_x\n" + good[1] + ",1", "gaze_0_x stands there twice"
    yield "not UTF-8", b"frame, timestamp\xff\xfe", "is no CSV file of OpenFace"
    yield "zeros", b"\0" * 100, "is no CSV file of OpenFace"
    yield "a huge cell", good[0] + "\n" + '"' + "1" * 200_000, "is no CSV file of OpenFace"


@pytest.mark.parametrize(("content", "message"), [pytest.param(content, message, id=name) for name, content, message in damaged()])
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "clip.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        build().prepare(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "gone.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            build().prepare(path)
