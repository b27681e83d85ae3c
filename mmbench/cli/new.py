"""``mmbench new``."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

import click

from mmbench.cli.complete import complete
from mmbench.cli.terminal import say


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Write a config or a package to start from."""


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


@command.command()
@click.option("--from-mmsa", "mmsa", type=click.Path(path_type=Path), metavar="FILE", help="Values from a configuration of MMSA (JSON).")
@click.option("--data", "--dataset", "data", metavar="NAME", shell_complete=complete("datasets"), help="The data set: mmbench data list.")
@click.option("--model", metavar="NAME", shell_complete=complete("components", "model"), help="The fusion model: mmbench list model.")
@click.option(
    "--loss",
    "losses",
    metavar="NAME",
    multiple=True,
    shell_complete=complete("components", "loss"),
    help="A loss beside those that the model comes with: mmbench list loss. Repeatable.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any other value, for example data.simulated=true. Repeatable.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: my_MODEL_DATA.yaml.")
def config(mmsa: Path | None, data: str | None, model: str | None, losses: tuple[str, ...], overrides: tuple[str, ...], out: Path | None) -> None:
    """A config with every option of what is chosen, those at their defaults as comments with their meaning and source.

    On a terminal, what is not given is asked for. Where a config for the model on the data set is shipped, its values are taken; those of
    --from-mmsa replace them, and what they have no counterpart for is listed with the reason.
    """
    from mmbench.compose import apply
    from mmbench.data.manifest import list_manifests, load_manifest
    from mmbench.mmsa import read_block, translate
    from mmbench.plugins import catalogue
    from mmbench.resolve import resolve_all
    from mmbench.strict_yaml import Document
    from mmbench.write_config import fill, shipped_config, start, text_of, write_config

    known = catalogue()
    models = [entry.component.name for entry in known.of_kind("model") if not entry.component.floor]
    block = read_block(mmsa, model, data) if mmsa is not None else None
    if block is not None:
        model, data = block.model, block.data
    if model is None or data is None:
        asked = terminal()
        data = data or _chosen("--data", "Data set", list_manifests(), asked)
        model = model or _chosen("--model", "Model", models, asked)
        if asked and not losses:
            names = ", ".join(entry.component.name for entry in known.of_kind("loss"))
            losses = tuple(click.prompt(f"Losses beside the model's own, with spaces between ({names})", default="", show_default=False).split())
    manifest = load_manifest(data)
    for kind, name in (("model", model), *(("loss", loss) for loss in losses)):
        known.find(kind, name)
    stem = "_".join(name.rpartition("/")[2].removesuffix(".yaml") for name in (model, data))
    out = out or Path(f"my_{stem}.yaml")
    base = shipped_config(model, data)
    source = (
        f"Values: those of the shipped config {base.stem}."
        if base
        else "No config is shipped for this model on these data: everything is at its default."
    )
    head = [f"{model} on {data}.", source]
    document = start(model, data, losses)
    if block is not None:
        translation = translate(block, tuple(manifest.layouts))
        fill(document, translation)
        unlike = " Of these, without a counterpart or with another meaning:" * bool(translation.remarks)
        head += [f"Then those of an MMSA configuration.{unlike}", *(f"  {line}" for line in translation.remarks)]
    for override in overrides:
        apply(document, override)
    resolve_all(Document({"name": "new", **document.value}, document.marks))  # before it is written, which takes values for what they should be
    write_config(out, text_of(document.value, head))
    say(f"wrote {out}")
    say(f"\nNext: mmbench check {out} && mmbench run {out}")


def terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _chosen(option: str, title: str, names: list[str], asked: bool) -> str:
    """One of the names, as the user answers. ConfigError: there is nobody to ask."""
    from mmbench.errors import ConfigError

    if not asked:
        raise ConfigError(f"{option} is missing; known: {', '.join(names)}")
    say(f"{title}s: {', '.join(names)}")
    return str(click.prompt(title, type=click.Choice(names), show_choices=False))


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
