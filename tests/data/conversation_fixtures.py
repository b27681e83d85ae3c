"""Small IEMOCAP and MELD in the files that users have, made up: `iemocap` and `meld` say what they hold, the others write it in one format each."""

from __future__ import annotations

import csv
import io
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .format_fixtures import Written, mine, write_pickle

SIX = ["happy", "sad", "neutral", "angry", "excited", "frustrated"]
SEVEN = ["anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise"]
IN_PICKLE = {"neutral": 0, "surprise": 1, "fear": 2, "sadness": 3, "joy": 4, "disgust": 5, "anger": 6}
WIDTHS = {"text": 4, "audio": 3, "vision": 2}
FOLDERS = {"text": "deberta-large-4-UTT", "audio": "wav2vec-large-c-UTT", "vision": "manet_UTT"}


@dataclass
class Utterance:
    """What a data set holds of one utterance: `name` as its files spell it, `id` as it is read."""

    dialogue: Any
    name: Any
    id: str
    split: str
    emotion: str
    sentence: str
    features: dict[str, np.ndarray]


def iemocap(frames: bool = True) -> list[Utterance]:
    """Three dialogues in each of five sessions; test is session 5. Text and vision are vectors, audio is a sequence where `frames`."""
    rng = np.random.default_rng(11)
    found = []
    for session in range(1, 6):
        for take in range(3):
            dialogue = f"Ses0{session}{'FM'[take % 2]}_impro0{take}" if take else f"Ses0{session}F_script01_1"
            for turn in range(4 + take):
                clip = f"{'FM'[turn % 2]}{turn // 2:03d}"
                length = int(rng.integers(2, 6)) if frames else 1
                features = {"text": rng.normal(size=4), "audio": rng.normal(size=(length, 3)).astype(np.float32), "vision": rng.normal(size=2)}
                emotion = SIX[(session + take + turn) % 6]
                split = "test" if session == 5 else "train"
                found.append(Utterance(dialogue, f"{dialogue}_{clip}", f"{dialogue}/{clip}", split, emotion, f"say {len(found)}é", features))
    return found


def meld() -> list[Utterance]:
    """Dialogues 0 and 2 of training, 0 of validation and of test; the numbers that the pickle gives them."""
    rng = np.random.default_rng(12)
    found = []
    for split, number, first in (("train", 0, 0), ("train", 2, 0), ("valid", 0, 1039), ("valid", 1, 1039), ("test", 0, 1153), ("test", 3, 1153)):
        for turn in (0, 1, 3, 4):
            features = {name: rng.normal(size=width) for name, width in WIDTHS.items()}
            emotion = SEVEN[(number + turn + first) % 7]
            found.append(Utterance(first + number, turn, f"dia{number}/{turn}", split, emotion, f'"so", said {len(found)}', features))
    return found


def by_dialogue(utterances: list[Utterance], value: Any) -> dict[Any, list[Any]]:
    table: dict[Any, list[Any]] = {}
    for each in utterances:
        table.setdefault(each.dialogue, []).append(value(each))
    return table


def dialogues(utterances: list[Utterance], *splits: str) -> list[Any]:
    return list(dict.fromkeys(each.dialogue for each in utterances if each.split in splits))


