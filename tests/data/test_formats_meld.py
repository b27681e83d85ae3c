from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data.context import previous_utterances
from mmbench.data.formats.conversations import ConversationsFormat
from mmbench.data.formats.meld import MeldFormat
from mmbench.data.load import load_dataset
from mmbench.errors import DataError

from .conversation_fixtures import SEVEN, as_python2, by_dialogue, meld, meld_manifest, meld_tuple, write_iemocap, write_meld
from .format_fixtures import write_pickle


def dataset(tmp_path: Path, path: Path, modalities: Any = None) -> Any:
    return load_dataset(DataConfig(name=meld_manifest(tmp_path), path=str(path), modalities=modalities))


def check(found: Any, lacking: tuple[str, str] = ("", "")) -> None:
    """That every utterance is there in its split, with its class, sentence and features; `lacking`: split and id of one without audio."""
    for name, split in found.splits.items():
        utterances = [each for each in meld() if each.split == name]
        assert list(split.ids) == [each.id for each in utterances]
        assert split.target.tolist() == [SEVEN.index(each.emotion) for each in utterances]
        assert list(split.transcripts) == [each.sentence for each in utterances]
        for modality, part in split.inputs.items():
            for row, each in enumerate(utterances):
                there = (name, each.id) != lacking or modality != "audio"
                expected = each.features[modality].astype(np.float32) if there else 0
                np.testing.assert_array_equal(part.values[row, 0], expected)
    assert found.classes == tuple(SEVEN)


@pytest.mark.parametrize("flat", [False, True])
def test_the_csv_files_with_a_file_for_each_utterance(tmp_path: Path, flat: bool) -> None:
    found = dataset(tmp_path, write_meld(tmp_path / "MELD", flat=flat))
    check(found)
    assert found.record["reader"]["name"] == "meld"
    assert found.record["layout"] == "aligned"


def test_ids_repeat_between_splits_and_everything_by_id_still_works(tmp_path: Path) -> None:
    found = dataset(tmp_path, write_meld(tmp_path / "MELD"))
    repeated = set(found.splits["train"].ids) & set(found.splits["valid"].ids) & set(found.splits["test"].ids)
    assert repeated == {"dia0/0", "dia0/1", "dia0/3", "dia0/4"}
    assert previous_utterances(found.splits["valid"].ids, 2).tolist() == [[-1, -1], [-1, 0], [0, 1], [1, 2], [-1, -1], [-1, 4], [4, 5], [5, 6]]
    context = load_dataset(DataConfig(name=meld_manifest(tmp_path), path=str(tmp_path / "MELD"), context={"text": 1}))
    for split in found.splits:
        joined, own = context.splits[split].inputs["text_context"].values[:, 0], found.splits[split].inputs["text"].values[:, 0]
        np.testing.assert_array_equal(joined[1:4], own[:3])
        np.testing.assert_array_equal(joined[[0, 4]], 0)


def test_an_utterance_twice_in_one_split_is_refused(tmp_path: Path) -> None:
    folder = write_meld(tmp_path / "MELD")
    path = folder / "dev_sent_emo.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1]]), encoding="utf-8")
    with pytest.raises(DataError, match="dia0/0, twice in valid"):
        dataset(tmp_path, folder)


def test_transcripts_alone(tmp_path: Path) -> None:
    folder = write_meld(tmp_path / "MELD", modalities=())
    with pytest.raises(DataError, match="text cannot be used: the file has none"):
        dataset(tmp_path, folder)
    found = load_dataset(DataConfig(name=meld_manifest(tmp_path), path=str(folder), modalities=("text",)), tokens=frozenset({"text"}))
    assert found.splits["test"].transcripts[0] == '"so", said 16'


@pytest.mark.parametrize("python2", [False, True])
@pytest.mark.parametrize("vision", [False, True])
def test_the_pickle(tmp_path: Path, vision: bool, python2: bool) -> None:
    content = meld_tuple(meld(), vision)
    path = tmp_path / "MELD_features_raw.pkl"
    if python2:
        path.write_bytes(as_python2(content))
    else:
        write_pickle(path, list(content))
    found = dataset(tmp_path, path, None if vision else ("text", "audio"))
    assert found.record["reader"]["name"] == "meld"
    check(found)


def test_numpy_integers_for_keys(tmp_path: Path) -> None:
    items = [
        {np.int64(key): values for key, values in item.items()} if isinstance(item, dict) else np.array(item) for item in meld_tuple(meld(), True)
    ]
    check(dataset(tmp_path, write_pickle(tmp_path / "x.pkl", tuple(items))))


def test_the_pickle_and_the_csv_files_hold_the_same(tmp_path: Path) -> None:
    first = dataset(tmp_path, write_pickle(tmp_path / "x.pkl", meld_tuple(meld(), True)))
    second = dataset(tmp_path, write_meld(tmp_path / "MELD"))
    assert first.fingerprint != second.fingerprint
    for split in first.splits:
        assert first.splits[split].ids == second.splits[split].ids
        np.testing.assert_array_equal(first.splits[split].target, second.splits[split].target)


