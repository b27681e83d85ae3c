from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data.find import locate
from mmbench.data.load import load_dataset
from mmbench.data.manifest import load_manifest
from mmbench.data.raw import read
from mmbench.errors import DataError

from .raw_samples import COLUMNS, SIZES, make_config, make_rows, write_table
from .samples import make_content

TEXT = frozenset({"text"})
EMOTIONS = {"task": "classification", "classes": ["happy", "sad"], "label_range": None, "labels": {"values": [0.0, 1.0], "counts": [1, 1]}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "mine", make_rows())
    return tmp_path / "mine"


def text_of(folder: Path, rows: list[dict[str, str]] | None = None, **options: Any) -> Any:
    """The data set of the text alone."""
    return load_dataset(make_config(folder, rows or make_rows(), **{"modalities": ("text",), **options}), tokens=TEXT)


def message(folder: Path, rows: list[dict[str, str]], **options: Any) -> str:
    write_table(folder, rows)
    with pytest.raises(DataError) as error:
        text_of(folder, make_rows(), **options)
    return str(error.value)


def changed(line: int, **cells: str) -> list[dict[str, str]]:
    """The rows, with cells of one line of the file changed (2 is the first row)."""
    rows = make_rows()
    rows[line - 2].update(cells)
    return rows


def test_rows_become_samples(folder: Path) -> None:
    dataset = text_of(folder)
    assert {name: len(split) for name, split in dataset.splits.items()} == SIZES
    train = dataset.splits["train"]
    assert train.ids == ("vid_0/9", "vid_0/10", "vid_0/11", "vid_1/9", "vid_1/10", "vid_1/11")
    assert train.transcripts[:2] == ("word 0, and more", "word 1, and more")
    np.testing.assert_array_equal(train.target, np.float32([-3, -2.5, -2, -1.5, -1, -0.5]))
    text = train.inputs["text"]
    assert (text.kind, text.values.shape, text.values.dtype, text.mask.shape, text.mask.dtype) == ("tokens", (6, 0), np.int64, (6, 0), bool)
    assert dataset.input_spec().modalities["text"].length == 0
    np.testing.assert_array_equal(train.unimodal_targets["text"], np.full(6, 0.5, np.float32))
    record = dataset.record
    assert (record["layout"], record["split_status"], record["reader"]["name"], record["warnings"]) == ("raw", "published", "raw", [])
    assert record["source"] == str(folder)
    assert not record["simulated"]


def test_bom_order_of_columns_extra_columns_and_missing_labels_of_modalities_do_not_matter(folder: Path, tmp_path: Path) -> None:
    expected = text_of(folder)
    rows = [{**row, "speaker": "x"} for row in make_rows()]
    columns = ("speaker", "mode", "text", "clip_id", "label", "video_id")
    write_table(tmp_path / "other", rows, columns, "utf-8-sig")
    dataset = text_of(tmp_path / "other")
    for name, split in dataset.splits.items():
        assert (split.ids, split.transcripts) == (expected.splits[name].ids, expected.splits[name].transcripts)
        np.testing.assert_array_equal(split.target, expected.splits[name].target)
        assert not split.unimodal_targets
    assert dataset.record["ignored_keys"] == ["speaker"]


def test_the_fingerprint_is_of_the_table(folder: Path) -> None:
    first = text_of(folder).fingerprint
    assert text_of(folder, context={"text": 2}).fingerprint == first
    write_table(folder, changed(3, text="other"))
    assert text_of(folder).fingerprint != first


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"label": "high"}, "line 4 (vid_0/0011): label 'high' is not a number"),
        ({"label": " "}, "line 4 (vid_0/0011): label is empty"),
        ({"label": "nan"}, "line 4 (vid_0/0011): label is NaN"),
        ({"label": "3.5"}, "line 4 (vid_0/0011): label 3.5 is outside [-3, 3]"),
        ({"label": "-inf"}, "label -inf is outside"),
        ({"label": "1_0"}, "label '1_0' is not a number"),
        ({"label": "-1,5"}, "label '-1,5' is not a number; write a point, not a comma"),
        ({"mode": "dev"}, "line 4 (vid_0/0011): mode 'dev' is none of train, valid, test"),
        ({"video_id": "../other"}, "video_id '../other' is a path"),
        ({"video_id": "/etc"}, "video_id '/etc' is a path"),
        ({"video_id": ".."}, "video_id '..' is a path"),
        ({"clip_id": "a/b"}, "clip_id 'a/b' is a path"),
        ({"clip_id": "a\\b"}, "clip_id 'a\\\\b' is a path"),
        ({"clip_id": "C:x"}, "clip_id 'C:x' is a path"),
        ({"clip_id": ""}, "clip_id is empty"),
    ],
)
def test_rows_that_cannot_be_used_are_named(folder: Path, cells: dict[str, str], expected: str) -> None:
    text = message(folder, changed(4, **cells))
    assert expected in text
    assert "1 of 12 rows" in text


