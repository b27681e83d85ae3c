"""Folders and files that were made to hurt, or that a copy left half: one error that names the thing, and nothing waits, grows or is executed."""

from __future__ import annotations

import errno
import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.lib import format as npy

from mmbench import strict_yaml
from mmbench.cli import main
from mmbench.cli.data import command
from mmbench.config import DataConfig
from mmbench.data import torch_files
from mmbench.data.array_files import open_array
from mmbench.data.checks import describe, examine, facts
from mmbench.data.load import open_source
from mmbench.errors import DataError

from . import conversation_fixtures  # noqa: F401  (registers its own)
from .format_fixtures import FIXTURES, misa, write_folder, write_manifest, write_pickle
from .samples import make_content


def claiming(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """The header of an array that is not there."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**11, 2), (10**11,), (2**62, 4)])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_claimed_shape_is_compared_with_the_file(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(claiming(shape) + bytes(64))
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", claiming(shape) + bytes(64))
    with pytest.raises(ValueError, match="damaged or cut short"):
        open_array(path)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [">f8", "<f2", "|u1", "<i8", "?"])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path: Path, version: tuple[int, int], order: str, kind: str) -> None:
    array = np.asarray(np.arange(12).reshape(4, 3) % 5, dtype=kind, order=order)  # type: ignore[call-overload]
    with open(tmp_path / "a.npy", "wb") as file:
        npy.write_array(file, array, version)
    np.savez_compressed(tmp_path / "a.npz", array)
    np.savez(tmp_path / "b.npz", text=array[0], audio=array)
    for found in (open_array(tmp_path / "a.npy"), open_array(tmp_path / "a.npz"), open_array(tmp_path / "b.npz", "audio")):
        assert (found.shape, found.dtype) == ((4, 3), array.dtype)
        np.testing.assert_array_equal(np.asarray(found), array)
    np.testing.assert_array_equal(np.asarray(open_array(tmp_path / "b.npz", "text")), array[:1])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damage_behind_the_header_is_told_with_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    np.save(path, np.ones((40, 3))) if suffix == ".npy" else np.savez(path, np.ones((40, 3)))
    found, whole = open_array(path), path.read_bytes()
    path.write_bytes(whole[:400] if suffix == ".npy" else whole[:400] + b"damage" + whole[406:])
    with pytest.raises(DataError, match=f"a{suffix}: damaged or cut short"):
        np.asarray(found)


def test_every_damaged_byte_of_a_compressed_array_is_told_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, np.arange(60.0).reshape(20, 3))
    whole, told = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            np.asarray(open_array(path))
        except (ValueError, DataError):
            told += 1
    assert told > len(whole) // 2


def test_a_flipped_bit_that_asks_for_a_password_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
    whole = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(header) + flags] |= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"a.pt: not a readable file of torch.save: damaged"):
        torch_files.load(path)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(("make", "told"), [(pipe, "is no file"), (circle, "cannot be read: Too many levels")])
@pytest.mark.parametrize("place", ["text/vid_0/0010.npy", "text/vid_0/more.npy"])
def test_a_pipe_or_a_link_to_itself_among_the_files(tmp_path: Path, make: Callable[[Path], None], told: str, place: str) -> None:
    path, name, _ = write_folder(tmp_path)
    (path / place).unlink(missing_ok=True)
    make(path / place)
    with pytest.raises(DataError, match=told):
        open_source(DataConfig(name=name, path=str(path)))


def test_a_pipe_for_an_array(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="is no file"):
        open_array(tmp_path / "a.npy")


def test_a_compressed_archive_in_the_place_of_a_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(1 << 22))
    with pytest.raises(DataError, match=r"bomb\.pt: refused: a zip archive that unpacks to more than the file's size"):
        torch_files.load(path)


def test_a_pipe_for_a_path(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pkl")
    with pytest.raises(DataError, match=r"a.pkl is neither a file nor a folder"):
        open_source(DataConfig(name="mosi", path=str(tmp_path / "a.pkl")))


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(Path(os.environ["MMBENCH_CACHE"]) / "executed"),)


@pytest.mark.parametrize(
    ("change", "told"), [(lambda old: old[: len(old) // 2], "damaged or cut short"), (lambda old: pickle.dumps(Trap()), "refused")]
)
@pytest.mark.parametrize("name", ["train.pkl", "dev.pkl", "test.pkl"])
def test_a_pickle_of_misa_that_cannot_be_read_is_named(tmp_path: Path, change: Callable[[bytes], bytes], told: str, name: str) -> None:
    path, manifest, _ = misa(tmp_path)
    (path / name).write_bytes(change((path / name).read_bytes()))
    with pytest.raises(DataError, match=rf"^\S+{name}: .*{told}"):
        open_source(DataConfig(name=manifest, path=str(path)))
    assert not (Path(os.environ["MMBENCH_CACHE"]) / "executed").exists()


def test_a_pickle_of_conversations_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path, manifest, protocol = FIXTURES["conversations"](tmp_path)
    (damaged,) = path.glob("*.pkl")
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(DataError, match=rf"was not found.*No use is .*{damaged.name}: .*damaged or cut short"):
        open_source(DataConfig(name=manifest, protocol=protocol, path=str(path)))


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\x1b[31mred"])
def test_ids_that_cannot_be_shown(tmp_path: Path, name: str) -> None:
    content = make_content()
    manifest = write_manifest(tmp_path, content)
    content["train"]["id"] = [f"{name}$_${i}" for i in range(len(content["train"]["id"]))]
    path = write_pickle(tmp_path / "a.pkl", content)
    result = CliRunner().invoke(command, ["check", str(path), "--as", manifest])
    assert isinstance(result.exception, DataError)
    assert "train: id: " in str(result.exception)
    assert name not in str(result.exception)
    folder, own, _ = write_folder(tmp_path)
    table = folder / "label.csv"
    table.write_text(table.read_text().replace("vid_0", f'"{name}"'))
    with pytest.raises(DataError, match=r"(rows cannot be used: line 2 \(|line 2: line contains NUL)[^\n\x1b\0]*$"):  # Python 3.10 refuses NUL itself
        open_source(DataConfig(name=own, path=str(folder)))


def test_the_page_obeys_no_escape_of_a_file(tmp_path: Path) -> None:
    content = make_content()
    manifest = write_manifest(tmp_path, content)
    content["train"]["\x1b[2Jcleared\nsplits: published"] = 1
    config = DataConfig(name=manifest, path=str(write_pickle(tmp_path / "a.pkl", content)))
    page = describe(facts(examine(config)[0]))
    assert r"keys that are not read: \x1b[2Jcleared\nsplits: published" in page
    assert strict_yaml.load(Path(manifest))["name"] in page


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (closed := tmp_path / "closed").mkdir()
    look = Path.is_file

    def refused(path: Path) -> bool:  # as in a folder that one may not enter; the user who tests may enter all
        if path.parent == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(Path, "is_file", refused)
    monkeypatch.setattr(sys, "argv", ["mmbench", "data", "check", str(closed), "--as", "mosi"])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (3, f"error: {closed / 'store.json'}: Permission denied\n")


@pytest.mark.parametrize("shape", [(-5, 3), (5, -3), (-1,)])
def test_a_negative_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(claiming(shape) + bytes(64))
    with pytest.raises(ValueError, match="it has the shape"):
        open_array(tmp_path / "a.npy")


HEADERS = {
    "open": "{",
    "quotes": "'" * 3,
    "indented": "  x\n y\n",
    "deep": "(" * 300,
    "type": "{'descr': '(1,2]f4', 'fortran_order': False, 'shape': (1,), }",
}


@pytest.mark.parametrize("header", [*HEADERS])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_header_that_is_no_python(tmp_path: Path, header: str, suffix: str) -> None:
    text = HEADERS[header].encode()
    raw = npy.magic(1, 0) + len(text).to_bytes(2, "little") + text + bytes(64)
    (tmp_path / f"a{suffix}").write_bytes(raw)
    if suffix == ".npz":
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", raw)
    with pytest.raises(ValueError, match=r"\w"):
        open_array(tmp_path / f"a{suffix}")


def torch_file(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", np.arange(6, dtype="<f4").tobytes())
    return path


def test_a_tensor_of_something_that_is_no_storage(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.pt", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(X\x02\x00\x00\x00abK\x00(t(ttR.")
    with pytest.raises(DataError, match="a tensor without a storage"):
        torch_files.load(path)


def test_lists_in_lists_without_end_are_refused_and_a_few_are_read_once_each(tmp_path: Path) -> None:
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K\x02K\x03t(K\x03K\x01ttR"
    with pytest.raises(DataError, match="repeat one another without end"):
        torch_files.load(torch_file(tmp_path / "b.pt", b"\x80\x02" + tensor + b"2\x86" * 60 + b"."))
    found = torch_files.load(torch_file(tmp_path / "a.pt", b"\x80\x02" + tensor + b"2\x86" * 10 + b"."))
    for _ in range(10):
        assert found[0] is found[1]
        found = found[0]
    np.testing.assert_array_equal(found, np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("verb", ["status", "data check", "data new"])
def test_a_name_that_is_too_long(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["mmbench", *verb.split(), "x" * 300])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr().err
    assert (end.value.code, told.startswith(f"error: {'x' * 300}"), told.endswith(": File name too long\n"), told.count("\n")) == (3, True, True, 1)
