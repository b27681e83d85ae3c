"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

device_option = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", callback=lambda context, option, value: _device(value)
)

_OPTIONS = [
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value, for example training.epochs=10. Repeatable."),
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


def deliver(text: str, out: Path | None) -> None:
    """Print the text, or write it to the file that ``--out`` names. ConfigError: it cannot be written."""
    if out is None:
        click.echo(text, nl=False)
        return
    from mmbench.files import write, writing
    from mmbench.privacy import shared

    with writing(out):
        write(out, shared(text))
    click.echo(f"wrote {out}")
