"""The config and the data of a run that is there already, found again. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmbench.compose import only_data_path
from mmbench.data.dataset import Dataset
from mmbench.data.find import locate
from mmbench.errors import ConfigError, DataError
from mmbench.resolve import Resolved, load
from mmbench.results.runs import RunRecord

ELSEWHERE = (
    "The run is opened with the data that it was trained on: name their file with --set data.path=FILE, or the folder they are in with --data-root"
)


def resolve_again(folder: Path, overrides: Sequence[str], data_root: Path | None, execution: Sequence[str] = ()) -> Resolved:
    """What a run folder's ``config.yaml`` says, with the data where they are now.

    `overrides`: ``data.path=...`` alone; `data_root` is where data are looked for by name when they are no longer where the run found them;
    `execution`: what is said of the executor, of which the config has nothing.
    ConfigError: another key is overridden, or something is not installed. DataError: it is not the config of one run, or the data are not there.
    """
    only_data_path(overrides)
    resolved = _load(folder, (*execution, *overrides))
    path = resolved.experiment.data.path
    if not overrides and data_root is not None and path is not None and not Path(path).exists():
        resolved = _load(folder, (*execution, "data.path=null"))  # looked for by its name
    if not resolved.experiment.data.simulated:
        locate(resolved.experiment.data, data_root, bool(resolved.reads("waveform")), ELSEWHERE)
    return resolved


def _load(folder: Path, overrides: Sequence[str]) -> Resolved:
    found = load(folder / "config.yaml", overrides)
    if len(found) != 1 or len(found[0].experiment.seeds) != 1:
        raise DataError(f"{folder / 'config.yaml'}: is not the config of one run with one seed; was it edited?")
    problems = [*found[0].fit.refusals, *found[0].missing]
    if problems:
        raise ConfigError("\n".join(f"{folder}: cannot be opened: {problem}" for problem in problems))
    return found[0]


def check_data(record: RunRecord, dataset: Dataset) -> None:
    """DataError, in one message, where content or splits are not those that the run was trained and scored on."""
    problems = []
    stored = record.data.get("splits", {})
    for name, now in dataset.record["splits"].items():
        then = stored.get(name, {}) if isinstance(stored, dict) else {}
        if then != now:
            sizes = f"{now['size']} samples, the run had {then.get('size')}" if then.get("size") != now["size"] else "as many samples, but others"
            problems.append(f"split {name} has {sizes}")
    if record.data.get("fingerprint") != dataset.fingerprint:
        problems.append(f"the data's fingerprint is {dataset.fingerprint[:12]}, the run's is {str(record.data.get('fingerprint'))[:12]}")
    if problems:
        where, known = dataset.record["source"], record.data.get("sha256")
        file = f"the file that it was trained on{f' (sha256 {known})' if known else ''}"
        raise DataError(
            f"{record.folder}: the data at {where} are not those of this run: {'; '.join(problems)}. "
            f"Name {file} with --set data.path=..., or run it anew with this version"
        )
