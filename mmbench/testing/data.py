"""Checks of the formats of data sets and of aligners. Imports no torch."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any

from mmbench.errors import MmbenchError
from mmbench.testing.checks import Failed, Skipped, Subject, expect
from mmbench.testing.declarations import HEAVY, needs_weights, without_torch

HALF = b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}"
"""The start of a pickled dict."""
METHODS = {
    "dataset-format": {"recognises": ("path",), "sources": ("path",), "read": ("path", "manifest")},
    "aligner": {"align": ("clip", "path", "words"), "digest": ()},
}


def contract(subject: Subject) -> None:
    """The class has the methods of its kind, with their arguments; a format also a version, and it needs no torch."""
    cls = subject.entry.load()
    for name, arguments in METHODS[subject.component.kind].items():
        method: Any = getattr(cls, name, None)
        expect(callable(method), f"a method {name}({', '.join(arguments)})", "none", subject.component.target)
        try:
            inspect.signature(method).bind(None, *arguments)
        except TypeError as error:
            raise Failed(f"expected a method {name}({', '.join(arguments)}); seen {error} ({subject.component.target})") from error
    if subject.component.kind == "dataset-format":
        version = getattr(cls, "version", None)
        expect(isinstance(version, int) and version > 0, "a version, an integer from 1", repr(version))
        problem = without_torch(subject.context)[subject.component.target]
        expect(not problem, f"that {subject.component.target} is imported without {', '.join(HEAVY)}", problem)


def foreign(subject: Subject) -> None:
    """A format recognises nothing that it could not read, and raises nothing: not a text, an empty file, half a pickle, or a folder of such."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contents = {
            "notes.txt": b"a text\n",
            "table.csv": b"a,b\n1,2\n",
            "empty.pkl": b"",
            "half.pkl": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}",
        }
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        (folder / "nothing").mkdir()
        for path in (*map(folder.joinpath, contents), folder, folder / "nothing", folder / "absent"):
            found = subject.entry.load()().recognises(path)
            expect(found is False, "False", repr(found), path.name if path != folder else "a folder of other files")


def digest(subject: Subject) -> None:
    """An aligner's digest is a text, and the same for two instances of one config."""
    if needs_weights(subject):
        raise Skipped("no hyperparameters to build it with (configs)")
    first, second = (_built(subject).digest() for _ in range(2))
    expect(isinstance(first, str) and first, "a digest", repr(first))
    expect(second == first, "the same digest of a second instance", "another")


def _built(subject: Subject) -> Any:
    try:
        return subject.entry.load()(subject.config())
    except Failed:
        raise
    except MmbenchError as error:
        raise Skipped(f"it cannot be built here: {error}") from error
