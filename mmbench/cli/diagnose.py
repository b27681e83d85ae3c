"""``mmbench diagnose``: what finished runs lean on, in files beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmbench.cli.embed import check_target, finished, opening_options
from mmbench.cli.terminal import json_text, say, say_whole
from mmbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mmbench.results.runs import RunRecord


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@opening_options
@click.option("--fill", type=click.Choice(["mean", "zeros"]), default="mean", show_default=True, help="Frames that stand in for a dropped modality.")
@click.option("--draws", type=click.IntRange(0), default=3, show_default=True, help="Draws of missing frames and noise for each rate; 0: none.")
@click.option("--metric", metavar="NAME", help="The score of tables that show one. Default: the first of the runs' suite.")
@click.option("--again", is_flag=True, help="Compute anew what stands there already.")
@click.option("--format", "format_", type=click.Choice(["plain", "json"]), default="plain", show_default=True)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="This JSON file instead, for one run.")
def command(
    run: Path,
    device: str,
    data_root: Path | None,
    overrides: tuple[str, ...],
    fill: str,
    draws: int,
    metric: str | None,
    again: bool,
    format_: str,
    out: Path | None,
) -> None:
    """Say what the trained network of RUN leans on, and how far apart its modalities are.

    Scores with modalities dropped, frames missing or noise added; gap and CKA between modalities, before and after training; calibration;
    and on simulated data what linear probes read of the true factors. RUN is the folder of one run, or one above several, of which those on
    the same data stand side by side.
    Each document is written beside the run's folder, as diagnostics/seed-N.json; the run itself is opened read-only.
    """
    from mmbench.compose import only_data_path
    from mmbench.files import check_writable, without_nan, write_json, writing
    from mmbench.results.embeddings import diagnostics_path
    from mmbench.results.tables import known_metrics

    only_data_path(overrides)
    records = finished(run)
    if out is not None and len(records) > 1:
        raise ConfigError(f"--out names one file, but there are {len(records)} runs in {run}; leave it out")
    if out is not None:
        check_target(out, records)
    for path in [out] if out is not None else map(diagnostics_path, records):
        check_writable(path)
    for record in records:
        if metric is not None and metric not in record.metrics["test"]:
            raise ConfigError(f"--metric {metric}: {record.folder} was scored with {', '.join(record.metrics['test'])}")
    from mmbench.diagnostics.document import diagnose
    from mmbench.diagnostics.opening import device_named, open_run
    from mmbench.diagnostics.text import by_data, report

    where, documents = device_named(device), []
    for record in records:
        path = out or diagnostics_path(record)
        document = None if again else _stored(path, record, {"fill": fill, "draws": draws})
        if document is None:
            opened = open_run(record.folder, where, data_root, overrides, record)
            document = without_nan(diagnose(opened, fill, draws, data_root))
            with writing(path):
                write_json(path, document)
            say(f"wrote {path}", err=True)
        for note in document["about"]["notes"]:
            say(f"note: seed {record.seed} of {record.label}: {note}", err=True)
        documents.append(document)
    if format_ == "json":
        say_whole(json_text(documents if len(documents) > 1 else documents[0]))
    else:
        known = known_metrics(records)
        say("\n".join(report(group, known, metric) for group in by_data(documents)), nl=False)


def _stored(path: Path, record: RunRecord, options: dict[str, Any]) -> dict[str, Any] | None:
    """What was diagnosed before from these weights, with these options and this version."""
    from hashlib import sha256
    from importlib import metadata

    from mmbench.results.embeddings import read_diagnostics

    try:
        document = read_diagnostics(path)
        checkpoint = sha256((record.folder / "best.pt").read_bytes()).hexdigest()
    except (DataError, OSError):
        return None
    about = document["about"]
    same = about.get("checkpoint") == checkpoint and about.get("options") == options and about.get("mmbench") == metadata.version("mmbench")
    return document if same else None
