from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmbench import strict_yaml
from mmbench.data.manifest import list_manifests, load_manifest
from mmbench.errors import ConfigError
from mmbench.metrics import METRICS

from .samples import make_content, make_manifest


def save(path: Path, **changes: Any) -> Path:
    path.write_text(strict_yaml.dump(make_manifest(make_content(), **changes)))
    return path


def test_the_data_sets() -> None:
    assert list_manifests() == ["iemocap", "meld", "mosei", "mosi", "sims", "simsv2"]
    prototypes = {name: load_manifest(name).prototypes for name in list_manifests()}
    assert prototypes == {"iemocap": 6, "meld": 7, "mosei": 7, "mosi": 7, "sims": 3, "simsv2": 3}


@pytest.mark.parametrize("name", list_manifests())
def test_a_shipped_manifest_is_named_after_its_file_and_has_known_metrics(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == name
    assert set(manifest.metrics) <= set(METRICS)
    assert all(manifest.task in METRICS[metric].tasks for metric in manifest.metrics)


def test_a_manifest_by_path(tmp_path: Path) -> None:
    manifest = load_manifest(save(tmp_path / "own.yaml"))
    assert manifest.title == "Tiny"
    assert dict(manifest.split_sizes()) == {"train": 12, "valid": 5, "test": 7}


@pytest.mark.parametrize(("name", "message"), [("Mosi", "Did you mean 'mosi'"), ("zzz", "Known are iemocap"), ("no/such.yaml", "no manifest")])
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_manifest(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "x"}, "licens"),
        ({"classes": ["a", "b"]}, "classes must be given for classification"),
        ({"label_range": None}, "label_range must be given"),
        ({"modalities": ["text", "audio"]}, "shapes must name exactly"),
        ({"splits": {"train": {"size": 1, "fingerprint": "0" * 64}}}, "cover train, valid and test"),
        ({"splits": {"train+valid": {"size": 1, "fingerprint": "0" * 64}, "test": {"size": 1, "fingerprint": "0" * 64}}}, "sizes of train"),
        ({"splits": {"dev": {"size": 1, "fingerprint": "0" * 64}}}, "train, valid, test"),
        ({"samples": "abc"}, "samples"),
        ({"labels": {"values": [1.0, 2.0], "counts": [1]}}, "must be as many"),
    ],
)
def test_a_mistake_in_a_manifest_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "wrong.yaml", **changes)
    with pytest.raises(ConfigError, match=message) as error:
        load_manifest(path)
    assert str(path) in str(error.value)


def test_a_protocol_and_its_parts_change_what_they_name(tmp_path: Path) -> None:
    protocols = {
        "first": {"title": "One"},
        "second": {"title": "Two", "parts": {"a": {"prototypes": 2}, "b": {"title": "Two b", "samples": None}}},
    }
    path = save(tmp_path / "own.yaml", protocols=protocols)
    first, second = load_manifest(path), load_manifest(path, "second")
    a, b = load_manifest(path, "second", "a"), load_manifest(path, "second", "b")
    assert (first.protocol, first.part, first.parts, first.title, first.prototypes) == ("first", "", (), "One", 7)
    assert (second.protocol, second.part, second.parts, second.title, second.prototypes) == ("second", "", ("a", "b"), "Two", 7)
    assert (a.part, a.parts, a.title, a.prototypes, a.samples) == ("a", ("a", "b"), "Two", 2, first.samples)
    assert (b.title, b.prototypes, b.samples) == ("Two b", 7, None)
    assert first.protocols == b.protocols == ("first", "second")


@pytest.mark.parametrize(
    ("protocol", "part", "message"),
    [
        ("third", None, "has no protocol 'third'; it has first, second"),
        ("second", "c", "has no part 'c'; it has a"),
        ("first", "a", "has no part 'a'; it has none"),
    ],
)
def test_an_unknown_protocol_or_part(tmp_path: Path, protocol: str, part: str | None, message: str) -> None:
    path = save(tmp_path / "own.yaml", protocols={"first": {}, "second": {"parts": {"a": {}}}})
    with pytest.raises(ConfigError, match=message):
        load_manifest(path, protocol, part)


@pytest.mark.parametrize("protocols", [{"first": 1}, {"first": {"parts": {"a": 1}}}, {"first": {"parts": ["a"]}}, {"first": {"parts": None}}, [1]])
def test_protocols_that_are_no_mappings(tmp_path: Path, protocols: Any) -> None:
    with pytest.raises(ConfigError, match="must be a mapping of what differs"):
        load_manifest(save(tmp_path / "own.yaml", protocols=protocols))


def test_the_protocols_of_iemocap() -> None:
    names = ("6way_session5", "4way_session5", "4way_5fold", "mult_4binary")
    assert load_manifest("iemocap").protocols == names
    sessions = ("session1", "session2", "session3", "session4", "session5")
    parts = {name: load_manifest("iemocap", name).parts for name in names}
    assert parts == {names[0]: (), names[1]: (), names[2]: sessions, names[3]: ("neutral", "happy", "sad", "angry")}
    assert load_manifest("iemocap", "mult_4binary", "sad").classes == ("not sad", "sad")
    assert set(load_manifest("iemocap", "mult_4binary", "sad").metrics) >= {"wacc", "waf1"}


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("- 1", "list"), ("words", "str")])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"a.yaml: a manifest is a mapping of keys to values, not a {kind}"):
        load_manifest(tmp_path / "a.yaml")


@pytest.mark.parametrize("pattern", ["a{99999999999}", "(" * 5000 + ")" * 5000], ids=["repeated", "nested"])
def test_a_pattern_that_is_too_much_for_the_machine_of_expressions(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match="test is not a regular expression"):
        load_manifest(save(tmp_path / "a.yaml", test=pattern))


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no manifest x"):
        load_manifest("x" * 300 + ".yaml")


def test_a_folder_in_place_of_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/label.csv").touch()
    with pytest.raises(ConfigError, match=r"mmbench data new mine writes a manifest for this folder: mine/dataset\.yaml"):
        load_manifest("mine")
    Path("mine/dataset.yaml").touch()
    with pytest.raises(ConfigError, match=r"Did you mean 'mine/dataset\.yaml'"):
        load_manifest("mine")
    with pytest.raises(ConfigError, match="mmbench data new FOLDER writes one"):
        load_manifest("mine/data.yaml")
