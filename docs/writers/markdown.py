"""Text that says in Markdown what it said before: escapes, tables, docstrings, and links that lead from another page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")
WRITTEN = "<!-- Written by docs/generate.py from "


def written(text: str, source: str) -> str:
    """A page with what it was written from at its end, where mkdocs does not take it for the title."""
    return f"{text.rstrip()}\n\n{WRITTEN}{source}. Change that, and run it again. -->\n"


def escaped(text: str) -> str:
    """Prose in which nothing but `code` in backticks is markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if i % 2 else re.sub(r"([\\*_\[\]|])", r"\\\1", part.replace("&", "&amp;").replace("<", "&lt;")) for i, part in enumerate(parts)
    )


def cell(text: object) -> str:
    """One cell of a table: a line."""
    return " ".join(str(text).split())


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; nothing where it has no rows. Cells are Markdown already."""
    lines = ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *lines]) + "\n\n" if lines else ""


def docstring(text: str) -> str:
    """The paragraphs of a docstring; lines that end a sentence stay lines."""
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        lines = [escaped(line.strip()) for line in paragraph.split("\n")]
        joined = "".join(line + ("" if i == len(lines) - 1 else "<br>\n" if line.endswith(".") else "\n") for i, line in enumerate(lines))
        paragraphs.append(joined)
    return "\n\n".join(paragraphs) + "\n\n" if paragraphs != [""] else ""


def spaced(text: str) -> str:
    """The same with an empty line before each list and table, which Markdown's first definition asks for; code stays as it is."""
    lines: list[str] = []
    code = False
    for line in text.split("\n"):
        starts = re.match(r"(- |\d+\. |\|)", line)
        before = lines[-1] if lines else ""
        if starts and not code and before.strip() and not re.match(r"(- |\d+\. |\||  )", before):
            lines.append("")
        code ^= line.startswith("```")
        lines.append(line)
    return "\n".join(lines)


def relinked(text: str, source: Path, page: Path) -> str:
    """The Markdown of `source` as it reads on `page`: links go to the pages that its files have on this site, or are no links."""

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        if not target:
            return match[0]
        file = Path(os.path.normpath(source.parent / target))
        place = page_of(file)
        if "://" in target or place is None:
            return words if f"`{words.strip('`')}`" == words else f"{words} (`{target if '://' in target else file.relative_to(ROOT)}`)"
        return f"[{words}]({os.path.relpath(place, page.parent)}{anchor})"

    return LINK.sub(link, text)


def page_of(file: Path) -> Path | None:
    """The page that shows a file of the repository, or the picture that it is, where there is one."""
    if file == ROOT / "README.md":
        return DOCS / "index.md"
    if file.name == "README.md" and file.parent.parent == ROOT / "plugins":
        return DOCS / "methods" / f"{file.parent.name}.md"
    return file if file.is_relative_to(DOCS) and file.suffix in (".md", ".svg") else None
