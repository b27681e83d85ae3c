from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmbench.data.arrays import as_array
from mmbench.data.content import without_ends
from mmbench.data.load import load_dataset
from mmbench.errors import DataError

from .samples import LENGTHS, SIZES, make_content


def mask_of(dataset: Any, name: str, split: str = "train") -> np.ndarray:
    return np.asarray(dataset.splits[split].inputs[name].mask)


def warning(dataset: Any, text: str) -> str:
    found = [line for line in dataset.record["warnings"] if text in line]
    assert len(found) == 1, dataset.record["warnings"]
    return found[0]


def test_a_whole_file(write: Any, content: Any) -> None:
    dataset = load_dataset(write(content))
    assert dataset.modalities == ("text", "audio", "vision")
    for split, size in SIZES.items():
        part, source = dataset.splits[split], content[split]
        assert len(part) == size
        assert part.ids[1] == str(source["id"][1]).replace("$_$000", "/")
        assert part.transcripts[1] == "sentence 1"
        np.testing.assert_array_equal(part.target, source["regression_labels"])
        assert part.target.dtype == np.float32
        for name in LENGTHS:
            np.testing.assert_array_equal(part.inputs[name].values, source[name])
            assert part.inputs[name].values.dtype == np.float32
        np.testing.assert_array_equal(part.inputs["text"].mask, source["text_bert"][:, 1])
        for name in ("audio", "vision"):
            np.testing.assert_array_equal(part.inputs[name].mask.sum(axis=1), source[f"{name}_lengths"])
            assert (np.diff(part.inputs[name].mask.astype(int), axis=1) <= 0).all()
    assert [line for line in dataset.record["warnings"] if "no known copy" not in line] == []
    assert dataset.record["layout"] == "unaligned"


def test_real_frames_of_zeros_stay_real(write: Any, content: Any) -> None:
    content["train"]["audio"][:, 0] = 0
    content["train"]["text"][:, 0] = 0
    dataset = load_dataset(write(content))
    np.testing.assert_array_equal(mask_of(dataset, "audio").sum(axis=1), content["train"]["audio_lengths"])
    assert mask_of(dataset, "text")[:, 0].all()


def test_aligned_files_use_the_attention_mask_without_its_ends(write: Any) -> None:
    content = make_content(aligned=True)
    content["train"]["audio"][:, 1] = 0  # a real frame of zeros
    dataset = load_dataset(write(content))
    attention = content["train"]["text_bert"][:, 1].astype(bool)
    expected = attention.copy()
    for row, length in enumerate(attention.sum(axis=1)):
        expected[row, 0] = expected[row, length - 1] = False
    for name in ("audio", "vision"):
        np.testing.assert_array_equal(mask_of(dataset, name), expected)
    np.testing.assert_array_equal(mask_of(dataset, "text"), attention)
    assert dataset.record["layout"] == "aligned"


def test_an_aligned_sample_of_two_tokens_keeps_one_frame(write: Any) -> None:
    content = make_content(aligned=True)
    content["train"]["text_bert"][3, 1] = [1, 1, 0, 0, 0, 0]
    dataset = load_dataset(write(content))
    assert mask_of(dataset, "audio")[3].tolist() == [True, False, False, False, False, False]
    assert "1 samples have no real frame" in warning(dataset, "audio: 1 samples have no")


@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 8))))
def test_without_ends_drops_the_first_and_last_true(attention: np.ndarray) -> None:
    before = attention.copy()
    for row, mask in zip(before, without_ends(attention), strict=True):
        assert np.flatnonzero(mask).tolist() == np.flatnonzero(row)[1:-1].tolist()
    np.testing.assert_array_equal(attention, before)


def test_text_lengths_where_there_is_no_attention_mask(write: Any, content: Any) -> None:
    for part in content.values():
        lengths = part.pop("text_bert")[:, 1].sum(axis=1)
        part["text_lengths"] = lengths
    dataset = load_dataset(write(content))
    np.testing.assert_array_equal(mask_of(dataset, "text").sum(axis=1), content["train"]["text_lengths"])


