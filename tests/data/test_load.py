from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.config import DataConfig, StandardizeConfig
from mmbench.data.ids import canonical_id, fingerprint
from mmbench.data.load import load_dataset, locate
from mmbench.errors import DataError

from .samples import SIZES, make_content

REAL = Path(__file__).parents[3] / "shared" / "data"


def test_a_path_to_a_file_or_to_a_folder(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content, name="Tiny.PKL")  # the manifest says tiny.pkl
    assert locate(config) == tmp_path / "Tiny.PKL"
    assert locate(config.model_copy(update={"path": str(tmp_path)})) == tmp_path / "Tiny.PKL"
    assert locate(config.model_copy(update={"path": "Tiny.PKL"}), tmp_path) == tmp_path / "Tiny.PKL"


def test_the_data_root_by_argument_and_by_environment(write: Any, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "TINY" / "processed").mkdir(parents=True)
    config = write(content).model_copy(update={"path": None})
    shutil.copy(tmp_path / "file.pkl", root / "TINY" / "processed" / "unaligned.pkl")
    assert locate(config, root) == root / "TINY" / "processed" / "unaligned.pkl"
    monkeypatch.setenv("MMBENCH_DATA", str(root))
    assert locate(config) == root / "TINY" / "processed" / "unaligned.pkl"


def test_two_layouts_need_a_choice(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content, name="tiny.pkl").model_copy(update={"path": str(tmp_path)})
    (tmp_path / "Tiny").mkdir()
    shutil.copy(tmp_path / "tiny.pkl", tmp_path / "Tiny" / "aligned.pkl")
    with pytest.raises(DataError, match=r"choose with --set data.features=unaligned"):
        locate(config)
    chosen = config.model_copy(update={"features": "aligned"})
    assert locate(chosen) == tmp_path / "Tiny" / "aligned.pkl"
    assert any("says aligned, but the file looks unaligned" in line for line in load_dataset(chosen).record["warnings"])


def test_the_other_layout_is_named_where_one_is_not_there(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content, name="tiny.pkl").model_copy(update={"path": str(tmp_path), "features": "aligned"})
    with pytest.raises(DataError, match=r"no aligned features of .*, but .*tiny.pkl: --set data.features=null takes these"):
        locate(config)
    assert locate(config.model_copy(update={"features": None})) == tmp_path / "tiny.pkl"


@pytest.mark.parametrize("given", ["root", "path", "nothing", "no folder"])
def test_data_that_are_not_there(write: Any, content: Any, tmp_path: Path, given: str) -> None:
    config = write(content)
    empty = tmp_path / "empty"
    empty.mkdir()
    path = {"path": str(tmp_path / "absent.pkl")}.get(given)
    root = {"root": empty, "no folder": tmp_path / "none"}.get(given)
    with pytest.raises(DataError) as error:
        locate(config.model_copy(update={"path": path}), root)
    message = str(error.value)
    assert error.value.exit_code == 3
    assert "https://example.org/tiny" in message
    assert "--set data.simulated=true" in message
    expected = {
        "root": "Tiny/Processed/unaligned.pkl, tiny.pkl, Tiny/aligned.pkl",
        "path": "absent.pkl",
        "nothing": "--data-root",
        "no folder": "none",
    }
    assert expected[given] in message
    with pytest.raises(DataError) as error:
        locate(config.model_copy(update={"path": path}), root, advice="")
    assert "simulated" not in str(error.value)
    assert "  " not in str(error.value)


