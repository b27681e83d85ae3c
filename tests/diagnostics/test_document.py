"""The document of a run, its embeddings, and the two verbs."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from mmbench.cli import diagnose as diagnose_verb  # noqa: E402
from mmbench.cli import embed as embed_verb  # noqa: E402
from mmbench.component import Metric  # noqa: E402
from mmbench.diagnostics import document as documents  # noqa: E402
from mmbench.diagnostics import open_run, opening  # noqa: E402
from mmbench.diagnostics.document import RATES, diagnose  # noqa: E402
from mmbench.diagnostics.represent import represent  # noqa: E402
from mmbench.diagnostics.text import by_data, report  # noqa: E402
from mmbench.errors import ConfigError, DataError, MmbenchError  # noqa: E402
from mmbench.files import without_nan, write_sealed  # noqa: E402
from mmbench.results.embeddings import cka, embeddings_path, modality_gap, read_diagnostics, read_embeddings  # noqa: E402
from mmbench.results.predictions import read_predictions  # noqa: E402
from mmbench.results.runs import find_runs, read_run  # noqa: E402

from .conftest import state  # noqa: E402

PAIRS = ["text-audio", "text-vision", "audio-vision"]


def run(verb, *arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(verb.command, [str(argument) for argument in arguments])
    if isinstance(done.exception, (MmbenchError, AssertionError)):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def opened(finished):
    return open_run(finished)


@pytest.fixture(scope="module")
def document(opened) -> dict:
    return diagnose(opened, draws=2)


# embeddings


def test_embeddings_are_means_over_real_frames(opened) -> None:
    """The toy model's encoded features are tanh of one linear layer: computed again in NumPy."""
    found = represent(opened)
    split = opened.dataset.splits["test"]
    layer = opened.network.model.layers["audio"]
    values = np.tanh(split.inputs["audio"].values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    mask = split.inputs["audio"].mask[..., None]
    np.testing.assert_allclose(found.encoded["audio"], (values * mask).sum(1) / mask.sum(1), atol=1e-5)
    assert found.ids == split.ids
    np.testing.assert_array_equal(found.target, split.target)
    np.testing.assert_array_equal(found.prediction, read_predictions(opened.record.folder / "predictions.csv.gz")["test"][2])
    np.testing.assert_allclose(found.fused, np.concatenate([found.encoded[name] for name in ("text", "audio", "vision")], axis=1), atol=1e-6)


def test_adapted_fields_are_those_that_the_loss_saw(opened) -> None:
    found = represent(opened, "valid")
    assert found.about["adapted"] == ["common", "unique"]
    assert found.about["split"] == "valid"
    assert {name: part.shape for name, part in found.common.items()} == {name: (len(found.ids), 8) for name in ("text", "audio", "vision")}
    batch = opened.splits["valid"].batch(torch.arange(opened.splits["valid"].size))
    with torch.no_grad():
        wanted = opened.network.adapters(opened.network(batch)).unique["vision"].mean()
    np.testing.assert_allclose(found.unique["vision"], wanted, atol=1e-5)


def test_a_model_without_common_features_has_none(classified) -> None:
    found = represent(open_run(classified))
    assert found.common == {}
    assert found.unique == {}
    assert found.prediction.shape == (len(found.ids), 6)


# document


def test_what_is_clean_is_what_was_stored(document, opened) -> None:
    stored = opened.record.metrics["test"]
    assert document["scores"] == stored
    assert document["ablation"][0] == {"dropped": [], "scores": stored}
    for entry in document["robustness"]:
        if entry["rate"] == 0:
            assert entry["scores"] == stored
    assert document["about"]["simulated"] is True
    assert document["about"]["options"] == {"fill": "mean", "draws": 2}


def test_every_modality_is_dropped_and_left_alone(document) -> None:
    dropped = [tuple(entry["dropped"]) for entry in document["ablation"]]
    one = [("text",), ("audio",), ("vision",)]
    assert dropped == [(), *one, ("audio", "vision"), ("text", "vision"), ("text", "audio")]
    assert len({entry["scores"]["mae"] for entry in document["ablation"]}) == len(dropped)


def test_what_is_dropped_by_hand(opened) -> None:
    """The scores without audio and vision, from the model's own layers and NumPy."""
    document = diagnose(opened, fill="zeros", draws=0)
    model = opened.network.model
    split = opened.dataset.splits["test"]
    parts = []
    for name in ("text", "audio", "vision"):
        weight, bias = (getattr(model.layers[name], key).detach().numpy() for key in ("weight", "bias"))
        values = split.inputs[name].values if name == "text" else np.zeros_like(split.inputs[name].values)
        mask = split.inputs[name].mask[..., None]
        parts.append((np.tanh(values @ weight.T + bias) * mask).sum(1) / mask.sum(1))
    prediction = np.concatenate(parts, axis=1) @ model.head.weight.detach().numpy()[0] + model.head.bias.item()
    found = next(entry["scores"] for entry in document["ablation"] if entry["dropped"] == ["audio", "vision"])
    assert found["mae"] == pytest.approx(np.abs(prediction - split.target).mean(), abs=1e-5)
    assert document["robustness"] == []


def test_robustness_has_every_rate(document) -> None:
    entries = document["robustness"]
    curves = {(entry["kind"], entry["modality"]) for entry in entries}
    assert curves == {(kind, name) for kind in ("missing", "noise") for name in ("all", "text", "audio", "vision")}
    assert len(entries) == len(curves) * (1 + len(RATES))
    for entry in entries:
        assert entry["draws"] == (2 if entry["rate"] else 1)
        assert set(entry["sd"]) == set(entry["scores"])
    scores = {(entry["kind"], entry["modality"], entry["rate"]): entry["scores"]["mae"] for entry in entries}
    assert scores["missing", "all", 0.9] > scores["missing", "all", 0.0]
    sds = [entry["sd"]["mae"] for entry in entries if entry["rate"]]
    assert all(sd > 0 for sd in sds)


def test_a_score_that_is_not_a_number_has_no_spread() -> None:
    assert math.isnan(documents._spread([0.5, math.nan]))
    assert math.isnan(documents._spread([0.5]))
    assert documents._spread([0.0, 1.0]) == pytest.approx(0.5**0.5)


def test_gaps_before_and_after(document, opened) -> None:
    found, before = represent(opened), represent(opened, network=opened.untrained())
    for field in ("encoded", "common", "unique"):
        assert list(document["cka"][field]) == PAIRS
        for pair in PAIRS:
            first, second = pair.split("-")
            after = found.modalities(field)[first], found.modalities(field)[second]
            start = before.modalities(field)[first], before.modalities(field)[second]
            assert document["cka"][field][pair] == cka(*after)
            assert document["untrained"]["cka"][field][pair] == cka(*start)
            if field != "encoded":  # of three widths
                assert document["gap"][field][pair] == modality_gap(*after)
                assert document["untrained"]["gap"][field][pair] == modality_gap(*start)
    assert set(document["gap"]["encoded"].values()) == {None}


def test_probes_of_simulated_data_alone(document, opened, monkeypatch) -> None:
    probes = document["probes"]
    assert set(probes) == {"trained", "untrained", "references"}
    for which in ("trained", "untrained"):
        assert set(probes[which]) == {"encoded", "common", "unique", "fused"}
        for field in probes[which].values():
            assert set(field) == {"text", "audio", "vision"}
            assert all(0 < own["shown"] < 1 for own in field.values())
    assert probes["trained"] != probes["untrained"]
    monkeypatch.setitem(opened.dataset.record, "simulated", False)
    assert diagnose(opened, draws=0)["probes"] is None


def test_classes(classified) -> None:
    run = open_run(classified)
    found = diagnose(run, draws=1)
    assert found["scores"] == pytest.approx(run.record.metrics["test"], abs=0, nan_ok=True)
    assert [entry["dropped"] for entry in found["ablation"]] == [[], ["text"], ["vision"]]
    assert {entry["class"] for entry in found["calibration_summary"]["classes"]} == set(run.dataset.classes)
    assert sum(entry["n"] for entry in found["calibration"]) == run.splits["test"].size
    assert set(found["probes"]["trained"]) == {"encoded", "fused"}
    text = report([json.loads(json.dumps(without_nan(found)))], run.metrics)
    for line in ("SIMULATED IEMOCAP", "text alone", "Reliability by class", "expected calibration error", "trained: fused text", "factors all"):
        assert line in text


# text


def test_the_text_of_one_run(document) -> None:
    text = report([document], {})
    assert text.startswith("SIMULATED CMU-MOSI, test split: diagnostics of trained networks (seed 1); no score of a method\n")
    for line in (
        "without text",
        "vision alone",
        "the training split's mean frame",
        "mean of 2 draws",
        "missing, all",
        "noise, vision",
        "-0.5 to +0.5",
    ):
        assert line in text
    row = next(line for line in text.splitlines() if line.startswith("all "))
    assert f"{document['scores']['mae']:.3f}" in row
    assert "nan" not in text


def test_several_seeds_are_mean_and_deviation(document) -> None:
    def changed(name: str, seed: int, mae: float) -> dict:
        own = json.loads(json.dumps(without_nan(document)))
        own["about"] |= {"name": name, "label": name, "seed": seed}
        for entry in own["ablation"]:
            entry["scores"]["mae"] = mae
        own["cka"]["common"]["text-audio"] = mae
        return own

    text = report([changed("with", 1, 1.0), changed("with", 2, 1.5), changed("without", 1, 2.0), changed("without", 2, 2.0)], {}, "mae")
    assert "mean ± sample standard deviation over seeds" in text
    rows = [line for line in text.splitlines() if line.startswith("with  ")]
    assert "1.250±0.354" in rows[0]  # sd of 1 and 1.5 is 0.3536
    assert next(line for line in text.splitlines() if line.startswith("without  ")).count("2.000±0.000") == 7
    assert re.search("with, trained +without, trained +untrained\n", text)  # all start from the same networks
    assert any(line.startswith("missing, all: without") for line in text.splitlines())


def test_names_cannot_write_on_the_terminal(document) -> None:
    own = json.loads(json.dumps(without_nan(document)))
    own["about"] |= {"name": "evil\x1b[31m\n", "title": "a\x1b]0;title\x07b"}
    other = json.loads(json.dumps(without_nan(document)))
    assert "\x1b" not in report([own, other], {})


def test_equal_names_are_told_apart(document) -> None:
    own = json.loads(json.dumps(without_nan(document)))
    own["about"]["label"] = "toy-2"
    text = report([document, own], {})
    assert "a toy (toy-2), trained" in text
    assert "a toy (toy-2), untrained" not in text
    own["untrained"]["cka"]["common"]["text-audio"] = 0.5
    assert "a toy (toy-2), untrained" in report([document, own], {})


def test_documents_on_different_data_do_not_mix(document) -> None:
    own, other = (json.loads(json.dumps(without_nan(document))) for _ in range(2))
    own["about"]["data_fingerprint"] = "other"
    other["about"]["split_fingerprints"]["test"] = "other"
    assert by_data([document, own, document, other]) == [[document, document], [own], [other]]
    own["about"] |= {"protocol": "folds", "part": "one"}
    assert report([own], {}).startswith("SIMULATED CMU-MOSI, folds, one, test split")


# verbs


@pytest.fixture
def experiment(finished, tmp_path) -> Path:
    """Two seeds of one configuration, the second one failed, and a floor."""
    folder = tmp_path / "runs" / "toy"
    shutil.copytree(finished, folder / finished.parent.name / "seed-1")
    failed = folder / finished.parent.name / "seed-2"
    shutil.copytree(finished, failed)
    result = json.loads((failed / "result.json").read_text())
    write_sealed(failed / "result.json", {**result, "status": "failed", "reason": "no \x1b[31mluck", "seed": 2})
    floor = next(path for path in finished.parent.parent.iterdir() if path.name.startswith("linear"))
    shutil.copytree(floor, folder / floor.name)
    return folder


def test_embed_writes_beside_the_run(experiment, finished) -> None:
    configuration = experiment / finished.parent.name
    before = {folder: state(folder) for folder in (configuration / "seed-1", configuration / "seed-2")}
    code, text = run(embed_verb, experiment, "--split", "test", "--split", "valid", "--device", "cpu")
    assert code == 0
    assert "seed-2: failed (no luck)" in text
    assert text.count("wrote ") == 2
    assert "SIMULATED data" in text
    record = read_run(configuration / "seed-1")
    for split in ("test", "valid"):
        found = read_embeddings(embeddings_path(record, split))
        assert found.ids == open_run(configuration / "seed-1").splits[split].ids
        assert found.about["split"] == split
    assert {folder: state(folder) for folder in before} == before
    assert len(find_runs(experiment)) == 3
    content = embeddings_path(record).read_bytes()
    assert run(embed_verb, configuration / "seed-1")[0] == 0
    assert embeddings_path(record).read_bytes() == content


def test_embed_a_floor_when_it_is_named(experiment) -> None:
    floor = next(path for path in experiment.iterdir() if path.name.startswith("linear"))
    assert run(embed_verb, floor)[0] == 0
    found = read_embeddings(floor / "embeddings" / "seed-1.test.npz")
    assert found.encoded == {}
    code, text = run(diagnose_verb, floor, "--draws", "0")
    assert code == 0
    assert "trained: fused text" in text


def test_one_file_for_one_run(experiment, finished, tmp_path) -> None:
    one = experiment / finished.parent.name / "seed-1"
    out = tmp_path / "out" / "x.npz"
    assert run(embed_verb, one, "--out", out) == (0, f"wrote {out} ({len(read_embeddings(out).ids)} samples, SIMULATED data)\n")
    assert not (experiment / finished.parent.name / "embeddings").exists()
    with pytest.raises(ConfigError, match="--out names one file, but there are 1 run and 2 splits"):
        run(embed_verb, one, "--out", out, "--split", "test", "--split", "train")
    for verb in (embed_verb, diagnose_verb):
        with pytest.raises(ConfigError, match="is inside the folder of a run, which nothing may change"):
            run(verb, one, "--out", one / "new" / "x")


def test_what_is_wrong_is_said_before_a_run_is_opened(experiment, finished, tmp_path, monkeypatch) -> None:
    one = experiment / finished.parent.name / "seed-1"
    monkeypatch.setattr(opening, "open_run", None)
    (tmp_path / "file").touch()
    for verb in (embed_verb, diagnose_verb):
        with pytest.raises(ConfigError, match=r"file/x: cannot be written \(Not a directory\)"):
            run(verb, one, "--out", tmp_path / "file" / "x")
        with pytest.raises(ConfigError, match=r"--set training.epochs=3: a finished run is opened as it was; only data.path"):
            run(verb, one, "--set", "training.epochs=3")
        with pytest.raises(ConfigError, match="the device 'cuda:99' was asked for"):
            run(verb, one, "--device", "cuda:99")
    with pytest.raises(ConfigError, match=r"--metric nope: .* was scored with"):
        run(diagnose_verb, one, "--metric", "nope")


def test_nothing_done_is_one_error(experiment, finished) -> None:
    for verb in (embed_verb, diagnose_verb):
        with pytest.raises(ConfigError, match=r"(?s)no run here is done.*seed-2: failed \(no luck\)"):
            run(verb, experiment / finished.parent.name / "seed-2")
        with pytest.raises(ConfigError, match="there is no such folder"):
            run(verb, experiment / "nothing")


def test_diagnose_writes_prints_and_reuses(experiment, finished, monkeypatch) -> None:
    configuration = experiment / finished.parent.name
    before = state(configuration / "seed-1")
    code, text = run(diagnose_verb, experiment, "--draws", "0", "--device", "cpu")
    assert code == 0
    assert "SIMULATED CMU-MOSI" in text
    assert "In short" in text
    path = configuration / "diagnostics" / "seed-1.json"
    found = read_diagnostics(path)
    assert found["scores"] == json.loads((finished / "result.json").read_text())["metrics"]["test"]
    assert state(configuration / "seed-1") == before
    with monkeypatch.context() as patch:
        patch.setattr(documents, "diagnose", lambda *_: pytest.fail("computed again"))
        code, text = run(diagnose_verb, experiment, "--draws", "0", "--format", "json")
        assert json.loads(text[text.index("{") :]) == found
        for changed in (("--draws", "1"), ("--draws", "0", "--again"), ("--draws", "0", "--fill", "zeros")):
            with pytest.raises(pytest.fail.Exception):
                CliRunner().invoke(diagnose_verb.command, [str(experiment), *changed], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"--metric f2: .* was scored with mae"):
        run(diagnose_verb, experiment, "--draws", "0", "--metric", "f2")
    path.write_text("{")
    assert run(diagnose_verb, configuration / "seed-1", "--draws", "0")[0] == 0
    assert read_diagnostics(path) == found


def test_diagnose_of_changed_data_is_one_error(copied) -> None:
    result = json.loads((copied / "result.json").read_text())
    result["data"]["fingerprint"] = "0"
    write_sealed(copied / "result.json", result)
    for verb in (embed_verb, diagnose_verb):
        with pytest.raises(DataError, match="are not those of this run"):
            run(verb, copied)
    assert not (copied.parent / "diagnostics").exists()


def test_a_score_that_has_no_value_is_null(opened, monkeypatch) -> None:
    monkeypatch.setitem(opened.metrics, "mae", Metric("mae", lambda p, y: math.nan, False, (0.0, math.inf), ("regression",)))
    document = json.loads(json.dumps(without_nan(diagnose(opened, draws=1)), allow_nan=False))
    assert document["scores"]["mae"] is None
    assert "n/a" in report([document], {})


def test_a_gap_that_two_widths_do_not_have_is_explained(document) -> None:
    said = "n/a: features of two widths have none"
    other = json.loads(json.dumps(document))
    for key in ("gap", "paired_distance"):
        other[key] = {field: dict.fromkeys(pairs, 0.5) for field, pairs in other[key].items()}
    assert said not in report([other], {})
    other["gap"]["encoded"]["text-audio"] = None
    text = report([other], {})
    assert text.count(said) == 1
    assert said in next(line for line in text.splitlines() if line.startswith("Modality gap"))
