from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifierCV, RidgeCV

from mmbench.config import DataConfig
from mmbench.data.content import without_ends
from mmbench.data.ids import video_of
from mmbench.data.load import load_dataset
from mmbench.data.manifest import list_manifests, load_manifest
from mmbench.data.simulate import SEED, STRENGTHS, _Simulation, _Stream, load_factors, simulate
from mmbench.data.store import ARRAYS, Store
from mmbench.errors import DataError


def pooled(store: Store, split: str, names: list[str]) -> np.ndarray:
    """Means over real frames, side by side."""
    parts = []
    for name in names:
        values, mask = store.arrays[f"{split}/features/{name}"], store.arrays[f"{split}/features_mask/{name}"]
        parts.append(np.asarray(values.sum(axis=1) / mask.sum(axis=1)[:, None], dtype=np.float64))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("name", list_manifests())
def test_the_shape_of_every_data_set(name: str) -> None:
    manifest = load_manifest(name)
    for layout, published in manifest.layouts.items():
        dataset = load_dataset(DataConfig(name=name, simulated=True, samples=60, features=layout))
        assert sum(map(len, dataset.splits.values())) == 60
        specs = dataset.input_spec().modalities
        assert {key: (spec.length, spec.size) for key, spec in specs.items()} == {
            key: (shape.length, shape.width) for key, shape in published.shapes.items()
        }
        seen: set[str] = set()
        for split in dataset.splits.values():
            videos = {video_of(key) for key in split.ids}
            assert len(set(split.ids)) == len(split.ids)
            assert not videos & seen
            seen |= videos
            for part in split.inputs.values():
                assert np.isfinite(part.values).all()
                assert part.mask.any(axis=1).all()
                assert not np.asarray(part.values)[~np.asarray(part.mask)].any()
            labels = np.asarray(split.target, dtype=np.float64)
            assert np.isin(np.round(labels, 3), np.round(manifest.labels.values, 3)).all()
        assert len(seen) < 30
        assert bool(dataset.splits["train"].unimodal_targets) == manifest.unimodal_labels


def test_it_is_never_silent() -> None:
    record = load_dataset(DataConfig(name="mosi", simulated=True, samples=30)).record
    assert record["simulated"] is True
    assert record["split_status"] == "simulated"
    assert any("SIMULATED" in line for line in record["warnings"])
    assert record["simulation"]["seed"] == 2024


def test_full_size_is_the_published_size() -> None:
    store = simulate(load_manifest("iemocap"))
    assert {split: len(part["ids"]) for split, part in store.document["splits"].items()} == {"train": 5225, "valid": 585, "test": 1623}


def test_the_same_request_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    manifest = load_manifest("sims")
    one = simulate(manifest, 40, seed=3, folder=tmp_path / "one")
    same = simulate(manifest, 40, seed=3, folder=tmp_path / "same")
    other = simulate(manifest, 40, seed=4, folder=tmp_path / "other")
    assert (one.folder / ARRAYS).read_bytes() == (same.folder / ARRAYS).read_bytes()
    assert one.document == same.document
    assert (one.folder / ARRAYS).read_bytes() != (other.folder / ARRAYS).read_bytes()


def test_the_stream_is_pcg64_and_nearly_normal() -> None:
    first = _Stream("a", 1).raw(2)
    assert first.tolist() == [7485163381253604608, 11284175449676028232]
    draws = _Stream("b").normal(200_000).astype(np.float64)
    assert abs(draws.mean()) < 0.01
    assert abs(draws.std() - 1) < 0.01
    assert abs((draws**3).mean()) < 0.02
    low = _Stream("c").integers(7, 10_000)
    assert sorted(set(low.tolist())) == list(range(7))
    assert 0 <= _Stream("d").uniform(1000).min() < 0.01


@pytest.mark.parametrize("seed", [2024, 1])
def test_it_can_be_learnt_and_fusion_pays(seed: int) -> None:
    store = simulate(load_manifest("mosi"), 1000, seed)
    scores = {}
    for names in (["text"], ["audio"], ["vision"], ["text", "audio", "vision"]):
        model = RidgeCV(np.logspace(0, 5, 11)).fit(pooled(store, "train", names), store.arrays["train/target"])
        scores["+".join(names)] = np.corrcoef(model.predict(pooled(store, "test", names)), store.arrays["test/target"])[0, 1]
    assert 0.55 < scores["text"] < 0.75, scores
    assert 0.2 < scores["audio"] < 0.5, scores
    assert 0.2 < scores["vision"] < 0.5, scores
    assert scores["text+audio+vision"] > scores["text"] + 0.02, scores


def test_classes_can_be_learnt_and_fusion_pays() -> None:
    store = simulate(load_manifest("iemocap"), 1500)
    scores = {}
    for names in (["text"], ["audio"], ["text", "audio", "vision"]):
        model = RidgeClassifierCV(np.logspace(1, 5, 9)).fit(pooled(store, "train", names), store.arrays["train/target"])
        scores["+".join(names)] = (model.predict(pooled(store, "test", names)) == store.arrays["test/target"]).mean()
    assert 0.25 < scores["audio"] < scores["text"] < 0.8, scores
    assert scores["text+audio+vision"] > scores["text"], scores


