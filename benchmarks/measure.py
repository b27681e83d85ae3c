"""What the benchmarks share: child processes of their own, spreads, the machine's matrix rate, and files of figures. Imports no torch by itself."""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from mmbench.executors.local import MEMORY

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
WARM_UP = 3
SMALLEST = "lmf_mosi"
"""The config whose step is shortest: where what surrounds a model shows most."""
LARGE = ("1024 x 1024 x 1024", "1600 x 768 x 3072")
"""The products whose rate counts as the machine's: the better of both."""


CORES = len(os.sched_getaffinity(0))


def options(threads: int = 1) -> Callable[[Any], Any]:
    """``--threads``, ``--out`` and ``--quick``, which every benchmark has."""

    def add(command: Any) -> Any:
        for option in (
            click.option("--quick", is_flag=True, help="A tiny run, to see that the command works; its figures mean nothing."),
            click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the figures. Default: benchmarks/results."),
            click.option("--threads", default=threads, show_default=True, type=click.IntRange(1), help="CPU threads of what is measured."),
        ):
            command = option(command)
        return command

    return add


def child(script: str, request: Mapping[str, Any], threads: int, here: bool = False, cache: str | None = None) -> dict[str, Any]:
    """What ``answer(REQUEST)`` of a script gives, as JSON from a fresh process. `here`: in this process, where a quick run saves the start.
    `cache`: a folder in place of MMBENCH_CACHE.

    Memory is kept as the executor has it. Threads wait as the machine has it by default: nothing else runs beside a measurement, and a thread that
    sleeps is slow to wake.
    RuntimeError: the process failed; its last lines of output are the message.
    """
    environment = {"MMBENCH_CACHE": cache} if cache else {}
    if here:
        os.environ.update(environment)
        answered: dict[str, Any] = importlib.import_module(Path(script).stem).answer(dict(request))
        return answered
    told = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(
        [sys.executable, script, "--child", json.dumps(request)],
        capture_output=True,
        text=True,
        env={**without_thread_variables(), **MEMORY, **told},
        check=False,
    )
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.strip().splitlines()[-3:]) or f"exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def without_thread_variables() -> dict[str, str]:
    """This process's environment, without what says how many threads compute and how they wait."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    return {name: value for name, value in os.environ.items() if name not in names}


def repeat(call: Callable[[], Any], seconds: float, least: int = 3, most: int = 50) -> list[float]:
    """Seconds of each call, until `seconds` have passed: at least `least` calls, at most `most`."""
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        times.append(timed(call))
    return times


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """Median, least and greatest, in milliseconds."""
    values = [1000 * value for value in seconds]
    return {"median_ms": round(statistics.median(values), 3), "min_ms": round(min(values), 3), "max_ms": round(max(values), 3)}


def matrix_rates(seconds: float = 0.3) -> dict[str, float]:
    """GFLOP/s of float32 products of several shapes (rows x inner x columns), in this process with its threads; the best of repeated calls."""
    import torch

    shapes = {LARGE[0]: (1024, 1024, 1024), LARGE[1]: (1600, 768, 3072), "1600 x 64 x 64": (1600, 64, 64), "256 x (50 x 8 x 50)": (256, 50, 8, 50)}
    rates = {}
    for name, (*batch, rows, inner, columns) in shapes.items():
        left, right = torch.randn(*batch, rows, inner), torch.randn(*batch, inner, columns)
        out = torch.empty(*batch, rows, columns)
        flops = 2 * rows * inner * columns * (batch[0] if batch else 1)
        inside = max(1, int(2e8 / flops))  # short products several times, so that the clock does not count

        def products(left: Any = left, right: Any = right, out: Any = out, inside: int = inside) -> None:
            for _ in range(inside):
                torch.matmul(left, right, out=out)

        products()
        rates[name] = round(inside * flops / min(repeat(products, seconds)) / 1e9, 1)
    return rates


def machine_rate(rates: Mapping[str, float]) -> float:
    """The matrix rate that counts as the machine's, GFLOP/s."""
    return max(rates[name] for name in LARGE)


def memory() -> dict[str, float]:
    """Resident memory of this process now, MiB: in all, of its own (``anon``), and pages of mapped files (``file``)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: round(int(fields[key].split()[0]) / 1024, 1) for name, key in (("rss", "VmRSS"), ("anon", "RssAnon"), ("file", "RssFile"))}


def reset_peak() -> None:
    """Let the peak of resident memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Greatest resident memory since `reset_peak`, MiB."""
    return round(int(dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())["VmHWM"].split()[0]) / 1024, 1)


def record(folder: Path, name: str, threads: int, quick: bool, rows: Any, whole: bool = True, **settings: Any) -> None:
    """Write ``<folder>/<name>.json``: the figures with machine, versions, threads, date and commit. `whole`: nothing is left to measure."""
    content = {
        "benchmark": name,
        "simulated": True,
        "quick": quick,
        "whole": whole,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine(),
        "threads": threads,
        "settings": settings,
        "rows": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if whole:
        click.echo(f"written: {path}")


def recorded(folder: Path, name: str, **settings: Any) -> dict[str, Any] | None:
    """What was recorded at this very commit, with these settings, and not by a quick run."""
    path = folder / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = bool(content) and not content["quick"] and content["commit"] == commit() and settings.items() <= content["settings"].items()
    return content if same else None


class Budget:
    """The minutes of a command: what is not begun when they are over is left for the next call."""

    def __init__(self, minutes: float):
        self.end = time.perf_counter() + 60 * minutes

    def over(self) -> bool:
        """Whether nothing more is to begin."""
        return time.perf_counter() > self.end


def commit() -> str:
    """The last commit of anything but figures, with ``-dirty`` where other files differ from it; nothing outside of a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False).stdout.strip()

    code = (".", ":!benchmarks/results", ":!docs/performance.md", ":!docs/reliability.md", ":!docs/scale.md")
    return git("log", "-1", "--format=%h", "--abbrev=12", "--", *code) + (
        "-dirty" if git("status", "--porcelain", "--untracked-files=no", "--", *code) else ""
    )


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    return {
        "processor": f"{fields.get('model name', platform.machine())} (family {fields.get('cpu family')}, model {fields.get('model')})",
        "instructions": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "cores": CORES,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "torch": metadata.version("torch").partition("+")[0],
    }


def shipped_configs(dataset: str) -> list[str]:
    """Names of the shipped configs of one data set that train one method each on precomputed features, of every model that is installed."""
    from mmbench.errors import MmbenchError
    from mmbench.files import shipped
    from mmbench.resolve import load

    found = []
    for path in sorted(shipped("configs").glob(f"*_{dataset}.yaml")):
        try:
            cells = load(path)
        except MmbenchError:  # of a plugin that is not installed
            continue
        if len(cells) == 1 and not cells[0].missing and not cells[0].experiment.model.encoders and cells[0].experiment.data.name == dataset:
            found.append(path.stem)
    return found
