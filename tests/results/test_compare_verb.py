"""``mmbench compare``, and differences to a baseline: who is found, what is refused with which values, and what every format says."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import compare
from mmbench.errors import ConfigError
from mmbench.results.comparison_formats import FIELDS, baseline_text, matrices, probability, render
from mmbench.results.formats import FORMATS
from mmbench.results.opponents import opponent_at
from mmbench.results.runs import find_runs, write_predictions
from mmbench.results.tables import build_tables

from .folders import IDS, TARGET, make_run

PRINTS = {name: {"size": size, "fingerprint": name[0] * 64} for name, size in (("train", 1284), ("valid", 229), ("test", 8))}


def noise(size: float, seed: int) -> np.ndarray:
    return (TARGET + size * np.random.default_rng(seed).normal(size=len(TARGET))).astype(np.float32)


def add(root: Path, model: str, size: float, seeds: tuple[int, ...] = (1, 2, 3, 4, 5), **changes: Any) -> Path:
    """Runs of a configuration in an experiment of its own; its folder."""
    data = {"splits": PRINTS} | changes.pop("data", {})
    for seed in seeds:
        place = make_run(root, model, seed, prediction=noise(size, seed), data=data, **({"experiment": f"{model}_mosi"} | changes))
    return place.parent


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    add(tmp_path, "mult", 1.5)
    add(tmp_path, "misa", 0.02)
    add(tmp_path, "tfn", 1.2)
    add(tmp_path, "constant", 3.0, experiment="mult_mosi", floor=True, label="constant-1")
    return tmp_path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(compare.command, [str(argument) for argument in (*arguments, "--draws", 200)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def pairs(text: str) -> list[dict[str, Any]]:
    return [entry for document in json.loads(text) for entry in document["comparisons"]]


def test_two_folders(runs: Path) -> None:
    """Experiments (whose floors do not matter) or configurations: the same comparison, in all scores."""
    text = run(runs / "misa_mosi", runs / "mult_mosi")
    assert "A better: lower mae" in text
    assert "B better" not in text
    assert "A: misa (misa_mosi/misa-" in text
    assert "Holm's correction for 3 comparisons" in text
    assert "it cannot be below 0.0625" in text
    assert "seeds 1, 2, 3, 4, 5, 4 test videos" in text
    (configuration,) = (runs / "mult_mosi").glob("mult-*")
    assert run(runs / "misa_mosi", configuration) == text
    turned = pairs(run(runs / "mult_mosi", runs / "misa_mosi", "--format", "json"))
    straight = pairs(run(runs / "misa_mosi", runs / "mult_mosi", "--format", "json"))
    for one, other in zip(straight, turned, strict=True):
        assert (one["first"], one["second"]) == (other["second"], other["first"]) == ("misa", "mult")
        assert one["difference"] == -other["difference"]
        assert one["p"] == other["p"]
        assert one["better"] == other["better"] == "misa"
    expected = np.mean([np.abs(noise(size, seed) - TARGET) for size in (0.02, 1.5) for seed in range(1, 6)], axis=1).reshape(2, 5).mean(1)
    mae = next(entry for entry in straight if entry["metric"] == "mae")
    assert (mae["mean_first"], mae["mean_second"]) == pytest.approx(tuple(expected), rel=1e-6)
    smallest = min(straight, key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(3 * smallest["p"])
    assert mae["sign_flip"] == 0.0625
    assert mae["improvement"] == 1


def test_names_in_the_tables_of_a_folder(runs: Path) -> None:
    text = run("misa", "mult", "--runs", runs, "--metric", "mae")
    assert "Holm's correction for 1 comparison;" in text
    label = next((runs / "mult_mosi").glob("mult-*")).name
    for name in ("mult_mosi", label, f"mult_mosi/{label}"):
        assert run("misa", name, "--runs", runs, "--metric", "mae") == text
    against_floor = run("misa", "constant", "--runs", runs, "--metric", "mae")
    assert "B: constant" in against_floor
    assert "A better: lower mae" in against_floor
    with pytest.raises(ConfigError, match="has no finished configuration 'lmf'; there are misa, mult, tfn, constant"):
        run("misa", "lmf", "--runs", runs)
    add(runs, "mult", 1.0, experiment="mult_mosi", label="mult-other")
    with pytest.raises(ConfigError, match=r"'mult_mosi' names 2 configurations: .*mult-other.*give one's label"):
        run("misa", "mult_mosi", "--runs", runs)
    with pytest.raises(ConfigError, match=r"mult_mosi: holds several configurations .*mult-other.*mmbench compare A B --runs"):
        run(runs / "misa_mosi", runs / "mult_mosi")


def test_all_pairs(runs: Path) -> None:
    """Three methods, three pairs, the best first; floors take no part."""
    (found,) = matrices(find_runs(runs), ("mae",), 200)
    assert [(c.first, c.second) for c in found.comparisons] == [("misa", "tfn"), ("misa", "mult"), ("tfn", "mult")]
    assert found.tests == 3
    text = run(runs, "--metric", "mae")
    lines = text.splitlines()
    assert lines[0].endswith("mae ↓, all pairs")
    cells = [line.split() for line in lines if line[:2] in ("1 ", "2 ", "3 ")]
    assert [row[1] for row in cells] == ["misa", "tfn", "mult"]
    assert [len(row) for row in cells] == [5, 4, 3]  # place, name, mean, and what is right of the diagonal
    best = found.comparisons[1]
    assert cells[0][4] == f"{best.difference:+.3f}±{(best.high - best.low) / 2:.3f}" + "*" * best.significant
    assert best.significant
    assert "* p below 0.05 after Holm's correction for 3 comparisons" in text
    assert run(runs) == text  # the table's first score
    both = run(runs, "--metric", "mae", "--metric", "corr")
    assert both.count("all pairs") == 2
    with pytest.raises(ConfigError, match="--metric mea: these runs were not scored with it; there are mae, corr, acc2_non0"):
        run(runs, "--metric", "mea")
    with pytest.raises(ConfigError, match="no two methods"):
        run(runs / "mult_mosi")


def test_a_score_that_only_one_of_several_data_sets_has(runs: Path) -> None:
    other = {"name": "sims", "title": "CH-SIMS", "fingerprint": "beef", "metrics": ["corr"]}
    for name in ("mult", "misa"):
        add(runs, name, 0.5, experiment=f"{name}_sims", label=f"{name}-sims", data=other)
    assert [one.table.data["name"] for one in matrices(find_runs(runs), ("mae",), 100)] == ["mosi"]
    assert [one.table.data["name"] for one in matrices(find_runs(runs), ("corr",), 100)] == ["mosi", "sims"]
    assert baseline_text(find_runs(runs), "mult", "plain", 100).count("differences to mult") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": PRINTS | {"test": {"fingerprint": "0" * 64}}}, f"test split {'t' * 16} and {'0' * 16}"),
        ({"splits": PRINTS | {"train": {"fingerprint": "1" * 64}}}, f"train split {'t' * 16} and {'1' * 16}"),
        ({"splits": PRINTS | {"valid": {"fingerprint": "2" * 64}}}, f"valid split {'v' * 16} and {'2' * 16}"),
        ({"fingerprint": "beef"}, "data fingerprint f00d and beef"),
        ({"modalities": ["text"]}, "modalities text, audio and text"),
        ({"simulated": True}, "real and simulated data"),
        ({"name": "mosei"}, "data set mosi and mosei"),
        ({"protocol": "2way", "part": "a"}, "protocol none and 2way; part none and a"),
    ],
)
def test_other_data_are_refused_with_both_values(runs: Path, change: dict[str, Any], message: str) -> None:
    other = add(runs, "lmf", 0.5, data=change)
    with pytest.raises(ConfigError) as raised:
        run(runs / "mult_mosi", other)
    assert raised.value.exit_code == 2
    assert f"mult_mosi/{next((runs / 'mult_mosi').glob('mult-*')).name} and lmf_mosi/{other.name} cannot be compared" in str(raised.value)
    assert message in str(raised.value)
    with pytest.raises(ConfigError) as raised:  # by their names in one table, or in two
        run("mult", "lmf", "--runs", runs)
    assert message in str(raised.value)


def test_other_targets_are_refused_although_the_records_agree(runs: Path) -> None:
    other = add(runs, "lmf", 0.5)
    for folder in other.iterdir():
        write_predictions(folder / "predictions.csv.gz", {"test": (IDS, TARGET + np.float32(0.5), noise(0.5, 1))})
    with pytest.raises(ConfigError, match=r"lmf cannot be compared: its test samples are not those of the other runs"):
        run(runs / "mult_mosi", other)


def test_a_failed_seed_makes_nothing_significant(runs: Path) -> None:
    other = add(runs, "lmf", 0.01, seeds=(1, 2, 3, 4))
    add(runs, "lmf", 0.01, seeds=(5,), status="failed", reason="the loss became NaN")
    text = run(other, runs / "mult_mosi", "--metric", "mae")
    assert "not tested: mae: seed 5: not done in both, so nothing is tested, and the difference is that of the others" in text
    assert "better:" not in text
    entries = pairs(run(runs, "--metric", "mae", "--format", "json"))
    untold = [entry for entry in entries if "lmf" in (entry["first"], entry["second"])]
    assert len(untold) == 3
    assert all(entry["p"] is None and entry["significant"] is False and entry["difference"] is not None for entry in untold)
    with pytest.raises(ConfigError, match="none of its runs is done"):
        run(add(runs, "ef", 1.0, status="failed"), other)


def test_one_seed_and_single_utterances_are_said_to_be_little(tmp_path: Path) -> None:
    first, second = (add(tmp_path, name, size, (1,)) for name, size in (("misa", 0.01), ("mult", 1.5)))
    text = run(first, second, "--unit", "utterance")
    assert "One seed says nothing of other seeds" in text
    assert "intervals over utterances are too narrow" in text
    assert "8 test utterances" in text
    assert "it cannot be below 1." in text
    assert "better:" not in text
    (entry,) = pairs(run(first, second, "--metric", "mae", "--format", "json"))
    assert entry["p_holm"] < 0.05
    assert entry["significant"] is False
    text = run(first, second, "--metric", "mae")
    assert "Interval and p count the videos alone as random: seed 1, 4 test videos" in text
    assert "No p of several seeds is below 0.05" in text
    assert "No p is" not in text


def test_configurations_of_one_name_and_one_configuration_twice(runs: Path) -> None:
    other = add(runs, "mult", 0.5, experiment="tuned")
    text = run(runs / "mult_mosi", other, "--metric", "mae")
    assert "A: mult (mult_mosi) (mult_mosi/mult-" in text
    assert "B: mult (tuned) (tuned/mult-" in text
    with pytest.raises(ConfigError, match="compared with itself"):
        run(other, runs / "tuned")
    elsewhere = runs.parent / f"{runs.name} again" / "tuned" / other.name
    shutil.copytree(other, elsewhere)
    text = run(other, elsewhere, "--metric", "mae")
    assert f"A: {other} (tuned/{other.name})" in text
    assert f"B: {elsewhere} (tuned/{other.name})" in text
    assert "+0.000" in text


def test_a_protocol_is_compared_as_the_mean_over_its_parts(tmp_path: Path) -> None:
    """Two folds with targets of their own; one seed lacks a fold in one configuration, which leaves nothing to test."""
    for name, size in (("mult", 1.0), ("misa", 0.1)):
        for part, shift in (("fold1", 0.0), ("fold2", 0.5)):
            for seed in (1, 2, 3):
                data = {"protocol": "2fold", "part": part, "parts": ["fold1", "fold2"], "splits": PRINTS, "fingerprint": part}
                place = make_run(
                    tmp_path, name, seed, label=f"{name}-{part}", family=name, data=data, experiment=name, prediction=noise(size + shift, seed)
                )
    text = run(tmp_path / "misa", tmp_path / "mult", "--format", "json", "--metric", "mae")
    (found,) = pairs(text)
    parts = [[np.abs(noise(size + shift, seed) - TARGET).mean() for shift in (0, 0.5)] for size in (0.1, 1.0) for seed in (1, 2, 3)]
    means = np.mean(parts, axis=1).reshape(2, 3).mean(1)
    assert (found["mean_first"], found["mean_second"]) == pytest.approx(tuple(means), rel=1e-6)
    assert found["videos"] == 4
    named = run("misa", "mult", "--runs", tmp_path)
    assert "each seed's score is the mean over all parts" in named
    assert named.count("A against B") == 1  # not each part again
    assert opponent_at(tmp_path / "misa" / "misa-fold1").table.data["part"] == "fold1"
    (place / "result.json").unlink()
    (place / "predictions.csv.gz").unlink()
    (cut,) = pairs(run(tmp_path / "misa", tmp_path / "mult", "--format", "json", "--metric", "mae"))
    assert (cut["seeds"], cut["p"]) == ([1, 2], None)


def test_against_a_baseline(runs: Path) -> None:
    """Every method in every score, a floor too if it is named; corrected for all of them."""
    records = find_runs(runs)
    (document,) = json.loads(baseline_text(records, "mult", "json", 200))
    assert {(entry["first"], entry["metric"]) for entry in document["comparisons"]} == {
        (name, metric) for name in ("misa", "tfn") for metric in ("mae", "corr", "acc2_non0")
    }
    assert {entry["second"] for entry in document["comparisons"]} == {"mult"}
    smallest = min(document["comparisons"], key=lambda entry: entry["p"])
    assert smallest["p_holm"] == pytest.approx(6 * smallest["p"])
    text = baseline_text(records, "mult", "plain", 200, metrics=("mae",))
    assert text.splitlines()[0].endswith("differences to mult")
    assert "Holm's correction for 2 comparisons" in text
    told = {entry["first"]: entry["p_holm"] for entry in json.loads(baseline_text(records, "mult", "json", 200, metrics=("mae",)))[0]["comparisons"]}
    assert f"p (Holm), mae: misa {probability(told['misa'])}, tfn {probability(told['tfn'])}." in text
    floor = baseline_text(records, "constant", "plain", 200, metrics=("mae",))
    assert [line.split()[0] for line in floor.splitlines()[4:7]] == ["misa", "mult", "tfn"]
    with pytest.raises(ConfigError, match="no finished configuration is named 'lmf'; there are misa, mult, tfn, constant"):
        baseline_text(records, "lmf")


def test_every_format_carries_the_same_and_names_cannot_break_it(tmp_path: Path) -> None:
    for name, size in (("a|b_<i>&%$", 0.01), ("x\x1b[31m\n*y*", 1.5)):
        add(tmp_path, name, size, label=f"m-{size}", experiment=f"e{size}", data={"simulated": True})
    found = matrices(find_runs(tmp_path), ("mae",), 200)
    (one,) = found[0].comparisons
    width = (one.high - one.low) / 2
    texts = {name: render(found, name) for name in FORMATS}
    assert texts["plain"].count(f" - x *y* {probability(one.p_holm)}.") == 1
    for name in ("plain", "github", "latex", "html"):
        assert "SIMULATED" in texts[name]
        assert f"{one.difference:+.3f}" in texts[name]
        assert f"{width:.3f}" in texts[name]
        assert "\x1b" not in texts[name]
    assert r"a\|b\_&lt;i&gt;&amp;%\$" in texts["github"]
    assert r"a\textbar{}b\_\textless{}i\textgreater{}\&\%\$" in texts["latex"]
    assert "<i>" not in texts["html"]
    (line,) = csv.DictReader(io.StringIO(texts["csv"]))
    (entry,) = json.loads(texts["json"])[0]["comparisons"]
    assert list(line) == list(entry) == list(FIELDS)
    for key in ("difference", "low", "high", "p", "p_holm", "improvement"):
        assert float(line[key]) == entry[key] == getattr(one, key)
    assert (line["seeds"], entry["seeds"]) == ("1 2 3 4 5", [1, 2, 3, 4, 5])
    assert (line["simulated"], entry["simulated"]) == ("1", True)
    with pytest.raises(ConfigError, match="unknown format 'word'"):
        render(found, "word")


def test_usage_and_output(runs: Path, tmp_path: Path) -> None:
    for arguments in (("a", "b", "c"), ("a", "--runs", runs)):
        with pytest.raises(ConfigError, match="name two configurations, or one folder"):
            run(*arguments)
    with pytest.raises(ConfigError, match="there is no such folder"):
        run(runs / "misa_mosi", runs / "nothing")
    target = tmp_path / "out" / "pairs.csv"
    assert run(runs, "--metric", "mae", "--format", "csv", "--out", target) == f"wrote {target}\n"
    assert target.read_text() == render(matrices(find_runs(runs), ("mae",), 200), "csv")
    with pytest.raises(ConfigError, match=r"config.yaml/x: cannot be written \(Not a directory\)"):
        run(runs, "--metric", "mae", "--out", runs / "mult_mosi" / "constant-1" / "seed-1" / "config.yaml" / "x")


def test_the_verb_needs_no_torch_and_no_plugin(runs: Path) -> None:
    code = f"import sys; sys.argv = ['mmbench', 'compare', {str(runs)!r}, '--metric', 'mae']\nfrom mmbench.cli import main\n"
    code += "try: main()\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "all pairs" in done.stdout
    assert len(build_tables(find_runs(runs), draws=0)) == 1
