"""A protocol with parts (folds, binary tasks) is an axis of an experiment: one run for each part and seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import check
from mmbench.data.manifest import load_manifest
from mmbench.data.simulate import simulate
from mmbench.errors import ConfigError, DataError
from mmbench.resolve import Resolved, load
from mmbench.results.runs import find_runs
from mmbench.results.tables import build_tables
from mmbench.runner import make_plan, open_data, prepare
from mmbench.strict_yaml import dump
from mmbench.worker import _identity

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
DIGEST = "0" * 64


def splits(train: int, valid: int, test: int) -> dict[str, Any]:
    return {"splits": {name: {"size": size, "fingerprint": DIGEST} for name, size in (("train", train), ("valid", valid), ("test", test))}}


def task(positive: str, **changes: Any) -> dict[str, Any]:
    return {"classes": ["other", positive], "labels": {"values": [0, 1], "counts": [3, 1]}, "prototypes": 2, **changes}


MANIFEST = {
    "name": "toy",
    "title": "Toy",
    "task": "classification",
    "classes": ["happy", "sad", "angry"],
    "prototypes": 3,
    "modalities": ["text", "audio"],
    "metrics": ["wacc", "waf1", "recall_per_class"],
    "layouts": {"aligned": {"files": ["toy.pkl"], "shapes": {"text": {"length": 3, "width": 5}, "audio": {"length": 3, "width": 4}}}},
    **splits(40, 12, 12),
    "samples": DIGEST,
    "labels": {"values": [0, 1, 2], "counts": [1, 2, 3]},
    "licence": "none",
    "source": "nowhere",
    "citation": "none",
    "protocols": {
        "whole": {},
        "folds": {"title": "Toy, folds", "parts": {"two": splits(36, 12, 16), "one": splits(40, 12, 12), "three": splits(40, 12, 12)}},
        "binary": {"parts": {"happy": task("happy"), "sad": task("sad", metrics=["waf1", "wacc"])}},
    },
}
FOLDS, BINARY = ("two", "one", "three"), ("happy", "sad")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config of the linear floor on all folds of simulated data."""
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "toy.yaml").write_text(dump(MANIFEST))
    path = tmp_path / "linear.yaml"
    data = {"name": str(tmp_path / "toy.yaml"), "protocol": "folds", "simulated": True}
    path.write_text(dump({"data": data, "model": {"name": "linear"}, "training": {"epochs": 1}, "seeds": [1, 2]}))
    return path


def parts(cells: list[Resolved]) -> list[str]:
    return [cell.manifest.part for cell in cells]


# The axis -----------------------------------------------------------------------------------------------------------------------


def test_a_protocol_is_expanded_into_its_parts(config: Path) -> None:
    cells = load(config)
    assert parts(cells) == list(FOLDS)
    assert [cell.to_dict()["data"]["part"] for cell in cells] == list(FOLDS)
    assert {cell.name for cell in cells} == {"linear"}
    assert parts(load(config, ["data.part=one"])) == ["one"]
    assert parts(load(config, ["data.protocol=whole"])) == [""]
    assert parts(load(config, ["data.protocol=binary"])) == list(BINARY)


def test_the_default_protocol_is_filled_in(config: Path) -> None:
    (default,), (named,) = load(config, ["data.protocol=null"]), load(config, ["data.protocol=whole"])
    assert default.to_dict()["data"]["protocol"] == "whole"
    assert default.fingerprint("data") == named.fingerprint("data")


