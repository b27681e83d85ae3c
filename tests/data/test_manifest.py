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
