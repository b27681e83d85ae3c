"""``mmbench data``: which data sets are known, whether a file is what it should be, and simulated data."""

from __future__ import annotations

import difflib
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from mmbench.cli.terminal import json_text, say, say_whole
from mmbench.errors import ConfigError, DataError

_ROOT = click.option("--data-root", type=click.Path(path_type=Path), envvar="MMBENCH_DATA", help="Where data sets are looked for (or MMBENCH_DATA).")


@click.group()
def command() -> None:
    pass


@command.command("list")
def list_() -> None:
    """The data sets that have a manifest, and where to ask for them."""
    from mmbench.data.manifest import list_manifests, load_manifest

    for name in list_manifests():
        manifest = load_manifest(name)
        sizes = ", ".join(f"{key} {split.size}" for key, split in manifest.splits.items())
        say(f"{name:<10}{manifest.title}: {manifest.task}; {sizes}")
        say(f"{'':<10}{manifest.licence} {manifest.source}")
        if manifest.protocols:
            say(f"{'':<10}protocols: {', '.join(_protocol(name, each) for each in manifest.protocols)}")
        if manifest.downloads:
            say(f"{'':<10}mmbench data fetch {name}: {', '.join(each.file for each in manifest.downloads)}")


def _protocol(name: str, protocol: str) -> str:
    from mmbench.data.manifest import load_manifest

    parts = load_manifest(name, protocol).parts
    return f"{protocol} ({', '.join(parts)})" if parts else protocol


@command.command()
@click.argument("what", metavar="NAME|PATH")
@click.option("--as", "name", metavar="NAME", help="The data set that a file is meant to be.")
@click.option("--set", "overrides", multiple=True, metavar="data.KEY=VALUE", help="Change one value of the config's data section. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON, for scripts.")
@_ROOT
def check(what: str, name: str | None, overrides: tuple[str, ...], as_json: bool, data_root: Path | None) -> None:
    """Read a data set and print one page about it: what it holds, how that compares with the published data set, and floors for its scores.

    Ends with exit code 3 if its splits are not the published ones.
    """
    from mmbench.data.checks import describe, examine, facts
    from mmbench.data.manifest import load_manifest

    config = _config(what, name, overrides)
    dataset, problems = examine(config, data_root)
    found = facts(dataset, load_manifest(config.name, config.protocol, config.part), problems)
    if as_json:
        say_whole(json_text(found))
    else:
        say(describe(found))
    if problems and config.splits == "published":
        raise DataError(f"{'; '.join(problems)}. --set data.splits=own accepts it here and in runs, and marks every result")


@command.command()
@click.argument("name")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--out", type=click.Path(path_type=Path), help="The folder to put the files in; default: the data root.")
@_ROOT
def fetch(name: str, files: tuple[str, ...], out: Path | None, data_root: Path | None) -> None:
    """Download the files that the owner of a data set offers for a plain download (all of them, or those named), and say where to ask for the rest.

    A download that was cut or interrupted goes on where it stopped when the same command is given again.
    """
    from mmbench.data import fetch as fetching
    from mmbench.data.manifest import load_manifest

    manifest, folder = load_manifest(name), out or data_root or Path("data")
    offered = {each.file: each for each in manifest.downloads}
    if unknown := [file for file in files if file not in offered]:
        raise ConfigError(f"{name} has no download {', '.join(unknown)}; it has {', '.join(offered) or 'none'}")
    for each in [offered[file] for file in files or offered]:
        line = fetching.ProgressLine(sys.stderr)
        say(f"{each.url}{f' ({each.notes})' if each.notes else ''}", err=True)
        try:
            found = fetching.fetch(each, folder, line)
        except KeyboardInterrupt:
            line.end()
            say(f"interrupted: what came so far is kept as {folder / each.file}.part; the same command goes on if the server can", err=True)
            raise
        finally:
            line.end()
        published = "as published" if each.sha256 else "nobody published one"
        say(f"{found.path}: {'is already there' if found.there else 'fetched'}; sha256 {found.sha256} ({published})")
        if step := fetching.next_step(found.path):
            say(step)
    say(f"{'' if offered else f'{name} offers no plain download. '}{fetching.instructions(manifest, folder)}")


@command.command()
@click.argument("name")
@click.option("--samples", type=click.IntRange(min=1), help="Total size; default: the data set's own.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed makes other data.")
@click.option("--features", type=click.Choice(["aligned", "unaligned"]), help="Layout; default: the manifest's first.")
@click.option("--out", type=click.Path(path_type=Path), help="A new folder to write to; default: the cache.")
def simulate(name: str, samples: int | None, seed: int | None, features: str | None, out: Path | None) -> None:
    """Write simulated data in the shape of a data set, with the true factors beside them."""
    from mmbench.data.manifest import load_manifest
    from mmbench.data.simulate import SEED, load_factors
    from mmbench.data.simulate import simulate as make

    store = make(load_manifest(name), samples, SEED if seed is None else seed, features, out)
    sizes = ", ".join(f"{split} {len(part['ids'])}" for split, part in store.document["splits"].items())
    say(f"SIMULATED {name} ({store.document['layout']}; {sizes}): {store.folder}")
    say(f"true factors, for mmbench.data.simulate.load_factors: {', '.join(load_factors(store)['train'])}")
    say(f"use it with --set data.path={store.folder.resolve()}" if out else "use it with --set data.simulated=true")


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the data set; default: the folder's.")
def new(folder: Path, name: str | None) -> None:
    """Write a manifest for data of your own: a folder with label.csv, and recordings or features."""
    from mmbench.data.audio import has_recordings
    from mmbench.data.own import unmatched, write_manifest

    path, manifest = write_manifest(folder, name)
    kind = f"classes {', '.join(manifest.classes)}" if manifest.classes else "labels in [{:g}, {:g}]".format(*(manifest.label_range or (0, 0)))
    sizes = ", ".join(f"{split} {part.size}" for split, part in manifest.splits.items())
    say(f"{path}: {manifest.name}, {manifest.task}, {kind}; {', '.join(manifest.modalities)}; {sizes}")
    say(f"metrics: {', '.join(manifest.metrics)}")
    for line in unmatched(folder, manifest):
        say(f"notice: {line}")
    say(f"look at it with: mmbench data check {path}")
    if has_recordings(folder):
        say("make features of recordings with: mmbench extract FILE.yaml, which names the extractors (mmbench list extractor)")
    say(f"use it with: mmbench new config --data {path} --model NAME (mmbench list model)")


