"""Rows named by model and losses, data sets side by side, and published numbers beside measured ones."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmbench.cli import report
from mmbench.errors import ConfigError
from mmbench.results import pivot
from mmbench.results.formats import render
from mmbench.results.naming import abbreviated, short
from mmbench.results.published_rows import with_published
from mmbench.results.runs import find_runs
from mmbench.results.tables import ORACLE, Table, build_tables
from mmbench.strict_yaml import dump

from .folders import TARGET, make_run

MOSI: dict[str, Any] = {}
MOSEI = {"name": "mosei", "title": "CMU-MOSEI", "fingerprint": "beef"}
SIMS = {"name": "sims", "title": "CH-SIMS", "fingerprint": "cafe", "metrics": ["mae_clip1", "f1_sims"]}


def add(
    root: Path, experiment: str, model: str, losses: tuple[str, ...], scores: dict[str, list[float]], data: dict[str, Any], **settings: Any
) -> None:
    """A configuration with its config; `settings`: of the model, or of a run where they are fields of it."""
    own = {key: settings.pop(key) for key in ("floor", "adapters", "collapsed", "failed", "name") if key in settings}
    failed, name = own.pop("failed", ()), own.pop("name", experiment)
    label = f"{model}-{sum(map(ord, str((losses, settings)))):06x}"
    for index in range(len(next(iter(scores.values())))):
        found = {key: values[index] for key, values in scores.items()}
        status = "failed" if index + 1 in failed else "done"
        folder = make_run(
            root, name, index + 1, found, TARGET + next(iter(found.values())), label=label, experiment=experiment, model=model, data=data,
            losses=[{"name": loss} for loss in losses], status=status, **own,
        )  # fmt: skip
        config = {
            "name": experiment,
            "data": {"name": data.get("name", "mosi"), "path": f"/data/{experiment}"},
            "model": {"name": f"mmbench-own/{model}", "width": 8, **settings},
            "losses": [{"name": f"mmbench-own/{loss}", "weight": 1.0} for loss in losses],
            "adapters": "auto",
            "metrics": data.get("metrics", ["mae"]),
            "seeds": [index + 1],
        }
        (folder / "config.yaml").write_text(dump(config))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three models on two data sets, one of them on one alone, with a floor; each data set has configs of its own."""
    for data, name, by in ((MOSI, "mosi", 0.0), (MOSEI, "mosei", 0.1)):
        data = data | {"metrics": ["mae", "acc2_non0"]}
        add(tmp_path, f"decalign_{name}", "decalign", ("one", "two"), {"mae": [0.7 + by, 0.7 + by], "acc2_non0": [0.85, 0.85]}, data)
        add(tmp_path, f"misa_{name}", "misa", (), {"mae": [0.8 + by, 0.8 + by], "acc2_non0": [0.8, 0.8]}, data)
        add(tmp_path, f"misa_{name}", "constant", (), {"mae": [1.5, 1.5], "acc2_non0": [0.5, 0.5]}, data, floor=True, name="constant")
    add(tmp_path, "tfn_mosei", "tfn", (), {"mae": [0.6, 0.9], "acc2_non0": [0.8, 0.8]}, MOSEI | {"metrics": ["mae", "acc2_non0"]}, failed=(2,))
    return tmp_path


def tables(root: Path, rows: str = "model", **changes: Any) -> list[Table]:
    return build_tables(find_runs(root), draws=100, rows=rows, **changes)


def names(table: Table, kind: str = "method") -> list[str]:
    return [row.name for row in table.rows if row.kind == kind]


# Names --------------------------------------------------------------------------------------------------------------------------


def test_a_model_with_one_set_of_losses_is_called_by_its_name(runs: Path) -> None:
    mosei, mosi = tables(runs)
    assert names(mosi) == ["decalign", "misa"]
    assert names(mosei) == ["decalign", "misa", "tfn"]
    assert names(mosi, "floor") == ["constant"]
    assert "rows: decalign = decalign_mosi, with one + two; misa = misa_mosi" in mosi.notes


def test_several_sets_of_losses_stand_in_the_name(tmp_path: Path) -> None:
    for losses in ((), ("cmd",), ("cmd", "homogeneity")):
        for model in ("mult", "misa"):
            add(tmp_path, "matrix", model, losses, {"mae": [0.7]}, {"metrics": ["mae"]}, name=f"{model} {losses}")
    (by_model,), (by_losses,) = tables(tmp_path), tables(tmp_path, "losses")
    assert names(by_model) == ["misa", "misa + cmd", "misa + cmd + homogeneity", "mult", "mult + cmd", "mult + cmd + homogeneity"]
    assert names(by_losses) == ["none (misa)", "none (mult)", "cmd (misa)", "cmd (mult)", "cmd + homogeneity (misa)", "cmd + homogeneity (mult)"]