def test_the_record(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content, standardize=StandardizeConfig(), max_length={"audio": 4})
    dataset = load_dataset(config)
    record = dataset.record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    digest = hashlib.sha256((tmp_path / "file.pkl").read_bytes()).hexdigest()
    assert (record["name"], record["title"], record["source"], record["sha256"]) == ("tiny", "Tiny", config.path, digest)
    assert (record["simulated"], record["known_digest"], record["layout"], record["split_status"]) == (False, False, "unaligned", "published")
    assert record["modalities"]["audio"] == {"kind": "features", "size": 3, "length": 4, "mean_frames": record["modalities"]["audio"]["mean_frames"]}
    assert {name: split["size"] for name, split in record["splits"].items()} == SIZES
    assert record["transforms"] == {"standardize": {"percentiles": None, "modalities": None}, "max_length": {"audio": 4}}
    assert record["fingerprint"] == dataset.fingerprint
    assert [line for line in record["warnings"] if digest[:16] in line]


def test_a_known_digest_is_no_warning(write: Any, content: Any, tmp_path: Path) -> None:
    digest = load_dataset(write(content)).record["sha256"]
    layouts = {"unaligned": {"files": [], "sha256": [digest], "shapes": {name: {"length": 9, "width": 3} for name in ("text", "audio", "vision")}}}
    record = load_dataset(write(content, manifest={"layouts": layouts})).record
    assert record["known_digest"]
    assert record["warnings"] == []
    sha1 = hashlib.sha1((tmp_path / "file.pkl").read_bytes(), usedforsecurity=False).hexdigest()
    assert load_dataset(write(content, manifest={"sha1": [sha1]})).record["known_digest"]


def test_the_fingerprint_is_of_content_and_modalities(write: Any, content: Any) -> None:
    config = write(content)
    prints = [
        load_dataset(config).fingerprint,
        load_dataset(config, tokens=frozenset({"text"})).fingerprint,
        load_dataset(config.model_copy(update={"modalities": ("text", "audio")})).fingerprint,
        load_dataset(config.model_copy(update={"modalities": ("audio", "text")})).fingerprint,
        load_dataset(write(make_content(seed=1))).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert load_dataset(write(content, standardize=StandardizeConfig())).fingerprint == prints[0]


def test_the_order_of_modalities_is_the_configs(write: Any, content: Any) -> None:
    assert load_dataset(write(content, modalities=("vision", "text"))).modalities == ("vision", "text")


def test_an_absent_modality_says_what_would_work(write: Any, content: Any) -> None:
    for part in content.values():
        del part["vision"]
    with pytest.raises(DataError, match=r"vision cannot be used: the file has none. Use --set 'data.modalities=\[text,audio\]'"):
        load_dataset(write(content))
    assert load_dataset(write(content, modalities=("text", "audio"))).modalities == ("text", "audio")
    with pytest.raises(DataError, match=r"--set 'data.modalities=\[audio\]"):
        load_dataset(write(content, modalities=("vision", "audio")))
    with pytest.raises(DataError, match=r"--set 'data.modalities=\[text,audio\]"):
        load_dataset(write(content, modalities=("vision",)))
    del content["test"]["audio"]
    with pytest.raises(DataError, match="audio cannot be used: only the split train, valid has it"):
        load_dataset(write(content, modalities=("audio",)))


@pytest.mark.parametrize(
    ("options", "tokens", "message"),
    [
        ({"modalities": ("text", "smell")}, (), "tiny has no smell; it has text, audio, vision"),
        ({}, ("audio",), "only text has token ids"),
        ({"samples": 50}, (), "data.samples scales simulated data"),
        ({"simulated": True}, (), "exclude each other"),
        ({"standardize": StandardizeConfig(modalities=("text",))}, ("text",), "text has token ids"),
        ({"max_length": {"smell": 3}}, (), "max_length names smell"),
    ],
)
def test_wishes_that_cannot_be_met(write: Any, content: Any, options: dict[str, Any], tokens: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(write(content, **options), tokens=frozenset(tokens))


def drop_one(content: Any) -> None:
    content["train"] = {key: value[:-1] for key, value in content["train"].items()}


def rename_one(content: Any) -> None:
    content["train"]["id"][3] = "other$_$1"


def swap(content: Any) -> None:
    one, other = content["train"]["id"], content["valid"]["id"]
    one[0], other[0] = other[0], one[0]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (drop_one, ["split train is not the published one: 11 samples, 12 are published (1 samples are missing"]),
        (rename_one, ["split train is not the published one: 12 samples, 12 are published (as many, but not the same)"]),
        (swap, ["split train is not", "split valid is not", "divided differently"]),
    ],
)
def test_other_splits_stop_unless_they_are_accepted_as_own(write: Any, content: Any, change: Any, messages: list[str]) -> None:
    change(content)
    with pytest.raises(DataError) as error:
        load_dataset(write(content, make_content()))
    assert all(message in str(error.value) for message in messages)
    assert "--set data.splits=own" in str(error.value)
    record = load_dataset(write(content, make_content(), splits="own")).record
    assert record["split_status"] == "own"
    assert any("is not the published one" in line for line in record["warnings"])