@command.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "name", metavar="NAME", required=True, help="The data set that it is: a known name, or the path of a manifest.")
@click.option("--format", "form", metavar="FORMAT", help="Its dataset-format; default: told by the content.")
@click.option("--set", "overrides", multiple=True, metavar="data.KEY=VALUE", help="Change one value of the config's data section. Repeatable.")
@click.option("--replace", is_flag=True, help="Put it in the place of another that was imported before.")
@_ROOT
def import_(path: Path, name: str, form: str | None, overrides: tuple[str, ...], replace: bool, data_root: Path | None) -> None:
    """Keep a data set in any known format below the data root, where it is found by its name and needs its file no more."""
    from mmbench.data.checks import describe, examine
    from mmbench.data.importing import import_dataset
    from mmbench.data.manifest import load_manifest

    config = _config(str(path), name, overrides)
    config = config.model_copy(update={"format": form}) if form is not None else config
    manifest = load_manifest(config.name, config.protocol, config.part)
    for part in manifest.parts if config.part is None and manifest.parts else (config.part,):
        chosen = config.model_copy(update={"part": part})
        done = import_dataset(chosen, data_root, replace)
        held = chosen.model_copy(update={"path": str(done.folder), "format": None})
        say(describe(examine(held, data_root)[0]))
        what = f"{manifest.name} {part}" if part else manifest.name
        say(f"imported {what}: {done.folder}" if done.new else f"{done.folder} holds {what} from this source already; nothing was done")
    options = [*(["--data-root", str(data_root)] if data_root else []), *(word for override in overrides for word in ("--set", override))]
    say(f"use it with: {shlex.join(['mmbench', 'run', 'CONFIG', *options])}")


@command.command()
@click.argument("what", metavar="NAME|PATH")
@click.option("--as", "name", metavar="NAME", help="The data set that a file is meant to be.")
@click.option("--format", "form", type=click.Choice(["mmsa"]), required=True, help="Format to write: the pickle of the MMSA toolkit.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write; it must not be there yet.")
@click.option("--set", "overrides", multiple=True, metavar="data.KEY=VALUE", help="Change one value of the config's data section. Repeatable.")
@_ROOT
def export(what: str, name: str | None, form: str, out: Path, overrides: tuple[str, ...], data_root: Path | None) -> None:
    """Write the features, labels and transcripts of a data set as a file that other toolkits read."""
    from mmbench.data.export import write_mmsa
    from mmbench.data.load import open_source, split_problems

    config = _config(what, name, overrides)
    source = open_source(config, data_root)
    problems = split_problems(source)
    if problems and config.splits == "published":
        raise DataError(f"{source.path}: {'; '.join(problems)}. --set data.splits=own exports it all the same")
    write_mmsa(source.store, out, source.manifest)
    sizes = ", ".join(f"{split} {len(part['ids'])}" for split, part in source.store.document["splits"].items())
    say(f"wrote {out}: {source.manifest.name}, {source.store.document['layout']}; {sizes}")


def _config(what: str, name: str | None, overrides: tuple[str, ...]) -> Any:
    """The `DataConfig` that the arguments mean."""
    from pydantic import ValidationError

    from mmbench.config import DataConfig
    from mmbench.data.manifest import list_manifests

    is_name = what in list_manifests() or what.endswith((".yaml", ".yml"))
    values: dict[str, Any] = {"name": name or what}
    if not is_name or name is not None:
        if not Path(what).exists():
            close = difflib.get_close_matches(what.lower(), list_manifests(), 1)
            hint = f". Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{what} is neither a data set ({', '.join(list_manifests())}) nor a file{hint}")
        if name is None:
            beside = Path(what) / "dataset.yaml"  # what mmbench data new writes
            known = f"--as {beside}" if beside.is_file() else f"--as with one of {', '.join(list_manifests())}"
            raise ConfigError(f"{what}: which data set is it meant to be? Add {known}")
        values["path"] = what
    for override in overrides:
        _apply(values, override)
    try:
        return DataConfig.model_validate(values)
    except ValidationError as error:
        mistakes = [f"data.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ConfigError("; ".join(mistakes)) from None


def _apply(values: dict[str, Any], override: str) -> None:
    from mmbench.strict_yaml import parse

    key, equals, text = override.partition("=")
    section, *path = key.strip().split(".")
    if not equals or section != "data" or not all(path) or not path:
        raise ConfigError(f"--set {override}: must have the form data.key=value, for example --set 'data.modalities=[text,audio]'")
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {part} has no keys")
    values[path[-1]] = parse(text, f"--set {override}").value
