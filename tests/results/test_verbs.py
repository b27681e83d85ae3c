"""The verbs `report`, `status` and `score`, and what they import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import report, score, status
from mmbench.errors import ConfigError

from .folders import TARGET, make_run


def run(module: object, *arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(module.command, [str(argument) for argument in arguments], catch_exceptions=True)  # type: ignore[attr-defined]
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_report_prints_or_writes_the_same(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "misa")
    code, text = run(report, tmp_path / "runs", "--format", "github")
    assert code == 0
    assert text.startswith("### CMU-MOSI")
    target = tmp_path / "out" / "table.md"
    assert run(report, tmp_path / "runs", "--format", "github", "--out", target) == (0, f"wrote {target}\n")
    assert target.read_text() == text


def test_report_names_what_it_cannot_do(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "misa")
    with pytest.raises(ConfigError, match="there is no such folder"):
        run(report, tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        run(report, tmp_path / "runs", "--out", tmp_path / "file" / "table.md")
    assert run(report, tmp_path / "runs", "--format", "html")[0] == 2


def test_status_has_a_line_for_each_configuration(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_run(tmp_path, "misa", seed, label="misa-1")
    for seed in (3, 4):
        make_run(tmp_path, "misa", seed, label="misa-1", status="failed", reason="loss is \x1b[31mNaN")
    pending = make_run(tmp_path, "mult", 1, label="mult-1")
    (pending / "result.json").unlink()
    (pending / "predictions.csv.gz").unlink()
    code, text = run(status, tmp_path)
    assert code == 0
    assert text.splitlines() == ["misa (demo/misa-1): done 1 2, failed 3 4", "    seeds 3, 4 failed: loss is NaN", "demo/mult-1: pending 1"]


def test_score_agrees_with_what_was_stored_from_the_same_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    make_run(tmp_path, "misa", 1, prediction=rng.normal(size=8).astype(np.float32))
    make_run(tmp_path, "mult", 1, prediction=np.full(8, 1 / 3, np.float32), collapsed=True)  # correlation null
    make_run(tmp_path, "tfn", 1, status="failed")
    assert run(score, tmp_path) == (0, "2 finished runs: 2 as stored, 0 different\n")


def test_score_shows_differences_and_writes_only_when_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "misa", 1, label="misa-1")
    path = folder / "result.json"
    good = json.loads(path.read_text())
    bad = json.loads(path.read_text())
    bad["metrics"]["test"]["mae"] += 0.25
    bad["metrics"]["valid"]["corr"] = None
    bad["collapsed"] = True
    path.write_text(json.dumps(bad))
    code, text = run(score, tmp_path)
    assert code == 1
    lines = text.splitlines()
    stored, computed = bad["metrics"]["test"]["mae"], good["metrics"]["test"]["mae"]
    assert f"demo/misa-1/seed-1: test mae: stored {stored:.12g}, computed {computed:.12g}" in lines
    assert any("valid corr: stored nan, computed" in line for line in lines)
    assert any("collapsed: stored True, computed False" in line for line in lines)
    assert json.loads(path.read_text()) == bad
    code, text = run(score, tmp_path, "--write")
    assert (code, text.splitlines()[-1]) == (0, "1 finished runs: 0 as stored, 1 updated")
    updated = json.loads(path.read_text())
    assert updated["metrics"]["test"]["mae"] == pytest.approx(computed, abs=1e-12)
    assert updated["selection"] == good["selection"]
    assert run(score, tmp_path)[0] == 0


def test_score_tolerates_rounding_and_no_more(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "misa", 1)
    path = folder / "result.json"
    original = json.loads(path.read_text())
    for change, expected in ((5e-10, 0), (2e-9, 1)):
        document = json.loads(json.dumps(original))
        document["metrics"]["test"]["mae"] += change
        path.write_text(json.dumps(document))
        assert run(score, tmp_path)[0] == expected


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_score_fails_where_predictions_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    folder = make_run(tmp_path, "misa", 1)
    (folder / "predictions.csv.gz").unlink()
    if content:
        (folder / "predictions.csv.gz").write_bytes(content)
    code, text = run(score, tmp_path, "--write")
    assert code == 1
    assert "cannot be scored" in text


def test_score_leaves_metrics_that_are_not_installed(tmp_path: Path) -> None:
    scores = {"mae": float(np.mean(np.abs(TARGET * np.float32(0.5) + np.float32(0.1) - TARGET.astype(float)))), "novel": 0.25}
    folder = make_run(tmp_path, "misa", 1, scores, data={"metrics": ["mae", "novel"]})
    code, text = run(score, tmp_path)
    assert code == 0, text
    assert "no installed plugin has them: novel" in text
    assert json.loads((folder / "result.json").read_text())["metrics"]["test"]["novel"] == 0.25


def test_none_of_this_imports_torch_or_pandas(tmp_path: Path) -> None:
    make_run(tmp_path, "misa")
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom mmbench.cli import report, score, status\n"
        f"for verb in (report, score, status): assert CliRunner().invoke(verb.command, [{str(tmp_path)!r}]).exit_code == 0\n"
        "print([m for m in ('torch', 'pandas', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
