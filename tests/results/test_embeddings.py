"""Files of embeddings, and the measures of the distance between modalities."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import DataError
from mmbench.results.embeddings import (
    Embeddings,
    cka,
    diagnostics_path,
    embeddings_path,
    modality_gap,
    paired_distance,
    read_diagnostics,
    read_embeddings,
    write_embeddings,
)
from mmbench.results.runs import find_runs, read_run

from .folders import make_run

SEEDS = st.integers(0, 2**32 - 1)


def features(seed: int, rows: int = 12, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width))


def rotation(seed: int, width: int = 4) -> np.ndarray:
    return np.linalg.qr(features(seed, width, width))[0]


# by hand


def test_the_gap_by_hand() -> None:
    """Centres (0.5, 0.5) and (-0.8, 0.6) / 2 + (0, 1) / 2 = (-0.4, 0.8)."""
    a, b = np.array([[5.0, 0.0], [0.0, 0.1]]), np.array([[-8.0, 6.0], [0.0, 2.0]])
    assert modality_gap(a, b) == pytest.approx(np.hypot(0.9, 0.3))
    assert modality_gap(a, -a) == pytest.approx(2 * np.hypot(0.5, 0.5))
    assert modality_gap(np.array([[3.0, 4.0]]), np.array([[-3.0, -4.0]])) == pytest.approx(2.0)


def test_the_paired_distance_by_hand() -> None:
    """Swapped pairs have one centre and no equal pair: sqrt(2) for orthogonal directions."""
    a = np.array([[1.0, 0.0], [0.0, 7.0]])
    assert modality_gap(a, a[::-1]) == 0
    assert paired_distance(a, a[::-1]) == pytest.approx(np.sqrt(2))
    assert paired_distance(a, a * [[2.0], [9.0]]) == 0


def test_cka_by_hand() -> None:
    """One column each: the squared correlation. Two: ||B'A||^2 = 4 and ||A'A|| ||B'B|| = sqrt(8) * 2."""
    x, y = np.array([1.0, 2.0, 4.0, 3.0]), np.array([2.0, 1.0, 5.0, 9.0])
    assert cka(x[:, None], y[:, None]) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    a = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert cka(a, a[:, :1]) == pytest.approx(4 / (np.sqrt(8) * 2))


def test_cka_is_the_kernel_form() -> None:
    """tr(KHLH) / sqrt(tr(KHKH) tr(LHLH)), with Gram matrices of wide features."""
    a, b = features(1, 9, 20), features(2, 9, 5)
    h = np.eye(9) - 1 / 9
    k, m = h @ a @ a.T @ h, h @ b @ b.T @ h
    assert cka(a, b) == pytest.approx(np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m)))


def test_what_has_no_value_is_nan() -> None:
    constant, other = np.full((5, 2), 0.1), features(0, 5, 2)
    assert np.isnan(cka(constant, other))
    assert np.isnan(cka(np.zeros((0, 2)), np.zeros((0, 3))))
    assert np.isnan(modality_gap(np.zeros((0, 2)), other))
    assert modality_gap(np.zeros((3, 2)), np.array([[0.0, 2.0]])) == 1.0  # a zero row stays zero


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one width, not 2 and 3"):
        modality_gap(features(0, 5, 2), features(0, 5, 3))
    with pytest.raises(ValueError, match="as many rows"):
        cka(features(0, 5), features(0, 6))
    with pytest.raises(ValueError, match="one shape"):
        paired_distance(features(0, 5), features(0, 6))
    with pytest.raises(ValueError, match="samples, width"):
        cka(np.zeros(5), np.zeros(5))


# invariances


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_cka_ignores_rotation_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    a, b = features(seed), features(seed + 1, width=7)
    assert 0 <= cka(a, b) <= 1 + 1e-12
    assert cka(a, b) == pytest.approx(cka(b, a))
    assert cka(a @ rotation(seed + 2) * scale + shift, b) == pytest.approx(cka(a, b), rel=1e-5)
    assert cka(a, a @ rotation(seed + 3)) == pytest.approx(1)


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_the_gap_ignores_lengths_and_order(seed: int) -> None:
    a, b = features(seed), features(seed + 1) + 1
    lengths = np.random.default_rng(seed).uniform(1e-3, 1e3, (len(a), 1))
    gap = modality_gap(a, b)
    assert modality_gap(b, a) == pytest.approx(gap)
    assert modality_gap(a * lengths, b[::-1]) == pytest.approx(gap)
    assert modality_gap(a @ rotation(seed), b @ rotation(seed)) == pytest.approx(gap)
    assert gap <= paired_distance(a, b) + 1e-12
    assert paired_distance(a, b) <= 2


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scales(scale: float) -> None:
    a, b = features(1), features(2)
    assert modality_gap(a * scale, b) == pytest.approx(modality_gap(a, b))
    assert cka(a * scale, b) == pytest.approx(cka(a, b))


