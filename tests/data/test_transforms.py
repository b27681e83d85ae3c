from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.config import StandardizeConfig
from mmbench.data import transforms
from mmbench.data.dataset import Modality, Split
from mmbench.data.store import ARRAYS
from mmbench.data.transforms import cut, standardize
from mmbench.errors import DataError


def make_splits(seed: int, size: int = 9, length: int = 5, width: int = 4, scale: float = 1.0, shift: float = 0.0) -> dict[str, Split]:
    """Features with zero padding, read-only as the store's are; column 0 is constant."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name in ("train", "valid", "test"):
        mask = rng.random((size, length)) < 0.6
        mask[:, 0] = True
        values = (rng.normal(size=(size, length, width)) * scale + shift).astype(np.float32)
        values[..., 0] = 7 if name == "train" else values[..., 0]
        values[~mask] = 0
        values.flags.writeable = False
        tokens = Modality(np.where(mask, 5, 0), mask)
        splits[name] = Split(tuple(map(str, range(size))), {"audio": Modality(values, mask), "text": tokens}, np.zeros(size, np.float32))
    return splits


def by_hand(splits: dict[str, Split], percentiles: tuple[float, float] | None) -> dict[str, np.ndarray]:
    """The same, one frame at a time in float64."""
    part = splits["train"].inputs["audio"]
    frames = np.array(
        [frame for sample, mask in zip(part.values, part.mask, strict=True) for frame, real in zip(sample, mask, strict=True) if real], float
    )
    low, high = (np.percentile(frames, percentiles, axis=0)) if percentiles else (-np.inf, np.inf)
    frames = np.clip(frames, low, high)
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    results = {}
    for name, split in splits.items():
        values = (np.clip(split.inputs["audio"].values.astype(float), low, high) - mean) / np.where(std > 0, std, 1)
        values[..., std == 0] = 0
        results[name] = values * split.inputs["audio"].mask[..., None]
    return results


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([None, (0.5, 99.5), (5.0, 95.0), (0.0, 60.0)]),
    st.sampled_from([1.0, 1e-3, 1e4]),
    st.sampled_from([0.0, 5.0]),
)
def test_standardize_is_the_formula(seed: int, percentiles: tuple[float, float] | None, scale: float, shift: float) -> None:
    splits = make_splits(seed, scale=scale, shift=shift)
    result = standardize(splits, StandardizeConfig(percentiles=percentiles))
    for name, expected in by_hand(splits, percentiles).items():
        part = result[name].inputs["audio"]
        assert part.values.dtype == np.float32
        np.testing.assert_allclose(part.values, expected, atol=2e-3 if shift and scale < 1 else 1e-4)
        assert not part.values[~part.mask].any()
        assert not part.values[..., 0].any()
        assert result[name].inputs["text"] is splits[name].inputs["text"]
        assert part.mask is splits[name].inputs["audio"].mask
    if percentiles is None:
        frames = result["train"].inputs["audio"].values[splits["train"].inputs["audio"].mask][:, 1:]
        np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)


def test_valid_and_test_have_no_influence() -> None:
    splits, others = make_splits(1), make_splits(2)
    mixed = {"train": splits["train"], "valid": others["valid"], "test": others["test"]}
    config = StandardizeConfig(percentiles=(1, 99))
    one, other = standardize(splits, config), standardize(mixed, config)
    np.testing.assert_array_equal(one["train"].inputs["audio"].values, other["train"].inputs["audio"].values)


@pytest.mark.parametrize("constant", [0.1, 1e6, -3.3e-5, 12345.678])
def test_a_constant_column_becomes_zero_in_every_split(constant: float) -> None:
    splits = make_splits(0, size=40)
    values = np.array(splits["train"].inputs["audio"].values)
    values[..., 2] = constant
    splits["train"] = Split(
        splits["train"].ids, {**splits["train"].inputs, "audio": Modality(values, splits["train"].inputs["audio"].mask)}, np.zeros(40)
    )
    for split in standardize(splits, StandardizeConfig()).values():
        assert not split.inputs["audio"].values[..., 2].any()


def test_rounding_of_a_constant_is_no_signal() -> None:
    splits = make_splits(0, size=40)
    part = splits["train"].inputs["audio"]
    values = np.array(part.values)
    values[..., 2] = np.where(np.arange(40)[:, None] % 2, 1e6, np.nextafter(np.float32(1e6), np.float32(2e6)))
    splits["train"] = Split(splits["train"].ids, {"audio": Modality(values, part.mask)}, np.zeros(40, np.float32))
    result = standardize({"train": splits["train"]}, StandardizeConfig())
    assert not result["train"].inputs["audio"].values[..., 2].any()


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    splits, config = make_splits(3, width=35), StandardizeConfig(percentiles=(2, 98))
    expected = standardize(splits, config)["test"].inputs["audio"].values
    monkeypatch.setattr(transforms, "_BLOCK_BYTES", 1)
    np.testing.assert_allclose(standardize(splits, config)["test"].inputs["audio"].values, expected, atol=1e-6)


def test_what_is_kept_in_the_cache_is_made_once_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    splits, config = make_splits(3, width=35), StandardizeConfig(percentiles=(2, 98))
    expected, keys = standardize(splits, config), {"audio": ["digest", "audio"]}
    monkeypatch.setattr(transforms, "IN_MEMORY", 0)
    first = standardize(splits, config, keys)
    other = standardize(splits, StandardizeConfig(), keys)["test"].inputs["audio"].values
    foreign = standardize(make_splits(4, width=35), config, {"audio": ["other", "audio"]})["test"].inputs["audio"].values
    shorter, _ = cut(splits, {"audio": 2})
    assert standardize(shorter, config, keys)["test"].inputs["audio"].values.shape == (9, 2, 35)
    monkeypatch.setattr(transforms, "_real_frames", None)  # nothing is read again
    again = standardize(splits, config, keys)
    for name, split in expected.items():
        values = split.inputs["audio"].values
        np.testing.assert_array_equal(first[name].inputs["audio"].values, values)
        np.testing.assert_array_equal(again[name].inputs["audio"].values, values)
        assert isinstance(again[name].inputs["audio"].values.base, np.memmap)
    assert not np.array_equal(other, expected["test"].inputs["audio"].values)
    assert not np.array_equal(foreign, expected["test"].inputs["audio"].values)


def test_a_cache_that_cannot_be_written_or_is_damaged_changes_no_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    splits, config, keys = make_splits(3), StandardizeConfig(), {"audio": "this"}
    expected = standardize(splits, config)["test"].inputs["audio"].values
    monkeypatch.setattr(transforms, "IN_MEMORY", 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(standardize(splits, config, keys)["test"].inputs["audio"].values, expected)
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "full"))
    with monkeypatch.context() as full:
        full.setattr("mmbench.data.store.shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
        np.testing.assert_array_equal(standardize(splits, config, keys)["test"].inputs["audio"].values, expected)
        assert not list(tmp_path.rglob(ARRAYS))
    standardize(splits, config, keys)
    (kept,) = tmp_path.rglob(ARRAYS)
    kept.write_bytes(kept.read_bytes()[:-4])
    np.testing.assert_array_equal(standardize(splits, config, keys)["test"].inputs["audio"].values, expected)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_cut_keeps_the_first_frames(length: int, seed: int) -> None:
    splits = make_splits(seed)
    result, warnings = cut(splits, {"audio": length})
    for name, split in result.items():
        old, new = splits[name].inputs["audio"], split.inputs["audio"]
        np.testing.assert_array_equal(new.values, old.values[:, :length])
        np.testing.assert_array_equal(new.mask, old.mask[:, :length])
        assert split.inputs["text"] is splits[name].inputs["text"]
    assert warnings == []


def test_cut_leaves_every_sample_a_frame() -> None:
    mask = np.array([[False, True, True], [True, True, False]])
    part = Modality(np.zeros((2, 3, 1), np.float32), mask)
    splits = {"train": Split(("a", "b"), {"audio": part}, np.zeros(2, np.float32))}
    result, warnings = cut(splits, {"audio": 1})
    assert result["train"].inputs["audio"].mask.tolist() == [[True], [True]]
    assert warnings == ["audio: 1 samples have no real frame among the first 1; their first frame counts as real"]
    assert not mask[0, 0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modalities": ("vision",)}, "vision, which is not among the modalities in use: audio, text"),
        ({"modalities": ("text",)}, "text has token ids"),
        ({"percentiles": (99.0, 1.0)}, "a lower and a higher number"),
        ({"percentiles": (-1.0, 50.0)}, "between 0 and 100"),
    ],
)
def test_what_cannot_be_standardised(config: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        standardize(make_splits(0), StandardizeConfig(**config))


def test_cutting_a_modality_that_is_not_in_use() -> None:
    with pytest.raises(DataError, match="max_length names vision"):
        cut(make_splits(0), {"vision": 3})