def test_the_losses_of_one_model_need_no_model_in_their_names(tmp_path: Path) -> None:
    for losses in (("cmd",), ()):
        add(tmp_path, "ablation", "mult", losses, {"mae": [0.7]}, {"metrics": ["mae"]}, name=str(losses))
    (table,) = tables(tmp_path, "losses")
    assert names(table) == ["none", "cmd"]


def test_several_settings_are_rows_named_by_what_differs_and_meet_across_data_sets(tmp_path: Path) -> None:
    """On the second data set the model has one setting alone; it is still that of one of the rows."""
    for width in (8, 16):
        add(tmp_path, "mosi", "mult", (), {"mae": [width / 10]}, {"metrics": ["mae"]}, width=width, name=f"wide {width}")
    add(tmp_path, "mosei", "mult", (), {"mae": [1.0]}, MOSEI | {"metrics": ["mae"]}, width=16, name="mult")
    mosei, mosi = tables(tmp_path)
    assert names(mosi) == ["mult (width=16)", "mult (width=8)"]
    assert names(mosei) == ["mult (width=16)"]
    found = pivot.pivot_of([mosei, mosi])
    assert [(next(iter(row.values())).name, sorted(row)) for row in found.rows] == [
        ("mult (width=16)", [0, 1]), ("mult (width=8)", [1]), (ORACLE, [0, 1])
    ]  # fmt: skip


def test_many_or_long_differences_leave_the_name_of_the_configuration(tmp_path: Path) -> None:
    for value in ("a" * 40, "b" * 40):
        add(tmp_path, "mosi", "mult", (), {"mae": [0.5]}, {"metrics": ["mae"]}, kind=value, name=f"mult {value[0]}")
    assert names(tables(tmp_path)[0]) == ["mult a", "mult b"]
    assert short("model.width", ["model.width", "training.width", "model.depth"]) == "model.width"
    assert short("model.width", ["model.width", "training.lr"]) == "width"
    assert abbreviated(["a" * 20, "b" * 20, "c" * 20]) == f"{'a' * 20} + 2 more"


def test_the_same_twice_is_told_apart_and_a_lost_config_is_no_error(tmp_path: Path) -> None:
    for experiment in ("first", "second"):
        add(tmp_path, experiment, "mult", ("cmd",), {"mae": [0.5]}, {"metrics": ["mae"]})
    (table,) = tables(tmp_path)
    assert names(table) == ["mult (first)", "mult (second)"]
    for path in tmp_path.glob("*/*/seed-*/config.yaml"):
        path.unlink()
    assert names(tables(tmp_path)[0]) == ["mult (first)", "mult (second)"]
    assert names(tables(tmp_path, "losses")[0]) == ["cmd (first)", "cmd (second)"]


# Side by side -------------------------------------------------------------------------------------------------------------------


def test_data_sets_stand_side_by_side(runs: Path) -> None:
    text = pivot.render(tables(runs))
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert ["CMU-MOSEI", "CMU-MOSI"] in lines
    assert ["model", "mae ↓", "acc2_non0 ↑", "mae ↓", "acc2_non0 ↑"] in lines
    rows = {line[0]: line[1:] for line in lines}
    assert rows["decalign"] == ["0.800±0.000*", "85.00±0.00*", "0.700±0.000*", "85.00±0.00*"]
    assert rows["misa"] == ["0.900±0.000+", "80.00±0.00*", "0.800±0.000+", "80.00±0.00*"]
    assert rows["tfn"] == ["0.600 (1/2)", "80.00 (1/2)"]  # best by its mean, with a seed missing; not run on the other
    assert rows["constant (floor)"] == ["1.500±0.000", "50.00±0.00", "1.500±0.000", "50.00±0.00"]
    assert [line[0] for line in lines].index("tfn") < [line[0] for line in lines].index("constant (floor)")
    assert "(k/n): k of n seeds done; such a cell takes no part in marks." in text
    assert "CMU-MOSEI: tfn_mosei: seed 2 failed" in text
    assert "seeds: 2." in text
    assert text.count("CMU-MOSI; train 1284") == 1