def test_all_bad_rows_are_in_one_error(folder: Path) -> None:
    text = message(folder, [{**row, "label": "x"} for row in make_rows()])
    assert "12 of 12 rows cannot be used: line 2 (vid_0/0009)" in text
    assert "line 11" in text
    assert "line 12" not in text


def test_lines_are_counted_in_the_file(folder: Path) -> None:
    rows = changed(2, text="a\nb\nc")
    rows[3]["label"] = "x"
    assert "line 7 (vid_1/0009)" in message(folder, rows)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the column video_id, clip_id, text, mode, label is missing"),
        (b"video_id,clip_id,text,label\n", "the column mode is missing; it has video_id, clip_id, text, label"),
        (b"video_id;clip_id;text;label;mode\na;1;well, yes;1;train\n", "semicolons stand between its columns; save it with commas"),
        (b"video_id\tclip_id\ttext\tlabel\tmode\n", "tabs stand between its columns"),
        (b"video_id,clip_id,text,label,mode,text\n", "the column text stands there twice"),
        (b"video_id,clip_id,text,label,mode\na,1,well, yes,1,train\n", "line 2 has 6 cells, not 5; a text with commas"),
        (b'video_id,clip_id,text,label,mode\n\na,1,"open,1,train\n', "line 3"),
        ("video_id,clip_id,text,label,mode\na,1,不,1,train\n".encode("gbk"), "line 2 is not UTF-8"),
        ("video_id,clip_id,text,label,mode\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"video_id,clip_id,text,label,mode\na,1,x,1,train\n", "no row has mode valid, test"),
    ],
)
def test_what_is_no_such_table(folder: Path, content: bytes, expected: str) -> None:
    (folder / "label.csv").write_bytes(content)
    with pytest.raises(DataError) as error:
        text_of(folder)
    assert expected in str(error.value)
    assert str(folder / "label.csv") in str(error.value)


def test_a_sample_that_stands_twice_is_refused(folder: Path) -> None:
    assert "first vid_0/9, twice in train" in message(folder, changed(4, clip_id="9"))
    assert "first vid_0/9, in train and in test" in message(folder, changed(13, video_id="vid_0", clip_id="009"))


def test_other_splits_stop_unless_they_are_accepted(folder: Path) -> None:
    rows = changed(4, mode="test")
    assert "split train is not the published one" in message(folder, rows)
    assert text_of(folder, make_rows(), splits="own").record["split_status"] == "own"


def test_empty_texts_and_unusable_labels_of_modalities_are_warned_about(folder: Path) -> None:
    write_table(folder, changed(5, text=" ", label_A="", label_T="9"))
    dataset = text_of(folder)
    warnings = "\n".join(dataset.record["warnings"])
    assert "1 transcripts are empty, first vid_1/9" in warnings
    assert "text: its own labels are left out: label_T 9 is outside [-3, 3]" in warnings
    assert "label_A" not in warnings  # audio is not in use
    assert not dataset.splits["train"].unimodal_targets


def test_classes_come_from_the_annotation_else_from_integers(folder: Path) -> None:
    rows = [{**row, "annotation": ("Happy", "SAD ")[i % 2], "label": "7"} for i, row in enumerate(make_rows())]
    write_table(folder, rows)
    named = text_of(folder, manifest=EMOTIONS)
    np.testing.assert_array_equal(named.splits["train"].target, [0, 1, 0, 1, 0, 1])
    assert (named.classes, named.splits["train"].target.dtype, named.splits["train"].unimodal_targets) == (("happy", "sad"), np.int64, {})
    for label, annotation in (("1.0", ""), ("sad", " ")):
        write_table(folder, [{**row, "annotation": annotation, "label": label} for row in make_rows()])
        assert text_of(folder, manifest=EMOTIONS).splits["train"].target.tolist() == [1] * 6
    for cells, expected in (
        ({"annotation": "angry"}, "annotation 'angry' is none of happy, sad"),
        ({"annotation": "1"}, "annotation '1' is none of happy, sad"),
        ({"annotation": ""}, "annotation is empty"),
    ):
        assert expected in message(folder, [{**rows[0], **cells}, *rows[1:]], manifest=EMOTIONS)
    plain = [{**row, "annotation": "", "label": "0"} for row in make_rows()]
    for label in ("2", "0.5", "-1", "inf", "x"):
        assert f"label '{label}' is none of happy, sad" in message(folder, [{**plain[0], "label": label}, *plain[1:]], manifest=EMOTIONS)
    write_table(folder, make_rows(), tuple(name for name in COLUMNS if name not in ("label", "annotation")))
    with pytest.raises(DataError, match=r"annotation or label is missing"):
        text_of(folder, manifest=EMOTIONS)


