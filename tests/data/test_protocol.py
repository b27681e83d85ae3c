from __future__ import annotations

import hashlib
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench import strict_yaml
from mmbench.config import DataConfig
from mmbench.data.checks import describe
from mmbench.data.load import load_dataset, open_source
from mmbench.data.manifest import Manifest, load_manifest
from mmbench.data.protocol import divide, validation_videos
from mmbench.errors import ConfigError, DataError

SOURCE = ["a", "b", "c"]  # classes of the source; a protocol makes two of them
PROTOCOLS = {
    "three": {"validation": 0.2},
    "two": {"classes": ["a", "b"], "merge": {"c": "a"}, "prototypes": 2},
    "less": {"classes": ["a", "b"], "drop": ["c"], "prototypes": 2, "splits": {}},
    "folds": {
        "validation": 0.3,
        "splits": {},
        "parts": {"first": {"test": "^v0/"}, "second": {"test": "^v1/"}, "none": {"test": "^x"}, "all": {"test": "v"}},
    },
    "tasks": {"classes": ["no", "yes"], "prototypes": 2, "splits": {}, "parts": {name: {"positive": name} for name in SOURCE}},
}


def manifest(**changes: Any) -> dict[str, Any]:
    shapes = {"text": {"length": 1, "width": 2}, "audio": {"length": 4, "width": 3}}
    return {
        "name": "small",
        "title": "Small",
        "task": "classification",
        "classes": SOURCE,
        "source_classes": SOURCE,
        "prototypes": 3,
        "modalities": ["text", "audio"],
        "metrics": ["wacc"],
        "layouts": {"unaligned": {"files": ["small.pkl"], "shapes": shapes}},
        "protocols": PROTOCOLS,
        **changes,
    }


def content(splits: dict[str, int], labels: Any = None) -> dict[str, Any]:
    """Rows of videos v0, v1, ...: four clips each; every value says which row it is. `audio` is a list of sequences, `text` an array."""
    found: dict[str, Any] = {}
    start = 0
    for split, size in splits.items():
        rows = range(start, start + size)
        found[split] = {
            "id": [f"v{i // 4}_{i % 4:02d}".encode() for i in rows],
            "raw_text": np.array([f"row {i}" for i in rows], dtype=object),
            "text": np.array([[i, i] for i in rows], np.float64) + 1,
            "audio": [np.full((1 + i % 4, 3), i + 1, np.float32) for i in rows],
            "classification_labels": np.array([i % 3 for i in rows], np.float64) if labels is None else [labels[i % 3] for i in rows],
            "annotations": [f"{i}" for i in rows],
        }
        start += size
    return found