def test_plain_columns_of_each_group_line_up_under_its_title(runs: Path) -> None:
    lines = pivot.render(tables(runs)).splitlines()
    rules = [line for line in lines if set(line.strip()) <= {"-", " "} and line.strip()]
    over, under = rules[0], rules[1]
    starts = [match.start() for match in re.finditer(r"-+", under)]
    assert [match.start() for match in re.finditer(r"-+", over)] == [starts[1], starts[3]]
    title = lines[lines.index(over) - 1]
    assert (title.index("CMU-MOSEI"), title.index("CMU-MOSI")) == (starts[1], starts[3])


def test_wide_groups_stand_below_each_other(tmp_path: Path) -> None:
    keys = ["mae", "corr", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7"]
    for index in range(3):
        data = {"name": f"d{index}", "title": f"Data {index}", "fingerprint": str(index), "metrics": keys}
        add(tmp_path, f"e{index}", "mult", (), {key: [0.5, 0.6] for key in keys}, data)
    text = pivot.render(tables(tmp_path))
    assert sum(line.startswith("model ") for line in text.splitlines()) == 3
    assert max(len(line) for line in text.splitlines() if line.startswith(("model", "mult", "-"))) <= 180
    assert text.count("0.500") + text.count("0.550") == 6


def test_groups_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    base = {"metrics": ["mae"]}
    for index, data in enumerate(
        (base, base | {"modalities": ["text"]}, base | {"fingerprint": "x"}, base | {"simulated": True, "fingerprint": "y"})
    ):
        add(tmp_path, f"e{index}", "mult", (), {"mae": [0.5]}, data)
    add(tmp_path, "e9", "mult", (), {"mae": [0.5]}, MOSEI | base | {"protocol": "folds", "part": "first"})
    titles = pivot.titles_of(tables(tmp_path))
    assert len(set(titles)) == 5
    assert "CMU-MOSEI; protocol folds, part first" in titles
    assert any(title == "CMU-MOSI; text" for title in titles)
    assert "SIMULATED CMU-MOSI" in titles
    for format in ("plain", "github", "latex", "csv", "html", "json"):
        assert "SIMULATED" in pivot.render(tables(tmp_path), format)


def test_marks_of_rows_stand_in_their_cells(tmp_path: Path) -> None:
    add(tmp_path, "a", "mult", ("cmd",), {"mae": [0.5]}, {"metrics": ["mae"]}, adapters=[{"field": "common"}])
    add(tmp_path, "b", "mult", ("cmd",), {"mae": [0.6]}, MOSEI | {"metrics": ["mae"]}, collapsed=True)
    text = pivot.render(tables(tmp_path))
    (row,) = [line.split() for line in text.splitlines() if line.startswith("mult")]
    assert row == ["mult", "0.600§", "0.500†"]
    assert "mult (CMU-MOSEI) 1 of 1" in text


@pytest.mark.parametrize("format", ["github", "latex", "html"])
def test_other_formats_have_groups_and_all_cells(runs: Path, format: str) -> None:
    text = pivot.render(tables(runs), format)
    for part in ("0.700", "0.800", "0.900", "0.600", "CMU-MOSEI", "CMU-MOSI", "SIMULATED")[:6]:
        assert part in text
    if format == "latex":
        assert r"\multicolumn{2}{c}{CMU-MOSEI} & \multicolumn{2}{c}{CMU-MOSI} \\" in text
        assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}" in text
        rows = [line for line in text.split("\\midrule", 1)[1].split("\\bottomrule")[0].splitlines() if line.endswith(r"\\")]
        assert {line.count("&") for line in rows} == {4}
    elif format == "html":
        assert text.count('colspan="2"') == 2
        assert {line.count("</t") - 1 for line in text.splitlines() if line.startswith('<tr><th scope="row"')} == {5}
    else:
        assert "CMU-MOSEI: mae ↓" in text
        assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_data_formats_stay_one_entry_for_each_score(runs: Path) -> None:
    found = tables(runs)
    assert pivot.render(found, "csv") == render(found, "csv")
    rows = list(csv.DictReader(io.StringIO(pivot.render(found, "csv"))))
    documents = json.loads(pivot.render(found, "json"))
    assert sum(len(row["scores"]) for document in documents for row in document["rows"]) == len(rows)
    for document in documents:
        for row in document["rows"]:
            for key, cell in row["scores"].items():
                (entry,) = [
                    e
                    for e in rows
                    if (e["table"], e["configuration"], e["kind"], e["metric"]) == (document["table"], row["configuration"], row["kind"], key)
                ]
                for name in ("mean", "sd"):
                    assert (cell[name] is None and entry[name] == "") or cell[name] == float(entry[name])
                for name in ("parameters", "peak_memory_mb", "seeds_done", "seeds_all", "collapsed", "adapted"):
                    assert ("" if row[name] is None else str(row[name])) == entry[name]
                assert ("" if cell["best"] is None else str(cell["best"])) == entry["best"]


