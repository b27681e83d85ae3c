"""``mmbench extract``: features out of transcripts and recordings, as a data set that ``mmbench run`` trains on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from mmbench.cli.terminal import say

_SHOWN = 10


@click.command()
@click.argument("config")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value, for example audio.model=hubert. Repeatable.")
@click.option("--data-root", type=click.Path(path_type=Path), envvar="MMBENCH_DATA", help="Where data sets are looked for (or MMBENCH_DATA).")
@click.option("--out", type=click.Path(path_type=Path), help="Where FOLDER/<data set>/unaligned goes. Default: the data root.")
@click.option("--jobs", type=click.IntRange(1), help="Clips at once on the CPU. Default: one per core.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="For extractors that have weights.")
@click.option("--leave-out-failed", is_flag=True, help="Write the data set without the clips that cannot be extracted.")
@click.option("--replace", is_flag=True, help="Replace another data set at the same place.")
@click.option("--export", type=click.Path(path_type=Path), metavar="FILE.pkl", help="Also write the data set as a pickle of the MMSA toolkit.")
def command(
    config: str,
    overrides: tuple[str, ...],
    data_root: Path | None,
    out: Path | None,
    jobs: int | None,
    device: str,
    leave_out_failed: bool,
    replace: bool,
    export: Path | None,
) -> None:
    """Extract the features that CONFIG names from a folder with label.csv and recordings, and write them as a data set.

    What is done is kept in the cache, clip by clip: the same command goes on where it was stopped. Exit code 1: clips failed.
    """
    from mmbench.errors import DataError
    from mmbench.extraction.config import load_plan
    from mmbench.extraction.progress import Progress
    from mmbench.extraction.run import Extraction
    from mmbench.extraction.write import refuse_unwritable

    plan = load_plan(config, overrides)
    for path in _exports(plan, export).values():
        if path.exists():
            raise DataError(f"--export: {path} is there already; remove it, or choose another name")
        refuse_unwritable(path.parent, "--export")
    progress = Progress()
    try:
        outcome = Extraction(plan, data_root, out, device, progress).run(jobs, leave_out_failed, replace)
    except KeyboardInterrupt:
        progress.say("Interrupted; the clips that are done are kept, and the same command goes on from there.")
        sys.exit(130)
    _summary(outcome)
    for written in outcome.written:
        for notice in written.store.document["notices"]:
            say(f"notice: {notice['modality']}: {notice['text']}")
        state = "" if written.changed else " (as it was)"
        say(f"{written.store.document['layout']}: {written.store.folder}{state}")
        if export is not None:
            from mmbench.data.export import write_mmsa

            path = _exports(plan, export)[written.store.document["layout"]]
            write_mmsa(written.store, path, plan.manifest)
            say(f"exported: {path}")
    if outcome.written:
        name, place = (shlex.quote(str(each)) for each in (plan.data.name, outcome.written[0].store.folder.resolve()))
        say(f"train on it with: mmbench new config --data {name} --model NAME --set data.path={place} (mmbench list model)")
    if outcome.failures:
        report_failures(outcome)
        sys.exit(1)


def _summary(outcome: Any) -> None:
    say(f"{'':<9}{'new':>7}{'cached':>8}{'failed':>8}{'frames':>9}{'longest':>9}{'seconds':>9}")
    for key, extractor in outcome.extractors.items():
        lengths = outcome.lengths.get(key)
        frames = f"{sum(lengths) / len(lengths):>9.1f}{max(lengths):>9}" if lengths else f"{'-':>9}{'-':>9}"
        failed = sum(failure.modality == key for failure in outcome.failures)
        say(f"{key:<9}{extractor.done:>7}{extractor.cached:>8}{failed:>8}{frames}{extractor.seconds:>9.1f}")


def report_failures(outcome: Any) -> None:
    """The clips that failed and why, a line for all modalities of a clip that failed alike."""
    modalities: dict[tuple[str, str], list[str]] = {}  # a file that cannot be read fails for each modality of it
    for failure in outcome.failures:
        modalities.setdefault((failure.clip, failure.reason), []).append(failure.modality)
    for (clip, reason), names in [*modalities.items()][:_SHOWN]:
        say(f"failed: {clip}: {', '.join(names)}: {reason}", err=True)
    if len(modalities) > _SHOWN:
        say(f"failed: ... and {len(modalities) - _SHOWN} more", err=True)
    clips = len({failure.clip for failure in outcome.failures})
    fate = "they are left out of the data set" if outcome.written else "no data set was written; --leave-out-failed writes it without them"
    say(f"{clips} of {len(outcome.clips)} clips failed, see {outcome.folder / 'failures.csv'}: {fate}", err=True)


def _exports(plan: Any, path: Path | None) -> dict[str, Path]:
    """By layout, where ``--export`` writes: an aligned data set goes beside the other one."""
    if path is None:
        return {}
    return {"unaligned": path, **({"aligned": path.with_name(f"{path.stem}_aligned{path.suffix}")} if "aligner" in plan.choices else {})}
