from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data.checks import examine
from mmbench.data.load import load_dataset, open_source
from mmbench.errors import DataError

from .format_fixtures import FEATURES, folder_features, write_folder
from .raw_samples import make_rows, write_sounds, write_table


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    (tmp_path / "own").mkdir()
    path, name, _ = write_folder(tmp_path / "own")
    return DataConfig(name=name, path=str(path))


def of(config: DataConfig, name: str) -> Path:
    return Path(config.path or "") / name


def test_values_masks_labels_and_transcripts(config: DataConfig) -> None:
    dataset, problems = examine(config)
    assert problems == []
    rows, features = make_rows(), folder_features()
    for split in ("train", "valid", "test"):
        part = [(row, features[i]) for i, row in enumerate(rows) if row["mode"] == split]
        found = dataset.splits[split]
        assert list(found.ids) == [f"{row['video_id']}/{int(row['clip_id'])}" for row, _ in part]
        assert list(found.transcripts) == [row["text"] for row, _ in part]
        assert found.target.tolist() == [np.float32(row["label"]) for row, _ in part]
        assert found.unimodal_targets["audio"].tolist() == [np.float32(row["label_A"]) for row, _ in part]
        for name in FEATURES:
            for i, (_, values) in enumerate(part):
                expected = np.atleast_2d(values[name])
                assert found.inputs[name].mask[i].tolist() == [t < len(expected) for t in range(found.inputs[name].mask.shape[1])]
                np.testing.assert_array_equal(found.inputs[name].values[i, : len(expected)], expected.astype(np.float32))
    assert dataset.record["layout"] == "unaligned"


@pytest.mark.parametrize("place", ["modalities", "features/modalities", "npz", "features/npz", "clips", "features/clips"])
def test_every_place_and_ending_holds_the_same(config: DataConfig, tmp_path: Path, place: str) -> None:
    (tmp_path / "other").mkdir()
    path, name, _ = write_folder(tmp_path / "other", place)
    other, same = load_dataset(config.model_copy(update={"path": str(path)})), load_dataset(config)
    for split, part in same.splits.items():
        for modality in FEATURES:
            np.testing.assert_array_equal(other.splits[split].inputs[modality].values, part.inputs[modality].values)
    assert name


def test_a_modality_without_files_is_missing(config: DataConfig) -> None:
    import shutil

    shutil.rmtree(of(config, "vision"))
    dataset, _ = examine(config)
    assert dataset.modalities == ("text", "audio")


def break_(path: Path, content: Any) -> None:
    if content is None:
        path.unlink()
    elif isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content(path.read_bytes()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "text of vid_0/0010: there is no text/vid_0/0010.npy"),
        (lambda old: old[:-9], r"text/vid_0/0010.npy: damaged or cut short"),
        (lambda old: old[:50], r"text/vid_0/0010.npy: damaged or cut short"),
        (lambda old: b"", r"text/vid_0/0010.npy: damaged or cut short"),
        (lambda old: b"hello" * 40, r"text/vid_0/0010.npy: it is no array of numbers"),
        (np.array([{"a": 1}], dtype=object), "pickled objects are not read"),
        (np.zeros((3, 9)), "text/vid_0/0010.npy: text is 9 wide, not 4 as in most files"),
        (np.zeros((0, 4)), r"it has the shape \(0, 4\)"),
        (np.zeros((2, 2, 4)), r"it has the shape \(2, 2, 4\)"),
        (np.array(["a", "b"]), "not numbers"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(config: DataConfig, content: Any, message: str) -> None:
    break_(of(config, "text/vid_0/0010.npy"), content)
    with pytest.raises(DataError, match=message):
        load_dataset(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda old: old[: len(old) // 2], r"vid_0/0010.npz \(text\): damaged or cut short"),
        (lambda old: bytes([*old[:120], old[120] ^ 255, *old[121:]]), r"vid_0/0010.npz \(text\): damaged or cut short"),
    ],
)
def test_a_damaged_npz_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path, name, _ = write_folder(tmp_path, "clips")
    break_(path / "vid_0" / "0010.npz", content)
    with pytest.raises(DataError, match=message):
        load_dataset(DataConfig(name=name, path=str(path)))


def test_all_that_is_wrong_is_counted_and_the_first_ten_listed(config: DataConfig) -> None:
    for path in list(of(config, "audio").rglob("*.npy"))[:-1]:
        path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        load_dataset(config)
    assert "11 files of features cannot be used" in str(error.value)
    assert str(error.value).count("audio/") == 10


def test_the_errors_of_the_table_are_those_of_a_raw_folder(config: DataConfig) -> None:
    write_table(of(config, ""), [{**make_rows()[0], "label": "much"}, *make_rows()[1:]])
    with pytest.raises(DataError, match=r"line 2 .*label 'much' is not a number"):
        load_dataset(config)


def test_a_changed_file_is_read_again(config: DataConfig) -> None:
    before = load_dataset(config)
    np.save(of(config, "audio/vid_0/0009.npy"), np.full((3, 3), 7.0))
    after = load_dataset(config)
    assert after.fingerprint != before.fingerprint
    assert np.asarray(after.splits["train"].inputs["audio"].values)[0, 0].tolist() == [7, 7, 7]


def test_features_are_taken_unless_waveforms_are_wanted(config: DataConfig) -> None:
    write_sounds(of(config, ""), make_rows())
    assert open_source(config).store.document["layout"] == "unaligned"
    assert open_source(config, waveforms=True).raw
    assert open_source(config.model_copy(update={"path": str(of(config, "label.csv"))})).raw
    assert examine(config)[0].input_spec().modalities["audio"].kind == "features"


def test_a_folder_without_files_of_features_stays_raw(tmp_path: Path, config: DataConfig) -> None:
    rows = make_rows()
    write_table(tmp_path / "raw", rows)
    write_sounds(tmp_path / "raw", rows)
    assert open_source(config.model_copy(update={"path": str(tmp_path / "raw")})).raw


def test_classes_and_names_that_leave_the_folder(config: DataConfig) -> None:
    rows = [{**row, "video_id": "../own"} for row in make_rows()]
    with open(of(config, "label.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DataError, match="is a path; it must be a plain name"):
        load_dataset(config)
