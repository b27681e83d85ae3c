"""Options that several verbs share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mmbench.cli.complete import complete
from mmbench.cli.terminal import say, say_whole

device_option = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", callback=lambda context, option, value: _device(value)
)

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, None: 3600.0}


def _seconds(value: str | None) -> float | None:
    """Hours, or with a unit: 90m, 45s, 1.5h."""
    if value is None:
        return None
    found = _SPAN.fullmatch(value.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds or not math.isfinite(seconds):
        raise click.BadParameter(f"{value!r} is no span of time; write hours, or 90m, 45s")
    return seconds


timeout_option = click.option(
    "--timeout",
    metavar="HOURS|90m",
    callback=lambda context, option, value: _seconds(value),
    help="Stop a run that takes longer; it is failed, and --rerun failed goes on from its last checkpoint.",
)

_EXECUTION = [
    click.option(
        "--executor",
        metavar="NAME",
        shell_complete=complete("components", "executor"),
        help="What carries the runs out: mmbench list executor. Default: as CONFIG says, or local.",
    ),
    click.option("--jobs", type=click.IntRange(1), help="Runs at once. Default: one per GPU, or one per core."),
    click.option("--jobs-per-device", type=click.IntRange(1), help="Runs at once on each GPU, for small models. Default: 1."),
    timeout_option,
]


def execution_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where and how many at once runs go on; `execution` turns them into those of ``--set``."""
    for option in reversed(_EXECUTION):
        function = option(function)
    return function


def execution(overrides: tuple[str, ...], executor: str | None, **options: float | None) -> tuple[str, ...]:
    """The options of a config, with those of its executor: the name first, since another one has other keys."""
    first = () if executor is None else (f"executor.name={executor}",)
    return (*first, *overrides, *(f"executor.{name}={value}" for name, value in options.items() if value is not None))


quiet_option = click.option("--quiet", is_flag=True, help="Print warnings, runs that failed, and what came of it.")


def json_option(last: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--json`` of a verb that trains; `last`: what comes after the runs."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print a JSON object on each line: the plan, each epoch, each run, {last}.")


_OPTIONS = [
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=complete("keys"),
        help="Change one value, for example training.epochs=10. Repeatable.",
    ),
    click.option("--seeds", metavar="SEEDS", help="For example 1-5 or 1,3,7."),
    device_option,
    click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where the run folders go."),
    click.option("--data-root", type=click.Path(path_type=Path), envvar="MMBENCH_DATA", help="Where data sets are looked for (or MMBENCH_DATA)."),
]


def experiment_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options with which a config is read."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _device(value: str) -> str:
    kind, colon, number = value.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and (kind != "cuda" or not number.isdigit())):
        raise click.BadParameter(f"{value!r} is none of auto, cpu, cuda, cuda:N")
    return value


def deliver(text: str, out: Path | None, format_: str) -> None:
    """Print the text, its lines whole where it is not for people, or write it to the file of ``--out``. ConfigError: that cannot be written."""
    if out is None:
        (say if format_ == "plain" else say_whole)(text, nl=False)
        return
    from mmbench.files import write, writing
    from mmbench.privacy import shared

    with writing(out):
        write(out, shared(text))
    say(f"wrote {out}")
