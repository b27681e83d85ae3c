"""``mmbench new``."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import click

from mmbench.cli.terminal import say


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Write a package to start from."""


@command.command()
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default=True, help="The folder that it is written to.")
def plugin(name: str, into: Path) -> None:
    """A plugin package mmbench-NAME: a model, a loss, a metric and an extractor that work, with their tests.

    NAME is in small letters, digits and hyphens, for instance `my-method`.
    """
    from mmbench.errors import ConfigError
    from mmbench.files import shipped
    from mmbench.plugins import catalogue

    name = name.removeprefix("mmbench-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} cannot name a package: small letters, digits and single hyphens, starting with a letter, for instance my-method")
    if f"mmbench-{name}" in {plugin.distribution for plugin in catalogue().plugins}:
        raise ConfigError(f"a distribution mmbench-{name} is installed already; choose another name")
    folder = into / f"mmbench-{name}"
    if folder.exists():
        raise ConfigError(f"{folder} exists already; choose another name, or remove it")
    try:
        files = write_plugin(shipped("plugins/mmbench-example"), folder, name)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}") from None
    say("\n".join(f"wrote {folder / file}" for file in files))
    say(f"\nNext: pip install -e {folder} && mmbench test mmbench-{name} && mmbench run {folder / f'{name}.yaml'}")


def write_plugin(template: Path, folder: Path, name: str) -> list[Path]:
    """Copy the package of the template, whose name is ``example``, under another name. Returns what was written, relative to `folder`."""
    words = {
        "mmbench-example": f"mmbench-{name}",
        "Example": "".join(part.capitalize() for part in name.split("-")),
        "example.yaml": f"{name}.yaml",
        "example": name.replace("-", "_"),
    }
    pattern = re.compile("|".join(map(re.escape, words)))

    def renamed(text: str) -> str:
        return pattern.sub(lambda match: words[match.group()], text)

    written = []
    for source in sorted(template.rglob("*")):
        part = source.relative_to(template)
        if source.suffix not in (".py", ".md", ".toml", ".yaml") or any(parent.startswith(".") for parent in part.parts):
            continue
        target = Path(renamed(str(part)))
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(renamed(source.read_text(encoding="utf-8")), encoding="utf-8")
        written.append(target)
    return written