def save(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(strict_yaml.dump(manifest(**changes)))
    return path


def load(tmp_path: Path, protocol: str, part: str | None = None, **changes: Any) -> Manifest:
    return load_manifest(save(tmp_path, **changes), protocol, part)


def rows(part: Any) -> list[int]:
    """Which rows a split has, checked in everything that has one value for each row."""
    found = [int(str(text).split()[1]) for text in part["raw_text"]]
    assert [int(values[0]) - 1 for values in np.asarray(part["text"])] == found
    assert [int(values[0, 0]) - 1 for values in part["audio"]] == found
    assert [len(values) for values in part["audio"]] == [1 + i % 4 for i in found]
    assert [bytes(name).decode() for name in part["id"]] == [f"v{i // 4}_{i % 4:02d}" for i in found]
    assert [int(text) for text in part["annotations"]] == found
    return found


@pytest.mark.parametrize("labels", [None, ["a", "b", "c"], [b"A", b"b", b"C "], [0, 1, 2]])
def test_classes_are_merged_by_name_and_by_index(tmp_path: Path, labels: Any) -> None:
    source = content({"train": 12, "valid": 4, "test": 8}, labels)
    result = divide(Path("x"), load(tmp_path, "two"), source)
    for split, part in result.items():
        assert rows(part) == rows(source[split])
        assert part["classification_labels"].tolist() == [{0: 0, 1: 1, 2: 0}[i % 3] for i in rows(part)]
    assert result["train"]["text"] is source["train"]["text"]  # nothing left out: no copy


@pytest.mark.parametrize("labels", [None, ["a", "b", "c"]])
def test_dropped_classes_take_their_rows_with_them(tmp_path: Path, labels: Any) -> None:
    result = divide(Path("x"), load(tmp_path, "less"), content({"train": 12, "valid": 4, "test": 8}, labels))
    assert rows(result["train"]) == [0, 1, 3, 4, 6, 7, 9, 10]
    assert rows(result["valid"]) == [12, 13, 15]
    assert result["train"]["classification_labels"].tolist() == [0, 1] * 4


def test_indices_of_a_source_that_has_the_protocols_classes_mean_those(tmp_path: Path) -> None:
    source = content({"train": 12, "valid": 4, "test": 8}, ["a", "b", "b"])
    for part in source.values():
        part["classification_labels"] = [SOURCE.index(name) for name in part["classification_labels"]]  # no 2 among them
    result = divide(Path("x"), load(tmp_path, "less"), source)
    assert len(rows(result["train"])) == 12


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b", "z"], "'z' is none of the classes a, b, c"),
        ([0, 1, 3], r"3 is outside \[0, 2\]"),
        ([0, 1, -1], r"-1 is outside"),
        ([0, 1, 0.5], "not integers"),
        ([[0, 1, 2], [0, 0, 1], [0, 0, 0]], "other values than 0 and 1"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], "yes or no for each of 3 classes.*data.protocol: three, less, folds, tasks"),
    ],
)
def test_labels_that_are_none_of_the_protocols(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        divide(Path("x"), load(tmp_path, "two"), content({"train": 12, "valid": 4, "test": 8}, labels))


def test_a_class_of_which_the_protocol_says_nothing(tmp_path: Path) -> None:
    protocols = {"two": {"classes": ["a", "b"], "prototypes": 2}}
    with pytest.raises(DataError, match="class c is neither among a, b nor merged or dropped by the protocol two"):
        divide(Path("x"), load(tmp_path, "two", protocols=protocols), content({"train": 12, "valid": 4, "test": 8}))


@pytest.mark.parametrize("part", SOURCE)
def test_one_class_against_the_others(tmp_path: Path, part: str) -> None:
    table = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]])  # a row may have several
    column = SOURCE.index(part)
    result = divide(Path("x"), load(tmp_path, "tasks", part), content({"train": 12, "valid": 4, "test": 8}, table))
    assert result["train"]["classification_labels"].tolist() == [table[i % 3, column] for i in range(12)]
    result = divide(Path("x"), load(tmp_path, "tasks", part), content({"train": 12, "valid": 4, "test": 8}, SOURCE))
    assert result["train"]["classification_labels"].tolist() == [int(i % 3 == column) for i in range(12)]


def test_a_merged_class_counts_as_the_one_that_is_asked_for(tmp_path: Path) -> None:
    protocols = {"task": {"classes": ["no", "yes"], "merge": {"c": "a"}, "drop": ["b"], "positive": "a"}}
    result = divide(Path("x"), load(tmp_path, "task", protocols=protocols), content({"train": 12, "valid": 4, "test": 8}, SOURCE))
    assert rows(result["train"]) == [0, 2, 3, 5, 6, 8, 9, 11]
    assert result["train"]["classification_labels"].tolist() == [1] * 8


