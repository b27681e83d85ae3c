from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data import torch_files
from mmbench.data.checks import examine
from mmbench.errors import DataError

from .format_fixtures import SIZES, misa_samples, misa_table, torch_zip, write_manifest, write_pickle

NAMES = {"train": "train.pkl", "valid": "dev.pkl", "test": "test.pkl"}


def write(folder: Path, samples: dict[str, list[Any]], table: bool = True) -> None:
    for split, name in NAMES.items():
        write_pickle(folder / name, samples[split])
    if table:
        torch_zip(folder / "embedding_and_mapping.pt", misa_table())


def read(folder: Path, samples: dict[str, list[Any]], names: dict[str, list[str]] | None = None, **options: Any) -> tuple[Any, list[str]]:
    published = {split: {"id": (names or {}).get(split, ["none"])} for split in SIZES}
    return examine(DataConfig(name=write_manifest(folder.parent, published), path=str(folder), **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "MISA"
    path.mkdir()
    return path


def test_text_is_the_vectors_of_the_words(folder: Path) -> None:
    samples = misa_samples()
    write(folder, samples)
    dataset, _ = read(folder, samples)
    table = misa_table()
    for split, part in samples.items():
        found = dataset.splits[split]
        for row, ((words, visual, acoustic, spoken), label, _) in enumerate(part):
            count = len(words)
            for name, values in (("text", table[words]), ("vision", visual), ("audio", acoustic)):
                assert found.inputs[name].mask[row].tolist() == [t < count for t in range(found.inputs[name].mask.shape[1])]
                np.testing.assert_array_equal(found.inputs[name].values[row, :count], np.nan_to_num(values).astype(np.float32))
            assert found.target[row] == np.float32(label[0, 0])
            assert found.transcripts[row] == " ".join(spoken)
    assert dataset.record["layout"] == "aligned"
    assert dataset.record["replaced"]["audio"] == 1  # the NaN of the fixture


@pytest.mark.parametrize("spelling", [str, str.encode, lambda name: np.array([name]), lambda name: (name,)])
def test_segments_in_every_spelling(folder: Path, spelling: Any) -> None:
    samples = {split: [(x, y, spelling(f"{split}[{i}]")) for i, (x, y, _) in enumerate(part)] for split, part in misa_samples().items()}
    write(folder, samples)
    dataset, _ = read(folder, samples)
    assert dataset.splits["test"].ids[:2] == ("test/0", "test/1")


def test_numbers_from_0_are_the_published_ones_from_1_where_the_splits_say_so(folder: Path) -> None:
    samples = {split: [(x, y, f"{split}v[{i}]") for i, (x, y, _) in enumerate(part)] for split, part in misa_samples().items()}
    del samples["train"][3]  # MISA dropped one clip of training
    write(folder, samples)
    published = {split: [f"{split}v/{i + 1}" for i in range(size)] for split, size in SIZES.items()}
    dataset, problems = read(folder, samples, published)
    assert dataset.splits["train"].ids[:5] == ("trainv/1", "trainv/2", "trainv/3", "trainv/5", "trainv/6")
    assert [line.split(",")[0] for line in problems] == [f"split train is not the published one: {SIZES['train'] - 1} samples"]
    assert any("one was added" in text for text in dataset.record["warnings"])
    same = {split: [f"{split}v/{i}" for i in range(size)] for split, size in SIZES.items()}
    dataset, problems = read(folder, samples, same)
    assert dataset.splits["valid"].ids[0] == "validv/0"
    assert not any("one was added" in text for text in dataset.record["warnings"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "is not in the folder"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "damaged or cut short"),
        (lambda path: path.write_bytes(pickle.dumps(Path("x"))), "refused: the pickle asks for pathlib"),
        (lambda path: torch_zip(path, misa_table()[:4]), "beyond the 4 vectors"),
        (lambda path: torch_zip(path, misa_table()[0]), "does not begin with a table"),
    ],
)
def test_without_vectors_the_other_modalities_are_there(folder: Path, change: Any, reason: str) -> None:
    samples = misa_samples()
    write(folder, samples)
    change(folder / "embedding_and_mapping.pt")
    dataset, _ = read(folder, samples)
    assert dataset.modalities == ("audio", "vision")
    assert reason in dataset.record["unusable"]["text"]
    assert dataset.splits["train"].transcripts[0] == " ".join(samples["train"][0][0][3])
    with pytest.raises(DataError, match=reason.replace("(", r"\(")):
        read(folder, samples, modalities=("text", "audio"))


def test_mmim_s_folders_have_longer_samples_and_no_ids_of_words(folder: Path) -> None:
    samples = {
        split: [(([], visual, acoustic[:-1], words, 9, 9), label, name) for (_, visual, acoustic, words), label, name in part]
        for split, part in misa_samples().items()
    }
    write(folder, samples)
    dataset, _ = read(folder, samples)
    assert dataset.modalities == ("audio", "vision")
    assert "no ids of words" in dataset.record["unusable"]["text"]
    assert dataset.record["layout"] == "unaligned"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (lambda x, y, name: (x, np.zeros((1, 7)), name), r"row 2 .*the label has the shape \(1, 7\)"),
        (lambda x, y, name: (x[:2], y, name), "row 2 is not"),
        (lambda x, y, name: ((x[0], x[1][0], x[2], x[3]), y, name), r"row 2 .*vision has the shape"),
        (lambda x, y, name: (x, None, name), "row 2 .*label: NoneType instead of an array"),
        (lambda x, y, name: ((*x[:3], 5), y, name), "row 2 .*the words are no list"),
        (lambda x, y, name: (x, y, 1.5), "an id must be text"),
        (lambda x, y, name: (x, y * np.nan, name), "is NaN"),
    ],
)
def test_a_wrong_sample_is_named(folder: Path, row: Any, message: str) -> None:
    samples = misa_samples()
    samples["test"][2] = row(*samples["test"][2])
    write(folder, samples)
    with pytest.raises(DataError, match=message):
        read(folder, samples)


