"""Calibration by hand and against scikit-learn; gap and CKA of every pair."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

pytest.importorskip("torch")  # of the package

from mmbench.diagnostics.measure import (
    calibration,
    class_reliability,
    classification_calibration,
    expected_calibration_error,
    probabilities,
    regression_calibration,
    regression_line,
    separation,
    similarity,
)
from mmbench.results.embeddings import Embeddings, cka, modality_gap


def test_bins_are_the_rounded_labels_on_mosi() -> None:
    target = np.array([-3.0, -2.6, -2.5, -0.4, 0.5, 1.5, 1.6, 3.0])
    prediction = target + np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    rows = regression_calibration(prediction, target, (-3.0, 3.0))
    assert [(row["low"] + 0.5, row["n"]) for row in rows] == [(-3, 2), (-2, 1), (0, 2), (2, 2), (3, 1)]  # half to even, as Acc7 rounds
    assert rows[0] == pytest.approx({"low": -3.5, "high": -2.5, "n": 2, "target": -2.8, "prediction": -1.3, "bias": 1.5, "mae": 1.5})
    assert rows[2]["bias"] == pytest.approx(4.5)
    signed = regression_calibration(np.array([1.0, -1.0]), np.zeros(2), (-3.0, 3.0))
    assert (signed[0]["bias"], signed[0]["mae"]) == (0, 1)


def test_bins_of_other_ranges() -> None:
    rows = regression_calibration(np.zeros(3), np.array([-1.0, -0.7, 1.0]), (-1.0, 1.0))
    assert [(round(row["low"], 4), row["n"]) for row in rows] == [(-1.1667, 1), (-0.8333, 1), (0.8333, 1)]
    assert [row["n"] for row in regression_calibration(np.zeros(3), np.array([0.0, 6.0, 6.0]), None)] == [1, 2]
    assert [row["n"] for row in regression_calibration(np.zeros(2), np.array([4.0, 4.0]), None)] == [2]


def test_the_line_is_least_squares() -> None:
    generator = np.random.default_rng(0)
    y = generator.normal(size=50)
    p = 0.4 * y - 0.2 + 0.1 * generator.normal(size=50)
    slope, intercept = np.polyfit(y, p, 1)
    assert regression_line(p, y) == pytest.approx({"slope": slope, "intercept": intercept, "bias": (p - y).mean()})
    assert np.isnan(regression_line(p, np.ones(50))["slope"])


def test_confidence_by_hand() -> None:
    """Confidences 0.95 (right), 0.95 (wrong), 0.55 (right): |1/2 - 0.95| of two thirds and |1 - 0.55| of one."""
    probability = np.array([[0.95, 0.05], [0.95, 0.05], [0.45, 0.55]])
    rows = classification_calibration(probability, np.array([0, 1, 1]))
    assert [(row["low"], row["n"], row["target"]) for row in rows] == [(0.5, 1, 1.0), (0.9, 2, 0.5)]
    assert expected_calibration_error(rows) == pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.45)
    assert classification_calibration(np.array([[1.0, 0.0]]), np.array([0]))[0]["high"] == 1.0


def test_classes_are_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    scores, target = generator.normal(size=(60, 3)) * 50, generator.integers(0, 3, 60)
    probability = probabilities(scores)
    np.testing.assert_allclose(probability.sum(1), 1)
    assert np.isfinite(probabilities(scores * 1e3)).all()
    rows = class_reliability(probability, target, ("a", "b", "c"))
    guess = scores.argmax(1)
    assert [row["precision"] for row in rows] == pytest.approx(precision_score(target, guess, average=None))
    assert [row["recall"] for row in rows] == pytest.approx(recall_score(target, guess, average=None))
    assert [row["n"] for row in rows] == np.bincount(target).tolist()
    never = class_reliability(np.tile([1.0, 0.0], (4, 1)), np.zeros(4, int), ("a", "b"))
    assert np.isnan(never[1]["precision"])
    assert np.isnan(never[1]["recall"])
    assert (never[0]["calibration_error"], never[1]["calibration_error"]) == (0, 0)


def test_which_of_the_two() -> None:
    found = calibration(np.zeros((4, 2)), np.array([0, 1, 1, 1]), ("a", "b"), None)
    assert found["calibration_summary"]["expected_calibration_error"] == pytest.approx(0.25)  # ties go to the first class: 1 of 4 right at 0.5
    assert [entry["class"] for entry in found["calibration_summary"]["classes"]] == ["a", "b"]
    assert set(calibration(np.zeros(3), np.arange(3.0), (), (0.0, 2.0))["calibration_summary"]) == {"slope", "intercept", "bias"}


def test_every_pair_of_every_field() -> None:
    generator = np.random.default_rng(2)
    encoded = {"text": generator.normal(size=(9, 4)), "audio": generator.normal(size=(9, 3)), "vision": generator.normal(size=(9, 4))}
    common = {name: generator.normal(size=(9, 4)) for name in ("text", "audio")}
    found = similarity(Embeddings(("x",) * 9, np.zeros(9), np.zeros(9), np.zeros((9, 1)), encoded, common))
    assert set(found["gap"]) == {"encoded", "common"}
    assert found["gap"]["encoded"]["text-audio"] is None  # two widths
    assert found["gap"]["encoded"]["text-vision"] == modality_gap(encoded["text"], encoded["vision"])
    assert found["cka"]["encoded"]["text-audio"] == cka(encoded["text"], encoded["audio"])
    assert found["gap"]["common"]["text-audio"] <= found["paired_distance"]["common"]["text-audio"]


def test_common_against_unique_by_hand() -> None:
    """Turned round: cosine -1 and CKA 1. Orthogonal in each sample: 0. A zero row counts as 0."""
    common = np.array([[1.0, 0], [0, 2], [3, 0], [0, 4]])
    turned, orthogonal, half = -2 * common, common[:, ::-1], common * [[1], [1], [0], [0]]
    features = {"text": turned, "audio": orthogonal, "vision": half, "other": np.ones((4, 3))}
    embeddings = Embeddings(("x",) * 4, np.zeros(4), np.zeros(4), np.zeros((4, 1)), {}, dict.fromkeys(features, common), features)
    found = separation(embeddings)
    assert list(found) == list(features)
    assert [found[name]["cosine"] for name in ("text", "audio", "vision")] == pytest.approx([-1, 0, 0.5])
    assert found["text"]["cka"] == pytest.approx(1)
    assert "cosine" not in found["other"]
    assert separation(Embeddings((), np.zeros(0), np.zeros(0), np.zeros((0, 1)))) == {}
