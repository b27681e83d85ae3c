from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mmbench import strict_yaml
from mmbench.cli.data import command
from mmbench.config import DataConfig
from mmbench.data import export, importing, store
from mmbench.data.checks import examine
from mmbench.data.export import write_mmsa
from mmbench.data.find import locate
from mmbench.data.importing import import_dataset
from mmbench.data.load import load_dataset, open_source
from mmbench.data.manifest import load_manifest
from mmbench.errors import ConfigError, DataError, MmbenchError
from mmbench.files import DIGEST

from .format_fixtures import misa, mmsa_aligned, write_folder
from .raw_samples import make_rows, write_sounds, write_table
from .samples import make_content

REAL = Path(__file__).parents[3] / "shared" / "data"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


def done(*arguments: object) -> str:
    result = invoke(*arguments)
    assert result.exception is None, result.exception
    return result.output


def failure(*arguments: object) -> MmbenchError:
    error = invoke(*arguments).exception
    assert isinstance(error, MmbenchError), error
    return error


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# import


def test_an_imported_data_set_is_whole_and_says_where_it_came_from(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content)
    done = import_dataset(config, tmp_path / "root")
    assert done.new
    assert files(tmp_path / "root") == ["tiny/unaligned/arrays.safetensors", "tiny/unaligned/store.json"]
    origin = json.loads((done.folder / "store.json").read_text())["origin"]
    assert origin == {
        "name": "tiny",
        "protocol": "",
        "part": "",
        "digest": load_dataset(config).record["sha256"],
        "known": False,
        "path": config.path,
    }
    record = load_dataset(config.model_copy(update={"path": None}), tmp_path / "root").record
    assert (record["source"], record["split_status"]) == (str(done.folder), "published")


def test_a_second_import_does_nothing_and_another_source_needs_replace(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content)
    place = ["--as", config.name, "--data-root", tmp_path / "root"]
    done("import", config.path, *place)
    time = (tmp_path / "root/tiny/unaligned/store.json").stat().st_mtime_ns
    again = done("import", config.path, *place)
    assert "from this source already; nothing was done" in again
    assert again.endswith(f"use it with: mmbench run CONFIG --data-root {tmp_path / 'root'}\n")
    assert (tmp_path / "root/tiny/unaligned/store.json").stat().st_mtime_ns == time
    other = make_content()
    other["train"]["audio"] += 1
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(other))
    error = failure("import", tmp_path / "other.pkl", *place)
    assert error.exit_code == 3
    assert "--replace" in str(error)
    assert "imported tiny" in done("import", tmp_path / "other.pkl", *place, "--replace")
    found = load_dataset(config.model_copy(update={"path": None}), tmp_path / "root")
    np.testing.assert_array_equal(found.splits["train"].inputs["audio"].values[0, 0], other["train"]["audio"][0, 0].astype(np.float32))
    assert files(tmp_path / "root") == ["tiny/unaligned/arrays.safetensors", "tiny/unaligned/store.json"]


def test_a_damaged_import_is_told_and_replaced(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content)
    folder = import_dataset(config, tmp_path / "root").folder
    whole = json.loads((folder / "store.json").read_text())
    foreign = {key: value for key, value in whole.items() if key not in ("reader", DIGEST)}
    for document in ({}, {**foreign, "origin": None}, {**foreign, "origin": ["a"]}):
        (folder / "store.json").write_text(json.dumps(document))
        with pytest.raises(DataError, match="damaged"):
            load_dataset(config.model_copy(update={"path": None}), tmp_path / "root")
        with pytest.raises(DataError, match="--replace"):
            import_dataset(config, tmp_path / "root")
    assert import_dataset(config, tmp_path / "root", replace=True).new
    assert load_dataset(config.model_copy(update={"path": None}), tmp_path / "root").fingerprint == load_dataset(config).fingerprint