@pytest.mark.torch
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before 1.6"])
def test_files_of_torch_are_read_as_torch_wrote_them(tmp_path: Path, archive: bool) -> None:
    import collections
    import sys
    import types

    torch = pytest.importorskip("torch", reason="torch writes the files that are to be read")
    module = types.ModuleType("create_dataset")
    exec("def return_unk():\n    return 0\n", module.__dict__)
    sys.modules["create_dataset"] = module
    try:
        words = collections.defaultdict(module.return_unk, {"<unk>": 0, "good": 5})
        table, rows = torch.randn(7, 30), torch.arange(12).reshape(3, 4)[1:]
        torch.save((table, words, {"more": [rows, table.double()]}), tmp_path / "a.pt", _use_new_zipfile_serialization=archive)
    finally:
        del sys.modules["create_dataset"]
    found = torch_files.load(tmp_path / "a.pt")
    np.testing.assert_array_equal(found[0], table.numpy())
    assert found[0].dtype == np.float32
    assert found[1] == {"<unk>": 0, "good": 5}
    np.testing.assert_array_equal(found[2]["more"][0], rows.numpy())
    np.testing.assert_array_equal(found[2]["more"][1], table.double().numpy())
    content = (tmp_path / "a.pt").read_bytes()
    for size in (30, 300, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pt").write_bytes(content[:size])
        with pytest.raises(DataError, match="damaged or cut short"):
            torch_files.load(tmp_path / "cut.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "b.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(DataError, match=r"asks for torch.nn.modules.linear.Linear. Nothing of the file was executed"):
        torch_files.load(tmp_path / "b.pt")
    torch.save(table.T, tmp_path / "c.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(DataError, match="not stored row by row"):
        torch_files.load(tmp_path / "c.pt")
