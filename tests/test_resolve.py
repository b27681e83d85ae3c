"""A config's mistakes are all shown at once, each with its place; what is valid is filled in and has one fingerprint."""

import json
import random
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import ConfigError
from mmbench.plugins import GROUP, build
from mmbench.resolve import resolve, resolve_all
from mmbench.strict_yaml import Document, dump, parse

BASE = """
name: toy
data:
  name: mosi
  modalities: [text, audio]
model:
  name: toy
losses:
  - name: pull
    weight: 0.5
training:
  epochs: 3
"""


@pytest.fixture(scope="module")
def extractors():
    """The toys, and a plugin of extractors for `mmbench extract`."""
    points = [("mmbench", "mmbench.builtin"), ("toys", "toy_plugin"), ("extract-toys", "extract_toys")]
    return build(EntryPoint(name, module, GROUP)._for(SimpleNamespace(name=name, version="1.0")) for name, module in points)


def mistakes(text: str, toys) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(parse(text, "f.yaml"), toys)
    return str(caught.value).splitlines()


def test_all_mistakes_at_once_with_place_and_suggestion(toys) -> None:
    text = """
name: toy
data:
  name: mosi
  modalitys: [text]
model:
  name: toy
  widht: 3
losses:
  - name: pull
    weight: {near: 1, fra: 2}
  - name: pul
training:
  epochs: 0
  optimizer: {name: adam, lr: fast}
  scheduler: {name: platoe}
  batch_sise: 3
seeds: [1, 2, 1]
"""
    assert mistakes(text, toys) == [
        "f.yaml:5:3: data.modalitys: unknown key. Did you mean 'modalities'?",
        "f.yaml:14:3: training.epochs: must be greater than 0 (got 0)",
        "f.yaml:15:27: training.optimizer.lr: must be a valid number (got 'fast')",
        "f.yaml:16:3: training.scheduler: unknown name 'platoe'; known: 'plateau', 'warmup_cosine'",
        "f.yaml:17:3: training.batch_sise: unknown key. Did you mean 'batch_size'?",
        "f.yaml:18:1: seeds: seed 1 is given twice (got [1, 2, 1])",
        "f.yaml:8:3: model.widht: unknown key. Did you mean 'width'?",
        "f.yaml:11:5: losses.0.weight: has no term 'fra'; its terms are near, far",
        "f.yaml:12:5: losses.1.name: loss 'pul' is not provided by any installed plugin. Did you mean 'pull'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: mosi", "name: mosy", "data.name: "),
        ("[text, audio]", "[text, smell]", "data.modalities.1: mosi has no modality 'smell'"),
        ("[text, audio]", "[text, text]", "data.modalities: must name at least one modality, each once"),
        ("[text, audio]", "'text, audio'", "data.modalities: must be a list, such as [text, audio]"),
        ("[text, audio]", "[]", "data.modalities: must name at least one modality"),
        ("epochs: 3", "select: wacc", "training.select: 'wacc' is none of this experiment's metrics: loss, mae"),
        ("epochs: 3", "task_loss: cross_entropy", "training.task_loss: 'cross_entropy' does not suit mosi"),
        ("epochs: 3", "clip_norm: 1\n  clip_value: 1", "clip_norm and clip_value exclude each other"),
        ("epochs: 3", "batch_size: 0", "training.batch_size: must be greater than 0 (got 0)"),
        ("epochs: 3", "epochs: true", "training.epochs: "),
        ("epochs: 3", "scheduler: plateau", "training.scheduler: "),
        ("training:", "metrics: [mae, nonsense]\ntraining:", "metrics.1: metric 'nonsense' is not provided"),
        ("training:", "metrics: [wacc]\ntraining:", "metrics.0: metric 'wacc' is for classification; mosi is a regression data set"),
        ("training:", "seeds: []\ntraining:", "seeds: "),
        ("training:", "seeds: [-1]\ntraining:", "seeds.0: must be greater than or equal to 0 (got -1)"),
        ("training:", f"seeds: [{10**18}]\ntraining:", f"seeds.0: must be less than {10**18}"),
        (
            "name: toy\ndata",
            "name: a/b\ndata",
            "name: must be up to 100 letters from a to z, digits, '.', '_' and '-'; without this key it is the name of the file",
        ),
        ("weight: 0.5", "weight: .inf", "losses.0.weight: must be a number"),
        ("weight: 0.5", "weight: {value: 1, warmup: -1}", "losses.0.weight: must be a number"),
        ("weight: 0.5", "weight: [1]", "losses.0.weight: must be a number"),
        ("- name: pull", "- name: pull\n  - name: pull", "losses.1.name: loss 'pull' stands twice"),
        ("model:\n  name: toy", "model: toy", "model: must be a mapping of keys to values, such as {name: toy} (got 'toy')"),
        ("training:", "seeds: 5\ntraining:", "seeds: must be a list, such as [5] (got 5)"),
        ("epochs: 3", "compile: yes", "training.compile: must be true or false (got 'yes')"),
        ("model:\n  name: toy", "", "model: is missing"),
        ("modalities: [text, audio]", "max_length: {smell: 3}", "data.max_length: names the modality 'smell'"),
        ("modalities: [text, audio]", "standardize: {percentiles: [9, 1]}", "data.standardize.percentiles: must be two ascending numbers"),
    ],
)
def test_mistakes(toys, old: str, new: str, message: str) -> None:
    assert old in BASE
    found = mistakes(BASE.replace(old, new, 1), toys)
    assert len(found) == 1, found
    assert message in found[0]
    assert found[0].startswith("f.yaml:") or found[0].startswith("config: ")


