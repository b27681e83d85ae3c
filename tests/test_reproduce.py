"""``mmbench reproduce``: what is missing is run, what cannot run says why, and all of it stands beside the published values."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mmbench.errors import ConfigError
from mmbench.reproduction.blocks import Result, build_blocks, of_column, of_line, result_of
from mmbench.reproduction.drawings import Drawn, draw
from mmbench.reproduction.formats import render
from mmbench.reproduction.plan import Options, make_work
from mmbench.reproduction.target import load_target
from mmbench.resolve import load
from mmbench.results.embeddings import Embeddings, embeddings_path, write_embeddings
from mmbench.runner import make_plan, prepare

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
needs_figures = pytest.mark.skipif(not all(map(find_spec, ("matplotlib", "sklearn"))), reason="figures need matplotlib and scikit-learn")
PLUGINS = ("torch", "mmbench_baselines", "mmbench_decalign", "mmbench_slad")
needs_plugins = pytest.mark.skipif(not all(map(find_spec, PLUGINS)), reason="needs torch and the plugins of this repository")

DATA = "data: {name: mosi, features: aligned, simulated: true, samples: 60, modalities: [audio, vision]}\n"
LINEAR = DATA + "model: {name: linear}\ntraining: {epochs: 3, threads: 1}\nseeds: [1, 2]\n"
TARGET = """
title: "A paper's table"
shows: two methods
published: decalign/table5
rows:
  MFM:
  MISA: {configs: {mosi: ours.yaml}, section: First half, marks: {a: true, b: false}}
  DMD: {configs: {mosi: absent.yaml}, section: Second half}
variants:
  other:
    about: another model (our choice)
    configs: {ours.yaml: other.yaml}
notes: [a note of the target]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a target of three rows: one that is not implemented, one that can run, one without data."""
    (tmp_path / "ours.yaml").write_text(LINEAR)
    (tmp_path / "other.yaml").write_text(LINEAR.replace("linear", "constant"))
    (tmp_path / "absent.yaml").write_text("data: {name: mosi}\nmodel: {name: linear}\n")
    (tmp_path / "target.yaml").write_text(TARGET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMBENCH_DATA", raising=False)
    return tmp_path


@pytest.fixture
def mmbench(folder):
    """Runs the command in the folder; returns exit code, standard output, standard error."""
    environment = {**os.environ, "MMBENCH_CACHE": os.environ.get("MMBENCH_CACHE", str(folder / "cache")), "COLUMNS": "200"}

    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "mmbench", "reproduce", *arguments], capture_output=True, text=True, cwd=folder, env=environment, check=False
        )
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr + done.stdout
        return done

    call.environment = environment  # type: ignore[attr-defined]
    return call


def cells(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a written CSV by row and metric."""
    return cells_of(path.read_text())