def test_without_any_word_on_lengths_all_frames_count_and_that_is_said(write: Any, content: Any) -> None:
    for part in content.values():
        del part["audio_lengths"]
        del part["text_bert"]
    dataset = load_dataset(write(content))
    assert mask_of(dataset, "audio").all()
    assert mask_of(dataset, "text").all()
    assert "all count as real" in warning(dataset, "audio:")
    assert "all count as real" in warning(dataset, "text:")


def test_a_single_frame_is_real_whatever_is_stated(write: Any, content: Any) -> None:
    for part in content.values():
        part["audio"] = part["audio"][:, :1]
        part["audio_lengths"] = [0] * len(part["id"])
        part["vision"] = part["vision"].mean(axis=1)  # (N, D)
    dataset = load_dataset(write(content))
    assert mask_of(dataset, "audio").shape == (SIZES["train"], 1)
    assert mask_of(dataset, "audio").all()
    assert dataset.splits["train"].inputs["vision"].values.shape == (SIZES["train"], 1, 2)
    assert not any(line.startswith(("audio", "vision")) for line in dataset.record["warnings"])


def test_stated_lengths_win_over_the_attention_mask_even_where_the_sizes_agree(write: Any, content: Any) -> None:
    for part in content.values():
        part["audio"] = np.ones((len(part["id"]), LENGTHS["text"], 3))
        part["audio_lengths"] = [1 + i % 6 for i in range(len(part["id"]))]
    mask = mask_of(load_dataset(write(content)), "audio")
    assert mask.sum(axis=1).tolist() == content["train"]["audio_lengths"]
    assert mask[:, 0].all()


def test_a_file_whose_text_is_one_vector_is_not_aligned(write: Any) -> None:
    content = make_content(aligned=True)
    for part in content.values():
        part["text"] = part["text"][:, :1]
    dataset = load_dataset(write(content))
    assert mask_of(dataset, "audio").all()
    assert "all count as real" in warning(dataset, "audio:")


def test_lengths_of_zero_and_beyond_the_array(write: Any, content: Any) -> None:
    content["train"]["audio_lengths"][1] = 0
    content["valid"]["audio_lengths"][0] = 99
    dataset = load_dataset(write(content))
    assert mask_of(dataset, "audio")[1].tolist() == [True] + [False] * 8
    assert "(train 1)" in warning(dataset, "audio: 1 samples have no real frame")
    assert mask_of(dataset, "audio", "valid")[0].all()
    assert "(valid 1)" in warning(dataset, "audio: 1 samples state a length beyond")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 12), min_size=12, max_size=12), st.booleans())
def test_whatever_the_lengths_every_sample_has_a_frame_and_padding_is_zero(write: Any, lengths: list[int], aligned: bool) -> None:
    content = make_content(aligned)
    content["train"]["audio"] = np.ones_like(content["train"]["audio"])
    content["train"]["text"] = np.ones_like(content["train"]["text"])
    if aligned:
        longest = LENGTHS["text"]
        content["train"]["text_bert"][:, 1] = np.arange(longest) < np.minimum(lengths, longest)[:, None]
    else:
        content["train"]["audio_lengths"] = lengths
    split = load_dataset(write(content)).splits["train"]
    for part in split.inputs.values():
        assert part.mask.any(axis=1).all()
        assert not np.asarray(part.values)[~np.asarray(part.mask)].any()
        assert np.isfinite(part.values).all()
    audio = split.inputs["audio"]
    real = np.clip(np.array(lengths), 1, audio.mask.shape[1]) if not aligned else np.clip(np.minimum(lengths, LENGTHS["text"]) - 2, 1, None)
    np.testing.assert_array_equal(audio.mask.sum(axis=1), real)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float64, np.float32])
def test_token_ids_are_integers_whatever_the_type(write: Any, content: Any, dtype: type) -> None:
    for part in content.values():
        part["text_bert"] = part["text_bert"].astype(dtype)
    dataset = load_dataset(write(content), tokens=frozenset({"text"}))
    part = dataset.splits["train"].inputs["text"]
    assert part.kind == "tokens"
    assert part.values.dtype == np.int64
    np.testing.assert_array_equal(part.values, make_content()["train"]["text_bert"][:, 0])
    np.testing.assert_array_equal(part.mask, make_content()["train"]["text_bert"][:, 1])
    assert dataset.input_spec().modalities["text"].size == 1 + max(int(content[split]["text_bert"][:, 0].max()) for split in SIZES)


