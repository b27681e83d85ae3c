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
    found = _built_elsewhere(subject.context)[subject.label]
    if found is None:
        raise Skipped("no hyperparameters to build it with")
    sent, seen = found
    expect(sent == seen, f"a module of {sent} numbers in another process" if isinstance(sent, int) else "something to pickle", seen)


def _built_elsewhere(context: Context) -> dict[str, tuple[Any, Any] | None]:
    """By component: the size of its state here, and there. One process for the whole distribution."""
    if "pickle" not in context.cache:
        sizes: dict[str, Any] = {}
        contents: dict[str, bytes] = {}
        for entry in context.entries:
            if entry.component.kind not in ("model", "loss", "extractor"):
                continue
            subject = Subject(context, entry)
            try:
                arguments = _arguments(subject)
                if arguments is None:
                    sizes[subject.label] = None
                    continue
                module = entry.load()(*arguments)
                sizes[subject.label] = sum(value.numel() for value in module.state_dict().values())
                contents[subject.label] = pickle.dumps((type(module), arguments))
            except Exception as error:
                sizes[subject.label] = one_line(error)
        there: dict[str, Any] = {}
        if contents:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "components"
                file.write_bytes(pickle.dumps(contents))
                given = json.dumps([sys.path, str(file)])
                done = subprocess.run([sys.executable, "-c", CHILD], input=given, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Failed(f"expected an interpreter that ends well; seen exit code {done.returncode}: {done.stderr.strip()[-300:]}")
            there = json.loads(done.stdout.splitlines()[-1])
        pairs = {label: None if size is None else (size, there.get(label, size if isinstance(size, str) else "")) for label, size in sizes.items()}
        context.cache["pickle"] = {k: (v if v is None or not isinstance(v[0], str) else ("", v[0])) for k, v in pairs.items()}
    found: dict[str, tuple[Any, Any] | None] = context.cache["pickle"]
    return found


def _arguments(subject: Subject) -> tuple[Any, ...] | None:
    """What the component's class is called with, or None where there are no hyperparameters to call it with."""
    from mmbench.testing import extractors, losses, models

    if subject.component.kind == "model":
        return next(models.cases(subject)).inputs, subject.config()
    if subject.component.kind == "loss":
        return next(losses.cases(subject)).spec, subject.config()
    return (subject.config(),) if extractors.given(subject) else None
