"""Every benchmark, then the page: about ten minutes on two quiet cores, and 5 GB of disk for a while.

    python benchmarks/all.py                        # what is not recorded at this commit yet
    python benchmarks/all.py --only steps --only page

A command that ended is not run again at the same commit, so an interrupted measurement goes on where it stopped. Those that measure many things
(steps, encoders, growth) have so many minutes, begin with what matters most, and write as they go; called again they measure what is missing.
Nothing else should run beside it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
from measure import RESULTS, recorded, timed

NAMES = ("steps", "epoch", "start", "jobs", "encoders", "growth", "page")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="These alone, even where all of it is recorded. Repeatable.")
def main(only: tuple[str, ...]) -> None:
    """Run the benchmarks one after another; one that fails is reported at the end and does not stop the others."""
    failed = []
    for name in only or NAMES:
        if not only and name != "page" and (recorded(RESULTS, name) or {}).get("whole"):
            click.echo(f"== {name}: recorded at this commit")
            continue
        click.echo(f"== {name}")
        command = [sys.executable, str(Path(__file__).parent / f"{name}.py")]
        codes: list[int] = []
        seconds = timed(lambda command=command, codes=codes: codes.append(subprocess.run(command, check=False).returncode))  # type: ignore[misc]
        click.echo(f"== {name}: {seconds:.0f} s")
        failed += [name] if codes[0] else []
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
