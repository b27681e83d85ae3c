"""Grids: what stands where follows from the configs, every difference is to the same backbone, and nothing incomplete is compared."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import report
from mmbench.errors import ConfigError
from mmbench.metrics import METRICS
from mmbench.results.grid import NONE, build_grids, flatten, names
from mmbench.results.grid_formats import FIELDS, FORMATS, render
from mmbench.results.runs import find_runs, write_predictions
from mmbench.results.statistics import Resampling
from mmbench.strict_yaml import dump

from .folders import IDS, TARGET, make_run

ADAPTERS = [{"field": "common", "kind": "trained", "parameters": 1200}, {"field": "projections", "kind": "frozen", "parameters": 24}]


def noise(size: float, seed: int) -> np.ndarray:
    return (TARGET + size * np.random.default_rng(seed).normal(size=len(TARGET))).astype(np.float32)


def add(root: Path, model: str, losses: tuple[str, ...] = (), seed: int = 1, weight: float = 1.0, adapters: str = "auto", **changes: Any) -> Path:
    """A run of a backbone with losses, and its config. `model_width` is a setting that a row may differ in."""
    width, size = changes.pop("model_width", 8), changes.pop("size", 1.0)
    data = changes.pop("data", {})
    label = changes.pop("label", f"{model}-{'.'.join(losses)}-{weight}-{adapters}-{width}")
    listed = [{"name": f"mmbench-own/{name}", "weight": {name: {"value": weight, "warmup": 0}}} for name in losses]
    config = {
        "name": "matrix",
        "row": f"whatever {seed}",
        "data": {
            "name": "mosi",
            "path": f"/data/{losses}",  # where the data lie is no setting
            **({"name": data["name"]} if "name" in data else {}),
        },
        "model": {"name": f"mmbench-own/{model}", "width": width, "encoders": {}},
        "losses": listed,
        "adapters": adapters,
        "training": {"epochs": 3},
        "metrics": data.get("metrics", ["mae", "corr", "acc2_non0"]),
        "seeds": [seed],
    }
    refused = changes.get("status") == "incompatible"
    prediction = changes.pop("prediction", noise(size, seed))
    folder = make_run(root, model, seed, prediction=prediction, label=label, losses=[{"name": name} for name in losses], data=data, **changes)
    if refused:  # as the runner leaves it: in the configuration's folder, without data
        result = json.loads((folder / "result.json").read_text())
        for key in ("data", "seed", "metrics"):
            del result[key]
        shutil.rmtree(folder)
        folder = folder.parent
        (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text(dump(config))
    return folder


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    for seed in (1, 2, 3):
        add(tmp_path, "mult", (), seed, size=1.0)
        add(tmp_path, "mult", ("cmd",), seed, size=0.2, adapters="auto", gradients={"task": 1.0 * seed, "cmd.cmd": 0.5})
        add(tmp_path, "misa", (), seed, size=0.8)
        add(tmp_path, "misa", ("homogeneity", "cmd"), seed, size=0.9)
        add(tmp_path, "constant", (), seed, prediction=np.zeros(8, np.float32), floor=True, label="constant-1")
        done = seed < 3
        add(tmp_path, "tfn", ("cmd",), seed, status="done" if done else "failed", reason="" if done else "the loss became NaN")
        add(tmp_path, "tfn", (), seed)
        add(tmp_path, "lmf", ("cmd",), seed, status="failed", reason="out of memory")
    for result in tmp_path.glob("demo/mult-cmd*/seed-*/result.json"):
        content = json.loads(result.read_text())
        result.write_text(json.dumps(content | {"adapters": ADAPTERS, "collapsed": "seed-2" in str(result)}))
    add(tmp_path, "misa", ("reconstruction",), status="incompatible", reason="loss 'reconstruction' needs 'extra.x'; another")
    add(tmp_path, "mult", ("reconstruction",), status="incompatible", reason="another")
    return tmp_path


def test_cells_stand_where_their_configs_say(matrix: Path) -> None:
    (grid,) = build_grids(find_runs(matrix), "mae")
    assert grid.rows == ("lmf", "misa", "mult", "tfn")
    assert grid.columns == (NONE, "cmd", "homogeneity + cmd", "reconstruction")
    found = {place: cell.status for place, cell in grid.cells.items()}
    assert found == {
        ("mult", NONE): "done",
        ("mult", "cmd"): "done",
        ("mult", "reconstruction"): "refused",
        ("misa", NONE): "done",
        ("misa", "homogeneity + cmd"): "done",
        ("misa", "reconstruction"): "refused",
        ("tfn", NONE): "done",
        ("tfn", "cmd"): "partial",
        ("lmf", "cmd"): "missing",
    }
    assert [row.kind for row in grid.floors] == ["floor", "oracle"]
    assert grid.cells["mult", "cmd"].gradients == {"cmd.cmd": 0.5, "task": 2.0}
    assert "the loss became NaN" in " ".join(grid.notes)


def test_a_floor_that_is_not_done_is_no_backbone(matrix: Path) -> None:
    pending = add(matrix, "constant", (), 4, label="constant-1")
    (pending / "result.json").unlink()
    (grid,) = build_grids(find_runs(matrix), "mae")
    assert "constant" not in grid.rows
    assert {cell.total for cell in grid.cells.values() if cell.status == "done"} == {3}


def test_differences_are_to_the_same_backbone_without_a_loss(matrix: Path) -> None:
    (grid,) = build_grids(find_runs(matrix), "mae")
    compared = {place for place, cell in grid.cells.items() if cell.difference}
    assert compared == {("mult", "cmd"), ("misa", "homogeneity + cmd")}
    found = grid.cells["mult", "cmd"].difference
    first, second = (np.stack([noise(size, seed) for seed in (1, 2, 3)]) for size in (0.2, 1.0))
    expected = np.abs(first - TARGET).mean(1) - np.abs(second - TARGET).mean(1)
    assert found.difference == pytest.approx(expected.mean(), rel=1e-6)
    drawing = Resampling(IDS)
    scores = [drawing.scores(METRICS["mae"].function, values.astype(np.float64), TARGET.astype(np.float64)) for values in (first, second)]
    interval = drawing.interval(*scores)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.excludes_zero


@pytest.mark.parametrize("key", ["corr", "acc2_non0"])
def test_other_scores(matrix: Path, key: str) -> None:
    (grid,) = build_grids(find_runs(matrix), key, draws=100)
    better = grid.cells["mult", "cmd"].difference
    assert better.difference == pytest.approx(grid.cells["mult", "cmd"].score.mean - grid.cells["mult", NONE].score.mean, abs=1e-6)
    assert better.difference > 0
    assert grid.draws == 100


def test_settings_are_never_mixed(tmp_path: Path) -> None:
    """A second width is a second row, a second weight and a kind of adapters are columns of their own, and notes say so."""
    for seed in (1, 2):
        for width in (8, 16):
            add(tmp_path, "mult", (), seed, model_width=width)
            add(tmp_path, "mult", ("cmd",), seed, model_width=width, size=0.1)
        add(tmp_path, "misa", (), seed)
        add(tmp_path, "misa", ("cmd",), seed, weight=0.5)
        add(tmp_path, "misa", ("cmd",), seed, adapters="frozen")
        add(tmp_path, "misa", (), seed, adapters="frozen", label="misa-again")
    (grid,) = build_grids(find_runs(tmp_path), "mae")
    assert grid.rows == ("misa", "mult (model.width=16)", "mult (model.width=8)")
    one, half, frozen = (f"cmd (adapters={kind}, cmd.weight.cmd.value={weight})" for kind, weight in (("auto", 1.0), ("auto", 0.5), ("frozen", 1.0)))
    assert set(grid.columns) == {NONE, one, half, frozen}
    assert set(grid.cells) == {(row, NONE) for row in grid.rows} | {(row, one) for row in grid.rows[1:]} | {("misa", half), ("misa", frozen)}
    assert sum("several settings of one name" in note for note in grid.notes) == 2
    assert any("misa, none: is there twice" in note and "misa-again" in note for note in grid.notes)


def test_names_say_what_differs_and_nothing_else() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": "x"}) == {"a.b": "1", "a.c": "{}", "d": "x"}
    settings = {"1": ("m", {"w": 1, "same": 2}), "2": ("m", {"w": 2, "same": 2}), "3": ("n", {"w": 1})}
    assert names(settings) == {"1": "m (w=1)", "2": "m (w=2)", "3": "n"}


def test_each_data_set_has_its_grid_and_refused_cells_find_theirs(tmp_path: Path) -> None:
    other = {"name": "iemocap", "title": "IEMOCAP", "fingerprint": "beef", "metrics": ["wacc"], "task": "classification", "classes": ["a", "b"]}
    add(tmp_path, "mult")
    wacc = {"valid": {"wacc": 0.5}, "test": {"wacc": 0.5}}
    add(tmp_path, "mult", data=other, label="mult-emotion", metrics=wacc)
    add(tmp_path, "mult", ("slad",), data=other, label="mult-slad", status="incompatible", reason="regression only")
    (first,), (second,) = (build_grids(find_runs(tmp_path), key) for key in ("mae", "wacc"))
    assert set(first.cells) == {("mult", NONE)}
    assert {place: cell.status for place, cell in second.cells.items()} == {("mult", NONE): "done", ("mult", "slad"): "refused"}
    assert second.title.startswith("IEMOCAP")


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    add(tmp_path, "mult")
    (add(tmp_path, "mult", ("cmd",)) / "predictions.csv.gz").unlink()
    add(tmp_path, "misa")
    folder = add(tmp_path, "misa", ("cmd",))
    (folder / "config.yaml").unlink()
    add(tmp_path, "lmf", ("cmd",))
    other = add(tmp_path, "mult", ("homogeneity",))
    write_predictions(other / "predictions.csv.gz", {"test": (IDS[::-1], TARGET, noise(1.0, 1))})
    records = find_runs(tmp_path)
    (grid,) = build_grids(records, "mae")
    assert grid.cells["mult", "cmd"].difference is None
    assert grid.cells["mult", "homogeneity"].difference is None
    assert any("mult, homogeneity: no difference is shown: its test samples are not those of the other runs" in note for note in grid.notes)
    assert any("mult, cmd: no difference is shown" in note and "no stored predictions" in note for note in grid.notes)
    assert ("misa", "cmd") not in grid.cells
    assert any("its config cannot be read" in note for note in grid.notes)
    assert any("lmf: no difference is shown, since it is not there without an extra loss" in note for note in grid.notes)
    for key, message in (("mse", "not scored with it; there are acc2_non0, corr, mae"), ("nonsense", "not scored with it")):
        with pytest.raises(ConfigError, match=message):
            build_grids(records, key)
    shutil.rmtree(tmp_path / "demo")
    add(tmp_path, "constant", floor=True)
    with pytest.raises(ConfigError, match="no runs but those of floors"):
        build_grids(find_runs(tmp_path), "mae")


def test_backbones_alone_are_nothing_to_compare(tmp_path: Path) -> None:
    add(tmp_path, "mult")
    said = "no run here has an extra loss, so that there is nothing to compare"
    assert said in render(build_grids(find_runs(tmp_path), "mae"), "plain")
    add(tmp_path, "misa", ("cmd",))
    assert said not in render(build_grids(find_runs(tmp_path), "mae"), "plain")


def test_one_seed_has_an_interval_over_videos_and_no_deviation(tmp_path: Path) -> None:
    add(tmp_path, "mult")
    add(tmp_path, "mult", ("cmd",), size=0.1)
    (grid,) = build_grids(find_runs(tmp_path), "mae")
    cell = grid.cells["mult", "cmd"]
    assert math.isnan(cell.score.sd)
    assert cell.difference.low < cell.difference.difference < cell.difference.high < 0
    assert "One seed says nothing of other seeds" in render([grid], "plain")
    for seed in (2, 3):
        add(tmp_path, "mult", (), seed)
        add(tmp_path, "mult", ("cmd",), seed, size=0.1)
    assert "One seed says nothing" not in render(build_grids(find_runs(tmp_path), "mae"), "plain")


def test_every_format_carries_the_same(matrix: Path) -> None:
    grids = build_grids(find_runs(matrix), "mae")
    (grid,) = grids
    cell = grid.cells["mult", "cmd"]
    texts = {name: render(grids, name) for name in FORMATS}
    for name in ("plain", "github", "latex"):
        text = texts[name]
        for part in (f"{cell.score.mean:.3f}", f"{cell.difference.difference:.3f}*".replace("*", r"\*" if name == "github" else "*")):
            assert part in text, (name, part)
        assert f"[{cell.difference.low:.3f}, {cell.difference.high:.3f}]" in text
        assert "2/3 seeds" in text
        assert "0/3 seeds" in text
        assert text.count("refused: another") == 1  # each reason once
        assert "not corrected for 2 comparisons" in text
        assert "(floor)" in text
        assert "mult, cmd 1 of 3" in text
        assert "common trained 1.2k, projections frozen 24 (cmd)" in text
    assert "†" in texts["plain"]
    assert texts["latex"].count("\\begin{tabular}") == texts["latex"].count("\\end{tabular}") == 1
    assert r"\\ {}[" in texts["latex"]
    table = list(csv.DictReader(io.StringIO(texts["csv"])))
    (document,) = json.loads(texts["json"])
    assert len(table) == len(document["cells"]) == len(grid.cells)
    for entry in (next(e for e in cells if (e["backbone"], e["losses"]) == ("mult", "cmd")) for cells in (table, document["cells"])):
        assert list(entry) == list(FIELDS)
        assert float(entry["low"]) == cell.difference.low
        assert float(entry["mean"]) == cell.score.mean
    refused = next(e for e in document["cells"] if e["status"] == "refused")
    assert refused["mean"] is None
    assert "another" in refused["reason"]
    with pytest.raises(ConfigError, match="there are plain, github, latex, csv, json"):
        render(grids, "html")


def test_many_columns_stand_in_blocks_that_each_begin_with_the_reference(tmp_path: Path) -> None:
    add(tmp_path, "mult", data={"simulated": True})
    for index in range(7):
        add(tmp_path, "mult", (f"loss_{index}",), data={"simulated": True})
    text = render(build_grids(find_runs(tmp_path), "mae"), "plain")
    heads = [line for line in text.splitlines() if line.split()[:1] == [NONE]]
    assert [line.split() for line in heads] == [[NONE, *(f"loss_{i}" for i in range(5))], [NONE, "loss_5", "loss_6"]]
    assert text.startswith("SIMULATED CMU-MOSI")
    assert max(map(len, text.splitlines()[:12])) <= 150


def test_the_verb(matrix: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        done = CliRunner().invoke(report.command, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    assert run(matrix, "--grid", "mae", "--format", "json").startswith("[")
    assert "backbones" not in run(matrix)
    assert run(matrix, "--grid", "mae", "--draws", 200).count("200 draws") == 1
    assert "backbone" not in run(matrix, "--format", "json")


def test_a_grid_needs_no_torch(matrix: Path) -> None:
    code = f"import sys; sys.argv = ['mmbench', 'report', {str(matrix)!r}, '--grid', 'mae']\nfrom mmbench.cli import main\n"
    code += "try: main()\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mult" in done.stdout
