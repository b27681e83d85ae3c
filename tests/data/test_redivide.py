from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig
from mmbench.data.importing import import_dataset
from mmbench.data.load import load_dataset
from mmbench.data.manifest import load_manifest
from mmbench.data.simulate import simulate
from mmbench.errors import DataError

from .conversation_fixtures import iemocap_manifest, write_iemocap
from .test_protocol import content, save


def imported(tmp_path: Path, source: Any, protocol: str, part: str | None = None, **changes: Any) -> DataConfig:
    """The config of what was imported from a file under a protocol."""
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(source))
    config = DataConfig(name=str(save(tmp_path, **changes)), path=str(path), protocol=protocol, part=part, splits="own")
    folder = import_dataset(config, tmp_path / "root").folder
    return config.model_copy(update={"path": str(folder)})


def same(first: Any, second: Any) -> None:
    """The same samples with the same values, whatever their order."""
    for split in first.splits:
        one, other = first.splits[split], second.splits[split]
        assert sorted(one.ids) == sorted(other.ids)
        rows = [other.ids.index(name) for name in one.ids]
        np.testing.assert_array_equal(one.target, other.target[rows])
        assert [other.transcripts[row] for row in rows] == list(one.transcripts)
        for name, part in one.inputs.items():
            length = min(part.values.shape[1], other.inputs[name].values.shape[1])
            np.testing.assert_array_equal(part.values[:, :length], other.inputs[name].values[rows][:, :length])
            np.testing.assert_array_equal(part.mask.sum(axis=1), other.inputs[name].mask[rows].sum(axis=1))
            assert not other.inputs[name].mask[:, length:].any()


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("protocol", "part"), [("folds", "first"), ("folds", "second"), ("less", None), ("tasks", "c")])
def test_imported_under_one_protocol_and_read_under_another(tmp_path: Path, protocol: str, part: str | None, dense: bool) -> None:
    source = content({"train": 16, "valid": 4, "test": 8})
    for each in source.values() if dense else ():
        each["audio"] = np.stack([np.pad(values, ((1, 5 - len(values)), (0, 0))) for values in each["audio"]])
        each["audio_mask"] = each["audio"][:, :, 0] != 0  # real frames do not come first
    config = imported(tmp_path, source, "three").model_copy(update={"protocol": protocol, "part": part})
    direct = config.model_copy(update={"path": str(tmp_path / "file.pkl")})
    if protocol == "tasks":  # whose file must name its classes
        named = content({"train": 16, "valid": 4, "test": 8}, ["a", "b", "c"])
        for split, each in source.items():
            each["classification_labels"] = named[split]["classification_labels"]
        (tmp_path / "file.pkl").write_bytes(pickle.dumps(source))
    same(load_dataset(direct), load_dataset(config))
    assert load_dataset(direct).fingerprint != load_dataset(config).fingerprint


def test_one_fold_serves_the_others(tmp_path: Path) -> None:
    source = content({"train": 16, "valid": 4, "test": 8})
    config = imported(tmp_path, source, "folds", "first")
    second = config.model_copy(update={"part": "second"})
    same(load_dataset(second.model_copy(update={"path": str(tmp_path / "file.pkl")})), load_dataset(second))
    with pytest.raises(DataError, match="three cannot be made: its samples were divided anew already"):
        load_dataset(config.model_copy(update={"protocol": "three", "part": None}))


@pytest.mark.parametrize(
    ("held", "part", "wanted", "message"),
    [
        ("less", None, "three", "holds less of small, of which three cannot be made: its classes are a, b already"),
        ("tasks", "b", "two", "holds tasks b of small, of which two cannot be made: its classes are no, yes already"),
        ("two", None, "less", "its classes are a, b already"),
    ],
)
def test_what_was_lost_cannot_be_made_again(tmp_path: Path, held: str, part: str | None, wanted: str, message: str) -> None:
    config = imported(tmp_path, content({"train": 16, "valid": 4, "test": 8}, ["a", "b", "c"]), held, part)
    with pytest.raises(DataError, match=message):
        load_dataset(config.model_copy(update={"protocol": wanted, "part": None}))


def test_it_is_said_where_validation_stays_as_it_was(tmp_path: Path) -> None:
    config = imported(tmp_path, content({"train": 18, "test": 8}), "three")
    warnings = load_dataset(config.model_copy(update={"protocol": "less"})).record["warnings"]
    assert any("divided under the protocol three, and training and validation are those of it" in line for line in warnings)


def test_iemocap_imported_once_serves_every_fold(tmp_path: Path) -> None:
    path = write_iemocap(tmp_path / "data")
    config = DataConfig(name=iemocap_manifest(tmp_path), path=str(path))
    folder = import_dataset(config, tmp_path / "root").folder
    for session in (1, 3):
        fold = config.model_copy(update={"protocol": "4way_5fold", "part": f"session{session}"})
        same(load_dataset(fold), load_dataset(fold.model_copy(update={"path": str(folder)})))


def test_simulated_data_of_other_classes_are_refused(tmp_path: Path) -> None:
    description = save(
        tmp_path, labels={"values": [0, 1, 2], "counts": [5, 5, 5]}, splits={name: {"size": 12} for name in ("train", "valid", "test")}
    )
    simulate(load_manifest(description, "three"), folder=tmp_path / "made")
    assert load_dataset(DataConfig(name=str(description), path=str(tmp_path / "made"), protocol="three")).classes == ("a", "b", "c")
    with pytest.raises(DataError, match="holds other classes than a, b"):
        load_dataset(DataConfig(name=str(description), path=str(tmp_path / "made"), protocol="two"))
