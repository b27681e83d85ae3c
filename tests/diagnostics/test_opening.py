"""A finished run is opened as it was, or not at all; and it stays as it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmbench import plugins  # noqa: E402
from mmbench.claims import claim  # noqa: E402
from mmbench.data.manifest import load_manifest  # noqa: E402
from mmbench.data.simulate import simulate  # noqa: E402
from mmbench.diagnostics import open_run, opening  # noqa: E402
from mmbench.diagnostics.document import diagnose  # noqa: E402
from mmbench.diagnostics.represent import represent  # noqa: E402
from mmbench.errors import ConfigError, DataError, PluginError  # noqa: E402
from mmbench.files import write_sealed  # noqa: E402
from mmbench.results.predictions import read_predictions  # noqa: E402
from mmbench.training.loop import predict  # noqa: E402

from .conftest import state  # noqa: E402


def edit(folder: Path, **changes: object) -> None:
    path = folder / "result.json"
    write_sealed(path, json.loads(path.read_text()) | changes)


def test_it_predicts_and_scores_what_the_run_stored(finished: Path) -> None:
    run = open_run(finished)
    assert run.difference == 0.0
    assert run.notes == ()
    assert run.simulated
    assert not run.network.training
    assert {name: split.size for name, split in run.splits.items()} == {name: len(split) for name, split in run.dataset.splits.items()}
    stored = read_predictions(finished / "predictions.csv.gz")
    for name in ("valid", "test"):
        prediction, target = predict(run.network, run.splits[name], run.training)
        np.testing.assert_array_equal(prediction, stored[name][2])
        assert run.score(prediction, target) == run.record.metrics[name]


def test_the_untrained_network_has_the_initial_weights(finished: Path) -> None:
    run = open_run(finished)
    first, second = run.untrained().model.state_dict(), run.untrained().model.state_dict()
    trained = run.network.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], trained[name]) for name in first)
    torch.manual_seed(5)  # whatever torch's own stream is at
    third = run.untrained().model.state_dict()
    assert all(torch.equal(first[name], third[name]) for name in first)


def test_what_is_told_of_the_training_targets_is_told_again(finished: Path) -> None:
    """The constant floor has its value from `on_fit_start`; without it the untrained network would predict 0."""
    run = open_run(next(path for path in finished.parent.parent.glob("constant-*/seed-1")))
    prediction, _ = predict(run.untrained(), run.splits["test"], run.training)
    median = np.median(run.dataset.splits["train"].target)
    assert median != 0
    np.testing.assert_allclose(prediction, median, rtol=1e-6)


def test_nothing_in_the_folder_is_touched(copied: Path) -> None:
    for path in copied.iterdir():
        path.chmod(0o444)
    copied.chmod(0o555)
    before = state(copied)
    run = open_run(copied)
    represent(run)
    diagnose(run, draws=1)
    assert state(copied) == before


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "failed", "reason": "loss became nan"}, "the run is failed: loss became nan; only a finished run"),
        ({"status": "interrupted"}, "the run is interrupted"),
        ({"status": "incompatible", "reason": "no"}, "the run is incompatible: no"),
        ({"schema_version": 9}, "the run is damaged"),
    ],
)
def test_what_is_not_done_is_refused(copied: Path, changes: dict, problem: str) -> None:
    edit(copied, **changes)
    with pytest.raises(ConfigError, match=problem):
        open_run(copied)


def test_a_run_without_a_result_is_refused(copied: Path) -> None:
    (copied / "result.json").unlink()
    with pytest.raises(ConfigError, match="the run is interrupted"):
        open_run(copied)
    with claim(copied), pytest.raises(ConfigError, match=r"the run is running; only"):
        open_run(copied)
    with pytest.raises(ConfigError, match="the run is damaged"):
        open_run(copied.parent / "nothing")


def test_a_missing_or_damaged_checkpoint_is_one_error(copied: Path) -> None:
    best = copied / "best.pt"
    content = best.read_bytes()
    best.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"best.pt: the checkpoint cannot be read .*run this seed anew"):
        open_run(copied)
    best.unlink()
    with pytest.raises(DataError, match=r"best.pt: there is no such file, so the trained network is lost"):
        open_run(copied)


def change_checkpoint(path: Path, change) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_a_checkpoint_of_another_run_is_refused(copied: Path) -> None:
    change_checkpoint(copied / "best.pt", lambda content: content.update(fingerprint="another"))
    with pytest.raises(DataError, match="belongs to the experiment another"):
        open_run(copied)


@pytest.mark.parametrize(("shift", "refused"), [(2e-4, True), (5e-5, False)])
def test_weights_that_predict_otherwise_are_refused(copied: Path, shift: float, refused: bool) -> None:
    change_checkpoint(copied / "best.pt", lambda content: content["network"]["model.head.bias"].add_(shift))
    if refused:
        with pytest.raises(DataError, match=r"does not predict what the run stored: test predictions differ by up to 0.0002"):
            open_run(copied)
    else:
        assert open_run(copied).difference == pytest.approx(shift, rel=0.01)


def test_on_another_device_the_distance_is_told(copied: Path) -> None:
    edit(copied, environment={"device": "cuda:0"})
    change_checkpoint(copied / "best.pt", lambda content: content["network"]["model.head.bias"].add_(2e-4))
    run = open_run(copied)
    assert run.notes == ("opened on cpu, made on cuda:0: test predictions differ by up to 2.0e-04",)
    change_checkpoint(copied / "best.pt", lambda content: content["network"]["model.head.bias"].add_(0.1))
    with pytest.raises(DataError, match="the run was made on cuda:0"):
        open_run(copied)


def test_other_data_are_one_error_that_says_what_differs(copied: Path) -> None:
    data = json.loads((copied / "result.json").read_text())["data"]
    edit(copied, data={**data, "fingerprint": "0" * 64})
    with pytest.raises(DataError, match=r"not those of this run: the data's fingerprint is \w{12}, the run's is 000000000000"):
        open_run(copied)
    splits = {**data["splits"], "test": {**data["splits"]["test"], "fingerprint": "1"}, "valid": {"size": 3, "fingerprint": "2"}}
    edit(copied, data={**data, "splits": splits})
    with pytest.raises(DataError, match=r"split valid has \d+ samples, the run had 3; split test has as many samples, but others") as caught:
        open_run(copied)
    assert "\n" not in str(caught.value)


def test_stored_predictions_of_other_samples_are_refused(copied: Path, finished: Path, monkeypatch) -> None:
    stored = read_predictions(finished / "predictions.csv.gz")
    ids, target, prediction = stored["test"]
    monkeypatch.setattr(opening, "read_predictions", lambda path: {"test": (ids[::-1], target, prediction)})
    with pytest.raises(DataError, match="its test samples are not those of the data"):
        open_run(copied)
    monkeypatch.setattr(opening, "read_predictions", lambda path: {})
    with pytest.raises(DataError, match="has no predictions of the test split"):
        open_run(copied)


def test_only_the_place_of_the_data_may_be_set(copied: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set training.epochs=3: a finished run is opened as it was; only data.path"):
        open_run(copied, overrides=("training.epochs=3",))


def test_a_config_of_several_runs_is_refused(copied: Path) -> None:
    config = copied / "config.yaml"
    config.write_text(config.read_text().replace("seeds:\n- 1\n", "seeds: [1, 2]\n"))
    with pytest.raises(DataError, match=r"config.yaml: is not as the run wrote it"):
        open_run(copied)
    edit(copied, files={})  # as older versions wrote it
    with pytest.raises(DataError, match=r"config.yaml: is not the config of one run"):
        open_run(copied)


def test_a_missing_plugin_is_named(copied: Path, monkeypatch) -> None:
    points = [point for point in plugins.metadata.entry_points(group=plugins.GROUP) if point.name != "toys"]
    monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: points)
    plugins.catalogue.cache_clear()
    try:
        with pytest.raises((ConfigError, PluginError), match=r"model 'toys/toy' is not provided by any installed plugin"):
            open_run(copied)
    finally:
        monkeypatch.undo()
        plugins.catalogue.cache_clear()


def test_data_that_have_moved(train, tmp_path: Path) -> None:
    """A store of simulated data in the user's folder; found again by data.path, or by its name below a root."""
    place = tmp_path / "here"
    simulate(load_manifest("mosi"), 60, layout="aligned", folder=place)
    folder = train(tmp_path / "runs", data={"name": "mosi", "path": str(place)}, losses=[], training={"epochs": 1})[0]
    moved = tmp_path / "root" / "mosi" / "aligned"
    moved.parent.mkdir(parents=True)
    shutil.move(place, moved)
    with pytest.raises(DataError, match=r"there is no .*here.* name their file with --set data.path=FILE") as caught:
        open_run(folder)
    assert "simulated" not in str(caught.value)
    assert open_run(folder, overrides=(f"data.path={moved}",)).difference == 0.0
    assert open_run(folder, data_root=tmp_path / "root").difference == 0.0
    simulate(load_manifest("mosi"), 63, layout="aligned", folder=place)
    with pytest.raises(DataError, match="not those of this run: split"):
        open_run(folder)


