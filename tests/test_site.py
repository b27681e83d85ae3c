"""The documentation site: it is built without a warning, asks nothing of the network, and its written pages say what the code says."""

import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(find_spec("material") is None, reason="the site is built where mkdocs-material is installed (tox -e docs)")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(folder)]
    # With --quiet no warning would be counted, and --strict would let all pass.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def errors() -> ModuleType:
    """The part of docs/generate.py that finds the errors in the code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        return import_module("writers.errors")


def test_written_pages_are_not_behind() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_built(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 50
    assert [str(page) for page in pages if not (site / page).is_file()] == []


def test_comments_end() -> None:
    texts = {path: path.read_text() for path in (ROOT / "docs").rglob("*.md")}
    assert [str(path) for path, text in texts.items() if text.count("<!--") != text.count("-->")] == [], "what follows would not be shown"


def test_every_page_is_in_the_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text()
    assert [str(path) for path in (ROOT / "docs").rglob("*.md") if path.relative_to(ROOT / "docs").as_posix() not in listed] == []


def test_no_page_asks_anything_of_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    elsewhere = re.compile(r"""(?:href|src|action)=["']?(?:https?:)?//[^"'\s>]*|url\(["']?(?:https?:)?//[^)]*|@import""")
    texts = [*pages, *site.rglob("*.css")]
    assert [f"{path.relative_to(site)}: {found[0]}" for path in texts if (found := elsewhere.search(path.read_text()))] == []


def test_what_writes_pages_is_not_published(site: Path) -> None:
    assert list(site.rglob("*.py")) == []


def test_every_error_of_the_product_is_explained() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert len(errors().classes()) > 5
    assert sorted(name for name in errors().classes() if f"`{name}`" not in page) == []


def test_what_troubleshooting_quotes_is_said_somewhere() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    code = " ".join("".join(path.read_text().split('"')) for folder in ("mmbench", "plugins") for path in sorted((ROOT / folder).rglob("*.py")))
    quoted = [
        part.strip()
        for cell in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
        for each in re.findall(r"`([^`]+)`", cell)
        for part in each.split("...")
    ]
    assert len(quoted) > 30
    assert [part for part in quoted if part not in code] == []


def test_what_is_gathered_before_it_is_said_is_among_the_messages() -> None:
    found = {(kind, message) for _, kind, message in errors().messages()}
    assert {
        ("ConfigError", "…: clip_norm and clip_value exclude each other"),  # a problem with its place
        ("ConfigError", "training needs torch, which is not installed: pip install …"),
        ("usage", "--quiet and --json exclude each other"),
        ("reason", "seed … is given twice"),
        ("reason", "stopped on request after a step; the last checkpoint stands"),
        ("warning", "the data are SIMULATED: scores say nothing about the real data set"),
        ("note", "times and memory are not comparable between devices: …"),
        ("note", "a = b: equal by construction, one run under two names."),
    } <= found
