"""Probes on features whose answer is known; ridge against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

pytest.importorskip("torch")  # of the package

from mmbench.data.manifest import load_manifest
from mmbench.data.simulate import load_factors, load_patterns, simulate
from mmbench.diagnostics import probes
from mmbench.diagnostics.probes import SPLITS, Factors, envelopes, probe, r2, ridge, share, through_time
from mmbench.errors import DataError

SIZES = dict(zip(SPLITS, (300, 100, 200), strict=True))


def normal(seed: int, width: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {split: generator.normal(size=(size, width)) for split, size in SIZES.items()}


def mixed(factors: dict[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Features that are a linear map of the factors and nothing else."""
    matrix = np.random.default_rng(9).normal(size=(factors["train"].shape[1], width))
    return {split: factors[split] @ matrix + 3 for split in SPLITS}


@pytest.mark.parametrize("width", [8, 500])
@pytest.mark.parametrize("alpha", [0.1, 100.0])
def test_ridge_is_scikit_learns(monkeypatch, width: int, alpha: float) -> None:
    """Narrow, and wider than there are samples."""
    monkeypatch.setattr(probes, "ALPHAS", np.array([alpha]))
    y, x = normal(1, 2), normal(2, width)
    x = {split: x[split] * np.geomspace(0.1, 10, width) + 5 for split in SPLITS}
    scaler = StandardScaler().fit(x["train"])
    wanted = Ridge(alpha=alpha).fit(scaler.transform(x["train"]), y["train"]).predict(scaler.transform(x["test"]))
    found = ridge(x["train"], y["train"], x["valid"], y["valid"], x["test"])
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    np.testing.assert_allclose(r2(y["test"], found), r2_score(y["test"], wanted, multioutput="raw_values"))


def test_the_penalty_is_chosen_on_validation() -> None:
    """Forty useless columns and one that counts: the chosen penalty is the one that scikit-learn's models do best with on validation."""
    y = normal(1, 1)
    noise = normal(5, 1)
    x = {split: np.concatenate([y[split] + noise[split], normal(7, 40)[split]], axis=1) for split in SPLITS}
    scaler = StandardScaler().fit(x["train"])
    models = [Ridge(alpha=alpha).fit(scaler.transform(x["train"]), y["train"][:, 0]) for alpha in probes.ALPHAS]
    errors = [np.abs(model.predict(scaler.transform(x["valid"])) - y["valid"][:, 0]).mean() for model in models]
    best = models[int(np.argmin(errors))]
    assert 0 < int(np.argmin(errors)) < len(models) - 1
    found = ridge(x["train"], y["train"], x["valid"], y["valid"], x["test"])
    np.testing.assert_allclose(found[:, 0], best.predict(scaler.transform(x["test"])), atol=1e-8)


def test_features_that_hold_the_factor_and_features_that_do_not() -> None:
    factor = normal(1, 3)
    assert probe(mixed(factor, 10), factor) == pytest.approx(np.ones(3), abs=1e-4)
    nothing = probe(normal(2, 10), factor)
    assert (np.abs(nothing) < 0.1).all()
    assert np.isnan(probe(normal(2, 4), {**factor, "test": np.zeros((200, 3))})).all()


def test_constant_columns_count_as_nothing() -> None:
    factor = normal(1, 1)
    constant = {split: np.full((size, 2), 0.1) for split, size in SIZES.items()}
    both = {split: np.concatenate([constant[split], factor[split]], axis=1) for split in SPLITS}
    assert probe(both, factor)[0] == pytest.approx(1, abs=1e-4)
    assert abs(probe(constant, factor)[0]) < 0.02
    assert np.isnan(share(constant, factor))


def test_half_of_the_variance() -> None:
    """A factor and noise of one variance: R² of the best reader, and the share, are 1/2."""
    factor = normal(1, 1)
    noise = normal(2, 1)
    features = {split: factor[split] + noise[split] for split in SPLITS}
    assert probe(features, factor)[0] == pytest.approx(0.5, abs=0.1)
    assert share(features, factor) == pytest.approx(0.5, abs=0.1)


def test_what_is_read_is_not_what_moves_the_features() -> None:
    """A factor of a hundredth of the deviation is read exactly, and moves the features by a ten-thousandth of their variance."""
    shown, unique = normal(1, 1), normal(2, 1)
    features = {split: np.concatenate([shown[split], 0.01 * unique[split]], axis=1) for split in SPLITS}
    assert probe(features, unique)[0] > 0.99
    assert share(features, shown) > 0.99
    assert share(features, unique) < 0.03


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    manifest = load_manifest("mosi")
    return manifest, simulate(manifest, 700, layout="aligned", folder=tmp_path_factory.mktemp("data") / "store")


