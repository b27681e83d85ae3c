"""What the verbs print goes through here: names, transcripts and reasons are of a stranger's making, and a terminal obeys what it is sent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from mmbench.cli.fit import fit
from mmbench.errors import shown
from mmbench.files import without_nan


def say(text: str = "", err: bool = False, nl: bool = True) -> None:
    """Print text in which whatever a terminal would obey stands as its escape; lines stay lines, and tables keep to the terminal's width."""
    stream = sys.stderr if err else sys.stdout
    text = shown(text)
    click.echo(fit(text, shutil.get_terminal_size().columns) if stream.isatty() else text, err=err, nl=nl)


def columns(most: int) -> int:
    """How wide a paragraph is set: `most`, or as wide as the terminal is, where that is less."""
    return min(most, shutil.get_terminal_size().columns) if sys.stdout.isatty() else most


def say_whole(text: str, nl: bool = True) -> None:
    """Print a program, a document of JSON or a table in a format of files, whose lines stay as they are."""
    click.echo(shown(text), nl=nl)


def runs_of(number: int) -> str:
    """``1 run`` or ``2 runs``."""
    return f"{number} run{'' if number == 1 else 's'}"


@contextlib.contextmanager
def hushed(on: bool) -> Iterator[None]:
    """While `on`, what is said to standard output is dropped; errors and warnings are not."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere) if on else contextlib.nullcontext():
        yield


def json_text(value: Any) -> str:
    """A JSON document for a terminal: the same value, with the escapes of JSON for what a terminal would obey."""
    text = json.dumps(without_nan(value), indent=1, ensure_ascii=False, allow_nan=False)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
