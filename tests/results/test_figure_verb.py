"""``mmbench figure``: every kind from run folders, and what it says where it cannot draw."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench.cli import figure
from mmbench.errors import ConfigError, DataError
from mmbench.results.embeddings import Embeddings, embeddings_path, write_embeddings
from mmbench.results.figures import features, scores
from mmbench.results.runs import find_runs

from .folders import TARGET, make_run
from .test_figures import log_epochs, sweep_runs, texts, two_axes

USUAL = {"metrics": ["mae", "acc2_non0", "f1_non0"]}


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(figure.command, [str(argument) for argument in arguments], catch_exceptions=True)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods of two seeds and a floor, with logs of their epochs."""
    rng = np.random.default_rng(4)
    for name, noise in (("misa", 0.5), ("tfn", 1.5), ("constant", 3.0)):
        for seed in (1, 2):
            prediction = (TARGET + rng.normal(0, noise, len(TARGET))).astype(np.float32)
            test = {"mae": noise, "acc2_non0": 0.8 - noise / 10, "f1_non0": 0.7}
            folder = make_run(tmp_path / "runs", name, seed, test, prediction, data=USUAL, floor=name == "constant")
            log_epochs(folder, {"train.task": [2.0, 1.0], "valid.mae": [1.0, 0.9]})
    return tmp_path / "runs"


def write_features(folder: Path, widths: dict[str, int], common: bool = False, simulated: bool = False) -> None:
    """Embeddings of random features beside each run."""
    rng = np.random.default_rng(0)
    for record in find_runs(folder):
        encoded = {name: rng.normal(size=(8, width)) for name, width in widths.items()}
        about = {"simulated": simulated, "seed": record.seed}
        own = Embeddings(tuple("abcdefgh"), TARGET, TARGET, rng.normal(size=(8, 3)), encoded, encoded if common else {}, about=about)
        write_embeddings(embeddings_path(record), own)


