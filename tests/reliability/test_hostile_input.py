"""Hostile input.

Every place that reads what a stranger may have made is given files that were made to hurt. Nothing of them is executed, nothing is written outside
of the folder, memory is bounded, and each ends in one error that names the file; where text is shown, a terminal, a page or a spreadsheet obeys
none of it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mmbench import strict_yaml
from mmbench.cli import cli, main
from mmbench.cli.terminal import json_text, say
from mmbench.config import DataConfig
from mmbench.data import pickles, torch_files
from mmbench.data.array_files import open_array
from mmbench.data.load import open_source
from mmbench.data.manifest import load_manifest
from mmbench.data.store import open_store
from mmbench.errors import ConfigError, DataError, MmbenchError
from mmbench.reproduction.target import load_target
from mmbench.resolve import load
from mmbench.results.embeddings import read_diagnostics, read_embeddings
from mmbench.results.figures.epochs import read_epochs
from mmbench.results.page.embedding import as_json as page_json
from mmbench.results.predictions import read_predictions
from mmbench.results.runs import RunRecord, read_result
from mmbench.results.text import csv_text, escape_html, escape_latex, escape_markdown

from . import hostile_runs
from .hostile_files import ATTACKS, with_canary

pytestmark = pytest.mark.reliability

MEMORY = 3 << 30
"""Bytes of address space in which all files are read, of which the interpreter with NumPy needs one."""


def array(path: Path) -> Any:
    return np.asarray(open_array(path))


def folder_with(name: str, reader: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """The reader of a folder that has the file under this name."""

    def read(path: Path) -> Any:
        path.rename(path.parent / name)
        return reader(path.parent)

    return read


def mosi(path: Path) -> Any:
    return open_source(DataConfig(name="mosi", path=str(path)))


READERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "pickle": ("pickle", ".pkl", pickles.load),
    "data set": ("pickle", ".pkl", mosi),
    "file of torch": ("torch", ".pt", torch_files.load),
    ".npy": ("npy", ".npy", array),
    ".npz": ("npz", ".npz", array),
    "embeddings": ("npz", ".npz", read_embeddings),
    "YAML": ("yaml", ".yaml", strict_yaml.load),
    "config": ("yaml", ".yaml", load),
    "manifest": ("yaml", ".yaml", load_manifest),
    "label.csv": ("labels", ".csv", folder_with("label.csv", mosi)),
    "store": ("json", ".json", folder_with("store.json", mosi)),
    "result.json": ("json", ".json", folder_with("result.json", read_result)),
    "diagnostics": ("json", ".json", read_diagnostics),
    "epochs.jsonl": ("json", ".jsonl", folder_with("epochs.jsonl", lambda folder: read_epochs(RunRecord(folder, "done")))),
    "predictions": ("predictions", ".csv.gz", read_predictions),
}
"""By place: the kind of its attacks, the ending of its files, and what reads one."""
HARMLESS = {
    ("YAML", "infinity"), ("YAML", "not a number"), ("YAML", "a list"), ("YAML", "a number"), ("YAML", "nothing"),
    ("YAML", "an integer of 5000 digits"), ("YAML", "a merge key"),
    ("YAML", "a key with escapes"), (".npz", "a path for a name, in a zip"), ("predictions", "not packed"),
}  # fmt: skip
"""What is well formed, and read as the text or the number that it is."""
CASES = [
    (place, attack)
    for place, (kind, _, _) in READERS.items()
    for attack in ATTACKS[kind]
    if "million" not in attack or place not in ("config", "manifest")  # PyYAML takes seconds for each
]


@pytest.mark.parametrize(("place", "attack"), CASES, ids=[f"{place}-{attack}" for place, attack in CASES])
def test_a_file_is_refused_and_nothing_of_it_is_executed(
    tmp_path: Path, tally: Any, monkeypatch: pytest.MonkeyPatch, place: str, attack: str
) -> None:
    kind, suffix, read = READERS[place]
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    (canary := tmp_path / "canary").mkdir()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(with_canary(ATTACKS[kind][attack], str(canary / "x")))
    told = ""
    try:
        read(path)
    except (MmbenchError, ValueError) as error:
        told = str(error)
        named = isinstance(error, MmbenchError) and str(tmp_path) not in told
        tally(f"{place}: malicious files", bool(told.strip()) and not named and len(told) < 5000 and not any(canary.iterdir()))
    else:
        tally(f"{place}: malicious files", (place, attack) in HARMLESS and not any(canary.iterdir()))


BOMBS = [(place, attack) for place, attack in CASES if any(word in attack for word in ("unpack", "terabyte", "claimed", "gigabyte", "repeat"))]
CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
sys.path.insert(0, {tests!r})
from reliability.test_hostile_input import READERS
from mmbench.errors import MmbenchError
from pathlib import Path
for place, path in json.load(sys.stdin):
    try:
        READERS[place][2](Path(path))
        print("read")
    except (MmbenchError, ValueError):
        print("refused")
    except BaseException as error:
        print(type(error).__name__)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_is_bounded(tmp_path: Path, tally: Any) -> None:
    files = []
    for number, (place, attack) in enumerate(BOMBS):
        kind, suffix, _ = READERS[place]
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / f"a{suffix}"
        path.write_bytes(ATTACKS[kind][attack])
        files.append((place, str(path)))
    child = CHILD.format(memory=MEMORY, tests=str(Path(__file__).parents[1]))
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each thread of many cores would take some of the address space
    done = subprocess.run([sys.executable, "-c", child], input=json.dumps(files), capture_output=True, text=True, env=one, check=False)
    *told, peak = done.stdout.split()
    assert len(told) == len(BOMBS), done.stderr
    for (place, _), outcome in zip(BOMBS, told, strict=True):
        tally(f"{place}: files that unpack to, claim or repeat more than memory", outcome == "refused")
    assert int(peak) * 1024 < MEMORY // 2


def test_a_published_source_and_a_target_of_a_users_own(tmp_path: Path, tally: Any) -> None:
    from mmbench.results.published import load_source

    for name, content in [(name, content) for name, content in ATTACKS["yaml"].items() if "million" not in name]:
        path = tmp_path / "a.yaml"
        path.write_bytes(content)
        for place, read in (("published source", load_source), ("target", load_target)):
            with pytest.raises(MmbenchError) as caught:
                read(str(path))
            tally(f"{place}: malicious files", len(str(caught.value)) < 5000, 1)
            assert str(caught.value), name


# Absurd records ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", hostile_runs.USES)
def test_one_absurd_value_in_a_record(tmp_path: Path, tally: Any, times: Any, use: str) -> None:
    folder = hostile_runs.write(tmp_path)["one"]
    document = hostile_runs.record("one", 1)
    every = [(place, value) for place in hostile_runs.places(document) for value in hostile_runs.ABSURD]
    step = len(every) // times(25, len(every))
    for place, value in every[::step]:
        (folder / "result.json").write_text(json.dumps(hostile_runs.changed(document, place, value)))
        try:
            text = hostile_runs.USES[use](tmp_path)
        except MmbenchError as error:
            text = str(error)
        except Exception as error:  # what a user would see as a traceback
            text = f"\x1b {place} {value!r:.60} {error!r}"
            print(text)
        tally(f"{use}: absurd values in result.json", not any(char in text for char in "\x1b\x9b\u202e"))


@pytest.mark.parametrize("name", ["result.json", "epochs.jsonl", "config.yaml", "predictions.csv.gz"])
@pytest.mark.parametrize("use", hostile_runs.USES)
def test_a_malicious_file_in_a_folder_of_runs(tmp_path: Path, tally: Any, times: Any, use: str, name: str) -> None:
    folder = hostile_runs.write(tmp_path)["one"]
    attacks = ATTACKS[{"config.yaml": "yaml", "predictions.csv.gz": "predictions"}.get(name, "json")]
    for attack in [each for each in attacks if "giga" not in each and "million" not in each][:: times(4, 1)]:
        (folder / name).write_bytes(attacks[attack])
        try:
            text = hostile_runs.USES[use](tmp_path)
        except MmbenchError as error:
            text = str(error)
        tally(f"{use}: malicious {name}", not any(char in text for char in "\x1b\x9b\u202e"))


# What is shown ----------------------------------------------------------------------------------------------------------------------

TERMINAL = "\x1b[2J\x1b]0;t\x07\x1b]8;;http://x\x1b\\y\x1b]52;c;cm0=\x07\x9b31m\x9d0;t\x9c\x85\x08\x7f\u202e\u2066\u200f\u2028\r"
OBEYED = set("\x1b\x07\x08\x7f\x85\x9b\x9c\x9d\r\u202e\u2066\u200f\u2028")


def harmless(text: str) -> bool:
    """Whether a terminal obeys nothing of it but its lines."""
    return not OBEYED & set(text)


def test_what_goes_to_a_terminal_is_neutral(tally: Any, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a {TERMINAL}\nb")
    say(json_text({TERMINAL: [TERMINAL, 1, float("nan")]}), err=True)
    printed = capsys.readouterr()
    tally("terminal: escapes in text", harmless(printed.out) and printed.out.count("\n") == 2)
    tally("terminal: escapes in JSON", harmless(printed.err) and json.loads(printed.err) == {TERMINAL: [TERMINAL, 1, None]})


def test_no_verb_prints_in_another_way() -> None:
    folder = Path(sys.modules[say.__module__].__file__ or "").parent
    own = {path.name for path in folder.glob("*.py") if "click.echo(" in path.read_text() or "print(" in path.read_text().replace("fingerprint(", "")}
    assert own == {"terminal.py", "__init__.py"}


COMMAND_LINES = (
    ["run", f"{TERMINAL}.yaml"], ["check", "CONFIG"], ["data", "check", "DATA"], ["report", TERMINAL], ["status", f"x{TERMINAL}"],
    ["show", "model", TERMINAL], ["run", "mosi", f"--{TERMINAL}"], [TERMINAL], ["check", "matrix_mosi", "--set", f"{TERMINAL}=1"],
    ["reproduce", TERMINAL], ["data", "check", TERMINAL], ["compare", TERMINAL, "b"], ["figure", TERMINAL], ["extract", TERMINAL],
    ["data", "fetch", TERMINAL], ["data", "new", TERMINAL],
)  # fmt: skip


@pytest.mark.parametrize("arguments", COMMAND_LINES, ids=range(len(COMMAND_LINES)))
def test_an_error_is_neutral(
    tmp_path: Path, tally: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(strict_yaml.dump({"name": TERMINAL, "row": TERMINAL, TERMINAL: {TERMINAL: 1}, "model": {"name": TERMINAL}}))
    data = tmp_path / f"b{TERMINAL.replace('/', '')}.pkl"
    data.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mmbench", *({"CONFIG": str(config), "DATA": str(data)}.get(each, each) for each in arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr()
    tally("terminal: escapes in errors", harmless(printed.out + printed.err) and end.value.code in (1, 2, 3) and "Traceback" not in printed.err)


def test_plugins_and_warnings_are_neutral(tally: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmbench import plugins

    broken = plugins.Catalogue((plugins.Plugin(TERMINAL, TERMINAL, TERMINAL, TERMINAL, problem=TERMINAL),))
    monkeypatch.setattr(plugins, "catalogue", lambda: broken)
    for verb in ("plugins", "list"):
        found = CliRunner().invoke(cli, [verb])
        tally("terminal: escapes of plugins", harmless(found.output) and "\\x1b" in found.output)


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "\t=1+1",
    "\r\n=1+1",
    "=1+1\x00",
    " =1+1",
    "=-1",
    "-a",
    "+a",
    "\uff1d1+1",
]


def test_no_text_is_a_formula_and_numbers_stay_numbers(tmp_path: Path, tally: Any) -> None:
    for formula in FORMULAS:
        tally("csv: formulas in text", csv_text(formula)[0] == "'")
    for number in ("-1", "+2.5", "-1e-3", "-0.25", "3"):
        tally("csv: numbers", csv_text(number) == number)
    assert csv_text("a = b") == "a = b"
    folder = hostile_runs.write(tmp_path)["one"]
    for formula in FORMULAS:
        document = hostile_runs.record("one", 1) | {"name": formula, "model": formula, "experiment": formula}
        document["data"] |= {"title": formula, "name": formula}
        (folder / "result.json").write_text(json.dumps(document))
        for use in ("report", "compare", "report --grid"):
            cells = [cell for row in csv.reader(io.StringIO(hostile_runs.as_csv(use, tmp_path))) for cell in row]
            tally("csv: formulas in reports", not any(cell.lstrip()[:1] in ("=", "@", "+") or cell.startswith(("-2+", "-a")) for cell in cells))


@pytest.mark.parametrize("text", ["</script><script>x</script>", "<!--<script>", "\u2028", "]]>", "<img src=x onerror=x>", "' onload='x"])
def test_markup_stays_text(tally: Any, text: str) -> None:
    tally("html: markup in text", not set(escape_html(f'"{text}')) & set("<>\"'"))
    tally("html: markup in JSON", not set(page_json({text: [text]})) & set("<>&\u2028") and json.loads(page_json({text: [text]})) == {text: [text]})


@pytest.mark.parametrize(
    "text",
    [r"\write18{touch x}", r"\input{/etc/passwd}", r"\csname input\endcsname x", "^^5cinput", r"$\immediate\write$", "%", "#1", "~", "a&b\\\\"],
)
def test_latex_stays_text(tally: Any, text: str) -> None:
    found = escape_latex(text)
    for command in (r"\textbackslash{}", r"\textasciicircum{}", r"\textasciitilde{}", r"\$", r"\%", r"\#", r"\&", r"\{", r"\}", r"\_"):
        found = found.replace(command, "")
    tally("latex: commands in text", not set(found.replace("{}", "")) & set("\\^~$%#&"))


@pytest.mark.parametrize("text", ["a|b", "[x](javascript:x)", "![x](http://x)", "<script>", "`x`", "**x**", "~~x~~", "$x$", "\\|", "a\n| b |"])
def test_markdown_stays_text(tally: Any, text: str) -> None:
    import re

    plain = re.sub(r"\\[\\`*\[\]|~$_]", "", escape_markdown(text))
    tally("markdown: markup in text", not set(plain) & set("|[]<>`*~$\n"))


# What becomes the name of a file ----------------------------------------------------------------------------------------------------

NAMES = ["../../x", "..", ".", "/tmp/x", "a/b", "a\\b", "C:\\x", "a\0b", "x" * 5000, "", "\u4e2d" * 100]


@pytest.mark.parametrize("name", NAMES, ids=[f"{number}" for number in range(len(NAMES))])
def test_a_name_stays_in_its_folder(tmp_path: Path, tally: Any, name: str) -> None:
    path = tmp_path / "a.yaml"
    known = {"title": "t", "task": "regression", "label_range": [-1, 1], "prototypes": 3, "metrics": ["mae"]}
    for place, own in (
        ("data set", {"name": name, "modalities": ["text"]}),
        ("modality", {"name": "a", "modalities": [name]}),
        ("protocol", {"name": "a", "modalities": ["text"], "protocols": {name: {}}}),
        ("part", {"name": "a", "modalities": ["text"], "protocols": {"p": {"parts": {name: {}}}}}),
    ):
        path.write_text(strict_yaml.dump({**known, **own}))
        with pytest.raises(ConfigError, match=r"a\.yaml: "):
            load_manifest(path)
        tally(f"names: {place} of a manifest", True)
    path.write_text(strict_yaml.dump({"name": name, "data": {"name": "mosi"}, "model": {"name": "mean"}}))
    with pytest.raises(ConfigError):
        load(path)
    tally("names: experiment of a config", True)


@pytest.mark.parametrize("name", ["CON", "a b", "\u4e2d\u6587", "x.y-z_1+", "\u202ea"])
def test_a_strange_name_is_a_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.yaml"
    known = {"title": "t", "task": "regression", "label_range": [-1, 1], "prototypes": 3, "metrics": ["mae"]}
    path.write_text(strict_yaml.dump({**known, "name": name, "modalities": ["text"]}))
    assert load_manifest(path).name == name


def test_files_that_name_each_other_without_end(tmp_path: Path, tally: Any) -> None:
    for level in range(30):
        (tmp_path / f"{level}.yaml").write_text(strict_yaml.dump({"extends": [f"{level + 1}.yaml"] * 10}))
    (tmp_path / "30.yaml").write_text("name: x\n")
    with pytest.raises(ConfigError, match=r"extends.* more than \d+ files"):
        load(tmp_path / "0.yaml")
    tally("config: files that extend files without end", True)
    with pytest.raises(ConfigError, match="--seeds"):
        load("mult_mosi", seeds="1-99999999999")
    tally("config: seeds without end", True)


def test_a_row_writes_no_line_of_a_config(tmp_path: Path, tally: Any) -> None:
    from mmbench.errors import printable

    comment = printable("# a\nseeds: [9]\n, seed 1: every value in force")
    tally("config: a name with a line of YAML", strict_yaml.parse(f"{comment}\nseeds: [1]\n", "x").value == {"seeds": [1]})


# Stores, and folders that point elsewhere -------------------------------------------------------------------------------------------


def test_a_store_of_a_stranger(tmp_path: Path, tally: Any) -> None:
    from mmbench.data.store import _trace, column, write_store

    (folder := tmp_path / "store").mkdir()
    write_store(folder, {"train/target": column(np.zeros(4, np.float32))}, lambda: {"simulated": False, "layout": "aligned"})
    document = json.loads((folder / "store.json").read_text())
    for name, value in (("arrays", []), ("arrays", None), ("format", [1]), ("format", 1e999), ("splits", 1), ("origin", [])):
        (folder / "store.json").write_text(json.dumps({**document, name: value}))
        with pytest.raises(DataError, match=str(folder)):
            mosi(folder)
        tally("store: absurd documents", True)
    header = (folder / "arrays.safetensors").read_bytes()
    for entry in (
        b"[]",
        b"[" * 90_000,
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1e12], "data_offsets": [0, 16]}}',
        b'{"a": {"dtype": "F99"}}',
    ):
        (folder / "arrays.safetensors").write_bytes(len(entry).to_bytes(8, "little") + entry + header[-16:])
        (folder / "store.json").write_text(json.dumps({**document, "arrays": _trace(folder / "arrays.safetensors")}))
        tally("store: absurd heads of arrays", open_store(folder) is None)


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "epochs.jsonl", "predictions.csv.gz"])
def test_a_pipe_and_a_device_are_no_files(tmp_path: Path, tally: Any, name: str) -> None:
    folder = hostile_runs.write(tmp_path)["one"]
    for make in (lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")):
        (folder / name).unlink()
        make(folder / name)
        for use in hostile_runs.USES.values():
            try:
                text = use(tmp_path)
            except MmbenchError as error:
                text = str(error)
            tally(f"pipes and devices for {name}", isinstance(text, str))
