from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data.checks import describe
from mmbench.data.find import locate
from mmbench.data.formats.conversations import ConversationsFormat
from mmbench.data.load import load_dataset
from mmbench.errors import DataError

from .conversation_fixtures import FOLDERS, SIX, as_python2, iemocap, iemocap_manifest, nine_tuple, save_features, six_tuple, write_iemocap
from .format_fixtures import write_pickle

FOUR = {"happy": 0, "excited": 0, "sad": 1, "neutral": 2, "angry": 3}


def dataset(tmp_path: Path, path: Path, protocol: str | None = None, part: str | None = None) -> Any:
    return load_dataset(DataConfig(name=iemocap_manifest(tmp_path), path=str(path), protocol=protocol, part=part))


def check(found: Any, wanted: dict[str, int], test: str = "Ses05", frames: bool = True) -> None:
    """That the data set holds what was written: classes, features and sentences by id, and every utterance once."""
    utterances = {each.id: each for each in iemocap(frames) if each.emotion in wanted}
    ids = [name for split in found.splits.values() for name in split.ids]
    assert sorted(ids) == sorted(utterances)
    assert set(found.splits["test"].ids) == {name for name in utterances if name.startswith(test)}
    for split in found.splits.values():
        for row, name in enumerate(split.ids):
            each = utterances[name]
            assert split.target[row] == wanted[each.emotion]
            assert split.transcripts[row] == each.sentence
            for modality, array in each.features.items():
                expected = np.atleast_2d(array).astype(np.float32)
                length = int(split.inputs[modality].mask[row].sum())
                assert length == len(expected)
                np.testing.assert_array_equal(split.inputs[modality].values[row, :length], expected)


@pytest.mark.parametrize("python2", [False, True])
def test_six_classes_with_a_file_for_each_utterance(tmp_path: Path, python2: bool) -> None:
    found = dataset(tmp_path, write_iemocap(tmp_path / "data", python2=python2))
    check(found, {name: i for i, name in enumerate(SIX)})
    assert found.record["layout"] == "unaligned"
    assert found.record["reader"]["name"] == "conversations"
    train = {name.rpartition("/")[0] for name in found.splits["train"].ids}
    assert train.isdisjoint(name.rpartition("/")[0] for name in found.splits["valid"].ids)
    assert len(found.splits["valid"]) >= 0.1 * 60


@pytest.mark.parametrize("four", [False, True])
def test_four_classes_from_either_pickle(tmp_path: Path, four: bool) -> None:
    found = dataset(tmp_path, write_iemocap(tmp_path / "data", four=four, frames=False), "4way_session5")
    check(found, FOUR, frames=False)
    assert found.classes == ("happy", "sad", "neutral", "angry")
    assert found.record["layout"] == "aligned"


@pytest.mark.parametrize("session", [1, 4, 5])
def test_folds(tmp_path: Path, session: int) -> None:
    check(dataset(tmp_path, write_iemocap(tmp_path / "data"), "4way_5fold", f"session{session}"), FOUR, f"Ses0{session}")


def test_both_pickles_in_one_folder(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "data")
    write_iemocap(tmp_path / "data", four=True)
    check(dataset(tmp_path, tmp_path / "data"), {name: i for i, name in enumerate(SIX)})
    check(dataset(tmp_path, tmp_path / "data", "4way_session5"), FOUR)
    check(dataset(tmp_path, tmp_path / "data" / "IEMOCAP_features_raw_6way.pkl", "4way_session5"), FOUR)


@pytest.mark.parametrize("python2", [False, True])
def test_features_in_the_pickle(tmp_path: Path, python2: bool) -> None:
    content = nine_tuple(iemocap(frames=False))
    path = tmp_path / "IEMOCAP_features.pkl"
    path.write_bytes(as_python2(content) if python2 else pickle.dumps(content))
    found = dataset(tmp_path, path)
    assert found.record["reader"]["name"] == "conversations"
    check(found, {name: i for i, name in enumerate(SIX)}, frames=False)