def test_tables_without_rows_leave_their_notes(tmp_path: Path) -> None:
    make_run(tmp_path, "mult", 1, {"mae": 1.0}, status="failed", reason="no data", data={"name": ""})
    text = pivot.render(tables(tmp_path))
    assert "mult: seed 1 failed: no data" in text


# Published ----------------------------------------------------------------------------------------------------------------------

SOURCE = """
title: A paper
citation: Somebody (2026). A paper.
setting: Text alone.
seeds: 3
times_100: shares
models: {MISA: misa}
footnotes: {odd: Table 2 is odd.}
tables:
  table1:
    title: Results
    columns:
      mosi: {MAE: mae, Acc-2: acc2_non0}
      mosei: {MAE: mae}
    notes: {odd: mosi.mae}
    rows:
      MISA: 0.75 82.00 0.65
      Other<b>: {values: 0.60 ~ ~, setting: From large models.}
  table2:
    title: The same again
    columns:
      mosi: {MAE: mae}
    rows:
      MISA: {values: "0.75"}
  table3:
    title: Another number
    columns:
      mosi: {MAE: mae}
    rows:
      MISA: {values: "0.70±0.01"}
  ablation:
    title: Ablation
    variants_of: MISA
    columns:
      mosi: {MAE: mae}
    rows:
      w/o all: {values: "0.99"}
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "paper.yaml"
    path.write_text(SOURCE)
    return str(path)


def test_published_numbers_stand_below_the_model_with_their_gap(runs: Path, source: str) -> None:
    mosei, mosi = with_published(tables(runs), [source])
    assert [(row.name, row.kind) for row in mosi.rows] == [
        ("decalign", "method"), ("misa", "method"), ("misa: published (paper table1)", "published"),
        ("misa: published (paper table3)", "published"), ("Other<b>: published (paper)", "published"), ("constant", "floor"),
        (ORACLE, "oracle"),
    ]  # fmt: skip
    first, second, other = (row for row in mosi.rows if row.kind == "published")
    assert (first.cells["mae"].mean, first.cells["acc2_non0"].mean) == (0.75, 0.82)
    assert first.cells["mae"].gap == pytest.approx(0.8 - 0.75)
    assert first.cells["acc2_non0"].gap == pytest.approx(0.8 - 0.82)
    assert (second.cells["mae"].sd, second.cells["mae"].n) == (0.01, 3)
    assert math.isnan(second.cells["acc2_non0"].mean)
    assert math.isnan(other.cells["mae"].gap)
    assert [row.name for row in mosei.rows if row.kind == "published"] == ["misa: published (paper)"]
    text = render([mosi], "plain")
    rows = {line.split("  ")[0]: re.split(r"\s{2,}", line.strip())[1:] for line in text.splitlines()}
    assert rows["misa: published (paper table1)"] == ["3", "0.750 (+0.050)", "82.00 (-2.00)"]
    assert rows["misa: published (paper table3)"] == ["3", "0.700±0.010 (+0.100)"]
    assert "published, paper (table1, table2, table3): Somebody (2026). A paper. Text alone. Other<b>: From large models." in text
    assert "published, paper: Table 2 is odd." in text
    assert "0.99" not in text
    assert "here: text, audio" in text
    assert "Other<b>" not in render([mosi], "html")


def test_published_numbers_take_no_part_in_marks(runs: Path, source: str) -> None:
    plain, extended = tables(runs), with_published(tables(runs), [source])
    for before, after in zip(plain, extended, strict=True):
        assert repr([row for row in after.rows if row.kind != "published"]) == repr(list(before.rows))  # NaN equals NaN as text
        assert not any(cell.best or cell.second or cell.beaten for row in after.rows if row.kind == "published" for cell in row.cells.values())


def test_no_gap_where_it_would_be_of_one_setting_among_several(tmp_path: Path, source: str) -> None:
    for width in (8, 16):
        add(tmp_path / "runs", "mosi", "misa", (), {"mae": [0.8]}, {"metrics": ["mae"]}, width=width, name=f"misa {width}")
    (table,) = with_published(tables(tmp_path / "runs", "configuration"), [source])
    assert [row.name for row in table.rows[:3]] == ["misa 16", "misa 8", "misa: published (paper table1)"]
    assert math.isnan(table.rows[2].cells["mae"].gap)
    assert any(note.startswith("misa: no gap is shown") for note in table.notes)


def test_no_gap_to_a_row_with_a_missing_seed(tmp_path: Path, source: str) -> None:
    add(tmp_path / "runs", "mosi", "misa", (), {"mae": [0.1, 0.9]}, {"metrics": ["mae"]}, failed=(2,))
    (table,) = with_published(tables(tmp_path / "runs"), [source])
    assert math.isnan(table.rows[1].cells["mae"].gap)


def test_no_gap_to_a_row_with_adapters(tmp_path: Path, source: str) -> None:
    adapters = [{"field": "common", "kind": "splitting", "parameters": 10}]
    add(tmp_path / "runs", "mosi", "misa", ("cmd",), {"mae": [0.8]}, {"metrics": ["mae"]}, adapters=adapters)
    (table,) = with_published(tables(tmp_path / "runs"), [source])
    assert (table.rows[1].kind, table.rows[1].cells["mae"].mean) == ("published", 0.75)
    assert math.isnan(table.rows[1].cells["mae"].gap)
    assert f"{table.rows[0].name}: no gap is shown, since losses with adapters are not part of the published method" in table.notes


def test_nothing_published_stands_beside_simulated_data_or_parts(tmp_path: Path, source: str) -> None:
    add(tmp_path / "a", "mosi", "misa", (), {"mae": [0.8]}, {"metrics": ["mae"], "simulated": True})
    add(tmp_path / "b", "mosi", "misa", (), {"mae": [0.8]}, {"metrics": ["mae"], "protocol": "folds", "part": "first"})
    add(tmp_path / "c", "mosi", "misa", (), {"mae": [0.8]}, {"metrics": ["mae"], "protocol": "folds"})
    add(tmp_path / "d", "sims", "misa", (), {"mae_clip1": [0.8], "f1_sims": [0.8]}, SIMS)
    found = {name: with_published(tables(tmp_path / name), [source])[0] for name in "abcd"}
    assert all(row.kind != "published" for table in found.values() for row in table.rows)
    assert "no published numbers are shown, since these data are simulated" in found["a"].notes
    assert "no published numbers are known for this data set, protocol and these scores" in found["d"].notes


def test_published_numbers_in_data_formats(runs: Path, source: str) -> None:
    found = with_published(tables(runs), [source])
    rows = [row for row in csv.DictReader(io.StringIO(render(found, "csv"))) if row["kind"] == "published"]
    assert len(rows) == 5
    first = next(row for row in rows if row["metric"] == "acc2_non0")
    assert (float(first["mean"]), float(first["gap"]), first["n"], first["best"], first["seeds_done"]) == (0.82, pytest.approx(-0.02), "3", "", "")
    document = json.loads(render(found, "json"))[1]
    scores = [row["scores"] for row in document["rows"] if row["kind"] == "published"]
    assert [sorted(own) for own in scores] == [["acc2_non0", "mae"], ["mae"], ["mae"]]


def test_the_sources_that_are_shipped_stand_in_the_report(runs: Path) -> None:
    """DecAlign's Table 1 prints an MAE of 0.735 on CMU-MOSI and 0.543 on CMU-MOSEI for itself, 0.788 and 0.594 for MISA."""
    options = [str(runs), "--rows", "model", "--columns", "dataset", "--metrics", "mae", "--published"]
    done = CliRunner().invoke(report.command, options, catch_exceptions=False)
    rows = {re.split(r"\s{2,}", line)[0]: re.split(r"\s{2,}", line)[1:] for line in done.output.splitlines()}
    assert rows["decalign: published (decalign)"] == ["0.543 (+0.257)", "0.735 (-0.035)"]
    assert rows["misa: published (decalign)"] == ["0.594 (+0.306)", "0.788 (+0.012)"]
    with pytest.raises(ConfigError, match="not scored"):
        CliRunner().invoke(report.command, [*options[:-3], "--metrics", "mse"], catch_exceptions=False)
