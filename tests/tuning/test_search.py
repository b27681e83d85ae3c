"""The section ``tune:`` of a config: what is refused before anything is trained, and what a trial comes to."""

import pytest

from mmbench.component import Range, Values
from mmbench.errors import ConfigError
from mmbench.resolve import load

SPACE = """tune:
  name: steps
  trials: 6
  space:
    training.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
    training.batch_size: {low: 8, high: 32}
    model.dropout: {low: 0, high: 1}
    model.width: {values: [4, 8]}
    losses.pull.weight.near: {low: 1, high: 4}
"""


def test_the_key_says_whether_a_range_between_integers_is_of_integers(searches) -> None:
    assert searches(SPACE).space == {
        "training.optimizer.lr": Range(1e-4, 1e-2, log=True),
        "training.batch_size": Range(8, 32, whole=True),
        "model.dropout": Range(0.0, 1.0),
        "model.width": Values((4, 8)),
        "losses.pull.weight.near": Range(1.0, 4.0),
    }


def test_a_trial_is_the_config_with_its_values_under_the_name_of_the_search(searches) -> None:
    search = searches(SPACE.replace("trials: 6", "trials: 6\n  seeds: [3, 4]"))
    values = {"training.optimizer.lr": 0.001, "training.batch_size": 9, "model.dropout": 0.5, "model.width": 8, "losses.pull.weight.near": 2.5}
    (cell,) = search.cells(values, "a trial")
    assert (cell.experiment.name, cell.experiment.row, cell.experiment.seeds) == ("toys_tune", "a trial", (3, 4))
    assert (cell.experiment.training.optimizer.lr, cell.experiment.training.batch_size) == (0.001, 9)
    assert (cell.model.config.dropout, cell.model.config.width) == (0.5, 8)
    assert cell.losses[0].weights == {"near": (2.5, 0), "far": (0.5, 0)}
    assert search.row(7, values) == "trial 7: lr=0.001, batch_size=9, dropout=0.5, width=8, near=2.5"


def test_names_of_rows_tell_keys_apart_and_have_an_end(searches) -> None:
    section = "tune: {name: steps, trials: 1, space: {losses.0.weight.near: {values: [1]}, model.width: {values: [1]}}}\n"
    search = searches(section)
    assert search.row(1, {"training.optimizer.lr": 0.1, "training.optimizer.groups.x.lr": 1}) == (
        "trial 1: training.optimizer.lr=0.1, training.optimizer.groups.x.lr=1"
    )
    assert search.row(2, {"model.width": "x" * 200}) == "trial 2"


def told(searches, section: str, *overrides: str, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        searches(section, *overrides, **options)
    return [line.rpartition("/")[2] for line in str(caught.value).splitlines()]


def test_all_mistakes_of_a_space_are_told_at_once_each_with_its_place(searches) -> None:
    section = """tune:
  name: steps
  trials: 0
  mostt: 3
  space:
    model.widht: {values: [4]}
    model.width: {low: 1.5, high: 4.5}
    model.dropout: {low: 1, high: 0}
    model.explode_at_step: {low: a, high: 3}
    training.optimizer.lr: {low: 0, high: 1, log: true}
    training.optimizer.weight_decay: {low: -1.0, high: 0.1}
    training.batch_size: {low: 0, high: 16}
    training.epochs: {values: [1, 1]}
    training.clip_norm: {lo: 1, high: 2}
    training.clip_value: 3
    losses.push.weight: {low: 0.1, high: 1.0}
"""
    assert sorted(told(searches, section), key=lambda line: int(line.split(":")[1])) == [
        "c.yaml:7:3: tune.trials: must be greater than 0 (got 0)",
        "c.yaml:8:3: tune.mostt: unknown key. Did you mean 'most'?",
        "c.yaml:10:28: model.widht: unknown key. Did you mean 'width'?",
        "c.yaml:11:19: model.width: must be a valid integer (got 1.5)",
        "c.yaml:11:29: model.width: must be a valid integer (got 4.5)",
        "c.yaml:12:5: tune.space.model.dropout: low must be less than high (got {'low': 1, 'high': 0})",
        "c.yaml:13:29: tune.space.model.explode_at_step.low: must be a valid number (got 'a')",
        "c.yaml:14:5: tune.space.training.optimizer.lr: low must be greater than 0 where log is true (got {'low': 0, 'high': 1, 'log': True})",
        "c.yaml:15:39: training.optimizer.weight_decay: must be greater than or equal to 0 (got -1.0)",
        "c.yaml:16:27: training.batch_size: must be greater than 0 (got 0)",
        "c.yaml:17:23: tune.space.training.epochs.values: must name each value once (got [1, 1])",
        "c.yaml:18:5: tune.space.training.clip_norm.low: is missing",
        "c.yaml:18:26: tune.space.training.clip_norm.lo: unknown key. Did you mean 'low'?",
        "c.yaml:19:5: tune.space.training.clip_value: must be a mapping of keys to values (got 3)",
        "c.yaml:20:26: losses is a list of 1; 'push' is neither a position in it nor the name of one item (pull)",
    ]


def test_what_trials_are_compared_by_is_not_searched_and_nor_is_what_changes_nothing(searches) -> None:
    section = """tune:
  name: steps
  trials: 3
  space:
    seeds: {values: [[1], [2]]}
    data.samples: {values: [60, 70]}
    training.select: {values: [mae, corr]}
    executor.jobs: {low: 1, high: 3}
    model.width: {values: [3, 4]}
"""
    compared, nothing = "decides on what, or by which metric, trials are compared, so that it cannot be searched", "changes no number of any run"
    assert told(searches, section) == [
        f"c.yaml:9:5: tune.space.seeds: {nothing}, so that there is nothing to search",
        f"c.yaml:10:5: tune.space.data.samples: {compared}",
        f"c.yaml:11:5: tune.space.training.select: {compared}",
        f"c.yaml:12:5: tune.space.executor.jobs: {nothing}, so that there is nothing to search",
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seeds=[1, 1]", "--set seeds=[1, 1]: seeds: seed 1 is given twice (got [1, 1])"),
        ("name=null", "--set name=null: name: must be a valid string (got None)"),
        (
            f"name={'x' * 95}",
            f"without this key it is the name of the file (got '{'x' * 56}...)",
        ),
        ("tune.seeds=[2, 2]", "--set tune.seeds=[2, 2]: tune.seeds: seed 2 is given twice (got [2, 2])"),
    ],
    ids=["seeds", "no-name", "long-name", "trials-seeds"],
)
def test_what_only_the_last_runs_would_find_wrong_is_told_before_the_first(searches, override: str, line: str) -> None:
    (found,) = told(searches, SPACE, override)
    assert found.endswith(line)


