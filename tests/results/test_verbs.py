"""The verbs `report`, `status` and `score`, and what they import."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import compare, report, score, status
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


def test_report_names_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "runs", "misa")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError, match="there is no such folder"):
        run(report, tmp_path / "none")
    (tmp_path / "file").touch()
    for option, name in (("--out", "table.md"), ("--html", "page.html")):
        with pytest.raises(ConfigError, match=rf"file/{name}: cannot be written \(Not a directory\); choose another place with {option}"):
            run(report, tmp_path / "none", option, tmp_path / "file" / name)  # before anything else is looked at
    with pytest.raises(ConfigError, match="file: is a file; give the folder of an experiment"):
        run(report, tmp_path / "file")
    assert run(report, tmp_path / "runs", "--format", "word")[0] == 2
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="runs: there is no such folder"):
        run(report)
    with pytest.raises(ConfigError, match="--metrics nonsense, more: these runs were not scored with it; there are acc2_non0, corr, mae"):
        run(report, tmp_path / "runs", "--metrics", "mae,nonsense,more")
    with pytest.raises(ConfigError, match="--metrics names no score"):
        run(report, tmp_path / "runs", "--metrics", ",")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--grid", "mae", "--rows", "model"), "--grid .* --rows would change nothing"),
        (("--grid", "mae", "--published", "--metrics", "mae"), "--grid .* --metrics and --published"),
        (("--grid", "mae", "--baseline", "misa"), "--grid .* --baseline"),
        (("--baseline", "misa", "--columns", "dataset"), "--baseline .* --columns"),
        (("--html", "page.html", "--format", "latex"), "--html .* --format"),
        (("--html", "page.html", "--grid", "mae"), "--html .* --grid"),
        (("--grid", "mae", "--format", "html"), "grids have plain, github, latex, csv and json"),
    ],
)
def test_report_refuses_options_that_contradict_each_other(tmp_path: Path, options: tuple[str, ...], named: str) -> None:
    make_run(tmp_path / "runs", "misa")
    with pytest.raises(ConfigError, match=named):
        run(report, tmp_path / "runs", *options)
    assert not (tmp_path / "page.html").exists()


def test_report_of_several_folders_counts_a_run_once(tmp_path: Path) -> None:
    make_run(tmp_path / "here", "misa", 1)
    make_run(tmp_path / "there", "mult", 1, experiment="other")
    (tmp_path / "link").symlink_to(tmp_path / "here")
    code, text = run(report, tmp_path / "here", tmp_path / "there", tmp_path / "here" / "demo", tmp_path / "link")
    assert code == 0
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("m")] == [["misa", "1/1"], ["mult", "1/1"]]
    assert "is there twice" not in text
    again = run(report, tmp_path / "there", tmp_path / "link")[1]
    assert again == text


def test_report_shows_chosen_scores_in_the_order_asked_for(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "misa")
    make_run(tmp_path / "runs", "mult", data={"name": "other", "metrics": ["mse"], "fingerprint": "beef"})
    text = run(report, tmp_path / "runs", "--metrics", " acc2_non0 ,mae,acc2_non0")[1]
    assert [line.split()[2:6] for line in text.splitlines() if line.startswith("configuration")] == [["acc2_non0", "↑", "mae", "↓"]]


def test_report_compares_with_a_baseline(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("misa", 0.1), ("mult", 1.0)):
        for seed in (1, 2, 3):
            make_run(tmp_path, name, seed, prediction=(TARGET + size * rng.normal(size=8)).astype(np.float32))
    code, text = run(report, tmp_path, "--baseline", "mult", "--metrics", "mae", "--format", "json")
    assert code == 0
    assert "misa" in text
    with pytest.raises(ConfigError, match="no finished configuration"):
        run(report, tmp_path, "--baseline", "nothing like it")


def test_compare_takes_scores_with_commas_and_says_how_names_are_meant(tmp_path: Path) -> None:
    for name, size in (("misa", 0.1), ("mult", 1.0)):
        for seed in (1, 2):
            make_run(tmp_path, name, seed, prediction=(TARGET + size * np.random.default_rng(seed).normal(size=8)).astype(np.float32))
    asked = ("misa", "mult", "--runs", tmp_path, "--format", "csv", "--metric")
    assert run(compare, *asked, " corr ,mae") == run(compare, *asked, "corr", "--metric", "mae")
    assert [line["metric"] for line in csv.DictReader(run(compare, *asked, "corr,mae")[1].splitlines())] == ["corr", "mae"]
    with pytest.raises(ConfigError, match="misa and mult: there are no such folders; --runs DIR compares two of the names"):
        run(compare, "misa", "mult")


def test_report_writes_the_page(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    make_run(tmp_path / "runs", "misa")
    target = tmp_path / "page.html"
    assert run(report, tmp_path / "runs", "--html", target, "--draws", "100") == (0, f"wrote {target}\n")
    assert target.read_text().lstrip().lower().startswith("<!doctype html>")


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


def test_status_shows_warnings(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        make_run(tmp_path, "misa", seed, label="misa-1", warnings=["tracker 'x' could not \x1b[31mbe started"] * (seed < 3))
    assert run(status, tmp_path)[1].splitlines() == [
        "misa (demo/misa-1): done 1 2 3",
        "    seeds 1, 2 warning: tracker 'x' could not be started",
    ]


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
