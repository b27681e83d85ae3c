"""Published numbers: every digit against the papers' text, the tables against each other, and what a wrong file is told."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.compose import compose
from mmbench.data.manifest import list_manifests, load_manifest
from mmbench.errors import ConfigError
from mmbench.files import shipped
from mmbench.metrics import METRICS
from mmbench.results.published import find, load_published, load_source, published_sources
from mmbench.sweep import expand

SHARED = Path(__file__).parents[3] / "shared"
MENDED = {"MMM": "MMIM", "TETEN": "TETFN", "FMFH": "FMFN"}
SCORES = load_published()


def text_of(path: str) -> list[str]:
    if not (SHARED / path).is_file():
        pytest.skip(f"needs {path}, which is not part of the repository")
    return (SHARED / path).read_text(encoding="utf-8").splitlines()


def number_cells(cells: list[str]) -> list[str]:
    """The numbers of a table's line, one for each, without marks of the typesetting and without what stands in brackets behind them."""
    found = []
    for cell in cells:
        plain = re.sub(r"</?u>|[$\s]", "", cell)
        match = re.match(r"(\d+\.\d+(?:/\d+\.\d+)*)(?:\(|$|\\)", plain)
        found.extend(match[1].split("/") if match else [])
    return found


def name_of(cells: list[str]) -> str:
    """The method: the first cell that is neither empty nor a line number, without its reference, mark or typesetting."""
    first = next(cell.strip() for cell in cells if cell.strip() and not cell.strip().isdigit())
    name = re.sub(r"\s*\([A-Z][^()]*\d{4}\)|<sup>|</sup>|\\mathbf|\^[abc*]|[${}^*]", "", first).strip()
    name = re.sub(r"\s*a$", "", name) if name.startswith("Self-MM") else name
    return MENDED.get(name, name)


def tables_of_decalign() -> dict[str, list[list[str]]]:
    """Lines of each markdown table by the number of the caption that follows it."""
    lines = [line for line in text_of("papers/decalign.txt") if line and not line.isdigit()]
    tables: dict[str, list[list[str]]] = {}
    block: list[list[str]] = []
    before = ""
    for line in lines:
        if line.startswith("|"):
            block = block if before.startswith("|") else []
            block.append(line.strip("|").split("|"))
        elif before.startswith("|") and (caption := re.match(r"(?:\d+\s+)?Table (\d):", line)):
            tables[f"table{caption[1]}"] = block
        before = line
    return tables


def tables_of_slad() -> dict[str, list[list[str]]]:
    """Lines of each tab-separated table by the number of the caption before it."""
    tables: dict[str, list[list[str]]] = {}
    current = ""
    for line in text_of("papers/slad.txt"):
        if caption := re.match(r"Table (\d):", line):
            current = f"table{caption[1]}"
        elif "\t" in line and current:
            tables.setdefault(current, []).append(line.split("\t"))
        elif line:
            current = ""
    return tables


@pytest.mark.parametrize("table", ["table1", "table5", "table6", "table7"])
def test_tables_of_decalign_are_those_of_the_paper(table: str) -> None:
    printed = [(name_of(cells), number_cells(cells)) for cells in tables_of_decalign()[table] if number_cells(cells)]
    kept = [(row[0].method, [score.printed for score in row]) for row in load_source("decalign").tables[table].rows]
    assert kept == printed
    assert len(printed) == 14


@pytest.mark.parametrize(("table", "rows"), [("table1", 9), ("table2", 10), ("table5", 8)])
def test_tables_of_slad_are_those_of_the_paper(table: str, rows: int) -> None:
    printed = [(name_of(cells), number_cells(cells)) for cells in tables_of_slad()[table] if number_cells(cells)]
    kept = [(row[0].method, [score.printed for score in row]) for row in load_source("slad").tables[table].rows]
    assert kept == printed
    assert len(printed) == rows


def test_marks_of_origin_are_those_of_the_paper() -> None:
    origin = {"a": "reproduced", "b": "Li et al. (2025a)", "c": "original paper", "*": "Zheng et al. (2025)", "": ""}
    source = load_source("slad")
    for table in ("table1", "table2", "table5"):
        lines = [cells for cells in tables_of_slad()[table] if number_cells(cells)]
        for cells, row in zip(lines, source.tables[table].rows, strict=True):
            mark = re.search(r"\^([abc*])|\s([abc])\$?$|([*])", cells[0])
            letter = next(filter(None, mark.groups()), "") if mark else ""
            assert origin[letter] in row[0].origin
            assert bool(letter) == bool(row[0].origin) == (row[0].model != "slad"), row[0].method