@pytest.mark.parametrize(("labels", "message"), [(None, "an index alone does not say"), ([[0, 1], [1, 0], [1, 1]], "2 columns, not one for each of")])
def test_labels_that_do_not_name_the_class_that_is_asked_for(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        divide(Path("x"), load(tmp_path, "tasks", "a"), content({"train": 12, "valid": 4, "test": 8}, labels))


def test_single_samples_are_left_out_whatever_the_spelling_of_their_ids(tmp_path: Path) -> None:
    digests = [hashlib.sha256(name).hexdigest()[:12] for name in (b"v0/2", b"v2/0", b"v3/1")]
    protocols = {"left": {"leave_out": digests}}
    result = divide(Path("x"), load(tmp_path, "left", protocols=protocols), content({"train": 12, "valid": 4, "test": 8}))
    assert rows(result["train"]) == [0, 1, 3, 4, 5, 6, 7, 9, 10, 11]
    assert rows(result["valid"]) == [12, 14, 15]
    assert rows(result["test"]) == list(range(16, 24))


def by_hash(videos: list[str]) -> list[str]:
    return sorted(set(videos), key=lambda name: hashlib.sha256(name.encode()).digest())


def test_validation_is_cut_from_training_in_whole_videos(tmp_path: Path) -> None:
    result = divide(Path("x"), load(tmp_path, "three"), content({"train": 18, "test": 8}))  # v0 .. v3, and half of v4
    order = by_hash([f"v{i}" for i in range(5)])
    share, expected = 0, []
    while share < 3.6:
        expected.append(order[len(expected)])
        share += 2 if expected[-1] == "v4" else 4
    assert rows(result["valid"]) == [i for i in range(18) if f"v{i // 4}" in expected]
    assert rows(result["train"]) == [i for i in range(18) if f"v{i // 4}" not in expected]
    assert rows(result["test"]) == list(range(18, 26))


def test_a_validation_split_of_the_sources_own_is_kept(tmp_path: Path) -> None:
    source = content({"train": 12, "valid": 4, "test": 8})
    result = divide(Path("x"), load(tmp_path, "three"), source)
    assert {split: rows(part) for split, part in result.items()} == {split: rows(part) for split, part in source.items()}


def test_an_empty_validation_split_is_none(tmp_path: Path) -> None:
    source = content({"train": 18, "valid": 0, "test": 8})
    assert len(rows(divide(Path("x"), load(tmp_path, "three"), source)["valid"])) == 4


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60), st.floats(0.01, 0.99), st.randoms())
def test_the_cut_does_not_depend_on_the_order_of_rows(videos: list[str], share: float, shuffle: random.Random) -> None:
    expected, taken = set(), 0
    for video in by_hash(videos):
        if taken < share * len(videos):
            expected.add(video)
            taken += videos.count(video)
    shuffled = list(videos)
    shuffle.shuffle(shuffled)
    if expected == set(videos):
        with pytest.raises(ValueError, match="too few"):
            validation_videos(shuffled, share)
    else:
        assert validation_videos(shuffled, share) == expected


def test_a_share_that_is_met_exactly_is_enough() -> None:
    assert validation_videos([name for name in "abcde" for _ in range(2)], 0.2) == frozenset(by_hash(list("abcde"))[:1])


def test_folds_divide_all_samples_anew(tmp_path: Path) -> None:
    source = content({"train": 12, "valid": 4, "test": 8})
    seen = []
    for part, video in (("first", 0), ("second", 1)):
        result = divide(Path("x"), load(tmp_path, "folds", part), source)
        assert rows(result["test"]) == list(range(4 * video, 4 * video + 4))
        together = sorted(rows(result["train"]) + rows(result["valid"]) + rows(result["test"]))
        assert together == list(range(24))
        assert {i // 4 for i in rows(result["train"])}.isdisjoint(i // 4 for i in rows(result["valid"]))
        assert 6 <= len(rows(result["valid"])) <= 9  # 0.3 of 20, filled up to whole videos of four
        seen.append(rows(result["valid"]))
    shuffled = {name: source[name] for name in ("test", "train", "valid")}
    assert rows(divide(Path("x"), load(tmp_path, "folds", "first"), shuffled)["valid"]) == seen[0]


def test_arrays_are_put_together_as_arrays(tmp_path: Path) -> None:
    source = content({"train": 12, "valid": 4, "test": 8})
    for part in source.values():
        part["audio"] = np.repeat(np.asarray(part["text"])[:, None, :1], 4, axis=1).repeat(3, axis=2)
        part["audio_lengths"] = [1 + int(value) % 4 for value in part["text"][:, 0]]
    result = divide(Path("x"), load(tmp_path, "folds", "second"), source)
    test = result["test"]
    np.testing.assert_array_equal(test["audio"], np.broadcast_to(np.arange(5, 9)[:, None, None], (4, 4, 3)))
    assert test["audio_lengths"] == [2, 3, 4, 1]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("none", lambda source: None, r"none of the 24 ids match '\^x'"),
        ("all", lambda source: None, "all of the 24 ids match"),
        ("first", lambda source: source["valid"].pop("audio"), "only the split train, test has audio"),
        ("first", lambda source: source["test"].update(text=np.ones((8, 5, 2))), r"text has unlike shapes \(train \(12, 2\)"),
        ("first", lambda source: source["test"]["audio"].pop(), "audio has not as many entries"),
        ("first", lambda source: source["test"].update(id=[None] * 8), "an id must be text"),
    ],
)
def test_what_cannot_be_divided_anew(tmp_path: Path, part: str, change: Any, message: str) -> None:
    source = content({"train": 12, "valid": 4, "test": 8})
    change(source)
    with pytest.raises(DataError, match=message):
        divide(Path("x"), load(tmp_path, "folds", part), source)


