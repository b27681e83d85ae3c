"""Each way in which users have an MMSA pickle, as a small file: the same data set comes out of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data.find import locate
from mmbench.data.formats import find_format
from mmbench.data.ids import canonical_id
from mmbench.data.load import load_dataset
from mmbench.data.manifest import load_manifest
from mmbench.errors import DataError

from .samples import LENGTHS, SIZES, make_content

Content = dict[str, Any]


def parts(content: Content) -> list[Content]:
    return [content[split] for split in content if split in (*SIZES, "dev", "val")]


def each(change: Callable[[Content], Any]) -> Callable[[Content], None]:
    """A change of each split."""

    def whole(content: Content) -> None:
        for part in parts(content):
            change(part)

    return whole


def renamed(old: str, new: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content[new] = content.pop(old)

    return change


def without(*keys: str) -> Callable[[Content], None]:
    return each(lambda part: [part.pop(key, None) for key in keys])


def as_type(keys: tuple[str, ...], dtype: type) -> Callable[[Content], None]:
    return each(lambda part: part.update({key: part[key].astype(dtype) for key in keys}))


def unimodal(part: Content) -> None:
    for letter in "TAV":
        part[f"regression_labels_{letter}"] = part["regression_labels"] / 2


def train_mix(content: Content) -> None:
    """CH-SIMS v2 with its unlabelled clips."""
    each(unimodal)(content)
    train = content["train"]
    content["train_mix"] = {key: np.concatenate([np.asarray(value)] * 2) for key, value in train.items()} | {"mask": np.array([1] * 12 + [0] * 12)}
    del content["train_mix"]["raw_text"]


def fet(content: Content) -> None:
    """What MMSA-FET writes: float64 for all that was padded, lengths and ids as arrays, labels of single modalities only where none is NaN."""
    content["config"] = {"audio": {"tool": "librosa"}, "text": {"model": "bert"}}
    for part in parts(content):
        del part["classification_labels"]
        part["text_bert"] = part["text_bert"].astype(np.float64)
        part["regression_labels"] = part["regression_labels"].astype(np.float64)
        part["text_lengths"] = part["text_bert"][:, 1].sum(axis=1).astype(np.int64)
        for name in LENGTHS:
            part[name] = part[name].astype(np.float64)
            part[f"{name}_lengths"] = np.array(part[f"{name}_lengths"])


def fet_aligned(content: Content) -> None:
    fet_like = [part.update(align=[[0.0, 1.0]] * len(part["id"])) for part in parts(content)]
    assert len(fet_like) == 3
    as_type(("text", "audio", "vision", "text_bert"), np.float64)(content)


def lengths_of_aligned(part: Content) -> None:
    tokens = part["text_bert"][:, 1].sum(axis=1)
    part.update(audio_lengths=tokens.tolist(), vision_lengths=tokens.astype(np.int32), text_lengths=tokens.astype(float))


def means(part: Content) -> None:
    """Audio and vision as one vector for each utterance, as MMSA's need_normalized leaves them."""
    part["audio"], part["vision"] = part["audio"].mean(axis=1), part["vision"].mean(axis=1)[:, None]


def infinite(part: Content) -> None:
    part["audio"][0, 0, 0] = -np.inf
    part["vision"][1, 0, 0] = np.nan


def ragged(part: Content) -> None:
    """Sequences that nobody padded, in an object array, without lengths beside them."""
    for name in ("audio", "vision"):
        lengths = part.pop(f"{name}_lengths")
        values = np.empty(len(lengths), dtype=object)
        for i, length in enumerate(lengths):
            values[i] = part[name][i, :length]
        part[name] = values


@dataclass(frozen=True)
class Spelling:
    change: Callable[[Content], Any]
    aligned: bool = False
    layout: str = "unaligned"
    ignored: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    differs: frozenset[str] = field(default_factory=frozenset)
    """Modalities that come out with other values or masks than from the plain file."""
    lacks: tuple[str, ...] = ()
    unimodal: bool = False


