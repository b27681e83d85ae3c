"""Every LaTeX output compiles as it says, whatever names users give, and fits the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmbench.results import grid_formats, pivot
from mmbench.results.comparison_formats import baseline_text
from mmbench.results.formats import escape_latex, render
from mmbench.results.grid import build_grids
from mmbench.results.latex import HEADER
from mmbench.results.published_rows import with_published
from mmbench.results.runs import RunRecord, find_runs
from mmbench.results.tables import build_tables
from mmbench.strict_yaml import dump

from .folders import TARGET, make_run

HOSTILE = r"[a]*_b & 50% {x} $y$ #1 ~^\ <i>|`'\" é ö ǘ ñ ç ž ß ø ł ω Ω σ ς µ ± − × → ≤ … “q” – 中文 😀 \input{x} \\[2pt] --"  # noqa: RUF001
pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    """Two data sets with hostile names everywhere, eight scores, losses, a failed seed, floors, refusals, and marks of every kind."""
    root = tmp_path_factory.mktemp("runs")
    scores = ("mae", "corr", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7")
    rng = np.random.default_rng(1)

    def add(name: str, seed: int, size: float, losses: tuple[str, ...], data: dict[str, Any], **changes: Any) -> None:
        prediction = (TARGET + size * rng.normal(size=8)).astype(np.float32)
        label = f"toy-{sum(map(ord, name + str(data) + str(losses))):06x}"
        own = {"losses": [{"name": loss} for loss in losses], "model": "mult", "label": label} | changes
        folder = make_run(root, name, seed, prediction=prediction, data=data, **own)
        config = {"model": {"name": own["model"], "width": name}, "losses": [{"name": loss} for loss in losses], "data": {"name": data["name"]}}
        (folder / "config.yaml").write_text(dump(config))

    for data in (
        {"name": "mosi", "title": HOSTILE, "metrics": list(scores), "modalities": ["text", "αudio"], "layout": "aligned"},  # noqa: RUF001
        {"name": "mosei", "title": "[B] x", "metrics": list(scores), "fingerprint": "beef", "simulated": True},
    ):
        for seed in (1, 2):
            add(HOSTILE, seed, 0.2, (), data, adapters=[{"field": "common", "kind": "trained", "parameters": 3}], collapsed=seed == 2)
            add("[second]", seed, 0.4, ("*loss_中",), data)
            add("third", seed, 3.0, ("*loss_中",), data, status="done" if seed == 1 else "failed", reason=HOSTILE)
            add("constant", seed, 1.0, (), data, floor=True, model="constant", label=f"constant-{data['name']}")
    make_run(root, "refused", 1, label="refused-1", status="incompatible", reason=HOSTILE, data={"metrics": list(scores), "title": HOSTILE})
    return find_runs(root)


def outputs(records: list[RunRecord]) -> dict[str, str]:
    tables = build_tables(records, draws=100)
    by_model = build_tables(records, draws=100, rows="model")
    return {
        "tables": render(tables, "latex"),
        "published": render(with_published(tables), "latex"),
        "model": pivot.render(with_published(by_model), "latex"),
        "losses": pivot.render(build_tables(records, draws=100, rows="losses"), "latex"),
        "grid": grid_formats.render(build_grids(records, "mae", draws=100), "latex"),
        "baseline": baseline_text(records, "constant", "latex", 100),
    }


def compiled(folder: Path, text: str) -> str:
    """The log of pdfLaTeX with the packages that the text's first line names, and no others."""
    needed = re.findall(r"\\usepackage\{\w+\}", text.splitlines()[0])
    head = "\n".join(["\\documentclass{article}", *needed, "\\begin{document}"])
    (folder / "t.tex").write_text(f"{head}\n{text}\\end{{document}}\n", encoding="ascii")
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=folder, capture_output=True, text=True, timeout=120, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "t.log").read_text(errors="replace")


