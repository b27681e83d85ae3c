"""Text of tables: numbers with their units, and names of users' data made harmless for a terminal, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
import math
import re
import unicodedata

from mmbench.privacy import shared

ESCAPE_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]|\x9b[0-?]*[ -/]*[@-~]")

GREEK = [unicodedata.name(chr(0x3B1 + i)).split()[-1].lower().replace("lamda", "lambda") for i in range(25)]
"""Names of the small letters from alpha on, as LaTeX spells them; the eighteenth, the final sigma, is not used."""
LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": "{`}",
    "[": "{[}",  # after a line break, a bracket or an asterisk would be read as its option
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "\u2212": "$-$",
    "\u00d7": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "µ": r"$\mu$",
    "°": r"$^{\circ}$",
    "²": "$^{2}$",
    "\u2013": "--",
    "—": "---",
    "\u2018": "`",
    "\u2019": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "\u0131": r"\i{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    **{chr(0x3B1 + i): f"$\\{name}$" for i, name in enumerate(GREEK) if i != 17 and name != "omicron"},
    **{chr(0x391 + i): f"$\\{GREEK[i].capitalize()}$" for i in (2, 3, 7, 10, 13, 15, 18, 20, 21, 23, 24)},  # those that look like no Latin letter
}
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".", "\u0308": '"', "\u030a": "r",
    "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a formula begins in a spreadsheet; the wide forms are taken for the others where people type these."""
NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {char: f"\\{char}" for char in "\\`*[]|~$"}


def clean(text: str) -> str:
    """One line without terminal escape sequences and control or direction characters, so that a name cannot rewrite what is shown."""
    text = ESCAPE_SEQUENCES.sub("", text)
    text = "".join(" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co"))
    return " ".join(text.split())


def csv_text(text: str) -> str:
    """Text as CSV has it: clean, and with an apostrophe before what a spreadsheet would take for a formula. A number stays one."""
    text = clean(text)
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text


def escape_latex(text: str) -> str:
    """Text in ASCII with LaTeX's special characters made harmless.

    Accents and Greek letters become their commands; what LaTeX's own fonts have not stands as its code point, ``(U+4E2D)``. What others may not
    read is replaced before, since afterwards a home folder is spelled otherwise, and the sign of ``$HOME`` would begin a formula.
    """
    return "".join(map(_latex, unicodedata.normalize("NFC", clean(shared(text)))))


def _latex(char: str) -> str:
    if char in LATEX:
        return LATEX[char]
    if char.isascii():
        return char
    parts = unicodedata.normalize("NFD", char)
    base, marks = parts[0], parts[1:]
    if base.isascii() and base.isalpha() and marks and all(mark in ACCENTS for mark in marks):
        for mark in marks:
            base = f"\\{ACCENTS[mark]}{{{base}}}"
        return base
    return f"(U+{ord(char):04X})"


def escape_markdown(text: str) -> str:
    """Text with Markdown's and HTML's special characters made harmless, replaced as in `escape_latex`; underscores inside a word mean nothing."""
    text = "".join(MARKDOWN.get(char, char) for char in clean(shared(text)))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def escape_html(text: str) -> str:
    """Text with HTML's special characters made harmless, in attributes too."""
    return html.escape(clean(text), quote=True)


def count(value: int | None) -> str:
    """A number of parameters: 950, 12.3k, 1.25M."""
    if value is None:
        return ""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value < 999.5 * size else f"{value / size:.0f}{unit}"
    return str(value)


def duration(seconds: float) -> str:
    """A time with its unit: 0.8 s, 12 s, 3.4 min, 2.1 h."""
    if math.isnan(seconds):
        return ""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def memory(megabytes: float) -> str:
    """A size with its unit: 812 MB, 3.4 GB (of 1024 MB)."""
    if math.isnan(megabytes):
        return ""
    return f"{megabytes:.0f} MB" if megabytes < 999.5 else f"{megabytes / 1024:.1f} GB"


def number(value: float) -> str:
    """A float that reads back exactly, or nothing for NaN."""
    return "" if math.isnan(value) else repr(float(value))


def width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
