"""Every fault of ``tests/reliability``, as often as it takes to believe the answer; then ``docs/reliability.md``.

    python benchmarks/faults.py                     # the long form: hours on two cores
    python benchmarks/faults.py --only kill         # the files whose names hold a word; the others' counts are kept
    python benchmarks/faults.py --only kill --tests import   # of one file the tests that pytest's -k chooses; the page says so
    python benchmarks/faults.py --short             # the counts of the test suite
    python benchmarks/faults.py --page              # the page alone, from what is recorded
    python benchmarks/faults.py --check             # fails where the page is not what the record says

MMBENCH_OTHER_PYTHON names an interpreter of another version, with the same packages, whose runs are compared too.
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
@click.option("--tests", metavar="EXPRESSION", help="Of one file that is recorded, try only these tests again (pytest -k); other counts are kept.")
@click.option("--short", is_flag=True, help="The counts of the test suite.")
@click.option("--page", is_flag=True, help="Write the page from what is recorded, and run nothing.")
@click.option("--check", is_flag=True, help="Fail where the page is not what the record says.")
def main(only: tuple[str, ...], tests: str | None, short: bool, page: bool, check: bool) -> None:
    """Try the faults and write the page."""
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    failed = []
    if not page and not check:
        chosen = [path for path in sorted(TESTS.glob("test_*.py")) if not only or any(word in path.name for word in only)]
        if not chosen:
            raise click.UsageError(f"no file of tests has {' or '.join(only)} in its name")
        if tests and not (len(chosen) == 1 and chosen[0].name in record):
            raise click.UsageError("--tests goes with --only and the name of one file that is recorded")
        for path in chosen:
            found, well = tried(path, short, tests)
            record[path.name] = joined(record[path.name], found, tests) if tests else found
            failed += [] if well else [path.name]
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
    text = rendered(record)
    if check:
        if not PAGE.is_file() or PAGE.read_text() != text:
            raise click.ClickException(f"{PAGE.name} is not what {RECORD.name} says; python benchmarks/faults.py --page writes it")
        return
    PAGE.write_text(text)
    click.echo(f"written: {PAGE}")
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


def tried(path: Path, short: bool, tests: str | None = None) -> tuple[dict[str, Any], bool]:
    """The counts of one file of tests, or of some of its `tests`, and whether all of it passed."""
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally"
        environment = {**os.environ, "MMBENCH_TALLY": str(tally), "MMBENCH_RELIABILITY": "" if short else "long"}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=0", str(path), *(["-k", tests] if tests else [])]
        well = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
        lines = [json.loads(line) for line in tally.read_text().splitlines()] if tally.exists() else []
    when = datetime.now(timezone.utc).date().isoformat()
    return {"code": commit(), "date": when, "long": not short, "passed": well, "faults": counted(lines)}, well


def joined(before: dict[str, Any], again: dict[str, Any], tests: str) -> dict[str, Any]:
    """The counts of a file, some of whose tests were tried again."""
    faults = {**before["faults"], **again["faults"]}
    passed = again["passed"] and all(row["tried"] == row["survived"] for row in faults.values())
    return {**before, "faults": faults, "passed": passed, "again": [*before.get("again", []), {"tests": tests, "code": again["code"]}]}


def counted(lines: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Tries and survivals by fault, in the order in which they were first tried."""
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        row = found.setdefault(line["fault"], {"tried": 0, "survived": 0})
        row["tried"] += line["tries"]
        row["survived"] += line["tries"] * line["survived"]
    return found


def rendered(record: dict[str, Any]) -> str:
    """The page: the template, a sentence on all tries, then a table for each file of tests that is still there."""
    parts = [(Path(__file__).parent / "reliability.template.md").read_text().rstrip()]
    sections, faults = [], []
    for name, part in sorted(record.items()):
        if not (TESTS / name).is_file():
            continue
        title = (TESTS / name).read_text().split('"""')[1].strip().splitlines()[0].rstrip(".")
        told = [f"`tests/reliability/{name}`", part["date"], f"code {part['code']}"]
        told += [f"those of {again['tests']} again with code {again['code']}" for again in part.get("again", [])]
        told += [] if part["long"] else ["at the counts of the test suite"]
        told += [] if part["passed"] else ["**not all of its tests passed**"]
        rows = [(fault.replace("|", "\\|"), row["tried"], row["survived"]) for fault, row in part["faults"].items()]
        lines = [f"| {fault} | {tries} | {survived} | {tries - survived} |" for fault, tries, survived in rows]
        table = "\n".join(["| fault | tried | survived | lost |", "|---|---:|---:|---:|", *lines])
        sections.append(f"### {title}\n\n{', '.join(told)}\n\n{table}")
        faults += rows
    tries, survived = (sum(row[place] for row in faults) for place in (1, 2))
    parts.append(f"In all: {len(faults)} faults, {tries} tries, {tries - survived} lost.")
    return "\n\n".join(parts + sections) + "\n"


if __name__ == "__main__":
    main()
