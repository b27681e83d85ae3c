"""What the documentation says works: its blocks of code are executed, page by page, in a folder where the quickstart was made first.

A block is executed unless a comment above it, ``<!-- not run: why -->``, says why it cannot be; its commands are then read as mmbench would read
them. A block of YAML begins with the name of its file. A block with a title is the file of that name, which `test_site.py` compares.
"""

import inspect
import os
import re
import runpy
import shlex
from collections.abc import Iterator
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
from click.testing import CliRunner

from mmbench import hookspecs
from mmbench.cli import cli
from mmbench.data.content import Content
from mmbench.data.manifest import load_manifest
from mmbench.plugins import catalogue

ROOT = Path(__file__).parent.parent
DOCS, MINE = ROOT / "docs", ROOT / "examples" / "mmbench-mine"
BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLUGINS = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}
LACKING = [name for name in ("material", "torch", "matplotlib") if find_spec(name) is None] + sorted(
    PLUGINS - {distribution.name for distribution in distributions()}
)
everything = pytest.mark.skipif(bool(LACKING), reason=f"guides are executed where the site is built (tox -e docs); here is no {', '.join(LACKING)}")


class Block(NamedTuple):
    """One block of code: why it is not run (or nothing), its language, the file that it lists (or nothing), its text."""

    reason: str
    language: str
    listing: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text())]


PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "Written by docs/generate.py" not in path.read_text() and blocks(path)]
OTHERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs" / "papers" / "README.md", *sorted(ROOT.glob("plugins/*/README.md"))]
FIRST = DOCS / "start" / "quickstart.md"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block of shell lines."""
    lines = re.sub(r"(^| )#.*", "", text.replace("\\\n", " "), flags=re.MULTILINE).split("\n")
    return [words for line in lines for part in re.split(r"&&|; ", line) if (words := shlex.split(part))]


def parse(words: list[str]) -> None:
    """Read a command as mmbench would, and do nothing. ClickException: it would refuse it."""
    context: click.Context | None = None
    command: click.Command = cli
    name, arguments = "mmbench", words[1:]
    while True:
        context = command.make_context(name, list(arguments), parent=context)
        if not isinstance(command, click.Group):
            return
        rest = [*getattr(context, "_protected_args", ()), *context.args]  # the second has all from click 9 on
        name, found, arguments = command.resolve_command(context, rest)
        assert found is not None, words
        command = found


def mmbench(words: list[str]) -> str:
    done = CliRunner().invoke(cli, words[1:])
    assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
    return done.output


def execute(page: Path, folder: Path) -> Iterator[str]:
    """Run the blocks of a page; what its commands print."""
    for block in blocks(page):
        if block.listing or block.language == "text":
            continue
        if block.reason:
            assert block.language == "sh"
            for words in commands(block.text):
                if words[0] == "mmbench":
                    parse(words)
        elif block.language == "yaml":
            name = re.match(r"# (\S+\.yaml)\n", block.text)
            assert name, f"{page}: a block of YAML begins with the name of its file"
            (folder / name[1]).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), {"__name__": "guide"})
        else:
            assert block.language == "sh", f"{page}: a block is sh, python, yaml or text, not {block.language!r}"
            for words in commands(block.text):
                assert words[0] == "mmbench", f"{page}: {words}: only mmbench is run here; say why this is not"
                yield mmbench(words)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Path]:
    """A folder with the runs of the quickstart, where the package of the examples is installed."""
    folder, site = tmp_path_factory.mktemp("guides"), tmp_path_factory.mktemp("site")
    info = site / "mmbench_mine-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmbench-mine\nVersion: 0.1\n")
    section = re.search(r"\[project\.entry-points\.mmbench\]\n(.*)", (MINE / "pyproject.toml").read_text(), re.DOTALL)
    assert section
    (info / "entry_points.txt").write_text("[mmbench]\n" + section[1].replace('"', ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(MINE / "src"), str(site), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("MMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.syspath_prepend(str(MINE / "src"))
        patch.syspath_prepend(str(site))
        patch.chdir(folder)
        catalogue.cache_clear()
        list(execute(FIRST, folder))
        yield folder
    catalogue.cache_clear()


@everything
@pytest.mark.parametrize("page", [page for page in PAGES if page != FIRST], ids=name_of)
def test_the_blocks_of_a_page(page: Path, world: Path) -> None:
    list(execute(page, world))


@everything
def test_the_script_that_reads_runs(world: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["read_runs.py", "runs"])
    runpy.run_path(str(ROOT / "examples" / "read_runs.py"))
    shown = capsys.readouterr().out
    assert "decalign-" in shown
    assert "constant-" in shown


@pytest.mark.parametrize("page", OTHERS, ids=name_of)
def test_commands_of_other_pages_are_commands(page: Path) -> None:
    for block in blocks(page):
        for words in commands(block.text) if block.language in ("", "sh") else []:
            if words[0] == "mmbench":
                parse(words)


OF_READMES = [
    pytest.param(block.text, id=f"{page.parent.name}-{number}")
    for page in sorted(ROOT.glob("plugins/*/README.md"))
    for number, block in enumerate(blocks(page))
    if block.language == "yaml"
]
WITHIN = {"model": "slad_mosi", "tune": "lf_dnn_mosi", "executor": "lf_dnn_mosi", "aligner": "extract/mosi"}
"""The config that a part begins with this key is shown for; what begins otherwise is a whole one."""


