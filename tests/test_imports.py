"""What does not train imports no torch, and help comes at once."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmbench

from .results.folders import make_run

FREE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "ot", "transformers", "torchaudio"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
"""


def run(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", FREE + code], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list"],
        ["plugins"],
        ["env"],
        ["show", "model", "linear"],
        ["data", "list"],
        ["check", "floor.yaml"],
        ["new", "plugin", "mine"],
        ["new", "config", "--help"],
        ["test", "--help"],
        ["extract", "--help"],
        ["reproduce"],
        ["embed", "--help"],
        ["diagnose", "--help"],
        ["rerun", "--help"],
        ["report", "runs", "--published"],
        ["report", "runs", "--baseline", "tfn"],
        ["report", "runs", "--html", "page.html"],
        ["compare", "runs"],
        ["figure", "confusion", "runs"],
    ],
)
def test_verbs_without_torch(arguments: list[str], tmp_path) -> None:
    (tmp_path / "floor.yaml").write_text("data: {name: mosi, features: aligned, simulated: true, samples: 40}\nmodel: {name: linear}\n")
    if "runs" in arguments:
        for name in ("misa", "tfn"):
            make_run(tmp_path / "runs", name)
    run(
        f"sys.argv = ['mmbench', *{arguments!r}]\nfrom mmbench.cli import main\ntry: main()\nexcept SystemExit as e: assert not e.code, e",
        tmp_path,
    )


def test_entry_modules_and_configs_without_torch(tmp_path) -> None:
    out = run(
        "from mmbench.plugins import catalogue\nknown = catalogue()\n"
        "assert not any(p.problem for p in known.plugins), known.plugins\n"
        "for entry in known.entries: entry.load_config()\nprint(len(known.entries))",
        tmp_path,
    )
    assert int(out) >= 20


HEAVY = ("torch", "transformers", "torchaudio", "ot")
TORCH_MODULES = {"batch", "interfaces", "adapters", "floors"}


def test_only_the_training_side_imports_torch_at_module_level() -> None:
    root = Path(mmbench.__file__).parent
    offenders = []
    for path in root.rglob("*.py"):
        part = path.relative_to(root)
        if part.parts[0] in ("training", "testing", "layers", "diagnostics") or part.stem in TORCH_MODULES:
            continue
        lines = [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
        offenders += [f"{part}: {line}" for line in lines if line.split()[1].partition(".")[0] in HEAVY or ".training" in line.split()[1]]
    assert offenders == []


def test_the_core_names_no_method() -> None:
    """Outside its own floors, the core has no word of any method's name; but a file's format may be called after the method that it was made for."""
    root = Path(mmbench.__file__).parent
    methods = (root.parent / "plugins" / "mmbench-baselines" / "src" / "mmbench_baselines").glob("*/config.py")
    names = {"decalign", "slad", *(path.parent.name for path in methods)}
    assert len(names) >= 10
    found = []
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text())
        if path.parent == root / "data" / "formats":
            continue
        if path == root / "builtin.py":
            tree.body = [node for node in tree.body if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_FORMATS")]
        prose = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings may cite a paper
        words = [str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in prose]
        words += [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        found += [f"{path.name}: {name}" for name in names if any(re.search(rf"\b{name}\b", word.lower()) for word in words)]
    assert found == []