def test_padding_of_tokens_is_zero(write: Any, content: Any) -> None:
    expected = content["train"]["text_bert"][:, 0].copy()
    for part in content.values():
        part["text_bert"][:, 0][part["text_bert"][:, 1] == 0] = 1  # as models with another padding id have it
    tokens = load_dataset(write(content), tokens=frozenset({"text"})).splits["train"].inputs["text"].values
    np.testing.assert_array_equal(tokens, expected)


def test_tokens_suffice_where_there_are_no_text_features(write: Any, content: Any) -> None:
    for part in content.values():
        del part["text"]
    config = write(content)
    assert load_dataset(config, tokens=frozenset({"text"})).modalities == ("text", "audio", "vision")
    with pytest.raises(DataError, match=r"--set 'data.modalities=\[audio,vision\]"):
        load_dataset(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part.update(text_bert=np.where([[[0], [0], [1]]], 1, part["text_bert"])), "segment ids"),
        (lambda part: part.pop("text_bert"), "text_bert is missing in split valid"),
    ],
)
def test_tokens_that_cannot_be_used_stop_only_those_who_ask(write: Any, content: Any, change: Any, message: str) -> None:
    change(content["valid"])
    if "text_bert" not in content["valid"]:
        content["valid"]["text_lengths"] = [3] * SIZES["valid"]
    config = write(content)
    with pytest.raises(DataError, match=message):
        load_dataset(config, tokens=frozenset({"text"}))
    assert load_dataset(config).modalities == ("text", "audio", "vision")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((12, 6, 4)), r"\(12, 6, 4\) instead of \(N, 3, L\)"),
        (np.full((12, 3, 6), 0.5), "not integers"),
        (np.full((12, 3, 6), np.nan), "not integers"),
        (np.full((12, 3, 6), 2), "attention mask"),
    ],
)
def test_a_wrong_text_bert_is_refused(write: Any, content: Any, array: np.ndarray, message: str) -> None:
    content["train"]["text_bert"] = array
    with pytest.raises(DataError, match=message):
        load_dataset(write(content))


def test_values_that_are_not_finite_are_replaced_and_counted(write: Any, content: Any) -> None:
    content["train"]["audio"] = content["train"]["audio"].astype(np.float64)
    content["train"]["audio"][0, 0] = [-np.inf, np.nan, 1e300]
    content["test"]["audio"][1, 0, 0] = np.nan
    dataset = load_dataset(write(content))
    assert dataset.splits["train"].inputs["audio"].values[0, 0].tolist() == [0, 0, 0]
    assert "(train 3, test 1)" in warning(dataset, "audio: 4 values were NaN or infinite and are 0")
    assert dataset.record["replaced"]["audio"] == 4
    without = load_dataset(write(content, modalities=("text", "vision")))
    assert not any("audio" in line for line in without.record["warnings"] if "known copy" not in line)


def test_a_modality_of_nothing_but_nan_stops_who_asks_for_it(write: Any, content: Any) -> None:
    content["valid"]["vision"][:] = np.nan
    with pytest.raises(DataError, match=r"vision cannot be used: every value of it in split valid .* --set 'data.modalities=\[text,audio\]"):
        load_dataset(write(content))
    assert load_dataset(write(content, modalities=("text", "audio"))).modalities == ("text", "audio")


def test_values_outside_the_mask_become_zero_and_that_is_said(write: Any, content: Any) -> None:
    content["train"]["audio_lengths"][0] = 4
    assert content["train"]["audio"][0, 4:].any()
    dataset = load_dataset(write(content))
    assert not dataset.splits["train"].inputs["audio"].values[0, 4:].any()
    assert "(train 1)" in warning(dataset, "audio: 1 samples had values outside")