@pytest.mark.parametrize("kind", ["curves", "confusion", "classes", "bubble"])
def test_each_kind_writes_svg_and_png_under_its_name(runs: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(kind, runs) == (0, f"wrote {kind}.svg\nwrote {kind}.png\n")
    text = (tmp_path / f"{kind}.svg").read_text()
    assert ">misa<" in text
    assert "constant" not in text  # floors are drawn where they are named
    assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")


def test_rows_choose_and_order_and_out_may_carry_a_suffix(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "fig.png"
    assert run("classes", runs, "--rows", "tfn, constant", "--metric", "recall", "--out", out)[1].endswith(f"wrote {out}\n")
    text = out.with_suffix(".svg").read_text()
    assert ">misa<" not in text
    assert text.index(">tfn<") < text.index(">constant<")
    assert "recall (%)" in text


def test_intervals_are_drawn_against_a_baseline_or_of_all_pairs(runs: Path, tmp_path: Path) -> None:
    assert run("intervals", runs, "--baseline", "constant", "--metric", "mae,acc2_non0", "--out", tmp_path / "a")[0] == 0
    text = (tmp_path / "a.svg").read_text()
    assert "difference of mean test scores to constant" in text
    assert ">misa<" in text
    assert "Δ acc2_non0, percentage points" in text
    shown = texts(scores.intervals_of(find_runs(runs), ["mae"], ["constant", "tfn", "misa"], None))
    assert all(pair in shown for pair in ("misa\n- tfn", "misa\n- constant", "tfn\n- constant"))
    with pytest.raises(ConfigError, match="--baseline nope: there is no such configuration; there are misa, tfn, constant"):
        run("intervals", runs, "--baseline", "nope")
    with pytest.raises(ConfigError, match="--metric corr: these runs were not scored with it"):
        run("intervals", runs, "--metric", "corr")
    for name in ("a", "b", "c", "d", "e"):
        make_run(runs, name, 1, {"mae": 1.0}, data=USUAL)
    with pytest.raises(ConfigError, match="21 pairs in 1 scores are too many"):
        run("intervals", runs)


def test_bubbles_take_three_scores_and_published_numbers(runs: Path, tmp_path: Path) -> None:
    drawn = scores.bubble_of(find_runs(runs), [], [], None).axes[0]
    places = sorted(tuple(np.round(group.get_offsets()[0], 6)) for group in drawn.collections)
    assert places == [(65.0, 70.0), (75.0, 70.0)]
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("acc2_non0, %", "f1_non0, %")
    figure = scores.bubble_of(find_runs(runs), [], [], "decalign")
    hollow = {tuple(np.round(group.get_offsets()[0], 6)) for group in figure.axes[0].collections if not len(group.get_facecolor())}
    assert (85.75, 85.82) in hollow  # DecAlign, Table 1, CMU-MOSI
    assert len(hollow) >= 10
    assert "published by decalign" in texts(figure)
    shown = " ".join(texts(figure).split())
    assert "CubeMLP's released code counts zero as positive in Acc-2 and F1 and has other bins for Acc-7" in shown  # not cut
    assert "ReconBoost has 83.14 too" not in shown  # of another data set
    with pytest.raises(ConfigError, match="three scores, --metric X,Y,AREA, of mae, acc2_non0, f1_non0; not mae"):
        run("bubble", runs, "--metric", "mae")
    with pytest.raises(ConfigError, match="nope"):
        run("bubble", runs, "--published", "nope")


def test_bubbles_of_failed_seeds_say_so_and_simulated_data_stand_beside_nothing_published(runs: Path, tmp_path: Path) -> None:
    make_run(runs, "misa", 3, {}, data=USUAL, status="failed", reason="the loss became NaN")
    assert "misa (2/3 seeds)" in texts(scores.bubble_of(find_runs(runs), [], [], None))
    made_up = {"mae": 1.0, "acc2_non0": 0.5, "f1_non0": 0.5}
    make_run(tmp_path / "made up", "misa", 1, made_up, data={**USUAL, "simulated": True})
    assert "SIMULATED" in texts(scores.bubble_of(find_runs(tmp_path / "made up"), [], [], None))
    with pytest.raises(ConfigError, match=r"SIMULATED CMU-MOSI.*: no published numbers are drawn beside scores on simulated data"):
        scores.bubble_of(find_runs(tmp_path / "made up"), [], [], "decalign")


def test_intervals_of_one_seed_are_over_videos_alone(runs: Path, tmp_path: Path) -> None:
    assert "t intervals over seeds and test videos" in texts(scores.intervals_of(find_runs(runs), ["mae"], [], None))
    for name in ("misa", "tfn"):
        make_run(tmp_path / "one", name, 1, prediction=TARGET + np.float32(len(name)), data=USUAL | {"metrics": ["mae"]})
    assert "over test videos alone (one seed says" in " ".join(texts(scores.intervals_of(find_runs(tmp_path / "one"), ["mae"], [], None)).split())


def test_heatmap_shows_the_first_metric_of_a_sweep(tmp_path: Path) -> None:
    sweep_runs(tmp_path / "runs", two_axes(), lambda config, seed: config["model"]["width"] / 10, data={"metrics": ["mae", "f1_non0"]})
    assert run("heatmap", tmp_path / "runs", "--out", tmp_path / "h")[0] == 0
    text = (tmp_path / "h.svg").read_text()
    assert "mae ↓ (lower is better)" in text
    assert ">temperature<" in text
    assert "SIMULATED" not in text
    for path in tmp_path.rglob("result.json"):
        document = json.loads(path.read_text())
        document["data"]["simulated"] = True
        path.write_text(json.dumps(document))
    run("heatmap", tmp_path / "runs", "--metric", "f1_non0", "--out", tmp_path / "h")
    assert "SIMULATED CMU-MOSI" in (tmp_path / "h.svg").read_text()


def test_embeddings_are_drawn_or_the_command_that_makes_them_is_named(runs: Path, tmp_path: Path) -> None:
    first = sorted(runs.glob("demo/misa-*/seed-1"))[0]
    for kind in ("tsne", "pairs"):
        with pytest.raises(DataError, match=f"misa: there are no embeddings beside its runs; make them with: mmbench embed {first}"):
            run(kind, runs)
    write_features(runs, {"text": 3, "audio": 3})
    assert run("pairs", runs, "--rows", "misa", "--out", tmp_path / "p")[0] == 0
    text = (tmp_path / "p.svg").read_text()
    assert ">text<" in text
    assert ">audio<" in text
    assert "modality gap" in text
    assert "encoded features" in text
    assert run("tsne", runs, "--rows", "misa", "--out", tmp_path / "t")[0] == 0
    text = (tmp_path / "t.svg").read_text()
    assert all(f">{panel}<" in text for panel in ("text (encoded)", "audio (encoded)", "fused"))
    assert "misa, seed 1" in text
    embeddings_path(find_runs(runs)[0]).write_bytes(b"PK damaged")
    with pytest.raises(DataError, match="embed"):
        run("tsne", runs, "--rows", "constant")


def test_pairs_prefer_common_features_and_text_with_vision(runs: Path) -> None:
    write_features(runs, {"text": 3, "audio": 3, "vision": 3}, common=True, simulated=True)
    found = features.embeddings_of({"misa": [record for record in find_runs(runs) if record.model == "misa"]})
    panels, names, field = features.paired(found)
    assert (names, field) == (("text", "vision"), "common")
    np.testing.assert_array_equal(panels["misa, seed 1"][1], found["misa"].common["vision"])
    write_features(runs, {"text": 3, "audio": 4})
    found = features.embeddings_of({"misa": [record for record in find_runs(runs) if record.model == "misa"]})
    with pytest.raises(ConfigError, match="no two modalities have features of one width"):
        features.paired(found)


def test_options_without_meaning_and_mixed_data_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--metric has no meaning for curves; it is for heatmap"):
        run("curves", runs, "--metric", "mae")
    with pytest.raises(ConfigError, match="--baseline has no meaning for bubble"):
        run("bubble", runs, "--baseline", "x")
    with pytest.raises(ConfigError, match="classes shows f1 or recall"):
        run("classes", runs, "--metric", "mae")
    with pytest.raises(ConfigError, match="there is no such folder"):
        run("curves", tmp_path / "none")
    with pytest.raises(ConfigError, match="no finished configuration is called 'nope'"):
        run("bubble", runs, "--rows", "nope")
    assert run("pie", runs)[0] == 2
    make_run(tmp_path / "other", "misa", 1, {"mae": 1.0}, data={"name": "sims", "title": "CH-SIMS"})
    for kind in ("confusion", "bubble", "intervals"):
        with pytest.raises(ConfigError, match=r"different data|same data"):
            run(kind, runs, tmp_path / "other")
    for path in runs.rglob("epochs.jsonl"):
        path.unlink()
    with pytest.raises(DataError, match="there is no log of epochs"):
        run("curves", runs)


def test_places_are_looked_at_before_anything_is_imported_or_drawn(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmbench.results.figures", None)  # importing it fails
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/x.svg: cannot be written \(Not a directory\); choose another place with --out"):
        run("curves", runs, "--out", tmp_path / "file" / "x")
    (tmp_path / "x.png").mkdir()
    with pytest.raises(ConfigError, match=r"x.png: cannot be written \(Is a directory\)"):
        run("curves", runs, "--out", tmp_path / "x")
    with pytest.raises(ConfigError, match="there is no such folder"):
        run("curves", tmp_path / "none")
    with pytest.raises(ImportError):
        run("curves", runs)


def test_damaged_predictions_are_an_error_that_says_how_to_go_on(runs: Path) -> None:
    path = next(runs.rglob("misa*/seed-2/predictions.csv.gz"))
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"seed-2/predictions.csv.gz: .*damaged.*Leave its configuration out with --rows, or .*--rerun all"):
        run("confusion", runs)
    assert run("confusion", runs, "--rows", "tfn", "--out", runs.parent / "rest")[0] == 0
