"""The trials of a search: what they come to, what the tuner hears of them, and how a search goes on. Nothing is trained: runs end as a test says."""

import json
import math
from pathlib import Path

import pytest

from mmbench.cli.tune import _alone, _search
from mmbench.errors import ConfigError, DataError, PluginError
from mmbench.files import read_json, shipped, write_sealed
from mmbench.resolve import load
from mmbench.runner import make_plan, prepare
from mmbench.strict_yaml import load as load_yaml
from mmbench.tuning.best import rename, summary, trial_line, write_best
from mmbench.tuning.study import Study
from toy_tuner import Steps

SPACE = """tune:
  name: steps
  trials: 6
  seeds: [1, 2]
  space:
    training.optimizer.lr: {low: 0.1, high: 0.5}
    model.width: {values: [4, 8, 6]}
"""


def study_of(search, out: Path) -> Study:
    return Study(search, out, None, "cpu")


def lr(config) -> float:
    return config["training"]["optimizer"]["lr"]


def by_rate(config) -> float:
    """The best rate is 0.3; the second seed is a little worse."""
    return abs(lr(config) - 0.3) + 0.01 * config["seeds"][0]


def finish(study: Study, positions: list[int], value=by_rate, test: float = 1.0) -> list[Path]:
    """Let the runs of these trials end with a value each, or fail where that is None. Returns their folders."""
    plan = study.plan(positions)
    requests = prepare(plan, None)[0] if plan else []
    for request in requests:
        config = load_yaml(request.folder / "config.yaml")
        found = value(config)
        result = {
            "schema_version": 1,
            "status": "done",
            "reason": "",
            "name": config["row"],
            "metrics": {"valid": {"mae": found}, "test": {"mae": test}},
        }
        result |= (
            {"selection": {"metric": "mae", "value": found, "epoch": 1}} if found is not None else {"status": "failed", "reason": "task became nan"}
        )
        write_sealed(request.folder / "result.json", result)
    return [request.folder for request in requests]


def whole(study: Study, **options) -> Study:
    while positions := study.ask():
        finish(study, positions, **options)
    return study


def test_trials_are_run_folders_and_have_the_mean_over_their_seeds(searches, tmp_path) -> None:
    study = study_of(searches(SPACE), tmp_path)
    assert study.ask() == [0]
    folders = finish(study, [0])
    assert [folder.relative_to(tmp_path).parts[0::2] for folder in folders] == [("toys_tune", "seed-1"), ("toys_tune", "seed-2")]
    assert len({folder.parent for folder in folders}) == 1
    (trial,) = study.trials()
    assert (trial.status, trial.value) == ("done", pytest.approx(0.2 + 0.015))
    assert trial_line(1, trial, study.search) == "trial 1: lr=0.1, width=4  valid mae 0.215"
    whole(study)
    assert [trial.values["training.optimizer.lr"] for trial in study.trials()] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.1, 0.2])
    assert study.best() == 2
    assert not any("constant" in folder.name or "linear" in folder.name for folder in (tmp_path / "toys_tune").iterdir())
    assert summary(study, 2) == [
        "6 trials: 6 done",
        "best: trial 3, validation mae 0.015",
        "key                    best  searched",
        "training.optimizer.lr  0.3   0.1 to 0.5",
        "model.width            6     4, 8, 6",
    ]


def test_a_round_is_asked_for_together_and_its_trials_hear_of_none_of_it(searches, tmp_path) -> None:
    study = study_of(searches(SPACE, "tune.at_once=4"), tmp_path)
    Steps.heard.clear()
    assert study.ask() == [0, 1, 2, 3]
    assert [[trial.status for trial in heard] for heard in Steps.heard] == [["running"] * n for n in range(4)]
    finish(study, [0, 1, 2, 3])
    Steps.heard.clear()
    assert study.ask() == [4, 5]
    assert [[trial.status for trial in heard] for heard in Steps.heard] == [["done"] * 4, ["done"] * 4 + ["running"]]
    finish(study, [4, 5])
    assert study.ask() == []


