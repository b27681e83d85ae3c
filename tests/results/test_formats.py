"""What tables look like in each format."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.errors import ConfigError
from mmbench.results.formats import FORMATS, clean, count, duration, escape_latex, escape_markdown
from mmbench.results.runs import find_runs
from mmbench.results.tables import Cell, Column, Row, Table, build_tables, render, summary
from mmbench.results.text import memory

from .folders import TARGET, make_run

HOSTILE = "a_b & 50% {x} #1 ~^\\ <i>|*`$ \x1b[31mred\x1b[0m \x1b]0;title\x07\n\u202eend"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods of two seeds, one of them adapted and once collapsed; one with a failed seed; a floor."""
    for seed, shift in ((1, 0.0), (2, 0.02)):
        make_run(tmp_path, "misa", seed, {"mae": 0.7 + shift, "corr": 0.8, "acc2_non0": 0.85 + shift}, TARGET + np.float32(0.7 + shift))
        wrong = -50 * TARGET  # nothing right: it can be told from the other in every metric
        mult = {"mae": 0.9, "corr": 0.7, "acc2_non0": 0.5}
        make_run(tmp_path, "mult", seed, mult, wrong, adapters=[{"field": "common"}], collapsed=seed == 2, peak_memory_mb=2048.0)
    make_run(tmp_path, "tfn", 1, {"mae": 0.1, "corr": None, "acc2_non0": 0.9})
    make_run(tmp_path, "tfn", 2, status="failed", reason="non-finite loss in epoch 2")
    make_run(tmp_path, "constant", 1, {"mae": 1.5, "corr": None, "acc2_non0": 0.5}, floor=True, parameters=1, collapsed=True)
    return tmp_path


def lines_of(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip("| ").startswith(start)]


def test_plain_table_line_by_line(runs: Path) -> None:
    text = summary(runs)
    found = {
        name: re.split(r"\s{2,}", lines_of(text, name)[0]) for name in ("configuration", "misa", "mult", "tfn", "constant (floor)", "best constant")
    }
    assert found["configuration"] == ["configuration", "seeds", "mae ↓", "corr ↑", "acc2_non0 ↑", "parameters", "time/run", "memory"]
    assert found["misa"] == ["misa", "2/2", "0.710±0.014*", "0.800±0.000*", "86.00±1.41*", "12.3k", "75 s", "500 MB"]
    assert found["mult"] == ["mult†§", "2/2", "0.900±0.000+", "0.700±0.000+", "50.00±0.00+‡", "12.3k", "75 s", "2.0 GB"]
    assert found["tfn"] == ["tfn", "1/2", "0.100", "n/a", "90.00", "12.3k", "75 s", "500 MB"]
    assert found["constant (floor)"] == ["constant (floor)", "1/1", "1.500", "n/a", "50.00", "1", "75 s", "500 MB"]
    assert found["best constant"] == ["best constant on test (oracle)", "1.438", "n/a", "57.14"]
    assert "‡ not better than the best floor" in text
    assert "† with adapters" in text
    assert "mult 1 of 2." in text
    assert "tfn: seed 2 failed: non-finite loss in epoch 2" in text
    assert "sample standard deviation (n - 1)" in text
    assert "times 100" in text


def test_legend_explains_only_what_is_there(tmp_path: Path) -> None:
    make_run(tmp_path, "misa", 1, {"mae": 0.7, "corr": 0.8, "acc2_non0": 0.9})
    text = summary(tmp_path)
    for mark in ("†", "‡", "§", "*"):
        assert mark not in text


def test_legend_explains_the_chosen_scores_alone(runs: Path) -> None:
    assert "‡" in render(build_tables(find_runs(runs)))
    assert "‡" not in render(build_tables(find_runs(runs), shown=["mae"]))


def test_rows_that_are_one_run_under_two_names_are_explained(tmp_path: Path) -> None:
    make_run(tmp_path / "one", "w/o x = y", 1, {"mae": 0.7, "corr": 0.8, "acc2_non0": 0.85}, label="toy-000001")
    assert "a = b: equal by construction, one run under two names." in summary(tmp_path / "one")
    make_run(tmp_path / "other", "a", 1, {"mae": 0.7, "corr": 0.8, "acc2_non0": 0.85})
    assert "equal by construction" not in summary(tmp_path / "other")


