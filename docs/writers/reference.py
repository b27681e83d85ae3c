"""The pages of commands, config keys and components."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel

from mmbench import config
from mmbench.cli import VERBS, cli
from mmbench.component import KINDS
from writers.declared import declared, options
from writers.markdown import DOCS, escaped, table, written

WIDTH = 100
FOLDER = DOCS / "reference"


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with its text."""
    yield FOLDER / "commands.md", written(_commands(), "mmbench VERB --help")
    yield FOLDER / "config.md", written(_config(), "mmbench/config.py")
    yield FOLDER / "components.md", written(_components(), "what the plugins declare")


def _commands() -> str:
    text = "# Commands\n\n"
    root = click.Context(cli, info_name="mmbench", terminal_width=WIDTH, **cli.context_settings)
    for verb in VERBS:
        command = cli.get_command(root, verb)
        assert command is not None
        text += _help(command, root, verb)
    return text


def _help(command: click.Command, parent: click.Context, name: str) -> str:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    text = f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n\n"
    if isinstance(command, click.Group):
        text += "".join(_help(command.commands[sub], context, sub) for sub in sorted(command.commands))
    return text


def _config() -> str:
    text = "# Config keys\n\n"
    text += "What a config may say. A component's own keys stand beside its name: `mmbench show KIND NAME`, and the pages of "
    text += "[methods](../methods/index.md).\n\n"
    for section in _sections(config.Experiment):
        title = "The config" if section is config.Experiment else section.__name__.removesuffix("Config")
        text += f"## {title}\n\n{escaped((section.__doc__ or '').strip())}\n\n{options(section)}"
    return text


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The config's classes in the order in which `mmbench.config` would be read from the top: the whole, then its parts."""
    yield model
    for value in vars(config).values():
        if (
            isinstance(value, type)
            and issubclass(value, BaseModel)
            and value.__module__ == config.__name__
            and value.model_fields
            and value is not model
        ):
            yield value


def _components() -> str:
    text = "# Components\n\nModels and losses: [Methods](../methods/index.md).\n\n"
    for kind in KINDS:
        if kind in ("model", "loss"):
            continue
        entries = declared().of_kind(kind)
        rows = [[f"`{entry.component.name}`", escaped(entry.component.summary), entry.distribution] for entry in entries]
        text += f"## {kind.replace('-', ' ').capitalize()}s\n\n" + (table([kind, "what it is", "from"], rows) or "None here.\n\n")
        for entry in entries:
            if entry.load_config().model_fields:
                needs = f"Needs the package {', '.join(f'`{extra}`' for extra in entry.component.extras)}.\n\n" if entry.component.extras else ""
                text += f"### {entry.component.name}\n\n{needs}{options(entry.load_config())}"
    return text