def test_no_test_score_changes_anything(searches, tmp_path) -> None:
    told = []
    for out, test in (("plain", 1.0), ("wild", -1e9)):
        Steps.heard.clear()
        study = whole(study_of(searches(SPACE), tmp_path / out), test=test)
        told.append((list(Steps.heard), study.trials(), study.best(), write_best(study, study.best()).read_text()))
    assert told[0] == told[1]
    assert "-1000000000" not in repr(told[1])
    for path in (tmp_path / "wild").rglob("result.json"):  # and none is needed
        write_sealed(path, {key: item for key, item in read_json(path).items() if key not in ("metrics", "digest")})
    assert study_of(searches(SPACE), tmp_path / "wild").trials() == told[0][1]


def test_what_is_better_is_told_by_the_metric(searches, tmp_path) -> None:
    for metric, best in (("mae", 2), ("corr", 0)):
        study = whole(study_of(searches(SPACE, f"training.select={metric}"), tmp_path / metric))
        assert study.best() == best


def test_a_trial_that_fails_has_its_reason_and_stops_nothing(searches, tmp_path) -> None:
    study = whole(study_of(searches(SPACE), tmp_path), value=lambda config: None if config["seeds"] == [2] and lr(config) < 0.15 else by_rate(config))
    assert [trial.status for trial in study.trials()] == ["failed", "done", "done", "done", "failed", "done"]
    assert (study.trials()[0].value, study.trials()[0].reason) == (None, "task became nan")
    assert (study.best(), study.unfinished(), study.unfinished(failed=True)) == (2, [], [0, 4])
    nothing = whole(study_of(searches(SPACE), tmp_path / "none"), value=lambda config: None)
    assert nothing.best() is None
    unknown = whole(study_of(searches(SPACE), tmp_path / "nan"), value=lambda config: math.nan)
    assert {trial.reason for trial in unknown.trials()} == {"a run of it has no value of the selection metric"}


def test_values_that_cannot_be_run_together_are_a_failed_trial(searches, tmp_path) -> None:
    clips = "training.clip_norm: {values: [null, 1.0]}\n    training.clip_value: {values: [null, 1.0]}"
    study = study_of(searches(SPACE.replace("model.width: {values: [4, 8, 6]}", clips)), tmp_path)
    assert study.ask() == [0]
    finish(study, [0])
    assert study.ask() == [1]
    assert finish(study, [1]) == []
    assert [trial.status for trial in study.trials()] == ["done", "failed"]
    assert "clip_norm and clip_value exclude each other" in study.trials()[1].reason
    again = study_of(study.search, tmp_path)
    assert again.trials() == study.trials()
    assert again.ask() == [2]


def test_a_search_goes_on_where_it_was_stopped(searches, tmp_path) -> None:
    straight = whole(study_of(searches(SPACE, "tune.at_once=2"), tmp_path / "straight"))
    study = study_of(searches(SPACE, "tune.at_once=2"), tmp_path / "stopped")
    study.ask()
    finish(study, [0, 1])
    study.ask()  # killed before, or while, these two run
    for _ in range(2):
        study = study_of(searches(SPACE, "tune.at_once=2"), tmp_path / "stopped")
        assert study.unfinished() == [2, 3]
    finish(study, [2])
    study = study_of(searches(SPACE, "tune.at_once=2"), tmp_path / "stopped")
    assert study.unfinished() == [3]
    finish(study, [3])
    assert whole(study).trials() == straight.trials()
    longer = study_of(searches(SPACE, "tune.trials=7"), tmp_path / "stopped")
    assert longer.ask() == [6]
    assert study_of(searches(SPACE, "tune.trials=2"), tmp_path / "stopped").ask() == []


def test_a_run_that_was_damaged_is_made_again(searches, tmp_path) -> None:
    study = whole(study_of(searches(SPACE), tmp_path))
    path = study.folder / study.asked[2].labels[0] / "seed-1" / "result.json"
    path.write_text(path.read_text().replace('"done"', '"dome"'))
    assert study.unfinished() == [2]
    assert [folder.name for folder in finish(study, [2])] == ["seed-1"]