# files


@pytest.fixture
def embeddings() -> Embeddings:
    parts = {"text": features(1, 3), "audio": features(2, 3)}
    about = {"name": "misa ä", "seed": 1, "simulated": False}
    return Embeddings(("a/1", "ä/2", "c/3"), np.array([1.0, -1, 0], np.float32), features(3, 3, 1)[:, 0], features(4, 3, 9), parts, {}, parts, about)


def test_what_is_written_is_read(tmp_path: Path, embeddings: Embeddings) -> None:
    paths = tmp_path / "new" / "seed-1.test.npz", tmp_path / "other.npz"
    for path in paths:
        write_embeddings(path, embeddings)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    found = read_embeddings(paths[0])
    assert found.ids == embeddings.ids
    assert found.about == embeddings.about
    assert not found.simulated
    assert found.common == {}
    assert list(found.unique) == ["text", "audio"]
    np.testing.assert_array_equal(found.target, embeddings.target)
    np.testing.assert_array_equal(found.encoded["audio"], embeddings.encoded["audio"].astype(np.float32))
    np.testing.assert_array_equal(found.fused, embeddings.fused.astype(np.float32))
    with np.load(paths[0], allow_pickle=False) as archive:  # what the documentation promises to others
        assert {"ids", "target", "prediction", "fused", "encoded/text", "unique/audio", "about"} <= set(archive.files)
        assert json.loads(str(archive["about"]))["seed"] == 1


def test_data_of_unknown_origin_count_as_simulated(embeddings: Embeddings) -> None:
    assert dataclasses.replace(embeddings, about={}).simulated


def npz(**changes: object) -> bytes:
    arrays = {"ids": np.array(["a", "b"]), "target": np.zeros(2), "prediction": np.zeros(2), "fused": np.zeros((2, 3)), "about": np.array("{}")}
    file = io.BytesIO()
    np.savez(file, **{key: value for key, value in (arrays | changes).items() if value is not None})  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no readable file"),
        (b"PK\x03\x04 not a zip", "damaged"),
        (npz()[:-40], "damaged"),
        (npz(ids=None, fused=None), "has no ids, fused"),
        (npz(about=np.array("[")), "about is no JSON object"),
        (npz(about=np.array("[1]")), "about is no JSON object"),
        (npz(ids=np.arange(2)), "ids are not a list of texts"),
        (npz(ids=np.array([{}, {}], object)), "is no readable file"),
        (npz(fused=np.zeros((3, 3))), "fused is float64"),
        (npz(target=np.array([1.0, np.nan])), "target has values that are not finite"),
        (npz(**{"common/text": np.zeros(2)}), "common/text is float64"),
    ],
)
def test_a_damaged_file_is_one_error(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_embeddings(path)
    assert str(path) in str(caught.value)


def test_a_single_array_is_no_embeddings(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match="is no readable file of embeddings"):
        read_embeddings(tmp_path / "x.npy")


def test_a_missing_file_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mmbench embed RUN"):
        read_embeddings(tmp_path / "x.npz")
    with pytest.raises(DataError, match="mmbench diagnose RUN"):
        read_diagnostics(tmp_path / "x.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 2, "about": {}}', '{"schema_version": 1}', "[" * 100000])
def test_damaged_diagnostics_are_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match="make it again"):
        read_diagnostics(tmp_path / "x.json")


def test_the_files_stand_beside_the_run_and_are_no_runs(tmp_path: Path, embeddings: Embeddings) -> None:
    folder = make_run(tmp_path, "misa", 7)
    record = read_run(folder)
    assert embeddings_path(record, "valid") == folder.parent / "embeddings" / "seed-7.valid.npz"
    assert diagnostics_path(record) == folder.parent / "diagnostics" / "seed-7.json"
    write_embeddings(embeddings_path(record), embeddings)
    diagnostics_path(record).parent.mkdir()
    diagnostics_path(record).write_text('{"schema_version": 1, "about": {}}')
    assert read_diagnostics(diagnostics_path(record))["about"] == {}
    assert [found.folder for found in find_runs(tmp_path)] == [folder]