def test_ablation_of_decalign_is_that_of_the_paper() -> None:
    modules = {"✓✓✗": "w/o Homo", "✓✗✓": "w/o Hete", "✓✗✗": "MFD alone", "✗✗✗": "none"}
    strategies = {"✓✓✓✗": "w/o MMD", "✓✓✗✓": "w/o Sem", "✓✗✓✓": "w/o CT", "✗✓✓✓": "w/o Proto-OT"}
    lines = [cells for cells in tables_of_decalign()["table2"] if number_cells(cells)]
    printed = []
    for half, names, first in ((slice(0, 4), modules, 1), (slice(4, 8), strategies, 8)):
        for cells in lines:
            marks = "".join(cell.strip() for cell in cells[first : first + (3 if first == 1 else 4)])
            printed.append((names[marks], number_cells(cells)[half]))
    assert [(row[0].variant, [score.printed for score in row]) for row in load_source("decalign").tables["table2"].rows] == printed


def slad_ablation() -> list[tuple[str, list[str]]]:
    """Name of each row by its check marks, and its five cells."""
    terms = ("omega", "L_con", "L_rep", "L_ml")
    rows = []
    for cells in tables_of_slad()["table3"]:
        if not number_cells(cells):
            continue
        present = [term for term, cell in zip(terms, cells[:4], strict=True) if cell.strip()]
        absent = [term for term in terms if term not in present]
        short = {4: "", 3: f"w/o {absent[0] if absent else ''}", 0: "L_cls alone"}
        rows.append((short.get(len(present), " + ".join(present)), cells[4:9]))
    return rows


def test_ablation_of_slad_is_that_of_the_paper() -> None:
    kept = [(row[0].variant, [score.printed for score in row]) for row in load_source("slad").tables["table3"].rows]
    assert kept == [(name, number_cells(cells)) for name, cells in slad_ablation()]
    assert len(kept) == 15


def test_percentages_of_slads_ablation_follow_from_its_numbers_but_for_three() -> None:
    """The text's arrows are misread in many ways, some as digits before the number, so that any tail of the digits may be meant."""
    rows = slad_ablation()
    full = [float(number) for number in number_cells(rows[0][1])]
    wrong = []
    for name, cells in rows[1:]:
        for column, (cell, whole) in enumerate(zip(cells, full, strict=True)):
            number = re.match(r"\$?(\d+\.\d+)", cell)
            rest = cell[number.end() :].replace("{", "").replace("}", "")
            digits = re.search(r"(\d+)\.(\d+)\\?%", rest)
            half = 0.05 if column < 3 else 0.0005
            low = 100 * ((float(number[1]) - half) / (whole + half) - 1)
            high = 100 * ((float(number[1]) + half) / (whole - half) - 1)
            slack = 0.5 * 10 ** -len(digits[2])
            tails = [float(f"{digits[1][start:]}.{digits[2]}") for start in range(len(digits[1]))]
            if not any(low - slack <= sign * tail <= high + slack for tail in tails for sign in (1, -1)):
                wrong.append((name, column, f"{digits[1]}.{digits[2]}"))
    assert wrong == [("w/o L_con", 1, "4.39"), ("omega + L_ml", 0, "4.61"), ("L_ml", 0, "4.61")]
    footnote = load_source("slad").footnotes["percentages"]
    assert all(part in footnote for part in ("w/o L_con", "4.39 %", "omega + L_ml", "4.61 %"))


def test_figure_4_of_slad_has_the_numbers_of_the_text() -> None:
    text = re.sub(r"[$\\]", "", " ".join(text_of("papers/slad.txt")))
    rows = {row[0].variant: {score.metric: score.printed for score in row} for row in load_source("slad").tables["figure4"].rows}
    best = re.search(r"\(tau=0\.2, ?K=3\) with F1=([\d.]+)%, MAE=([\d.]+), and Corr=([\d.]+)", text)
    assert list(rows["temperature=0.2, top_k=3"].values()) == [best[1], best[2], best[3].rstrip(".")]
    assert rows["temperature=0.2, top_k=1"] == {"f1_sims": re.search(r"F1 reaches only ([\d.]+)% for K=1", text)[1]}
    low = re.search(r"\(tau ?= ?0\.1, ?K ?= ?5\), performance drops notably \(F1=([\d.]+)%, Corr=([\d.]+)\)", text)
    assert rows["temperature=0.1, top_k=5"] == {"f1_sims": low[1], "corr_clip1": low[2]}
    assert rows["temperature=0.4, top_k=4"] == {"corr_clip1": re.search(r"Corr peaks at ([\d.]+) \(K=4\)", text)[1]}