def test_one_video_is_too_few_to_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 1 videos, too few"):
        divide(Path("x"), load(tmp_path, "three"), content({"train": 4, "test": 8}))


@pytest.mark.parametrize("source", [[1], {"train": {"text": [1]}}, {"train": 3}, {}])
def test_what_is_no_content_is_left_to_the_checks_there(tmp_path: Path, source: Any) -> None:
    assert divide(Path("x"), load(tmp_path, "three"), source) in (source, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": ["z"]}, "drop names z, which source_classes does not"),
        ({"merge": {"z": "a"}}, "merge names z"),
        ({"merge": {"a": "z"}}, "merge makes z, which classes does not name"),
        ({"positive": "a"}, "positive needs two classes"),
        ({"test": "("}, "not a regular expression"),
        ({"validation": 1}, "validation"),
    ],
)
def test_mistakes_of_a_protocol(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, "bad", protocols={"bad": changes})


def test_a_file_under_its_protocols(tmp_path: Path) -> None:
    description, path = save(tmp_path), tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content({"train": 18, "test": 8})))
    found = {}
    for protocol, part in (("three", None), ("folds", "first"), ("folds", "second"), ("two", None)):
        config = DataConfig(name=str(description), path=str(path), protocol=protocol, part=part, splits="own")
        if protocol == "two":
            with pytest.raises(DataError, match="split valid is missing"):
                load_dataset(config)
        else:
            found[protocol, part] = load_dataset(config)
    assert len({dataset.fingerprint for dataset in found.values()}) == 3
    assert {name.rpartition("/")[0] for name in found["folds", "second"].splits["test"].ids} == {"v1"}
    np.testing.assert_array_equal(found["folds", "second"].splits["test"].inputs["text"].values[:, 0, 0], [5, 6, 7, 8])


def test_the_page_counts_labels_over_what_is_published_as_one(tmp_path: Path) -> None:
    path, source = tmp_path / "file.pkl", content({"train": 18, "test": 8})
    path.write_bytes(pickle.dumps(source))
    splits = {"train+valid": {"size": 18}, "test": {"size": 8}}
    changes = {"splits": splits, "sizes": {"train": 14, "valid": 4, "test": 8}, "labels": {"values": [0, 1, 2], "counts": [6, 7, 6]}}
    description = save(tmp_path, protocols={"three": {"validation": 0.2}}, **changes)
    page = describe(DataConfig(name=str(description), path=str(path))).splitlines()
    line = {line.split()[0]: line.split()[4:] for line in page if line[:2] in ("a ", "b ", "c ")}
    assert line == {"a": ["6"], "b": ["7", "differs", "by", "-1"], "c": ["6"]}


