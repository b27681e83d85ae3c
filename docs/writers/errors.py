"""Every error message of the product, taken from the code that raises it, by what the user was doing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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


def pages() -> Iterator[tuple[Path, str]]:
    """The page with its text."""
    text = "# All messages\n\n"
    text += "`…` stands for what differs: a path, a name, a number. Each says the next step itself; "
    text += "[Troubleshooting](../troubleshooting.md) has the why of the usual ones.\n\n"
    found = messages()
    for title in GROUPS:
        rows = sorted({(f"`{name}`", f"`{message}`") for group, name, message in found if group == title}, key=lambda row: row[1].lower())
        if rows:
            text += f"## {title}\n\n" + table(["error", "message"], rows)
    yield PAGE, written(text, "the code that raises them")


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
    """What the user was doing, the error and its message, of each place that raises one with words of its own."""
    found = []
    for path, module in modules().items():
        title = next(title for title, places in GROUPS.items() if path.startswith(places))
        for node in ast.walk(module):
            call = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in classes() and call.args:
                text = " ".join(_template(call.args[0]).replace("`", "'").replace("|", "/").split())
                if any(character.isalpha() for character in text):
                    found.append((title, call.func.id, text))
    return found


def _template(node: ast.expr) -> str:
    """The words of an expression; … for what is known only when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_template, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left) + _template(node.right)
    return "…"