def test_it_is_found_before_the_published_files_and_two_layouts_need_a_choice(write: Any, content: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    config = write(content)
    (root / "Tiny" / "Processed").mkdir(parents=True)
    shutil.copy(tmp_path / "file.pkl", root / "Tiny" / "Processed" / "unaligned.pkl")
    named = config.model_copy(update={"path": None})
    assert locate(named, root) == root / "Tiny" / "Processed" / "unaligned.pkl"
    unaligned = import_dataset(named, root).folder
    assert locate(named, root) == unaligned
    (tmp_path / "aligned.pkl").write_bytes(pickle.dumps(make_content(aligned=True)))
    aligned = import_dataset(config.model_copy(update={"path": str(tmp_path / "aligned.pkl")}), root).folder
    with pytest.raises(DataError, match=r"choose with --set data.features=aligned"):
        locate(named, root)
    assert locate(named.model_copy(update={"features": "aligned"}), root) == aligned
    assert locate(named.model_copy(update={"features": "unaligned"}), root) == unaligned
    assert locate(config, root) == Path(config.path or "")


def test_splits_that_are_not_the_published_ones_are_refused_as_by_check(write: Any, content: Any, tmp_path: Path) -> None:
    published = make_content()
    for part in (content["train"],):
        part["id"] = np.array([f"x{name}" for name in part["id"]])
    config = write(content, published)
    error = failure("import", config.path, "--as", config.name, "--data-root", tmp_path / "root")
    assert error.exit_code == 3
    assert "split train is not the published one" in str(error)
    assert not (tmp_path / "root").exists()
    page = done("import", config.path, "--as", config.name, "--data-root", tmp_path / "root", "--set", "data.splits=own")
    assert "split train is not the published one" in page
    assert page.endswith(f"use it with: mmbench run CONFIG --data-root {tmp_path / 'root'} --set data.splits=own\n")
    with pytest.raises(DataError, match="not the published one"):
        load_dataset(config.model_copy(update={"path": None}), tmp_path / "root")


def test_under_a_protocol_it_is_kept_apart(write: Any, content: Any, tmp_path: Path) -> None:
    classes = {"task": "classification", "classes": ["low", "middle", "high"], "label_range": None, "prototypes": 3, "metrics": ["wacc"]}
    base = {**classes, "labels": {"values": [0.0], "counts": [1]}, "source_classes": ["low", "middle", "high"]}
    protocols = {"three": {}, "ends": {"parts": {name: {"classes": [f"not {name}", name], "positive": name} for name in ("low", "high")}}}
    for part in content.values():
        part["classification_labels"] = [("low", "middle", "high")[i] for i in part["classification_labels"]]
    config = write(content)
    manifest = {key: value for key, value in strict_yaml.load(Path(config.name)).items() if key != "label_range"}
    base.pop("label_range")
    Path(config.name).write_text(strict_yaml.dump({**manifest, **base, "protocols": protocols}))
    place = ["--as", config.name, "--data-root", tmp_path / "root"]
    done("import", config.path, *place)
    output = done("import", config.path, *place, "--set", "data.protocol=ends")
    assert output.count("imported tiny") == 2
    assert [name for name in files(tmp_path / "root") if name.endswith("json")] == [
        "tiny/ends/high/unaligned/store.json",
        "tiny/ends/low/unaligned/store.json",
        "tiny/three/unaligned/store.json",
    ]
    high = config.model_copy(update={"path": None, "protocol": "ends", "part": "high"})
    assert load_dataset(high, tmp_path / "root").splits["train"].target.tolist() == [0, 0, 1] * 4
    assert load_dataset(high, tmp_path / "root").fingerprint == load_dataset(high.model_copy(update={"path": config.path})).fingerprint
    with pytest.raises(DataError, match="holds ends high of tiny"):
        load_dataset(config.model_copy(update={"path": str(tmp_path / "root/tiny/ends/high/unaligned")}))
    out = tmp_path / "high.pkl"
    write_mmsa(open_source(high, tmp_path / "root").store, out, load_manifest(config.name, "ends", "high"))
    assert load_dataset(high.model_copy(update={"path": str(out)})).splits["train"].target.tolist() == [0, 0, 1] * 4
    with pytest.raises(DataError, match="was exported under the protocol ends high, not ends low"):
        load_dataset(high.model_copy(update={"path": str(out), "part": "low"}))


def test_a_named_format_and_an_unknown_one(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content)
    place = ["--as", config.name, "--data-root", tmp_path / "root"]
    assert "is no pickle of MulT" in str(failure("import", config.path, *place, "--format", "mult"))
    assert "Did you mean 'mmsa'" in str(failure("import", config.path, *place, "--format", "mmas"))
    assert "imported" in done("import", config.path, *place, "--format", "mmsa")
    assert "neither a data set" in str(failure("import", tmp_path / "absent.pkl", *place))


def test_simulated_data_and_recordings_are_not_imported(write: Any, content: Any, tmp_path: Path) -> None:
    config = write(content).model_copy(update={"path": None, "simulated": True})
    with pytest.raises(DataError, match="simulated data are not imported"):
        import_dataset(config, tmp_path / "root")
    with pytest.raises(DataError, match="simulated data are not exported"):
        write_mmsa(open_source(config).store, tmp_path / "x.pkl", load_manifest(config.name))
    rows = make_rows()
    write_table(tmp_path / "raw", rows)
    write_sounds(tmp_path / "raw", rows)
    config = config.model_copy(update={"path": str(tmp_path / "raw"), "simulated": False, "splits": "own"})
    with pytest.raises(DataError, match="recordings and no features"):
        import_dataset(config, tmp_path / "root")
    with pytest.raises(DataError, match="no features to export"):
        write_mmsa(open_source(config).store, tmp_path / "x.pkl", load_manifest(config.name))


@pytest.mark.parametrize("where", ["copy", "rename"])
def test_an_import_that_fails_leaves_what_was_there(write: Any, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    config = write(content)
    import_dataset(config, tmp_path / "root")
    other = make_content(seed=1)
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(other))
    rename = os.rename

    def full(source: Any, target: Any, *more: Any) -> None:
        if where == "copy" or (Path(target) == tmp_path / "root/tiny/unaligned" and "old" not in str(source)):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    open_source(config.model_copy(update={"path": str(tmp_path / "other.pkl")}))
    monkeypatch.setattr(*((importing.shutil, "copyfile", full) if where == "copy" else (importing.os, "rename", full)))
    with pytest.raises(DataError, match="No space left on device"):
        import_dataset(config.model_copy(update={"path": str(tmp_path / "other.pkl")}), tmp_path / "root", replace=True)
    monkeypatch.undo()
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    assert load_dataset(config.model_copy(update={"path": None}), tmp_path / "root").fingerprint == load_dataset(config).fingerprint
    assert [path.name for path in (tmp_path / "root" / "tiny").iterdir()] == ["unaligned"]


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("replace", [False, True])
def test_of_two_imports_at_once_both_succeed(
    write: Any, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool, locks: bool
) -> None:
    """Another process imports the same while this one copies, or, where the file system has no locks, while it renames."""
    config = write(content)
    if replace:
        import_dataset(config, tmp_path / "root")
        (tmp_path / "root/tiny/unaligned/store.json").write_text("{}")
    module, name = (importing.shutil, "copyfile") if locks else (store.os, "rename")
    original, others = getattr(module, name), []

    def slow(*arguments: Any) -> Any:
        if not others:
            others.append(None)
            others[:] = [import_dataset(config, tmp_path / "root", replace=replace)]
        return original(*arguments)

    if not locks:
        monkeypatch.setattr(store, "_alone", lambda folder: contextlib.nullcontext())
    monkeypatch.setattr(module, name, slow)
    done = import_dataset(config, tmp_path / "root", replace=replace)
    monkeypatch.undo()
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    assert others[0].new
    assert done.folder == others[0].folder
    assert load_dataset(config.model_copy(update={"path": None}), tmp_path / "root").fingerprint == load_dataset(config).fingerprint
    assert locks is False or not done.new
    assert [path.name for path in (tmp_path / "root" / "tiny").iterdir() if not path.name.startswith(".")] == ["unaligned"]


def test_of_two_imports_of_different_sources_at_once_the_second_is_refused(
    write: Any, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(content)
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(make_content(seed=1)))
    other, original = config.model_copy(update={"path": str(tmp_path / "other.pkl")}), importing.shutil.copyfile

    def slow(*arguments: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
        import_dataset(other, tmp_path / "root")
        return original(*arguments)

    monkeypatch.setattr(importing.shutil, "copyfile", slow)
    with pytest.raises(DataError, match="holds another data set"):
        import_dataset(config, tmp_path / "root")
    assert load_dataset(config.model_copy(update={"path": None}), tmp_path / "root").fingerprint == load_dataset(other).fingerprint
    assert files(tmp_path / "root") == ["tiny/unaligned/arrays.safetensors", "tiny/unaligned/store.json"]


# export


def test_an_export_replaces_nothing_and_leaves_nothing_half_written(
    write: Any, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(write(content))
    out = tmp_path / "out" / "x.pkl"

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(export._Writer, "numbers", full)
        with pytest.raises(DataError, match=r"x.pkl: cannot be written: No space left on device"):
            write_mmsa(source.store, out, source.manifest)
    assert files(out.parent) == []
    with monkeypatch.context() as patch:
        patch.setattr(export.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(DataError, match=r"are needed and 0 B are free"):
            write_mmsa(source.store, out, source.manifest)
    write_mmsa(source.store, out, source.manifest)
    size = out.stat().st_size
    with pytest.raises(DataError, match="is there already"):
        write_mmsa(source.store, out, source.manifest)
    assert out.stat().st_size == size


def test_arrays_are_written_in_blocks(write: Any, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write(content))
    write_mmsa(source.store, tmp_path / "a.pkl", source.manifest)
    monkeypatch.setattr(export, "_BLOCK_BYTES", 100)
    write_mmsa(source.store, tmp_path / "b.pkl", source.manifest)
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_a_mask_that_lengths_cannot_say_is_written_itself(write: Any, content: Any, tmp_path: Path) -> None:
    """Right-aligned sound, and text whose mask is not that of its tokens, though of their length."""
    for part in content.values():
        mask = np.zeros(part["audio"].shape[:2], bool)
        mask[:, 4:] = True
        part["audio_mask"] = mask
        part["text_mask"] = np.tile([True, False, True, False, True, False], (len(part["id"]), 1))
        del part["audio_lengths"]
    config = write(content)
    source = open_source(config)
    write_mmsa(source.store, tmp_path / "x.pkl", source.manifest)
    with open(tmp_path / "x.pkl", "rb") as file:
        part = pickle.load(file)["train"]
    assert part["audio_mask"].tolist() == [[False] * 4 + [True] * 5] * 12
    assert "audio_lengths" not in part
    assert part["text_mask"][0].tolist() == [True, False, True, False, True, False]
    assert part["vision_lengths"].tolist() == content["train"]["vision_lengths"]


def test_an_aligned_file_has_the_keys_of_mmsa_and_no_others(tmp_path: Path) -> None:
    path, name, _ = mmsa_aligned(tmp_path)
    source = open_source(DataConfig(name=name, path=str(path)))
    write_mmsa(source.store, tmp_path / "x.pkl", source.manifest)
    with open(tmp_path / "x.pkl", "rb") as file:
        part = pickle.load(file)["train"]
    keys = {"id", "raw_text", "text", "text_bert", "audio", "vision", "regression_labels", "classification_labels", "annotations"}
    assert set(part) == keys


def test_names_of_modules_are_those_that_every_numpy_has(write: Any, content: Any, tmp_path: Path) -> None:
    import pickletools

    source = open_source(write(content))
    write_mmsa(source.store, tmp_path / "x.pkl", source.manifest)
    names = {argument for code, argument, _ in pickletools.genops((tmp_path / "x.pkl").read_bytes()) if code.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def test_splits_that_are_not_the_published_ones_are_not_exported_unawares(write: Any, content: Any, tmp_path: Path) -> None:
    published = make_content()
    content["train"]["id"] = np.array([f"x{name}" for name in content["train"]["id"]])
    config = write(content, published)
    arguments = ["export", config.path, "--as", config.name, "--format", "mmsa", "--out", tmp_path / "x.pkl"]
    assert failure(*arguments).exit_code == 3
    assert not (tmp_path / "x.pkl").exists()
    assert "wrote" in done(*arguments, "--set", "data.splits=own")


def test_none_of_it_imports_torch(tmp_path: Path) -> None:
    path, name, _ = misa(tmp_path)
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in ("torch", "scipy", "pandas", "transformers"), name
sys.meta_path.insert(0, Refuse())
from click.testing import CliRunner
from mmbench.cli.data import command
place = ["--as", {name!r}, "--data-root", {str(tmp_path / "root")!r}]
for arguments in (["import", {str(path)!r}, *place], ["export", {name!r}, "--format", "mmsa", "--out", {str(tmp_path / "x.pkl")!r}, *place[2:]]):
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    print(result.output)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "imported tiny" in run.stdout
    assert (tmp_path / "x.pkl").is_file()


# data of one's own


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "My data!").mkdir()
    path, _, _ = write_folder(tmp_path / "My data!")
    return path


def manifest_of(folder: Path) -> Any:
    done("new", folder)
    return load_manifest(folder / "dataset.yaml")


def change(folder: Path, **cells: Any) -> None:
    """Another table: by column, a function of the row's number and its own cell."""
    rows = [{**row, **{key: cell(i, row[key]) for key, cell in cells.items()}} for i, row in enumerate(make_rows())]
    write_table(folder, rows, tuple(rows[0]))


def test_a_manifest_for_own_data(own: Path) -> None:
    manifest = manifest_of(own)
    assert (manifest.name, manifest.task, manifest.label_range, manifest.prototypes) == ("own", "regression", (-3.0, 3.0), 7)
    assert manifest.metrics == load_manifest("mosi").metrics
    assert manifest.modalities == ("text", "audio", "vision")
    assert manifest.unimodal_labels
    assert {split: part.size for split, part in manifest.splits.items()} == {"train": 6, "valid": 3, "test": 3}
    dataset, problems = examine(DataConfig(name=str(own / "dataset.yaml")))
    assert problems == []
    assert dataset.input_spec().modalities["text"].size == 4
    assert not any("known copy" in text for text in dataset.record["warnings"])
    with pytest.raises(DataError, match=r"there is no nowhere and no .*nowhere .*\. For a trial"):  # a manifest of one's own says no source
        load_dataset(DataConfig(name=str(own / "dataset.yaml"), path="nowhere"))


def test_the_splits_are_fixed_from_then_on(own: Path) -> None:
    manifest_of(own)
    change(own, mode=lambda i, mode: "test" if i == 0 else mode)
    with pytest.raises(DataError, match="split train is not the published one"):
        load_dataset(DataConfig(name=str(own / "dataset.yaml")))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"label": lambda i, _: f"{i / 11 - 0.5:.2f}"}, ("regression", (-1.0, 1.0), 3, (), "sims")),
        ({"label": lambda i, _: f"{i}.5"}, ("regression", (0.0, 12.0), 7, (), None)),
        ({"label": lambda i, _: "1" if i % 2 else "-1"}, ("regression", (-1.0, 1.0), 3, (), "sims")),
        ({"label": lambda i, _: str(i % 3)}, ("classification", None, 3, ("Negative", "Neutral", "Positive"), "iemocap")),
        ({"label": lambda i, _: ""}, ("classification", None, 3, ("Negative", "Neutral", "Positive"), "iemocap")),
        ({"label": lambda i, _: "ab"[i % 2], "annotation": lambda i, _: ""}, ("classification", None, 2, ("a", "b"), "iemocap")),
        ({"label": lambda i, _: str(2 * (i % 3)), "annotation": lambda i, _: "xyz"[i % 3]}, ("regression", (0.0, 4.0), 7, (), None)),
    ],
)
def test_what_the_labels_say(own: Path, cells: Any, expected: tuple[Any, ...]) -> None:
    change(own, **cells)
    manifest = manifest_of(own)
    suite = load_manifest(expected[4]).metrics if expected[4] else ("mae", "corr")
    if expected[4] == "iemocap":
        suite = ("wacc", "waf1", "uar", "recall_per_class")
    assert (manifest.task, manifest.label_range, manifest.prototypes, manifest.classes, manifest.metrics) == (*expected[:4], suite)
    dataset = load_dataset(DataConfig(name=str(own / "dataset.yaml")))
    if manifest.classes:
        names = [manifest.classes[i] for split in ("train", "valid", "test") for i in dataset.splits[split].target]
        rows = [{**row, **{key: cell(i, row[key]) for key, cell in cells.items()}} for i, row in enumerate(make_rows())]
        assert names == [row["annotation"] or row["label"] for row in rows]