@everything
@pytest.mark.parametrize("text", OF_READMES)
def test_the_yaml_of_a_plugins_readme_is_a_config(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmbench.extraction.config import load_plan
    from mmbench.resolve import Checker, load
    from mmbench.tuning.search import load_search

    monkeypatch.setattr(Checker, "check_extras", lambda *_: None)  # a config is right wherever it is run
    path, first = tmp_path / "block.yaml", text.partition(":")[0]
    path.write_text(f"extends: {WITHIN[first]}.yaml\n{text}" if first in WITHIN else text)
    if first in ("data", "aligner"):
        assert load_plan(path).choices
    else:
        cells = load_search(path).first if first == "tune" else load(path)
        assert [refusal for cell in cells for refusal in cell.fit.refusals] == []


def test_every_hook_is_documented() -> None:
    hooks = [name for name, value in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("mmbench_")]
    assert hooks
    assert [name for name in hooks if f"def {name}(" not in (DOCS / "extend" / "index.md").read_text()] == []


def test_the_example_format_reads_what_it_says(tmp_path) -> None:
    (block,) = [block for block in blocks(DOCS / "extend" / "more.md") if "class MineFormat" in block.text]
    names: dict = {}
    exec(block.text, names)
    path = tmp_path / "mine.npz"
    labels = np.linspace(-3, 3, 6)
    splits = np.array(["train", "test", "valid", "train", "test", "valid"])
    np.savez(path, id=np.array([f"v_{i}" for i in range(6)]), label=labels, split=splits, audio=np.ones((6, 4, 2)))
    reader = names["MineFormat"]()
    assert reader.recognises(path)
    assert not reader.recognises(ROOT / "README.md")
    content = Content(path, load_manifest("mosi"), reader.read(path, load_manifest("mosi")), {"name": "mine", "version": reader.version})
    assert content.columns["test/target"].rows(0, 2).tolist() == pytest.approx([-1.8, 1.8])
    assert set(content.problems) == {"text", "vision", "tokens"}


@pytest.mark.skipif(find_spec("torch") is None, reason="reading the extractors' options needs their package")
@pytest.mark.skipif(find_spec("mmbench_extractors") is None, reason="the config names its extractors")
def test_the_extraction_of_the_guide_is_valid(tmp_path, monkeypatch) -> None:
    from mmbench.data.own import write_manifest
    from mmbench.extraction.config import load_plan

    monkeypatch.chdir(tmp_path)
    rows = ["video_id,clip_id,text,label,mode"]
    for mode in ("train", "valid", "test"):
        (tmp_path / "recordings" / "Raw" / mode).mkdir(parents=True)
        (tmp_path / "recordings" / "Raw" / mode / "0.mp4").touch()
        rows.append(f"{mode},0,what was said,0.5,{mode}")
    (tmp_path / "recordings" / "label.csv").write_text("\n".join(rows))
    write_manifest(Path("recordings"))

    (block,) = [block for block in blocks(DOCS / "start" / "recordings.md") if block.language == "yaml"]
    (tmp_path / "features.yaml").write_text(block.text)
    plan = load_plan(tmp_path / "features.yaml", ())
    assert list(plan.modalities) == ["text", "audio", "vision"]