def test_the_envelopes_are_those_of_the_simulation() -> None:
    """Three real frames, s = 1/6, 1/2, 5/6; a gap in the mask counts for nothing; a sample without frames has no weights."""
    weights = envelopes(np.array([[True, False, True, True], [False] * 4]))
    third = 1 / 3
    np.testing.assert_allclose(weights[0], [[third, 0, third, third], [-2 / 9, 0, 0, 2 / 9], [-1 / 9, 0, third, -1 / 9]], atol=1e-12)
    assert not weights[1].any()


def test_means_through_time_by_hand(monkeypatch) -> None:
    monkeypatch.setattr(probes, "_BLOCK", 2)
    values = np.random.default_rng(0).normal(size=(5, 4, 2))
    mask = np.arange(4) < np.array([1, 2, 3, 4, 4])[:, None]
    found = through_time(values, mask)
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found[2, :2], values[2, :3].mean(0))
    np.testing.assert_allclose(found[2, 2:4], (values[2, 2] - values[2, 0]) * 2 / 9)
    np.testing.assert_allclose(found[0], np.concatenate([values[0, 0], 0 * values[0, 0], values[0, 0]]))


def test_the_patterns_are_what_features_were_written_with(simulated) -> None:
    """Frames without the factors times their patterns are noise of variance 1; a factor shows on its stretch, and nothing shows elsewhere."""
    manifest, store = simulated
    patterns = load_patterns(store, manifest)
    assert {name: (w.shape, v.shape) for name, (w, v) in patterns.items()}["text"] == ((1, 768), (3, 768))
    w, v = patterns["text"]
    factors = load_factors(store)["train"]
    x, mask = np.asarray(store.arrays["train/features/text"], np.float64), np.asarray(store.arrays["train/features_mask/text"])
    through = (np.cumsum(mask, 1) - 0.5) / mask.sum(1, keepdims=True)
    for j, envelope in enumerate((np.ones_like(through), 2 * through - 1, 1 - 2 * np.abs(2 * through - 1))):
        x = x - (factors["unique_text"][:, j, None] * envelope)[..., None] * v[j]
    along = x @ w[0] / (w[0] @ w[0])  # the shown factor on its stretch, 0 elsewhere; noise of deviation 1/28
    shown = factors["shown_text"]
    near = np.minimum(np.abs(along), np.abs(along - shown))[mask]
    assert np.sqrt(np.mean(near**2)) == pytest.approx(1 / np.linalg.norm(w), rel=0.1)
    rest = (x - along[..., None] * w[0])[mask]
    assert rest.var() == pytest.approx(1, rel=0.01)


def test_patterns_of_real_data_are_refused(simulated) -> None:
    manifest, store = simulated
    document = {**store.document, "simulation": {**store.document["simulation"], "simulation": 0}}
    with pytest.raises(DataError, match="patterns are not known"):
        load_patterns(type(store)(store.folder, document, store.arrays), manifest)


def test_references_are_ordered_as_they_must_be(simulated) -> None:
    manifest, store = simulated
    names = tuple(manifest.modalities)
    factors = Factors(load_factors(store), names, 0)
    found = factors.references(store.arrays, load_patterns(store, manifest), names)
    for name in names:
        known, learned = found["patterns"][name], found["inputs"][name]
        assert known["shown"] > 0.88
        assert known["unique"] > 0.8
        assert learned["shown"] < known["shown"] + 0.02
        assert learned["unique"] < known["unique"] + 0.02
        assert known["label"] < found["factors"][name]["label"] + 0.03
    ceilings = {name: entry["label"] for name, entry in found["factors"].items()}
    assert ceilings["all"] > ceilings["text"] > ceilings["vision"] > 0
    assert ceilings["text"] == pytest.approx(0.9**2 / (1 + 0.7**2), abs=0.12)  # (1 - p)^2 / (1 + s^2)


def test_what_a_document_says_of_constructed_features(simulated) -> None:
    """Features that are the shown factor, and features that are the unique ones: each reads its own and not the other's."""
    manifest, store = simulated
    factors = Factors(load_factors(store), tuple(manifest.modalities), 0)
    own = factors.read(mixed(factors.shown["audio"], 6), "audio")
    assert own["shown"] > 0.999
    assert own["share_shown"] > 0.999
    assert own["unique"] < 0.05
    assert own["share_unique"] < 0.05
    assert own["label"] == pytest.approx(factors.ceilings()["audio"]["label"], abs=0.02)
    other = factors.read(mixed(factors.unique["audio"], 6), "audio")
    assert other["unique_factors"] == pytest.approx([1, 1, 1], abs=1e-3)
    assert other["share_unique"] > 0.999
    assert other["shown"] < 0.05
    assert other["label"] < 0.05


def test_classes_are_indicators() -> None:
    manifest = load_manifest("iemocap", "6way_session5")
    store = simulate(manifest, 120, layout=next(iter(manifest.layouts)))
    factors = Factors(load_factors(store), ("text",), len(manifest.classes))
    assert factors.label["test"].shape[1] == len(manifest.classes)
    assert (factors.label["test"].sum(1) == 1).all()
    np.testing.assert_array_equal(factors.label["test"].argmax(1), store.arrays["test/target"])
