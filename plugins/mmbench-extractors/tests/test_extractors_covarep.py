"""`covarep-mat`: files as MATLAB writes them, by SciPy's writer, and damaged ones."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mmbench.errors import DataError
from mmbench_extractors import covarep
from mmbench_extractors.covarep import COVAREPMat
from mmbench_extractors.options_vision import COVAREPMatConfig

io = pytest.importorskip("scipy.io", reason="SciPy is not installed")
sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
NAMES = [
    *["F0", "VUV", "NAQ", "QOQ", "H1H2", "PSP", "MDQ", "peakSlope", "Rd", "Rd_conf", "creak"],
    *[f"MCEP_{i}" for i in range(25)], *[f"HMPDM_{i}" for i in range(25)], *[f"HMPDD_{i}" for i in range(13)],
]  # fmt: skip


def build(**options):
    return COVAREPMat(COVAREPMatConfig(**options))


def values(count=40):
    found = np.random.default_rng(0).normal(size=(count, 74)) * 100
    found[0, 3], found[1, 5], found[2, :] = -np.inf, np.nan, np.inf
    return found


def write(path, features, compress=False, **more):
    io.savemat(path, {"features": features, "names": np.array(NAMES, object)[None], **more}, do_compression=compress)
    return path


@pytest.mark.parametrize("compress", [False, True])
def test_values_are_those_that_were_written(tmp_path, compress):
    written = values()
    extractor = build()
    found = extractor.prepare(write(tmp_path / "clip.mat", written, compress))
    assert found.shape == (40, extractor.width) == (40, 74) == (40, len(NAMES))
    assert found.dtype == torch.float32
    expected = written.astype(np.float32)
    expected[0, 3], expected[1, 5], expected[2, :] = 0, 0, 0
    assert np.array_equal(found.numpy(), expected)
    assert (extractor.frame_rate, extractor.suffixes) == (100.0, (".mat",))


def test_the_columns_of_mosi_are_taken(tmp_path):
    written = np.nan_to_num(values(), posinf=0, neginf=0)
    path = write(tmp_path / "clip.mat", written)
    extractor = build(columns=(1, 3, 6, 25, 60))
    found = extractor.prepare(path)
    assert extractor.width == 5
    assert np.array_equal(found.numpy(), written.astype(np.float32)[:, [1, 3, 6, 25, 60]])
    assert [NAMES[number] for number in extractor.columns] == ["VUV", "QOQ", "MDQ", "MCEP_14", "HMPDM_24"]


@pytest.mark.parametrize("kind", ["f4", "i2", "u1"])
def test_numbers_of_other_types_are_read(tmp_path, kind):
    written = (np.arange(3 * 74).reshape(3, 74) % 200).astype(kind)
    assert np.array_equal(build().prepare(write(tmp_path / "clip.mat", written)).numpy(), written.astype(np.float32))


def test_numbers_too_large_for_single_precision_are_zeros(tmp_path):
    written = np.ones((1, 74))
    written[0, 7] = 1e300
    found = build().prepare(write(tmp_path / "clip.mat", written))
    assert found[0, 7] == 0
    assert found.sum() == 73


def test_options_are_checked():
    for columns in ((74,), (-1,), (), (3, 3)):
        with pytest.raises(ValidationError, match="columns"):
            COVAREPMatConfig(columns=columns)
    changes = [{}, {"columns": (1, 3)}, {"columns": (3, 1)}, {"fps": 200.0}]
    assert len({build(**change).digest() for change in changes}) == len(changes)
    assert build(folder="elsewhere").digest() == build(columns=tuple(range(74))).digest() == build().digest()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((5, 35)), r"'features' is of shape \(5, 35\), not \(T, 74\)"),
        (np.ones((74, 5)), r"\(74, 5\)"),
        (np.ones((0, 74)), r"\(0, 74\)"),
        (np.ones((2, 3, 74)), r"\(2, 3, 74\)"),
        (np.ones((2, 74)) * 1j, "is complex, not a matrix"),
        (np.array([["a" * 74]]), "is text, not a matrix"),
        (np.array([["a"] * 74], object), "is a cell array"),
        ({"F0": 1.0}, "is a struct"),
        (sparse.csc_matrix(np.eye(74)), "is a sparse matrix"),
    ],
)
def test_other_content_is_named(tmp_path, features, message):
    path = write(tmp_path / "clip.mat", features)
    with pytest.raises(DataError, match=message) as caught:
        build().prepare(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_without_features_is_named(tmp_path):
    io.savemat(tmp_path / "clip.mat", {"other": np.ones((3, 74))})
    with pytest.raises(DataError, match="no variable 'features'"):
        build().prepare(tmp_path / "clip.mat")


@pytest.mark.parametrize("compress", [False, True])
def test_files_cut_short_at_any_place_are_named(tmp_path, compress):
    whole = write(tmp_path / "whole.mat", values(4), compress).read_bytes()
    path = tmp_path / "clip.mat"
    end = whole.index(b"names") if not compress else len(whole) // 2  # what follows `features` is not read
    for length in (0, 1, 3, 60, 127, 128, 130, 140, 200, end // 2, end - 60):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"clip\.mat: .*(is no MAT-file|no variable|cut short|does not end)"):
            build().prepare(path)


@pytest.mark.parametrize("shape", [(-1, 74), (2, 74), (4, 74), (-3, -74)])
def test_a_shape_that_the_values_do_not_have_is_named(tmp_path, shape):
    path = write(tmp_path / "clip.mat", values(3))
    path.write_bytes(path.read_bytes().replace(struct.pack("<ii", 3, 74), struct.pack("<ii", *shape), 1))
    with pytest.raises(DataError, match=r"clip\.mat: is damaged: 'features' holds another number of values than its shape \[-?\d, -?74\] says"):
        build().prepare(path)


def test_a_compressed_variable_is_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mat", np.zeros((200, 74)), compress=True)
    assert len(build().prepare(path)) == 200
    monkeypatch.setattr(covarep, "_LARGEST", 10_000)
    with pytest.raises(DataError, match=r"clip\.mat: is damaged: a compressed variable does not end, or is larger"):
        build().prepare(path)


def test_damaged_bytes_never_end_in_another_error(tmp_path):
    whole = write(tmp_path / "whole.mat", values(3)).read_bytes()
    path, random = tmp_path / "clip.mat", np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, 220, 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert build().prepare(path).isfinite().all()


def test_files_that_are_none_are_named(tmp_path):
    path = tmp_path / "clip.mat"
    path.write_text("frame, timestamp\n" * 20)
    with pytest.raises(DataError, match="is no MAT-file of version 5 to 7"):
        build().prepare(path)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\x00\x02IM"
    path.write_bytes(header.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n".ljust(100, b"\0"))
    with pytest.raises(DataError, match=r"version 7\.3, which is not read; in MATLAB, load it and save it anew: save\(name, 'features', '-v7'\)"):
        build().prepare(path)
    with pytest.raises(DataError, match=r"gone\.mat: cannot be read: No such file"):
        build().prepare(tmp_path / "gone.mat")
    with pytest.raises(DataError, match="cannot be read"):
        build().prepare(tmp_path)
