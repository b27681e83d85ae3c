"""What every format of the core promises: read, imported, found by name, exported, imported again and trained on, with the same values each time."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench import strict_yaml
from mmbench.cli.data import command
from mmbench.config import DataConfig
from mmbench.data.load import Source, load_dataset, open_source
from mmbench.data.manifest import load_manifest
from mmbench.plugins import CORE, catalogue

from . import conversation_fixtures  # noqa: F401  (registers its own)
from .format_fixtures import FIXTURES

FORMATS = [entry.component.name for entry in catalogue().of_kind("dataset-format") if entry.distribution == CORE]


def data(*arguments: object) -> str:
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exception is None, result.exception
    return result.output


def assert_equal(found: Source, expected: Source) -> None:
    assert set(found.store.arrays) == set(expected.store.arrays)
    for key, array in expected.store.arrays.items():
        np.testing.assert_array_equal(found.store.arrays[key], array, err_msg=key)
        assert found.store.arrays[key].dtype == array.dtype
    for key in ("splits", "layout", "counted"):
        assert found.store.document.get(key) == expected.store.document.get(key)
    assert set(found.available()) == set(expected.available())


def written(name: str, folder: Path) -> DataConfig:
    """A fixture, as a config that accepts its splits: small data sets are not the published ones."""
    folder.mkdir()
    path, manifest, protocol = FIXTURES[name](folder)
    parts = load_manifest(manifest, protocol).parts
    return DataConfig(name=manifest, path=str(path), protocol=protocol, part=parts[0] if parts else None, splits="own")


def options(config: DataConfig) -> list[str]:
    values = {key: value for key, value in config.model_dump(include={"protocol", "part", "splits"}).items() if value is not None}
    return [argument for key, value in values.items() for argument in ("--set", f"data.{key}={value}")]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_the_core_has_a_fixture(name: str) -> None:
    assert name in {fixture.partition(":")[0] for fixture in FIXTURES}


@pytest.mark.parametrize("name", FIXTURES)
def test_there_and_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(name, tmp_path / "source")
    source = open_source(config)
    assert source.store.document["reader"]["name"] == name.partition(":")[0]
    names = source.available()
    fingerprint = load_dataset(config.model_copy(update={"modalities": tuple(names)})).fingerprint

    root = tmp_path / "root"
    page = data("import", config.path, "--as", config.name, "--data-root", root, *options(config))
    assert "imported" in page.splitlines()[-2]
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "new cache"))
    kept = config.model_copy(update={"path": None})
    _remove(Path(config.path or ""), Path(config.name))
    found = open_source(kept, root)
    assert_equal(found, source)
    assert load_dataset(kept.model_copy(update={"modalities": tuple(names)}), root).fingerprint == fingerprint
    assert data("check", config.name, "--data-root", root, *options(config)).splitlines()[1:5] == [
        line.replace(str(source.path), str(found.path)) for line in page.splitlines()[1:5]
    ]

    out = tmp_path / "out.pkl"
    data("export", config.name, "--format", "mmsa", "--out", out, "--data-root", root, *options(config))
    _check_pickle(out, source)
    data("import", out, "--as", config.name, "--data-root", tmp_path / "other", *options(config))
    again = open_source(kept, tmp_path / "other")
    assert_equal(again, source)
    assert again.store.document["reader"]["name"] == "mmsa"


def _remove(path: Path, manifest: Path) -> None:
    """The source, but not the manifest beside or in it."""
    text = manifest.read_text() if manifest.is_file() else None
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if text is not None:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(text)


def _check_pickle(path: Path, source: Source) -> None:
    """As Python's own reader sees it, with the schema of MMSA."""
    with open(path, "rb") as file:
        content = pickle.load(file)
    for split in ("train", "valid", "test"):
        part, ids = content[split], source.ids(split)
        assert part["id"] == [f"{name.rpartition('/')[0]}$_${name.rpartition('/')[2]}" if "/" in name else name for name in ids]
        assert all(len(value) == len(ids) for value in part.values())
        for name in source.available():
            values, mask = (source.store.arrays[f"{split}/{kind}/{name}"] for kind in ("features", "features_mask"))
            assert part[name].dtype == np.float32
            np.testing.assert_array_equal(part[name], values)
            if f"{name}_lengths" in part:
                np.testing.assert_array_equal(part[f"{name}_lengths"], mask.sum(axis=1))
        target = source.store.arrays[f"{split}/target"]
        if source.manifest.task == "regression":
            np.testing.assert_array_equal(part["regression_labels"], target)
            words = ["Negative", "Neutral", "Positive"]
            signs = [words[int(value > 0) - int(value < 0) + 1] for value in target]
            assert [words[i] for i in part["classification_labels"]] == part["annotations"].tolist() == signs
        else:
            np.testing.assert_array_equal(part["classification_labels"], target)
            assert part["annotations"].tolist() == [source.manifest.classes[i] for i in target]
        if source.tokenised:
            tokens, attention = (source.store.arrays[f"{split}/{kind}/text"] for kind in ("tokens", "tokens_mask"))
            np.testing.assert_array_equal(part["text_bert"], np.stack([tokens, attention, np.zeros_like(tokens)], axis=1))
            assert part["text_bert"].dtype == np.int64
        if source.store.document["splits"][split]["transcripts"]:
            assert part["raw_text"].tolist() == source.store.document["splits"][split]["transcripts"]


@pytest.mark.torch
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_trained_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of the linear floor, as `mmbench run` plans them; a run on the imported data is the same run."""
    pytest.importorskip("torch")
    from mmbench import worker
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    config = written(name, tmp_path / "source")
    section = config.model_dump(include={"name", "path", "protocol", "part", "splits"}, exclude_none=True)
    section["modalities"] = list(open_source(config).available())
    experiment = {"name": "formats", "data": section, "model": {"name": "linear"}, "training": {"epochs": 2}, "seeds": [1]}
    (tmp_path / "formats.yaml").write_text(strict_yaml.dump(experiment))
    plan = make_plan(load(str(tmp_path / "formats.yaml")), tmp_path / "runs", None, "cpu")
    request = prepare(plan, None)[0][0]
    assert "linear" in request.folder.parent.name
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    assert worker.main([str(request.folder), "--device", "cpu"]) == 0
    result = json.loads((request.folder / "result.json").read_text())
    assert result["status"] == "done"
    assert all(value is None or np.isfinite(value) for value in result["metrics"].values() if not isinstance(value, (list, dict)))
    assert len(result["metrics"]) > 1

    data("import", config.path, "--as", config.name, "--data-root", tmp_path / "root", *options(config))
    experiment["data"] = {key: value for key, value in section.items() if key != "path"}
    (tmp_path / "formats.yaml").write_text(strict_yaml.dump(experiment))
    again = make_plan(load(str(tmp_path / "formats.yaml")), tmp_path / "runs", tmp_path / "root", "cpu")
    assert prepare(again, None)[1] == 1  # done already