@pdflatex
@pytest.mark.parametrize("name", ["tables", "published", "model", "losses", "grid", "baseline"])
def test_every_output_compiles(records: list[RunRecord], tmp_path: Path, name: str) -> None:
    text = outputs(records)[name]
    assert "SIMULATED" in text
    log = compiled(tmp_path, text)
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\) in (?:alignment|paragraph)", log)]
    assert max(wide, default=0) < 400  # of names that cannot be broken; the tables themselves are in boxes that fit
    assert re.search(r"Output written on t.pdf", log)


@pdflatex
def test_a_table_that_is_too_wide_is_shrunk_and_a_small_one_is_not(records: list[RunRecord], tmp_path: Path) -> None:
    """The width that each table has on the page, as TeX measures it."""
    make_run(tmp_path / "runs", "misa")
    small_one = render(build_tables(find_runs(tmp_path / "runs"), shown=["mae"], draws=0), "latex")
    text = outputs(records)["model"] + small_one
    tabulars = re.findall(r"(\\resizebox.*?\n\\end\{tabular\}%\n\})", text, flags=re.S)
    assert len(tabulars) == 2
    body = "".join(f"\\sbox0{{{tabular}}}\\typeout{{WIDTH \\the\\wd0 OF \\the\\textwidth}}\n" for tabular in tabulars)
    found = re.findall(r"WIDTH ([\d.]+)ptOF ([\d.]+)pt", compiled(tmp_path, f"{HEADER}\n\\setlength{{\\textwidth}}{{500pt}}\n{body}"))
    (wide, page), (small, _) = [(float(own), float(all_of_it)) for own, all_of_it in found]
    assert wide == pytest.approx(page, abs=0.1)
    assert small < page


@pdflatex
@pytest.mark.parametrize("count", [3, 60])
def test_explanations_never_make_a_float_longer_than_its_page(records: list[RunRecord], tmp_path: Path, count: int) -> None:
    make_run(tmp_path / "runs", "misa")
    (table,) = build_tables(find_runs(tmp_path / "runs"), draws=0)
    text = render([replace(table, notes=("A note that is longer than a line of the page. " * 5,) * count)], "latex")
    assert (text.index("\\end{table*}") > text.index("A note")) == (count == 3)
    assert "Float too large" not in compiled(tmp_path, text)


@pdflatex
def test_all_characters_of_the_tables_of_escapes_compile(tmp_path: Path) -> None:
    from mmbench.results.text import ACCENTS, LATEX

    lines = [*LATEX, *(f"e{mark}" for mark in ACCENTS), *(f"ü{mark}" for mark in ACCENTS), *map(chr, range(32, 0x250)), "\u0301", "中"]
    body = "\\begin{tabular}{l}\n" + " \\\\\n".join(map(escape_latex, lines)) + "\n\\end{tabular}\n"
    compiled(tmp_path, f"{HEADER}\n{body}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("é", r"\'{e}"), ("e\u0301", r"\'{e}"), ("ω", r"$\omega$"), ("Ω", r"$\Omega$"), ("λ", r"$\lambda$"), ("ς", "(U+03C2)"), ("中", "(U+4E2D)"),
        ("a\u202eb\x00", "ab"), ("[x]*", "{[}x{]}{*}"), ("ǘ", r"\'{\"{u}}"), ("😀", "(U+1F600)"),
    ],
)  # fmt: skip
def test_escapes_by_hand(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


@given(st.text(max_size=40))
def test_what_is_escaped_is_ascii_and_balanced(text: str) -> None:
    found = escape_latex(text)
    assert found.isascii()
    bare = re.sub(r"\\[{}\\]", "", found)
    assert bare.count("{") == bare.count("}")
    assert "\n" not in found


def test_the_header_says_what_is_needed(records: list[RunRecord]) -> None:
    for name, text in outputs(records).items():
        assert text.startswith(HEADER), name
        assert text.isascii(), name