FULL = "nothing in the file says which frames are real"
SPELLINGS = {
    "MMSA unaligned_50": Spelling(lambda content: None),
    "MMSA aligned_50": Spelling(lambda content: None, aligned=True, layout="aligned"),
    "CH-SIMS unaligned_39": Spelling(each(unimodal), unimodal=True),
    "CH-SIMS, float64": Spelling(as_type(("audio", "vision", "regression_labels"), np.float64)),
    "CH-SIMS v2 with train_mix": Spelling(train_mix, ignored=("train_mix",), unimodal=True),
    "CH-SIMS v2 with a mask in each split": Spelling(each(lambda part: part.update(mask=np.ones(len(part["id"])))), ignored=("mask",)),
    "CH-SIMS v2, token ids alone": Spelling(without("text"), lacks=("text",)),
    "CHSims_aligned2": Spelling(train_mix, aligned=True, layout="aligned", ignored=("train_mix",), unimodal=True),
    "validation is called dev": Spelling(renamed("valid", "dev")),
    "validation is called val": Spelling(renamed("valid", "val")),
    "dev beside valid": Spelling(lambda content: content.update(dev={"id": ["x"]}), ignored=("dev",)),
    "labels are called regression_labels_M": Spelling(each(renamed("regression_labels", "regression_labels_M"))),
    "labels are called regression_labels_M, and there are no others": Spelling(
        each(lambda part: part.update(regression_labels_M=part.pop("regression_labels"), classification_labels=None))
    ),
    "labels under both names": Spelling(
        each(lambda part: part.update(regression_labels_M=-part["regression_labels"])), ignored=("regression_labels_M",)
    ),
    "transcripts are called text_raw": Spelling(each(renamed("raw_text", "text_raw"))),
    "no lengths": Spelling(
        without("audio_lengths", "vision_lengths"), notices=(f"audio: {FULL}", f"vision: {FULL}"), differs=frozenset({"audio", "vision"})
    ),
    "no token ids": Spelling(without("text_bert"), notices=(f"text: {FULL}",), differs=frozenset({"text"})),
    "MMSA-FET": Spelling(fet, ignored=("config",)),
    "MMSA-FET aligned": Spelling(fet_aligned, aligned=True, layout="aligned", ignored=("align",)),
    "aligned with lengths": Spelling(each(lengths_of_aligned), aligned=True, layout="aligned", differs=frozenset({"audio", "vision"})),
    "one length for all, lengths of audio alone": Spelling(
        each(lambda part: part.update(audio_lengths=[3] * len(part["id"]))),
        aligned=True,
        notices=("audio: ", f"vision: {FULL}"),
        differs=frozenset({"audio", "vision"}),
    ),
    "one vector for each utterance": Spelling(each(means), differs=frozenset({"audio", "vision"})),
    "sequences of unlike lengths": Spelling(each(ragged)),
    "ids as bytes": Spelling(each(lambda part: part.update(id=[str(name).encode() for name in part["id"]]))),
    "ids as video[clip]": Spelling(each(lambda part: part.update(id=[str(name).replace("$_$", "[") + "]" for name in part["id"]]))),
    "ids as video_clip": Spelling(each(lambda part: part.update(id=np.array([str(name).replace("$_$", "_") for name in part["id"]])))),
    "token ids as float": Spelling(as_type(("text_bert",), np.float64)),
    "big-endian, half precision": Spelling(
        each(lambda part: part.update(vision=part["vision"].astype(">f8"), text_bert=part["text_bert"].astype(np.int32)))
    ),
    "infinite and NaN": Spelling(
        each(infinite),
        notices=("audio: 3 values were NaN or infinite", "vision: 3 values were NaN or infinite"),
        differs=frozenset({"audio", "vision"}),
    ),
    "no classes, no annotations": Spelling(without("classification_labels", "annotations")),
    "labels as a column": Spelling(each(lambda part: part.update(regression_labels=part["regression_labels"].reshape(-1, 1)))),
    "labels as objects": Spelling(each(lambda part: part.update(regression_labels=part["regression_labels"].astype(object)))),
    "features of forks beside": Spelling(
        each(lambda part: part.update(audio_text=part["text"], index=np.arange(len(part["id"])))), ignored=("audio_text", "index")
    ),
}


_plain: dict[bool, Any] = {}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spelling(write: Any, name: str) -> None:
    spelling = SPELLINGS[name]
    if spelling.aligned not in _plain:
        _plain[spelling.aligned] = load_dataset(write(make_content(spelling.aligned), name="plain.pkl"))
    plain = _plain[spelling.aligned]
    content = make_content(spelling.aligned)
    spelling.change(content)
    names = tuple(each for each in LENGTHS if each not in spelling.lacks)
    config = write(content, make_content(spelling.aligned), name="spelt.pkl", modalities=names)
    assert find_format(Path(config.path), None)[0].component.name == "mmsa"
    dataset = load_dataset(config)
    assert dataset.record["layout"] == spelling.layout
    assert tuple(dataset.record["ignored_keys"]) == spelling.ignored
    warnings = [text for text in dataset.record["warnings"] if "no known copy" not in text]
    assert len(warnings) == len(spelling.notices), warnings
    assert all(any(text.startswith(notice) for text in warnings) for notice in spelling.notices), warnings
    for split, size in SIZES.items():
        one, other = dataset.splits[split], plain.splits[split]
        assert (one.ids, one.transcripts, len(one)) == (other.ids, other.transcripts, size)
        np.testing.assert_array_equal(one.target, other.target)
        assert one.target.dtype == np.float32
        assert sorted(one.unimodal_targets) == (sorted(LENGTHS) if spelling.unimodal else [])
        for modality in names:
            np.testing.assert_equal(
                (one.inputs[modality].values.tolist(), one.inputs[modality].mask.tolist())
                == (other.inputs[modality].values.tolist(), other.inputs[modality].mask.tolist()),
                modality not in spelling.differs,
            )


