"""Writes the pages of the documentation that the code can say better: ``python docs/generate.py``; with ``--check`` it names those that are behind.

Methods, components, config keys, commands, data sets, keys of MMSA and error messages come from what the code declares; the front page is
README.md; in other pages, a block of code with a title is the file of that name. Plugins are those of this repository, whether they are
installed or not.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT), *map(str, sorted(ROOT.glob("plugins/*/src")))]

from writers import datasets, errors, methods, mmsa, reference  # noqa: E402
from writers.declared import declared  # noqa: E402
from writers.markdown import WRITTEN, relinked, spaced, written  # noqa: E402

LISTING = re.compile(r"^(```\w+ title=\"([^\"]+)\")\n.*?^```$", re.MULTILINE | re.DOTALL)
NAVIGATION = re.compile(r"(# the next lines are written by docs/generate.py\n).*?(^ *# up to here)", re.MULTILINE | re.DOTALL)


def pages() -> dict[Path, str]:
    """Every page that is written, with its text."""
    found = {page: text for part in (methods, reference, datasets, errors, mmsa) for page, text in part.pages()}
    index = DOCS / "index.md"
    found[index] = written(spaced(relinked((ROOT / "README.md").read_text(), ROOT / "README.md", index)), "README.md")
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        if page not in found and LISTING.search(text):
            found[page] = LISTING.sub(lambda match: f"{match[1]}\n{(ROOT / match[2]).read_text().rstrip()}\n```", text)
    site = ROOT / "mkdocs.yml"
    found[site] = NAVIGATION.sub(lambda match: match[1] + navigation() + match[2], site.read_text())
    return found


def navigation() -> str:
    """The part of mkdocs.yml that lists the pages of methods and data sets."""
    lines = []
    for kind, title in (("model", "Models"), ("loss", "Losses")):
        lines.append(f"      - {title}:")
        lines += [f"          - {entry.component.name}: methods/{methods.page_of(entry).name}" for entry in declared().of_kind(kind)]
    lines.append("      - Plugins:")
    lines += [f"          - methods/{readme.parent.name}.md" for readme in sorted(ROOT.glob("plugins/*/README.md"))]
    lines += ["  - Data:", "      - data/index.md"]
    lines += [f"      - data/{page.name}" for page, _ in datasets.pages() if page.name != "index.md"]
    return "\n".join(lines) + "\n"


def behind() -> dict[Path, str]:
    """The pages whose file says something else, and files in the folders of written pages that nothing writes (their text is empty)."""
    found = pages()
    kept = {page for page in found if page.is_relative_to(DOCS)}
    stale = {page for page in DOCS.rglob("*.md") if page not in kept and WRITTEN in page.read_text()}
    return {page: text for page, text in found.items() if not page.is_file() or page.read_text() != text} | dict.fromkeys(stale, "")


def main() -> int:
    """The exit code: 1 where ``--check`` finds pages behind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; name the pages that are behind")
    check = parser.parse_args().check
    found = behind()
    for page, text in found.items():
        print(f"{page.relative_to(ROOT)}: {'is behind; run python docs/generate.py' if check else 'written' if text else 'removed'}")
        if not check and text:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
        elif not check:
            page.unlink()
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