def test_plain_columns_line_up(runs: Path) -> None:
    lines = summary(runs).splitlines()
    rule = next(line for line in lines if line.startswith("---"))
    gaps = [match.start() for match in re.finditer("  ", rule)]
    body = lines[lines.index(rule) + 1 : lines.index("", lines.index(rule))]
    assert len(body) == 5
    for line in body:
        assert all(line.ljust(len(rule))[gap : gap + 2] == "  " for gap in gaps)


def test_github_table_is_rectangular_and_marked(runs: Path) -> None:
    text = render(build_tables(find_runs(runs)), "github")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert re.fullmatch(r"\|( :?-+:? \|)+", table[1])
    assert "**0.710 ± 0.014**" in text
    assert "<ins>50.00 ± 0.00</ins>‡" in text
    assert text.startswith("### CMU-MOSI")


def test_csv_has_raw_numbers_and_every_row(runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(render(build_tables(find_runs(runs)), "csv"))))
    assert len(rows) == 5 * 3
    misa = next(row for row in rows if (row["configuration"], row["metric"]) == ("misa", "acc2_non0"))
    assert float(misa["mean"]) == pytest.approx(0.86)
    assert float(misa["sd"]) == pytest.approx(0.0002**0.5)
    assert (misa["n"], misa["seeds_done"], misa["seeds_all"], misa["simulated"], misa["modalities"]) == ("2", "2", "2", "", "text audio")
    tfn = next(row for row in rows if (row["configuration"], row["metric"]) == ("tfn", "corr"))
    assert (tfn["mean"], tfn["sd"], tfn["n"], tfn["seeds_done"], tfn["seeds_all"]) == ("", "", "1", "1", "2")
    assert {row["kind"] for row in rows} == {"method", "floor", "oracle"}


def test_simulated_stands_in_every_format(tmp_path: Path) -> None:
    make_run(tmp_path, "misa", 1, data={"simulated": True})
    tables = build_tables(find_runs(tmp_path))
    for format in FORMATS:
        assert "SIMULATED" in render(tables, format)


def test_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are plain, github, latex, csv, html, json"):
        render([], "word")


def test_hostile_names_cannot_break_a_table(tmp_path: Path) -> None:
    make_run(tmp_path, HOSTILE, 1, label="x-1", data={"title": HOSTILE})
    make_run(tmp_path, "misa", 1, status="failed", reason=HOSTILE)
    tables = build_tables(find_runs(tmp_path))
    for format in FORMATS:
        text = render(tables, format)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        assert "title" not in text
        assert "red" in text
    table = [line for line in render(tables, "github").splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "<i>" not in render(tables, "github")


def test_latex_structure(runs: Path) -> None:
    text = render(build_tables(find_runs(runs)), "latex")
    body = text.split("\\midrule", 1)[1].split("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns is not None
    assert len(rows) == 5
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns[1]) - 1}
    assert r"\textbf{0.710 $\pm$ 0.014}" in text
    assert r"\underline{50.00 $\pm$ 0.00}\textsuperscript{\ddag}" in text
    assert r"acc2\_non0 $\uparrow$" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert text.count("\\midrule") == 2
    assert all(ord(char) < 128 for char in text)