def test_ids_in_bytes_and_arrays_numpy_integers_and_a_defaultdict(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "data")
    ids, labels, *rest = six_tuple(iemocap(), four=False)
    ids = {name: np.array([each.encode() for each in values]) for name, values in ids.items()}
    labels = defaultdict(list, {name: [np.int64(each) for each in values] for name, values in labels.items()})
    write_pickle(tmp_path / "data" / "IEMOCAP_features_raw_6way.pkl", (ids, labels, *rest[:2], np.array(rest[2]), tuple(rest[3])))
    check(dataset(tmp_path, tmp_path / "data"), {name: i for i, name in enumerate(SIX)})


def test_a_named_choice_of_folders(tmp_path: Path) -> None:
    folder = write_iemocap(tmp_path / "data") / "features"
    other = {each.name: each.features["text"] + 1 for each in iemocap()}
    save_features(folder / "roberta-large", other)
    with pytest.raises(DataError, match=r"several folders of text features: deberta-large-4-UTT, roberta-large\. Choose in .*features\.yaml"):
        dataset(tmp_path, tmp_path / "data")
    choice = folder / "features.yaml"
    choice.write_text("text: roberta-large\naudio: wav2vec-large-c-UTT\n")
    found = load_dataset(DataConfig(name=iemocap_manifest(tmp_path), path=str(tmp_path / "data"), modalities=("text", "audio")))
    row = found.splits["test"].ids.index("Ses05F_script01_1/F000")
    np.testing.assert_array_equal(found.splits["test"].inputs["text"].values[row, 0], other["Ses05F_script01_1_F000"].astype(np.float32))
    with pytest.raises(DataError, match="vision cannot be used: the file has none"):
        dataset(tmp_path, tmp_path / "data")
    for wrong in ("text: nothing\n", "smell: roberta-large\n", "text: [1]\n"):
        choice.write_text(wrong)
        with pytest.raises(DataError, match=r"features\.yaml"):
            dataset(tmp_path, tmp_path / "data")


def test_another_feature_file_is_other_data(tmp_path: Path) -> None:
    folder = write_iemocap(tmp_path / "data")
    first = dataset(tmp_path, folder).fingerprint
    path = folder / "features" / FOLDERS["audio"] / "Ses05F_script01_1_F000.npy"
    np.save(path, np.load(path) + 1)
    assert dataset(tmp_path, folder).fingerprint != first
    assert dataset(tmp_path, folder / "IEMOCAP_features_raw_6way.pkl").fingerprint != first


def test_the_folder_is_found_under_the_data_root(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "root" / "iemocap")
    found = load_dataset(DataConfig(name=iemocap_manifest(tmp_path)), root=tmp_path / "root")
    check(found, {name: i for i, name in enumerate(SIX)})