def test_lists_bytes_and_other_number_types(write: Any, content: Any) -> None:
    expected = load_dataset(write(content, name="arrays.pkl"))
    part = content["train"]
    part["id"] = [str(name).replace("$_$", "_").encode() for name in part["id"]]
    part["raw_text"] = [text.encode() for text in part["raw_text"]]
    part["regression_labels"] = part["regression_labels"].astype(np.float64).reshape(-1, 1)
    part["audio"] = list(part["audio"])
    part["vision"] = part["vision"].astype(">f8")
    part["text"] = part["text"].tolist()
    part["text_bert"] = part["text_bert"].tolist()
    part["audio_lengths"] = np.array(part["audio_lengths"], dtype=np.float64)
    dataset = load_dataset(write(content, make_content(), name="lists.pkl"))
    one, other = dataset.splits["train"], expected.splits["train"]
    assert (one.ids, one.transcripts) == (other.ids, other.transcripts)
    np.testing.assert_array_equal(one.target, other.target)
    for name in LENGTHS:
        np.testing.assert_array_equal(one.inputs[name].values, other.inputs[name].values)
        np.testing.assert_array_equal(one.inputs[name].mask, other.inputs[name].mask)


def test_lists_of_sequences_bring_their_own_lengths(write: Any, content: Any) -> None:
    rng = np.random.default_rng(0)
    lengths = {split: [1 + i % 4 for i in range(size)] for split, size in SIZES.items()}
    for split, part in content.items():
        del part["vision_lengths"]
        part["vision"] = [rng.normal(size=(length, 2)) for length in lengths[split]]
    dataset = load_dataset(write(content))
    for split, part in content.items():
        seen = dataset.splits[split].inputs["vision"]
        assert seen.mask.sum(1).tolist() == lengths[split]
        for sample, rows in enumerate(part["vision"]):
            np.testing.assert_array_equal(seen.values[sample, : len(rows)], rows.astype(np.float32))
            assert not seen.values[sample, len(rows) :].any()


def test_a_stated_mask_wins(write: Any, content: Any) -> None:
    for part in content.values():
        part["vision_mask"] = np.arange(8)[None] >= 8 - np.array(part.pop("vision_lengths"))[:, None]  # real frames come last
        part["vision"] = part["vision"][:, ::-1]
    seen = load_dataset(write(content)).splits["train"].inputs["vision"]
    np.testing.assert_array_equal(seen.mask, content["train"]["vision_mask"])
    np.testing.assert_array_equal(seen.values, content["train"]["vision"])


def test_names_of_classes(write: Any, content: Any) -> None:
    for part in content.values():
        part["classification_labels"] = [("sad", "Happy")[i % 2] for i in range(len(part["id"]))]
    manifest = {"task": "classification", "classes": ["happy", "sad"], "label_range": None, "labels": {"values": [0.0, 1.0], "counts": [1, 1]}}
    assert load_dataset(write(content, manifest=manifest)).splits["test"].target.tolist() == [1, 0, 1, 0, 1, 0, 1]
    content["test"]["classification_labels"][0] = "cross"
    with pytest.raises(DataError, match="'cross' is none of the classes happy, sad"):
        load_dataset(write(content, manifest=manifest))


def test_a_list_repeated_very_often_is_refused() -> None:
    row = [0.0] * 1000
    with pytest.raises(ValueError, match="too long"):
        as_array([[row] * 1000] * 1000)
    with pytest.raises(ValueError, match="unlike shapes"):
        as_array([[1, 2], [1]])


def test_extra_keys_and_splits_are_listed_and_ignored(write: Any, content: Any) -> None:
    content["train_mix"] = {"id": ["nonsense"]}
    content["config"] = {"a": 1}
    content["train"]["align"] = [1, 2]
    dataset = load_dataset(write(content))
    assert dataset.record["ignored_keys"] == ["align", "config", "train_mix"]
    assert sorted(dataset.splits) == ["test", "train", "valid"]


