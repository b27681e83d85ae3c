"""What is wider than the terminal: columns of a table stand in several blocks below each other, and descriptions are broken between words."""

from __future__ import annotations

import re
import textwrap

from mmbench.results.text import width

NARROWEST = 40
"""Columns of a terminal below which nothing is rearranged."""
RULE = re.compile(r"-+(?: +-+)+")
"""The line below the heads of a table; it says where each column is."""
COMMANDS = ("mmbench ", "pip install")
DESCRIBED = re.compile(r"\s*\S.*?\S {2,}(?=\S)")
"""A name, or several in columns, before a description."""
OVER = re.compile(r" +-+(?: +-+)*")
"""The line below the titles of groups of columns."""
Span = tuple[int, int]


def fit(text: str, columns: int) -> str:
    """The text with its tables in blocks that are no wider, and with other lines broken between words.

    A table is heads, a rule and rows without an empty line. Commands are left whole, so that they can be copied.
    """
    if columns < NARROWEST or all(width(line) <= columns for line in text.split("\n")):
        return text
    lines, found = text.split("\n"), list[str]()
    place = 0
    while place < len(lines):
        end = next((index for index in range(place, len(lines)) if not lines[index].strip()), len(lines))
        rule = next((index for index in range(place, end) if RULE.fullmatch(lines[index])), None)
        part = lines[place:end]
        if rule is None:
            found += [each for line in part for each in wrapped(line, columns)]
        else:
            found += part if max(map(width, part)) <= columns else stacked(part, rule - place, columns)
        found += lines[end : end + 1]
        place = end + 1
    return "\n".join(found)


def wrapped(line: str, columns: int) -> list[str]:
    """A line in as many as it needs, each below the beginning of its description, or of itself."""
    if width(line) <= columns:
        return [line]
    start = 0
    while (found := DESCRIBED.match(line, start)) and width(line[: found.end()]) <= 2 * columns // 3:
        start = found.end()
    if not start and any(command in line for command in COMMANDS):
        return [line]
    start = start or len(line) - len(line.lstrip())
    if start >= columns:
        return [line]
    first, *rest = textwrap.wrap(line[start:], columns - width(line[:start]), break_long_words=False, break_on_hyphens=False)
    return [line[:start] + first, *(" " * width(line[:start]) + each for each in rest)]


def stacked(lines: list[str], rule: int, columns: int) -> list[str]:
    """The blocks of one table, an empty line between them; titles of groups of columns stay above theirs."""
    first, *rest = spans(lines[rule])
    groups = spans(lines[rule - 2]) if rule > 1 and OVER.fullmatch(lines[rule - 2]) else []
    units: list[Span] = []
    for start, end in rest:
        group = next((group for group in groups if group[0] <= start < group[1]), None)
        if units and group is not None and group[0] <= units[-1][0]:
            units[-1] = (units[-1][0], end)
        else:
            units.append((start, end))
    bands: list[Span] = []
    for start, end in units:
        if bands and first[1] + 2 + end - bands[-1][0] <= columns:
            bands[-1] = (bands[-1][0], end)
        else:
            bands.append((start, end))
    found: list[str] = []
    parts = [line if line.startswith("-- ") and not RULE.fullmatch(line) else cells(line) for line in lines]
    for start, end in bands:
        whole = [part if isinstance(part, str) else f"{cut(part, *first, pad=True)}  {cut(part, start, end)}".rstrip() for part in parts]
        found += [*([""] if found else []), *whole]
    return found


def spans(rule: str) -> list[Span]:
    """Where the dashes of a line begin and end."""
    return [match.span() for match in re.finditer("-+", rule)]


def cells(line: str) -> list[str]:
    """What stands in each column of a terminal: nothing in the second one of a wide character, and an accent with its letter."""
    found: list[str] = []
    for char in line:
        columns = width(char)
        if columns:
            found += [char, *[""] * (columns - 1)]
        elif found:
            found[-1] += char
    return found


def cut(line: list[str], start: int, end: int, pad: bool = False) -> str:
    """What stands in these columns."""
    found = line[start:end]
    return "".join(found) + " " * (end - start - len(found)) * pad