class Python2(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes text and bytes as Python 2 did: as byte strings."""

    dispatch: ClassVar[Any] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: Any) -> None:
        raw = value.encode("latin-1") if isinstance(value, str) else value
        self.write(b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


def as_python2(content: Any) -> bytes:
    buffer = io.BytesIO()
    Python2(buffer, 2).dump(content)
    return buffer.getvalue()


def six_tuple(utterances: list[Utterance], four: bool) -> tuple[Any, ...]:
    """ids, labels, speakers, sentences, training dialogues, test dialogues; `four`: happy and excited are one, frustrated is left out."""
    kept = [each for each in utterances if not four or each.emotion != "frustrated"]
    index = {**{name: i for i, name in enumerate(SIX)}, **({"excited": 0} if four else {})}
    return (
        by_dialogue(kept, lambda each: each.name),
        by_dialogue(kept, lambda each: index[each.emotion]),
        by_dialogue(kept, lambda each: each.id.rpartition("/")[2][0]),
        by_dialogue(kept, lambda each: each.sentence),
        dialogues(kept, "train"),
        dialogues(kept, "test"),
    )


def nine_tuple(utterances: list[Utterance]) -> tuple[Any, ...]:
    """ids, speakers, labels, text, audio, visual, sentences, training dialogues (a set), test dialogues."""
    return (
        by_dialogue(utterances, lambda each: each.name),
        by_dialogue(utterances, lambda each: each.id.rpartition("/")[2][0]),
        by_dialogue(utterances, lambda each: SIX.index(each.emotion)),
        *(by_dialogue(utterances, lambda each, name=name: each.features[name].reshape(-1)) for name in WIDTHS),
        by_dialogue(utterances, lambda each: each.sentence),
        set(dialogues(utterances, "train")),
        dialogues(utterances, "test"),
    )


def meld_tuple(utterances: list[Utterance], vision: bool) -> tuple[Any, ...]:
    """ids, speakers, emotions, text, audio (, visual), sentences, training dialogues with those of validation, test dialogues, sentiments."""
    names = ["text", "audio", *(["vision"] if vision else [])]
    return (
        by_dialogue(utterances, lambda each: each.name),
        by_dialogue(utterances, lambda each: [1, 0]),
        by_dialogue(utterances, lambda each: IN_PICKLE[each.emotion]),
        *(by_dialogue(utterances, lambda each, name=name: each.features[name].tolist()) for name in names),
        by_dialogue(utterances, lambda each: each.sentence),
        dialogues(utterances, "train", "valid"),
        dialogues(utterances, "test"),
        by_dialogue(utterances, lambda each: 0),
    )


def save_features(folder: Path, files: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def write_iemocap(folder: Path, four: bool = False, python2: bool = False, frames: bool = True) -> Path:
    """The six-tuple, and a folder with a .npy for each utterance of each modality."""
    utterances = iemocap(frames)
    content = six_tuple(utterances, four)
    path = folder / f"IEMOCAP_features_raw_{4 if four else 6}way.pkl"
    if python2:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_python2(content))
    else:
        write_pickle(path, content)
    for modality, name in FOLDERS.items():
        save_features(folder / "features" / name, {each.name: each.features[modality] for each in utterances})
    return folder


def write_meld(folder: Path, modalities: tuple[str, ...] = ("text", "audio", "vision"), flat: bool = False) -> Path:
    """The three csv files, and features in a folder for each split or all in one."""
    utterances = meld()
    columns = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode", "StartTime", "EndTime"]
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        chosen = [each for each in utterances if each.split == split]
        with open(folder / f"{name}_sent_emo.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for i, each in enumerate(chosen):
                dialogue, turn = each.id[3:].split("/")
                writer.writerow([i + 1, each.sentence, "Ross", each.emotion, "neutral", dialogue, turn, 1, 2, "00:00:00,000", "00:00:01,000"])
        for modality in modalities:
            place = folder / modality if flat else folder / modality / name
            prefix = f"{name}_" if flat else ""
            save_features(place, {f"{prefix}{each.id.replace('/', '_utt')}": each.features[modality] for each in chosen})
    return folder


def iemocap_manifest(folder: Path) -> str:
    """The shipped manifest with its protocols, without what is published of the real data."""
    return _unpublished(folder, "iemocap")


def meld_manifest(folder: Path) -> str:
    """The shipped manifest without its published splits."""
    return _unpublished(folder, "meld")


def _unpublished(folder: Path, name: str) -> str:
    from mmbench import strict_yaml
    from mmbench.files import shipped

    content = strict_yaml.load(shipped("datasets_manifest") / f"{name}.yaml")
    protocols = content.get("protocols", {}).values()
    for part in [content, *protocols, *(part for protocol in protocols for part in protocol.get("parts", {}).values())]:
        for key in ("splits", "samples", "sizes"):
            part.pop(key, None)
    path = folder / f"{name}.yaml"
    path.write_text(strict_yaml.dump(content))
    return str(path)


@mine("conversations")
def conversations(folder: Path) -> Written:
    """Six classes, a .npy for each utterance, sequences of audio."""
    return write_iemocap(folder / "IEMOCAP"), iemocap_manifest(folder), None


@mine("conversations:4way")
def conversations_4way(folder: Path) -> Written:
    """Four classes, as Python 2 wrote them; one vector for each utterance."""
    return write_iemocap(folder / "IEMOCAP", four=True, python2=True, frames=False), iemocap_manifest(folder), "4way_session5"


@mine("conversations:features")
def conversations_features(folder: Path) -> Written:
    """The features in the pickle, as Python 2 wrote it; training dialogues as a set."""
    path = folder / "IEMOCAP_features.pkl"
    path.write_bytes(as_python2(nine_tuple(iemocap(frames=False))))
    return path, iemocap_manifest(folder), None


@mine("meld")
def meld_folder(folder: Path) -> Written:
    """csv files, and features by split."""
    return write_meld(folder / "MELD"), meld_manifest(folder), None


@mine("meld:pickle")
def meld_pickle(folder: Path) -> Written:
    """The pickle with vision."""
    return write_pickle(folder / "MELD_features_raw1.pkl", meld_tuple(meld(), vision=True)), meld_manifest(folder), None