def broken(folder: Path, what: str) -> None:
    content = list(six_tuple(iemocap(), four=False))
    features = folder / "features" / FOLDERS["audio"]
    if what == "lost":
        (features / "Ses05F_script01_1_F000.npy").unlink()
    elif what == "cut":
        path = features / "Ses05F_script01_1_F000.npy"
        path.write_bytes(path.read_bytes()[:100])
    elif what == "objects":
        np.save(features / "Ses05F_script01_1_F000.npy", np.array([{}]), allow_pickle=True)
    elif what == "cube":
        np.save(features / "Ses05F_script01_1_F000.npy", np.zeros((1, 2, 3)))
    elif what == "width":
        np.save(features / "Ses05F_script01_1_F000.npy", np.zeros((2, 9)))
    elif what == "label":
        content[1]["Ses01F_script01_1"][0] = 9
    elif what == "short":
        content[3]["Ses01F_script01_1"].pop()
    elif what == "dialogue":
        content[4].append("Ses09F")
    elif what == "text":
        content[1]["Ses01F_script01_1"] = "abc"
    elif what == "folders":
        for name in FOLDERS.values():
            (folder / "features" / name).rename(
                folder / name.replace("UTT", "x").replace("deberta", "t").replace("wav2vec", "a").replace("manet", "v")
            )
    write_pickle(folder / "IEMOCAP_features_raw_6way.pkl", tuple(content))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("lost", r"1 of .* utterances have no file there, first Ses05F_script01_1_F000\.npy"),
        ("cut", r"F000\.npy: cannot be read as an array"),
        ("objects", r"F000\.npy: cannot be read as an array"),
        ("cube", r"has the shape \(1, 2, 3\)"),
        ("width", "audio: samples of other widths: 3 and 9"),
        ("label", "'9' is none of the classes"),
        ("short", "dialogue 'Ses01F_script01_1' has unlike numbers of id 4, labels 4, raw_text 3"),
        ("dialogue", "1 dialogues of train have no utterances, first 'Ses09F'"),
        ("text", "labels of dialogue 'Ses01F_script01_1' is a str"),
        ("folders", r"no folder with one \.npy for each utterance; folders of other names need a features\.yaml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, what: str, message: str) -> None:
    folder = write_iemocap(tmp_path / "data")
    broken(folder, what)
    with pytest.raises(DataError, match=message):
        dataset(tmp_path, folder)


@pytest.mark.parametrize("content", [(1, 2), ({}, {}, {}, {}, [], [], {}), {"a": 1}, [{}] * 6, ({}, {}, {}, {}, {}, {}, [], [], {})])
def test_other_pickles_are_not_recognised(tmp_path: Path, content: Any) -> None:
    path = write_pickle(tmp_path / "x.pkl", content)
    assert not ConversationsFormat().recognises(path)
    with pytest.raises(DataError, match="no pickle by dialogue"):
        load_dataset(DataConfig(name="iemocap", path=str(path), format="conversations"))


@pytest.mark.parametrize("wanted", SIX[:4])
def test_the_binary_tasks_from_the_classes_of_dialogues(tmp_path: Path, wanted: str) -> None:
    """The four-class pickle names its classes, so the binary tasks can be made of it, divided as the file is."""
    write_iemocap(tmp_path / "data", four=True)
    content = six_tuple(iemocap(), four=True)
    write_pickle(tmp_path / "data" / "IEMOCAP_features_raw_4way.pkl", (*content[:4], content[4][2:], content[4][:2], content[5]))
    found = dataset(tmp_path, tmp_path / "data", "mult_4binary", wanted)
    check(found, {name: int({"excited": "happy"}.get(name, name) == wanted) for name in SIX if name != "frustrated"})
    assert found.classes == (f"not {wanted}", wanted)


# MulT's file: an answer of yes or no for each of four emotions, as two columns each


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize(("part", "column"), [("neutral", 0), ("happy", 1), ("sad", 2), ("angry", 3)])
def test_the_binary_tasks_of_mult(tmp_path: Path, part: str, column: int, ids: bool) -> None:
    rng = np.random.default_rng(1)
    content, answers = {}, {}
    for split, size in (("train", 9), ("valid", 4), ("test", 6)):
        answers[split] = rng.integers(0, 2, (size, 4))
        content[split] = {name: rng.normal(size=(size, 20, width)) for name, width in (("text", 5), ("audio", 3), ("vision", 2))}
        content[split]["labels"] = np.eye(2)[answers[split]]  # (N, 4, 2)
        if ids:
            content[split]["id"] = np.array([f"Ses01F_{split}_F{i:03d}" for i in range(size)])
    path = write_pickle(tmp_path / "iemocap_data.pkl", content, protocol=2)
    found = dataset(tmp_path, path, "mult_4binary", part)
    assert found.classes == (f"not {part}", part)
    for split, split_of in found.splits.items():
        assert split_of.target.tolist() == answers[split][:, column].tolist()
        assert split_of.ids[3] == (f"Ses01F_{split}/F003" if ids else f"{split}/3")
    page = describe(DataConfig(name="iemocap", protocol="mult_4binary", part=part, path=str(path), splits="own"))
    assert f"not {part}  " in page
    assert "train as published" not in page  # the manifest's counts of labels were never counted in the file
    with pytest.raises(DataError, match=r"yes or no for each of 4 classes.*Choose another with data.protocol: .*mult_4binary"):
        dataset(tmp_path, path)


def test_a_file_that_has_the_published_numbers_alone_is_not_called_more(tmp_path: Path) -> None:
    sizes = {"train": 2717, "valid": 798, "test": 938}
    content: dict[str, Any] = {
        split: {"text": np.ones((size, 1, 1), np.float32), "labels": np.eye(2)[np.arange(4 * size).reshape(size, 4) % 2]}
        for split, size in sizes.items()
    }
    path = write_pickle(tmp_path / "iemocap_data.pkl", content)
    config = DataConfig(name="iemocap", protocol="mult_4binary", part="sad", path=str(path), modalities=("text",))
    told = "which samples are train, valid, test is not published: their numbers are the published ones, and no more is known"
    assert load_dataset(config).record["warnings"].count(told) == 1
    content["train"] = {key: value[1:] for key, value in content["train"].items()}
    write_pickle(path, content)
    assert told not in load_dataset(config.model_copy(update={"splits": "own"})).record["warnings"]


def test_the_folder_of_mult_is_found_for_its_protocol_alone(tmp_path: Path) -> None:
    part = {"labels": np.eye(2)[np.arange(12).reshape(3, 4) % 2], **{name: np.ones((3, 20, 2)) for name in ("text", "audio", "vision")}}
    path = write_pickle(tmp_path / "root" / "IEMOCAP" / "MulT" / "iemocap_data.pkl", dict.fromkeys(("train", "valid", "test"), part))
    config = DataConfig(name="iemocap", protocol="mult_4binary", part="sad")
    assert locate(config, tmp_path / "root") == path
    with pytest.raises(DataError, match="split train is not the published one: 3 samples, 2717 are published"):
        load_dataset(config, tmp_path / "root")
    with pytest.raises(DataError, match="was not found"):
        locate(DataConfig(name="iemocap"), tmp_path / "root")


# the file of one repository: the schema of MMSA with class indices, one vector for each utterance


def mmsa_file(path: Path, empty: bool = False) -> Path:
    content: dict[str, Any] = {}
    for split, sessions in (("train", "1234"), ("test", "5")):
        chosen = [each for each in iemocap(frames=False) if each.name[4] in sessions]
        content[split] = {
            "id": [each.name for each in chosen],
            "raw_text": [each.sentence for each in chosen],
            "classification_labels": np.array([SIX.index(each.emotion) for each in chosen]),
            **{name: np.stack([each.features[name].reshape(1, -1) for each in chosen]) for name in ("text", "audio", "vision")},
        }
        if empty:
            content[split]["text"] = np.zeros_like(content[split]["text"])
    own = {"Ses04M_impro01", "Ses03F_script01_1"}
    keep = np.array([name.rpartition("_")[0] not in own for name in content["train"]["id"]])
    content["valid"] = {key: [value[i] for i in np.flatnonzero(~keep)] for key, value in content["train"].items()}
    content["train"] = {key: [value[i] for i in np.flatnonzero(keep)] for key, value in content["train"].items()}
    return write_pickle(path, content)


def test_the_schema_of_mmsa_keeps_its_own_validation(tmp_path: Path) -> None:
    path = mmsa_file(tmp_path / "iemocap_data.pkl")
    found = dataset(tmp_path, path)
    check(found, {name: i for i, name in enumerate(SIX)}, frames=False)
    assert {name.rpartition("/")[0] for name in found.splits["valid"].ids} == {"Ses04M_impro01", "Ses03F_script01_1"}
    assert found.record["layout"] == "aligned"
    four = dataset(tmp_path, path, "4way_session5")
    check(four, FOUR, frames=False)
    assert {name.rpartition("/")[0] for name in four.splits["valid"].ids} == {"Ses04M_impro01", "Ses03F_script01_1"}
    check(dataset(tmp_path, path, "4way_5fold", "session2"), FOUR, "Ses02", frames=False)


def test_features_of_zeros_are_refused(tmp_path: Path) -> None:
    path = mmsa_file(tmp_path / "iemocap_data.pkl", empty=True)
    with pytest.raises(DataError, match="text cannot be used: every value of it in split train, valid, test is zero"):
        dataset(tmp_path, path)