def test_the_csv_files_as_spreadsheet_programs_save_them(tmp_path: Path) -> None:
    folder = write_meld(tmp_path / "MELD")
    path = folder / "test_sent_emo.csv"
    text = path.read_text(encoding="utf-8").replace('""so"", said 16', "It\u2019s 16").replace("anger", " ANGER ")
    path.write_bytes(text.encode("cp1252"))
    assert dataset(tmp_path, folder).splits["test"].transcripts[0] == "It\u2019s 16"
    path.write_bytes(text.encode("utf-8-sig"))
    found = dataset(tmp_path, folder)
    assert found.splits["test"].transcripts[0] == "It\u2019s 16"
    assert Counter(found.splits["test"].target.tolist()) == Counter(SEVEN.index(each.emotion) for each in meld() if each.split == "test")


def many(tmp_path: Path, count: int) -> Path:
    """A training split of `count` utterances, with audio."""
    folder = write_meld(tmp_path / "MELD")
    path = folder / "train_sent_emo.csv"
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    for i in range(len(lines), count):
        lines.append(f"{i},more,Ross,joy,neutral,7,{i},1,2,0,1")
        for modality, width in (("text", 4), ("audio", 3), ("vision", 2)):
            np.save(folder / modality / "train" / f"dia7_utt{i}.npy", np.full((1, width), i))
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("lost", [1, 2])
def test_a_few_recordings_that_were_never_published(tmp_path: Path, lost: int) -> None:
    folder = many(tmp_path, 120)
    for i in range(20, 20 + lost):
        (folder / "audio" / "train" / f"dia7_utt{i}.npy").unlink()
    if lost > 1:
        with pytest.raises(DataError, match=r"2 of 120 utterances have no file there, first dia7_utt20\.npy, dia7_utt21\.npy"):
            dataset(tmp_path, folder)
        return
    found = dataset(tmp_path, folder)
    assert any("audio: no file for 1 utterances of train, which have no frames: dia7_utt20" in line for line in found.record["warnings"])
    row = found.splits["train"].ids.index("dia7/20")
    np.testing.assert_array_equal(found.splits["train"].inputs["audio"].values[row], 0)
    np.testing.assert_array_equal(found.splits["train"].inputs["text"].values[row], 20)


def broken(folder: Path, what: str) -> Path:
    content = list(meld_tuple(meld(), False))
    table = folder / "dev_sent_emo.csv"
    text = table.read_text(encoding="utf-8")
    if what == "column":
        table.write_text(text.replace("Dialogue_ID", "Dialogue"), encoding="utf-8")
    elif what == "empty":
        table.write_text("", encoding="utf-8")
    elif what == "number":
        table.write_text(text.replace("neutral,0,1,", "neutral,x,1,"), encoding="utf-8")
    elif what == "class":
        table.write_text(text.replace("Ross,joy", "Ross,glee"), encoding="utf-8")
    elif what == "folder":
        (folder / "audio" / "dev").rename(folder / "audio" / "development")
    elif what == "list":
        content[6].append(1153)
    elif what == "label":
        content[2][0][0] = 7
    elif what == "turn":
        content[0][0][0] = "utt0"
    elif what == "sizes":
        content[3][0].pop()
    elif what == "widths":
        content[3] = by_dialogue(meld(), lambda each: [0.0] * (2 + each.name % 2))
    elif what == "none":
        content = content[:8]
    if what in ("list", "label", "turn", "sizes", "widths", "none"):
        return write_pickle(folder / "x.pkl", tuple(content))
    return folder


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("column", r"dev_sent_emo\.csv: the column Dialogue_ID is missing"),
        ("empty", r"dev_sent_emo\.csv: has no rows"),
        ("number", r"row 2 has Dialogue_ID 'x', Utterance_ID '1'"),
        ("class", "'glee' is none of the classes"),
        ("folder", r"audio: has no folder dev or valid or val with files such as dia0_utt0\.npy"),
        ("list", "dialogue 1153 is in the wrong list"),
        ("label", r"label 7 is outside \[0, 6\]"),
        ("turn", "'utt0' is no number of an utterance"),
        ("sizes", "dialogue 0 has unlike numbers of id 4, labels 4, raw_text 4, text 3"),
        ("widths", "text: samples of unlike shapes"),
        ("none", "no pickle of MELD's dialogues"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, what: str, message: str) -> None:
    path = broken(write_meld(tmp_path / "MELD"), what)
    with pytest.raises(DataError, match=message):
        load_dataset(DataConfig(name=meld_manifest(tmp_path), path=str(path), format="meld", modalities=("text", "audio")))


def test_each_format_recognises_its_own(tmp_path: Path) -> None:
    mine = [
        write_meld(tmp_path / "MELD"),
        write_pickle(tmp_path / "a.pkl", meld_tuple(meld(), True)),
        write_pickle(tmp_path / "b.pkl", meld_tuple(meld(), False)),
    ]
    other = write_iemocap(tmp_path / "IEMOCAP")
    others = [other, other / "IEMOCAP_features_raw_6way.pkl"]
    assert [(MeldFormat().recognises(path), ConversationsFormat().recognises(path)) for path in mine] == [(True, False)] * 3
    assert [(MeldFormat().recognises(path), ConversationsFormat().recognises(path)) for path in others] == [(False, True)] * 2
    assert not MeldFormat().recognises(tmp_path / "nothing")