class Page(HTMLParser):
    """What a browser makes of a fragment: its elements with their attributes, and the cells of each row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_html_is_a_table_of_its_own(runs: Path) -> None:
    page = Page(render(build_tables(find_runs(runs)), "html"))
    assert not page.open
    assert page.rows[0] == ["configuration", "seeds", "mae ↓", "corr ↑", "acc2_non0 ↑", "parameters", "time/run", "memory"]
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["misa"] == ["2/2", "0.710 ± 0.014", "0.800 ± 0.000", "86.00 ± 1.41", "12.3k", "75 s", "500 MB"]
    assert rows["mult†§"][3] == "50.00 ± 0.00‡"
    assert rows["constant (floor)"][0] == "1/1"
    assert {len(row) for row in page.rows} == {8}
    assert not any(key in ("src", "href", "onclick", "id") for _, attributes in page.seen for key in attributes)


@given(st.text(max_size=40))
def test_no_name_becomes_markup(name: str) -> None:
    row = Row(name + "<b>", "method", {"k<i>": Cell(0.5, 0.1, 2)}, 2, 2)
    table = Table(f"<script>{name}", False, (Column("k<i>", True, True),), (row,), (name + '"><img src=x onerror=y>',), {})
    page = Page(render([table], "html"))
    assert not page.open
    assert {tag for tag, _ in page.seen} <= {"section", "h2", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert page.rows[1][0] == clean(name + "<b>")
    assert "k<i>" in page.rows[0][2]


def test_json_has_what_the_csv_has(runs: Path) -> None:
    tables = build_tables(find_runs(runs))
    (document,) = json.loads(render(tables, "json"))
    rows = {row["configuration"]: row for row in document["rows"]}
    assert document["columns"][0] == {"metric": "mae", "higher_is_better": False, "percent": False}
    assert rows["misa"]["scores"]["mae"] | {"mean": None, "sd": None} == {
        "mean": None, "sd": None, "n": 2, "best": 1, "second": 0, "beaten": 0, "gap": None
    }  # fmt: skip
    assert rows["misa"]["scores"]["mae"]["mean"] == pytest.approx(0.71)
    assert (rows["misa"]["seeds"], rows["misa"]["peak_memory_mb"], rows["misa"]["seconds"], rows["misa"]["parameters"]) == ([1, 2], 500, 75, 12345)
    assert (rows["mult"]["adapted"], rows["mult"]["collapsed"], rows["mult"]["scores"]["acc2_non0"]["beaten"]) == (1, 1, 1)
    assert rows["tfn"]["scores"]["corr"]["mean"] is None
    assert (rows["tfn"]["seeds_done"], rows["tfn"]["seeds_all"]) == (1, 2)
    assert rows["constant"]["kind"] == "floor"
    assert "tfn: seed 2 failed: non-finite loss in epoch 2" in document["notes"]
    assert document["simulated"] is False


def test_data_formats_of_nothing() -> None:
    assert json.loads(render([], "json")) == []
    assert render([], "csv").startswith("table,data,")
    assert len(render([], "csv").splitlines()) == 1


@pytest.mark.parametrize(("value", "text"), [(float("nan"), ""), (12.4, "12 MB"), (999.4, "999 MB"), (1024, "1.0 GB"), (81559, "79.6 GB")])
def test_sizes(value: float, text: str) -> None:
    assert memory(value) == text


@given(st.text(max_size=30))
def test_escapes_leave_no_special_character_bare(text: str) -> None:
    commands = r"\\text[a-z]+\{\}|\{[][`*]\}|\$\\?[\w^{}\\-]+\$|\\[a-zA-Z]+\{\}|(\\(?:[`'^~=.\"]|[urHvc]\b)\{)+\w\}+"
    latex = escape_latex(text)
    assert latex.isascii()
    assert not re.search(r"(?<!\\)[&%$#_{}~^]", re.sub(commands, "", latex))
    assert not re.search(r"(?<!\\)(?:\\\\)*[|*`]", re.sub(r"\\.", "", escape_markdown(text)))
    assert clean(clean(text)) == clean(text)
    assert "\x1b" not in clean(text)
    assert "\n" not in clean(text)


def test_underscores_are_escaped_in_markdown_only_where_they_mean_something() -> None:
    assert escape_markdown("acc2_non0") == "acc2_non0"
    assert escape_markdown("_x_") == r"\_x\_"
    assert escape_markdown("<b>&") == "&lt;b&gt;&amp;"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1000, "1k"), (12345, "12.3k"), (999_999, "1000k"), (1_250_000, "1.25M"), (3 * 10**9, "3G")]
)
def test_parameter_counts(value: int, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.84, "0.8 s"), (9.96, "10 s"), (99.4, "99 s"), (99.6, "1.7 min"), (5999, "1.7 h"), (7560, "2.1 h")])
def test_durations(value: float, text: str) -> None:
    assert duration(value) == text
