from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from mmbench.config import DataConfig
from mmbench.data import load as load_module
from mmbench.data import store as store_module
from mmbench.data.load import load_dataset, open_source
from mmbench.data.manifest import load_manifest
from mmbench.data.simulate import simulate
from mmbench.data.store import ARRAYS, DOCUMENT, Column, column, file_digests, open_or_build, open_store, write_store
from mmbench.errors import DataError
from mmbench.files import cache_folder


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "b/flags": rng.random((5, 3)) < 0.5,
        "a/floats": rng.normal(size=(5, 7, 3)).astype(np.float32),
        "c/ids": rng.integers(-9, 9, (5, 2)),
        "d/vector": np.arange(5, dtype=np.float32),
    }


def build(folder: Path) -> None:
    write_store(folder, {name: column(array) for name, array in arrays().items()}, lambda: {"note": "é"})


def test_what_is_written_is_mapped_read_only_and_is_a_safetensors_file(tmp_path: Path) -> None:
    build(tmp_path)
    store = open_store(tmp_path)
    assert store is not None
    assert store.document["note"] == "é"
    others = load_file(tmp_path / ARRAYS)
    assert set(store.arrays) == set(others) == set(arrays())
    for name, expected in arrays().items():
        assert isinstance(store.arrays[name], np.memmap)
        assert not store.arrays[name].flags.writeable
        assert store.arrays[name].flags.aligned
        np.testing.assert_array_equal(store.arrays[name], expected)
        np.testing.assert_array_equal(others[name], expected)
        assert store.arrays[name].dtype == others[name].dtype
    assert set(store.under("a")) == {"floats"}


def test_blocks_are_asked_once_each_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_BLOCK_BYTES", 2 * 4 * 3)
    data = np.arange(21, dtype=np.float32).reshape(7, 3)
    asked = []

    def rows(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return data[start:stop]

    write_store(tmp_path, {"x": Column((7, 3), np.dtype("<f4"), rows)}, dict)
    assert asked == [(0, 2), (2, 4), (4, 6), (6, 7)]
    store = open_store(tmp_path)
    assert store is not None
    np.testing.assert_array_equal(store.arrays["x"], data)


def test_a_block_of_another_shape_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="x: rows 0 to 4"):
        write_store(tmp_path, {"x": Column((4, 3), np.dtype("<f4"), lambda start, stop: np.zeros((4, 2)))}, dict)


def damage_size(folder: Path) -> None:
    with open(folder / ARRAYS, "rb+") as file:
        file.truncate((folder / ARRAYS).stat().st_size - 1)


def damage_bytes(folder: Path) -> None:
    with open(folder / ARRAYS, "rb+") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"\xff" * 8)


def damage_header(folder: Path) -> None:
    with open(folder / ARRAYS, "rb+") as file:
        file.write(b"\xff" * 8)


def damage_version(folder: Path) -> None:
    document = json.loads((folder / DOCUMENT).read_text())
    (folder / DOCUMENT).write_text(json.dumps({**document, "format": 0}))