def table(folder: Path, features: bool, annotated: bool = True) -> Path:
    """The rows of `content` as a label.csv: names of classes or indices; and with `features` a .npy for each clip."""
    folder.mkdir()
    lines = ["video_id,clip_id,text,label,annotation,mode"]
    for split, part in content({"train": 16, "valid": 4, "test": 8}).items():
        for name, text, label in zip(part["id"], part["raw_text"], part["classification_labels"], strict=True):
            video, clip = name.decode().split("_")
            lines.append(f"{video},{clip},{text},{int(label)},{SOURCE[int(label)] if annotated else ''},{split}")
            if features:
                for modality, array in (("text", np.full(2, int(text[4:]) + 1)), ("audio", np.full((2, 3), int(text[4:]) + 1))):
                    path = folder / modality / video / f"{clip}.npy"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    np.save(path, array)
    (folder / "label.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize(("protocol", "part"), [("three", None), ("less", None), ("folds", "second"), ("tasks", "c")])
def test_tables_are_divided_as_files_are(tmp_path: Path, protocol: str, part: str | None, features: bool, annotated: bool) -> None:
    folder = table(tmp_path / "data", features, annotated)
    config = DataConfig(name=str(save(tmp_path)), path=str(folder), protocol=protocol, part=part, splits="own")
    found = open_source(config)
    assert found.raw is not features
    expected = divide(Path("x"), load_manifest(config.name, protocol, part), content({"train": 16, "valid": 4, "test": 8}, SOURCE))
    for split, each in expected.items():
        document = found.store.document["splits"][split]
        assert document["transcripts"] == list(each["raw_text"])
        assert found.store.arrays[f"{split}/target"].tolist() == each["classification_labels"].tolist()
        if features:
            np.testing.assert_array_equal(found.store.arrays[f"{split}/features/text"][:, 0, 0], [int(text[4:]) + 1 for text in each["raw_text"]])
        else:
            assert found.store.document["clips"][split] == [name.decode().replace("_", "/") for name in each["id"]]


def test_other_rules_under_the_same_name_are_other_data(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content({"train": 18, "test": 8})))
    fingerprints = set()
    for share in (0.2, 0.5):
        description = save(tmp_path, protocols={"three": {"validation": share}})
        dataset = load_dataset(DataConfig(name=str(description), path=str(path), splits="own"))
        assert len(dataset.splits["valid"]) >= share * 18
        fingerprints.add(dataset.fingerprint)
    assert len(fingerprints) == 2


def test_a_protocol_with_parts_needs_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folds has several parts: choose one with data\.part: first, second"):
        open_source(DataConfig(name=str(save(tmp_path)), path="nothing", protocol="folds"))


@pytest.mark.parametrize("allowed", [True, False])
def test_ids_that_are_unique_within_a_split_only(tmp_path: Path, allowed: bool) -> None:
    source = content({"train": 12, "valid": 4, "test": 8})
    for part in source.values():
        part["id"] = [f"v0_{i}" for i in range(len(part["id"]))]
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(source))
    config = DataConfig(name=str(save(tmp_path, protocols={}, ids_per_split=allowed)), path=str(path))
    if allowed:
        assert load_dataset(config).splits["valid"].ids == ("v0/0", "v0/1", "v0/2", "v0/3")
        source["valid"]["id"][1] = "v0_0"
        path.write_bytes(pickle.dumps(source))
        with pytest.raises(DataError, match="twice in valid"):
            load_dataset(config)
    else:
        with pytest.raises(DataError, match="in train and in valid"):
            load_dataset(config)


@pytest.mark.parametrize("what", ["text", "audio"])
def test_a_modality_of_zeros_cannot_be_used(tmp_path: Path, what: str) -> None:
    source = content({"train": 12, "valid": 4, "test": 8})
    source["valid"][what] = np.zeros((4, 2)) if what == "text" else [np.zeros((1 + i, 3)) for i in range(4)]
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(source))
    with pytest.raises(DataError, match=f"{what} cannot be used: every value of it in split valid is zero"):
        load_dataset(DataConfig(name=str(save(tmp_path)), path=str(path), protocol="three"))