def test_processes_need_a_trained_encoder_and_steps_that_are_not_captured(toy_config) -> None:
    encoder = {"name": "letters", "finetune": False}
    model, training = {"name": "toy", "encoders": {"text": encoder}}, {"processes": 2, "compile": True}
    with pytest.raises(ConfigError) as caught:
        toy_config(model=model, training=training)
    first, second = str(caught.value).splitlines()
    assert "training.processes: processes share out encoders that are fine-tuned, and there is none: set finetune: true" in first
    assert "training.processes: training.compile captures the steps of one process" in second
    encoder["finetune"] = True
    assert toy_config(model=model, training={"processes": 2}).experiment.training.processes == 2


def test_defaults_are_filled_and_read_back_as_the_same(toys) -> None:
    resolved = resolve(parse(BASE, "f.yaml"), toys)
    filled = resolved.to_dict()
    assert filled["training"]["task_loss"] == "l1"
    assert filled["training"]["select"] == "mae"
    assert filled["metrics"] == list(resolved.manifest.metrics)
    assert filled["model"] == {"name": "toys/toy", "width": 6, "dropout": 0.0, "explode_at_step": None, "encoders": {}}
    assert filled["losses"][0]["weight"] == {"near": {"value": 0.5, "warmup": 0}, "far": {"value": 0.5, "warmup": 0}}
    again = resolve(parse(dump(filled), "g.yaml"), toys)
    assert again.to_dict() == filled
    assert again.fingerprint("data") == resolved.fingerprint("data")


def test_adapters_and_refusals(toys) -> None:
    assert resolve(parse(BASE, "f"), toys).fit.adapters == ("common", "unique")
    alone = resolve(parse(BASE.replace("[text, audio]", "[text]"), "f"), toys)
    assert alone.fit.refusals == ("loss 'pull' needs at least 2 modalities; the data have 1: text",)
    assert "adapters are forbidden" in resolve(parse(BASE + "adapters: forbid\n", "f"), toys).fit.refusals[0]


def test_an_encoder_that_is_not_installed_is_missing_not_wrong(toys) -> None:
    text = BASE.replace("  name: toy\nlosses", "  name: toy\n  encoders: {text: {name: hf-text, model: x}}\nlosses")
    assert resolve(parse(text, "f"), toys).missing == ("extractor 'hf-text' (the encoder of text) is not provided by any installed plugin",)