DAMAGES = [
    damage_size,
    damage_bytes,
    damage_header,
    damage_version,
    lambda folder: (folder / DOCUMENT).write_text("{"),
    lambda folder: (folder / DOCUMENT).write_text("[]"),
    lambda folder: (folder / DOCUMENT).unlink(),
    lambda folder: (folder / ARRAYS).unlink(),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_built_again(tmp_path: Path, damage: Any) -> None:
    folder = tmp_path / "data" / "x"
    open_or_build(folder, build)
    damage(folder)
    assert open_store(folder) is None
    store = open_or_build(folder, build)
    np.testing.assert_array_equal(store.arrays["a/floats"], arrays()["a/floats"])
    assert [path.name for path in folder.parent.iterdir()] == ["x"]


def test_a_whole_store_is_not_built_again(tmp_path: Path) -> None:
    open_or_build(tmp_path / "x", build)
    open_or_build(tmp_path / "x", lambda folder: pytest.fail("built again"))


def test_a_store_is_read_again_neither_at_the_next_start_nor_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the same disk of a network has another number."""
    open_or_build(tmp_path / "store", build)
    stat = Path.stat

    def elsewhere(path: Path, **options: Any) -> Any:
        found = stat(path, **options)
        return SimpleNamespace(**{name: getattr(found, name) for name in dir(found) if name.startswith("st_")} | {"st_dev": found.st_dev + 1})

    def read(path: Path) -> str:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(store_module, "file_digest", read)
    assert open_store(tmp_path / "store") is not None
    monkeypatch.setattr(Path, "stat", elsewhere)
    assert open_store(tmp_path / "store") is not None


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        open_or_build(tmp_path / "data" / "x", broken)
    assert list((tmp_path / "data").iterdir()) == []


def test_what_killed_processes_left_is_swept_after_a_day(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".mmbench-building-old", ".mmbench-building-new", ".x.settings"))
    for folder in (old, new, other):
        folder.mkdir()
    for folder in (old, other):
        os.utime(folder, (time.time() - 90000, time.time() - 90000))
    open_or_build(tmp_path / "x", build)
    assert not old.exists()
    assert new.exists()
    assert other.exists()  # a folder of the user's


def test_a_cache_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="MMBENCH_CACHE"):
        open_or_build(tmp_path / "file" / "x", build)


def test_too_little_space_is_said_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(DataError, match="are free"):
        build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _race(folder: Path, barrier: Any, results: Any) -> None:
    def slow(temporary: Path) -> None:
        barrier.wait(20)  # all have found no store before one of them is done
        build(temporary)

    results.put(float(open_or_build(folder, slow).arrays["d/vector"][4]))


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_at_once_all_succeed(tmp_path: Path, damaged: bool) -> None:
    folder = tmp_path / "data" / "x"
    if damaged:
        open_or_build(folder, build)
        damage_bytes(folder)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_race, args=(folder, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [4.0, 4.0, 4.0]
    for process in processes:
        process.join(30)
    assert [path.name for path in folder.parent.iterdir()] == ["x"]


def test_the_store_of_a_process_that_was_first_stays(tmp_path: Path) -> None:
    folder = tmp_path / "x"

    def beaten(temporary: Path) -> None:
        build(temporary)
        open_or_build(folder, build)

    store = open_or_build(folder, beaten)
    assert store.document["note"] == "é"
    first = (folder / ARRAYS).stat().st_ino
    open_or_build(folder, beaten)
    assert (folder / ARRAYS).stat().st_ino == first
    other = tmp_path / "other"
    other.mkdir()
    build(other)
    assert not store_module.swap(other, folder, lambda: True)
    assert (folder / ARRAYS).stat().st_ino == first


def test_a_second_start_neither_reads_nor_hashes_the_source(write: Any, content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(content)
    first = load_dataset(config)
    monkeypatch.setattr(load_module.content, "Content", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(store_module.hashlib, "sha1", lambda *_, **__: pytest.fail("hashed again"))
    second = load_dataset(config)
    assert second.fingerprint == first.fingerprint
    assert second.record == first.record


def test_a_changed_source_is_converted_again(write: Any, content: Any) -> None:
    first = load_dataset(write(content))
    content["train"]["regression_labels"][0] = 1.0
    second = load_dataset(write(content))
    assert second.splits["train"].target[0] == 1.0
    assert second.fingerprint != first.fingerprint
    assert first.splits["train"].target[0] == -3.0  # the older map stays valid


def test_another_version_of_the_reader_converts_again(write: Any, content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(content)
    first, identity = open_source(config).store.folder, load_dataset(config).fingerprint
    monkeypatch.setattr(load_module.content, "VERSION", 999)
    assert open_source(config).store.folder != first
    assert load_dataset(config).fingerprint != identity


def test_digests_are_remembered_by_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_digests(path) == {
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
    }
    status = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digests(path)["sha256"].startswith("ba7816bf")  # what no one would do: other content at the same size and time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not file_digests(path)["sha256"].startswith("ba7816bf")


def test_a_digest_that_was_damaged_since_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "x"
    path.write_bytes(b"a damaged note")
    found = file_digests(path)["sha256"]
    (note,) = (each for each in (cache_folder() / "data" / "digests").iterdir() if found in each.read_text())
    note.write_text(note.read_text().replace(found, found[::-1]))
    assert file_digests(path)["sha256"] == found


def test_a_store_whose_document_is_not_one_of_a_data_set(tmp_path: Path) -> None:
    simulate(load_manifest("mosi"), 12, folder=tmp_path / "s")
    document = json.loads((tmp_path / "s" / DOCUMENT).read_text())
    document.pop("digest", None)  # without it a document is believed, as those of earlier versions
    changes: dict[str, tuple[Any, str]] = {
        "reader": (None, "reader: Input should be a valid dictionary"),
        "splits": ([], "splits: Input should be"),
        "notices": ([1], "notices.0: Input should be"),
        "simulation": ([1], "simulation: Input should be"),
        "simulated": ("yes", "simulated: Input should be a valid boolean"),
    }
    for key, (value, told) in changes.items():
        (tmp_path / "s" / DOCUMENT).write_text(json.dumps({**document, key: value}))
        with pytest.raises(DataError, match=rf"damaged \({told}"):
            load_dataset(DataConfig(name="mosi", path=str(tmp_path / "s")))
    del document["splits"]["test"]["ids"][0]
    (tmp_path / "s" / DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"damaged \(splits.test: other numbers of transcripts"):
        load_dataset(DataConfig(name="mosi", path=str(tmp_path / "s")))


HEADERS = ["[]", "[" * 5000, '{"a": 1}', '{"a": {"dtype": "F32", "shape": [1e30], "data_offsets": [0, 4]}}', "\xff"]


@pytest.mark.parametrize("header", HEADERS, ids=["list", "deep", "number", "shape", "text"])
def test_a_store_whose_header_is_none(tmp_path: Path, header: str) -> None:
    raw = header.encode("latin-1")
    (tmp_path / ARRAYS).write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(64))
    (tmp_path / DOCUMENT).write_text(json.dumps({"format": store_module.FORMAT, "arrays": store_module._trace(tmp_path / ARRAYS)}))
    assert open_store(tmp_path) is None
