"""What a component does in another process. Imports torch, here and in the process."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mmbench.plugins import one_line
from mmbench.testing import extractors, losses, models
from mmbench.testing.checks import Context, Failed, Skipped, Subject, expect

CHILD = """
import json, pickle, sys
path, file = json.load(sys.stdin)
sys.path[:] = path
found = {}
for label, content in pickle.load(open(file, "rb")).items():
    try:
        cls, arguments = pickle.loads(content)
        found[label] = sum(value.numel() for value in cls(*arguments).state_dict().values())
    except BaseException as error:
        found[label] = " ".join(f"{type(error).__name__}: {error}".split())
print(json.dumps(found))
"""


def another_process(subject: Subject) -> None:
    """Class and hyperparameters can be pickled, and a new interpreter builds the same module from them."""
    here, there = _built(subject.context)
    size = here[subject.label]
    if isinstance(size, Skipped):
        raise size
    expect(isinstance(size, int), "something to pickle", size)
    expect(there[subject.label] == size, f"a module of {size} numbers in another process", there[subject.label])


Sizes = dict[str, Any]
"""By component: how many numbers its state has, or why it could not be built."""


def _built(context: Context) -> tuple[Sizes, Sizes]:
    """The modules of a distribution, built in this process and in a new one, which is the same for all of them."""
    if "processes" not in context.cache:
        here: Sizes = {}
        contents: dict[str, bytes] = {}
        for entry in context.entries:
            subject = Subject(context, entry)
            if entry.component.kind not in ("model", "loss", "extractor"):
                continue
            try:
                module, arguments = _build(subject)
                contents[subject.label] = pickle.dumps((type(module), arguments))
                here[subject.label] = sum(value.numel() for value in module.state_dict().values())
            except Skipped as reason:
                here[subject.label] = reason
            except Exception as error:
                here[subject.label] = one_line(error)
        context.cache["processes"] = here, _elsewhere(contents)
    found: tuple[Sizes, Sizes] = context.cache["processes"]
    return found


def _build(subject: Subject) -> tuple[Any, tuple[Any, ...]]:
    """A module, and what its class was called with."""
    if subject.component.kind == "extractor":
        return extractors.build(subject), (subject.config(),)
    arguments: tuple[Any, ...]
    if subject.component.kind == "model":
        arguments = next(models.cases(subject)).inputs, subject.config()
    else:
        arguments = next(losses.cases(subject)).spec, subject.config()
    return subject.entry.load()(*arguments), arguments


def _elsewhere(contents: dict[str, bytes]) -> Sizes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "components"
        file.write_bytes(pickle.dumps(contents))
        given = json.dumps([sys.path, str(file)])
        done = subprocess.run([sys.executable, "-c", CHILD], input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"expected an interpreter that ends well; seen exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    found: Sizes = json.loads(done.stdout.splitlines()[-1])
    return found
