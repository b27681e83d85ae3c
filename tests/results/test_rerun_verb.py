"""`mmbench rerun`: a run once more, beside itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import rerun
from mmbench.errors import ConfigError, DataError
from mmbench.results.repeat import ALIKE, compare_runs
from mmbench.results.runs import read_run
from mmbench.results.tables import known_metrics

from .folders import TARGET, make_run

FLOOR = """
data: {name: mosi, features: aligned, simulated: true, samples: 90, modalities: [audio, vision]}
model: {name: linear}
training: {epochs: 2}
"""


def rerun_of(*arguments: object) -> None:
    done = CliRunner().invoke(rerun.command, [str(argument) for argument in arguments], catch_exceptions=True)
    assert done.exception is not None
    raise done.exception


def test_scores_that_a_table_prints_alike_are_the_same(tmp_path: Path) -> None:
    scores = {"mae": 0.9, "corr": None, "acc2_non0": 0.8}
    old = read_run(make_run(tmp_path / "old", scores=scores, environment={"python": "3.10.1", "packages": {"torch": "2.11.0"}}))
    near = read_run(make_run(tmp_path / "near", scores={**scores, "mae": 0.9004, "acc2_non0": 0.80004}, environment={"python": "3.10.1"}))
    metrics = known_metrics([old])
    found = compare_runs(old, near, metrics)
    assert found.equal
    assert found.predictions == ALIKE
    assert dict(found.facts) == {
        "config": f"the same fingerprint {old.fingerprint}",
        "data": "the same fingerprint f00d",
        "versions": "torch: 2.11.0 before, none now",
    }
    edited = [read_run(make_run(tmp_path / digest, environment={"sources": {"mine": digest}})) for digest in ("f0", "f1")]
    assert dict(compare_runs(*edited, metrics).facts)["versions"] == "code of mine: f0 before, f1 now"
    unknown = read_run(make_run(tmp_path / "unknown", environment={}))
    assert dict(compare_runs(unknown, edited[0], metrics).facts)["versions"] == "all the same"
    for name, value in (("mae", 0.9006), ("acc2_non0", 0.80006), ("corr", 0.1)):
        far = compare_runs(old, read_run(make_run(tmp_path / name, scores={**scores, name: value})), metrics)
        assert not far.equal
        assert [score.column.key for score in far.scores if not score.equal] == [name]
    (mae,) = (score for score in found.scores if score.column.key == "mae")
    assert mae.texts == ("mae", "0.9", "0.9004", "+0.0004")


def test_predictions_that_differ_are_measured(tmp_path: Path) -> None:
    old = read_run(make_run(tmp_path / "old", prediction=TARGET * np.float32(0.5)))
    new = read_run(make_run(tmp_path / "new", prediction=TARGET * np.float32(0.5) + np.float32([0, 0, 0.25, 0, 0, 0, 0, 0])))
    assert compare_runs(old, new, known_metrics([old])).predictions == "predictions differ by up to 0.25"
    (old.folder / "predictions.csv.gz").unlink()
    found = compare_runs(old, new, known_metrics([old]))
    assert found.predictions.startswith("predictions not compared: ")
    assert found.predictions.endswith("there are no stored predictions")
    assert found.scores


def test_mistakes_have_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        rerun_of(tmp_path / "none" / "none")
    run = make_run(tmp_path / "runs", "misa")
    with pytest.raises(ConfigError, match="none: there is no such folder; give"):  # runs far below a folder are not looked for
        rerun_of(tmp_path / "none")
    (run / "config.yaml").write_text("name: [")
    with pytest.raises(ConfigError, match=r"config.yaml:1:8: not valid YAML"):
        rerun_of(run)
    (run / "config.yaml").unlink()
    with pytest.raises(DataError, match="nobody knows what to run again"):
        rerun_of(run)
    with tarfile.open(tmp_path / "sent.tar.gz", "w:gz") as archive:
        archive.add(run, run.name)
    with pytest.raises(ConfigError, match="is an archive; unpack it"):
        rerun_of(tmp_path / "sent.tar.gz")
    with pytest.raises(ConfigError, match=f"is a file; the run is the folder: mmbench rerun {run}"):
        rerun_of(run / "result.json")
    make_run(tmp_path / "runs", "constant", floor=True)
    monkeypatch.chdir(tmp_path)
    place = run.parent.relative_to(tmp_path)
    for name in ("misa", str(place)[:-2], str(run.parent / "seed-7"), "runs/none"):
        with pytest.raises(ConfigError, match=rf"there is no such folder. Rows are .*, for example mmbench rerun {place} \(misa\)"):
            rerun_of(name)
    other = make_run(tmp_path / "sent", "mine", environment={"components": {"model mmbench-mine/gate": "0.3"}})
    with pytest.raises(ConfigError, match=r"was made with mmbench-mine 0.3, which is not installed here"):
        rerun_of(other)
    make_run(tmp_path / "runs", "tfn", status="failed")
    with pytest.raises(ConfigError, match="holds 3 configurations; choose one of them, for example mmbench rerun runs/demo/"):
        rerun_of(tmp_path / "runs")
    with pytest.raises(ConfigError, match="no run here is done, so there is nothing to compare with"):
        rerun_of(next((tmp_path / "runs" / "demo").glob("tfn-*")))
    with pytest.raises(ConfigError, match=r"only data\.path may be set"):
        rerun_of(make_run(tmp_path / "other", "misa"), "--set", "seeds=[2]")


@pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
def test_a_configuration_is_trained_again_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "floor.yaml").write_text(FLOOR)
    environment = {**os.environ, "MMBENCH_CACHE": os.environ.get("MMBENCH_CACHE", str(tmp_path / "cache"))}

    def mmbench(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "mmbench", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    mmbench("run", "floor.yaml", "--seeds", "1")
    (folder,) = tmp_path.glob("runs/floor/linear-*")
    before = {path: path.read_bytes() for path in tmp_path.glob("runs/**/*") if path.is_file()}
    part = str(folder.relative_to(tmp_path))
    said = mmbench("rerun", part)
    assert "runs-rerun: 1 run to do, 0 there already" in said
    assert "bit-identical predictions" in said
    assert "1 of 1 runs came to the same scores." in said
    assert before == {path: path.read_bytes() for path in tmp_path.glob("runs/**/*") if path.is_file()}
    assert "is the run itself" in mmbench("rerun", f"{part}/seed-1", "--out", "runs", code=2)
    damaged = folder / "seed-2"
    damaged.mkdir()
    (damaged / "result.json").write_text("{")
    assert "1 of 2 runs came to the same scores. 1 could not be read." in mmbench("rerun", part, code=1)  # no row is repeated with a seed less
    shutil.rmtree(damaged)

    path = folder / "seed-1" / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["test"]["mae"] += 0.01
    del result["digest"]  # as older versions wrote it
    path.write_text(json.dumps(result))
    said = mmbench("rerun", f"{part}/seed-1", code=1)
    assert "0 runs to do, 1 there already" in said
    assert "differs" in said
    assert "0 of 1 runs came to the same scores." in said
    *_, told = map(json.loads, mmbench("rerun", f"{part}/seed-1", "--json", code=1).splitlines())
    assert (told["event"], told["status"], told["same"], told["bit_identical"]) == ("comparison", "done", False, True)
    assert [score["score"] for score in told["scores"] if not score["same"]] == ["mae"]
    assert mmbench("rerun", f"{part}/seed-1", "--quiet", code=1) == "\n".join(said.splitlines()[2:]) + "\n"
    monkeypatch.setattr("mmbench.cli.execute.find_spec", lambda name: None)  # what is there already is compared without torch
    (folder / "seed-2").mkdir()
    (folder / "seed-2" / "result.json").write_text("{")
    shutil.copytree(folder, tmp_path / "desk" / "floor" / folder.name)
    monkeypatch.chdir(tmp_path / "desk")
    done = CliRunner().invoke(rerun.command, ["floor", "--out", "../runs-rerun"])
    assert done.exit_code == 1
    assert "0 of 2 runs came to the same scores. 1 could not be read." in done.output
    assert rerun._beside(read_run(Path("floor", folder.name, "seed-1").resolve()), Path("floor")) == Path("floor-rerun")
    result["data"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(result))
    assert "are not those of this run: the data's fingerprint is" in mmbench("rerun", f"{part}/seed-1", code=3)