def test_modalities_are_what_the_folder_holds(tmp_path: Path) -> None:
    rows = make_rows()
    write_table(tmp_path / "raw", rows)
    assert manifest_of(tmp_path / "raw").modalities == ("text",)
    for suffix, found in ((".wav", ("text", "audio")), (".mp4", ("text", "audio", "vision"))):
        (tmp_path / "raw" / "dataset.yaml").unlink()
        (tmp_path / "raw" / "Raw" / "vid_0").mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / "Raw" / "vid_0" / f"0009{suffix}").write_bytes(b"")
        assert manifest_of(tmp_path / "raw").modalities == found
    (tmp_path / "raw" / "dataset.yaml").unlink()
    shutil.rmtree(tmp_path / "raw" / "Raw")
    change(tmp_path / "raw", text=lambda i, _: "")
    assert "neither transcripts" in str(failure("new", tmp_path / "raw"))


@pytest.mark.parametrize("place", ["modalities", "features/clips"])
def test_transcripts_beside_features_are_no_modality(tmp_path: Path, place: str) -> None:
    folder, _, _ = write_folder(tmp_path, place)
    shutil.rmtree(folder / "text", ignore_errors=True)
    for path in folder.glob("features/*/*.npz"):
        with np.load(path) as held:
            rest = {name: held[name] for name in held if name != "text"}
        np.savez(path, **rest)
    assert manifest_of(folder).modalities == ("audio", "vision")
    assert load_dataset(DataConfig(name=str(folder / "dataset.yaml"))).modalities == ("audio", "vision")


