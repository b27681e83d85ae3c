"""Every message of the product that says that something is wrong, taken from the code that says it, by what the user was doing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from writers.cures import CURES, INTRODUCTIONS
from writers.markdown import DOCS, ROOT, table, written

PAGE = DOCS / "reference" / "errors.md"
GROUPS = {
    "Reading and checking data": ("mmbench/data/", "mmbench/media.py"),
    "Extracting features": ("mmbench/extraction/", "plugins/mmbench-extractors/"),
    "Training": ("mmbench/training/", "mmbench/worker.py", "mmbench/runner.py", "mmbench/executors/", "mmbench/adapters.py"),
    "Tables, figures, comparisons": ("mmbench/results/", "mmbench/metrics.py"),
    "Opening finished runs": ("mmbench/diagnostics/",),
    "Papers again": ("mmbench/reproduction/",),
    "Plugins and their tests": ("mmbench/plugins.py", "mmbench/testing/", "mmbench/tracking.py"),
    "Commands": ("mmbench/cli/",),
    "Configs": ("mmbench/",),
    "Options of plugins": ("plugins/",),
}
"""What the user was doing, by where the code is; the first that fits."""
KINDS = {
    "`...Error`": "ends the command with `error:` before it",
    "`usage`": "a mistake in the command's options, shown with its usage",
    "`reason`": "part of another message, behind its last colon or in a list of several; or why a run failed, in `mmbench status` and below tables",
    "`warning`": "goes to standard error, or stands in the run's record; nothing is stopped",
    "`note`": "stands below a table",
}
USAGE = ("UsageError", "BadParameter")
REASONS = ("ValueError", "OverflowError", "OSError", "RefusedError", "DamagedError", "SilentError", "_CutError", "PartedError")
"""Exceptions whose words another message ends with."""
GATHERED = {"problems": "reason", "refusals": "reason", "missing": "reason", "reason": "reason", "why": "reason", "mistakes": "reason"}
GATHERED |= {"warnings": "warning", "notes": "note", "remarks": "note"}
"""By the name that words are gathered under: what they become."""
ANSWERS = {
    "mmbench/plugins.py": ("_problem",),
    "mmbench/compatibility.py": ("_refusals",),
    "mmbench/worker.py": ("_reason",),
    "mmbench/training/finite.py": ("advice", "_extreme"),
    "mmbench/executors/local.py": ("_ending",),
    "mmbench/results/comparison.py": ("problem",),
    "mmbench/resolve.py": ("_message",),
    "plugins/mmbench-ray/src/mmbench_ray/node.py": ("different", "unseen"),
}
"""By file: the functions that return such words."""


def pages() -> Iterator[tuple[Path, str]]:
    """The page with its text. ValueError: a cure is for a message that no code has."""
    text = "# All messages\n\n"
    text += "`…` stands for what differs: a path, a name, a number. Most say the next step themselves; where one does not, it stands beside it. "
    text += "[Troubleshooting](../troubleshooting.md) has the why of the usual ones, and the exit codes.\n\n" + table(["", ""], KINDS.items())
    found = messages()
    unsaid = [start for start in CURES if not any(message.startswith(start) for _, _, message in found)]
    if unsaid:
        raise ValueError(f"docs/writers/cures.py: no message begins with {unsaid}")
    for title in GROUPS:
        rows = {
            (list(KINDS).index(f"`{kind}`") if f"`{kind}`" in KINDS else -1, message.lower(), kind, message)
            for group, kind, message in found
            if group == title
        }
        cells = [
            (f"`{kind}`", f"`{message}`", next((CURES[start] for start in CURES if message.startswith(start)), ""))
            for *_, kind, message in sorted(rows)
        ]
        if cells:
            text += f"## {title}\n\n" + f"{INTRODUCTIONS.get(title, '')}\n\n".lstrip() + table(["kind", "message", "what to do"], cells)
    yield PAGE, written(text, "the code that says them, and docs/writers/cures.py")


@cache
def modules() -> dict[str, ast.Module]:
    """The product's modules by their path in the repository."""
    paths = [*ROOT.glob("mmbench/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(paths) if "_shipped" not in path.parts}


@cache
def classes() -> frozenset[str]:
    """MmbenchError and every class below it."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for module in modules().values()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
    }
    known = {"MmbenchError"}
    while more := {name for name, above in bases.items() if above & known} - known:
        known |= more
    return frozenset(known)


def messages() -> list[tuple[str, str, str]]:
    """What the user was doing, what it is and its words, of each place that says something in words of its own."""
    found = []
    for path, module in modules().items():
        title = next(title for title, places in GROUPS.items() if path.startswith(places))
        told = [*_told(module, path)]
        texts = {(kind, " ".join(_template(text).replace("`", "'").replace("|", "/").split())) for kind, node in told for text in _each(node)}
        found += [(title, kind, text.removeprefix("warning: ")) for kind, text in texts if len(re.findall("[A-Za-z]{2,}", text)) > 1]
    return found


def _told(tree: ast.AST, path: str, function: str = "") -> Iterator[tuple[str, ast.expr]]:
    """What is said below a node: an error that is raised, or words that are gathered for one, for a warning, or for the notes of a table."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            name = ast.unparse(node.exc.func).rpartition(".")[2]
            if name in classes() or name in USAGE or name in REASONS:
                yield "usage" if name in USAGE else "reason" if name in REASONS else name, node.exc.args[-1 if name == "OSError" else 0]
        elif isinstance(node, ast.Call):
            yield from _said(node, inside)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield from ((kind, value) for kind in [_gathered(target, inside)] if kind for value in _items(node.value))
        elif isinstance(node, ast.Return) and node.value is not None and inside in ANSWERS.get(path, ()):
            yield from (("reason", value) for value in _items(node.value))
        yield from _told(node, path, inside)


def _said(call: ast.Call, function: str) -> Iterator[tuple[str, ast.expr]]:
    """What a call says: a problem with its place, a warning on the terminal, an item of a list, or the reason of a run."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    if name == "problem" and len(call.args) == 2:
        yield "ConfigError", ast.BinOp(ast.Constant("…: "), ast.Add(), call.args[1])
    elif name in ("say", "print", "shown") and call.args and _template(call.args[0]).startswith("warning: "):
        yield "warning", call.args[0]
    elif name in ("append", "extend") and isinstance(call.func, ast.Attribute) and call.args:
        yield from ((kind, value) for kind in [_gathered(call.func.value, function)] if kind for value in _items(call.args[0]))
    elif name == "fail" and len(call.args) == 2:
        yield "reason", call.args[1]
    yield from (("reason", keyword.value) for keyword in call.keywords if keyword.arg in ("reason", "problem"))


def _gathered(target: ast.expr, function: str) -> str:
    """What becomes of the words that a name gathers; nothing where they are no message."""
    name = target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
    if name == "missing" and isinstance(target, ast.Name):  # names of things, not words
        return ""
    return "note" if (name, function) == ("lines", "explanations") else GATHERED.get(name, "")


def _items(node: ast.expr) -> Iterator[ast.expr]:
    """The items of a list that is written out; else the value itself."""
    if isinstance(node, ast.List | ast.Tuple):
        for item in node.elts:
            yield from _items(item)
    elif isinstance(node, ast.ListComp | ast.GeneratorExp):
        yield from _items(node.elt)
    elif isinstance(node, ast.Starred):
        yield from _items(node.value)
    elif isinstance(node, ast.BinOp) and isinstance(node.left, ast.List | ast.ListComp):
        yield from (*_items(node.left), *_items(node.right))
    else:
        yield node


def _each(node: ast.expr) -> Iterator[ast.expr]:
    """The values that an expression can have."""
    if isinstance(node, ast.IfExp):
        yield from (*_each(node.body), *_each(node.orelse))
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _each(value)
    elif isinstance(node, ast.List | ast.ListComp | ast.GeneratorExp):
        for item in _items(node):
            yield from _each(item)
    else:
        yield node


def _template(node: ast.expr) -> str:
    """The words of an expression; … for what is known only when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_template, node.values))
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Call):
        return _template(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left) + _template(node.right)
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        return "pip install …" if name == "how_to_install" else _template(node.args[0]) if name in ("style.escape", "escape", "shown") else "…"
    return "…"