def test_a_sweep_may_go_over_protocols_and_parts(config: Path) -> None:
    text = config.read_text()
    config.write_text(text + dump({"sweep": {"protocol": {"key": "data.protocol", "values": ["whole", "binary"]}}}))
    assert [(cell.experiment.row, cell.manifest.part) for cell in load(config)] == [
        ("protocol=whole", ""), ("protocol=binary", "happy"), ("protocol=binary", "sad")
    ]  # fmt: skip
    config.write_text(text + dump({"sweep": {"part": {"key": "data.part", "values": ["two", "three"]}}}))
    assert parts(load(config)) == ["two", "three"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("data.part=four", "has no part 'four'; it has two, one, three"),
        ("data.protocol=fold", "has no protocol 'fold'; it has whole, folds, binary"),
        ("data.protocol=3", "data.protocol: must be a valid string"),
        ("data.name=nowhere", "no data set is called 'nowhere'"),
        ("model.width=3", "model.width: unknown key"),
        ("metrics=[mae]", "metric 'mae' is for regression"),
    ],
)
def test_a_mistake_is_said_once(config: Path, option: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config, [option])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_configuration_is_one_family_and_several_fingerprints(config: Path) -> None:
    cells = load(config)
    (family,) = {cell.family for cell in cells}
    assert len(family) == 12
    assert len({cell.fingerprint("same data") for cell in cells}) == 3
    for option in ("data.protocol=binary", "training.epochs=2", "data.modalities=[text]", "training.select=waf1", "metrics=[wacc]"):
        (other,) = {cell.family for cell in load(config, [option])}
        assert other != family, option
    for option in ("data.path=elsewhere", "name=other", "seeds=[7]", "data.part=one", "training.task_loss=cross_entropy"):
        assert {cell.family for cell in load(config, [option])} == {family}, option
    assert [cell.family for cell in load(config, ["data.protocol=whole"])] == [""]


def test_parts_with_metrics_of_their_own_are_one_family(config: Path) -> None:
    cells = load(config, ["data.protocol=binary"])
    assert [cell.select for cell in cells] == ["wacc", "waf1"]
    assert len({cell.family for cell in cells}) == 1


def test_a_run_reads_its_own_part_and_family_back(config: Path, tmp_path: Path) -> None:
    for protocol in ("folds", "binary"):
        plan = make_plan(load(config, [f"data.protocol={protocol}"]), tmp_path / protocol, None, "cpu")
        requests, *_ = prepare(plan, None)
        for (row, _, folder), request in zip(plan.runs(), requests, strict=True):
            (again,) = load(folder / "config.yaml")
            assert request.folder == folder
            assert again.family == row.resolved.family
            assert again.protocol == row.resolved.protocol
            fingerprint = again.fingerprint(open_data(again).fingerprint)
            assert folder.parent.name == f"{again.model.entry.component.name}-{fingerprint}"


# The plan -----------------------------------------------------------------------------------------------------------------------


def test_a_plan_has_each_part_and_seed_with_its_floors(config: Path, tmp_path: Path) -> None:
    plan = make_plan(load(config), tmp_path / "runs", None, "cpu")
    assert plan.parts == ("toy folds: 3 parts x 2 seeds (two, one, three)",)
    runs = [(row.name, row.resolved.manifest.part, seed) for row, seed, _ in plan.runs()]
    assert sorted(runs) == sorted((name, part, seed) for name in ("linear", "constant") for part in FOLDS for seed in (1, 2))
    assert len({folder for _, _, folder in plan.runs()}) == 12
    assert len({dataset.fingerprint for dataset in plan.datasets}) == 3
    assert [request.label for request in prepare(plan, None)[0]][:3] == [f"linear, {part}, seed 1" for part in FOLDS]
    assert make_plan(load(config, ["data.protocol=whole"]), tmp_path / "runs", None, "cpu").parts == ()


def test_simulated_parts_are_other_samples(config: Path, tmp_path: Path) -> None:
    """Parts of the same sizes and labels too, since a mean over copies of one fold would be no mean."""
    one, three = (simulate(load_manifest(tmp_path / "toy.yaml", "folds", part)) for part in ("one", "three"))
    first, second = (store.arrays["train/features/text"] for store in (one, three))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