@pytest.mark.parametrize(
    ("modalities", "tokens", "parts"),
    [
        (("text",), (), ["holds raw text", "model.encoders.text"]),
        (("text", "audio"), ("text",), ["audio cannot be used", "model.encoders.audio"]),
        (None, ("text",), ["vision cannot be used: raw video is not read here", "--set 'data.modalities=[text,audio]'"]),
        (("vision",), (), ["raw video is not read here", "--set 'data.modalities=[text,audio]'"]),
    ],
)
def test_what_a_raw_folder_does_not_hold(folder: Path, modalities: Any, tokens: tuple[str, ...], parts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        load_dataset(make_config(folder, make_rows(), modalities=modalities), tokens=frozenset(tokens))
    assert all(part in str(error.value) for part in parts)
    assert ("--set 'data.modalities" in str(error.value)) == (modalities is None or "vision" in modalities)


def test_finding_a_raw_folder(folder: Path, tmp_path: Path, write: Any) -> None:
    config = make_config(folder, make_rows(), {"raw": ["Mine"]})
    assert locate(config) == folder
    assert locate(config.model_copy(update={"path": str(folder / "label.csv")})) == folder
    by_name = config.model_copy(update={"path": None})
    assert locate(by_name, tmp_path) == folder
    assert locate(by_name, folder) == folder
    with pytest.raises(DataError, match=r"label.csv, Mine/label.csv"):
        locate(by_name, tmp_path / "nowhere")
    write(make_content(), name="tiny.pkl")
    assert locate(by_name, tmp_path) == tmp_path / "tiny.pkl"  # features, unless an encoder reads waveforms
    assert locate(by_name, tmp_path, raw=True) == folder
    shutil.copy(tmp_path / "tiny.pkl", folder / "tiny.pkl")
    assert locate(config) == folder / "tiny.pkl"
    assert locate(config, raw=True) == folder
    assert locate(config.model_copy(update={"path": str(folder / "label.csv")})) == folder


def test_manifests_name_raw_folders() -> None:
    assert load_manifest("mosi").raw == ("MOSI", "CMU-MOSI")


@pytest.mark.parametrize("key", ["text_bert", None])
def test_a_pickle_with_transcripts_alone_is_to_be_tokenised(write: Any, content: Any, key: str | None) -> None:
    whole = load_dataset(write(content), tokens=TEXT)
    assert whole.splits["train"].inputs["text"].values.shape == (12, 6)
    for part in content.values():
        part.pop("text_bert")
        if key is None:
            del part["text"]
    dataset = load_dataset(write(content), tokens=TEXT)
    assert dataset.splits["train"].inputs["text"].values.shape == (12, 0)
    assert dataset.splits["train"].transcripts[1] == "sentence 1"
    assert dataset.splits["train"].inputs["audio"].kind == "features"
    assert load_dataset(write(content, max_length={"text": 3}), tokens=TEXT).splits["test"].inputs["text"].mask.shape == (7, 0)
    del content["test"]["raw_text"]
    with pytest.raises(DataError, match="has no token ids to use"):
        load_dataset(write(content), tokens=TEXT)


def test_tokens_in_some_splits_alone_are_not_used(write: Any, content: Any) -> None:
    del content["test"]["text_bert"]
    with pytest.raises(DataError, match="text_bert is missing in split test"):
        load_dataset(write(content), tokens=TEXT)


@pytest.mark.parametrize("simulated", [False, True])
def test_features_have_no_waveforms(write: Any, content: Any, simulated: bool) -> None:
    config = DataConfig(name="mosi", simulated=True, samples=30) if simulated else write(content)
    with pytest.raises(DataError, match="features, not waveforms"):
        load_dataset(config, waveforms=frozenset({"audio"}))
    with pytest.raises(DataError, match="only audio has a waveform, not text"):
        load_dataset(config, waveforms=TEXT)


def test_the_reader_alone(folder: Path, tmp_path: Path) -> None:
    make_config(folder, make_rows())
    document = read(folder, load_manifest(tmp_path / "raw.yaml")).document()
    assert document["clips"]["valid"] == ["vid_2/0009", "vid_2/0010", "vid_2/0011"]
