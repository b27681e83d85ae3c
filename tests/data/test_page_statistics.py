"""The numbers on the page of a data set, against loops and scikit-learn, and on the real CMU-MOSI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.cli.data import command
from mmbench.config import DataConfig
from mmbench.data import statistics
from mmbench.data.checks import describe, examine, facts
from mmbench.data.dataset import Modality
from mmbench.data.load import load_dataset
from mmbench.data.manifest import load_manifest
from mmbench.data.statistics import PENALTIES, floors, frames, ridge
from mmbench.errors import DataError
from mmbench.metrics import METRICS

from .samples import SIZES, make_content

REAL = Path(__file__).parents[3] / "shared" / "data" / "mosi" / "unaligned_50.pkl"


def row(page: str, start: str) -> str:
    lines = [line for line in page.splitlines() if line.startswith(start)]
    assert len(lines) == 1, page
    return lines[0]


# frames


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(*[st.integers(1, 9)] * 3),
    length=st.integers(1, 40),
    width=st.integers(1, 4),
    block=st.integers(1, 2000),
)
def test_frames_against_loops(seed: int, sizes: tuple[int, int, int], length: int, width: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    parts, all_lengths, zero, means = {}, [], 0, {}
    varies: list[set[float]] = [set() for _ in range(width)]
    for split, size in zip(SIZES, sizes, strict=True):
        mask = rng.random((size, length)) < 0.6
        values = rng.integers(-1, 2, (size, length, width)).astype(np.float32) * rng.integers(0, 2, width) * mask[..., None]
        parts[split] = Modality(values.astype(np.float32), mask)
        means[split] = np.zeros((size, width))
        for i in range(size):
            real = [[float(x) for x in values[i, t]] for t in range(length) if mask[i, t]]
            all_lengths.append(len(real))
            zero += sum(all(x == 0 for x in frame) for frame in real)
            for column in range(width):
                means[split][i, column] = sum(frame[column] for frame in real) / len(real) if real else 0
                if split == "train":
                    varies[column] |= {frame[column] for frame in real}
    before, statistics._BLOCK_BYTES = statistics._BLOCK_BYTES, block
    try:
        found = frames(parts)
    finally:
        statistics._BLOCK_BYTES = before
    assert (found.total, found.longest, found.zero) == (sum(all_lengths), max(all_lengths), zero)
    assert found.median == np.median(all_lengths)
    assert found.mean == round(sum(all_lengths) / len(all_lengths), 2)
    assert found.constant == tuple(column for column in range(width) if len(varies[column]) <= 1)
    for split, expected in means.items():
        np.testing.assert_allclose(found.means[split], expected, atol=1e-12)
    assert sum(count for _, _, count in found.histogram) == sum(sizes)
    assert len(found.histogram) <= 8
    for low, high, count in found.histogram:
        assert count == sum(low <= n <= high or (n == 0 and low == 1) for n in all_lengths)
    assert found.histogram[-1][1] == max(1, *all_lengths)


def test_a_column_that_varies_between_blocks_alone_is_not_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_BLOCK_BYTES", 1)
    values = np.broadcast_to(np.arange(3, dtype=np.float32)[:, None, None], (3, 4, 2)) * np.array([0, 1], np.float32)
    part = Modality(np.ascontiguousarray(values), np.ones((3, 4), bool))
    assert frames(dict.fromkeys(SIZES, part)).constant == (0,)


def test_frames_of_tokens_and_of_sound() -> None:
    mask = np.array([[True, True, False], [True, False, False]])
    tokens = frames({split: Modality(np.zeros((2, 3), np.int64), mask) for split in SIZES})
    assert (tokens.total, tokens.zero, tokens.constant, dict(tokens.means)) == (9, 0, (), {})
    sound = frames({split: Modality(np.array([[0, 0.5, 0], [0, 0, 0]], np.float32), mask) for split in SIZES})
    assert (sound.total, sound.zero, dict(sound.means)) == (9, 6, {})


# floors


@pytest.mark.parametrize(("size", "width"), [(60, 5), (12, 40)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_ridge_against_scikit_learn(size: int, width: int, outputs: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(size)
    sizes = {"train": size, "valid": 20, "test": 15}
    inputs = {split: rng.normal(size=(count, width)) * np.arange(1, width + 1) + 3 for split, count in sizes.items()}
    for values in inputs.values():
        values[:, 1] = 7  # a column that says nothing
    targets = {split: inputs[split][:, :outputs] * 0.1 + rng.normal(size=(sizes[split], outputs)) for split in ("train", "valid")}
    kept = [column for column in range(width) if column != 1]
    mean, scale = inputs["train"][:, kept].mean(0), inputs["train"][:, kept].std(0)
    x = {split: (values[:, kept] - mean) / scale for split, values in inputs.items()}
    fits = {penalty: linear.Ridge(alpha=penalty * size).fit(x["train"], targets["train"]) for penalty in PENALTIES}
    errors = {penalty: np.mean((fit.predict(x["valid"]).reshape(-1, outputs) - targets["valid"]) ** 2) for penalty, fit in fits.items()}
    best = min(errors, key=errors.__getitem__)
    prediction, penalty = ridge(inputs, targets["train"], targets["valid"])
    assert penalty == best
    np.testing.assert_allclose(prediction, fits[best].predict(x["test"]).reshape(-1, outputs), atol=1e-9)


def test_ridge_never_sees_the_targets_of_test_nor_of_validation() -> None:
    rng = np.random.default_rng(0)
    inputs = {split: rng.normal(size=(30, 4)) for split in SIZES}
    train = rng.normal(size=(30, 1))
    one, chosen = ridge(inputs, train, inputs["valid"] @ np.ones((4, 1)))
    other, same = ridge(inputs, train, inputs["valid"] @ np.ones((4, 1)) + 1e-9)
    assert chosen == same
    np.testing.assert_array_equal(one, other)


def scores(dataset: Any) -> dict[str, dict[str, float]]:
    found = floors(dataset, {name: frames({split: part.inputs[name] for split, part in dataset.splits.items()}) for name in dataset.modalities})
    return {floor.name: dict(floor.scores) for floor in found}


def test_floors_of_regression(make_dataset: Any) -> None:
    dataset = make_dataset()
    found = scores(dataset)
    assert list(found) == ["constant", "ridge text", "ridge audio", "ridge all", "oracle"]
    train, test = (dataset.splits[split].target.astype(float) for split in ("train", "test"))
    assert found["constant"]["mae"] == pytest.approx(np.abs(test - sorted(train)[18]).mean())
    assert np.isnan(found["constant"]["corr"])
    assert found["oracle"]["mae"] == pytest.approx(np.abs(test - sorted(test)[6]).mean())
    assert found["ridge all"]["corr"] > 0.7 > 0 > -0.7  # the factor is in every feature
    assert found["ridge all"]["mae"] < found["constant"]["mae"]


def test_floors_of_classes(make_dataset: Any) -> None:
    dataset = make_dataset("classification", sizes=(60, 20, 25))
    found = scores(dataset)
    train, test = (dataset.splits[split].target.tolist() for split in ("train", "test"))
    most = max(range(3), key=train.count)
    assert found["constant"]["wacc"] == pytest.approx(test.count(most) / len(test))
    assert found["oracle"]["wacc"] == pytest.approx(max(test.count(label) for label in range(3)) / len(test))
    assert found["ridge all"]["wacc"] > found["oracle"]["wacc"]


def test_one_modality_has_no_all_and_a_metric_of_a_plugin_is_found(make_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Known:
        def find(self, kind: str, name: str) -> Known:
            assert (kind, name) == ("metric", "own")
            return self

        def load(self) -> Any:
            return METRICS["mse"]

    monkeypatch.setattr(statistics, "catalogue", Known)
    dataset = make_dataset(modalities=("audio",))
    object.__setattr__(dataset, "metrics", ("own",))
    found = scores(dataset)
    assert list(found) == ["constant", "ridge audio", "oracle"]
    assert found["constant"]["own"] > found["ridge audio"]["own"]


# the page


def labels() -> dict[str, Any]:
    """The published labels of training that fit `make_content`: twelve from -3 to 3."""
    values = [float(value) for value in make_content()["train"]["regression_labels"]]
    return {"values": values, "counts": [1] * len(values)}


def known(config: DataConfig) -> dict[str, Any]:
    dataset, problems = examine(config)
    return facts(dataset, load_manifest(config.name), problems)


def test_what_is_as_published_and_what_is_not(write: Any, content: Any) -> None:
    page = describe(known(write(content, manifest={"labels": labels()})))
    assert "splits: published (train as published; valid as published; test as published)" in page
    assert "not as published" not in page
    assert "differs" not in page
    assert row(page, "below 0").split()[-1] == "6"
    for part in content.values():
        part["vision"] = part["vision"][:, :7, :1]
    content["train"]["regression_labels"][0] = 3
    del content["valid"]["regression_labels"]
    for key, value in content["valid"].items():
        content["valid"][key] = value[:4]
    content["valid"]["regression_labels"] = np.zeros(4)
    content["test"]["id"][0] = "other$_$1"
    config = write(content, make_content(), {"labels": labels()})
    found = known(config)
    page = describe(found)
    assert "train as published; valid 4 samples, 5 are published; test other samples" in page
    assert row(page, "not as published: vision") == "not as published: vision: length 7, published 8; width 1, published 2"
    assert row(page, "-3").split()[-3:] == ["differs", "by", "-1"]
    assert row(page, "3 ").split()[-3:] == ["differs", "by", "+1"]
    assert row(page, "1 ").split()[-1] == "2"
    assert len(found["problems"]) == 2


def test_labels_are_counted_as_often_as_they_were_published(write: Any, content: Any) -> None:
    content["train"]["regression_labels"][:] = [-2, -2, -2, -0.5, 0, 0, 0, 0, 0, 0.4, 3, 3]
    published = {"values": [-2.0, -0.5, 0.0, 0.4, 3.0], "counts": [3, 1, 5, 1, 2]}
    page = describe(known(write(content, manifest={"labels": published})))
    for label, count in (("-2", "3"), ("0 ", "7"), ("3 ", "2"), ("below 0", "4"), ("exactly 0", "5"), ("above 0", "3")):
        cells = row(page, label).removeprefix(label).split()
        assert (cells[0], cells[-1]) == (count, count), label


def test_frames_on_the_page(write: Any, content: Any) -> None:
    content["train"]["audio"][:, :, 2] = 0
    page = describe(known(write(content)))
    lengths = np.concatenate([part["audio_lengths"] for part in content.values()])
    assert f"frames of audio: {lengths.sum()} real, median {np.median(lengths):g}; samples by length: 1-2: {int((lengths <= 2).sum())}, 3-4: " in page
    assert "constant in training: 1 of 3 columns of audio, first 2" in page


def test_a_fingerprint_that_nobody_published(write: Any, content: Any) -> None:
    splits = {"train+valid": {"size": 17}, "test": {"size": 7}}
    assert "train+valid as published in number (no fingerprint is published)" in describe(
        known(write(content, manifest={"splits": splits, "sizes": SIZES}))
    )


def test_json_has_the_same_facts(write: Any, content: Any) -> None:
    config = write(content, manifest={"labels": labels()})
    result = CliRunner().invoke(command, ["check", str(config.path), "--as", config.name, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["splits"]["train"]["samples"] == 12
    assert found["modalities"]["audio"]["published"] == {"length": 9, "width": 3}
    assert found["floors"][0]["scores"]["corr"] is None
    assert {floor["name"] for floor in found["floors"]} == {"constant", "ridge text", "ridge audio", "ridge vision", "ridge all", "oracle"}
    assert "means" not in result.output
    content["train"]["id"][3] = "other$_$1"
    config = write(content, make_content())
    result = CliRunner().invoke(command, ["check", str(config.path), "--as", config.name, "--json"])
    assert isinstance(result.exception, DataError)
    assert "split train" in json.loads(result.output)["problems"][0]


def test_simulated_data_are_compared_with_nothing() -> None:
    config = DataConfig(name="iemocap", simulated=True, samples=60)
    found = known(config)
    assert (found["published_splits"], found["labels"][0]["published"]) == ({}, None)
    page = describe(config)
    assert "floors on SIMULATED test" in page
    assert row(page, "protocol") == "protocol     6way_session5"
    assert row(page, "recall[happy]").split()[1] in ("0.000", "1.000")


@pytest.mark.skipif(not REAL.is_file(), reason="the real file is not beside this checkout")
def test_the_real_file_shows_the_reference_points() -> None:
    """Reference: ridge regression of another implementation and penalty, fitted on train and valid; the best constants by counting labels."""
    dataset = load_dataset(DataConfig(name="mosi", path=str(REAL), modalities=("text", "audio")))
    found = scores(dataset)
    assert found["constant"]["mae"] == pytest.approx(1.456, abs=5e-4)
    assert found["constant"]["acc2_non0"] == pytest.approx(0.422, abs=5e-4)
    assert found["ridge text"]["mae"] == pytest.approx(0.972, abs=0.03)
    assert found["ridge text"]["corr"] == pytest.approx(0.698, abs=0.02)
    assert found["ridge text"]["acc2_non0"] == pytest.approx(0.800, abs=0.02)
    assert found["ridge audio"]["mae"] == pytest.approx(1.471, abs=0.03)
    assert found["ridge audio"]["corr"] == pytest.approx(0.085, abs=0.07)
    oracle = {"acc2_non0": 0.5777, "acc2_has0": 0.5525, "acc7": 0.2274, "mae": 1.379}
    assert {key: round(found["oracle"][key], 4) for key in oracle} == pytest.approx(oracle, abs=5e-4)