def test_the_true_factors_explain_the_data() -> None:
    manifest = load_manifest("sims")
    store = simulate(manifest, 800)
    factors = load_factors(store)
    for split, names in factors.items():
        np.testing.assert_allclose(names["label"], store.arrays[f"{split}/target"], atol=1e-6)
    train = factors["train"]
    for name, strength in STRENGTHS.items():
        conflict = np.asarray(train[f"conflict_{name}"])
        assert abs(conflict.mean() - strength.conflict) < 0.06
        own = np.asarray(store.arrays[f"train/unimodal/{name}"])
        label = np.asarray(store.arrays["train/target"])
        np.testing.assert_array_equal(own[~conflict], label[~conflict])
        assert (own[conflict] != label[conflict]).mean() > 0.5
        shown = np.asarray(train[f"shown_{name}"])[:, 0]
        noise = shown - (own - own.mean()) / own.std()
        assert abs(noise.std() - strength.noise) < 0.15
        truth = np.concatenate([train[f"shown_{name}"], train[f"unique_{name}"]], axis=1)
        model = RidgeCV(np.logspace(0, 5, 11)).fit(pooled(store, "train", [name]), truth)
        recovered = model.predict(pooled(store, "test", [name]))
        test = factors["test"]
        assert np.corrcoef(recovered[:, 0], test[f"shown_{name}"][:, 0])[0, 1] > 0.7
        assert np.corrcoef(recovered[:, 1], test[f"unique_{name}"][:, 0])[0, 1] > 0.7


def test_the_label_shows_on_one_stretch_of_a_sample() -> None:
    manifest = load_manifest("mosi")
    store = simulate(manifest, 300, layout="unaligned")
    pattern = _Simulation(manifest, manifest.layouts["unaligned"], {}, SEED).patterns["text"][0][0].astype(np.float64)
    shown = np.asarray(store.arrays["train/factors/shown_text"])[:, 0]
    mask = np.asarray(store.arrays["train/features_mask/text"])
    values = np.asarray(store.arrays["train/features/text"], dtype=np.float64)
    shares, ends = [], []
    for i in np.flatnonzero(np.abs(shown) > 1.5):
        on = (values[i][mask[i]] @ pattern / (pattern @ pattern) / shown[i]) > 0.5
        assert (np.diff(np.flatnonzero(on)) == 1).all()
        shares.append(on.mean())
        ends.append((on[0], on[-1]))
    assert 0.55 < np.mean(shares) < 0.85
    assert {(True, False), (False, True), (False, False)} <= set(ends)


def test_tokens_follow_the_text() -> None:
    dataset = load_dataset(DataConfig(name="mosi", simulated=True, samples=300), tokens=frozenset({"text"}))
    split = dataset.splits["train"]
    tokens, mask = np.asarray(split.inputs["text"].values), np.asarray(split.inputs["text"].mask)
    assert (tokens[:, 0] == 101).all()
    assert (tokens[np.arange(len(tokens)), mask.sum(axis=1) - 1] == 102).all()
    assert (mask.sum(axis=1) >= 3).all()
    np.testing.assert_array_equal(tokens != 0, mask)
    charged = (tokens >= 1000) & (tokens < 2000)
    level = np.where(charged, (tokens - 1000) // 40, 0).sum(axis=1) / np.maximum(charged.sum(axis=1), 1)
    some = charged.any(axis=1)
    assert np.corrcoef(level[some], np.asarray(split.target)[some])[0, 1] > 0.4
    assert len(split.transcripts[0].split()) == mask[0].sum() - 2


def test_aligned_masks_are_the_texts_without_its_ends() -> None:
    split = load_dataset(DataConfig(name="mosi", simulated=True, samples=40, features="aligned")).splits["train"]
    for name in ("audio", "vision"):
        np.testing.assert_array_equal(split.inputs[name].mask, without_ends(np.asarray(split.inputs["text"].mask)))


def test_lengths_vary() -> None:
    split = load_dataset(DataConfig(name="mosi", simulated=True, samples=60, features="unaligned")).splits["train"]
    for part in split.inputs.values():
        assert len(np.unique(np.asarray(part.mask).sum(axis=1))) > 5


def test_a_folder_of_ones_own_can_be_used_by_its_path(tmp_path: Path) -> None:
    store = simulate(load_manifest("mosi"), 30, folder=tmp_path / "own")
    dataset = load_dataset(DataConfig(name="mosi", path=str(tmp_path / "own")))
    assert dataset.record["simulated"] is True
    np.testing.assert_array_equal(dataset.splits["train"].target, store.arrays["train/target"])
    with pytest.raises(DataError, match="holds simulated mosi, not mosei"):
        load_dataset(DataConfig(name="mosei", path=str(tmp_path / "own")))
    with pytest.raises(DataError, match="holds something else"):
        simulate(load_manifest("mosi"), 31, folder=tmp_path / "own")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        simulate(load_manifest("mosi"), 30, folder=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulate(load_manifest("mosi"), 5), "too few"),
        (lambda: simulate(load_manifest("sims"), 30, layout="aligned"), "sims has no aligned layout; it has unaligned"),
        (lambda: load_factors(Path("nowhere")), "no true factors"),
    ],
)
def test_what_cannot_be_simulated(call: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_real_data_have_no_true_factors(write: Any, content: Any) -> None:
    from mmbench.data.load import open_source

    with pytest.raises(DataError, match="no true factors"):
        load_factors(open_source(write(content)).store)


@pytest.mark.parametrize("samples", [10**11, 10**400], ids=["many", "more"])
def test_more_samples_than_any_memory_holds_are_refused(samples: int) -> None:
    with pytest.raises(DataError, match=r"data\.samples: .* samples are more than 100 GB of simulated data"):
        load_dataset(DataConfig(name="mosi", simulated=True, samples=samples))