@pytest.mark.parametrize(
    ("modality", "name", "problem"),
    [
        ("text", "toy-sound", "extractor 'toy-sound' is for audio, not for text"),
        ("text", "toy-ids", "extractor 'toy-ids' gives token ids, not features; it serves mmbench extract, not the training loop"),
        (
            "audio",
            "toy-vector",
            "extractor 'toy-vector' reads features, and an encoder inside the training loop tokens or a waveform",
        ),
        ("audio", "toy-sound", ""),
        ("text", "toy-text", ""),
    ],
)
def test_an_encoder_reads_what_a_batch_holds_and_gives_features(extractors, modality, name, problem) -> None:
    text = BASE.replace("  name: toy\nlosses", f"  name: toy\n  encoders: {{{modality}: {{name: {name}}}}}\nlosses")
    if problem:
        (line,) = mistakes(text, extractors)
        assert f"model.encoders.{modality}.name: {problem}" in line
    else:
        assert set(resolve(parse(text, "f.yaml"), extractors).encoders) == {modality}


def _shuffled(value, seed: int):
    if isinstance(value, dict):
        items = list(value.items())
        random.Random(seed).shuffle(items)
        return {key: _shuffled(item, seed + 1) for key, item in items}
    return value


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_the_fingerprint_depends_on_values_alone(toys, seed: int) -> None:
    plain = parse(BASE, "f").value
    reference = resolve(Document(plain, {}), toys).fingerprint("data")
    shuffled = _shuffled(json.loads(json.dumps(plain)), seed)
    shuffled["training"] = {**shuffled["training"], "batch_size": 32, "optimizer": {"lr": 1e-3}}  # the defaults, spelled out
    shuffled["seeds"], shuffled["name"] = [7], "other"
    shuffled["data"]["path"] = "elsewhere"
    shuffled["model"]["name"] = "toys/toy"
    assert resolve(Document(shuffled, {}), toys).fingerprint("data") == reference
    assert resolve(Document(shuffled, {}), toys).fingerprint("other data") != reference


def test_runs_from_before_an_option_stay_known(toys) -> None:
    known = resolve(parse(BASE, "f"), toys)
    assert known.fingerprint("data") == "6211ee9ef4d6"  # computed before `buckets` and `compile`
    assert {known.to_dict()["training"][name] for name in ("buckets", "compile")} == {None, False}
    for option in ("buckets: 4", "compile: true"):
        assert resolve(parse(BASE.replace("epochs: 3", f"epochs: 3\n  {option}"), "f"), toys).fingerprint("data") != known.fingerprint("data")
    (problem,) = mistakes(BASE.replace("epochs: 3", "epochs: 3\n  buckets: 1"), toys)  # would sort nothing
    assert "training.buckets: must be greater than or equal to 2 (got 1)" in problem


def test_what_carries_runs_out_is_checked_and_is_no_part_of_them(toys) -> None:
    plain, elsewhere = (resolve(parse(BASE + text, "f"), toys) for text in ("", "executor: {jobs: 3, jobs_per_device: 2}"))
    assert elsewhere.fingerprint("data") == plain.fingerprint("data")
    assert elsewhere.to_dict() == plain.to_dict()
    assert (elsewhere.executor.entry.key, elsewhere.executor.config.jobs, plain.executor.config.jobs) == ("mmbench/local", 3, None)
    assert ":13:12: executor.job: unknown key. Did you mean 'jobs'?" in mistakes(BASE + "executor: {job: 3}", toys)[0]
    assert "executor.name" in mistakes(BASE + "executor: {name: abacus}", toys)[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [("epochs: 3", "epochs: 4"), ("weight: 0.5", "weight: 0.51"), ("[text, audio]", "[audio, text]"), ("name: toy\nl", "name: toy\n  width: 7\nl")],
)
def test_any_value_changes_the_fingerprint(toys, old: str, new: str) -> None:
    assert old in BASE
    first, second = (resolve(parse(text, "f"), toys).fingerprint("data") for text in (BASE, BASE.replace(old, new, 1)))
    assert first != second


def test_the_config_of_an_extraction_is_told_its_verb() -> None:
    with pytest.raises(ConfigError, match=r"^f:1:1: names extractors and no model: mmbench extract carries it out$"):
        resolve_all(parse("data: {name: mosi}\naudio: {name: torchaudio-mfcc}", "f"))