def cells_of(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a CSV by row and metric."""
    return {(line["row"], line["metric"]): line for line in csv.DictReader(text.splitlines())}


def finish(work, scores: dict[str, list[float | None]], simulated: bool = False, **changes: object) -> None:
    """Put results with these test scores (one for each seed) into the planned folders of MISA, as a worker would."""
    row = work.parts["ours.yaml"].row("")
    for index, seed in enumerate(row.resolved.experiment.seeds):
        run = row.folder / f"seed-{seed}"
        run.mkdir(parents=True)
        test = {key: values[index] for key, values in scores.items()}
        data = {"name": "mosi", "title": "CMU-MOSI", "task": "regression", "simulated": simulated, "fingerprint": "f", "metrics": list(test)}
        data |= {"modalities": ["audio", "vision"], "splits": {"test": {"size": 8}}}
        result = {"schema_version": 1, "status": "done", "reason": "", "name": "ours", "seed": seed, "data": data, "metrics": {"test": test}}
        (run / "result.json").write_text(json.dumps(result | changes))


def options() -> Options:
    return Options(out=Path("runs"), device="cpu")


def test_a_gap_is_measured_minus_published(folder) -> None:
    work = make_work(load_target("target.yaml"), options())
    finish(work, {"mae": [0.5, 0.7], "acc2_non0": [0.80, 0.82], "corr": [0.7, None]})
    (block,) = build_blocks(work)
    mfm, misa, dmd = block.lines[:3]
    assert [line.state for line in (mfm, misa, dmd)] == ["not implemented", "2/2", "no data"]
    assert not block.simulated
    mae, corr, acc2 = (cells[0] for cells in misa.measured[:3])
    assert mae.mean == pytest.approx(0.6)
    assert mae.sd == pytest.approx(0.1 * 2**0.5)  # sample deviation of two numbers 0.2 apart
    assert misa.gap(mae, misa.published[0][0]) == pytest.approx(0.6 - 0.788)  # Table 5: 0.788
    assert misa.gap(acc2, misa.published[2][0]) == pytest.approx(0.81 - 0.8207)
    assert corr.mean != corr.mean  # a seed without a score makes the cell no number
    assert math.isnan(mfm.gap(mfm.measured[0][0], mfm.published[0][0]))
    text = render(result_of(work), "plain")
    line = next(line for line in text.splitlines() if line.startswith("MISA"))
    assert "0.600±0.141" in line
    assert "-0.188" in line
    assert "81.00±1.41" in line
    assert "-1.07" in line
    assert "n/a" in line
    assert "SIMULATED" not in text
    assert text.index("-- First half") < text.index("MISA") < text.index("-- Second half") < text.index("DMD")


def test_variants_and_places_are_looked_at_before_anything_runs(folder, mmbench) -> None:
    with pytest.raises(ConfigError, match=r"there is no variant 'nope'; there is other$"):
        load_target("target.yaml", "nope")
    (folder / "bare.yaml").write_text(TARGET.partition("variants:")[0])
    with pytest.raises(ConfigError, match=r"there is no variant 'nope'; this target has no variants$"):
        load_target("bare.yaml", "nope")
    (folder / "file").touch()
    done = mmbench("target.yaml", "--out", "file", code=2)
    assert "error: file/papers/target.txt: cannot be written (Not a directory); choose another folder with --out" in done.stderr
    assert "runs to do" not in done.stdout


def test_on_simulated_data_no_gap_is_shown(folder) -> None:
    work = make_work(load_target("target.yaml"), options())
    finish(work, {"mae": [0.5, 0.7]}, simulated=True)
    result = result_of(work)
    assert result.simulated
    for format in ("plain", "github", "latex"):
        text = render(result, format)
        assert "SIMULATED DATA: " in text
        assert "gap" not in text.split("no gap is shown")[0]
        assert "0.188" not in text
        assert "0.788" in text
    lines = list(csv.DictReader(render(result, "csv").splitlines()))
    assert {line["gap"] for line in lines} == {""}
    assert {line["simulated"] for line in lines} == {"SIMULATED"}


def test_failed_seeds_collapsed_and_adapted_rows_are_marked(folder) -> None:
    work = make_work(load_target("target.yaml"), options())
    finish(work, {"mae": [0.5, 0.7]}, collapsed=True, adapters=[{"field": "common"}])
    row = work.parts["ours.yaml"].row("")
    failed = {"schema_version": 1, "status": "failed", "reason": "the loss <is> not finite", "name": "ours", "seed": 2}
    (row.folder / "seed-2" / "result.json").write_text(json.dumps(failed))
    result = result_of(work)
    line = result.blocks[0].lines[1]
    assert (line.state, line.collapsed, line.adapted) == ("1/2", 1, True)
    text = render(result, "plain")
    assert "ours: seed 2 failed: the loss <is> not finite" in text
    assert "&lt;is&gt;" in render(result, "github")
    assert r"\textless{}is\textgreater{}" in render(result, "latex")
    assert "MISA†§" in text


def test_no_gap_is_shown_where_seeds_failed_or_are_not_done(folder) -> None:
    work = make_work(load_target("target.yaml"), options())
    finish(work, {"mae": [0.5, 0.7]})

    def gaps() -> str:
        return cells_of(render(result_of(work), "csv"))["MISA", "mae"]["gap"]

    assert float(gaps()) == pytest.approx(0.6 - 0.788)
    result = work.parts["ours.yaml"].row("").folder / "seed-2" / "result.json"
    result.write_text(json.dumps({"schema_version": 1, "status": "failed", "reason": "the loss is not finite", "name": "ours", "seed": 2}))
    assert gaps() == ""
    text = render(result_of(work), "plain")
    assert "0.500" in text  # the seed that is there still stands, with 1/2
    assert "-0.288" not in text
    shutil.rmtree(result.parent)
    assert gaps() == ""


def test_footnotes_stand_at_heads_rows_or_cells(folder) -> None:
    (block,) = build_blocks(make_work(load_target("target.yaml"), options()))
    headings = [heading.text for heading in block.group.headings]
    acc2, mae = headings.index("Acc-2"), headings.index("MAE")
    assert "non0" in of_column(block, acc2)
    assert "non0" not in of_column(block, mae)
    assert all("non0" not in of_line(block, line) for line in block.lines)
    work = make_work(load_target("decalign/table2"), Options(out=Path("runs")))
    for block in build_blocks(work):
        assert of_line(block, block.lines[1]) == ("variants",)
    text = render(result_of(work), "plain")
    assert text.count("The printed rows are check marks") == 1
    assert {line.count("[") for line in text.splitlines() if line.startswith("w/o Homo")} == {1}  # at the name alone


def test_latex_is_a_document(folder) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    work = make_work(load_target("decalign/table2"), Options(out=Path("runs")))
    (folder / "table.tex").write_text(render(result_of(work), "latex"))
    head = "\\documentclass[twocolumn]{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs,graphicx}"
    (folder / "page.tex").write_text(f"{head}\\begin{{document}}\\input{{table}}\\end{{document}}")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], capture_output=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert b"Float too large" not in done.stdout
    assert (folder / "page.pdf").is_file()


def test_runs_are_found_by_fingerprint_where_their_data_are_not_here(folder) -> None:
    work = make_work(load_target("target.yaml"), options())
    cell = work.parts["absent.yaml"].cells[0]
    for data, seeds in (("aaa", (1, 2)), ("bbb", (1,)), ("ccc", ())):
        label = f"linear-{cell.fingerprint(data)}" if seeds else "linear-000000000000"
        for seed in seeds or (1, 2, 3):
            run = folder / "runs" / "absent" / label / f"seed-{seed}"
            run.mkdir(parents=True)
            about = {"name": "mosi", "fingerprint": data, "simulated": False, "metrics": ["mae"]}
            result = {"schema_version": 1, "status": "done", "label": label, "seed": seed, "data": about, "metrics": {"test": {"mae": 1.0}}}
            (run / "result.json").write_text(json.dumps(result))
    work = make_work(load_target("target.yaml"), options())
    line = build_blocks(work)[0].lines[2]
    assert line.state == "2/5"  # the config has five seeds
    assert line.measured[0][0].mean == 1.0
    assert math.isnan(line.gap(line.measured[0][0], line.published[0][0]))
    assert "found by their fingerprint" in " ".join(work.missing)


def test_files_of_a_target_name_no_home_folder(folder, monkeypatch) -> None:
    home = folder / "of_someone"
    monkeypatch.setenv("HOME", str(home))
    changed = Options(out=Path("runs"), device="cpu", data_root=home / "data", overrides=(f"data.path={home}/mosi.pkl",))
    texts = [render(result_of(make_work(load_target("target.yaml"), options), ()), form) for options in (changed, replace(changed, overrides=()))
             for form in ("plain", "github", "latex")]  # fmt: skip
    assert ["someone" in text for text in texts] == [False] * len(texts)
    assert "$HOME/mosi.pkl" in texts[0]
    assert "Looked in $HOME/data" in texts[3]


def test_without_anything_to_run_the_published_numbers_are_written(folder, mmbench) -> None:
    (folder / "ours.yaml").write_text("data: {name: mosi}\nmodel: {name: linear}\n")
    done = mmbench("target.yaml", code=3)
    assert "0 runs to do" in done.stdout
    assert "no data (mosi: MISA, DMD): CMU-MOSI was not found. Looked in data" in done.stdout
    for suffix in ("txt", "md", "tex", "csv"):
        assert (folder / "runs" / "papers" / f"target.{suffix}").is_file()
    assert (folder / "runs" / "papers" / "target.txt").read_text() in done.stdout
    assert cells(folder / "runs/papers/target.csv")["MFM", "mae"]["published"] == "0.951"
    assert "a note of the target" in mmbench("target.yaml", "--no-run").stdout


def test_a_wrong_option_names_the_config(folder, mmbench) -> None:
    done = mmbench("target.yaml", "--set", "model.widht=3", code=2)
    assert "error: ours.yaml: " in done.stderr
    assert "widht" in done.stderr
    target = load_target("target.yaml")
    with pytest.raises(ConfigError, match=r"ours\.yaml is on sims, but its place is in the columns of mosi"):
        make_work(target, Options(("data.name=sims", "data.features=unaligned")))
    with pytest.raises(ConfigError, match=r"ours\.yaml: --seeds 5-1"):
        make_work(target, Options(seeds="5-1"))
    (folder / "ours.yaml").write_text(LINEAR.replace("linear", "liner"))  # the config's own mistake is no mistake of the options
    work = make_work(target, Options(("training.epochs=2",)))
    place = work.places["MISA", "mosi"]
    assert place.state == "not installed"
    assert "liner" in place.reason


def test_a_table_says_what_options_changed(folder) -> None:
    text = render(result_of(make_work(load_target("target.yaml"), Options(("training.epochs=2",), "1"))), "plain")
    assert "The configs were changed for this table: --set training.epochs=2 --seeds 1" in text
    assert "mmbench reproduce target.yaml --set training.epochs=2 --seeds 1." in text
    assert "were changed" not in render(result_of(make_work(load_target("target.yaml"), options())), "plain")


def test_runs_are_those_of_mmbench_run(folder) -> None:
    work = make_work(load_target("target.yaml"), options())
    plan = make_plan(load("ours.yaml"), Path("runs"), None, "cpu")
    assert work.parts["ours.yaml"].row("").folder == plan.rows[0].folder


PUBLISHED = """
title: A third paper
citation: Somebody (2026)
setting: text alone
seeds: 1
times_100: shares
tables:
  one:
    title: Results
    columns: {mosi: {MAE: mae, Acc-2: acc2_has0/acc2_non0}}
    rows: {MISA: 0.75 84.1/86.0, Others: 0.70 ~}
"""


def test_a_target_of_yours_stands_beside_published_numbers_of_yours(folder, tmp_path_factory, monkeypatch) -> None:
    """Files that it names lie beside it, from wherever the command is called."""
    (folder / "numbers").mkdir()
    (folder / "numbers" / "theirs.yaml").write_text(PUBLISHED)
    (folder / "target.yaml").write_text(TARGET.replace("decalign/table5", "numbers/theirs.yaml/one"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    path = str(folder / "target.yaml")
    result = result_of(make_work(load_target(path), options()))
    mfm, misa, dmd = result.blocks[0].lines
    assert [line.state for line in (mfm, misa, dmd)] == ["not implemented", "not run", "no data"]
    assert [score.value for cells in misa.published for score in cells] == pytest.approx([0.75, 0.841, 0.86])
    assert mfm.published == ((None,), (None, None))
    text = render(result, "plain")
    assert "copied from Somebody (2026) (one run)" in text
    assert f"mmbench reproduce {path}." in text

    def refused(published: str) -> str:
        (folder / "target.yaml").write_text(TARGET.replace("decalign/table5", published))
        with pytest.raises(ConfigError) as error:
            make_work(load_target(path), options())
        assert str(error.value).startswith(path)
        return str(error.value)

    assert "there is no file theirs.yaml" in refused("theirs.yaml/one")
    assert "has no 'two'; it has one" in refused("numbers/theirs.yaml/two")
    assert "is a source and its table" in refused("numbers/theirs.yaml")
    assert "Did you mean 'decalign'?" in refused("decalin/table5")


def test_a_sweep_that_cannot_be_read_here_is_a_row_with_its_reason(folder) -> None:
    (folder / "sweep.yaml").write_text(LINEAR.replace("linear", "absent_model") + "sweep: {lr: {key: training.optimizer.lr, values: [0.1, 0.2]}}\n")
    (folder / "target.yaml").write_text("title: A\nshows: B\ncolumns: {mosi: {MAE: mae}}\nsweep: {mosi: sweep.yaml}\n")
    work = make_work(load_target("target.yaml"), options())
    assert [line.state for line in build_blocks(work)[0].lines] == ["not installed"]
    assert "absent_model" in " ".join(work.missing)
    (folder / "sweep.yaml").write_text((folder / "sweep.yaml").read_text().replace("absent_model", "linear"))
    assert list(make_work(load_target("target.yaml"), options()).rows) == ["lr=0.1", "lr=0.2"]


def untimed(line: str) -> dict:
    return {**json.loads(line), "seconds": None}


@needs_torch
def test_an_interrupted_command_goes_on_and_a_failed_run_stops_no_other(folder, mmbench) -> None:
    (folder / "ours.yaml").write_text(LINEAR.replace("epochs: 3", "epochs: 60"))
    (folder / "absent.yaml").write_text(LINEAR.replace("threads: 1", "threads: 1, task_loss: mse, optimizer: {lr: 1.0e+30}"))
    (folder / "target.yaml").write_text(TARGET + "figures: [{kind: confusion, dataset: mosi, rows: [MISA]}]\n")
    arguments = ["target.yaml", "--seeds", "1", "--jobs", "1", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mmbench", "reproduce", *arguments],
        cwd=folder,
        env=mmbench.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    logs = folder / "runs" / "ours"
    until = time.time() + 60
    while time.time() < until and not list(logs.glob("linear-*/seed-1/epochs.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "3 runs to do, 0 done" in out
    assert "the same command goes on" in out
    assert "Traceback" not in err
    assert not (folder / "runs" / "papers").exists()
    (log,) = logs.glob("linear-*/seed-1/epochs.jsonl")
    before = log.read_text().splitlines()
    done = mmbench(*arguments, code=1)
    assert done.stdout.index("runs to do") < done.stdout.index("[1/") < done.stdout.index("SIMULATED DATA: A paper's table")
    after = log.read_text().splitlines()
    assert after[0] == before[0]  # it went on from there; epochs after the last checkpoint are trained again, to the same numbers
    assert [untimed(line) for line in after[: len(before)]] == [untimed(line) for line in before]
    assert len(after) == 60
    written = cells(folder / "runs/papers/target.csv")
    (result,) = logs.glob("linear-*/seed-1/result.json")
    assert float(written["MISA", "mae"]["mean"]) == json.loads(result.read_text())["metrics"]["test"]["mae"]
    assert written["MISA", "mae"]["state"] == "1/1"
    assert written["DMD", "mae"]["state"] == "0/1"
    assert written["constant", "mae"]["kind"] == "floor"
    assert "seed 1 failed" in done.stdout
    if find_spec("matplotlib"):
        assert "SIMULATED" in (folder / "runs/papers/target.svg").read_text()
        assert (folder / "runs/papers/target.png").stat().st_size > 1000
    again = make_work(load_target("target.yaml"), Options(seeds="1", out=Path("runs"), device="cpu"))
    assert [prepare(plan, None) for _, plan in again.plans] == [([], 1, 0), ([], 1, 1)]  # none to do; done, failed before


SMALL = ("data.simulated=true", "data.samples=40", "training.epochs=1")


@needs_plugins
def test_every_row_of_the_ablations_is_planned(folder) -> None:
    chosen = Options(SMALL, "1", Path("runs"), None, "cpu")
    work = make_work(load_target("decalign/table2"), chosen)
    assert {place.state for place in work.places.values()} == {""}
    assert len(work.places) == 2 * 9
    assert [len([row for row in plan.rows if not row.floor]) for _, plan in work.plans] == [9, 9]
    work = make_work(load_target("slad/table3", "features"), chosen)
    assert {place.state for place in work.places.values()} == {""}
    (planned,) = (plan for _, plan in work.plans)
    assert len([row for row in planned.rows if not row.floor]) == 14  # omega + L_ml and L_ml are one configuration
    part = work.parts["slad_ablation"]
    assert part.row("omega + L_ml") is part.row("L_ml")
    assert part.row("L_rep") is not part.row("L_con")


@needs_plugins
def test_floors_are_those_of_one_config_for_each_data_set(folder) -> None:
    work = make_work(load_target("decalign/table5"), Options(SMALL, "1", Path("runs"), None, "cpu"))
    floors = {part.config: sum(row.floor for row in plan.rows) for part, plan in work.plans}
    assert floors == {"mult_mosi": 0, "misa_mosi": 0, "self_mm_mosi": 0, "decalign_mosi": 2}


@needs_plugins
def test_a_config_without_its_weights_says_so_and_leaves_the_others(folder) -> None:
    (folder / "target.yaml").write_text(TARGET.replace("absent.yaml", "self_mm_bert_mosi"))
    work = make_work(load_target("target.yaml"), Options(SMALL, "1", Path("runs"), None, "cpu"))
    assert [part.config for part, _ in work.plans] == ["ours.yaml", "self_mm_bert_mosi"]
    work.without_weights(work.parts["self_mm_bert_mosi"])
    assert [part.config for part, _ in work.plans] == ["ours.yaml"]
    assert work.floors["mosi"].config == "ours.yaml"
    (line,) = [line for line in work.missing if line.startswith("no weights")]
    assert "mosi: DMD" in line
    assert "bert-base-uncased (text)" in line
    assert [line.state for line in build_blocks(work)[0].lines] == ["not implemented", "not run", "no weights"]


def draw_synthetic(work, rows: dict[str, np.ndarray]) -> Drawn:
    """Draw a target's figures from embeddings that are made up: for each config the offset of text against the other modalities."""
    generator = np.random.default_rng(0)

    def embed(record) -> None:
        features = generator.normal(size=(30, 4))
        fields = {"text": features + rows[record.experiment], "audio": features, "vision": features}
        target = np.linspace(-1, 1, 30)
        found = Embeddings(tuple(map(str, range(30))), target, target, features, fields, fields, fields, {"simulated": True, "title": "made up"})
        write_embeddings(embeddings_path(record), found)

    return draw(work, Path("runs/papers/figure"), embed)


@needs_figures
def test_figures_of_features_tell_the_gap(folder) -> None:
    figures = (
        "[{kind: tsne, dataset: mosi, fields: [encoded/text, fused]}, {kind: pairs, name: gap, dataset: mosi, fields: [common/text, common/vision]}]"
    )
    (folder / "target.yaml").write_text(TARGET + f"figures: {figures}\n")
    work = make_work(load_target("target.yaml"), options())
    finish(work, {"mae": [0.5, 0.7]}, simulated=True)
    drawn = draw_synthetic(work, {"ours": np.full(4, 50.0)})
    assert [path.name for path in drawn.files] == ["figure.svg", "figure.png", "figure-gap.svg", "figure-gap.png"]
    assert "SIMULATED" in drawn.files[0].read_text()
    (note,) = drawn.notes
    gap = float(note.rpartition("MISA ")[2])
    assert gap == pytest.approx(1.0, abs=0.25)  # text lies at one point of the sphere, vision all around its centre
    assert result_of(work, drawn.notes).notes[-2] == note


@needs_figures
def test_a_figure_that_cannot_be_drawn_says_why_and_stops_no_other(folder) -> None:
    figures = "[{kind: confusion, name: a, dataset: mosi}, {kind: heatmap, name: b, dataset: mosi, metric: mae}, {kind: bubble, name: c}]"
    (folder / "target.yaml").write_text(TARGET + f"figures: {figures}\n")
    work = make_work(load_target("target.yaml"), options())
    drawn = draw_synthetic(work, {})
    assert [note.partition(" was not drawn: ")[0] for note in drawn.notes] == ["figure-a", "figure-b"]
    assert "no run on mosi is there" in drawn.notes[0]
    assert [path.name for path in drawn.files] == ["figure-c-mosi.svg", "figure-c-mosi.png"]  # the published bubbles are there


@needs_figures
@pytest.mark.parametrize("simulated", [False, True])
def test_bubbles_say_how_many_seeds_are_done_and_show_nothing_published_beside_simulated_data(folder, simulated: bool) -> None:
    from mmbench.reproduction.drawings import _points

    work = make_work(load_target("target.yaml"), options())
    finish(work, {"mae": [0.5, 0.7], "acc2_non0": [0.80, 0.82], "f1_non0": [0.8, 0.8]}, simulated=simulated)
    (block,) = build_blocks(work)
    own, *printed = sorted(_points(block), key=lambda point: point.published)
    assert (own.name, own.published) == ("MISA", False)
    assert bool(printed) is not simulated
    result = sorted(Path("runs").rglob("seed-*/result.json"))[-1]
    result.write_text(json.dumps(json.loads(result.read_text()) | {"status": "failed"}))
    (block,) = build_blocks(make_work(load_target("target.yaml"), options()))
    assert next(point.name for point in _points(block) if not point.published) == "MISA (1/2 seeds)"


def test_a_result_says_that_it_is_simulated() -> None:
    assert not Result("a", "b", "c", (), None).simulated
