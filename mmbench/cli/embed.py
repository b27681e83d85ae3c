"""``mmbench embed``: the features of finished runs, in files beside them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.options import device_option
from mmbench.cli.terminal import say
from mmbench.errors import ConfigError
from mmbench.installing import how_to_install

if TYPE_CHECKING:
    from mmbench.results.runs import RunRecord

OPENING = (
    device_option,
    click.option("--data-root", type=click.Path(path_type=Path), envvar="MMBENCH_DATA", help="Where data sets are looked for (or MMBENCH_DATA)."),
    click.option("--set", "overrides", multiple=True, metavar="data.path=PATH", help="Where the data are now."),
)


def opening_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options with which finished runs are opened."""
    for option in reversed(OPENING):
        function = option(function)
    return function


def finished(folder: Path) -> list[RunRecord]:
    """The finished runs in a folder, without floors if there is anything else; one line for each of the others. ConfigError: there is none."""
    from mmbench.results.formats import clean
    from mmbench.results.runs import find_runs

    if find_spec("torch") is None:
        raise ConfigError(f"opening a run needs torch, which is not installed: {how_to_install('mmbench[train]')}")
    records = find_runs(folder)
    if len(records) > 1:
        records = [record for record in records if not record.floor] or records
    done = [record for record in records if record.status == "done"]
    others = [f"{record.folder}: {record.status}" + f" ({clean(record.reason)})" * bool(record.reason) for record in records if record not in done]
    if not done:
        raise ConfigError("\n".join([f"{folder}: no run here is done", *others]))
    for line in others:
        say(f"left out: {line}", err=True)
    return done


def numbered(count: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {what}{'s' * (count != 1)}"


def check_target(path: Path, records: list[RunRecord]) -> None:
    """ConfigError: a file that would stand inside a run's folder."""
    for record in records:
        if record.folder.resolve() in path.resolve().parents:
            raise ConfigError(f"--out {path}: is inside the folder of a run, which nothing may change; name another place")


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--split", "splits", type=click.Choice(["train", "valid", "test"]), multiple=True, default=["test"], show_default=True)
@opening_options
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="This file instead, for one run and one split.")
def command(run: Path, splits: tuple[str, ...], device: str, data_root: Path | None, overrides: tuple[str, ...], out: Path | None) -> None:
    """Write what the trained network of RUN makes of each sample: predictions, fused, encoded, common and unique features.

    RUN is the folder of one run, or one above several. Each file is written beside the run's folder, as
    embeddings/seed-N.SPLIT.npz; sequences are means over their real frames. The run itself is opened read-only.
    """
    from mmbench.compose import only_data_path
    from mmbench.files import check_writable, writing
    from mmbench.results.embeddings import embeddings_path, write_embeddings

    only_data_path(overrides)
    records = finished(run)
    if out is not None and (len(records) > 1 or len(set(splits)) > 1):
        raise ConfigError(
            f"--out names one file, but there are {numbered(len(records), 'run')} and {numbered(len(set(splits)), 'split')}; leave it out"
        )
    if out is not None:
        check_target(out, records)
    for path in [out] if out is not None else [embeddings_path(record, split) for record in records for split in splits]:
        check_writable(path)
    from mmbench.diagnostics.opening import device_named, open_run
    from mmbench.diagnostics.represent import represent

    where = device_named(device)
    for record in records:
        opened = open_run(record.folder, where, data_root, overrides, record)
        for note in opened.notes:
            say(f"note: {note}", err=True)
        for split in dict.fromkeys(splits):
            path = out or embeddings_path(record, split)
            found = represent(opened, split)
            with writing(path):
                write_embeddings(path, found)
            say(f"wrote {path} ({len(found.ids)} samples{', SIMULATED data' * found.simulated})")