@pytest.mark.parametrize("finetune", [False, True])
def test_encoders_in_the_loop(train, tmp_path: Path, finetune: bool) -> None:
    import toy_parts

    model = {"name": "toy", "encoders": {"text": {"name": "letters", "finetune": finetune, "width": 5}}}
    folder = train(tmp_path, model=model, losses=[], training={"epochs": 2, "batch_size": 16, "optimizer": {"lr": 0.05}})[0]
    run = open_run(folder)
    assert run.difference == 0.0
    assert ("text" in run.network.encoders) == finetune
    assert run.splits["train"].inputs["text"][0].ndim == (2 if finetune else 3)
    if finetune:
        started, ended = run.untrained().encoders["text"].weight, run.network.encoders["text"].weight
        assert not torch.equal(started, ended)
        assert torch.equal(started, toy_parts.Letters(started_config(run)).weight)
    document = diagnose(run, draws=1)
    assert [entry["dropped"] for entry in document["ablation"]][:2] == [[], ["text"]]
    kinds = {(entry["kind"], entry["modality"]) for entry in document["robustness"]}
    assert ("missing", "text") in kinds
    assert (("noise", "text") in kinds) != finetune  # token ids take no noise
    assert ("text" in document["probes"]["references"]["inputs"]) is False


def started_config(run):
    return run.resolved.encoders["text"].config


def test_a_gpu_that_is_not_there(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"sees 0 GPUs; use --device cpu"):
        opening.device_named("cuda:1")
    assert opening.device_named("cpu") == torch.device("cpu")


def test_the_record_may_be_given(finished: Path) -> None:
    record = open_run(finished).record
    assert open_run(finished, record=dataclasses.replace(record, name="other")).record.title == "other"
