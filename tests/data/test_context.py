from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.config import DataConfig, StandardizeConfig
from mmbench.data import context
from mmbench.data.context import join_context, previous_utterances
from mmbench.data.dataset import Modality
from mmbench.data.ids import video_of
from mmbench.data.load import load_dataset
from mmbench.errors import DataError

from .raw_samples import make_config, make_rows, write_sounds, write_table

TEXT, AUDIO = frozenset({"text"}), frozenset({"audio"})
IDS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), min_size=1, max_size=25, unique=True)


@given(IDS, st.integers(1, 5))
def test_previous_utterances_are_the_nearest_before_in_the_same_video(pairs: list[tuple[str, int]], count: int) -> None:
    ids = [f"{video}/{clip}" for video, clip in pairs]
    previous = previous_utterances(ids, count)
    assert (previous.shape, previous.dtype) == ((len(ids), count), np.int64)
    for row, (video, clip) in zip(previous.tolist(), pairs, strict=True):
        found = [i for i in row if i >= 0]
        assert row == [-1] * (count - len(found)) + found
        earlier = sorted(other for name, other in pairs if name == video and other < clip)
        assert [pairs[i] for i in found] == [(video, other) for other in earlier[-count:]]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["v/10", "v/9", "v/2"], [[2, 1], [-1, 2], [-1, -1]]),
        (["Ses01F_impro01/F010", "Ses01F_impro01/M000", "Ses01F_impro01/F009"], [[-1, 2], [2, 0], [-1, -1]]),
        (["a/b/2", "a/b/1", "a/c/1"], [[-1, 1], [-1, -1], [-1, -1]]),
        (["alone", "other"], [[-1, -1], [-1, -1]]),
        (["v/x10", "v/x9", "v/3", "v/3a"], [[3, 1], [2, 3], [-1, -1], [-1, 2]]),
    ],
)
def test_the_order_of_clips(ids: list[str], expected: list[list[int]]) -> None:
    assert previous_utterances(ids, 2).tolist() == expected


def test_no_utterances_at_all() -> None:
    assert previous_utterances([], 3).shape == (0, 3)
    with pytest.raises(ValueError, match="at least 1"):
        previous_utterances(["a/1"], 0)


def slow(part: Modality, previous: np.ndarray) -> list[np.ndarray]:
    """Real frames of the previous utterances of each sample, one after the other."""
    result = []
    for row in previous:
        frames: list[Any] = []
        for i in row[row >= 0]:
            own = [part.values[i, t] for t in range(part.mask.shape[1]) if part.mask[i, t]]
            frames += own[1:] if part.kind == "tokens" and frames else own
        result.append(np.array(frames).reshape(len(frames), *part.values.shape[2:]))
    return result


