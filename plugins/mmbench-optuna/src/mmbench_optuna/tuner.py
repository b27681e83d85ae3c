"""Optuna's samplers as a tuner. A study is built anew for each question, so that nothing is remembered beside the trials."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from mmbench.files import write
from mmbench.interfaces import Range, Space, Trial, Tuner, Values
from mmbench_optuna.config import OptunaConfig

STATES = {"done": TrialState.COMPLETE, "failed": TrialState.FAIL, "running": TrialState.RUNNING}
JOURNAL = "optuna.journal"
ENOUGH = 10
"""Trials that are done from which on importances are told; from fewer they are mostly chance."""


class Optuna(Tuner):
    """TPE, random search and grids. Trials that are running are penalised (constant liar), so that those of one round lie apart.

    ValueError: a grid over a range of other numbers than integers.
    """

    config: OptunaConfig

    def __init__(self, config: OptunaConfig, space: Space, higher_is_better: bool):
        super().__init__(config, space, higher_is_better)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.direction: Literal["maximize", "minimize"] = "maximize" if higher_is_better else "minimize"
        self.distributions = {key: _distribution(each) for key, each in space.items()}
        self.values = {key: {json.dumps(value): value for value in each.values} for key, each in space.items() if isinstance(each, Values)}
        self.grid = {key: _points(key, each) for key, each in space.items()} if config.sampler == "grid" else {}

    def ask(self, trials: Sequence[Trial]) -> dict[str, Any] | None:
        """The sampler's choice, with random numbers that are told by its seed and the number of the trial; the next point of a grid."""
        if self.grid:
            size = math.prod(map(len, self.grid.values()))
            point = itertools.islice(itertools.product(*self.grid.values()), len(trials), None)
            return dict(zip(self.grid, next(point), strict=True)) if len(trials) < size else None
        seed = int(hashlib.sha256(f"{self.config.seed} {len(trials)}".encode()).hexdigest()[:8], 16)
        chosen = self._study(trials, self._sampler(seed)).ask(self.distributions).params
        return {key: self.values[key][value] if key in self.values else value for key, value in chosen.items()}

    def importances(self, trials: Sequence[Trial]) -> dict[str, float]:
        """PED-ANOVA's shares of what makes the better trials (Watanabe et al., IJCAI 2023)."""
        done = [trial for trial in trials if trial.status == "done"]
        if len(done) < ENOUGH or len({trial.value for trial in done}) == 1:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is experimental
            return get_param_importances(self._study(done, RandomSampler()), evaluator=PedAnovaImportanceEvaluator())

    def keep(self, folder: Path, trials: Sequence[Trial]) -> None:
        """The study as Optuna's journal, for its dashboard and `optuna.load_study`; its times are those of the last writing."""
        lines = _Lines()
        study = optuna.create_study(storage=JournalStorage(lines), study_name=folder.name, direction=self.direction)
        study.add_trials(self._frozen(trials))
        write(folder / JOURNAL, "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in lines.logs))

    def _sampler(self, seed: int) -> BaseSampler:
        if self.config.sampler == "random":
            return RandomSampler(seed)
        return TPESampler(seed=seed, n_startup_trials=self.config.startup_trials, multivariate=True, constant_liar=True)

    def _study(self, trials: Sequence[Trial], sampler: BaseSampler) -> optuna.Study:
        study = optuna.create_study(direction=self.direction, sampler=sampler)
        study.add_trials(self._frozen(trials))
        return study

    def _frozen(self, trials: Sequence[Trial]) -> list[FrozenTrial]:
        return [
            create_trial(
                state=STATES[trial.status],
                params={key: json.dumps(value) if key in self.values else value for key, value in trial.values.items()},
                distributions=self.distributions,
                value=trial.value,
                user_attrs={"reason": trial.reason} if trial.reason else {},
            )
            for trial in trials
        ]


class _Lines(BaseJournalBackend):
    """A journal in memory, which is written to its file in one piece: a file that grows may be cut in the middle of a line."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:  # type: ignore[override]
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


def _distribution(each: Range | Values) -> BaseDistribution:
    if isinstance(each, Values):
        return CategoricalDistribution([json.dumps(value) for value in each.values])
    if each.whole:
        return IntDistribution(int(each.low), int(each.high), log=each.log)
    return FloatDistribution(each.low, each.high, log=each.log)


def _points(key: str, each: Range | Values) -> Sequence[Any]:
    if isinstance(each, Values):
        return each.values
    if not each.whole:
        raise ValueError(f"sampler grid: {key} is a range of numbers; name its values, or choose another sampler")
    return range(int(each.low), int(each.high) + 1)