def test_an_error_of_the_data_names_the_part(config: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^part two: "):
        make_plan(load(config, ["data.samples=3"]), tmp_path / "runs", None, "cpu")


def test_a_refused_configuration_is_recorded_for_its_part(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text() + dump({"sweep": {"s": {"all": {}, "text": {"data.modalities": ["text"]}}}}))
    cells = load(config)
    cells = [replace(cell, fit=replace(cell.fit, refusals=("no",))) if cell.experiment.row == "text" else cell for cell in cells]
    refused = [cell for cell in cells if cell.fit.refusals]
    assert len(refused) == 3
    plan = make_plan(cells, tmp_path / "runs", None, "cpu")
    prepare(plan, None)
    records = [record for record in find_runs(tmp_path / "runs") if record.status == "incompatible"]
    assert sorted(record.part for record in records) == sorted(FOLDS)
    assert {record.family for record in records} == {refused[0].family}


# The commands -------------------------------------------------------------------------------------------------------------------


def mmbench(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "mmbench", *arguments], capture_output=True, text=True, cwd=folder, env={**os.environ}, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_check_is_a_summary(config: Path, tmp_path: Path) -> None:
    def run(*options: str) -> str:
        done = CliRunner().invoke(check.command, [str(config), "--out", str(tmp_path / "runs"), *options], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    text = run()
    assert "data        Toy, folds: SIMULATED" in text
    assert "            protocol folds, 3 parts, averaged in tables" in text
    assert "            two: train 36, valid 12, test 16; splits published" in text
    assert "toy folds: 3 parts x 2 seeds (two, one, three)" in text
    assert "            constant (floor): 6 to do" in text
    assert "sweep" not in text
    config.write_text(config.read_text() + dump({"sweep": {"lr": {"key": "training.optimizer.lr", "values": [i / 100 for i in range(1, 31)]}}}))
    text = run()
    assert "valid, a sweep of 30 cells\n" in text
    assert "runs: 0 configurations and 31 floors\n            toy folds: 3 parts x 2 seeds" in text.replace(str(tmp_path / "runs" / "linear"), "runs")
    assert "            186 runs to do" in text
    assert "protocol folds, part one of 3" in run("--set", "data.part=one")
    assert "            protocol whole\n" in run("--set", "data.protocol=whole")


@needs_torch
def test_from_a_config_to_the_averaged_table(config: Path, tmp_path: Path) -> None:
    text = mmbench(tmp_path, "run", "linear.yaml", "--jobs", "2", "--seeds", "1", "--set", "data.protocol=binary")
    assert "toy binary: 2 parts x 1 seed (happy, sad)" in text
    assert text.index("mean over 2 parts (happy, sad)") < text.index("part happy;") < text.index("part sad;")
    records = {(record.model, record.part): record for record in find_runs(tmp_path / "runs")}
    assert set(records) == {(model, part) for model in ("linear", "constant") for part in BINARY}
    result = json.loads((records["linear", "sad"].folder / "result.json").read_text())
    assert (result["data"]["protocol"], result["data"]["part"], result["data"]["parts"]) == ("binary", "sad", ["happy", "sad"])
    assert result["family"] == records["linear", "happy"].family != records["constant", "sad"].family
    mean = build_tables(list(records.values()))[0]
    row = next(row for row in mean.rows if row.name == "linear")
    expected = sum(records["linear", part].metrics["test"]["wacc"] for part in BINARY) / 2
    assert (row.done, row.total, row.cells["wacc"].mean) == (1, 1, pytest.approx(expected))
    assert {column.key for column in mean.columns} == {"wacc", "waf1"}
    plan = make_plan(load(config, ["data.protocol=binary"], "1"), tmp_path / "runs", None, "cpu")
    assert prepare(plan, None) == ([], 4, 0)


def test_a_run_that_fails_before_its_data_are_read_knows_its_part(config: Path, tmp_path: Path) -> None:
    plan = make_plan(load(config, ["data.part=one"], "1"), tmp_path / "runs", None, "cpu")
    folder = prepare(plan, None)[0][0].folder
    (resolved,) = load(folder / "config.yaml")
    (folder / "result.json").write_text(json.dumps({"schema_version": 1, "status": "failed", **_identity(resolved, folder)}))
    record = next(record for record in find_runs(tmp_path / "runs") if record.folder == folder.resolve())
    assert (record.status, record.part, record.family) == ("failed", "one", resolved.family)
