"""Optuna as a tuner: it finds what is planted, its grid is whole, and its own tools can read the study."""

import math

import optuna
import pytest

from mmbench.interfaces import Range, Trial, Values
from mmbench_optuna.config import OptunaConfig
from mmbench_optuna.tuner import Optuna

SPACE = {
    "training.optimizer.lr": Range(1e-5, 1e-1, log=True),
    "training.batch_size": Range(8, 64, whole=True),
    "model.kind": Values(("plain", "gated", ["gated", 2])),
    "model.nothing": Range(0.0, 1.0),
}


def error(values) -> float:
    """Least, and 0, at a rate of 1e-3, batches of 32 and the last kind; the rate matters most, and ``model.nothing`` not at all."""
    rate, size = math.log10(values["training.optimizer.lr"]) + 3, (values["training.batch_size"] - 32) / 56
    return rate**2 + size**2 + 0.3 * (values["model.kind"] != ["gated", 2])


def search(count: int, at_once: int = 1, higher_is_better: bool = False, **options) -> list[Trial]:
    tuner, trials = Optuna(OptunaConfig(**options), SPACE, higher_is_better), []
    sign = -1 if higher_is_better else 1
    while len(trials) < count:
        asked: list[Trial] = []
        for _ in range(at_once):
            asked.append(Trial(tuner.ask([*trials, *asked])))
        trials += [Trial(trial.values, "done", sign * error(trial.values)) for trial in asked]
    return trials


@pytest.fixture(scope="module")
def found() -> list[Trial]:
    return search(40)


def test_tpe_finds_a_planted_optimum(found) -> None:
    at_random = [min(error(trial.values) for trial in search(40, sampler="random", seed=seed)) for seed in range(3)]
    assert min(error(trial.values) for trial in found) < 0.01 < min(at_random)


def test_the_greatest_value_is_found_like_the_least(found) -> None:
    assert [trial.values for trial in search(25, higher_is_better=True)] == [trial.values for trial in found[:25]]


def test_tpe_begins_at_random_and_then_looks_where_it_was_good(found) -> None:
    errors = [error(trial.values) for trial in found]
    assert sum(errors[25:]) / 15 < 0.5 * sum(errors[:10]) / 10
    sooner = search(10, startup_trials=5)
    assert [one == other for one, other in zip(sooner, found, strict=False)][:6] == [True] * 5 + [False]


def test_trials_of_one_round_lie_apart_and_come_again(found) -> None:
    trials = search(28, at_once=4)
    assert trials == search(28, at_once=4)
    assert trials != found[:28]
    for first in range(12, 28, 4):
        assert len({trial.values["model.nothing"] for trial in trials[first : first + 4]}) == 4
    assert min(error(trial.values) for trial in trials) < 0.1


def test_another_seed_makes_other_trials() -> None:
    assert search(3) == search(3, seed=0) != search(3, seed=1)


def test_a_grid_has_each_combination_once() -> None:
    space = {"a": Values((1, [2])), "b": Range(3, 5, whole=True)}
    tuner, trials = Optuna(OptunaConfig(sampler="grid"), space, False), []
    while values := tuner.ask(trials):
        trials.append(Trial(values, "failed"))
    assert [tuple(trial.values.values()) for trial in trials] == [(1, 3), (1, 4), (1, 5), ([2], 3), ([2], 4), ([2], 5)]
    with pytest.raises(ValueError, match=r"sampler grid: training.optimizer.lr is a range of numbers; name its values"):
        Optuna(OptunaConfig(sampler="grid"), SPACE, False)


def test_importances_are_told_from_ten_trials_on() -> None:
    tuner, trials = Optuna(OptunaConfig(), SPACE, False), search(60, sampler="random")
    found = tuner.importances(trials)
    assert set(found) == set(SPACE)
    assert max(found, key=found.get) == "training.optimizer.lr"
    assert sum(found.values()) == pytest.approx(1)
    assert tuner.importances([*trials[:9], *(Trial(trial.values, "failed") for trial in trials)]) == {}
    assert tuner.importances([Trial(trial.values, "done", 1.0) for trial in trials]) == {}


def test_optunas_own_tools_read_the_journal(tmp_path) -> None:
    folder = tmp_path / "demo_tune"
    folder.mkdir()
    tuner, trials = Optuna(OptunaConfig(), SPACE, True), search(3)
    tuner.keep(folder, trials[:1])
    more = [*trials[:2], Trial(trials[2].values, "failed", reason="task became nan"), Trial(trials[0].values)]
    tuner.keep(folder, more)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal")))
    study = optuna.load_study(storage=storage, study_name="demo_tune")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING"]
    assert [trial.value for trial in study.trials[:2]] == [trial.value for trial in trials[:2]]
    assert study.trials[2].user_attrs == {"reason": "task became nan"}
    assert study.trials[0].params["training.optimizer.lr"] == trials[0].values["training.optimizer.lr"]
    assert [path.name for path in folder.iterdir()] == ["optuna.journal"]