def test_numbers_of_repositories_are_those_of_the_reading() -> None:
    text = "\n".join(text_of("reference/peers.md"))
    text = text[text.index("### 6.1") : text.index("## 7")]
    parts = re.split(r"\n(?:MOSI: |MOSEI:\n|SIMS \(U\)|SIMSv2 \(U\)|Not in any)", text)[1:5]
    for dataset, part, width in zip(("mosi", "mosei", "sims", "simsv2"), parts, (8, 8, 6, 6), strict=True):
        printed = {
            name.replace("g_mfn", "graph_mfn"): numbers.split() for name, numbers in re.findall(rf"([a-z_]+) +((?:\d+\.\d+ *){{{width}}})", part)
        }
        table = load_source("mmsa").tables[dataset]
        assert {row[0].method: [score.printed for score in row] for row in table.rows} == printed
        if width == 8:
            aligned = set(re.findall(rf"([a-z_]+) +(?:\d+\.\d+ +){{{width}}}A", part))
            assert {row[0].method for row in table.rows if row[0].setting == "aligned features"} == aligned
    row = r"MMML README \| {} \|.*?([\d.]+)/([\d.]+), acc7 ([\d.]+), (?:MAE )?(\.\d+), (?:Corr )?(\.\d+)"
    for dataset in ("mosi", "mosei"):
        scores = {score.metric: score.value for score in load_published("mmml") if score.dataset == dataset}
        numbers = [float(number) for number in re.search(row.format(dataset.upper()), text).groups()]
        assert [scores[key] for key in ("acc2_has0", "acc2_non0", "acc7")] == pytest.approx([number / 100 for number in numbers[:3]], abs=1e-12)
        assert [scores["mae"], scores["corr"]] == numbers[3:]
    found = re.search(r"ALMT \| MOSI ([\d.]+)/([\d.]+) acc7 ([\d.]+) MAE (\.\d+) Corr (\.\d+)", text)
    assert [score.printed for score in load_published("almt")] == [found[1], found[2], found[3], f"0{found[4]}", f"0{found[5]}"]


def test_spot_checks() -> None:
    """Typed by hand from the papers."""

    def one(source: str, table: str, method: str, dataset: str, metric: str, variant: str = "") -> float:
        (score,) = (
            s for s in load_source(source).tables[table].scores if (s.method, s.dataset, s.metric, s.variant) == (method, dataset, metric, variant)
        )
        return score.value

    assert one("decalign", "table1", "DecAlign (Ours)", "mosi", "mae") == 0.735
    assert one("decalign", "table1", "Self-MM", "mosei", "acc2_non0") == 0.8243
    assert one("decalign", "table1", "MUTA-Net", "iemocap", "waf1") == 0.6878
    assert one("decalign", "table2", "DecAlign (Ours)", "mosei", "mae", "w/o CT") == 0.619
    assert one("decalign", "table7", "DMD", "sims", "acc2_sims") == 0.7898
    assert one("slad", "table1", "SLaD(our)", "mosi", "acc2_has0") == 0.878
    assert one("slad", "table1", "SLaD(our)", "mosi", "acc2_non0") == 0.902
    assert one("slad", "table2", "TMBL", "sims", "acc5_sims") == 0.415
    assert one("slad", "table3", "SLaD(our)", "sims", "mae_clip1", "L_rep + L_ml") == 0.377
    assert one("slad", "table5", "CMFF", "mosei", "mae") == 0.483
    assert one("mmsa", "sims", "mtfn", "sims", "mae_clip1") == 0.3954
    assert one("mmsa", "mosi", "self_mm", "mosi", "corr") == 0.7963


