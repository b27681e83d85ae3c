"""`mmbench new config`: a commented file that `mmbench check` accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmbench.cli import new
from mmbench.config import Experiment, OptimizerConfig, TrainingConfig
from mmbench.errors import ConfigError, PluginError
from mmbench.plugins import catalogue
from mmbench.resolve import load

MODELS = [entry.component.name for entry in catalogue().of_kind("model") if not entry.component.floor]
needs_models = pytest.mark.skipif(not MODELS, reason="no plugin with a model is installed")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Calls the verb in an empty folder; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, answers: str = "") -> str:
        done = CliRunner().invoke(new.command, ["config", *arguments], input=answers)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return call


def fingerprint(path: Path, text: str | None = None) -> str:
    if text is not None:
        path.write_text(text)
    return load(path)[0].fingerprint("data")


@pytest.mark.parametrize("data", ["mosi", "iemocap"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_gets_a_config_with_all_its_options(write, tmp_path: Path, model: str, data: str) -> None:
    """Also with each commented default made a value, it says the same."""
    if data == "iemocap" and "classification" not in catalogue().find("model", model).component.tasks:
        pytest.skip(f"{model} is for regression alone")
    write("--data", data, "--model", model, "--out", "mine.yaml")
    text = Path("mine.yaml").read_text()
    for option in [*catalogue().find("model", model).load_config().model_fields, *TrainingConfig.model_fields, *OptimizerConfig.model_fields]:
        assert re.search(rf"^ *#?{option}:", text, re.MULTILINE), option
    assert max(map(len, text.splitlines())) <= 120
    full = re.sub(r"^( *)#(?=\w+:)", r"\1", text, flags=re.MULTILINE)
    assert full != text
    assert "<class" not in text
    assert fingerprint(Path("mine.yaml")) == fingerprint(Path("full.yaml"), full)


@needs_models
def test_losses_and_values_are_taken(write) -> None:
    loss = next(entry.component for entry in catalogue().of_kind("loss") if not entry.component.needs - {"encoded"})
    said = write("--data", "mosi", "--model", MODELS[0], "--loss", loss.name, "--set", "training.epochs=3", "--set", f"losses.{loss.name}.weight=0.5")
    path = Path(f"my_{MODELS[0]}_mosi.yaml")
    assert f"wrote {path}\n\nNext: mmbench check {path}" in said
    (found,) = load(path)
    assert found.experiment.training.epochs == 3
    assert found.experiment.losses[-1].name == loss.name
    assert found.experiment.losses[-1].weight == 0.5
    assert len(found.experiment.seeds) == len(Experiment.model_fields["seeds"].default)


@needs_models
def test_what_is_not_given_is_asked_for(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new, "terminal", lambda: True)
    said = write(answers=f"nothing\nmosi\n{MODELS[0]}\n\n")
    assert "Data sets: " in said
    assert "'nothing' is not one of" in said
    assert load(f"my_{MODELS[0]}_mosi.yaml")


@needs_models
def test_mistakes_write_nothing(write, tmp_path: Path) -> None:
    for arguments, message in (
        (("--data", "mosi"), "--model is missing; known: "),
        (("--model", MODELS[0]), "--data is missing; known: "),
        (("--data", "mosii", "--model", MODELS[0]), "Did you mean 'mosi'"),
        (("--data", "mosi", "--model", MODELS[0], "--set", "training.epoch=3"), "training.epoch: unknown key. Did you mean 'epochs'"),
        (("--data", "mosi", "--model", MODELS[0], "--out", "mine.txt"), "a config is a .yaml file"),
        *(
            (("--data", "mosi", "--model", MODELS[0], "--set", value), f"--set {value}: {problem}")
            for value, problem in {
                "model=3": "model: must be a mapping",
                "training=null": "training: must be a mapping",
                "training.optimizer=3": "training.optimizer: must be a mapping",
                "losses=[3]": "losses.0: must be a mapping",
                "losses=[{weight: 1}]": "losses.0.name: is missing",
                "model.name=3": "model.name: must be a valid string",
            }.items()
        ),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            write(*arguments)
    with pytest.raises(PluginError, match="loss 'nothing' is not provided by any installed plugin"):
        write("--data", "mosi", "--model", MODELS[0], "--loss", "nothing")
    assert list(tmp_path.iterdir()) == []
    write("--data", "mosi", "--model", MODELS[0], "--out", "mine.yaml")
    with pytest.raises(ConfigError, match=r"mine\.yaml exists already; choose another name with --out"):
        write("--data", "mosi", "--model", MODELS[0], "--out", "mine.yaml")