def test_another_search_under_the_same_name_is_refused_by_the_keys_that_differ(searches, tmp_path) -> None:
    whole(study_of(searches(SPACE), tmp_path))
    for same in ("tune.trials=9", "tune.at_once=3", "executor.jobs=2", "seeds=[7]", "model.width=5"):
        assert len(study_of(searches(SPACE, same), tmp_path).asked) == 6, same
    changes = {
        "training.epochs=3": "training.epochs was 50 and is 3",
        "tune.space={model.width: {values: [4, 8]}, training.optimizer.lr: {low: 0.1, high: 0.5}}": "values was [4, 8, 6] and is [4, 8]",
        "tune.most=4": "tune.most was 100 and is 4",
        "tune.seeds=[1]": "tune.seeds.1 was 2 and is not there",
        "data.samples=70": "data.samples was 60 and is 70; the data was ['",
    }
    for change, text in changes.items():
        with pytest.raises(ConfigError, match="another search is here") as caught:
            study_of(searches(SPACE, change), tmp_path)
        assert text in str(caught.value)
        assert "give this one another name with --set name=..." in str(caught.value)


def test_a_damaged_record_is_named(searches, tmp_path) -> None:
    study = whole(study_of(searches(SPACE), tmp_path))
    path = study.folder / "search.json"
    for damage in (path.read_text().replace("0.4", "0.5"), path.read_text()[:-20], "[]"):
        path.write_text(damage)
        with pytest.raises(DataError, match=r"search.json: cannot be read .* move it away"):
            study_of(study.search, tmp_path)
    path.unlink()
    assert study_of(study.search, tmp_path).ask() == [0]  # whose runs are done
    assert json.loads(path.read_text())["trials"][0]["labels"]


def test_equal_trials_are_one_run(searches, tmp_path) -> None:
    study = study_of(searches(SPACE.replace("{low: 0.1, high: 0.5}", "{values: [0.1]}").replace("[4, 8, 6]", "[4, 8]")), tmp_path)
    for positions in ([0], [1]):
        study.ask()
        assert finish(study, positions)
    assert study.ask() == [2]
    assert finish(study, [2]) == []
    assert study.trials()[2] == study.trials()[0]


def test_a_tuner_that_chooses_nonsense_is_named(searches, tmp_path) -> None:
    with pytest.raises(PluginError, match=r"tuner 'toys/steps' chose what is not in tune.space for trial 1: .*1000.1"):
        study_of(searches(SPACE, "tune.outside=true"), tmp_path).ask()
    study = study_of(searches(SPACE), tmp_path)
    study.search.tuner.config = None
    with pytest.raises(PluginError, match="tuner 'toys/steps' failed to choose trial 1: AttributeError"):
        study.ask()


def test_a_tuner_may_come_to_an_end(searches, tmp_path) -> None:
    assert len(whole(study_of(searches(SPACE, "tune.most=4", "tune.at_once=3"), tmp_path)).trials()) == 4


def test_the_best_is_a_config_of_its_own(searches, tmp_path) -> None:
    study = whole(study_of(searches(SPACE, "executor.jobs=2", "model.dropout=0.2"), tmp_path))
    path = write_best(study, 2)
    assert path == tmp_path / "toys_tune" / "best.yaml"
    assert path.read_text().splitlines()[:4] == [
        "# Trial 3 of 6 of the search in toys_tune, by toys/steps (most 100, most_keys 9, outside False):",
        f"# validation mae {study.trials()[2].value!r}, the best of all; seeds of the trials: 1, 2. No test score took part in the choice.",
        "# training.optimizer.lr: 0.3 of 0.1 to 0.5",
        "# model.width: 6 of 4, 8, 6",
    ]
    (best,) = load(path)
    assert (best.experiment.name, best.name, best.experiment.seeds) == ("toys_tuned", "toys, tuned (6 trials)", (1, 2, 3, 4, 5))
    assert (best.experiment.training.optimizer.lr, best.model.config.width, best.model.config.dropout) == (0.1 + 0.4 * 0.5, 6, 0.2)
    assert best.executor.config.jobs is None
    (cell,) = study.search.cells(study.trials()[2].values, "x")
    assert best.counted() == cell.counted()


