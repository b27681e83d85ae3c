"""``mmbench test``."""

from __future__ import annotations

import sys
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from mmbench.cli.terminal import say

if TYPE_CHECKING:
    from mmbench.testing.run import Case, Outcome, Suite


@click.command()
@click.argument("distribution", required=False)
@click.option("-k", "pattern", metavar="PATTERN", help="Only checks whose name, such as model:linear-padding, contains or matches PATTERN.")
@click.option("-v", "--verbose", is_flag=True, help="A line for every check.")
def command(distribution: str | None, pattern: str | None, verbose: bool) -> None:
    """Check that the components of a DISTRIBUTION (default: of all that are installed) keep the contracts.

    Exit codes: 0 all passed or skipped with a reason, 1 some failed, 2 usage.
    """
    from mmbench.plugins import catalogue
    from mmbench.testing.run import Suite

    names = [distribution] if distribution else list(dict.fromkeys(plugin.distribution for plugin in catalogue().plugins))
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for name in names:
        _test(Suite(name), pattern, verbose, totals, reasons)
    if not totals:
        raise click.UsageError(f"no check matches {pattern!r}")
    for reason, count in reasons.most_common():
        say(f"skipped: {count} x {reason}")
    say(_counts(totals))
    sys.exit(1 if totals["failed"] else 0)


def _test(suite: Suite, pattern: str | None, verbose: bool, totals: Counter[str], reasons: Counter[str]) -> None:
    """Make the checks of one distribution, and print a line for each component as it is done."""
    components: dict[str, list[Case]] = {}
    for case in suite.cases:
        if pattern is None or pattern in str(case) or fnmatchcase(str(case), pattern):
            components.setdefault(case.component, []).append(case)
    if components:
        say(f"{suite.distribution} {suite.version}")
    for component, cases in components.items():
        outcomes = [suite.run(case) for case in cases]
        counts = Counter(str(outcome.status) for outcome in outcomes)
        totals.update(counts)
        reasons.update(outcome.message for outcome in outcomes if outcome.status == "skipped")
        say(f"  {component:<32} {_counts(counts)}")
        for outcome in outcomes:
            _show(outcome, verbose)


def _show(outcome: Outcome, verbose: bool) -> None:
    name = outcome.case.check.name
    if outcome.status == "failed":
        say(f"    FAILED {name}: {outcome.message}\n           rule: {outcome.case.check.rule}")
    elif verbose:
        say(f"    {outcome.status} {name}" + (f": {outcome.message}" if outcome.message else ""))


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]} {status}" for status in ("passed", "failed", "skipped") if counts[status])