def test_what_comes_out_where_it_differs(write: Any) -> None:
    content = make_content()
    each(means)(content)
    audio = load_dataset(write(content)).splits["test"].inputs["audio"]
    np.testing.assert_allclose(audio.values[:, 0], make_content()["test"]["audio"].mean(axis=1), rtol=1e-6)
    assert audio.mask.shape == (7, 1)
    content = make_content()
    each(infinite)(content)
    audio = load_dataset(write(content, name="infinite.pkl")).splits["test"].inputs["audio"]
    expected = make_content()["test"]["audio"]
    expected[0, 0, 0] = 0
    np.testing.assert_array_equal(audio.values, expected)
    content = make_content()
    without("audio_lengths")(content)
    assert load_dataset(write(content, name="full.pkl")).splits["train"].inputs["audio"].mask.all()
    content = make_content(aligned=True)
    each(lengths_of_aligned)(content)
    vision = load_dataset(write(content, name="stated.pkl")).splits["train"].inputs["vision"]
    np.testing.assert_array_equal(vision.mask, content["train"]["text_bert"][:, 1])


def test_tokens_without_features(write: Any) -> None:
    content = make_content()
    without("text")(content)
    as_type(("text_bert",), np.float64)(content)
    part = load_dataset(write(content), tokens=frozenset({"text"})).splits["test"].inputs["text"]
    np.testing.assert_array_equal(part.values, make_content()["test"]["text_bert"][:, 0])


def test_ids_that_name_the_video_alone_are_refused_where_they_repeat(write: Any) -> None:
    content = make_content()
    each(lambda part: part.update(id=[str(name).partition("$")[0].replace("_", "") for name in part["id"]]))(content)
    with pytest.raises(DataError, match="more than once; first video0, twice in train"):
        load_dataset(write(content, make_content()))


def test_classes_alone_are_another_task(write: Any) -> None:
    content = make_content()
    without("regression_labels")(content)
    with pytest.raises(DataError, match="it has classification_labels, which is another task"):
        load_dataset(write(content, make_content()))
    manifest = {"task": "classification", "classes": ["negative", "neutral", "positive"], "label_range": None}
    assert load_dataset(write(content, make_content(), manifest)).splits["test"].target.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_lengths_that_are_no_numbers(write: Any) -> None:
    content = make_content(aligned=True)
    each(lambda part: part.update(audio_lengths=["a"] * len(part["id"]), vision_lengths=["b"] * len(part["id"])))(content)
    with pytest.raises(DataError, match="audio_lengths: values of type"):
        load_dataset(write(content))


def test_tensors_of_torch_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pt.pkl"
    path.write_bytes(b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93.")
    with pytest.raises(DataError, match=r"asks for torch\._utils\._rebuild_tensor_v2"):
        load_dataset(DataConfig(name="mosi", path=str(path)))


@pytest.mark.parametrize(
    ("name", "file", "layout"),
    [
        ("mosi", "MOSI/Processed/aligned_50.pkl", "aligned"),
        ("mosi", "CMU-MOSI/Processed/unaligned_50.pkl", "unaligned"),
        ("mosei", "mosei/unaligned_50.pkl", "unaligned"),
        ("mosei", "CMU_MOSEI/aligned_50.pkl", "aligned"),
        ("sims", "SIMS/Processed/features/unaligned_39.pkl", "unaligned"),
        ("sims", "chsims/unaligned_39.pkl", "unaligned"),
        ("simsv2", "CH-SIMS v2(s)/Processed/unaligned.pkl", "unaligned"),
        ("simsv2", "SIMS_V2/ch-simsv2s.pkl", "unaligned"),
        ("simsv2", "SimsLargeV6.pkl", "unaligned"),
        ("simsv2", "SIMSv2/Processed/sims_unaligned.pkl", "unaligned"),
        ("simsv2", "CHSims_aligned2.pkl", "aligned"),
    ],
)
def test_files_are_found_by_their_usual_names(tmp_path: Path, name: str, file: str, layout: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert locate(DataConfig(name=name), tmp_path) == path
    assert locate(DataConfig(name=name, features=layout), tmp_path) == path


def test_ids_of_ch_sims_v2() -> None:
    assert canonical_id("aqgy4_0004$_$00023") == canonical_id("aqgy4_0004_00023") == "aqgy4_0004/23"
    assert load_manifest("simsv2").splits["train"].size == 2722