def test_mistakes(own: Path, tmp_path: Path) -> None:
    assert "has no label.csv" in str(failure("new", tmp_path))
    assert "is the name of a known data set" in str(failure("new", own, "--name", "mosi"))
    assert isinstance(failure("new", own, "--name", "a/b"), ConfigError)
    done("new", own, "--name", "mine")
    text = (own / "dataset.yaml").read_text()
    assert "is not written over" in str(failure("new", own))
    assert (own / "dataset.yaml").read_text() == text
    assert f"Add --as {own / 'dataset.yaml'}" in str(failure("check", own))
    with pytest.raises(ConfigError, match=r"Did you mean .*dataset.yaml"):
        load_manifest(own)
    (own / "dataset.yaml").unlink()
    change(own, label=lambda i, label: "much" if i == 4 else label)
    assert "line 6" in str(failure("new", own))
    change(own, label=lambda i, _: "", annotation=lambda i, _: "")
    assert "names of classes" in str(failure("new", own))
    change(own, mode=lambda i, _: "train")
    assert "no row has mode valid, test" in str(failure("new", own))
    change(own, clip_id=lambda i, clip: "0009" if i == 1 else clip)
    assert "clips that stand there more than once: 1, first vid_0/9" in str(failure("new", own))
    change(own, label=lambda i, _: f"{i % 3},5", annotation=lambda i, _: "")
    assert "label '0,5' is not a number; write a point" in str(failure("new", own))
    (own / "label.csv").write_text("Video_ID,clip_id,transcript,score,mode\nv,1,yes,1,train\n")
    assert "the column video_id, text, label or annotation is missing; it has Video_ID" in str(failure("new", own))
    assert "name the folder that holds label.csv" in str(failure("new", own / "label.csv"))
    assert "there is no such folder" in str(failure("new", tmp_path / "owm"))
    assert not (own / "dataset.yaml").exists()


