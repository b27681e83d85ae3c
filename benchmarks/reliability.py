"""Every fault of ``tests/reliability``, as often as it takes to believe the answer; then ``docs/reliability.md``.

    python benchmarks/reliability.py                     # the long form: hours on two cores
    python benchmarks/reliability.py --only kill         # the files whose names hold a word; the others' counts are kept
    python benchmarks/reliability.py --short             # the counts of the test suite
    python benchmarks/reliability.py --page              # the page alone, from what is recorded
    python benchmarks/reliability.py --check             # fails where the page is not what the record says

A try survives where the promise it tests holds: nothing lost, nothing wrong, one clear error. Anything else is a loss, and fails its test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from measure import RESULTS, ROOT, commit

TESTS = ROOT / "tests" / "reliability"
RECORD = RESULTS / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"


@click.command()
@click.option("--only", multiple=True, help="A word in the names of the test files to run. Repeatable; the others keep their counts.")
@click.option("--short", is_flag=True, help="The counts of the test suite.")
@click.option("--page", is_flag=True, help="Write the page from what is recorded, and run nothing.")
@click.option("--check", is_flag=True, help="Fail where the page is not what the record says.")
def main(only: tuple[str, ...], short: bool, page: bool, check: bool) -> None:
    """Try the faults and write the page."""
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    failed = []
    if not page and not check:
        for path in sorted(TESTS.glob("test_*.py")):
            if not only or any(word in path.name for word in only):
                record[path.name], well = tried(path, short)
                failed += [] if well else [path.name]
                RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    text = rendered(record)
    if check:
        if PAGE.read_text() != text:
            raise click.ClickException(f"{PAGE.name} is not what {RECORD.name} says; python benchmarks/reliability.py --page writes it")
        return
    PAGE.write_text(text)
    click.echo(f"written: {PAGE}")
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


def tried(path: Path, short: bool) -> tuple[dict[str, Any], bool]:
    """The counts of one file of tests, and whether all of it passed."""
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally"
        environment = {**os.environ, "MMBENCH_TALLY": str(tally), "MMBENCH_RELIABILITY": "" if short else "long"}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=0", str(path)]
        well = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
        lines = [json.loads(line) for line in tally.read_text().splitlines()] if tally.exists() else []
    when = datetime.now(timezone.utc).date().isoformat()
    return {"code": commit(), "date": when, "long": not short, "passed": well, "faults": counted(lines)}, well


def counted(lines: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Tries and survivals by fault, in the order in which they were first tried."""
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        row = found.setdefault(line["fault"], {"tried": 0, "survived": 0})
        row["tried"] += line["tries"]
        row["survived"] += line["tries"] * line["survived"]
    return found


def rendered(record: dict[str, Any]) -> str:
    """The page: the template, then a table for each file of tests."""
    parts = [(Path(__file__).parent / "reliability.template.md").read_text().rstrip()]
    for name, part in record.items():
        title = (TESTS / name).read_text().split('"""')[1].strip().splitlines()[0].rstrip(".")
        form = "" if part["long"] else ", at the counts of the test suite"
        rows = [f"| {fault} | {row['tried']} | {row['survived']} | {row['tried'] - row['survived']} |" for fault, row in part["faults"].items()]
        table = "\n".join(["| fault | tried | survived | lost |", "|---|---:|---:|---:|", *rows])
        parts.append(f"## {title}\n\n`tests/reliability/{name}`, {part['date']}, code {part['code']}{form}\n\n{table}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