@st.composite
def cases(draw: st.DrawFn) -> tuple[Modality, np.ndarray]:
    size, length, count = draw(st.integers(1, 8)), draw(st.integers(0, 6)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    kind = draw(st.sampled_from(["features", "tokens", "waveform"]))
    mask = rng.random((size, length)) < draw(st.sampled_from([0.3, 0.8, 1.0]))  # with holes, as word-aligned features have them
    if kind == "tokens":
        values: np.ndarray = rng.integers(1, 99, mask.shape)
    else:
        values = rng.normal(size=(*mask.shape, 3) if kind == "features" else mask.shape).astype(np.float32)
    ids = [f"{'ab'[i]}/{clip}" for i, clip in zip(rng.integers(0, 2, size), rng.permutation(size), strict=True)]
    return Modality(values, mask), previous_utterances(ids, count)


@given(cases())
@settings(deadline=None)
def test_joining_equals_a_slow_loop(case: tuple[Modality, np.ndarray]) -> None:
    part, previous = case
    joined = join_context(part, previous)
    assert joined.kind == part.kind
    assert (joined.values.dtype, joined.mask.dtype, joined.values.shape[2:]) == (part.values.dtype, bool, part.values.shape[2:])
    assert (joined.mask.shape[1] == 0) == (part.mask.shape[1] == 0)
    if part.kind == "waveform":
        assert joined.mask.shape[1] % max(1, part.mask.shape[1]) == 0
    elif part.mask.shape[1]:
        assert joined.mask.shape[1] == max(1, int(joined.mask.sum(axis=1).max()))
    for values, mask, expected in zip(joined.values, joined.mask, slow(part, previous), strict=True):
        np.testing.assert_array_equal(mask, np.arange(len(mask)) < len(expected))
        np.testing.assert_array_equal(values[mask], expected)
        assert not values[~mask].any()


def test_large_contexts_are_mapped_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    part = Modality(rng.normal(size=(9, 5, 2)).astype(np.float32), rng.random((9, 5)) < 0.5)
    previous = previous_utterances([f"v/{i}" for i in range(9)], 2)
    expected = join_context(part, previous, "one")
    monkeypatch.setattr(context, "IN_MEMORY", 10)
    monkeypatch.setattr(context, "_BLOCK_BYTES", 60)
    monkeypatch.setattr("mmbench.data.store._BLOCK_BYTES", 60)
    assert not isinstance(join_context(part, previous).values, np.memmap)
    mapped = join_context(part, previous, "one")
    assert isinstance(mapped.values, np.memmap)
    np.testing.assert_array_equal(mapped.values, expected.values)
    np.testing.assert_array_equal(mapped.mask, expected.mask)
    other = Modality(part.values * 2, part.mask)
    np.testing.assert_array_equal(join_context(other, previous, "one").values, expected.values)  # the key identifies the content
    np.testing.assert_array_equal(join_context(other, previous, "two").values, expected.values * 2)


def check_contexts(dataset: Any, count: int, name: str) -> None:
    for split in dataset.splits.values():
        part, joined = split.inputs[name], split.inputs[f"{name}_context"]
        previous = previous_utterances(split.ids, count)
        for sample, row in enumerate(previous):
            assert all(video_of(split.ids[i]) == video_of(split.ids[sample]) for i in row[row >= 0])
        for values, mask, expected in zip(joined.values, joined.mask, slow(part, previous), strict=True):
            np.testing.assert_array_equal(values[mask], expected)
        assert (~joined.mask.any(axis=1) == (previous < 0).all(axis=1)).all()


@pytest.mark.parametrize("cached", [False, True])
def test_a_data_set_with_context(write: Any, content: Any, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if cached:
        monkeypatch.setattr(context, "IN_MEMORY", 0)
    plain = load_dataset(write(content), tokens=TEXT)
    dataset = load_dataset(write(content, context={"text": 1, "vision": 2}), tokens=TEXT)
    assert dataset.modalities == ("text", "audio", "vision")
    assert dataset.fingerprint == plain.fingerprint
    assert (dataset.splits["test"].context, plain.splits["test"].context) == ({"text": 1, "vision": 2}, {})
    check_contexts(dataset, 1, "text")
    check_contexts(dataset, 2, "vision")
    spec = dataset.input_spec().contexts
    assert (set(spec), spec["text"].kind, spec["vision"].kind, spec["vision"].size) == ({"text", "vision"}, "tokens", "features", 2)
    assert dataset.record["context"]["vision"]["utterances"] == 2
    assert dataset.record["context"]["vision"]["length"] == spec["vision"].length
    assert plain.record["context"] == {}


def test_transforms_come_before_the_context(write: Any, content: Any) -> None:
    options = {"standardize": StandardizeConfig(), "max_length": {"audio": 4}}
    dataset = load_dataset(write(content, context={"audio": 2}, **options))
    plain = load_dataset(write(content, **options))
    np.testing.assert_array_equal(dataset.splits["valid"].inputs["audio"].values, plain.splits["valid"].inputs["audio"].values)
    check_contexts(dataset, 2, "audio")
    assert dataset.splits["train"].inputs["audio_context"].mask.shape[1] <= 8


def test_other_transforms_are_other_contexts(write: Any, content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "IN_MEMORY", 0)
    for options in ({}, {"standardize": StandardizeConfig()}, {"max_length": {"audio": 2}}, {}):
        check_contexts(load_dataset(write(content, context={"audio": 2}, **options)), 2, "audio")


def test_context_of_a_modality_that_is_not_in_use(write: Any, content: Any) -> None:
    with pytest.raises(DataError, match=r"data.context names vision, which is not among the modalities in use: text, audio"):
        load_dataset(write(content, modalities=("text", "audio"), context={"vision": 1}))


def test_simulated_data_have_context() -> None:
    dataset = load_dataset(DataConfig(name="mosi", simulated=True, samples=60, context={"text": 2, "audio": 1}))
    check_contexts(dataset, 2, "text")
    check_contexts(dataset, 1, "audio")
    assert dataset.splits["train"].inputs["text_context"].mask.any()


def test_raw_folders_have_context(tmp_path: Path) -> None:
    pytest.importorskip("soundfile", reason="writing recordings needs soundfile")
    write_table(tmp_path / "mine", make_rows())
    write_sounds(tmp_path / "mine", make_rows())
    dataset = load_dataset(make_config(tmp_path / "mine", make_rows(), context={"text": 2, "audio": 2}), tokens=TEXT, waveforms=AUDIO)
    train = dataset.splits["train"]
    assert train.inputs["text_context"].values.shape == (6, 0)
    assert train.inputs["audio_context"].values.shape == (6, 2 * 8000)
    assert dataset.input_spec().contexts["audio"].length == 16000
    check_contexts(dataset, 2, "audio")
    own = train.inputs["audio"].mask.sum(axis=1)
    assert train.inputs["audio_context"].mask.sum(axis=1).tolist() == [0, own[0], own[0] + own[1], 0, own[3], own[3] + own[4]]