def test_keys_of_the_space_are_set_one_by_one(searches) -> None:
    changes = ("training.batch_size.high=16", "model.width.values.1=6", "model.dropout={values: [0.1, 0.2]}", "losses.pull.weight.near=null")
    found = searches(SPACE, *(f"tune.space.{change}" for change in changes), "tune.space.training.clip_norm={low: 1, high: 2.5}")
    assert found.space == {
        "training.optimizer.lr": Range(1e-4, 1e-2, log=True),
        "training.batch_size": Range(8, 16, whole=True),
        "model.dropout": Values((0.1, 0.2)),
        "model.width": Values((4, 6)),
        "training.clip_norm": Range(1.0, 2.5),
    }
    for override, line in {
        "training.batchsize.high=9": "tune.space has no key 'training.batchsize'. Did you mean 'training.batch_size'?",
        "seeds.low=9": "a new one is set whole, such as {low: 1, high: 2}.",
        "training.batch_size.hihg=9": "tune.space.training.batch_size.hihg: unknown key. Did you mean 'high'?",
    }.items():
        assert line in "\n".join(told(searches, SPACE, f"tune.space.{override}"))


def test_a_value_whose_component_is_not_installed_is_told_of(searches) -> None:
    base = "name: words\ndata: {name: mosi, simulated: true, samples: 60}\nmodel: {name: toy, encoders: {text: {name: letters}}}\n"
    section = "tune: {name: steps, trials: 1, space: {model.encoders.text.name: {values: [letters, absent]}}}\n"
    with pytest.raises(ConfigError, match=r"cannot run: extractor 'absent' .* is not provided by any installed plugin"):
        searches(section, base=base)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("", "has no section tune, which says what to search; mmbench run"),
        ("tune: 3\n", "c.yaml:5:1: tune: must be a mapping of keys to values (got 3)"),
        (
            SPACE + "sweep: {width: {key: model.width, values: [1, 2]}}\n",
            "c.yaml:14:1: sweep: a search has no sweep; make its axis a key of tune.space",
        ),
        (SPACE.replace("steps", "step"), "c.yaml:6:3: tune.name: tuner 'step' is not provided by any installed plugin. Did you mean 'steps'?"),
        ("tune: {name: steps, trials: 1, space: {" + ", ".join(f"a{i}: {{values: [1]}}" for i in range(10)) + "}}\n", "a0: unknown key"),
    ],
    ids=["no-section", "no-mapping", "sweep", "no-such-tuner", "unknown-keys"],
)
def test_what_is_no_search(searches, section: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        searches(section)
    assert line in str(caught.value)


def test_a_tuner_may_refuse_a_space(searches) -> None:
    assert told(searches, SPACE.replace("trials: 6", "trials: 6\n  most_keys: 4")) == ["c.yaml:6:3: tune: steps: has too many keys"]


def test_without_a_tuner_it_is_said_what_to_install(searches, toys, monkeypatch) -> None:
    for module in ("resolve", "tuning.search"):
        monkeypatch.setattr(f"mmbench.{module}.catalogue", lambda: toys)
    with pytest.raises(
        ConfigError, match=r"tune.name: no tuner is installed. Optuna's comes with: pip install './plugins/mmbench-optuna' in the fol"
    ):
        searches(SPACE)


def test_other_verbs_say_that_a_config_is_a_search(searches, tmp_path) -> None:
    searches(SPACE)
    with pytest.raises(ConfigError, match="tune: this config is a search, which is for mmbench tune"):
        load(tmp_path / "c.yaml")


def test_trials_of_one_round_are_as_many_as_the_executor_has_room_for(searches) -> None:
    assert searches(SPACE).at_once == 1
    assert searches(SPACE, "executor.jobs=4").at_once == 4
    assert searches(SPACE, "executor.jobs=4", "tune.seeds=[1, 2]").at_once == 2
    assert searches(SPACE, "executor.jobs=4", "tune.at_once=3").at_once == 3