def test_missing_transcripts(write: Any, content: Any) -> None:
    for part in content.values():
        del part["raw_text"]
    assert load_dataset(write(content)).splits["train"].transcripts == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("valid"), "the split valid is missing; at its top the file has: train, test"),
        (lambda content: content["train"].pop("id"), "train: the key 'id' is missing"),
        (lambda content: content["train"].pop("regression_labels"), "'regression_labels' is missing"),
        (lambda content: content["train"].update(audio=content["train"]["audio"][:9]), "id has 12 samples, but audio has 9"),
        (lambda content: content["train"].update(vision_lengths=3), "vision_lengths has None"),
        (lambda content: content["test"].update(id=[("a", 1.0, 2.0)] * 7), "test: id: an id must be text, not tuple"),
        (lambda content: content["test"].update(vision=np.zeros((7, 8, 5))), "vision has other widths in other splits"),
        (lambda content: content["test"].update(vision=np.array(["a"] * 7)), "test: vision: values of type"),
        (lambda content: content["test"].update(vision=np.zeros(7)), r"vision has the shape \(7,\)"),
        (lambda content: content["test"].update(vision=[np.zeros((2, n + 1)) for n in range(7)]), "samples of other widths: 1 and 7"),
        (lambda content: content["test"].update(vision=[np.zeros(n + 1) for n in range(7)]), "samples of unlike shapes"),
        (lambda content: content["test"].update(vision_mask=np.ones((7, 3))), r"vision_mask: the shape \(7, 3\), not \(7, 8\)"),
        (lambda content: content["test"].update(audio_lengths=[-1] * 7), "negative lengths"),
        (lambda content: content["test"].update(audio_lengths=[1.5] * 7), "not integers"),
        (
            lambda content: content["valid"]["regression_labels"].__setitem__([1, 3], np.nan),
            "is NaN for 2 of 5 samples, first of all video_100/1, video_101/0",
        ),
        (
            lambda content: content["valid"]["regression_labels"].__setitem__(0, 3.5),
            r"is outside \[-3, 3\] for 1 of 5 samples, first of all video_100/0",
        ),
    ],
)
def test_what_stops_the_reader(write: Any, content: Any, change: Any, message: str) -> None:
    change(content)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(write(content, make_content()))
    assert "file.pkl" in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"train": [1], "valid": {}, "test": {}}, {}])
def test_what_is_no_such_file(write: Any, content: Any) -> None:
    with pytest.raises(DataError, match=r"not a dict|is missing"):
        load_dataset(write(content, make_content()))


def test_labels_of_single_modalities(write: Any, content: Any) -> None:
    for part in content.values():
        labels = np.linspace(-1, 1, len(part["id"]))
        part.update(regression_labels_T=labels, regression_labels_A=labels[::-1], regression_labels_V=labels.copy())
    content["test"]["regression_labels_V"][2] = np.nan
    dataset = load_dataset(write(content))
    unimodal = dataset.splits["train"].unimodal_targets
    assert sorted(unimodal) == ["audio", "text"]
    np.testing.assert_allclose(unimodal["audio"], np.linspace(1, -1, 12), atol=1e-6)
    assert unimodal["audio"].dtype == np.float32
    assert "1 are NaN" in warning(dataset, "vision: its own labels (regression_labels_V) are left out")
    assert sorted(load_dataset(write(content, modalities=("text",))).splits["test"].unimodal_targets) == ["text"]


CLASSES = {"task": "classification", "classes": ["a", "b", "c"], "label_range": None}


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_classes(write: Any, content: Any, dtype: type) -> None:
    for part in content.values():
        part["classification_labels"] = part["classification_labels"].astype(dtype)
        del part["regression_labels"]
    dataset = load_dataset(write(content, manifest=CLASSES))
    assert dataset.splits["train"].target.dtype == np.int64
    assert dataset.splits["train"].target.tolist() == [0, 1, 2] * 4
    assert dataset.input_spec().outputs == 3


@pytest.mark.parametrize(("label", "message"), [(3, r"outside \[0, 2\]"), (-1, r"outside \[0, 2\]"), (0.5, "not integers"), (np.nan, "is NaN for 1")])
def test_wrong_classes(write: Any, content: Any, label: float, message: str) -> None:
    content["train"]["classification_labels"] = content["train"]["classification_labels"].astype(float)
    content["train"]["classification_labels"][4] = label
    with pytest.raises(DataError, match=message):
        load_dataset(write(content, manifest=CLASSES))