def test_a_longer_search_that_finds_nothing_better_gives_its_runs_the_new_name(searches, tmp_path) -> None:
    study = whole(study_of(searches(SPACE), tmp_path))
    for trials in (6, 7):
        study = whole(study_of(searches(SPACE, f"tune.trials={trials}"), tmp_path))
        plan = make_plan(load(write_best(study, study.best())), tmp_path, None, "cpu")
        rename(plan)
        for request in prepare(plan, None)[0]:
            config = load_yaml(request.folder / "config.yaml")
            write_sealed(request.folder / "result.json", {"status": "done", "name": config["row"], "kept": True})
        results = [read_json(path) for path in (tmp_path / "toys_tuned").rglob("result.json")]
        assert len(results) == 15  # with two floors
        assert sum(result["name"] == f"toys, tuned ({trials} trials)" and result["kept"] for result in results) == 5


def test_all_parts_of_a_protocol_are_one_trial(searches, tmp_path) -> None:
    base = "name: parts\ndata: {name: iemocap, protocol: 4way_5fold, simulated: true, samples: 60}\nmodel: {name: toy}\n"
    study = study_of(searches(SPACE.replace("trials: 6", "trials: 1").replace("[1, 2]", "[1]"), base=base), tmp_path)
    study.ask()
    folders = finish(study, [0], value=lambda config: float(config["data"]["part"][-1]))
    assert len({folder.parent for folder in folders}) == 5
    assert study.trials()[0].value == 3.0
    best = load(write_best(study, 0))
    assert [cell.experiment.data.part for cell in best] == [cell.experiment.data.part for cell in study.search.first]
    assert {cell.name for cell in best} == {"parts, tuned (1 trial)"}


def test_records_of_a_search_name_no_home(searches, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mosi.yaml").write_bytes((shipped("datasets_manifest") / "mosi.yaml").read_bytes())
    base = f"name: toys\ndata: {{name: {tmp_path}/mosi.yaml, simulated: true, samples: 60}}\nmodel: {{name: toy}}\n"
    section = "tune: {name: steps, trials: 2, space: {training.clip_norm: {values: [null, 1.0]}, training.clip_value: {values: [null, 1.0]}}}\n"
    study = whole(study_of(searches(section, base=base), tmp_path))
    assert [trial.status for trial in study.trials()] == ["done", "failed"]
    write_best(study, 0)
    for name in ("search.json", "best.yaml"):
        text = (study.folder / name).read_text()
        assert str(tmp_path) not in text
        assert "$HOME/mosi.yaml" in text
    assert study_of(study.search, tmp_path).trials() == study.trials()


def test_a_search_that_another_command_took_over_writes_nothing_more(searches, tmp_path, monkeypatch) -> None:
    study = study_of(searches(SPACE), tmp_path)

    def slept(*_) -> None:
        finish(study, [0])
        next((study.folder / "claim").iterdir()).unlink()

    monkeypatch.setattr("mmbench.cli.tune._execute", slept)
    with pytest.raises(ConfigError, match="another command has taken this search over"), _alone(study.folder, take=False) as mine:
        _search(study, study.search.first[0].executor, None, False, mine)
    assert len(study.asked) == 1


def test_what_a_tuner_does_beside_its_choices_stops_nothing(searches, tmp_path, monkeypatch) -> None:
    def broken(*_):
        raise RuntimeError("of no use")

    study = whole(study_of(searches(SPACE), tmp_path))
    assert study.keep() == ""
    for name in ("keep", "importances"):
        monkeypatch.setattr(Steps, name, broken)
    assert "tuner 'toys/steps' did not write what its own tools read: RuntimeError: of no use" in study.keep()
    assert summary(study, 2)[-1] == "no importances: tuner 'toys/steps' failed: RuntimeError: of no use"


def test_a_search_that_is_taken_over_is_told_of_beside_the_events(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("mmbench.claims.take_over", lambda folder: "process 42 on node7")
    with _alone(tmp_path / "x_tune", take=True):
        pass
    said = capsys.readouterr()
    assert (said.out, "taken over from process 42 on node7" in said.err) == ("", True)


def test_one_command_at_a_time_makes_a_search(tmp_path) -> None:
    with (
        _alone(tmp_path / "x_tune", take=False),
        pytest.raises(ConfigError, match=r"x_tune: another command makes this search \(process .*\); wait for it"),
        _alone(tmp_path / "x_tune", take=True),
    ):
        pass
    with _alone(tmp_path / "x_tune", take=False):
        pass
