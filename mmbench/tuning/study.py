"""The trials of a search: what was asked for stands in one file, what came of it in the folders of the runs, and nowhere else. Imports no torch.

A search is therefore as far as its runs are, however it ended: trials are written down before they are run, all of a round at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmbench.component import Trial
from mmbench.errors import ConfigError, DataError, PluginError
from mmbench.files import load_json, parse_json, read_json, sealed, without_nan, write_sealed, writing
from mmbench.plugins import one_line
from mmbench.privacy import expanded, portable, shared
from mmbench.resolve import Resolved
from mmbench.runner import Plan, make_plan
from mmbench.tuning.search import Search, flat

FILE = "search.json"
SCHEMA_VERSION = 1
_MOST_NAMED = 3
"""Keys that are named where another search is in the folder."""


@dataclass(frozen=True)
class Asked:
    """What a trial was to try, and the folders of its runs: ``<label>/seed-<n>``. `refused`: why these values cannot be run together."""

    values: Mapping[str, Any]
    labels: tuple[str, ...] = ()
    refused: str = ""


class Study:
    """The trials of a search in the folder of its runs, ``<out>/<experiment>_tune``.

    Raises `ConfigError` where another search is there (it names what differs) or nothing can be run, `DataError` where the record is damaged.
    """

    def __init__(self, search: Search, out: Path, data_root: Path | None, device: str):
        self.search, self._place = search, (out, data_root, device)
        self.start = make_plan(search.first, *self._place)
        self.folder = self.start.folder
        self._settings = parse_json(json.dumps(without_nan(portable(self._described()))))
        self.asked = self._read()

    def trials(self) -> list[Trial]:
        """What came of each trial so far."""
        return [self._outcome(asked) for asked in self.asked]

    def unfinished(self, failed: bool = False) -> list[int]:
        """The positions of the trials whose runs are not all over, or that have failed."""
        return [i for i, trial in enumerate(self.trials()) if trial.status == "running" or (failed and trial.status == "failed")]

    def ask(self) -> list[int]:
        """Ask the tuner for the trials of one more round, and write them down. Returns their positions, none where no more are made."""
        count = min(self.search.at_once, self.search.config.trials - len(self.asked))
        known = self.trials()
        new: list[Asked] = []
        for _ in range(count):
            values = self._next([*known, *(Trial(each.values) for each in new)])
            if values is None:
                break
            new.append(Asked(values))
        if not new:
            return []
        first = len(self.asked)
        self.asked += self._laid_out(dict(enumerate(new, first)))[0]
        content = {"schema_version": SCHEMA_VERSION, "settings": self._settings, "trials": [portable(asdict(asked)) for asked in self.asked]}
        with writing(self.folder, "choose another folder with --out"):
            write_sealed(self.folder / FILE, content)
        return list(range(first, len(self.asked)))

    def plan(self, positions: Sequence[int]) -> Plan | None:
        """The runs of some trials; nothing where all were refused."""
        return self._laid_out({i: self.asked[i] for i in positions})[1]

    def best(self) -> int | None:
        """The position of the trial with the best value, of equal ones the first."""
        done = [(trial.value, i) for i, trial in enumerate(self.trials()) if trial.value is not None]
        sign = -1 if self.search.tuner.higher_is_better else 1
        return min(done, key=lambda each: (sign * each[0], each[1]))[1] if done else None

    def keep(self) -> str:
        """Let the tuner write what its own tools read. Returns why it could not: the search needs none of it."""
        try:
            self.search.tuner.keep(self.folder, self.trials())
        except Exception as error:
            return f"tuner {self.search.choice.entry.key!r} did not write what its own tools read: {one_line(error)[:300]}"
        return ""

    def _next(self, trials: Sequence[Trial]) -> dict[str, Any] | None:
        name, space = self.search.choice.entry.key, self.search.space
        try:
            values = self.search.tuner.ask(trials)
        except Exception as error:
            raise PluginError(f"tuner {name!r} failed to choose trial {len(trials) + 1}: {one_line(error)[:300]}") from error
        if values is None:
            return None
        found = dict(values)
        if found.keys() != space.keys() or not all(found[key] in each for key, each in space.items()):
            raise PluginError(f"tuner {name!r} chose what is not in tune.space for trial {len(trials) + 1}: {found!r:.300}")
        return {key: found[key] for key in space}

    def _laid_out(self, several: Mapping[int, Asked]) -> tuple[list[Asked], Plan | None]:
        """The trials at these positions with the folders of their runs, or why they cannot be run; and the plan of those that can."""
        cells: list[list[Resolved]] = []
        refused = []
        for i, asked in several.items():
            try:
                found = self.search.cells(asked.values, self.search.row(i + 1, asked.values))
                reasons = dict.fromkeys(reason for cell in found for reason in cell.fit.refusals)
            except ConfigError as error:
                found, reasons = [], dict.fromkeys(str(error).splitlines())
            cells.append([] if reasons else found)
            refused.append(shared("; ".join(reasons)))
        if not any(cells):
            return [Asked(asked.values, (), why) for asked, why in zip(several.values(), refused, strict=True)], None
        plan = make_plan([cell for found in cells for cell in found], *self._place)
        # Tables show the floors beside the tuned method. Here they would be one more run for each value of a key that concerns the data.
        trials = {row.resolved.fingerprint(""): row for row in plan.rows if row.resolved.experiment.row}
        labels = [tuple(trials[cell.fingerprint("")].folder.name for cell in found) for found in cells]
        laid_out = [Asked(asked.values, label, why) for asked, label, why in zip(several.values(), labels, refused, strict=True)]
        return laid_out, Plan(tuple(trials.values()), plan.datasets, plan.device)

    def _outcome(self, asked: Asked) -> Trial:
        """Done where all runs of a trial are, with the mean of their selection metric on validation; failed where one has."""
        if asked.refused:
            return Trial(asked.values, "failed", reason=asked.refused)
        runs = [self.folder / label / f"seed-{seed}" for label in asked.labels for seed in self.search.config.seeds]
        results = [read_json(run / "result.json") for run in runs]
        values = [result.get("selection", {}).get("value") for result in results if result.get("status") == "done"]
        if any(result.get("status") not in ("done", "failed") for result in results):
            return Trial(asked.values)
        if reasons := [str(result.get("reason", "")) for result in results if result["status"] == "failed"]:
            return Trial(asked.values, "failed", reason=reasons[0])
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            return Trial(asked.values, "failed", reason="a run of it has no value of the selection metric")
        return Trial(asked.values, "done", math.fsum(values) / len(values))

    def _described(self) -> dict[str, Any]:
        """Everything that the trials' values depend on."""
        search = self.search
        config = search.first[0].counted()
        tune = {"name": search.choice.entry.key, **search.choice.config.model_dump(mode="json"), "seeds": list(search.config.seeds)}
        space = {key: asdict(each) for key, each in search.space.items()}
        return {
            **dict(flat(config)),
            **dict(flat({"tune": {**tune, "space": space}})),
            "the data": [data.fingerprint for data in self.start.datasets],
        }

    def _read(self) -> list[Asked]:
        path = self.folder / FILE
        try:
            content = load_json(path)
            if not sealed(content) or content["schema_version"] != SCHEMA_VERSION:
                raise ValueError("it is not as it was written, or of another version")
            settings = dict(content["settings"])
            asked = [Asked(dict(expanded(each["values"])), tuple(each["labels"]), str(each["refused"])) for each in content["trials"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); move it away, and the search starts anew beside the runs that are done") from None
        changed = [key for key in sorted({*settings, *self._settings}) if settings.get(key) != self._settings.get(key)]
        if changed:
            told = [f"{key} was {_short(settings.get(key))} and is {_short(self._settings.get(key))}" for key in changed[:_MOST_NAMED]]
            more = f"; and {len(changed) - _MOST_NAMED} more" * (len(changed) > _MOST_NAMED)
            raise ConfigError(
                f"{self.folder}: another search is here: {'; '.join(told)}{more}. Its trials cannot be compared with those of this one: "
                f"give this one another name with --set name=..., or move the folder away"
            )
        return asked


def _short(value: Any) -> str:
    return "not there" if value is None else f"{value!r:.60}"
