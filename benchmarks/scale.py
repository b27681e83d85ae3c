"""What many runs cost: time, memory and bytes read of the verbs that look at all of them, of planning a large sweep, and files on the disk.

    python benchmarks/scale.py                             # 20 000 synthetic run folders, then docs/scale.md: half an hour
    python benchmarks/scale.py --folder /scratch/many      # keep the folders, so that the next call need not write them again
    python benchmarks/scale.py --page [--check]            # docs/scale.md of the recorded figures alone

The mould of the folders is one real run on simulated data, which is trained first (`scale_runs.py`). Each verb is a process of its own; it is run
once after the contents of all files were dropped from the page cache (the kernel keeps what it knows of folders), then twice as it comes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from measure import child, memory, options, record, timed
from scale_runs import METHODS, SEEDS, finish, make, mould

CONFIG = "lmf_mosi"
REPEATS = 2
RATES = 10
"""Values of the second axis of the sweeps that are planned."""
TEMPLATE, PAGE = Path(__file__).parent / "scale.template.md", Path(__file__).parent.parent / "docs" / "scale.md"
WATCHED = """
import atexit, json, os, resource, sys
def end():
    field = lambda path, key: int(next(line.split()[1] for line in open(path) if line.startswith(key)))
    found = {"peak_mb": field("/proc/self/status", "VmHWM") / 1024, "read_mb": field("/proc/self/io", "rchar") / 2**20, "cpu_s": sum(os.times()[:4])}
    found["child_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    open(os.environ["MMBENCH_SCALE"], "w").write(json.dumps(found))
atexit.register(end)
from mmbench.cli import main
main()
"""
"""A verb that says at its end what it took."""


def verbs(folder: Path) -> dict[str, list[str]]:
    """The commands that are measured."""
    whole = str(folder / "matrix")
    return {
        "status": ["status", whole],
        "report": ["report", whole],
        "report --html": ["report", whole, "--html", str(folder / "page.html")],
        "report --format csv": ["report", whole, "--format", "csv"],
        "report --grid mae": ["report", whole, "--grid", "mae"],
        "compare A B": ["compare", "method00", "method01", "--runs", whole],
    }


@click.command()
@click.option("--runs", default=20_000, show_default=True, help="Run folders that are looked at.")
@click.option("--cells", default="1000,4000", show_default=True, help="Sizes of the sweeps that are planned.")
@click.option("--finished", default=1000, show_default=True, help="Runs of the finished sweep that is run again.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the folders are kept. Default: a temporary one.")
@click.option("--page", is_flag=True, help="Measure nothing: write docs/scale.md of the recorded figures.")
@click.option("--check", is_flag=True, help="With --page: only say whether it is what the figures make.")
@options()
def main(runs: int, cells: str, finished: int, folder: Path | None, page: bool, check: bool, threads: int, out: Path, quick: bool) -> None:
    """Measure what many runs cost."""
    if page:
        write_page(out, check)
        return
    runs, cells, finished = (60, "10", 50) if quick else (runs, cells, finished)
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        cast = mould(trained(place / "mould"))
        click.echo(f"{make(runs, cast, place)} folders in {place}")
        rows: list[dict[str, Any]] = []
        settings: dict[str, Any] = {"runs": runs, "seeds": SEEDS, "methods": METHODS}
        settings["files"] = on_disk(next((place / "mould").glob("*/lmf-*/seed-1")))
        settings["plans"] = []
        for size in cells.split(","):
            settings["plans"].append(child(__file__, {"cells": int(size), "place": str(place / "plans")}, threads, quick))
            click.echo(json.dumps(settings["plans"][-1]))
        settings["finished"] = finished_sweep(finished, place, cast)
        for name, arguments in verbs(place).items():
            cold(place)
            found = [told(arguments) for _ in range(1 if quick else REPEATS)]
            rows.append({"verb": name, **min(found, key=lambda one: one["seconds"]), "cold_s": found[0]["seconds"]})
            click.echo(json.dumps(rows[-1]))
            record(out, "scale", threads, quick, rows, whole=False, **settings)  # what is measured stays, however the command ends
        record(out, "scale", threads, quick, rows, **settings)
    if not quick:
        write_page(out, False)


def trained(folder: Path) -> Path:
    """A real run on simulated data, trained unless it is there."""
    found = sorted(folder.glob("*/lmf-*/seed-1/result.json"))
    if not found:
        overrides = ("--set", "data.simulated=true", "--set", "training.epochs=3", "--seeds", "1", "--jobs", "1")
        subprocess.run([sys.executable, "-m", "mmbench", "run", CONFIG, *overrides, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
        found = sorted(folder.glob("*/lmf-*/seed-1/result.json"))
    return found[0].parent


def cold(folder: Path) -> None:
    """Drop what the page cache has of all files below a folder."""
    os.sync()
    for place, _, names in os.walk(folder):
        for name in names:
            handle = os.open(f"{place}/{name}", os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def told(arguments: list[str]) -> dict[str, Any]:
    """Wall and CPU seconds of a verb, its peak of memory, what it read, and the lines that it printed."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, *arguments], capture_output=True, text=True, env={**os.environ, "MMBENCH_SCALE": file.name}, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise click.ClickException(f"mmbench {' '.join(arguments)}: {done.stderr[-500:]}")
        found = {key: round(value, 1) for key, value in json.load(file).items()}
    return {"seconds": round(seconds, 1), **found, "lines": done.stdout.count("\n")}


def sweep(cells: int, place: Path) -> Path:
    """A config of so many cells on simulated data."""
    rates = ", ".join(f"{1e-4 * (step + 1):.4g}" for step in range(cells // RATES))
    dropouts = ", ".join(f"{0.05 * step:.2g}" for step in range(RATES))
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"sweep{cells}.yaml"
    axes = f"  lr: {{key: training.optimizer.lr, values: [{rates}]}}\n  dropout: {{key: model.dropout, values: [{dropouts}]}}\n"
    path.write_text(f"extends: {CONFIG}\nname: sweep{cells}\ndata: {{simulated: true}}\nsweep:\n{axes}")
    return path


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """In a child process: seconds of each step of planning a sweep, on folders that are not there yet, and again."""
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    kept: dict[str, Any] = {}
    config = sweep(request["cells"], Path(request["place"]))
    with tempfile.TemporaryDirectory(dir=request["place"]) as out:
        steps = {
            "load": lambda: kept.update(cells=load(config, (), f"1-{SEEDS}")),
            "make_plan": lambda: kept.update(plan=make_plan(kept["cells"], Path(out), None, "cpu")),
            "prepare": lambda: kept.update(requests=prepare(kept["plan"], None)[0]),
            "prepare_again": lambda: prepare(kept["plan"], None),
        }
        seconds = {name: round(timed(step), 1) for name, step in steps.items()}
    return {"cells": request["cells"], "runs": len(kept["requests"]), **seconds, "rss_mb": memory()["rss"]}


def finished_sweep(runs: int, place: Path, cast: Any) -> dict[str, Any]:
    """``mmbench run`` of a sweep whose runs are all done: planning, looking at each run, and the table."""
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    config = sweep(runs // SEEDS, place / "plans")
    plan = make_plan(load(config, (), f"1-{SEEDS}"), place / "finished", None, "cpu")
    finish([request.folder for request in prepare(plan, None)[0]], cast)
    return {"runs": runs, **told(["run", str(config), "--seeds", f"1-{SEEDS}", "--out", str(place / "finished")])}


def on_disk(run: Path) -> dict[str, int]:
    """Bytes of each file of a real finished run."""
    return {path.name: path.stat().st_size for path in sorted(run.iterdir())}


def write_page(results: Path, check: bool) -> None:
    """docs/scale.md of the figures and of the prose in the template."""
    path = results / "scale.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def shown(match: re.Match[str]) -> str:
        return TABLES[match[1]](figures) if figures else "*Not recorded yet: `python benchmarks/scale.py`.*"

    text = re.sub(r"\{\{([a-z_]+)\}\}", shown, TEMPLATE.read_text(encoding="utf-8"))
    if not check:
        PAGE.write_text(text, encoding="utf-8")
        click.echo(f"written: {PAGE}")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        raise click.ClickException(f"{PAGE}: is not what {path} makes; run python benchmarks/scale.py --page")


def table(head: list[str], rows: Iterator[list[Any]]) -> str:
    """A table in Markdown, numbers to the right."""
    from page import grid

    return grid(head, rows)


def verbs_table(figures: dict[str, Any]) -> str:
    """What each verb takes."""
    columns = {
        "seconds": "seconds",
        "cold_s": "after the page cache was dropped",
        "cpu_s": "CPU seconds",
        "peak_mb": "peak memory, MiB",
        "child_mb": "of its largest child, MiB",
        "read_mb": "read, MiB",
        "lines": "lines printed",
    }
    return table(["verb", *columns.values()], ([f"`{row['verb']}`", *(row[key] for key in columns)] for row in figures["rows"]))


def plans_table(figures: dict[str, Any]) -> str:
    """What planning takes."""
    settings = figures["settings"]
    head = ["cells", "runs", "read and check the config, s", "lay out, s", "write the folders, s", "look at them again, s", "memory, MiB"]
    keys = ("cells", "runs", "load", "make_plan", "prepare", "prepare_again", "rss_mb")
    again = settings.get("finished")
    line = again and f"`mmbench run` of a finished sweep of {again['runs']} runs, table included: {again['seconds']} s, {again['peak_mb']} MiB."
    return f"{table(head, ([plan[key] for key in keys] for plan in settings.get('plans', ())))}\n\n{line or 'Not recorded yet.'}"


def files_table(figures: dict[str, Any]) -> str:
    """What is on the disk; the columns for more runs than were made are products."""
    files, seeds = figures["settings"]["files"], figures["settings"]["seeds"]
    small = {name: size for name, size in files.items() if name != "best.pt"}
    inodes = len(files) + 1 + 1 / seeds  # its files, its folder, and its share of the configuration's folder
    bytes_, checkpoint = sum(small.values()), files["best.pt"]
    rows = [["1", f"{inodes:.1f}", f"{bytes_ / 1e3:.1f} kB", f"{checkpoint / 1e6:.1f} MB"]]
    rows += [
        [f"{runs} (extrapolated)", f"{inodes * runs:.0f}", f"{bytes_ * runs / 1e9:.1f} GB", f"{checkpoint * runs / 1e12:.2f} TB"]
        for runs in (10_000, 1_000_000)
    ]
    names = ", ".join(f"`{name}` {size} B" for name, size in files.items())
    return f"{table(['runs', 'inodes', 'text and predictions', 'checkpoints'], iter(rows))}\n\nFiles of one run ({CONFIG}, simulated): {names}."


def machine_line(figures: dict[str, Any]) -> str:
    """Where and when."""
    machine = figures["machine"]
    text = f"{figures['settings']['runs']} synthetic run folders, {machine['processor']}, {machine['cores']} cores, Python {machine['python']}"
    return f"{text}; {figures['date']}, commit {figures['commit']}."


TABLES = {"verbs": verbs_table, "plans": plans_table, "files": files_table, "machine": machine_line}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(answer(json.loads(sys.argv[2]))))
    else:
        main()