def test_a_number_in_two_tables_of_one_source_agrees_or_a_footnote_has_both() -> None:
    places: dict[tuple, list] = {}
    for score in SCORES:
        key = (score.source, score.model or score.method.casefold(), score.variant, score.dataset, score.protocol, score.metric)
        places.setdefault(key, []).append(score)
    twice = [scores for scores in places.values() if len(scores) > 1]
    assert len(twice) > 80
    differ = [scores for scores in twice if len({score.value for score in scores}) > 1]
    for scores in differ:
        footnotes = load_source(scores[0].source).footnotes
        shared = [footnotes[note] for note in set.intersection(*(set(score.notes) for score in scores))]
        assert any(all(score.printed in footnote for score in scores) for footnote in shared), scores
    known = {("decalign", "AOBERT", "mosei", "f1_non0"), ("slad", "SLaD(our)", "sims", "corr_clip1")}
    assert {(scores[0].source, scores[0].method, scores[0].dataset, scores[0].metric) for scores in differ} == known


# What is said of the numbers ----------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_data_set_and_in_their_own_units() -> None:
    for (dataset, protocol), scores in itertools.groupby(sorted(SCORES, key=lambda s: (s.dataset, s.protocol)), lambda s: (s.dataset, s.protocol)):
        assert dataset in list_manifests()
        manifest = load_manifest(dataset, protocol or None)
        assert protocol == manifest.protocol
        for score in scores:
            assert score.metric in manifest.metrics
            low, high = METRICS[score.metric].range
            assert low <= score.value <= high
            if high == 1 and low == 0:
                assert score.value > 0.2  # divided once, not twice
            if score.metric.startswith("mae"):
                assert 0.25 < score.value < 1


def test_a_variant_is_a_row_of_an_ablation_here() -> None:
    rows = {"decalign": {"table2": "decalign_ablation"}, "slad": {"table3": "slad_ablation", "figure4": "slad_temperature_topk"}}
    for source, tables in rows.items():
        assert {score.table for score in load_published(source) if score.variant} == set(tables)
        for table, config in tables.items():
            names = [name for name, _ in expand(compose(shipped("configs") / f"{config}.yaml"))]
            kept = [row[0].variant or "full" for row in load_source(source).tables[table].rows]
            assert set(kept) <= set(names)
            if config == "slad_ablation":
                assert kept == names
            if config == "decalign_ablation":
                assert set(kept) == set(names) - {"full"}


@pytest.mark.skipif(
    any(find_spec(f"mmbench_{name}") is None for name in ("baselines", "decalign", "slad")), reason="needs the plugins of this repository"
)
def test_models_are_components_here() -> None:
    from mmbench.plugins import catalogue

    names = {entry.component.name for entry in catalogue().entries if entry.component.kind == "model"}
    named = {score.model for score in SCORES} - {""}
    assert named == {"decalign", "slad", "mult", "misa", "self_mm", "tfn", "lmf", "mmim", "ef_lstm", "lf_dnn"}
    assert named <= names


def test_every_footnote_belongs_to_a_number() -> None:
    for name in published_sources():
        source = load_source(name)
        assert {note for score in source.scores for note in score.notes} == set(source.footnotes)
        assert source.title
        assert source.citation
        assert all(score.seeds == source.seeds and score.sd is None for score in source.scores)


def test_known_faults_are_marked() -> None:
    def notes(source: str, **wanted: str) -> set[str]:
        (score,) = (s for s in load_published(source) if all(getattr(s, key) == value for key, value in wanted.items()))
        return set(score.notes)

    assert {"acc3", "acc3_own"} <= notes("decalign", table="table7", model="decalign", metric="acc2_sims")
    assert "own_runs" in notes("decalign", table="table5", model="self_mm", metric="mae")
    assert "reconboost" in notes("decalign", table="table1", method="ReconBoost", metric="f1_sims")
    assert "mmml" in notes("slad", table="table1", model="slad", dataset="mosi", metric="mae")
    assert "almt" in notes("slad", table="table2", method="ALMT", metric="f1_sims")


def test_find() -> None:
    scores = find(SCORES, "decalign", "mosi", metric="mae")
    assert [(score.source, score.table, score.value) for score in scores] == [("decalign", "table1", 0.735), ("decalign", "table5", 0.735)]
    assert [score.value for score in find(SCORES, "decalign", "mosi", variant="w/o Hete")] == [0.754, 0.8403]
    assert {score.table for score in find(SCORES, "slad", "sims", variant="full")} == {"table2", "table3"}
    assert {score.metric for score in find(SCORES, "misa", "iemocap", "6way_session5")} == {"wacc", "waf1"}
    assert find(SCORES, "misa", "iemocap") == []


