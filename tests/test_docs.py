"""What the documentation says works: its blocks of code are executed, page by page, in a folder where the quickstart was made first.

A block is executed as it stands, or with a comment above it:

``<!-- run short: OPTIONS -->``  its commands get these options too, where they have them: fewer seeds, samples and epochs than a reader's
``<!-- not run: why -->``        it cannot be executed; its commands are read as mmbench would read them, and their configs are loaded

Files that a page asks for are small ones that `stand_ins` lays. A block of YAML begins with the name of its file. A block with a title is the file
of that name, which `test_site.py` compares. A block of text shows a folder, which is looked for, or what the commands above it have printed: its
lines have to be among theirs, with other numbers.
"""

import inspect
import os
import re
import runpy
import shlex
import shutil
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
from mmbench.cli.options import execution
from mmbench.data.content import Content
from mmbench.data.manifest import load_manifest
from mmbench.plugins import catalogue
from mmbench.resolve import load
from stand_ins import forked_runs, lay_mosi, lay_recordings, lay_settings

ROOT = Path(__file__).parent.parent
DOCS, MINE = ROOT / "docs", ROOT / "examples" / "mmbench-mine"
BLOCK = re.compile(r"(?:^<!-- (not run|run short): ([^\n]+) -->\n)?^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLUGINS = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}
LACKING = [name for name in ("material", "torch", "matplotlib") if find_spec(name) is None] + sorted(
    PLUGINS - {distribution.name for distribution in distributions()}
)
everything = pytest.mark.skipif(bool(LACKING), reason=f"guides are executed where the site is built (tox -e docs); here is no {', '.join(LACKING)}")


class Block(NamedTuple):
    """One block of code: how it is run and why or with which options, its language, the file that it lists (or nothing), its text."""

    how: str
    note: str
    language: str
    listing: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text())]


PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "Written by docs/generate.py" not in path.read_text() and blocks(path)]
OTHERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs" / "papers" / "README.md", *sorted(ROOT.glob("plugins/*/README.md"))]
FIRST, SECOND = DOCS / "start" / "quickstart.md", DOCS / "start" / "first-comparison.md"
QUICK = ["--set", "data.samples=120", "--set", "training.epochs=2"]
SHORT = ["--set", "training.epochs=1", "--seeds", "1-2"]
EXAMPLE = re.compile(r"(runs/)?(\w+)/((\w+)-0a1b2c3d4e5f)")


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


def found_here(word: str) -> str:
    """A word of a command as a shell and a reader would write it: the home folder, and for the example of a folder's name one that is there.

    Where that one is not in ``runs``, somebody has sent it.
    """
    if example := EXAMPLE.match(word):
        runs, experiment, name, model = example.groups()
        (folder,) = Path("runs", experiment).glob(f"{model}-*")
        if not runs:
            shutil.copytree(folder, Path(experiment, folder.name), dirs_exist_ok=True)
        return word.replace(name, folder.name)
    return word.replace("~/", "home/", 1) if word.startswith("~/") else word


def shorter(words: list[str], options: list[str]) -> list[str]:
    """A command with those of the options that it has."""
    command: click.Command = cli
    for word in words[1:]:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word) or command
    known = {name for parameter in command.params for name in parameter.opts}
    for option, value in zip(options[::2], options[1::2], strict=True):
        verb, section = words[1], value.partition(".")[0]
        foreign = verb in ("rerun", "new") or (verb == "data" and section != "data") or (section == "tune" and verb != "tune")
        if option in known and not (option == "--set" and foreign):
            words = [*words, option, value]
    return words


def refused(words: list[str]) -> None:
    """Read a command that is not executed, and its config. An error: mmbench would refuse it."""
    parse(words)
    if words[1] not in ("run", "check"):
        return
    context = cli.make_context("mmbench", words[1:])
    _, command, arguments = cli.resolve_command(context, [*getattr(context, "_protected_args", ()), *context.args])
    assert command is not None
    given = command.make_context(words[1], list(arguments)).params
    written = given["config"].endswith(".yaml") and not Path(given["config"]).exists()  # by a block that is not run
    if written or "$" in given["config"]:
        return
    overrides = execution(given["overrides"], given.get("executor"), jobs=given.get("jobs"), jobs_per_device=given.get("jobs_per_device"))
    for cell in load(given["config"], overrides, given["seeds"]):
        assert not cell.missing, f"{shlex.join(words)}: {cell.missing}"


def mmbench(words: list[str]) -> str:
    done = CliRunner().invoke(cli, words[1:])
    assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
    return done.output


def shape(line: str) -> str:
    """A printed line without what differs from run to run: numbers, units of time and memory, widths of columns, marks that a score may have."""
    line = re.sub(r"(?<=\d )(?:s|min|h|MB|GB)\b", "unit", re.sub("[†‡§]", "", line))
    return " ".join(re.sub(r"-+", "-", re.sub(r"\d[\d.,]*", "N", line)).split())


def shown(listing: str, printed: str, folder: Path) -> None:
    """Compare a listing with the folder that it shows, or with what was printed."""
    first, *rest = listing.splitlines()
    if first.endswith("/"):
        patterns = [re.sub("<[^>]*>", "*", first + line.split()[0]) for line in rest]
        assert [pattern for pattern in patterns if not list(folder.glob(pattern))] == []
    else:
        known = {shape(line) for line in printed.splitlines()}
        assert [line for line in listing.splitlines() if shape(line) not in known | {"", "..."}] == [], printed


def execute(page: Path, folder: Path) -> None:
    """Run the blocks of a page, and compare its listings."""
    printed = ""
    with pytest.MonkeyPatch.context() as patch:
        runs = True
        for block in blocks(page):
            if block.listing or (block.how == "not run" and block.language != "sh"):
                continue
            if block.language == "text":
                if runs:  # and not what a block that is not run would have printed
                    shown(block.text, printed, folder)
            elif block.language == "yaml":
                name = re.match(r"# (\S+\.yaml)\n", block.text)
                assert name, f"{page}: a block of YAML begins with the name of its file"
                (folder / name[1]).write_text(block.text)
            elif block.language == "python":
                exec(compile(block.text, str(page), "exec"), {"__name__": "guide"})
            else:
                assert block.language == "sh", f"{page}: a block is sh, python, yaml or text, not {block.language!r}"
                runs = block.how != "not run"
                printed += "".join(lines_of(page, block, patch))


def lines_of(page: Path, block: Block, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run the commands of a block of shell lines; what they print."""
    for words in commands(block.text):
        if block.how == "not run":
            if words[0] == "mmbench":
                refused(words)
        elif words[0] == "export":
            for name, value in (word.split("=", 1) for word in words[1:]):
                patch.setenv(name, found_here(value))
        else:
            assert words[0] == "mmbench", f"{page}: {words}: only mmbench is run here; say why this is not"
            yield mmbench([found_here(word) for word in shorter(words, shlex.split(block.note))])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Path]:
    """A folder with the runs of the quickstart and of the first comparison, where the package of the examples is installed."""
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
        execute(FIRST, folder)
        lay_mosi(folder)
        lay_settings(folder)
        with forked_runs():
            execute(SECOND, folder)
            yield folder
    catalogue.cache_clear()


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, so that no page depends on another; its files are the same on disk."""
    shutil.copytree(world, tmp_path / "here", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@everything
@pytest.mark.parametrize("page", [page for page in PAGES if page not in (FIRST, SECOND)], ids=name_of)
def test_the_blocks_of_a_page(page: Path, here: Path) -> None:
    if page.name == "recordings.md":
        lay_recordings(here)
    if page.name == "troubleshooting.md":
        next(here.glob("runs/decalign_mosi/decalign-*/seed-1/result.json")).unlink()  # as if it had been killed
    execute(page, here)


@everything
def test_the_front_page(here: Path) -> None:
    """Its commands, and the listing of the quickstart."""
    output, verbs = (next(block for block in blocks(ROOT / "README.md") if text in block.text) for text in ("runs to do, 0 done", "mmbench rerun"))
    shown(output.text, mmbench(["mmbench", "run", "quickstart", *QUICK, "--seeds", "1-2"]), here)
    with pytest.MonkeyPatch.context() as patch:
        text = verbs.text.replace("new plugin mine", "new plugin other")  # that one is installed here
        list(lines_of(ROOT / "README.md", Block("run short", shlex.join([*SHORT, "--set", "data.splits=own"]), "sh", "", text), patch))


@everything
def test_the_script_that_reads_runs(here: Path, capsys, monkeypatch) -> None:
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
