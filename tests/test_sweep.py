"""A sweep is one experiment per cell; equal cells are one run, refused ones are rows with a reason."""

import dataclasses
import json

import pytest

from mmbench.compose import compose
from mmbench.errors import ConfigError
from mmbench.strict_yaml import parse
from mmbench.sweep import expand

BASE = """
model: {name: toy, width: 3}
losses:
  - {name: pull, weight: 1.0}
  - {name: size, weight: 0.5}
"""


def cells(text: str) -> dict:
    return {name: document.value for name, document in expand(parse(BASE + text, "f.yaml"))}


def test_no_sweep_is_one_cell() -> None:
    assert list(cells("")) == [""]


def test_axes_multiply_and_name_their_cells() -> None:
    found = cells(
        """
sweep:
  variant:
    full: {}
    w/o size: {losses.size: null}
    wide: {model.width: 9, losses.pull.weight: 0}
  rate:
    key: training.optimizer.lr
    values: [1e-3, 0.1]
"""
    )
    assert list(found) == [f"{variant}, rate={rate}" for variant in ("full", "w/o size", "wide") for rate in ("0.001", "0.1")]
    assert found["w/o size, rate=0.1"]["losses"] == [{"name": "pull", "weight": 1.0}]
    assert found["w/o size, rate=0.1"]["training"] == {"optimizer": {"lr": 0.1}}
    assert found["wide, rate=0.001"]["model"] == {"name": "toy", "width": 9}
    assert found["full, rate=0.001"]["losses"] == parse(BASE, "f").value["losses"]
    assert all("sweep" not in value for value in found.values())


def test_keys_share_a_value() -> None:
    found = cells("sweep:\n  w: {keys: [losses.pull.weight, losses.1.weight], values: [2, 3]}\n")
    assert [[loss["weight"] for loss in value["losses"]] for value in found.values()] == [[2, 2], [3, 3]]


def test_a_component_of_another_name_replaces_the_settings() -> None:
    assert cells("sweep:\n  model: {key: model.name, values: [other]}\n")["model=other"]["model"] == {"name": "other"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep: 3", "f.yaml:6:1: sweep: must be a mapping of axes"),
        ("sweep: {}", "sweep: must be a mapping of axes"),
        ("sweep:\n  a: [1]", "f.yaml:7:3: sweep.a: must be named variants"),
        ("sweep:\n  a: {values: [1]}", "sweep.a: an axis of values has 'values' and either 'key' or 'keys'"),
        ("sweep:\n  a: {key: x, keys: [y], values: [1]}", "sweep.a: an axis of values has"),
        ("sweep:\n  a: {key: x, values: []}", "sweep.a.values: must be a list of values"),
        ("sweep:\n  a: {key: losses.absent.weight, values: [1]}", "'absent' is neither a position in it nor the name of one item (pull, size)"),
        ("sweep:\n" + "".join(f"  a{i}: {{key: x{i}, values: [1, 2, 3, 4, 5]}}\n" for i in range(7)), "has more than 10000 cells"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(text)
    assert message in str(caught.value)


def test_options_come_before_the_cells(tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(BASE + "sweep:\n  w: {key: model.width, values: [1, 2]}\n")
    document = compose(tmp_path / "s.yaml", ["model.depth=4", "model.width=7"])
    assert [cell.value["model"] for _, cell in expand(document)] == [{"name": "toy", "width": width, "depth": 4} for width in (1, 2)]


SWEEP = """
data: {name: mosi, features: aligned, simulated: true, samples: 60, modalities: [text, audio]}
model: {name: linear}
training: {epochs: 1}
seeds: [1, 2]
sweep:
  variant:
    one: {}
    the same: {training.epochs: 1}
    longer: {training.epochs: 2}
    audio alone: {data.modalities: [audio]}
"""


def test_equal_cells_are_one_run_and_each_data_set_has_its_floors(tmp_path, monkeypatch) -> None:
    from mmbench.resolve import load
    from mmbench.runner import make_plan, prepare

    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "s.yaml").write_text(SWEEP)
    plan = make_plan(load(tmp_path / "s.yaml"), tmp_path / "runs", None, "cpu")
    assert [row.name for row in plan.rows if row.resolved.model.entry.component.name == "linear"] == ["one = the same", "longer", "audio alone"]
    assert sum(row.name == "constant" for row in plan.rows) == 2
    requests, done, failed = prepare(plan, None)
    assert (len(requests), done, failed) == (10, 0, 0)
    assert "row: one = the same" in (plan.rows[0].folder / "seed-1" / "config.yaml").read_text()


def test_refused_cells_are_rows_and_the_others_run(tmp_path, monkeypatch, toys, toy_config) -> None:
    from mmbench import resolve as resolving
    from mmbench import runner

    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    for module in (resolving, runner):
        monkeypatch.setattr(module, "catalogue", lambda: toys)
    text = (
        SWEEP.replace("name: linear", "name: toy").split("sweep:")[0]
        + "losses: [{name: pull}]\nsweep:\n  m: {key: data.modalities, values: [[text], [text, audio]]}\n"
    )
    (tmp_path / "s.yaml").write_text(text)
    plan = runner.make_plan(resolving.load(tmp_path / "s.yaml"), tmp_path / "runs", None, "cpu")
    refused = [row for row in plan.rows if row.refusal]
    assert [row.name for row in refused] == ["m=[text]"]
    requests, *_ = runner.prepare(plan, None)
    assert not any(request.folder.parent == refused[0].folder for request in requests)
    result = json.loads((refused[0].folder / "result.json").read_text())
    assert result["status"] == "incompatible"
    assert "needs at least 2 modalities" in result["reason"]
    assert [loss["name"] for loss in result["losses"]] == ["pull"]
    assert "name: toys/pull" in (refused[0].folder / "config.yaml").read_text()
    again = dataclasses.replace(plan, rows=tuple(dataclasses.replace(row, refusal="") for row in plan.rows))
    runner.prepare(again, None)  # as with a later version of a plugin, which fits
    assert not (refused[0].folder / "result.json").exists()
    (tmp_path / "all.yaml").write_text(text.replace("[text, audio]]", "[audio]]"))
    with pytest.raises(ConfigError, match="needs at least 2 modalities"):
        runner.make_plan(resolving.load(tmp_path / "all.yaml"), tmp_path / "runs", None, "cpu")


def test_the_configs_of_a_sweep_are_written_as_each_would_be_and_its_floors_are_resolved_once(tmp_path, monkeypatch) -> None:
    from mmbench import runner
    from mmbench.privacy import portable
    from mmbench.resolve import load, resolve
    from mmbench.strict_yaml import dump

    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "s.yaml").write_text(SWEEP + "    plain: {training.optimizer.lr: 0.5}\n")
    cells, resolved = load(tmp_path / "s.yaml"), []
    monkeypatch.setattr(runner, "resolve", lambda *arguments: resolved.append(resolve(*arguments)) or resolved[-1])
    plan = runner.make_plan(cells, tmp_path / "runs", None, "cpu")
    models = [each.model.entry.component.name for each in resolved]
    assert sorted(models) == ["constant", "constant"]  # one for each choice of modalities; the other floor is the cells' own model
    runner.prepare(plan, None)
    for row, seed, folder in plan.runs():
        whole = dump(portable({**row.resolved.to_dict(), "seeds": [seed], "row": row.name}))
        assert (folder / "config.yaml").read_text().partition("\n")[2] == whole