def test_it_needs_no_torch_and_no_pandas() -> None:
    code = (
        "import sys; from mmbench.results.published import load_published; load_published(); print({'torch', 'pandas', 'scipy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# Files of one's own -------------------------------------------------------------------------------------------------------------

GOOD = """\
title: A paper
citation: Somebody (2026).
setting: three seeds
seeds: 3
models: {Mine: linear}
footnotes: {odd: Looks odd.}
tables:
  table1:
    title: Everything
    columns:
      mosi: {MAE: mae, Acc2: acc2_has0/acc2_non0}
    marks: {a: run by others}
    notes: {odd: mosi.mae}
    rows:
      Mine: 0.730±0.012 84.10±0.4/86.00
      Other: {values: ~ 80.0/81.0, mark: a, setting: aligned, seeds: 1, notes: {odd: acc2_non0}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "paper.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_ones_own(tmp_path) -> None:
    first, has0, non0, *other = load_published(written(tmp_path, GOOD))
    assert (first.source, first.table, first.method, first.model, first.heading) == ("paper", "table1", "Mine", "linear", "MAE")
    assert (first.printed, first.value, first.sd, first.seeds, first.setting, first.notes) == ("0.730", 0.73, 0.012, 3, "three seeds", ("odd",))
    assert (has0.metric, has0.printed, has0.value, has0.sd) == ("acc2_has0", "84.10", 0.841, 0.004)
    assert (non0.metric, non0.value, non0.sd, non0.notes) == ("acc2_non0", 0.86, None, ())
    assert [(score.metric, score.value, score.notes) for score in other] == [("acc2_has0", 0.8, ()), ("acc2_non0", 0.81, ("odd",))]
    assert {(score.model, score.origin, score.setting, score.seeds) for score in other} == {("", "run by others", "aligned", 1)}


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("0.730±0.012 ", "", ("tables.table1.rows.Mine", "1 values for 2 columns")),
        ("84.10±0.4/86.00", "84.10", ("tables.table1.rows.Mine", "'84.10' is 1 numbers in a column of 2")),
        ("0.730±0.012", "nan", ("tables.table1.rows.Mine", "'nan' is no number")),
        ("0.730±0.012", "-0.73", ("tables.table1.rows.Mine", "outside 0 to inf")),
        ("86.00", "860.0", ("tables.table1.rows.Mine", "acc2_non0", "times_100")),
        ("MAE: mae", "MAE: maee", ("tables.table1.columns.mosi.MAE", "'maee'", "mae")),
        ("mark: a", "mark: b", ("tables.table1.rows.Other", "'b'")),
        ("{odd: acc2_non0}", "{even: acc2_non0}", ("tables.table1.rows.Other", "'even'", "odd")),
        ("notes: {odd: mosi.mae}", "notes: {odd: mosei.mae}", ("tables.table1.notes.odd", "'mosei.mae' is no column")),
        ("title: Everything", "titel: Everything", ("tables.table1.titel",)),
        ("seeds: 3", "seeds: 0", ("seeds",)),
        ("      Mine: 0.730", "      Other: 0.730", ("'Other' stands twice",)),
        ("Mine: 0.730±0.012 84.10±0.4/86.00", "Mine: 0.73", ("tables.table1.rows.Mine", "string")),
        ("Mine: 0.730±0.012 84.10±0.4/86.00", "Mine: [0.73]", ("tables.table1.rows.Mine",)),
        ("rows:", "lines:", ("tables.table1.rows",)),
    ],
)
def test_a_wrong_file_is_told_where(tmp_path, old: str, new: str, parts: tuple[str, ...]) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as error:
        load_source(path)
    assert str(path) in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_names_that_do_not_exist(tmp_path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'decalign'"):
        load_published("declaign")
    with pytest.raises(ConfigError, match="Known are almt, decalign"):
        load_source("nothing")
    with pytest.raises(ConfigError, match="there is no file"):
        load_source(tmp_path / "absent.yaml")


@given(st.text(max_size=200))
def test_no_text_is_a_crash(tmp_path_factory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(ConfigError):
        load_source(path)