def test_clips_without_recordings_and_recordings_without_rows_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    write_table(folder, make_rows())
    assert not {"notice", "extract"} & {*done("new", folder).replace(":", "").split()}
    (folder / "0009.mp4").touch()
    (folder / "dataset.yaml").unlink()
    assert "notice: recordings that lie where none are looked for: 1, first 0009.mp4; move them to Raw/<video_id>/<clip_id>" in done("new", folder)
    (folder / "dataset.yaml").unlink()
    for name in ("vid_0/0009.mp4", "vid_0/0010.wma", "vid_0/extra.wav"):
        (folder / "Raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "Raw" / name).touch()
    said = done("new", folder)
    assert "notice: clips without a recording: 11 of 12; first Raw/vid_0/0010.wma: is of no kind that is read here; it must be .wav" in said
    assert "notice: recordings without a row in label.csv, which are not used: 1, first Raw/vid_0/extra.wav" in said
    assert "mmbench extract" in said


def test_an_import_of_own_data_is_found_by_its_manifest(own: Path, tmp_path: Path) -> None:
    manifest_of(own)
    name = own / "dataset.yaml"
    before = load_dataset(DataConfig(name=str(name)))
    done("import", own, "--as", name, "--data-root", tmp_path / "root")
    assert locate(DataConfig(name=str(name)), tmp_path / "root") == tmp_path / "root/own/unaligned"
    assert locate(DataConfig(name=str(name)), tmp_path / "root", raw=True) == own
    assert locate(DataConfig(name=str(name)), tmp_path / "nothing") == own
    assert load_dataset(DataConfig(name=str(name)), tmp_path / "root").fingerprint == before.fingerprint


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real CMU-MOSI")
def test_the_real_mosi_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every array of the users' own file, as Python's reader sees it, is in the exported one."""
    pytest.importorskip("numpy._core", reason="the file was written by NumPy 2, and Python's own reader needs it")
    path = REAL / "mosi" / "unaligned_50.pkl"
    import_dataset(DataConfig(name="mosi", path=str(path)), tmp_path / "root")
    source = open_source(DataConfig(name="mosi"), tmp_path / "root")
    write_mmsa(source.store, tmp_path / "x.pkl", source.manifest)
    with open(path, "rb") as before, open(tmp_path / "x.pkl", "rb") as after:
        expected, found = pickle.load(before), pickle.load(after)
    for split in ("train", "valid", "test"):
        assert set(found[split]) == set(expected[split])
        for key, value in expected[split].items():
            np.testing.assert_array_equal(np.asarray(found[split][key]), np.asarray(value), err_msg=f"{split} {key}")
