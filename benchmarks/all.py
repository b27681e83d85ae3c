"""Every benchmark, then the page: under half an hour on two quiet cores.

    python benchmarks/all.py                        # what is not recorded at this commit yet
    python benchmarks/all.py --only steps --only page

A command that ended is not run again at the same commit, so an interrupted measurement goes on where it stopped. Nothing else should run beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
from measure import RESULTS, commit, timed

NAMES = ("steps", "epoch", "start", "jobs", "encoders", "growth", "page")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="These alone, even where they are recorded. Repeatable.")
def main(only: tuple[str, ...]) -> None:
    """Run the benchmarks one after another; one that fails is reported at the end and does not stop the others."""
    failed = []
    for name in only or NAMES:
        if not only and name != "page" and recorded(RESULTS / f"{name}.json"):
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


def recorded(path: Path) -> bool:
    """Whether figures of this very commit are there, and not those of a quick run."""
    if not path.is_file():
        return False
    content = json.loads(path.read_text(encoding="utf-8"))
    return not content["quick"] and content["commit"] == commit()


if __name__ == "__main__":
    main()