def test_own_splits_that_are_the_published_ones_are_published(write: Any, content: Any) -> None:
    assert load_dataset(write(content, splits="own")).record["split_status"] == "published"


def test_validation_may_be_cut_from_train_where_only_the_union_is_published(write: Any, content: Any) -> None:
    ids = {split: [canonical_id(str(name)) for name in content[split]["id"]] for split in SIZES}
    splits = {
        "train+valid": {"size": 17, "fingerprint": fingerprint(ids["train"] + ids["valid"])},
        "test": {"size": 7, "fingerprint": fingerprint(ids["test"])},
    }
    manifest = {"splits": splits, "sizes": SIZES}
    swap(content)
    assert load_dataset(write(content, manifest=manifest)).record["split_status"] == "published"
    content["test"]["id"][0] = "other$_$1"
    with pytest.raises(DataError, match="split test is not"):
        load_dataset(write(content, manifest=manifest))


def test_a_split_of_which_nobody_published_the_ids_is_known_by_its_size_alone(write: Any, content: Any) -> None:
    splits = {name: {"size": size} for name, size in SIZES.items()}
    assert load_dataset(write(content, manifest={"splits": splits})).record["split_status"] == "sizes"
    splits["test"]["size"] = 8
    with pytest.raises(DataError, match="split test is not the published one: 7 samples, 8 are published"):
        load_dataset(write(content, manifest={"splits": splits}))


@pytest.mark.parametrize(
    ("split", "spelling", "message"),
    [("train", "video_0_1", "video_0/1, twice in train"), ("test", "video_0[001]", "video_0/1, in train and in test")],
)
def test_a_sample_that_stands_twice_stops_whatever_its_spelling(write: Any, content: Any, split: str, spelling: str, message: str) -> None:
    content[split]["id"][5] = spelling
    with pytest.raises(DataError, match=message):
        load_dataset(write(content, splits="own"))


@pytest.mark.skipif(not (REAL / "mosi" / "unaligned_50.pkl").is_file(), reason="the real file is not beside this checkout")
def test_the_real_file_without_vision() -> None:
    with pytest.raises(DataError, match=r"--set 'data.modalities=\[text,audio\]"):
        load_dataset(DataConfig(name="mosi"), REAL)
    dataset = load_dataset(DataConfig(name="mosi", modalities=("text", "audio")), REAL)
    assert dataset.record["split_status"] == "published"
    assert len(dataset.record["warnings"]) == 1
    assert "no known copy of CMU-MOSI" in dataset.record["warnings"][0]
    assert "text is 128 wide, not 768" in dataset.record["warnings"][0]
    assert dataset.splits["train"].inputs["text"].values.shape == (1284, 50, 128)
    assert np.asarray(dataset.splits["test"].inputs["audio"].mask).all()
    tokens = load_dataset(DataConfig(name="mosi", modalities=("text",)), REAL, frozenset({"text"})).splits["train"].inputs["text"]
    np.testing.assert_array_equal(tokens.mask, dataset.splits["train"].inputs["text"].mask)
    assert set(np.asarray(tokens.values[:, 0]).tolist()) == {101}
