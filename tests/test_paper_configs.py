"""The targets of both papers: every one is valid, names configs that exist, and covers what the paper prints."""

import functools
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from mmbench.compose import find_config
from mmbench.errors import ConfigError
from mmbench.files import shipped
from mmbench.reproduction.target import load_target, target_names
from mmbench.resolve import load as load_config
from mmbench.results.published import load_source

load = functools.cache(load_config)
PLUGINS = ("mmbench_baselines", "mmbench_decalign", "mmbench_extractors", "mmbench_slad")
needs_plugins = pytest.mark.skipif(not all(map(find_spec, PLUGINS)), reason="needs the plugins of this repository")
NO_TARGET = {
    "decalign": {"table3": "counts of the data sets", "table4": "hyperparameters, which are the configs", "figure2": "a drawing of the method"},
    "slad": {
        "table4": "hyperparameters, which are the configs",
        "figure1": "an example",
        "figure2": "a drawing of the method",
        "figure3": "a drawing of the label sets",
    },
}
PRINTED = {"decalign": (7, 5), "slad": (5, 5)}
"""How many tables and figures each paper has."""
BESIDE = {"full"}
"""Rows that a target adds to the printed ones for comparison."""


def test_every_table_and_figure_has_a_target_or_a_reason() -> None:
    names = target_names()
    for paper, (tables, figures) in PRINTED.items():
        wanted = [f"table{i}" for i in range(1, tables + 1)] + [f"figure{i}" for i in range(1, figures + 1)]
        for item in wanted:
            there = f"{paper}/{item.replace('figure', 'fig')}" in names
            assert there != (item in NO_TARGET[paper]), item
        for table in load_source(paper).tables:
            assert f"{paper}/{table.replace('figure', 'fig')}" in names


@pytest.mark.parametrize("name", target_names())
def test_a_target_is_valid(name: str) -> None:
    target = load_target(name)
    assert target.config.title.startswith({"decalign": "DecAlign", "slad": "SLaD"}[name.partition("/")[0]])
    assert target.groups
    for variant, changed in target.config.variants.items():
        assert "our choice" in changed.about
        used = {config for row in target.rows.values() for config in row.configs.values()} | set(target.config.sweep.values())
        assert set(changed.configs) == used & {config for config in used if config.startswith("slad_")}, variant
        load_target(name, variant)


@pytest.mark.parametrize("name", target_names())
def test_rows_are_those_of_the_paper_in_its_order(name: str) -> None:
    target = load_target(name)
    printed = list(dict.fromkeys(score.variant or score.method for score in target.printed()))
    if not printed or not target.rows:
        return
    full = next((score.method for score in target.printed() if not score.variant), "")
    printed = ["full" if target.config.sweep and row == full else row for row in printed]
    rows = [row for row in target.rows if row not in BESIDE or row in printed]
    assert rows == printed
    for row, config in target.rows.items():
        own = {score.metric for score in target.printed() if (score.variant or score.method) == row}
        assert {score.metric for score in target.published_of(row, config).values()} >= own
        assert target.published_of(row, config), row


@pytest.mark.parametrize("name", target_names())
def test_every_config_that_a_target_names_exists(name: str) -> None:
    target = load_target(name)
    for variant in ("", *target.config.variants):
        chosen = load_target(name, variant)
        for row in chosen.rows.values():
            for group in chosen.groups:
                if config := chosen.config_of(row, group.dataset):
                    assert find_config(config).is_file()
        assert set(chosen.config.sweep) <= {group.dataset for group in chosen.groups}


@needs_plugins
@pytest.mark.parametrize("name", target_names())
def test_every_config_is_on_its_data_set_and_has_the_cells(name: str) -> None:
    target = load_target(name)
    for variant in ("", *target.config.variants):
        chosen = load_target(name, variant)
        for group in chosen.groups:
            cells = load(chosen.config.sweep[group.dataset]) if group.dataset in chosen.config.sweep else []
            for row_name, row in chosen.rows.items():
                found = [cell for cell in cells if cell.experiment.row == row.cell] if row.cell else []
                if group.dataset in row.configs:
                    found = load(chosen.config_of(row, group.dataset))
                assert len(found) == bool(row.cell or group.dataset in row.configs), row_name
                for cell in found:
                    assert cell.manifest.name == group.dataset
                    assert not group.protocol or cell.manifest.protocol == group.protocol
                    known = set(cell.experiment.metrics or cell.manifest.metrics)
                    assert {metric for heading in group.headings for metric in heading.metrics} <= known
                    assert not cell.fit.refusals
            if not chosen.rows:
                assert len(cells) in (24, 25)


@needs_plugins
def test_the_figure_is_a_sweep_of_the_papers_axes() -> None:
    cells = [cell.experiment.row for cell in load(load_target("slad/fig4").config.sweep["sims"])]
    assert len(cells) == 24
    printed = {score.variant for score in load_target("slad/fig4").printed() if score.variant}
    assert printed <= set(cells)


def test_targets_are_listed_without_torch_and_plugins(tmp_path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nsys.argv = ['mmbench', 'reproduce']\nfrom mmbench.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not [name for name in sys.modules if name.startswith('mmbench_')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for name in target_names():
        assert name in done.stdout
    assert "ablation on CH-SIMS" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: a\nshows: b\n", "columns: must be given"),
        ("title: a\nshows: b\ncolumns: {mosi: {MAE: mae}}\n", "rows: must be given"),
        ("title: a\nshows: b\ncolumns: {mosi: {MAE: mae}}\nrows: {x: {cell: y}}\n", "the target has no sweep"),
        ("title: a\nshows: b\nclumns: {}\n", "target.yaml:3:1: clumns"),
        ("title: a\nshows: b\ncolumns: {mosi: {MAE: mae}}\nrows: {x: null}\nfigures: [{kind: pie}]\n", "figures.0.kind"),
        ("title: a\nshows: b\ncolumns: {mosi: {MAE: mae}}\nrows: {x: null}\nfigures: [{kind: bubble, rows: [y]}]\n", "there is no row 'y'"),
        ("title: 3\nshows: b\ncolumns: {mosi: {MAE: mae}}\nrows: {x: null}\n", "title"),
    ],
)
def test_a_mistake_in_a_target_is_named_with_its_place(text: str, said: str, tmp_path) -> None:
    path = tmp_path / "target.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_target(str(path))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_target_of_the_readme_is_valid(tmp_path) -> None:
    readme = shipped("configs") / "papers" / "README.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", readme.read_text(), re.DOTALL)
    (tmp_path / "target.yaml").write_text(block)
    target = load_target(str(tmp_path / "target.yaml"), "features")
    assert [heading.text for heading in target.groups[0].headings] == ["Acc-2", "MAE"]
    assert target.rows["w/o Homo"].marks == {"MFD": True, "Homo": False}


def test_a_wrong_name_is_helped() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'decalign/table2'"):
        load_target("decalign/tabel2")
    with pytest.raises(ConfigError, match="there is features"):
        load_target("slad/table3", "featurs")
